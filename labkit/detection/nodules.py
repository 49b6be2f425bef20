"""Nodules in two stages (Ding, Li, Hu and Wang 2017): marks on slices, then a look in three dimensions.

    volume -> three neighbouring slices -> backbone, stride 8 -> deconvolution, stride 2 -> RPN -> marks, slice by slice
           -> marks of neighbouring slices merged -> candidates -> a patch around each -> 3-D network -> its score

Taught in notebook 14.

Volume      (Z, Y, X) float32, HU.
Marks       N of a scan: `voxels` (N, 3) z y x, `scores` (N,).
Candidates  M of a scan, as `froc` reads them: `centers` (M, 3) x y z in mm, `scores` (M,), the best first.
Patches     (M, 1, 16, 24, 24): 32 x 30 x 30 mm around each candidate, 0 to 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.detection.backbone import Backbone
from labkit.detection.boxes import decode_boxes
from labkit.detection.candidates import Grid, cut_patches, grid_of, merge_slices, window
from labkit.detection.evaluation import hit_center_distance
from labkit.detection.faster_rcnn import LEAST_FIT, RegionProposalNetwork
from labkit.detection.images import Target
from labkit.detection.world import check_spacing, voxel_to_world, world_to_voxel
from labkit.weights import load_weights

SIZES = (4, 7, 12)  # anchors in pixels of 1.25 mm: a nodule of 4 mm is three pixels wide
SHARE = 0.7  # a slice shows a nodule where it cuts it within this share of its radius
AT_ONCE = 16  # slices
MARKS_A_SLICE = 20
LOOK_AGAIN = 0.1  # score after one look; of 150 candidates about 30 have more


class SliceProposals(nn.Module):
    """Stage 1: a region proposal network on three neighbouring slices.

    In training a dict of two losses, at test time boxes and scores of each slice.

    Example:
        >>> found = SliceProposals().eval()([torch.zeros(3, 48, 64)])
        >>> sorted(found[0])
        ['boxes', 'scores']
    """

    def __init__(self, *, deconvolution: bool = True, width: int = 16, score_threshold: float = 0.05) -> None:
        """Build it.

        Args:
            deconvolution: features laid out four times as fine, stride 2 instead of 8, before anything is proposed.
            width: channels of the first convolution.
            score_threshold: lower marks do not come out at test time.
        """
        super().__init__()
        self.backbone, self.score_threshold = Backbone(3, width=width), score_threshold
        channels = self.backbone.out_channels
        self.finer: nn.Module = nn.Identity()
        if deconvolution:
            self.finer = nn.Sequential(nn.ConvTranspose2d(channels, channels // 2, 4, stride=4), nn.ReLU())
            channels = channels // 2
        self.stride = self.backbone.stride // (4 if deconvolution else 1)
        self.rpn = RegionProposalNetwork(
            channels,
            stride=self.stride,
            sizes=SIZES,
            aspect_ratios=[1.0],
            samples=512,
            positive_iou=0.4,  # a pixel more or less is much of a nodule of three
            negative_iou=0.2,
        )
        nn.init.constant_(self.rpn.objectness.get_parameter("bias"), -3.0)  # nearly all anchors are background

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses `objectness` and `rpn_box` in training mode, else `boxes` (N, 4) and `scores` (N,) of each slice.

        Args:
            images: B tensors (3, Y, X) in [0, 1], of one size; sides in multiples of 8.
            targets: B dicts with `boxes` (N, 4), needed in training; N may be 0.

        Raises:
            ValueError: targets are missing in training, or sides are no multiples of 8.
        """
        if self.training and targets is None:
            raise ValueError("expected targets in training mode, got None; call model.eval() to detect")
        batch = torch.stack(list(images))
        if batch.shape[2] % self.backbone.stride or batch.shape[3] % self.backbone.stride:
            raise ValueError(f"sides must be multiples of 8, got {tuple(batch.shape[2:])}; pad the slices")
        features = self.finer(self.backbone(batch - 0.5))
        logits, deltas, anchors = self.rpn(features)
        if self.training and targets is not None:
            return self.rpn.losses(logits, deltas, anchors, [_answerable(t, anchors) for t in targets])
        return self._marks(logits.sigmoid(), deltas, anchors)

    def _marks(self, scores: Tensor, deltas: Tensor, anchors: Tensor) -> list[dict[str, Tensor]]:
        best, rows = scores.topk(min(100, scores.shape[1]), dim=1)
        found = []
        for score, row, delta in zip(best, rows, deltas, strict=True):
            row = row[score >= self.score_threshold]
            score = score[: len(row)]
            boxes = decode_boxes(delta[row], anchors[row])
            kept = ops.nms(boxes, score, 0.2)[:MARKS_A_SLICE]
            found.append({"boxes": boxes[kept], "scores": score[kept]})
        return found


def _answerable(target: Target, anchors: Tensor) -> Target:
    """The boxes that some anchor touches well enough to answer for them; without the deconvolution small ones go."""
    boxes = target["boxes"]
    return {"boxes": boxes[(ops.box_iou(boxes, anchors) >= LEAST_FIT).any(dim=1)]}


class NoduleJudge(nn.Module):
    """Stage 2: logits (M,) of patches (M, 1, 16, 24, 24): nodule or not.

    Example:
        >>> NoduleJudge().eval()(torch.zeros(5, 1, 16, 24, 24)).shape
        torch.Size([5])
    """

    def __init__(self) -> None:
        """Build four convolutions; the first two steps of pooling leave 4 x 6 x 6 cells of 8 x 5 x 5 mm."""
        super().__init__()
        self.layers = nn.Sequential(
            *_conv_3d(1, 12),
            nn.MaxPool3d(2),
            *_conv_3d(12, 32),
            nn.MaxPool3d(2),
            *_conv_3d(32, 64),
            *_conv_3d(64, 64),
        )
        self.last = nn.Linear(64, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """(M,) before the sigmoid, float32."""
        features = self.layers(patches - 0.5)
        middle = features[:, :, 1:3, 2:4, 2:4].amax(dim=(2, 3, 4))  # over the candidate; they see what is around it
        return self.last(middle)[:, 0].float()


def _conv_3d(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv3d(channels, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]


# From volumes to candidates


def neighbours(volume: Tensor, rows: Tensor) -> Tensor:
    """(n, 3, Y, X) the slice below, the slice itself and the one above; at the ends the slice itself stands in.

    Example:
        >>> neighbours(torch.arange(4.0)[:, None, None], torch.tensor([0, 2]))[:, :, 0, 0]
        tensor([[0., 0., 1.],
                [1., 2., 3.]])
    """
    around = rows[:, None] + torch.tensor([-1, 0, 1], device=rows.device)
    return volume[around.clamp(0, len(volume) - 1)]


@torch.no_grad()
def slice_marks(network: SliceProposals, volume: Tensor) -> dict[str, Tensor]:
    """The marks of all slices of a volume: `voxels` (N, 3) z y x and `scores` (N,), on the CPU.

    Example:
        >>> marks = slice_marks(SliceProposals(score_threshold=0.9).eval(), torch.full((4, 16, 24), -900.0))
        >>> marks["voxels"].shape
        torch.Size([0, 3])
    """
    device = next(network.parameters()).device
    depth, height, width = volume.shape
    grey = F.pad(window(volume), (0, -width % 8, 0, -height % 8)).to(device)
    voxels, scores = [], []
    for rows in torch.arange(depth).split(AT_ONCE):
        for z, found in zip(rows.tolist(), network(neighbours(grey, rows.to(device))), strict=True):
            middles = (found["boxes"][:, :2] + found["boxes"][:, 2:]).cpu() / 2 - 0.5  # x y, in voxels
            voxels.append(torch.cat([torch.full((len(middles), 1), float(z)), middles.flip(1)], dim=1))
            scores.append(found["scores"].cpu())
    return {"voxels": torch.cat(voxels), "scores": torch.cat(scores)}


def find_candidates(network: SliceProposals, scan: Grid, *, most: int = 150) -> dict[str, Tensor]:
    """Stage 1 on a scan: candidates, at most so many.

    Raises:
        ValueError: the scan's spacing is missing or not positive.

    Example:
        >>> from labkit.datasets.phantoms.torso import lung_scans
        >>> scan = lung_scans(1, shape=(16, 42, 60), spacing=(8, 5, 5))[0]
        >>> sorted(find_candidates(SliceProposals().eval(), scan))
        ['centers', 'scores']
    """
    check_spacing(scan.spacing)
    marks = slice_marks(network, scan.volume)
    points = voxel_to_world(marks["voxels"], **grid_of(scan))
    centers, scores = merge_slices(points, marks["scores"])
    return {"centers": centers[:most], "scores": scores[:most]}


# From candidates to nodules


@torch.no_grad()
def judge_candidates(
    network: NoduleJudge, scan: Grid, candidates: dict[str, Tensor], *, turned: Sequence[int] = (2, 3, 4)
) -> dict[str, Tensor]:
    """Stage 2: the same candidates with the scores of the 3-D network, the best first.

    A candidate that looks like a nodule at all is seen as it is and turned over along each axis, and its logits are
    averaged; for the others, most of them, one look is enough.

    Args:
        network: the judge.
        scan: with its volume and its grid.
        candidates: of stage 1.
        turned: axes of (M, 1, Z, Y, X) patches, one more look each; () looks once.

    Raises:
        ValueError: what `cut_patches` finds.
    """
    device = next(network.parameters()).device
    patches = cut_patches(scan, candidates["centers"])

    def look(seen: Tensor) -> Tensor:
        return torch.cat([*(network(part.to(device)).cpu() for part in seen.split(64)), torch.zeros(0)])

    logits = look(patches)
    again = logits.sigmoid() > LOOK_AGAIN
    logits[again] = torch.stack([logits[again], *(look(patches[again].flip(axis)) for axis in turned)]).mean(dim=0)
    scores = logits.sigmoid()
    order = scores.argsort(descending=True, stable=True)
    return {"centers": candidates["centers"][order], "scores": scores[order]}


def nodule_target(scan) -> dict[str, Tensor]:
    """What `froc` compares candidates with: `centers` (K, 3) mm and `diameters` (K,) of a scan's nodules."""
    return {"centers": scan.nodules.centers, "diameters": scan.nodules.diameters}


def hits_nodule(centers: Tensor, target: dict[str, Tensor]) -> Tensor:
    """(M,) bool whether a candidate lies in a nodule, by LUNA16's rule: nearer to its centre than its radius.

    Example:
        >>> target = {"centers": torch.zeros(1, 3), "diameters": torch.tensor([8.0])}
        >>> hits_nodule(torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 4.0]]), target)
        tensor([ True, False])
    """
    return hit_center_distance()({"centers": centers}, target).any(dim=1)


def slice_targets(scan, rows: Sequence[int]) -> list[Target]:
    """Boxes of the nodules on these slices: squares around the circle in which a slice cuts a ball.

    A slice shows a nodule where it cuts it within 0.7 of its radius, and the slice nearest to its middle always does.
    """
    voxels = world_to_voxel(scan.nodules.centers, **grid_of(scan))  # (K, 3)
    radii = scan.nodules.diameters / 2
    targets: list[Target] = []
    for row in rows:
        height = (voxels[:, 0] - row).abs() * scan.spacing[0]  # mm
        shown = (height <= SHARE * radii) | (height <= scan.spacing[0] / 2)
        half = (radii[shown] ** 2 - height[shown].clamp(max=1e3) ** 2).clamp(min=1.0).sqrt() / scan.spacing[1]
        middles = voxels[shown].flip(1)[:, :2] + 0.5  # x y, in pixels
        boxes = torch.cat([middles - half[:, None], middles + half[:, None]], dim=1)
        targets.append({"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)})
    return targets


def shipped_stages() -> nn.ModuleDict:
    """Where the trained weights go: both stages, and a stage 1 without the deconvolution."""
    return nn.ModuleDict(
        {"slices": SliceProposals(), "coarse": SliceProposals(deconvolution=False), "judge": NoduleJudge()}
    )


def nodule_stages() -> nn.ModuleDict:
    """The trained networks of notebook 14: "slices", "coarse" (without the deconvolution) and "judge"; in eval mode."""
    networks = shipped_stages()
    load_weights(networks, "nodules")
    return networks.eval()

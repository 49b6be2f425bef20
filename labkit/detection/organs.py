"""Organs in one pass (Xu et al. 2019): a 3-D region proposal network that is the whole detector.

    volume -> backbone -> at each anchor: a softmax over the organs and background, six deltas -> organ by organ, the
                                          best tenth of its proposals, their mean weighted by score: the answer

No second stage and no suppression: an organ is there once or not at all. Taught in notebook 15.

Shapes   B volumes (Z, Y, X) in HU on one grid, A = d * h * w * K anchors, C classes with background (0).
Boxes    (N, 6) float32 x1 y1 z1 x2 y2 z2 in voxels, ends exclusive.
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.detection.anchors_3d import anchor_grid_3d
from labkit.detection.box_deltas import deltas_between, moved_by
from labkit.detection.boxes_3d import box_iou_3d, check_boxes_3d, clip_boxes_3d
from labkit.detection.focal_loss import focal_loss
from labkit.detection.fusion import fuse_proposals
from labkit.detection.images import check_labels
from labkit.detection.matching import check_thresholds, match_iou
from labkit.weights import load_weights

NUM_CLASSES = 10  # background and the nine organs of the torso phantom
SPACING = (4.0, 3.0, 3.0)  # mm, (z, y, x): the grid that the shipped network was trained on
# (x, y, z) voxels of that grid, what organs of whole and of cut torsos measure: lungs, liver, heart, spleen, kidneys,
# pancreas, bladder
SIZES = (
    (40, 52, 44),
    (40, 52, 18),
    (62, 44, 36),
    (60, 44, 14),
    (40, 35, 26),
    (38, 33, 11),
    (22, 27, 24),
    (20, 17, 25),
    (20, 17, 12),
    (40, 14, 20),
    (19, 13, 9),
    (26, 20, 14),
)
LARGEST = 20_000_000  # voxels of the network's grid, 700 litres: more is no torso
AIR, LEAST, MOST = -1000.0, -1000.0, 1600.0  # HU: of what surrounds a volume, and what is cut off (the paper's)
SOFT = (40.0, 100.0)  # HU, middle and half width of the window of soft tissue
BETA = 0.25  # of those units: smooth L1 is nearly L1, so that the last millimetres still count
DELTA_STD = (0.15,) * 3 + (0.3,) * 3  # of centre shifts and log ratios (the paper's): the loss sees them as about 1
FIRST_SHARE = 0.01  # of the organs in an untrained softmax: nearly all anchors are background (Lin et al. 2017)

Target = dict[str, Tensor]


class OrganBackbone(nn.Module):
    """Features (B, 32, Z / 4, Y / 4, X / 4) of volumes (B, 2, Z, Y, X): down to stride 16, and up again to 4.

    A cell sees about 110 voxels along each axis, more than any organ has.

    Example:
        >>> OrganBackbone()(torch.zeros(1, 2, 32, 16, 48)).shape
        torch.Size([1, 32, 8, 4, 12])
    """

    stride, deepest, out_channels = 4, 16, 32

    def __init__(self) -> None:
        super().__init__()
        self.to2 = _block(2, 16, 2)
        self.to4 = nn.Sequential(_block(16, 32, 2), _block(32, 32))
        self.to8 = nn.Sequential(_block(32, 64, 2), _block(64, 64))
        self.to16 = nn.Sequential(_block(64, 96, 2), _block(96, 96))
        self.back8 = _block(96 + 64, 32)
        self.back4 = _block(32 + 32, self.out_channels)

    def forward(self, volumes: Tensor) -> Tensor:
        """Features of volumes whose sides are multiples of 16."""
        at4 = self.to4(self.to2(volumes))
        at8 = self.to8(at4)
        at16 = self.to16(at8)
        at8 = self.back8(torch.cat([at8, _twice(at16)], dim=1))
        return self.back4(torch.cat([at4, _twice(at8)], dim=1))


class OrganRPN(nn.Module):
    """In training a dict of two losses, at test time a list of answers, one box an organ that it sees.

    Example:
        >>> network = OrganRPN(num_classes=3).eval()
        >>> sorted(network([torch.zeros(32, 48, 64)])[0])
        ['boxes', 'labels', 'scores']
    """

    delta_std: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        sizes: Sequence[tuple[float, float, float]] = SIZES,
        positive_iou: float = 0.4,
        negative_iou: float = 0.3,
        gamma: float = 2.0,
        score_threshold: float = 0.5,
        share: float = 0.1,
    ) -> None:
        """Build it.

        Args:
            num_classes: with background.
            sizes: of a cell's K anchors, (x, y, z) voxels.
            positive_iou, negative_iou: see `match_iou`.
            gamma: see `focal_loss`; 0 trains with the cross entropy.
            score_threshold: an anchor is a proposal of an organ from this probability on.
            share: see `fuse_proposals`.
        """
        super().__init__()
        check_thresholds(positive_iou, negative_iou)
        self.num_classes, self.sizes, self.gamma = num_classes, tuple(sizes), gamma
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.score_threshold, self.share = score_threshold, share
        self.backbone = OrganBackbone()
        self.classes = nn.Conv3d(self.backbone.out_channels, len(self.sizes) * num_classes, 1)
        self.deltas = nn.Conv3d(self.backbone.out_channels, len(self.sizes) * 6, 1)
        for layer in (self.classes, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))
        with torch.no_grad():  # each anchor's first class is background
            self.classes.get_parameter("bias")[::num_classes] = math.log((1 - FIRST_SHARE) / FIRST_SHARE) + math.log(
                num_classes - 1
            )
        self.register_buffer("delta_std", torch.tensor(DELTA_STD), persistent=False)

    def raw(self, volumes: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (B, A, C), deltas (B, A, 6), anchors (A, 6)) of volumes (Z, Y, X) of one size."""
        features = self.backbone(_batch(volumes, self.backbone.deepest))
        logits = _by_anchor(self.classes(features), self.num_classes)
        deltas = _by_anchor(self.deltas(features), 6) * self.delta_std
        stride = self.backbone.stride
        return (
            logits,
            deltas,
            anchor_grid_3d(features.shape[-3:], stride=stride, sizes=self.sizes, device=logits.device),
        )

    def forward(
        self, volumes: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses `organ` and `box` in training mode, else the answers: `boxes`, `labels` and `scores` (N,).

        Args:
            volumes: B tensors (Z, Y, X) in HU, of one size.
            targets: B dicts with `boxes` (N, 6) and `labels` (N,), needed in training; N may be 0.

        Raises:
            ValueError: a volume or a target is not as said, boxes leave their volume, no anchor fits into it, or
                targets are missing in training.
        """
        self._check_volumes(volumes)
        if not self.training:
            return self.answers(volumes)
        if targets is None:
            raise ValueError("expected targets in training mode, got None; call model.eval() first")
        self._check_targets(volumes, targets)
        logits, deltas, anchors = self.raw(volumes)
        matched = [self._matched(target, anchors) for target in targets]
        labels, wanted = (torch.cat([one[part] for one in matched]) for part in (0, 2))
        predicted = torch.cat([moves[rows] for moves, (_, rows, _) in zip(deltas, matched, strict=True)])
        off = F.smooth_l1_loss(predicted / self.delta_std, wanted / self.delta_std, beta=BETA, reduction="sum")
        organ = focal_loss(logits.flatten(0, 1), labels, gamma=self.gamma)
        return {"organ": organ, "box": off / max(len(predicted), 1)}

    def _matched(self, target: Target, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(A,) labels, -1 left out; (P,) rows of the anchors that hold an organ; (P, 6) deltas they should give."""
        matches = match_iou(
            box_iou_3d(target["boxes"], anchors),
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            best_of_each_truth=True,
        )
        rows = (matches >= 0).nonzero()[:, 0]
        labels = (matches == -1).long() - 1  # 0 background, -1 left out
        labels[rows] = target["labels"][matches[rows]]
        return labels, rows, deltas_between(target["boxes"][matches[rows]], anchors[rows])

    def _check_volumes(self, volumes: Sequence[Tensor] | Tensor) -> None:
        sizes = {tuple(volume.shape) for volume in volumes}
        if len(sizes) != 1 or any(len(size) != 3 for size in sizes):
            got = sorted(sizes) or "none"
            raise ValueError(f"volumes must be tensors (Z, Y, X) of one size, got {got}; cut or pad them to one")
        z, y, x = sizes.pop()
        if not any(w <= x and h <= y and d <= z for w, h, d in self.sizes):
            least = min(self.sizes, key=lambda sides: sides[0] * sides[1] * sides[2])
            raise ValueError(
                f"an anchor at least must fit into the volume of {x} x {y} x {z} voxels (X x Y x Z), got "
                f"{' x '.join(f'{side:g}' for side in least)} as the smallest; give smaller sizes, or a larger volume"
            )
        if not torch.stack([volume.isfinite().all() for volume in volumes]).all():
            raise ValueError("volumes must be finite, got NaN or infinity; look at how they were resampled")

    def _check_targets(self, volumes: Sequence[Tensor] | Tensor, targets: Sequence[Target]) -> None:
        if len(volumes) != len(targets):
            got = f"{len(volumes)} volumes and {len(targets)} targets"
            raise ValueError(f"expected one target a volume, got {got}; pair them")
        for i, (volume, target) in enumerate(zip(volumes, targets, strict=True)):
            boxes, labels = target["boxes"], target["labels"]
            check_boxes_3d(boxes, name=f"boxes of volume {i}")
            out = (boxes[:, :3] < 0).any() | (boxes[:, 3:] > boxes.new_tensor(volume.shape[::-1])).any()
            if out:
                z, y, x = volume.shape
                raise ValueError(
                    f"boxes of volume {i} must lie in its {x} x {y} x {z} voxels (X x Y x Z), got one up to "
                    f"{boxes[:, 3:].amax(dim=0).tolist()}; are they of another volume, or in mm?"
                )
            check_labels(labels, name=f"labels of volume {i}", num_classes=self.num_classes)

    @torch.no_grad()
    def proposals(self, volumes: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """All that anchors propose, for each volume: `boxes` (R, 6), their `labels` and `scores` (R,).

        An anchor proposes an organ whose probability is above the threshold; boxes are not clipped yet.
        """
        logits, deltas, anchors = self.raw(volumes)
        found = []
        for probabilities, moves in zip(logits.softmax(dim=2), deltas, strict=True):
            rows, columns = (probabilities[:, 1:] > self.score_threshold).nonzero(as_tuple=True)
            boxes = moved_by(anchors[rows], moves[rows])
            found.append({"boxes": boxes, "labels": columns + 1, "scores": probabilities[rows, columns + 1]})
        return found

    def answers(self, volumes: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """One box an organ that is seen, fused from its proposals, for each volume; its score is that of the best."""
        pairs = zip(self.proposals(volumes), volumes, strict=True)
        return [fused(one, volume.shape, share=self.share) for one, volume in pairs]


def fused(proposals: dict[str, Tensor], volume_size: Sequence[int], *, share: float) -> dict[str, Tensor]:
    """One box for each organ that is proposed, clipped to the volume; its score is that of the best proposal.

    Args:
        proposals: `boxes`, `labels` and `scores`, as `OrganRPN.proposals` gives them.
        volume_size: (Z, Y, X).
        share: see `fuse_proposals`.

    Example:
        >>> two = {"boxes": torch.tensor([[0.0, 0, 0, 4, 4, 4], [2.0, 0, 0, 6, 4, 4]]), "labels": torch.tensor([3, 3])}
        >>> fused(two | {"scores": torch.tensor([0.8, 0.8])}, (8, 8, 8), share=1.0)["boxes"]
        tensor([[1., 0., 0., 5., 4., 4.]])
    """
    labels = proposals["labels"].unique()
    boxes, scores = [proposals["boxes"][:0]], [proposals["scores"][:0]]
    for label in labels:
        rows = proposals["labels"] == label
        boxes.append(fuse_proposals(proposals["boxes"][rows], proposals["scores"][rows], share=share))
        scores.append(proposals["scores"][rows].amax(dim=0, keepdim=True))
    return {"boxes": clip_boxes_3d(torch.cat(boxes), volume_size), "labels": labels, "scores": torch.cat(scores)}


def coarse_network(**options: float) -> OrganRPN:
    """An untrained network for scans of half the resolution, 8 x 6 x 6 mm, and the torso's nine organs.

    Args:
        options: of `OrganRPN`.

    Example:
        >>> coarse_network(gamma=0).sizes[0]
        (20.0, 26.0, 22.0)
    """
    sizes = [(x / 2, y / 2, z / 2) for x, y, z in SIZES]
    return OrganRPN(NUM_CLASSES, sizes=sizes, **options)


def organ_network() -> OrganRPN:
    """The trained network of notebook 15, for scans of `SPACING`; in eval mode.

    Example:
        >>> organ_network().num_classes
        10
    """
    network = OrganRPN(NUM_CLASSES)
    load_weights(network, "organs")
    return network.eval()


def locate_organs(network: OrganRPN, volume: Tensor, *, spacing: Sequence[float]) -> dict[str, Tensor]:
    """The answer for a scan of any spacing, its boxes in the scan's own voxels.

    Args:
        network: trained on scans of `SPACING`.
        volume: (Z, Y, X) HU.
        spacing: (z, y, x) mm a voxel.

    Raises:
        ValueError: the spacing is not three positive numbers, or what the network refuses.

    Example:
        >>> sorted(locate_organs(organ_network(), torch.zeros(40, 60, 60), spacing=(6.0, 5.0, 5.0)))
        ['boxes', 'labels', 'scores']
    """
    steps = [float(step) for step in spacing] if isinstance(spacing, Iterable) else []
    if len(steps) != 3 or not all(0 < step < math.inf for step in steps):
        got = tuple(steps) if steps else spacing
        raise ValueError(f"spacing must be three positive numbers (z, y, x) in mm, got {got}; see the scan's header")
    size = [max(1, round(side * mm / own)) for side, mm, own in zip(volume.shape, steps, SPACING, strict=True)]
    if math.prod(size) > LARGEST:
        raise ValueError(
            f"a scan must be {LARGEST:,} voxels at most at {SPACING} mm, got {size}; is spacing {tuple(steps)} in mm?"
        )
    fitting = F.interpolate(volume[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
    answer = network.eval()([fitting])[0]
    scale = [own / other for own, other in zip(volume.shape, size, strict=True)]
    return answer | {"boxes": answer["boxes"] * answer["boxes"].new_tensor(scale[::-1] * 2)}


def _block(incoming: int, outgoing: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(incoming, outgoing, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outgoing), nn.ReLU(inplace=True))


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _by_anchor(maps: Tensor, columns: int) -> Tensor:
    """(B, A, columns) float32 of maps (B, K * columns, d, h, w), in the order of the anchors."""
    return maps.permute(0, 2, 3, 4, 1).reshape(len(maps), -1, columns).float()


def _batch(volumes: Sequence[Tensor] | Tensor, multiple: int) -> Tensor:
    """(B, 2, Z, Y, X): the whole range of HU, and the window of soft tissue; with air up to a multiple of 16."""
    stacked = torch.stack(list(volumes))
    more = [side for size in reversed(stacked.shape[1:]) for side in (0, -size % multiple)]
    stacked = F.pad(stacked, more, value=AIR).clamp(LEAST, MOST)
    middle, half = SOFT
    return torch.stack([stacked / 500, ((stacked - middle) / half).clamp(-2, 2)], dim=1)

"""Candidates of volumes: marks of neighbouring slices merged, and patches around them to learn from.

Points      (N, 3) x y z in mm.
Candidates  M of a scan, as `froc` reads them: `centers` (M, 3) x y z in mm, `scores` (M,), the best first.
Patches     (M, 1, Z, Y, X), 0 to 1.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from labkit.detection.world import AS_THE_WORLD, check_inside, world_to_voxel

WINDOW = (-1000.0, 400.0)  # HU: air to the brightest soft tissue; bone says nothing of nodules
REACH = 6.0  # mm: marks nearer than this to a stronger one are of the same thing
PATCH = (16, 24, 24)  # voxels
JITTER = 2  # voxels: a candidate is rarely in the very middle of its nodule
MARGIN = 5.0  # mm: what lies between a nodule's surface and this is neither nodule nor a clean negative


class Grid(Protocol):
    """What of a scan is asked here: a phantom's or a file's has it."""

    @property
    def volume(self) -> Tensor: ...  # (Z, Y, X) HU
    @property
    def spacing(self) -> tuple[float, float, float]: ...  # z y x, mm
    @property
    def origin(self) -> tuple[float, float, float]: ...  # z y x, mm


def grid_of(scan: Grid) -> dict[str, tuple[float, float, float]]:
    """Origin, spacing and direction of a scan, as `world_to_voxel` takes them; phantoms run as the world does."""
    return {"origin": scan.origin, "spacing": scan.spacing, "direction": getattr(scan, "direction", AS_THE_WORLD)}


def window(volume: Tensor) -> Tensor:
    """The volume in 0 to 1; what is below air, a scanner's padding outside its round field, becomes air.

    Example:
        >>> window(torch.tensor([-3024.0, -1000.0, -300.0, 400.0, 2000.0]))
        tensor([0.0000, 0.0000, 0.5000, 1.0000, 1.0000])
    """
    low, high = WINDOW
    return ((volume - low) / (high - low)).clamp(0, 1)


def merge_slices(centers: Tensor, scores: Tensor, *, reach: float = REACH) -> tuple[Tensor, Tensor]:
    """Candidates from marks: (M, 3) centres and (M,) scores, the best first. Built from scratch in notebook 14.

    The strongest mark takes all marks within reach, itself included; of those that are left the strongest takes its
    own, and so on. A candidate's centre is the mean of its marks, weighted by their scores, and its score the highest.

    Args:
        centers: (N, 3) x y z in mm, so that a step between slices counts as it does within one; N may be 0.
        scores: (N,), positive.
        reach: mm.

    Example:
        >>> centers = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [30.0, 0.0, 0.0]])
        >>> merge_slices(centers, torch.tensor([0.2, 0.6, 0.3]))
        (tensor([[ 0.0000,  0.0000,  1.5000],
                [30.0000,  0.0000,  0.0000]]), tensor([0.6000, 0.3000]))
    """
    order = scores.argsort(descending=True, stable=True)
    near = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist") <= reach
    free = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    middles, best = [centers[:0]], [scores[:0]]
    for row in order.tolist():
        if free[row]:
            mine = near[row] & free
            weights = scores[mine, None]
            middles.append((weights * centers[mine]).sum(dim=0, keepdim=True) / weights.sum())
            best.append(scores[row, None])
            free &= ~mine
    return torch.cat(middles), torch.cat(best)


def hard_candidates(
    centers: Tensor, scores: Tensor, nodules: Tensor, diameters: Tensor, *, count: int, margin: float = MARGIN
) -> Tensor:
    """Rows of the candidates that stage 2 learns most from: those that are wrong and sure of themselves.

    Built from scratch in notebook 14.

    Args:
        centers: (M, 3) x y z in mm.
        scores: (M,).
        nodules: (K, 3) x y z in mm; K may be 0.
        diameters: (K,) mm.
        count: at most so many.
        margin: mm from every nodule's surface; nearer ones are left out, since half of a nodule is in their patch.

    Returns:
        (n,) int64, the highest score first.

    Example:
        >>> centers = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 30.0], [0.0, 40.0, 0.0], [7.0, 0.0, 0.0]])
        >>> scores = torch.tensor([0.9, 0.2, 0.6, 0.8])
        >>> hard_candidates(centers, scores, torch.zeros(1, 3), torch.tensor([8.0]), count=5)
        tensor([2, 1])
    """
    distance = torch.cdist(centers, nodules, compute_mode="donot_use_mm_for_euclid_dist")  # (M, K)
    far = (distance > diameters / 2 + margin).all(dim=1)
    order = scores.argsort(descending=True, stable=True)
    return order[far[order]][:count]


def cut_patches(scan: Grid, centers: Tensor, *, size: Sequence[int] = PATCH) -> Tensor:
    """(M, 1, *size) patches around the candidates, 0 to 1; beyond the scan's faces there is air.

    Args:
        scan: with its volume and its grid.
        centers: (M, 3) x y z in mm; M may be 0.
        size: voxels, even numbers.

    Raises:
        ValueError: the scan is thinner than a patch, or a candidate lies outside of it.

    Example:
        >>> from labkit.datasets.phantoms.torso import lung_scans
        >>> scan = lung_scans(1, shape=(16, 42, 60), spacing=(8, 5, 5))[0]
        >>> cut_patches(scan, scan.nodules.centers).shape[1:]
        torch.Size([1, 16, 24, 24])
    """
    shape, size = tuple(scan.volume.shape), tuple(size)
    if any(side < wanted for side, wanted in zip(shape, size, strict=True)):
        raise ValueError(f"a scan must hold a patch of {size} voxels z y x, got {shape}; take one of more slices")
    voxels = world_to_voxel(centers, **grid_of(scan))
    check_inside(voxels, shape, centers, what="candidate")
    depth, height, width = (side // 2 for side in size)
    padded = F.pad(window(scan.volume), [width, width, height, height, depth, depth])
    # in the padded volume a voxel's own index is half a patch before it: the patch's first voxel
    starts = (voxels + 0.5).floor().long().clamp(min=0).tolist()
    patches = [padded[z : z + size[0], y : y + size[1], x : x + size[2]] for z, y, x in starts]
    return torch.stack(patches)[:, None] if patches else padded.new_zeros(0, 1, *size)


def training_patches(scan, candidates: dict[str, Tensor], *, count: int) -> tuple[Tensor, Tensor]:
    """Patches to learn from, wider than those to judge, and their labels: 1 for nodules, 0 for hard negatives.

    A nodule is there at its true centre and at every candidate that hits it.

    Args:
        scan: with its volume, its grid and its `nodules`.
        candidates: of stage 1.
        count: hard negatives, at most.

    Returns:
        (n, 1, 20, 28, 28) half precision, (n,) float32.
    """
    centers, nodules, diameters = candidates["centers"], scan.nodules.centers, scan.nodules.diameters
    distance = torch.cdist(centers, nodules, compute_mode="donot_use_mm_for_euclid_dist")
    hits = centers[(distance < diameters / 2).any(dim=1)]
    wrong = centers[hard_candidates(centers, candidates["scores"], nodules, diameters, count=count)]
    labels = torch.cat([torch.ones(len(nodules) + len(hits)), torch.zeros(len(wrong))])
    wide = [side + 2 * JITTER for side in PATCH]
    return cut_patches(scan, torch.cat([nodules, hits, wrong]), size=wide).half(), labels


class Patches(Dataset):
    """Wide patches and labels; each time a patch is another part, turned over and transposed at random.

    Nodules are shown so often that they make up a third of what is shown, whatever their number.

    Example:
        >>> patch, label = Patches(torch.zeros(3, 1, 20, 28, 28), torch.tensor([1.0, 0.0, 0.0]))[0]
        >>> patch.shape, label
        (torch.Size([1, 16, 24, 24]), tensor(1.))
    """

    def __init__(self, wide: Tensor, labels: Tensor):
        self.wide, self.labels = wide, labels
        nodules, others = labels.nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
        again = max(1, round(len(others) / 2 / max(len(nodules), 1)))
        self.rows = torch.cat([nodules.repeat(again), others])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = int(self.rows[index])
        z, y, x = torch.randint(2 * JITTER + 1, (3,)).tolist()
        patch = self.wide[row, :, z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]].float()
        draws = (torch.rand(4) < 0.5).tolist()
        patch = patch.flip([axis for axis, turned in zip((1, 2, 3), draws, strict=False) if turned])
        return patch.transpose(2, 3) if draws[3] else patch, self.labels[row]

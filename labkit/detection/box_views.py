"""What an agent sees through a box in a volume, and how well a box fits.

Boxes    (6,) x1 y1 z1 x2 y2 z2 in voxels, ends exclusive. Volumes are (Z, Y, X), and so are their sizes.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from labkit.detection.boxes_3d import box_iou_3d, centroid_distance, wall_distance

GRID = 12
MARGINS = (1.25, 2.5)  # what the two views see, in sides of the box: the box with its edge, and what lies around
WINDOW = (-160.0, 240.0)  # HU: soft tissue
COARSE = 2  # views are made from voxels this much larger: of a small organ's view a cell has about one


def view(volume: ndarray, box: Tensor, *, margin: float, grid: int = GRID, coarse: int = COARSE) -> ndarray:
    """(grid, grid, grid) uint8: the mean grey value of each cell of the enlarged box; outside of the volume 0.

    Args:
        volume: (Z, Y, X) uint8, `coarse` times coarser than what the box counts in.
        box: (6,) voxels.
        margin: how many times longer than the box the view is.
        grid: cells along an axis.
        coarse: voxels of the box a voxel of the volume, along an axis.

    Example:
        >>> volume = np.arange(4, dtype=np.uint8).reshape(1, 1, 4).repeat(4, 0).repeat(4, 1) * 10
        >>> view(volume, torch.tensor([0.0, 0, 0, 8, 8, 8]), margin=1, grid=2)[0, 0].tolist()
        [5, 25]
    """
    edges = (box / coarse).tolist()  # six numbers
    shares, part = [], []
    for axis, length in zip((2, 1, 0), volume.shape, strict=True):  # z, y, x
        low, high = edges[axis], edges[axis + 3]
        reach = margin * (high - low) / 2
        share, cut = _cells((low + high) / 2 - reach, (low + high) / 2 + reach, length, grid)
        shares.append(share)
        part.append(cut)
    z, y, x = shares
    seen = volume[tuple(part)].astype(np.float32) @ x.T  # (z, y, grid)
    seen = np.matmul(y, seen)  # (z, grid, grid)
    seen = (z @ seen.reshape(len(seen), -1)).reshape(grid, grid, grid)
    return np.rint(seen).astype(np.uint8)


def _cells(start: float, stop: float, length: int, grid: int) -> tuple[ndarray, slice]:
    """The share of each voxel in the mean of each cell, (grid, voxels), and which voxels these are."""
    first, last = max(0, math.floor(start)), min(length, math.ceil(stop))
    width = (stop - start) / grid
    left = (start + width * np.arange(grid))[:, None]
    voxels = np.arange(first, last)[None]
    common = np.minimum(left + width, voxels + 1) - np.maximum(left, voxels)
    return (common.clip(min=0) / width).astype(np.float32), slice(first, last)


def coarse_grey(volume: Tensor) -> ndarray:
    """(Z / 2, Y / 2, X / 2) uint8: the mean of COARSE voxels along each axis, WINDOW as 0 to 255.

    Args:
        volume: (Z, Y, X) HU.

    Example:
        >>> coarse_grey(torch.full((2, 4, 2), 240.0)).tolist()
        [[[255], [255]]]
    """
    pooled = nn.functional.avg_pool3d(volume[None, None].float(), COARSE)[0, 0]
    low, high = WINDOW
    return ((pooled - low) / (high - low) * 255).clamp(0, 255).round().byte().numpy()


def whole(size: Sequence[int]) -> Tensor:
    """(6,) float64, the box around a volume of this size (Z, Y, X).

    Example:
        >>> whole((4, 3, 2))
        tensor([0., 0., 0., 2., 3., 4.], dtype=torch.float64)
    """
    return torch.tensor([0.0, 0.0, 0.0, *reversed(size)], dtype=torch.float64)


def overlap(box: Tensor, truth: Tensor) -> float:
    """IoU of two boxes as a number; `box_iou_3d` for two, without its checks.

    Example:
        >>> overlap(torch.tensor([0.0, 0, 0, 2, 1, 1]), torch.tensor([1.0, 0, 0, 3, 1, 1])) == 1 / 3
        True
    """
    a, b = box.tolist(), truth.tolist()  # twelve numbers: plain ones are ten times as fast as tensors of one element
    common = math.prod(max(0.0, min(a[i + 3], b[i + 3]) - max(a[i], b[i])) for i in range(3))
    volume_a, volume_b = (math.prod(c[i + 3] - c[i] for i in range(3)) for c in (a, b))
    return common / (volume_a + volume_b - common)


def box_scores(boxes: Tensor, truths: Tensor, *, spacing: Sequence[float]) -> dict[str, Tensor]:
    """What the table of organs needs: `iou`, `wall` and `centroid` in mm, and `wall in voxels`; each (N,).

    Args:
        boxes: (N, 6).
        truths: (N, 6), row by row.
        spacing: (z, y, x) mm.

    Example:
        >>> box = torch.tensor([[0.0, 0, 0, 4, 2, 3]])
        >>> scores = box_scores(box, box + torch.tensor([0.0, 0, 0, 0, 0, 3]), spacing=(4, 3, 3))
        >>> {name: float(value) for name, value in scores.items()}
        {'iou': 0.5, 'wall': 2.0, 'centroid': 6.0, 'wall in voxels': 0.5}
    """
    boxes, truths = boxes.double(), truths.double()
    same = [box_iou_3d(box[None], truth[None])[0] for box, truth in zip(boxes, truths, strict=True)]
    return {
        "iou": torch.cat([boxes.new_zeros(0), *same]),
        "wall": wall_distance(boxes, truths, spacing=spacing),
        "centroid": centroid_distance(boxes, truths, spacing=spacing),
        "wall in voxels": (boxes - truths).abs().mean(dim=1),
    }


def near(truth: Tensor, size: Sequence[int], generator: np.random.Generator) -> Tensor:
    """(6,) float64, a box about another: shifted by up to half a side, up to twice as long and half as long.

    Args:
        truth: (6,).
        size: (Z, Y, X) of the volume, which the box does not leave.
        generator: of the draws.

    Example:
        >>> box = near(torch.tensor([4.0, 4, 4, 8, 8, 8]), (12, 12, 12), np.random.default_rng(0))
        >>> bool((box >= 0).all() and (box <= 12).all() and (box[:3] < box[3:]).all())
        True
    """
    low, high = truth[:3].numpy(), truth[3:].numpy()
    side = high - low
    middle = (low + high) / 2 + generator.uniform(-0.5, 0.5, 3) * side * generator.random()
    half = side * np.exp2(generator.uniform(-1, 1, 3) * generator.random() + generator.uniform(-0.3, 0.7)) / 2
    limit = np.array(size[::-1], float)
    half = np.minimum(np.maximum(half, 2.5), limit / 2)
    middle = np.clip(middle, half, limit - half)
    return torch.from_numpy(np.concatenate([middle - half, middle + half]))


def check_box(box: Tensor, size: Sequence[int]) -> None:
    """Refuse a box that does not lie in a volume of this size (Z, Y, X).

    Example:
        >>> check_box(torch.tensor([0.0, 0, 0, 40, 8, 8]), (32, 32, 32))
        Traceback (most recent call last):
        ValueError: the box must lie in its volume of 32 x 32 x 32 voxels (x y z), got [0.0, 0.0, 0.0, 40.0, 8.0, 8.0];
            is it a box of another volume, or of another resolution?
    """
    limit = whole(size)[3:].to(box)
    sound = box.shape == (6,) and bool(((box[:3] >= 0) & (box[3:] <= limit) & (box[:3] < box[3:])).all())
    if not sound:
        raise ValueError(
            f"the box must lie in its volume of {' x '.join(str(int(side)) for side in limit)} voxels (x y z), got "
            f"{box.tolist()}; is it a box of another volume, or of another resolution?"
        )

"""Anchors in a volume: a grid of fixed boxes over a feature map (Xu et al. 2019, after Ren et al. 2015, 3.1).

Shapes   A = d * h * w * K anchors: d, h and w the feature map's cells, K = len(sizes) anchors a cell.
Order    row-major: z slowest, then y, then x, then size; `(d, h, w, K)` flattened.
Centre   cell (z, y, x) has its anchors around the voxel position (x, y, z) * stride, the cell's corner, as flat
         anchors have theirs (`labkit.detection.anchors`). MONAI 1.6 takes the cell's middle.

Which truth each anchor gets: `labkit.detection.matching.match_iou` of `box_iou_3d(boxes, anchors)`.
"""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

Sides = float | tuple[float, float, float]  # of a cube, or along x, y and z


def anchor_grid_3d(
    feature_size: Sequence[int],
    *,
    stride: float | tuple[float, float, float],
    sizes: Sequence[Sides],
    device: torch.device | str | None = None,
) -> Tensor:
    """(d * h * w * len(sizes), 6) float32 anchors of every cell of a feature map, x1 y1 z1 x2 y2 z2 in voxels.

    Used in notebook 15. Some reach over the volume's edge. For every combination of some sides, as Xu et al. have
    4 x 4 x 4 of them, write `sizes=list(itertools.product((15, 30, 60, 120), repeat=3))`.

    Args:
        feature_size: (d, h, w) cells of the feature map, `features.shape[-3:]`.
        stride: voxels a cell, one number or (z, y, x).
        sizes: of a cell's anchors, each the side of a cube or the three sides (x, y, z), voxels.
        device: where the anchors are made.

    Raises:
        ValueError: a number is not positive, a list is empty, or not of three.

    Example:
        >>> anchor_grid_3d((1, 1, 2), stride=8, sizes=[4, (6, 2, 4)])
        tensor([[-2., -2., -2.,  2.,  2.,  2.],
                [-3., -1., -2.,  3.,  1.,  2.],
                [ 6., -2., -2., 10.,  2.,  2.],
                [ 5., -1., -2., 11.,  1.,  2.]])
    """
    cells = tuple(feature_size)
    if len(cells) != 3 or not all(isinstance(count, Integral) and count >= 0 for count in cells):
        raise ValueError(f"feature_size must be (d, h, w) in whole cells, got {cells}; write features.shape[-3:]")
    half = torch.tensor([_three(size, "sizes") for size in _listed(sizes)], device=device) / 2
    steps = _three(stride, "stride")
    middles = (torch.arange(count, device=device) * step for count, step in zip(cells, steps, strict=True))
    z, y, x = torch.meshgrid(*middles, indexing="ij")
    centers = torch.stack([x, y, z, x, y, z], dim=-1)[..., None, :]  # (d, h, w, 1, 6)
    return (centers + torch.cat([-half, half], dim=1)).reshape(-1, 6)


def _listed(sizes: Sequence[Sides]) -> Sequence[Sides]:
    if not isinstance(sizes, Sequence) or not sizes:
        raise ValueError(f"sizes must be a list of sides in voxels, got {sizes!r}; give at least one, such as [16]")
    return sizes


def _three(value: Sides, name: str) -> tuple[float, float, float]:
    """One number three times, or the three that there are."""
    parts = [float(part) for part in value] if isinstance(value, Sequence) else [float(value)] * 3
    if len(parts) != 3 or not all(0 < part < math.inf for part in parts):
        raise ValueError(f"{name} must be positive, one number or three, got {value!r}; write 8 or (8, 8, 4)")
    first, second, third = parts
    return first, second, third

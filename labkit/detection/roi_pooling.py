"""RoI align: each proposal cut from the feature map and averaged to a grid of fixed size (He et al. 2017, section 3).

torchvision's `roi_align` is what this computes, to rounding. On a CPU torchvision adds up a gradient number by number,
channel by channel, and takes a sixth of a training step for it; here a bin is a weighted sum of whole rows of channels
(an embedding bag), which takes a third of that time. Elsewhere torchvision's own kernel runs.

Shapes   B images, C channels, h w cells of the feature map, R proposals of all images, S = size bins a side.
Taught in notebook 07, where it is built from scratch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

SAMPLES = 2  # points a bin and direction that are looked at, as torchvision's detectors have it


def roi_align(features: Tensor, proposals: Sequence[Tensor], *, size: int, stride: int) -> Tensor:
    """(R, C, S, S) means over S x S bins of each proposal, interpolated between cells.

    Args:
        features: (B, C, h, w).
        proposals: B tensors (R_i, 4) xyxy pixels.
        size: S, bins a side.
        stride: pixels a feature cell. A cell's feature stands at its corner, as in torchvision's detectors.

    Example:
        >>> features = torch.arange(8.0).expand(1, 1, 6, 8)  # grows by 1 a cell, to the right
        >>> roi_align(features, [torch.tensor([[8.0, 4.0, 24.0, 12.0]])], size=2, stride=4)
        tensor([[[[3., 5.],
                  [3., 5.]]]])
    """
    if features.device.type != "cpu":
        options = {"spatial_scale": 1 / stride, "sampling_ratio": SAMPLES, "aligned": False}
        return ops.roi_align(features, list(proposals), size, **options)
    height, width = features.shape[2:]
    boxes = torch.cat(list(proposals)) / stride  # (R, 4) in cells
    rows, row_weights = _corners(boxes[:, 1], boxes[:, 3], size, height)  # (R, S, 2 SAMPLES)
    columns, column_weights = _corners(boxes[:, 0], boxes[:, 2], size, width)
    image = torch.cat([torch.full((len(p),), i) for i, p in enumerate(proposals)])  # (R,)
    cells = (image[:, None, None] * height + rows)[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # (R, S, S, 4, 4)
    table = features.float().permute(0, 2, 3, 1).reshape(-1, features.shape[1]).contiguous()  # (B h w, C)
    bins = F.embedding_bag(
        cells.flatten(0, 2).flatten(1), table, per_sample_weights=weights.flatten(0, 2).flatten(1), mode="sum"
    )
    return bins.reshape(-1, size, size, features.shape[1]).permute(0, 3, 1, 2)


def _corners(low: Tensor, high: Tensor, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the cells that each bin's points lie between, (R, S, 2 SAMPLES) int64, and their weights.

    A point up to one cell outside the map has the value of its border, one farther away is 0.
    """
    side = (high - low).clamp(min=1)[:, None, None] / size  # of a bin; a proposal is taken to be a cell wide at least
    bins, points = torch.arange(size)[:, None], torch.arange(SAMPLES) + 0.5
    at = low[:, None, None] + bins * side + points * side / SAMPLES  # (R, S, SAMPLES)
    inside = (at >= -1) & (at <= cells)
    at = at.clamp(0, cells - 1)
    first = at.floor()
    share = at - first
    corners = torch.stack([first, (first + 1).clamp(max=cells - 1)], dim=-1).long()
    weights = torch.stack([1 - share, share], dim=-1) * inside[..., None] / SAMPLES
    return corners.flatten(2), weights.flatten(2)

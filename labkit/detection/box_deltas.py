"""The arithmetic of deltas, for flat boxes and boxes in volumes alike; checks stand in `boxes` and `boxes_3d`.

Boxes    (N, 2 A) on A axes: the starts, then the ends, in pixels or voxels.
Deltas   (N, 2 A): centre shift in anchor sizes, then log ratio of sizes (Girshick et al. 2014, appendix C).
"""

import math

import torch
from torch import Tensor

# exp(dw) enlarges an anchor at most as much as turns a 16 px box into one of 1000 px. An untrained head can
# ask for any size, and exp overflows to inf at 89 in float32 and at 11.1 in half precision.
MAX_LOG_RATIO = math.log(1000 / 16)


def deltas_between(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The deltas that carry each anchor onto its box, for boxes and anchors that were looked at before.

    Example:
        >>> deltas_between(torch.tensor([[5.0, 0.0, 15.0, 20.0]]), torch.tensor([[0.0, 0.0, 10.0, 20.0]]))
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    box_centers, box_sizes = _centers_and_sizes(boxes)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    return torch.cat([(box_centers - anchor_centers) / anchor_sizes, (box_sizes / anchor_sizes).log()], dim=1)


def moved_by(anchors: Tensor, deltas: Tensor) -> Tensor:
    """The boxes that the deltas make of the anchors; log ratios are cut off above MAX_LOG_RATIO.

    Example:
        >>> moved_by(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[0.5, 0.0, 0.0, 0.0]]))
        tensor([[ 5.,  0., 15., 20.]])
    """
    shifts, ratios = deltas.chunk(2, dim=1)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    centers = anchor_centers + shifts * anchor_sizes
    half_sizes = anchor_sizes * ratios.clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.cat([centers - half_sizes, centers + half_sizes], dim=1)


def _centers_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    starts, ends = boxes.chunk(2, dim=1)
    sizes = ends - starts
    return starts + sizes / 2, sizes  # (N, A), (N, A)

"""Boxes: deltas between boxes and anchors.

Shapes   N boxes and N anchors, row by row.
Boxes    (N, 4) float, x1 y1 x2 y2 in pixels, x2 and y2 exclusive (width is x2 - x1).
Deltas   (N, 4) float, dx dy dw dh: centre shift in anchor sizes, log ratio of sizes (Girshick et al. 2014,
         appendix C).

IoU, hard suppression, clipping and conversion are torchvision's (`box_iou`, `nms`, `clip_boxes_to_image`,
`box_convert`); soft suppression stands in `non_maximum_suppression`, checks of boxes in `box_checks`, the
arithmetic of deltas in `box_deltas`, boxes in volumes in `boxes_3d`, and all of them can be imported from here.
"""

from torch import Tensor

from labkit.detection.box_checks import check_boxes
from labkit.detection.box_deltas import MAX_LOG_RATIO, deltas_between, moved_by
from labkit.detection.boxes_3d import (
    box_iou_3d,
    centroid_distance,
    check_boxes_3d,
    clip_boxes_3d,
    decode_boxes_3d,
    encode_boxes_3d,
    nms_3d,
    wall_distance,
)
from labkit.detection.non_maximum_suppression import soft_nms

__all__ = [
    "MAX_LOG_RATIO",
    "box_iou_3d",
    "centroid_distance",
    "check_boxes",
    "check_boxes_3d",
    "clip_boxes_3d",
    "decode_boxes",
    "decode_boxes_3d",
    "deltas_between",
    "encode_boxes",
    "encode_boxes_3d",
    "nms_3d",
    "soft_nms",
    "wall_distance",
]


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas that carry each anchor onto its box.

    Built from scratch in notebook 01; `decode_boxes` is the inverse.

    Args:
        boxes: (N, 4) xyxy pixels.
        anchors: (N, 4) xyxy pixels, one for each box.

    Returns:
        (N, 4) deltas, no unit.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or a box or an anchor has no area.

    Example:
        >>> import torch
        >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        >>> encode_boxes(anchors + torch.tensor([5.0, 0.0, 5.0, 0.0]), anchors)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    check_boxes(boxes)
    check_boxes(anchors, name="anchors")
    _check_rows(boxes, anchors, "boxes")
    return deltas_between(boxes, anchors)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes that the deltas make of the anchors; not clipped to any image.

    `dw` and `dh` are clamped from above at log(1000 / 16), so that an untrained head cannot overflow.

    Args:
        deltas: (N, 4) dx dy dw dh.
        anchors: (N, 4) xyxy pixels, one for each row of deltas.

    Returns:
        (N, 4) xyxy pixels.

    Raises:
        ValueError: a shape or the number of rows is wrong.

    Example:
        >>> import torch
        >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        >>> decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), anchors)
        tensor([[ 5.,  0., 15., 20.]])
    """
    if not isinstance(anchors, Tensor) or not isinstance(deltas, Tensor):
        got = f"{type(deltas).__name__} and {type(anchors).__name__}"
        raise ValueError(f"deltas and anchors must be tensors, got {got}; write torch.as_tensor(deltas)")
    if anchors.ndim != 2 or anchors.shape[1] != 4:
        raise ValueError(f"anchors must have shape (N, 4), got {tuple(anchors.shape)}; give one anchor for each delta")
    _check_rows(deltas, anchors, "deltas")
    return moved_by(anchors, deltas)


def _check_rows(values: Tensor, anchors: Tensor, name: str) -> None:
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(values).__name__}; write torch.as_tensor({name})")
    if values.shape != anchors.shape:
        raise ValueError(
            f"{name} must have a row for each anchor, {tuple(anchors.shape)}, got {tuple(values.shape)}; "
            "repeat or index the anchors so that rows correspond"
        )

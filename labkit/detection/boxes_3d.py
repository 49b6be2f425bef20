"""Boxes in volumes: overlap, deltas, clipping, suppression, and distances in millimetres.

Boxes    (N, 6) float, x1 y1 z1 x2 y2 z2 in voxels, ends exclusive (depth is z2 - z1): voxel i fills i to i + 1.
Volumes  are (Z, Y, X), so a volume's size and its spacing are written z, y, x, the other way round than a box.
Deltas   (N, 6) float, dx dy dz dw dh dd: centre shift in anchor sizes, log ratio of sizes.

`labkit.detection.boxes` gives the same functions.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from labkit.detection.box_checks import check_form, refuse
from labkit.detection.box_deltas import deltas_between, moved_by

BLOCK = 512  # boxes that nms_3d compares with one another at once: 512 * 512 overlaps are a megabyte


def check_boxes_3d(boxes: Tensor, *, name: str = "boxes", empty: bool = False) -> None:
    """Refuse boxes that are not fit for use; the message names the first bad row.

    Args:
        boxes: (N, 6) float x1 y1 z1 x2 y2 z2.
        name: what the message calls them.
        empty: whether a box may have no volume.

    Raises:
        ValueError: the shape is not (N, 6), the dtype is not floating, a value is not finite, or an end lies before
            its start.

    Example:
        >>> check_boxes_3d(torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 3.0]]))
        >>> check_boxes_3d(torch.tensor([[0.0, 0.0, 3.0, 4.0, 2.0, 0.0]]))
        Traceback (most recent call last):
        ValueError: boxes must have x1 < x2, y1 < y2 and z1 < z2, got [0.0, 0.0, 3.0, 4.0, 2.0, 0.0] in row 0; is the
            order x1 y1 z1 x2 y2 z2?
    """
    flat = isinstance(boxes, Tensor) and boxes.ndim == 2 and boxes.shape[1] == 4
    cure = "a flat box needs z1 and z2 too: x1 y1 z1 x2 y2 z2" if flat else "a volume without boxes has (0, 6)"
    check_form(boxes, 6, name=name, cure=cure)
    infinite = ~boxes.isfinite().all(1)
    sides = boxes[:, 3:] - boxes[:, :3]
    turned = (sides < 0).any(1) if empty else (sides <= 0).any(1)
    if not (infinite | turned).any():  # one look for both: on a GPU it is a wait
        return
    less = "<=" if empty else "<"
    refuse(infinite, boxes, f"{name} must be finite", "look for a division by zero or a log of zero")
    ordered = f"{name} must have x1 {less} x2, y1 {less} y2 and z1 {less} z2"
    refuse(turned, boxes, ordered, "is the order x1 y1 z1 x2 y2 z2?")


def box_iou_3d(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(N, M) intersection over union of every box of the first set with every box of the second.

    Built from scratch in notebook 15. Two boxes without volume have an IoU of 0. Computed in float32 or better: a box
    of 41 voxels a side has more voxels than half precision can count.

    Args:
        boxes1: (N, 6) x1 y1 z1 x2 y2 z2 voxels; N may be 0.
        boxes2: (M, 6) of the same device.

    Raises:
        ValueError: a shape or a type is wrong, a value is not finite, or an end lies before its start.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 3.0]])
        >>> box_iou_3d(boxes, boxes + torch.tensor([2.0, 0.0, 0.0, 2.0, 0.0, 0.0]))
        tensor([[0.3333]])
    """
    check_boxes_3d(boxes1, name="boxes1", empty=True)
    check_boxes_3d(boxes2, name="boxes2", empty=True)
    dtype = torch.promote_types(boxes1.dtype, boxes2.dtype)
    exact = torch.promote_types(dtype, torch.float32)
    return _iou(boxes1.to(exact), boxes2.to(exact)).to(dtype)


def _iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """`box_iou_3d` without its checks. Axis by axis, since (N, M) is read faster than (N, M, 3)."""
    common = _common_side(boxes1, boxes2, 0) * _common_side(boxes1, boxes2, 1) * _common_side(boxes1, boxes2, 2)
    volumes1, volumes2 = ((boxes[:, 3:] - boxes[:, :3]).prod(dim=1) for boxes in (boxes1, boxes2))
    union = volumes1[:, None] + volumes2 - common
    return common / union.where(union > 0, 1)


def _common_side(boxes1: Tensor, boxes2: Tensor, axis: int) -> Tensor:
    """(N, M) voxels that two boxes share along an axis."""
    low = torch.maximum(boxes1[:, None, axis], boxes2[:, axis])
    return (torch.minimum(boxes1[:, None, axis + 3], boxes2[:, axis + 3]) - low).clamp(min=0)


def encode_boxes_3d(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(N, 6) deltas that carry each anchor onto its box; `decode_boxes_3d` is the inverse. Used in notebook 15.

    Args:
        boxes: (N, 6) x1 y1 z1 x2 y2 z2 voxels.
        anchors: (N, 6), one for each box.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or a box or an anchor has no volume.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 0.0, 10.0, 20.0, 8.0]])
        >>> encode_boxes_3d(anchors + torch.tensor([5.0, 0.0, 2.0, 5.0, 0.0, 2.0]), anchors)
        tensor([[0.5000, 0.0000, 0.2500, 0.0000, 0.0000, 0.0000]])
    """
    check_boxes_3d(boxes)
    check_boxes_3d(anchors, name="anchors")
    _check_rows(boxes, anchors, "boxes", "anchors")
    return deltas_between(boxes, anchors)


def decode_boxes_3d(deltas: Tensor, anchors: Tensor) -> Tensor:
    """(N, 6) boxes that the deltas make of the anchors; not clipped to any volume.

    `dw`, `dh` and `dd` are clamped from above at log(1000 / 16), so that an untrained head cannot overflow.

    Args:
        deltas: (N, 6) dx dy dz dw dh dd.
        anchors: (N, 6) x1 y1 z1 x2 y2 z2 voxels, one for each row of deltas.

    Raises:
        ValueError: a shape, a type or the number of rows is wrong, or an anchor has no volume.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 0.0, 10.0, 20.0, 8.0]])
        >>> decode_boxes_3d(torch.tensor([[0.5, 0.0, 0.25, 0.0, 0.0, 0.0]]), anchors)
        tensor([[ 5.,  0.,  2., 15., 20., 10.]])
    """
    if not isinstance(deltas, Tensor):
        raise ValueError(f"deltas must be a tensor, got {type(deltas).__name__}; write torch.as_tensor(deltas)")
    check_boxes_3d(anchors, name="anchors")
    _check_rows(deltas, anchors, "deltas", "anchors")
    return moved_by(anchors, deltas)


def clip_boxes_3d(boxes: Tensor, volume_size: Sequence[int]) -> Tensor:
    """(N, 6) the boxes cut to what lies in a volume; one outside it keeps no volume.

    Args:
        boxes: (N, 6) x1 y1 z1 x2 y2 z2 voxels.
        volume_size: (Z, Y, X), `volume.shape[-3:]`.

    Raises:
        ValueError: a shape or a type is wrong, a value is not finite, an end lies before its start, or the size is
            not three whole numbers.

    Example:
        >>> clip_boxes_3d(torch.tensor([[-2.0, 0.0, 5.0, 4.0, 9.0, 7.0]]), (6, 8, 10))
        tensor([[0., 0., 5., 4., 8., 6.]])
    """
    check_boxes_3d(boxes, empty=True)
    sides = list(volume_size)
    if len(sides) != 3 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ValueError(
            f"volume_size must be (Z, Y, X) in voxels, got {tuple(sides)}; write volume.shape[-3:] of (..., Z, Y, X)"
        )
    ends = torch.tensor(sides[::-1] * 2, dtype=boxes.dtype, device=boxes.device)  # X Y Z X Y Z
    return boxes.clamp(min=0).minimum(ends)


def nms_3d(boxes: Tensor, scores: Tensor, *, iou_threshold: float) -> Tensor:
    """(K,) int64 rows of the boxes that stay, best first: greedy suppression, as torchvision's `nms` for flat boxes.

    Again and again the best box left stays, and those with a larger IoU than the threshold go. Among equal scores the
    first row is taken first.

    Args:
        boxes: (N, 6) x1 y1 z1 x2 y2 z2 voxels.
        scores: (N,).
        iou_threshold: a box goes whose IoU with a better one that stays is above it.

    Raises:
        ValueError: a shape or a type is wrong, a box or a score is not finite, or the threshold is not in [0, 1].

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 0, 8, 8, 8], [0.0, 0, 1, 8, 8, 8], [9.0, 0, 0, 12, 8, 8]])
        >>> nms_3d(boxes, torch.tensor([0.7, 0.9, 0.8]), iou_threshold=0.5)
        tensor([1, 2])
    """
    check_boxes_3d(boxes, empty=True)
    _check_scores(boxes, scores)
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie in [0, 1], got {iou_threshold}; 0.1 is usual for organs and nodules")
    order = scores.argsort(descending=True, stable=True)
    rest = boxes.to(torch.promote_types(boxes.dtype, torch.float32))[order]
    kept: list[Tensor] = []
    while len(order):
        block = rest[:BLOCK]
        stays = _greedy(_iou(block, block) > iou_threshold)
        kept.append(order[:BLOCK][stays])
        later = ~(_iou(rest[BLOCK:], block[stays]) > iou_threshold).any(dim=1)
        order, rest = order[BLOCK:][later], rest[BLOCK:][later]
    return torch.cat(kept) if kept else order


def _greedy(overlaps: Tensor) -> Tensor:
    """(N,) bool which boxes stay, given (N, N) bool which of them overlap, best first."""
    table = overlaps.cpu().numpy()  # one wait for all rows
    stays = [True] * len(table)
    gone = np.zeros(len(table), bool)
    for row, others in enumerate(table):
        stays[row] = not gone[row]
        if stays[row]:
            gone |= others
    return torch.tensor(stays, dtype=torch.bool, device=overlaps.device)


def wall_distance(boxes1: Tensor, boxes2: Tensor, *, spacing: Sequence[float]) -> Tensor:
    """(N,) mm, the mean distance of the six faces of each box from those of its partner.

    A score of organ boxes (Xu et al. 2019; Navarro et al. 2020). Used in notebooks 15 and 17.

    Args:
        boxes1: (N, 6) x1 y1 z1 x2 y2 z2 voxels.
        boxes2: (N, 6), row by row.
        spacing: (z, y, x) mm a voxel, as a volume has it.

    Raises:
        ValueError: a shape, a type or the number of rows is wrong, or the spacing is not three positive numbers.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 3.0]])
        >>> wall_distance(boxes, boxes + torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), spacing=(6.0, 1.0, 1.0))
        tensor([1.])
    """
    mm = _mm(boxes1, boxes2, spacing)
    return (boxes1 - boxes2).abs().mul(mm.repeat(2)).mean(dim=1)


def centroid_distance(boxes1: Tensor, boxes2: Tensor, *, spacing: Sequence[float]) -> Tensor:
    """(N,) mm from the middle of each box to that of its partner; arguments and errors are those of `wall_distance`.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 3.0]])
        >>> shift = torch.tensor([3.0, 0.0, 2.0, 3.0, 0.0, 2.0])
        >>> centroid_distance(boxes, boxes + shift, spacing=(2.0, 1.0, 1.0))
        tensor([5.])
    """
    mm = _mm(boxes1, boxes2, spacing)
    middles1, middles2 = ((boxes[:, :3] + boxes[:, 3:]) / 2 for boxes in (boxes1, boxes2))
    return ((middles1 - middles2) * mm).norm(dim=1)


def _mm(boxes1: Tensor, boxes2: Tensor, spacing: Sequence[float]) -> Tensor:
    """(3,) mm a voxel along x, y, z; the boxes are looked at too."""
    check_boxes_3d(boxes1, name="boxes1", empty=True)
    check_boxes_3d(boxes2, name="boxes2", empty=True)
    _check_rows(boxes1, boxes2, "boxes1", "boxes2")
    steps = [float(step) for step in spacing] if isinstance(spacing, Iterable) else []  # a scan may have none
    if len(steps) != 3 or not all(0 < step < math.inf for step in steps):
        got = tuple(steps) if steps else spacing
        raise ValueError(f"spacing must be three positive numbers (z, y, x) in mm, got {got}; see the scan")
    return torch.tensor(steps[::-1], dtype=boxes1.dtype, device=boxes1.device)


def _check_rows(values: Tensor, others: Tensor, name: str, other: str) -> None:
    if values.shape != others.shape:
        raise ValueError(
            f"{name} must have a row for each of {other}, {tuple(others.shape)}, got {tuple(values.shape)}; "
            "repeat or index one of them so that rows correspond"
        )


def _check_scores(boxes: Tensor, scores: Tensor) -> None:
    if not isinstance(scores, Tensor):
        raise ValueError(f"scores must be a tensor, got {type(scores).__name__}; write torch.as_tensor(scores)")
    if scores.shape != boxes.shape[:1]:
        got = f"{tuple(scores.shape)} for boxes {tuple(boxes.shape)}"
        raise ValueError(f"scores must have shape (N,), got {got}; give one score for each box")
    if not scores.isfinite().all():
        raise ValueError("scores must be finite, got others; look for a division by zero or a log of zero")

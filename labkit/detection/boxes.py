"""Boxes: deltas between boxes and anchors, and soft suppression of duplicates.

Shapes   N boxes and N anchors, row by row.
Boxes    (N, 4) float, x1 y1 x2 y2 in pixels, x2 and y2 exclusive (width is x2 - x1).
Deltas   (N, 4) float, dx dy dw dh: centre shift in anchor sizes, log ratio of sizes (Girshick et al. 2014,
         appendix C).

IoU, hard suppression, clipping and conversion are torchvision's (`box_iou`, `nms`, `clip_boxes_to_image`,
`box_convert`).
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

# exp(dw) enlarges an anchor at most as much as turns a 16 px box into one of 1000 px. An untrained head can
# ask for any size, and exp overflows to inf at 89 in float32 and at 11.1 in half precision.
MAX_LOG_RATIO = math.log(1000 / 16)


def check_boxes(boxes: Tensor, *, name: str = "boxes", image_size: tuple[int, int] | None = None) -> None:
    """Nothing, when the boxes are fit for use; an error that names the first bad row otherwise.

    Args:
        boxes: (N, 4) float xyxy pixels.
        name: what the message calls them.
        image_size: (H, W) in pixels; boxes must lie inside it when it is given.

    Raises:
        ValueError: the shape is not (N, 4), the dtype is not floating, a value is not finite, a box has no
            area, or it leaves the image.

    Example:
        >>> check_boxes(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), image_size=(2, 4))
        >>> check_boxes(torch.tensor([[0.0, 0.0, 4.0, 0.0]]))
        Traceback (most recent call last):
        ValueError: boxes must have x1 < x2 and y1 < y2, got [0.0, 0.0, 4.0, 0.0] in row 0; drop it or swap
            its corners
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        cure = f"write {name}[None] for a single box" if boxes.shape == (4,) else "an image without boxes has (0, 4)"
        raise ValueError(f"{name} must have shape (N, 4), got {tuple(boxes.shape)}; {cure}")
    if not boxes.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {boxes.dtype}; write {name}.float()")
    infinite, empty = ~boxes.isfinite().all(1), (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = torch.zeros_like(empty)
    if image_size is not None:
        height, width = image_size
        outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    if not (infinite | empty | outside).any():  # one look for all three: on a GPU it is a wait
        return
    _refuse(infinite, boxes, f"{name} must be finite", "look for a division by zero or a log of zero")
    _refuse(empty, boxes, f"{name} must have x1 < x2 and y1 < y2", "drop it or swap its corners")
    _refuse(
        outside,
        boxes,
        f"{name} must lie in the image of {image_size and ' x '.join(map(str, image_size))} (H x W)",
        "clip it, or resize boxes with images",
    )


def _refuse(bad: Tensor, boxes: Tensor, expected: str, cure: str) -> None:
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{expected}, got {boxes[row].tolist()} in row {row}; {cure}")


def check_corners(boxes: Tensor) -> None:
    """Nothing, when every box is finite and not turned over; unlike for `check_boxes`, it may have no area.

    Example:
        >>> check_corners(torch.tensor([[5.0, 5.0, 5.0, 5.0]]))
        >>> check_corners(torch.tensor([[5.0, 5.0, 4.0, 6.0]]))
        Traceback (most recent call last):
        ValueError: boxes must be finite with x1 <= x2 and y1 <= y2, got [5.0, 5.0, 4.0, 6.0] in row 0; are they x1 y1
            x2 y2?
    """
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1))
    _refuse(bad, boxes, "boxes must be finite with x1 <= x2 and y1 <= y2", "are they x1 y1 x2 y2?")


def _centers_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sizes = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + sizes / 2, sizes  # (N, 2), (N, 2)


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
        >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        >>> encode_boxes(anchors + torch.tensor([5.0, 0.0, 5.0, 0.0]), anchors)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    check_boxes(boxes)
    check_boxes(anchors, name="anchors")
    _check_rows(boxes, anchors, "boxes")
    return deltas_between(boxes, anchors)


def deltas_between(boxes: Tensor, anchors: Tensor) -> Tensor:
    """`encode_boxes` without its checks: for boxes and anchors that were looked at before.

    Example:
        >>> deltas_between(torch.zeros(0, 4), torch.zeros(0, 4)).shape
        torch.Size([0, 4])
    """
    box_centers, box_sizes = _centers_and_sizes(boxes)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    return torch.cat([(box_centers - anchor_centers) / anchor_sizes, (box_sizes / anchor_sizes).log()], dim=1)


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
        >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        >>> decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), anchors)
        tensor([[ 5.,  0., 15., 20.]])
    """
    if anchors.ndim != 2 or anchors.shape[1] != 4:
        raise ValueError(f"anchors must have shape (N, 4), got {tuple(anchors.shape)}; give one anchor for each delta")
    _check_rows(deltas, anchors, "deltas")
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    centers = anchor_centers + deltas[:, :2] * anchor_sizes
    half_sizes = anchor_sizes * deltas[:, 2:].clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.cat([centers - half_sizes, centers + half_sizes], dim=1)


def _check_rows(values: Tensor, anchors: Tensor, name: str) -> None:
    if values.shape != anchors.shape:
        raise ValueError(
            f"{name} must have a row for each anchor, {tuple(anchors.shape)}, got {tuple(values.shape)}; "
            "repeat or index the anchors so that rows correspond"
        )


def soft_nms(boxes: Tensor, scores: Tensor, *, sigma: float, score_threshold: float) -> tuple[Tensor, Tensor]:
    """Boxes that stay when overlap lowers scores instead of deleting boxes, best first (Bodla et al. 2017).

    Again and again the best box left is taken, and every other score is multiplied by exp(-IoU**2 / sigma).
    Among equal scores the first row is taken first. Taught in notebook 03.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,) floating point, not negative.
        sigma: how tolerant of overlap, no unit; the paper uses 0.5.
        score_threshold: boxes whose lowered score is below it are dropped.

    Returns:
        keep: (K,) int64 rows of the boxes that stay, best first.
        scores: (K,) their lowered scores, in the same order.

    Raises:
        ValueError: a shape or a type is wrong, a box or a score is not finite, a score is negative, or sigma is not
            positive.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
        >>> soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.1)
        (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.1083]))
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"boxes and scores must be (N, 4) and (N,), got {tuple(boxes.shape)} and {tuple(scores.shape)}; "
            "give one score for each box"
        )
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}; 0.5 is the paper's value")
    if not scores.is_floating_point():
        raise ValueError(f"scores must be floating point, got {scores.dtype}; write scores.float() / 100 for percent")
    if not (scores.isfinite() & (scores >= 0)).all():
        raise ValueError("scores must be finite and not negative, got others; apply sigmoid or softmax to logits first")
    check_corners(boxes)

    rows = (scores >= score_threshold).nonzero()[:, 0]  # a score only ever falls: the others cannot come back
    scores = scores[rows]
    overlap = box_iou(boxes[rows], boxes[rows]).nan_to_num(nan=0.0)  # (K, K), 0 of boxes without area
    decay = overlap.square().div(-sigma).exp().to(scores.dtype)
    taken = torch.zeros_like(scores, dtype=torch.bool)
    order, kept_scores = [], []
    for _ in range(len(rows)):
        best = scores.masked_fill(taken, -1).argmax(keepdim=True)  # a tensor: no wait for a GPU; first of equals
        order.append(best)
        kept_scores.append(scores[best])
        taken = taken.index_fill(0, best, True)
        scores = scores * decay[best[0]]
    if not order:
        return rows, scores
    order, kept_scores = torch.cat(order), torch.cat(kept_scores)
    stay = (
        kept_scores >= score_threshold
    )  # the taken scores fall from step to step, so this is where the loop would end
    return rows[order[stay]], kept_scores[stay]

"""Anchors: a grid of fixed boxes over a feature map, and which truth each gets (Ren et al. 2015, 3.1).

Shapes   A = h * w * K anchors: h and w the feature map's cells, K = len(aspect_ratios) * len(sizes) anchors a
         cell.
Order    row-major: y slowest, then x, then aspect ratio, then size, as torchvision's; `(h, w, K)` flattened.
Centre   cell (y, x) has its anchors around the pixel position (x * stride, y * stride), the cell's corner.
Ratio    height / width, at constant area: h = size * sqrt(ratio), w = size / sqrt(ratio).
"""

from collections.abc import Sequence
from numbers import Integral
from typing import TypedDict

import torch
from torch import Tensor
from torchvision.ops import box_iou

from labkit.detection.boxes import check_boxes
from labkit.detection.matching import check_thresholds, match_iou


class AnchorShapes(TypedDict):
    """The anchors of a cell: `anchor_grid(…, **shapes)`."""

    sizes: Sequence[float]
    aspect_ratios: Sequence[float]


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float], *, rounded: bool = True) -> Tensor:
    """(K, 4) the anchors of one cell, around (0, 0); arguments and errors are those of `anchor_grid`.

    Example:
        >>> cell_anchors([9], [1.0]), cell_anchors([9], [1.0], rounded=False)
        (tensor([[-4., -4.,  4.,  4.]]), tensor([[-4.5000, -4.5000,  4.5000,  4.5000]]))
    """
    areas, ratios = (torch.as_tensor(values, dtype=torch.float32) for values in (sizes, aspect_ratios))
    for name, values in (("sizes", areas), ("aspect_ratios", ratios)):
        if values.ndim != 1 or len(values) == 0 or not ((values > 0) & values.isfinite()).all():
            raise ValueError(f"{name} must be a list of positive numbers, got {values.tolist()}; give at least one")
    heights = (ratios.sqrt()[:, None] * areas).flatten()  # (K,)
    widths = (1 / ratios.sqrt()[:, None] * areas).flatten()  # (K,)
    cell = torch.stack([-widths, -heights, widths, heights], dim=1) / 2  # (K, 4)
    if not rounded:
        return cell
    cell = cell.round()
    if (cell[:, 2:] < 1).any():
        raise ValueError(
            "anchors must be at least 2 px wide and high after rounding, "
            f"got sizes {areas.tolist()} with aspect ratios {ratios.tolist()}; enlarge the smallest size"
        )
    return cell


def anchor_grid(
    feature_size: tuple[int, int],
    *,
    stride: int | tuple[int, int],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    rounded: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """Anchors of every cell of a feature map, row by row.

    Built from scratch in notebook 08, without rounding.

    Args:
        feature_size: (h, w) cells of the feature map.
        stride: pixels a cell, one number or (down, across).
        sizes: square root of an anchor's area, pixels.
        aspect_ratios: height / width.
        rounded: half widths and heights are rounded to whole pixels, as torchvision's are, so that weights trained with
            one fit the other: size 9 then gives 8 px. Without it anchors have exactly their sizes and ratios.
        device: where the anchors are made.

    Returns:
        (h * w * len(aspect_ratios) * len(sizes), 4) float32 xyxy pixels; some reach over the image's edge.

    Raises:
        ValueError: a number is not positive, a list is empty, or an anchor is too small to survive rounding.

    Example:
        >>> anchor_grid((1, 2), stride=16, sizes=[8], aspect_ratios=[1.0, 4.0])
        tensor([[-4., -4.,  4.,  4.],
                [-2., -8.,  2.,  8.],
                [12., -4., 20.,  4.],
                [14., -8., 18.,  8.]])
    """
    stride_y, stride_x = stride if isinstance(stride, Sequence) else (stride, stride)
    cell = cell_anchors(sizes, aspect_ratios, rounded=rounded).to(device)
    whole = all(isinstance(cells, Integral) for cells in feature_size)
    if not (whole and min(feature_size) >= 0 and min(stride_y, stride_x) > 0):  # so that nan is refused too
        got = f"{tuple(feature_size)} and {stride}"
        raise ValueError(
            f"feature_size and stride must be positive, got {got}; use whole cells, and pixels: features.shape[-2:]"
        )

    return spread_anchors(cell, feature_size, stride=(stride_y, stride_x))


def spread_anchors(cell: Tensor, feature_size: tuple[int, int], *, stride: tuple[int, int]) -> Tensor:
    """(h * w * K, 4) the anchors (K, 4) of one cell, repeated for every cell of a feature map, row by row.

    Example:
        >>> spread_anchors(torch.tensor([[-4.0, -4.0, 4.0, 4.0]]), (1, 2), stride=(16, 16))
        tensor([[-4., -4.,  4.,  4.],
                [12., -4., 20.,  4.]])
    """
    y, x = (torch.arange(cells, device=cell.device) * s for cells, s in zip(feature_size, stride, strict=True))
    y, x = torch.meshgrid(y, x, indexing="ij")
    centers = torch.stack([x, y, x, y], dim=-1)  # (h, w, 4)
    return (centers[:, :, None] + cell).reshape(-1, 4)


def match_anchors(anchors: Tensor, boxes: Tensor, *, positive_iou: float, negative_iou: float) -> Tensor:
    """The truth each anchor is trained on: its row, -1 for background, -2 for neither.

    An anchor is positive when its IoU with some box is at least `positive_iou`, or when no anchor lies better
    on some box (all of them, if several lie equally well), so every box that overlaps an anchor at all gets
    one; it is then matched to the box *it* overlaps most. It is background below `negative_iou`. Boxes that
    no anchor touches get none. Built from scratch in notebook 08.

    Args:
        anchors: (A, 4) xyxy pixels.
        boxes: (N, 4) xyxy pixels; (0, 4) makes every anchor background.
        positive_iou: 0.7 in the paper.
        negative_iou: 0.3 in the paper; from here to `positive_iou` an anchor is left out of the loss.

    Returns:
        (A,) int64: index of the matched box, -1 background, -2 ignored.

    Raises:
        ValueError: a shape is wrong, a box has no area, or the thresholds are out of order.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 16.0], [20.0, 20.0, 28.0, 28.0]])
        >>> match_anchors(anchors, torch.tensor([[0.0, 0.0, 8.0, 9.0]]), positive_iou=0.7, negative_iou=0.3)
        tensor([ 0, -2, -1])
    """
    check_thresholds(positive_iou, negative_iou)
    check_boxes(anchors, name="anchors")
    check_boxes(boxes)
    return match_iou(
        box_iou(boxes, anchors), positive_iou=positive_iou, negative_iou=negative_iou, best_of_each_truth=True
    )


def check_anchors(
    boxes: Tensor, *, stride: float, sizes: Sequence[float], aspect_ratios: Sequence[float], least_iou: float = 0.4
) -> None:
    """Refuse boxes that no anchor fits; the message says which anchors would.

    The fit is the IoU of a box and its best anchor when their centres are a quarter of a cell apart each way, as they
    are on average. Anchors of other people's images are the usual reason for a proposal network that learns nothing.

    Args:
        boxes: (N, 4) xyxy pixels, of the whole training set.
        stride: pixels a feature cell.
        sizes, aspect_ratios: as for `anchor_grid`.
        least_iou: what a box should reach.

    Raises:
        ValueError: some box reaches less.

    Example:
        >>> lesions = torch.tensor([[10.0, 10, 22, 20], [50, 40, 90, 76]])
        >>> check_anchors(lesions, stride=8, sizes=[12, 36], aspect_ratios=[1.0])
        >>> check_anchors(lesions, stride=8, sizes=[32], aspect_ratios=[1.0])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: every box should have an anchor of IoU 0.4 or more, got 1 of 2 without, of size 11 to 11 px ...
    """
    check_boxes(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2) width, height
    size, ratio = sides.prod(dim=1).sqrt(), sides[:, 1] / sides[:, 0]
    anchors = anchor_grid((1, 1), stride=1, sizes=sizes, aspect_ratios=aspect_ratios, device=boxes.device)
    fits = _shape_iou(sides[:, None], (anchors[:, 2:] - anchors[:, :2])[None], shift=stride / 4)  # (N, K)
    bad = fits.amax(dim=1) < least_iou if len(boxes) else torch.zeros(0, dtype=torch.bool)
    if not bad.any():
        return
    size, ratio, sides = size[bad], ratio[bad], sides[bad]
    told = (
        f"every box should have an anchor of IoU {least_iou:g} or more, got {len(size)} of {len(boxes)} without, "
        f"of size {size.min():.0f} to {size.max():.0f} px and height / width {ratio.min():.2f} to {ratio.max():.2f}"
    )
    hopeless = _shape_iou(sides, sides, shift=stride / 4) < least_iou  # even an anchor of the very same shape
    cures = []
    if not hopeless.all():
        cures.append(f"add sizes near {_spread(size[~hopeless], 0)} and ratios near {_spread(ratio[~hopeless], 2)}")
    if hopeless.any():
        cures.append(
            f"for those up to {size[hopeless].max():.0f} px no anchor on cells of {stride:g} px will do: "
            "enlarge the images or take a smaller stride"
        )
    raise ValueError("; ".join([told, *cures]))


def _spread(values: Tensor, digits: int) -> str:
    """Low, middle and high of some values, in words."""
    levels = values.float().quantile(torch.tensor([0.1, 0.5, 0.9], device=values.device))
    return " and ".join(dict.fromkeys(f"{value:.{digits}f}" for value in levels.tolist()))


def _shape_iou(sides1: Tensor, sides2: Tensor, *, shift: float) -> Tensor:
    """IoU of boxes of widths and heights (..., 2) whose centres lie `shift` pixels apart along x and y."""
    overlap = torch.minimum(torch.minimum(sides1, sides2), (sides1 + sides2) / 2 - shift).clamp(min=0).prod(dim=-1)
    return overlap / (sides1.prod(dim=-1) + sides2.prod(dim=-1) - overlap)

"""The check of notebook 01, localization as regression: overlap."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, scattered_boxes


def box_iou(student: Callable) -> Callable:
    """Check `my_box_iou(boxes1 (N, 4), boxes2 (M, 4)) -> (N, M)` of notebook 01.

    Example:
        >>> box_iou(lambda boxes1, boxes2: 1 - ops.box_iou(boxes1, boxes2)).__name__  # a distance
        ✗ box_iou: a box with itself
        ...
          likely: this is 1 - IoU, a distance; 1 must mean equal boxes
        ...
        'box_iou'
    """
    one = box_rows([2, 1, 12, 6])
    cases = [
        Case("a box with itself", (one, one)),
        Case("two boxes that share a part", (one, box_rows([7, 3, 17, 9]))),
        Case("a box inside a larger one", (box_rows([4, 2, 8, 5]), one)),
        Case("boxes that only touch at an edge", (one, box_rows([12, 1, 20, 6]))),
        Case("boxes apart in x and in y", (one, box_rows([30, 20, 45, 22]))),
        Case("boxes apart in x only", (one, box_rows([20, 2, 30, 5]))),
        Case("boxes apart in y only", (one, box_rows([3, 20, 9, 25]))),
        Case("boxes left of and above 0", (box_rows([-12, -9, -2, -4]), box_rows([-7, -7, 3, 1]))),
        Case("3 boxes against 2", (scattered_boxes(3, 0), scattered_boxes(2, 2))),
        Case("no boxes against 2", (box_rows(), scattered_boxes(2, 4))),
        Case("60 boxes against 41", (scattered_boxes(60, 6), scattered_boxes(41, 8))),
    ]
    return run_check("box_iou", student, ops.box_iou, cases, mistakes=BOX_IOU_MISTAKES, draw=_draw_iou)


def _iou(
    boxes1: Tensor, boxes2: Tensor, *, clamp="sides", plus=0.0, union="both", swapped=False, area=torch.prod
) -> Tensor:
    """IoU with room for the usual slips."""
    inner, outer = (torch.minimum, torch.maximum) if swapped else (torch.maximum, torch.minimum)
    low = inner(boxes1[:, None, :2], boxes2[None, :, :2])
    high = outer(boxes1[:, None, 2:], boxes2[None, :, 2:])
    sides = high - low + plus
    forms = {"sides": sides.clamp(min=0), "abs": sides.abs(), "one": sides.clamp(min=1)}
    inter = sides.clamp(min=0).sum(dim=2) if clamp == "sum" else area(forms.get(clamp, sides), dim=2)
    inter = inter.clamp(min=0) if clamp == "product" else inter
    area1 = area(boxes1[:, 2:] - boxes1[:, :2] + plus, dim=1)[:, None]
    area2 = area(boxes2[:, 2:] - boxes2[:, :2] + plus, dim=1)[None, :]
    smaller, one = torch.minimum(area1, area2), torch.ones_like(inter)
    total = {"both": area1 + area2 - inter, "twice": area1 + area2, "first": area1, "smaller": smaller, "none": one}
    return inter / total[union]


def _read_as(form: str) -> Callable:
    return lambda a, b: ops.box_iou(ops.box_convert(a, form, "xyxy"), ops.box_convert(b, form, "xyxy"))


BOX_IOU_MISTAKES: dict[str, Callable] = {
    "boxes that do not meet have negative sides; clamp each side at 0 before you multiply": (
        lambda a, b: _iou(a, b, clamp="no")
    ),
    "clamp each side at 0, not their product: two negative sides make a positive area": (
        lambda a, b: _iou(a, b, clamp="product")
    ),
    "minimum and maximum are exchanged: what is shared begins at the larger x1 y1 and ends at the smaller x2 y2": (
        lambda a, b: _iou(a, b, swapped=True)
    ),
    "sides that are negative are clamped at 0, not turned round by abs(): such boxes share nothing": (
        lambda a, b: _iou(a, b, clamp="abs")
    ),
    "sides are clamped at 0, not at 1: boxes that only touch share nothing": lambda a, b: _iou(a, b, clamp="one"),
    "an area is the product of width and height, not their sum": lambda a, b: _iou(a, b, area=torch.sum),
    "the shared area is the product of its width and height, not their sum": lambda a, b: _iou(a, b, clamp="sum"),
    "x2 and y2 are exclusive here: the width is x2 - x1, without + 1": lambda a, b: _iou(a, b, plus=1.0),
    "the union counts the shared part twice: subtract the intersection once": lambda a, b: _iou(a, b, union="twice"),
    "the intersection is divided by the area of the first box, not by the union": (
        lambda a, b: _iou(a, b, union="first")
    ),
    "this is the intersection in pixels: divide it by the union": lambda a, b: _iou(a, b, union="none"),
    "the result is turned: rows are boxes1, columns are boxes2": lambda a, b: ops.box_iou(b, a),
    "boxes are x1 y1 x2 y2 here, not centre and size": _read_as("cxcywh"),
    "boxes are x1 y1 x2 y2 here, not corner and size (x y w h)": _read_as("xywh"),
    "the intersection is divided by the smaller box, not by the union": lambda a, b: _iou(a, b, union="smaller"),
    "this is 1 - IoU, a distance; 1 must mean equal boxes": lambda a, b: 1 - ops.box_iou(a, b),
    "every box of boxes1 meets every box of boxes2, (N, M); these are the pairs row by row": (
        lambda a, b: torch.stack([ops.box_iou(p[None], q[None])[0, 0] for p, q in zip(a, b, strict=False)])
    ),
}


def _draw_iou(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import fit, legend, panels
    from labkit.plotting import COLORS, show_boxes

    far = (got.double() - expected.double()).abs().nan_to_num(nan=torch.inf)  # the pair that is furthest off
    i, j = (int(k) for k in torch.unravel_index(far.argmax(), far.shape))
    pair = case.args[0][i][None], case.args[1][j][None]
    numbers = f"expected {float(expected[i, j]):.4g}, got {float(got[i, j]):.4g}"
    figure, axes = panels(1, title=f"{case.what}: {numbers}", width=5.6, height=3.6)
    for box, color, style, name in zip(pair, ("green", "orange"), ("-", "--"), ("boxes1", "boxes2"), strict=True):
        which = f"{name}[{(i, j)[name == 'boxes2']}]"
        show_boxes(box, color=COLORS[color], style=style, width=3.5, name=which, ax=axes[0])
    fit(axes, torch.cat(pair))
    legend(axes[0])
    return figure

"""The check of notebook 07, Fast R-CNN: RoI pooling. RoIAlign: fast_rcnn_align.py; its loss: fast_rcnn_loss.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, noise
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


def _draw_pooled(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    features, boxes, _, stride = case.args
    return draw_maps(case.what, features, expected, got, boxes=boxes / stride)


# --------------------------------------------------------------------------------------------------- roi_pool


def roi_pool(student: Callable) -> Callable:
    """Check `my_roi_pool(features (C, Hf, Wf), boxes (R, 4), size, stride) -> (R, C, size, size)` of notebook 07.

    Example:
        >>> roi_pool(lambda *args: reference_roi_pool(*args).clamp(min=0)).__name__
        ✗ roi_pool: cells that lie below 0: the maximum is negative
        ...
          likely: a bin can lie below 0 everywhere: do not start its maximum at 0
        ...
        'reference_roi_pool'
    """
    count = torch.arange(60.0).reshape(1, 6, 10)  # grows to the right and down, so the maximum is the last cell
    grey, deep = noise(1, 7, 11, seed=0), noise(3, 8, 13, seed=1)
    several = box_rows([8, 16, 61, 44], [0, 0, 103, 63], [33, 21, 50, 59])
    cases = [
        Case("corners on cells, bins of equal size", (count, box_rows([8, 8, 32, 24]), 2, 8)),
        Case("cells that lie below 0: the maximum is negative", (count - 100, box_rows([8, 8, 32, 24]), 2, 8)),
        Case("bins that share cells: 5 x 3 cells into 2 x 2", (grey, box_rows([8, 16, 40, 32]), 2, 8)),
        Case("corners between cells are rounded", (count, box_rows([11, 13, 43, 27]), 2, 8)),
        Case("corners half way: 2.5 becomes 3", (grey, box_rows([20, 4, 68, 36]), 2, 8)),
        Case("a box smaller than a cell", (grey, box_rows([17, 9, 19, 10]), 3, 8)),
        Case("half of a box lies right of the map: it is cut first, and its bins there are 0", (count, OVER, 2, 8)),
        Case("a box at the far edge: bins that reach over it", (grey, box_rows([40, 24, 88, 56]), 3, 8)),
        Case("a box that begins left of the map: bins that start below 0", (grey, box_rows([-9, 8, 31, 24]), 2, 8)),
        Case("a box that begins above the map: bins that start below 0", (grey, box_rows([8, -9, 24, 31]), 2, 8)),
        Case("a bin that lies left of the map as a whole: it is 0", (grey, box_rows([-9, 5, 3, 20]), 4, 4)),
        Case("a bin that lies above the map as a whole: it is 0", (grey, box_rows([5, -9, 20, 3]), 4, 4)),
        Case("a bin that lies right of the map as a whole: it is 0", (grey, box_rows([34, 5, 52, 20]), 4, 4)),
        Case("a bin that lies below the map as a whole: it is 0", (grey, box_rows([5, 18, 20, 36]), 4, 4)),
        Case("another stride", (grey, box_rows([2, 5, 29, 18]), 3, 4)),
        Case("no boxes", (grey, box_rows(), 3, 8)),
        GradientCase("2 boxes, and the gradient: training goes through the features", (deep, several[:2], 3, 8)),
        Case("3 channels, 3 boxes", (deep, several, 3, 8)),
    ]
    return run_check("roi_pool", student, reference_roi_pool, cases, mistakes=ROI_POOL_MISTAKES, draw=_draw_pooled)


OVER = box_rows([56, 8, 96, 16])  # cells 7 to 12 of a map that ends with 9


def reference_roi_pool(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """torchvision's, on one feature map."""
    return ops.roi_pool(features[None], [boxes], size, spatial_scale=1 / stride)


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _pool(
    features: Tensor,
    boxes: Tensor,
    size: int,
    stride: float,
    *,
    to_cell: Callable = _half_up,
    plus: int = 1,
    stop: Callable = math.ceil,
    reduce: Callable = lambda cells: cells.amax((1, 2)),
    turned: bool = False,
    low: float = 0,
    high: tuple[float, float] = (0, 0),
    last: int = 0,
    guard: bool = True,
    clip: Callable = lambda cells, high: cells,
) -> Tensor:
    """Pooling with room for the usual slips.

    The start of a slice is raised to `low`, its end to `high`, of rows and of columns; `clip(cells, last cells)`
    changes the box before it is cut.
    """
    result = features.new_zeros(len(boxes), len(features), size, size)
    rows, columns = features.shape[1] - last, features.shape[2] - last
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = clip([to_cell(v / stride) for v in box], [columns - 1, rows - 1] * 2)
        width, height = (max(x2 - x1 + plus, 1), max(y2 - y1 + plus, 1))
        for i in range(size):
            for j in range(size):
                top, bottom = y1 + math.floor(i * height / size), y1 + stop((i + 1) * height / size)
                left, right = x1 + math.floor(j * width / size), x1 + stop((j + 1) * width / size)
                down = slice(max(top, low), min(max(bottom, high[0]), rows))
                across = slice(max(left, low), min(max(right, high[1]), columns))
                cells = features[:, down, across]
                if cells.numel() or not guard:
                    result[r, :, j if turned else i, i if turned else j] = reduce(cells)
    return result


def _within(cells: list[int], high: list[int]) -> list[int]:
    return [min(max(cell, 0), most) for cell, most in zip(cells, high, strict=True)]


ROI_POOL_MISTAKES: dict[str, Callable] = {
    "the bin's maximum is wanted, not its minimum": (
        lambda f, b, n, s: _pool(f, b, n, s, reduce=lambda cells: cells.amin((1, 2)))
    ),
    "each channel has a maximum of its own: amax(dim=(1, 2))": (
        lambda f, b, n, s: _pool(f, b, n, s, reduce=lambda cells: cells.amax().expand(len(cells)))
    ),
    "width and height are exchanged: rows are cut by the height, columns by the width": (
        lambda f, b, n, s: _pool(f, b, n, s, clip=lambda c, _: [c[0], c[1], c[0] + c[3] - c[1], c[1] + c[2] - c[0]])
    ),
    "corners are rounded to the nearest cell, not outwards": (
        lambda f, b, n, s: _pool(f, torch.cat([(b[:, :2] / s).floor(), (b[:, 2:] / s).ceil()], dim=1) * s, n, s)
    ),
    "the bin's maximum is wanted, not its mean": (
        lambda f, b, n, s: _pool(f, b, n, s, reduce=lambda cells: cells.mean((1, 2)))
    ),
    "the last cell belongs to the box: its width is x2 - x1 + 1 cells": lambda f, b, n, s: _pool(f, b, n, s, plus=0),
    "bins end at the ceiling of their edge, so that they share cells rather than lose them": (
        lambda f, b, n, s: _pool(f, b, n, s, stop=math.floor)
    ),
    "corners are rounded to the nearest cell, not cut off": (lambda f, b, n, s: _pool(f, b, n, s, to_cell=math.floor)),
    "Python's round() takes halves to the even number; floor(v + 0.5) takes them up": (
        lambda f, b, n, s: _pool(f, b, n, s, to_cell=round)
    ),
    "rows are y and columns are x: the result is turned": lambda f, b, n, s: _pool(f, b, n, s, turned=True),
    "boxes are in pixels: divide by the stride to get cells": lambda f, b, n, s: _pool(f, b, n, 1),
    "a slice that starts below 0 counts from the end in Python: raise both of its ends to 0": (
        lambda f, b, n, s: _pool(f, b, n, s, low=-math.inf, high=(-math.inf, -math.inf))
    ),
    "a slice that ends below 0 counts from the end in Python: raise its end to 0 too": (
        lambda f, b, n, s: _pool(f, b, n, s, high=(-math.inf, -math.inf))
    ),
    "a slice of rows that ends below 0 counts from the end in Python: raise its end to 0 too": (
        lambda f, b, n, s: _pool(f, b, n, s, high=(-math.inf, 0))
    ),
    "a slice of columns that ends below 0 counts from the end in Python: raise its end to 0 too": (
        lambda f, b, n, s: _pool(f, b, n, s, high=(0, -math.inf))
    ),
    "the box is clipped to the map before it is cut into bins: cut the whole box, then clip each bin": (
        lambda f, b, n, s: _pool(f, b, n, s, clip=_within)
    ),
    "the box is clipped to the image before it is cut into bins: cut the whole box, then clip each bin": (
        lambda f, b, n, s: _pool(f, ops.clip_boxes_to_image(b, (f.shape[1] * s, f.shape[2] * s)), n, s)
    ),
    "the box is clipped at the far edges before it is cut into bins: cut the whole box, then clip each bin": (
        lambda f, b, n, s: _pool(f, b, n, s, clip=lambda cells, high: [*map(min, cells, high)])
    ),
    "the box is clipped at 0 before it is cut into bins: cut the whole box, then clip each bin": (
        lambda f, b, n, s: _pool(f, b, n, s, clip=lambda cells, high: [max(cell, 0) for cell in cells])
    ),
    "a bin can lie below 0 everywhere: do not start its maximum at 0": (
        lambda f, b, n, s: _pool(f, b, n, s).clamp(min=0)
    ),
    "a bin without a cell has no maximum: leave it at 0": lambda f, b, n, s: _pool(f, b, n, s, guard=False),
    "the last row and column of the map are lost: a slice may end at H and W themselves": (
        lambda f, b, n, s: _pool(f, b, n, s, last=1)
    ),
    "the stride is written into the function: use the argument": lambda f, b, n, s: _pool(f, b, n, 8),
    NO_GRADIENT: without_gradient(reference_roi_pool),
}

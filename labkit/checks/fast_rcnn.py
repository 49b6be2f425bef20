"""Checks of notebook 07, Fast R-CNN: its two poolings. Its loss: fast_rcnn_loss.py."""

import math
from collections.abc import Callable
from functools import partial

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


# -------------------------------------------------------------------------------------------------- roi_align


def roi_align(student: Callable) -> Callable:
    """Check `my_roi_align(features (C, Hf, Wf), boxes (R, 4), size, stride) -> (R, C, size, size)` of notebook 07.

    Example:
        >>> roi_align(lambda *args: reference_roi_align(*args).detach()).__name__  # right, and training stops there
        ✗ roi_align: 2 boxes, and the gradient: training goes through the features
        ...
          likely: no gradient flows: ...
        'reference_roi_align'
    """
    slope = (torch.arange(6.0)[:, None] * 10 + torch.arange(10.0))[None]  # on a plane bilinear is exact
    grey, deep = noise(1, 7, 11, seed=2), noise(3, 8, 13, seed=3)
    several = box_rows([9, 16, 61, 44.5], [0, 0, 104, 64], [33, 21, 50, 59])
    cases = [
        Case("one bin over one cell of a plane", (slope, box_rows([24, 16, 32, 24]), 1, 8)),
        Case("2 x 2 bins on a plane", (slope, box_rows([16, 12, 48, 28]), 2, 8)),
        Case("2 x 2 bins on noise", (grey, box_rows([16, 12, 48, 28]), 2, 8)),
        Case("corners between cells", (grey, box_rows([19, 13.5, 61, 30]), 3, 8)),
        Case("a box smaller than a cell", (grey, box_rows([33, 18, 36, 23]), 2, 8)),
        Case("half of a box lies left of a plane: there the value is that of the first cells, 25", (slope, HALF, 1, 8)),
        Case("a box that fills the map: samples beyond the last cell's middle", (grey, box_rows([0, 0, 88, 56]), 8, 8)),
        Case("a box that leaves the map on the left by less than a cell", (grey, box_rows([-4, 8, 28, 40]), 4, 8)),
        Case("a box that leaves the map above by less than a cell", (grey, box_rows([8, -4, 40, 28]), 4, 8)),
        Case("a sample one cell left of the map's first: the value there is the first's", (grey, LEFT, 2, 8)),
        Case("a box that leaves the map on the right: cell 10 is the last of 11", (grey, RIGHT, 2, 8)),
        Case("a box that leaves the map below: cell 6 is the last of 7", (grey, BELOW, 2, 8)),
        Case("another stride", (grey, box_rows([3, 5, 29, 18]), 3, 4)),
        Case("no boxes", (grey, box_rows(), 3, 8)),
        GradientCase("2 boxes, and the gradient: training goes through the features", (deep, several[:2], 3, 8)),
        Case("3 channels, 3 boxes", (deep, several, 3, 8)),
    ]
    return run_check(
        "roi_align",
        student,
        reference_roi_align,
        cases,
        mistakes=ROI_ALIGN_MISTAKES,
        draw=_draw_pooled,
        atol=1e-4,
    )


# Samples up to a cell outside the map, where torchvision takes the edge; further out it takes 0, and no case asks.
HALF = box_rows([-4, 16, 4, 32])  # at x = -0.75 and -0.25, y = 2 and 3
LEFT = box_rows([-8, 8, 24, 40])  # the first stand at x = -0.5
RIGHT = box_rows([36, 8, 100, 40])  # the last stand at x = 11, one beyond the last cell
BELOW = box_rows([8, 4, 40, 68])  # the last stand at y = 7


def reference_roi_align(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """torchvision's, on one feature map, 2 x 2 samples a bin, pixels counted rightly."""
    return ops.roi_align(features[None], [boxes], size, spatial_scale=1 / stride, sampling_ratio=2, aligned=True)


def _bilinear(
    features: Tensor,
    y: float,
    x: float,
    *,
    clamp: Callable = lambda value, size: min(max(value, 0.0), size - 1.0),
    neighbour: Callable = lambda cell, size: min(cell + 1, size - 1),
    cell: Callable = lambda value, size: int(value),
    exchanged: bool = False,
    turned: bool = False,
) -> Tensor:
    """The value between four cells, with room for the usual slips."""
    height, width = features.shape[1:][::-1] if turned else features.shape[1:]
    y, x = clamp(y, height), clamp(x, width)
    top, left = cell(y, height), cell(x, width)
    bottom, right = neighbour(top, height), neighbour(left, width)
    down, across = y - top, x - left
    if exchanged:
        down, across = 1 - down, 1 - across
    upper = (1 - across) * features[:, top, left] + across * features[:, top, right]
    lower = (1 - across) * features[:, bottom, left] + across * features[:, bottom, right]
    return (1 - down) * upper + down * lower


def _nearest(features: Tensor, y: float, x: float) -> Tensor:
    height, width = features.shape[1:]
    return features[:, min(max(_half_up(y), 0), height - 1), min(max(_half_up(x), 0), width - 1)]


def _align(
    features: Tensor,
    boxes: Tensor,
    size: int,
    stride: float,
    *,
    half: float = 0.5,
    least: float = -math.inf,
    parts: tuple[float, ...] = (0.25, 0.75),
    look: Callable = _bilinear,
    to_cell: Callable = lambda v: v,
    turned: bool = False,
    reduce: Callable = lambda seen: seen.mean(0),
) -> Tensor:
    """Sampling with room for the usual slips."""
    result = features.new_zeros(len(boxes), len(features), size, size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (to_cell(v / stride) - half for v in box)
        high, wide = max(y2 - y1, least) / size, max(x2 - x1, least) / size
        for i in range(size):
            for j in range(size):
                at = [(y1 + (i + a) * high, x1 + (j + b) * wide) for a in parts for b in parts]
                seen = torch.stack([look(features, y, x) for y, x in at])
                result[r, :, j if turned else i, i if turned else j] = reduce(seen)
    return result


def _clamped_cell(value: float, size: int) -> int:
    return min(max(math.floor(value), 0), size - 1)


ROI_ALIGN_MISTAKES: dict[str, Callable] = {
    "half a cell is missing: cell 0 has its middle at 0.5, so subtract 0.5 after dividing by the stride": (
        lambda f, b, n, s: _align(f, b, n, s, half=0.0)
    ),
    "the corners are rounded: RoIAlign rounds nothing": lambda f, b, n, s: _align(f, b, n, s, to_cell=_half_up),
    "four samples a bin are wanted, at a quarter and three quarters, not one in the middle": (
        lambda f, b, n, s: _align(f, b, n, s, parts=(0.5,))
    ),
    "the samples stand inside the bin, at a quarter and three quarters, not at its edges": (
        lambda f, b, n, s: _align(f, b, n, s, parts=(0.0, 1.0))
    ),
    "the mean of the samples is wanted, not their maximum": (
        lambda f, b, n, s: _align(f, b, n, s, reduce=lambda seen: seen.amax(0))
    ),
    "the mean of the samples is wanted, not their sum": (
        lambda f, b, n, s: _align(f, b, n, s, reduce=lambda seen: seen.sum(0))
    ),
    "between cells the value is mixed (bilinear), not taken from the nearest": (
        lambda f, b, n, s: _align(f, b, n, s, look=_nearest)
    ),
    "rows are y and columns are x: the result is turned": lambda f, b, n, s: _align(f, b, n, s, turned=True),
    "boxes are in pixels: divide by the stride to get cells": lambda f, b, n, s: _align(f, b, n, 1),
    "the last cell is W - 1 and H - 1: clamp the places to that, not to W and H": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, clamp=lambda v, size: min(max(v, 0.0), size)))
    ),
    "places left of and above the first cell: clamp them at 0 as well": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, clamp=lambda v, size: min(v, size - 1.0)))
    ),
    "the right and lower neighbour can lie beyond the map: clamp left + 1 and top + 1, too": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, neighbour=lambda cell, size: cell + 1))
    ),
    "the cell is clamped and its place is not, so x - left is below 0 outside: clamp x and y, then find the cells": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, clamp=lambda v, size: v, cell=_clamped_cell))
    ),
    "a box narrower than a cell is widened to a cell: RoIAlign leaves it as it is": (
        lambda f, b, n, s: _align(f, b, n, s, least=1.0)
    ),
    "x ends at W - 1 and y at H - 1: features are (C, H, W); they are exchanged": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, turned=True))
    ),
    "the weights are exchanged: the nearer cell counts more, 1 - (x - left) for the left one": (
        lambda f, b, n, s: _align(f, b, n, s, look=partial(_bilinear, exchanged=True))
    ),
    "four samples a bin are wanted, not sixteen": (
        lambda f, b, n, s: _align(f, b, n, s, parts=(0.125, 0.375, 0.625, 0.875))
    ),
    "the stride is written into the function: use the argument": lambda f, b, n, s: _align(f, b, n, 8),
    NO_GRADIENT: without_gradient(reference_roi_align),
}

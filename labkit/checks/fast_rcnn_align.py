"""The check of notebook 07, Fast R-CNN: RoIAlign."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fast_rcnn import _draw_pooled, _half_up
from labkit.checks.fixtures import box_rows, noise
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


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
    "half a cell is subtracted from pixels: divide by the stride first, then subtract 0.5": (
        lambda f, b, n, s: _align(f, b, n, s, half=0.5 / s)
    ),
    "half a cell is added: subtract it, for the middle of cell 0 lies at 0.5": (
        lambda f, b, n, s: _align(f, b, n, s, half=-0.5)
    ),
    "samples of different bins are averaged: the samples of a bin are neighbours, reshape to (C, size, 2, size, 2)": (
        lambda f, b, n, s: _align(f, b, 2 * n, s, parts=(0.5,)).unflatten(3, (2, n)).unflatten(2, (2, n)).mean((2, 4))
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

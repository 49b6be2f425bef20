"""The check of notebook 16, attention heatmaps: boxes as hills. Its loss: attention_loss.py; maps: attention_cam.py."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.checks.cases import difference
from labkit.checks.engine import Case, run_check
from labkit.checks.explain import MOST_SHOWN
from labkit.checks.fixtures import box_rows
from labkit.detection.heatmaps import gaussian_heatmap as package_heatmap


def gaussian_heatmap(student: Callable) -> Callable:
    """Check `my_gaussian_heatmap(boxes (N, 4), size (H, W), stride) -> (H / stride, W / stride)` of notebook 16.

    Example:
        >>> gaussian_heatmap(lambda boxes, size, stride: reference_gaussian_heatmap(boxes, size, stride).T).__name__
        ✗ gaussian_heatmap: one box of 24 x 12 pixels, its centre in the middle of a cell
          the result has shape (7, 3), expected (3, 7)
        ...
          likely: rows are y and columns are x: the map is (H / stride, W / stride), height first
        ...
        'reference_gaussian_heatmap'
    """
    near = box_rows([6, 8, 30, 24], [22, 4, 38, 28])  # their hills meet between the centres
    cases = [
        Case("one box of 24 x 12 pixels, its centre in the middle of a cell", (box_rows([2, 0, 26, 12]), (12, 28), 4)),
        Case("its centre in the first quarter of a cell", (box_rows([1, 3, 25, 15]), (20, 36), 4)),
        Case("its centre in the last quarter of a cell", (box_rows([3, 1, 27, 29]), (32, 36), 4)),
        Case("its centre between two cells: it belongs to the one that begins there", (box_rows(EDGE), (32, 40), 4)),
        Case("a box higher than wide", (box_rows([9, 4, 18, 40]), (48, 32), 4)),
        Case("a box at the film's edge: half of the hill lies outside", (box_rows([0, 12, 5, 33]), (40, 28), 4)),
        Case("a centre in the last column", (box_rows([21, 2, 28, 9]), (20, 28), 4)),
        Case("a centre in the last row", (box_rows([3, 13, 10, 20]), (20, 28), 4)),
        Case("a box smaller than a cell", (box_rows([17, 9, 19, 12]), (20, 28), 4)),
        Case("two boxes far apart, of different sizes", (box_rows([2, 4, 20, 14], [50, 30, 58, 44]), (48, 64), 4)),
        Case("two boxes whose hills overlap", (near, (36, 48), 4)),
        Case("one box inside another", (box_rows([4, 4, 44, 36], [14, 10, 22, 18]), (40, 52), 4)),
        Case("two boxes with one centre", (box_rows([4, 10, 32, 22], [12, 6, 24, 26]), (32, 40), 4)),
        Case("no boxes: 0 everywhere", (box_rows(), (12, 20), 4)),
        Case("another stride", (box_rows([3, 5, 29, 18], [30, 20, 41, 33]), (36, 44), 2)),
        Case("a stride of one pixel", (box_rows([2.5, 1, 11, 6]), (9, 14), 1)),
        Case("three boxes with fractions of pixels", (box_rows(*THREE), (64, 88), 8)),
    ]
    return run_check(
        "gaussian_heatmap",
        student,
        reference_gaussian_heatmap,
        cases,
        mistakes=GAUSSIAN_HEATMAP_MISTAKES,
        draw=_draw,
        compare=_compare,
    )


EDGE = [8, 4, 32, 28]  # centre (20, 16): columns 4 and 5 meet there, rows 3 and 4
THREE = ([7.3, 3.9, 40.2, 30.5], [51.4, 8.2, 71.1, 50.6], [20.7, 33.1, 66.2, 61.8])


def reference_gaussian_heatmap(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """`labkit.detection.heatmaps.gaussian_heatmap`."""
    return package_heatmap(boxes, size, stride=stride)


def _compare(got: Any, expected: Tensor) -> str | None:
    """What differs; of a map too large to be shown, part of a row as well, around the cell that is farthest off."""
    differs = difference(got, expected)
    if differs is None or not isinstance(got, Tensor) or got.shape != expected.shape or got.numel() <= MOST_SHOWN:
        return differs
    far = (got.detach().double() - expected.double()).abs().nan_to_num(nan=torch.inf)
    row, column = divmod(int(far.argmax()), far.shape[1])
    first, last = max(0, column - 3), min(far.shape[1], column + 4)
    rows = [" ".join(f"{value:.3f}" for value in each[row, first:last].tolist()) for each in (got, expected)]
    return f"{differs}\n  row {row}, columns {first} to {last - 1}: it is {rows[0]}, expected {rows[1]}"


def _draw(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    boxes, (height, width), stride = case.args
    film = torch.zeros(height // stride, width // stride)
    return draw_maps(case.what, film, expected, got, boxes=boxes / stride)


def _heatmap(
    boxes: Tensor,
    size: tuple[int, int],
    stride: int,
    *,
    cell: Callable = lambda center, stride: torch.floor(center / stride),
    sides: float = 6.0,
    unit: Callable = lambda stride: stride,
    plus: float = 0.0,
    spread: Callable = lambda sigma: sigma,
    center: Callable = lambda box: (box[:2] + box[2:]) / 2,
    fall: Callable = lambda d, sigma: torch.exp(-((d / sigma) ** 2).sum(0) / 2),
    height: Callable = lambda hill, sigma: hill,
    join: Callable = torch.maximum,
    turned: bool = False,
    corners: Callable = lambda box, stride: box,
    kept: Callable = lambda place, columns, rows: place,
) -> Tensor:
    """Hills with room for the usual slips; places and sigmas are (x, y)."""
    rows, columns = size[0] // stride, size[1] // stride
    y, x = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
    heatmap = torch.zeros(rows, columns)
    for box in boxes.cpu():
        place = kept(cell(center(corners(box, stride)), stride), columns, rows)
        if turned:
            place = place.flip(0)
        sigma = spread((box[2:] - box[:2] + plus) / sides / unit(stride))
        distance = torch.stack([x - place[0], y - place[1]])  # (2, h, w)
        hill = height(fall(distance, sigma[:, None, None]), sigma)
        heatmap = join(heatmap, hill)
    return heatmap.to(boxes.device)


def _with(**slip) -> Callable:
    return lambda boxes, size, stride: _heatmap(boxes, size, stride, **slip)


def _by_the_largest(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    heatmap = _heatmap(boxes, size, stride, join=torch.add)
    return heatmap / heatmap.max()


def _filled(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    heatmap = torch.zeros(size[0] // stride, size[1] // stride)
    for x1, y1, x2, y2 in (boxes / stride).tolist():
        heatmap[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 1
    return heatmap.to(boxes.device)


def _last(column: int, row: int) -> Callable:
    """Cells that stop so many columns and rows before the end, as with clamp(0, W - 2)."""
    return lambda place, columns, rows: torch.minimum(place, place.new_tensor([columns - column, rows - row]))


def _inside(d: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-((d / sigma) ** 2).sum(0) / 2) * (d.abs() <= 3 * sigma).all(dim=0)


def _round_hill(d: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-(d**2).sum(0) / (2 * sigma.mean() ** 2))


def _round_by_area(d: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-(d**2).sum(0) / (2 * sigma.prod()))


GAUSSIAN_HEATMAP_MISTAKES: dict[str, Callable] = {
    "where two hills overlap the higher one counts: the maximum, not the sum": _with(join=torch.add),
    "x and y are exchanged: the centre's column is x / stride, its row y / stride": _with(turned=True),
    "a cell is found by cutting off, floor(c / stride), since cell i reaches from i · stride to (i + 1) · stride; it is rounded here": (  # noqa: E501
        _with(cell=lambda c, stride: torch.floor(c / stride + 0.5))
    ),
    "a cell is found by cutting off, floor(c / stride); torch.round goes to the nearest cell, and from a half to the even one": (  # noqa: E501
        _with(cell=lambda c, stride: torch.round(c / stride))
    ),
    "a cell is found by cutting off, floor(c / stride), not by ceil": (
        _with(cell=lambda c, stride: torch.ceil(c / stride))
    ),
    "divide by the stride first, then cut off: floor(c / stride), not floor(c) / stride": (
        _with(cell=lambda c, stride: torch.floor(c) / stride)
    ),
    "the centre is cut off to a cell, the corners are not: (x1 + x2) / 2 first, then floor": (
        _with(corners=lambda box, stride: torch.floor(box / stride) * stride)
    ),
    "cells are counted from 0, not from 1": _with(cell=lambda c, stride: torch.floor(c / stride) - 1),
    "a centre may lie in the last column: it is W / stride - 1; no clamp is needed": _with(kept=_last(2, 1)),
    "a centre may lie in the last column and row: W / stride - 1, H / stride - 1; no clamp is needed": (
        _with(kept=_last(2, 2))
    ),
    "the hill stands on the whole cell that holds the centre, so its top is 1; here it stands on the exact place": (
        _with(cell=lambda c, stride: c / stride - 0.5)
    ),
    "the hill stands on a whole cell, and a cell's middle lies half a cell further: floor(c / stride)": (
        _with(cell=lambda c, stride: c / stride)
    ),
    "sigma is in pixels, and distances in cells: divide the sides by the stride too": _with(unit=lambda stride: 1),
    "sigma is side / (6 * stride): side / 6 * stride multiplies by the stride": _with(unit=lambda stride: 1 / stride),
    "a small box has a narrow hill: sigma may be below one cell": _with(spread=lambda sigma: sigma.clamp(min=1)),
    "sigma is a sixth of the side, not the side itself": _with(sides=1.0),
    "sigma is a sixth of the side, not of half of it": _with(sides=12.0),
    "sigma is a sixth of the side, not a third": _with(sides=3.0),
    "the 2 is missing: exp(-d² / (2 σ²))": _with(fall=lambda d, s: torch.exp(-((d / s) ** 2).sum(0))),
    "sigma is squared, too: exp(-d² / (2 σ²))": _with(fall=lambda d, s: torch.exp(-(d**2 / s).sum(0) / 2)),
    "only sigma is squared, not 2 σ: exp(-d² / (2 σ²))": (
        _with(fall=lambda d, s: torch.exp(-((d / (2 * s)) ** 2).sum(0)))
    ),
    "brackets are missing: d² / (2 σ²), since d² / 2 * σ² multiplies by σ²": (
        _with(fall=lambda d, s: torch.exp(-(d**2 / 2 * s**2).sum(0)))
    ),
    "the minus is missing: a hill falls off from its centre": (
        _with(fall=lambda d, s: torch.exp(((d / s) ** 2).sum(0) / 2))
    ),
    "the hill is not cut off at the edge of its box: it ends by itself": _with(fall=_inside),
    "the distance is squared: a Gaussian is round at its top": (
        _with(fall=lambda d, s: torch.exp(-(d / s).abs().sum(0) / 2))
    ),
    "each direction has its own sigma; one mean of both is used here": _with(fall=_round_hill),
    "each direction has its own sigma; one of the box's area is used here": _with(fall=_round_by_area),
    "the sigmas are exchanged: that of x comes from the width": _with(spread=lambda sigma: sigma.flip(0)),
    "the top is 1: no factor 1 / (2 π σ σ) in front": (
        _with(height=lambda hill, sigma: hill / (2 * torch.pi * sigma.prod()))
    ),
    "the top is 1: the hill is not divided by its sum": _with(height=lambda hill, sigma: hill / hill.sum()),
    "every hill has the height 1: not the sum of all, divided by its largest value": _by_the_largest,
    "the top is 1 because the hill stands on a whole cell; do not divide by the largest value of a hill between cells": (  # noqa: E501
        _with(cell=lambda c, stride: c / stride - 0.5, height=lambda hill, sigma: hill / hill.max())
    ),
    "the hill stands on a whole cell, floor(c / stride); do not divide it by its largest value": (
        _with(cell=lambda c, stride: c / stride, height=lambda hill, sigma: hill / hill.max())
    ),
    "where two hills overlap the higher one counts: a sum that is cut off at 1 is too high on the slopes": (
        _with(join=lambda before, hill: (before + hill).clamp(max=1))
    ),
    "where two hills overlap the higher one counts: 1 - (1 - a)(1 - b) is higher than both": (
        _with(join=lambda before, hill: 1 - (1 - before) * (1 - hill))
    ),
    "the centre is wanted, not the corner x1 y1": _with(center=lambda box: box[:2]),
    "a width is x2 - x1: without + 1": _with(plus=1.0),
    "only the last box is left: keep the maximum of all hills": _with(join=lambda before, hill: hill),
    "only the first box is drawn: `return` stands inside the loop": lambda b, s, stride: _heatmap(b[:1], s, stride),
    "a box is x1 y1 x2 y2, not y1 x1 y2 x2": lambda b, s, stride: _heatmap(b[:, [1, 0, 3, 2]], s, stride),
    "size is (H, W), height first: H / stride rows of W / stride columns": (
        lambda b, s, stride: _heatmap(b, s[::-1], stride)
    ),
    "the stride is written into the function: use the argument": lambda b, s, stride: _heatmap(b, s, 4),
    "rows are y and columns are x: the map is (H / stride, W / stride), height first": (
        lambda b, s, stride: _heatmap(b, s, stride).T
    ),
    "a hill falls off from its centre; the box is filled with ones here": _filled,
}

"""Checks of notebook 07, Fast R-CNN."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.detection.roi_head import SMOOTH_L1_BETA


def _boxes(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _draw_pooled(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import new_figure, show_image

    figure, axes = new_figure(1, 3, width=4, height=3.6)
    features, boxes, _, stride = case.args
    show_image(features[:1], boxes=boxes / stride, value_range=None, title=f"given: {case.what}", ax=axes[0])
    show_image(expected[0, :1], value_range=None, title="expected", ax=axes[1])
    show_image(got[0, :1], value_range=None, title="got", ax=axes[2])
    return figure


# --------------------------------------------------------------------------------------------------- roi_pool


def roi_pool(student: Callable) -> Callable:
    """Check `my_roi_pool(features (C, Hf, Wf), boxes (R, 4), size, stride) -> (R, C, size, size)` of notebook 07.

    Example:
        >>> roi_pool(reference_roi_pool) is reference_roi_pool
        ✓ roi_pool: 12 cases agree. From here on the notebook uses your function.
        True
    """
    count = torch.arange(60.0).reshape(1, 6, 10)  # grows to the right and down, so the maximum is the last cell
    noise, deep = _random(1, 7, 11, seed=0), _random(3, 8, 13, seed=1)
    several = _boxes([8, 16, 61, 44], [0, 0, 103, 63], [33, 21, 50, 59])
    cases = [
        Case("corners on cells, bins of equal size", (count, _boxes([8, 8, 32, 24]), 2, 8)),
        Case("cells that lie below 0: the maximum is negative", (count - 100, _boxes([8, 8, 32, 24]), 2, 8)),
        Case("bins that share cells: 5 x 3 cells into 2 x 2", (noise, _boxes([8, 16, 40, 32]), 2, 8)),
        Case("corners between cells are rounded", (count, _boxes([11, 13, 43, 27]), 2, 8)),
        Case("corners half way: 2.5 becomes 3", (noise, _boxes([20, 4, 68, 36]), 2, 8)),
        Case("a box smaller than a cell", (noise, _boxes([17, 9, 19, 10]), 3, 8)),
        Case("a box at the far edge: bins that reach over it", (noise, _boxes([40, 24, 88, 56]), 3, 8)),
        Case("a box that begins left of the map: bins that start below 0", (noise, _boxes([-9, 8, 31, 24]), 2, 8)),
        Case("a bin that lies left of the map as a whole: it is 0", (noise, _boxes([-9, 5, 3, 20]), 4, 4)),
        Case("another stride", (noise, _boxes([2, 5, 29, 18]), 3, 4)),
        Case("no boxes", (noise, _boxes(), 3, 8)),
        Case("3 channels, 3 boxes", (deep, several, 3, 8)),
    ]
    return run_check("roi_pool", student, reference_roi_pool, cases, mistakes=ROI_POOL_MISTAKES, draw=_draw_pooled)


def reference_roi_pool(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """torchvision's, on one feature map."""
    return ops.roi_pool(features[None], [boxes], size, spatial_scale=1 / stride)


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _pool(
    features,
    boxes,
    size,
    stride,
    *,
    to_cell=_half_up,
    plus=1,
    stop=math.ceil,
    reduce=None,
    turned=False,
    low=0,
    high=0,
):
    """Pooling with room for the usual slips; the start of a slice is raised to `low`, its end to `high`."""
    result = features.new_zeros(len(boxes), len(features), size, size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (to_cell(v / stride) for v in box)
        width, height = (max(x2 - x1 + plus, 1), max(y2 - y1 + plus, 1))
        for i in range(size):
            for j in range(size):
                top, bottom = y1 + math.floor(i * height / size), y1 + stop((i + 1) * height / size)
                left, right = x1 + math.floor(j * width / size), x1 + stop((j + 1) * width / size)
                cells = features[:, max(top, low) : max(bottom, high), max(left, low) : max(right, high)]
                if cells.numel():
                    pooled = cells.amax((1, 2)) if reduce is None else reduce(cells)
                    result[r, :, j if turned else i, i if turned else j] = pooled
    return result


def _cropped(features, boxes, size, stride):
    """Corners cut off instead of rounded."""
    return _pool(features, boxes, size, stride, to_cell=math.floor)


ROI_POOL_MISTAKES = {
    "the bin's maximum is wanted, not its mean": (
        lambda f, b, n, s: _pool(f, b, n, s, reduce=lambda cells: cells.mean((1, 2)))
    ),
    "the last cell belongs to the box: its width is x2 - x1 + 1 cells": lambda f, b, n, s: _pool(f, b, n, s, plus=0),
    "bins end at the ceiling of their edge, so that they share cells rather than lose them": (
        lambda f, b, n, s: _pool(f, b, n, s, stop=math.floor)
    ),
    "corners are rounded to the nearest cell, not cut off": _cropped,
    "Python's round() takes halves to the even number; floor(v + 0.5) takes them up": (
        lambda f, b, n, s: _pool(f, b, n, s, to_cell=round)
    ),
    "rows are y and columns are x: the result is turned": lambda f, b, n, s: _pool(f, b, n, s, turned=True),
    "boxes are in pixels: divide by the stride to get cells": lambda f, b, n, s: _pool(f, b, n, 1),
    "a slice that starts below 0 counts from the end in Python: raise both of its ends to 0": (
        lambda f, b, n, s: _pool(f, b, n, s, low=-math.inf, high=-math.inf)
    ),
    "a slice that ends below 0 counts from the end in Python: raise its end to 0 too": (
        lambda f, b, n, s: _pool(f, b, n, s, high=-math.inf)
    ),
    "a bin can lie below 0 everywhere: do not start its maximum at 0": (
        lambda f, b, n, s: _pool(f, b, n, s).clamp(min=0)
    ),
}


# -------------------------------------------------------------------------------------------------- roi_align


def roi_align(student: Callable) -> Callable:
    """Check `my_roi_align(features (C, Hf, Wf), boxes (R, 4), size, stride) -> (R, C, size, size)` of notebook 07.

    Example:
        >>> roi_align(reference_roi_align) is reference_roi_align
        ✓ roi_align: 9 cases agree. From here on the notebook uses your function.
        True
    """
    slope = (torch.arange(6.0)[:, None] * 10 + torch.arange(10.0))[None]  # on a plane bilinear is exact
    noise, deep = _random(1, 7, 11, seed=2), _random(3, 8, 13, seed=3)
    several = _boxes([9, 16, 61, 44.5], [0, 0, 104, 64], [33, 21, 50, 59])
    cases = [
        Case("one bin over one cell of a plane", (slope, _boxes([24, 16, 32, 24]), 1, 8)),
        Case("2 x 2 bins on a plane", (slope, _boxes([16, 12, 48, 28]), 2, 8)),
        Case("2 x 2 bins on noise", (noise, _boxes([16, 12, 48, 28]), 2, 8)),
        Case("corners between cells", (noise, _boxes([19, 13.5, 61, 30]), 3, 8)),
        Case("a box smaller than a cell", (noise, _boxes([33, 18, 36, 23]), 2, 8)),
        Case("a box that fills the map: samples beyond the last cell's middle", (noise, _boxes([0, 0, 88, 56]), 8, 8)),
        Case("another stride", (noise, _boxes([3, 5, 29, 18]), 3, 4)),
        Case("no boxes", (noise, _boxes(), 3, 8)),
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


def reference_roi_align(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """torchvision's, on one feature map, 2 x 2 samples a bin, pixels counted rightly."""
    return ops.roi_align(features[None], [boxes], size, spatial_scale=1 / stride, sampling_ratio=2, aligned=True)


def _bilinear(features: Tensor, y: float, x: float) -> Tensor:
    height, width = features.shape[1:]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * features[:, top, left] + across * features[:, top, right]
    lower = (1 - across) * features[:, bottom, left] + across * features[:, bottom, right]
    return (1 - down) * upper + down * lower


def _nearest(features: Tensor, y: float, x: float) -> Tensor:
    height, width = features.shape[1:]
    return features[:, min(max(_half_up(y), 0), height - 1), min(max(_half_up(x), 0), width - 1)]


def _align(
    features,
    boxes,
    size,
    stride,
    *,
    half=0.5,
    parts=(0.25, 0.75),
    look=_bilinear,
    to_cell=lambda v: v,
    turned=False,
    reduce=None,
):
    """Sampling with room for the usual slips."""
    result = features.new_zeros(len(boxes), len(features), size, size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (to_cell(v / stride) - half for v in box)
        for i in range(size):
            for j in range(size):
                seen = torch.stack(
                    [
                        look(features, y1 + (i + a) * (y2 - y1) / size, x1 + (j + b) * (x2 - x1) / size)
                        for a in parts
                        for b in parts
                    ]
                )
                value = seen.mean(0) if reduce is None else reduce(seen)
                result[r, :, j if turned else i, i if turned else j] = value
    return result


ROI_ALIGN_MISTAKES = {
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
}


# -------------------------------------------------------------------------------------------- multi_task_loss


def multi_task_loss(student: Callable) -> Callable:
    """Check `my_multi_task_loss(class_logits (R, K), deltas (R, K, 4), labels (R,), targets (R, 4))` of notebook 07.

    It gives back two numbers, the loss of the classes and that of the boxes.

    Example:
        >>> multi_task_loss(reference_multi_task_loss) is reference_multi_task_loss
        ✓ multi_task_loss: 8 cases agree. From here on the notebook uses your function.
        True
    """
    zeros = torch.zeros(1, 3), torch.zeros(1, 3, 4)

    def case(rows: int, seed: int, *, spread: float = 0.3):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (rows,), generator=generator)
        labels[0] = 2
        values = 2 * _random(rows, 3, seed=seed), _random(rows, 3, 4, seed=seed + 1) * spread
        return (*values, labels, _random(rows, 4, seed=seed + 2) * spread)

    logits, deltas, labels, targets = case(5, 11)
    cases = [
        Case("one proposal of class 1, nothing learned yet", (*zeros, torch.tensor([1]), torch.full((1, 4), 0.05))),
        Case("one proposal far off: the line", (*zeros, torch.tensor([2]), torch.tensor([[1.0, -2.0, 0.5, 3.0]]))),
        Case("one of background: it has no box", (*zeros, torch.tensor([0]), torch.ones(1, 4))),
        Case("one of class 2 among three of background", (*case(4, 8)[:2], torch.tensor([0, 0, 2, 0]), targets[:4])),
        Case("all background: the boxes' loss is 0", (logits, deltas, torch.zeros_like(labels), targets)),
        Case("5 proposals", (logits, deltas, labels, targets)),
        Case("6 proposals, small differences: the parabola", case(6, 20, spread=0.03)),
        Case("40 proposals", case(40, 30, spread=1.0)),
    ]
    return run_check("multi_task_loss", student, reference_multi_task_loss, cases, mistakes=MULTI_TASK_LOSS_MISTAKES)


def reference_multi_task_loss(
    class_logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """What `RoIHead.losses` adds up."""
    return _loss(class_logits, deltas, labels, targets)


def _loss(
    class_logits, deltas, labels, targets, *, beta=SMOOTH_L1_BETA, share="all", which="own", foreground=True, power=None
):
    """The two losses with room for the usual slips."""
    rows = (labels > 0).nonzero()[:, 0] if foreground else torch.arange(len(labels), device=labels.device)
    column = {"own": labels[rows], "before": (labels[rows] - 1).clamp(min=0), "first": torch.ones_like(rows)}[which]
    predicted, wanted = deltas[rows, column], targets[rows]
    if power:
        total = (predicted - wanted).abs().pow(power).sum()
    else:
        total = F.smooth_l1_loss(predicted, wanted, beta=beta, reduction="sum")
    count = {"all": len(labels), "foreground": max(len(rows), 1), "numbers": 4 * max(len(rows), 1), "none": 1}[share]
    return F.cross_entropy(class_logits, labels), total / count


def _softmax_first(class_logits, deltas, labels, targets):
    return F.cross_entropy(class_logits.softmax(dim=1), labels), _loss(class_logits, deltas, labels, targets)[1]


def _summed(class_logits, deltas, labels, targets):
    own = _loss(class_logits, deltas, labels, targets)[1]
    return F.cross_entropy(class_logits, labels, reduction="sum"), own


MULTI_TASK_LOSS_MISTAKES = {
    "background has no box: only rows with a label above 0 count for the boxes": (
        lambda *a: _loss(*a, foreground=False)
    ),
    "the boxes' loss is divided by all proposals, not by those of the foreground": (
        lambda *a: _loss(*a, share="foreground")
    ),
    "smooth_l1_loss takes a mean by default; sum it and divide by all proposals": lambda *a: _loss(*a, share="numbers"),
    "the boxes' loss is a sum: divide it by the number of proposals": lambda *a: _loss(*a, share="none"),
    "every proposal has a box a class: take that of its own label": lambda *a: _loss(*a, which="first"),
    "column 0 is background: the box of class k stands in column k": lambda *a: _loss(*a, which="before"),
    "smooth L1 bends at 1/9, not at 1": lambda *a: _loss(*a, beta=1.0),
    "these are squares: smooth L1 is a line far off": lambda *a: _loss(*a, power=2),
    "these are absolute values: smooth L1 is a parabola near 0": lambda *a: _loss(*a, power=1),
    "cross_entropy takes logits and applies the softmax itself": _softmax_first,
    "the classes' loss is a mean over all proposals": _summed,
}

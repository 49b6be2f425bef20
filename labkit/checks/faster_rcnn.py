"""Checks of notebook 08, Faster R-CNN: anchors, and which truth each gets. Their loss: faster_rcnn_loss.py."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows

# ---------------------------------------------------------------------------------------------------- anchors


def anchors(student: Callable) -> Callable:
    """Check `my_anchors(feature_size, stride, sizes, aspect_ratios) -> (h w K, 4)` of notebook 08.

    Example:
        >>> def upside_down(feature_size, stride, sizes, aspect_ratios):
        ...     return reference_anchors(feature_size, stride, sizes, [1 / ratio for ratio in aspect_ratios])
        >>> anchors(upside_down).__name__
        ✗ anchors: one cell, an anchor four times as high as wide
        ...
          likely: the ratio is upside down: it is height / width
        ...
        'reference_anchors'
    """
    cases = [
        Case("one cell, one square anchor", ((1, 1), 8, [6.0], [1.0])),
        Case("one cell, an anchor four times as high as wide", ((1, 1), 8, [10.0], [4.0])),
        Case("a row of three cells", ((1, 3), 8, [6.0], [1.0])),
        Case("a column of two cells", ((2, 1), 16, [6.0], [1.0])),
        Case("one cell, two sizes", ((1, 1), 4, [6.0, 20.0], [1.0])),
        Case("one cell, two ratios and three sizes", ((1, 1), 4, [6.0, 20.0, 9.0], [0.25, 2.25])),
        Case("two rows, three columns, ratio 1/4", ((2, 3), 5, [8.0], [0.25])),
        Case("no cell", ((0, 4), 8, [6.0], [1.0])),
        Case("a map of 4 rows and 7 columns, 6 anchors a cell", ((4, 7), 8, [12.0, 24.0, 48.0], [0.5, 2.0])),
    ]
    return run_check("anchors", student, reference_anchors, cases, mistakes=ANCHORS_MISTAKES, draw=_draw_anchors)


def reference_anchors(
    feature_size: tuple[int, int], stride: float, sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> Tensor:
    """(h w K, 4) anchors, row-major: y, then x, then ratio, then size; not rounded."""
    return _grid(feature_size, stride, _cell(sizes, aspect_ratios))


def _cell(sizes, ratios, *, height=lambda s, r: s * r**0.5, width=lambda s, r: s / r**0.5, ratio_first=True) -> Tensor:
    """(K, 2) widths and heights of one cell's anchors."""
    pairs = [(s, r) for r in ratios for s in sizes] if ratio_first else [(s, r) for s in sizes for r in ratios]
    return torch.tensor([[width(s, r), height(s, r)] for s, r in pairs], dtype=torch.float32).reshape(-1, 2)


def _grid(feature_size, stride, cell: Tensor, *, half=0.5, shift=0.0, columns_first=False, turned=False) -> Tensor:
    rows, columns = feature_size
    y, x = torch.meshgrid(torch.arange(rows) * 1.0, torch.arange(columns) * 1.0, indexing="ij")
    center = torch.stack([y, x] if turned else [x, y], dim=-1)  # (h, w, 2)
    center = center.transpose(0, 1) if columns_first else center
    center = (center + shift).reshape(-1, 1, 2) * stride  # (h w, 1, 2)
    return torch.cat([center - half * cell, center + half * cell], dim=-1).reshape(-1, 4)


ANCHORS_MISTAKES: dict[str, Callable] = {
    "x is the slowest: go row by row, y outside and x inside, as the features are flattened": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r), columns_first=True)
    ),
    "x and y of the centres are exchanged: column x stands at x * stride": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r), turned=True)
    ),
    "sizes outside, ratios inside: the order in a cell is ratio by ratio, each with all sizes": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r, ratio_first=False))
    ),
    "the ratio is upside down: it is height / width": lambda f, t, s, r: _grid(f, t, _cell(s, r).flip(1)),
    "the area changes with the ratio: multiply and divide by its square root": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r, height=lambda s, r: s * r, width=lambda s, r: s))
    ),
    "the square root is missing: h = s * sqrt(r), w = s / sqrt(r)": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r, height=lambda s, r: s * r, width=lambda s, r: s / r))
    ),
    "all anchors are squares: use the ratio": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r, height=lambda s, r: s, width=lambda s, r: s))
    ),
    "the anchors are twice as large: go half a width to each side": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r), half=1.0)
    ),
    "the centres are half a cell too far: here cell (y, x) has its anchors around (x * stride, y * stride)": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r), shift=0.5)
    ),
    "the centres count cells, not pixels: multiply by the stride": lambda f, t, s, r: _grid(f, 1, _cell(s, r)),
    "centre and size came back: give x1 y1 x2 y2": (
        lambda f, t, s, r: ops.box_convert(reference_anchors(f, t, s, r), "xyxy", "cxcywh")
    ),
    "these are the anchors of one cell: shift them to every cell": lambda f, t, s, r: _grid((1, 1), t, _cell(s, r)),
    "feature_size is (rows, columns): y runs over the first, x over the second": (
        lambda f, t, s, r: reference_anchors(f[::-1], t, s, r)
    ),
    "half a width is no whole number: divide with /, not with //": (
        lambda f, t, s, r: _grid(f, t, _cell(s, r) // 2 * 2)
    ),
    "nothing is rounded": lambda f, t, s, r: reference_anchors(f, t, s, r).round(),
    "one anchor is missing for each size but the last: does the append stand in the innermost loop?": (
        lambda f, t, s, r: _grid(f, t, _cell(s[-1:], r))
    ),
    "y comes before x in each row: give x1 y1 x2 y2": lambda f, t, s, r: reference_anchors(f, t, s, r)[:, [1, 0, 3, 2]],
    "the last row of cells is missing: range(n) stops before n already": (
        lambda f, t, s, r: reference_anchors((max(f[0] - 1, 0), f[1]), t, s, r)
    ),
    "nothing is clipped: anchors may reach over the left and upper edge": (
        lambda f, t, s, r: reference_anchors(f, t, s, r).clamp(min=0)
    ),
    "the grid is not flattened: reshape(-1, 4)": (
        lambda f, t, s, r: reference_anchors(f, t, s, r).reshape(*f, len(s) * len(r), 4)
    ),
}


def _draw_anchors(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, MANY, fit, number_boxes, panels
    from labkit.plotting import show_boxes

    figure, axes = panels(2, title=f"{case.what}: the first {MANY} in their order", width=4.4, height=3.8)
    for ax, boxes, name, color in zip(axes, (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True):
        show_boxes(boxes[:MANY], color=color, width=1.5, ax=ax)
        number_boxes(ax, boxes[:MANY], color=color)
        ax.set_title(f"{name}: {len(boxes)} anchors", color=color)
    fit(axes, torch.cat([expected[:MANY], got.reshape(-1, 4)[:MANY]]))
    return figure


# ---------------------------------------------------------------------------------------------- match_anchors


def match_anchors(student: Callable) -> Callable:
    """Check `my_match_anchors(anchors (A, 4), boxes (N, 4), positive_iou, negative_iou) -> (A,) int64` of notebook 08.

    Example:
        >>> match_anchors(lambda *args: reference_match(*args).clamp(min=-1)).__name__  # nothing is ignored
        ✗ match_anchors: IoU exactly at the negative threshold: below it is background
        ...
          likely: nothing is ignored: between the thresholds an anchor is -2
        ...
        'reference_match'
    """
    box = box_rows([0, 0, 12, 8])
    quarter, half, three = box_rows([0, 0, 6, 4]), box_rows([0, 0, 6, 8]), box_rows([0, 0, 9, 8])  # IoU 1/4, 1/2, 3/4
    far, one = box_rows([40, 30, 52, 38]), box_rows([0, 0, 12, 8])
    two = box_rows([0, 0, 16, 8], [8, 0, 24, 8])
    between = box_rows([4, 0, 20, 8], [6, 0, 22, 8], [0, 0, 15, 8], [9, 0, 24, 8])
    crossed = box_rows([0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 30, 9], [60, 0, 70, 5])
    crowd, truths = crowd_of_anchors()
    cases = [
        Case("one anchor on the box, one far away", (torch.cat([one, far]), box, 0.5, 0.25)),
        Case(
            "IoU exactly at the positive threshold: from there on an object",
            (torch.cat([half, one, far]), box, 0.5, 0.25),
        ),
        Case(
            "IoU exactly at the negative threshold: below it is background",
            (torch.cat([quarter, one, far]), box, 0.5, 0.25),
        ),
        Case("in between: ignored", (torch.cat([three, half, quarter, far]), box, 0.75, 0.25)),
        Case(
            "no anchor reaches the threshold: the best one is taken", (torch.cat([quarter, half, far]), box, 0.75, 0.25)
        ),
        Case("the best one is poorer than background", (torch.cat([far, quarter]), box, 0.75, 0.5)),
        Case(
            "two anchors are equally good, and the best there is",
            (torch.cat([half, quarter, box_rows([6, 0, 12, 8])]), box, 0.75, 0.5),
        ),
        Case("no anchor touches the box", (torch.cat([far, far + 30]), box, 0.75, 0.25)),
        Case("no boxes: all background", (torch.cat([one, far]), box_rows(), 0.75, 0.25)),
        Case("two boxes, anchors between them", (between, two, 0.75, 0.5)),
        Case(
            "the best anchor of box 1 lies better on box 0: it goes to box 0",
            (crossed[[1, 3]], crossed[[0, 2]], 0.75, 0.25),
        ),
        Case("60 anchors, 4 boxes", (crowd, truths, 0.5, 0.25)),
        Case("60 anchors, 4 boxes, wide gap", (crowd, truths, 0.75, 0.125)),
    ]
    return run_check(
        "match_anchors", student, reference_match, cases, mistakes=MATCH_ANCHORS_MISTAKES, draw=_draw_match
    )


def crowd_of_anchors() -> tuple[Tensor, Tensor]:
    """60 anchors near four truths, in a frame wider than high."""
    generator = torch.Generator().manual_seed(3)
    truths = box_rows([10, 12, 34, 28], [50, 8, 62, 36], [70, 30, 100, 44], [28, 20, 44, 40])
    rows = torch.arange(60) % 4
    sides = (truths[rows, 2:] - truths[rows, :2]) * (0.3 * torch.randn(60, 2, generator=generator)).exp()
    centers = (truths[rows, :2] + truths[rows, 2:]) / 2 + 5 * torch.randn(60, 2, generator=generator)
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1), truths


def reference_match(anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    """(A,) int64: the box an anchor is trained on, -1 background, -2 ignored."""
    return _match(anchors, boxes, positive_iou, negative_iou)


def _match(
    anchors: Tensor,
    boxes: Tensor,
    positive_iou: float,
    negative_iou: float,
    *,
    reaches: Callable = torch.ge,
    below: Callable = torch.lt,
    rescue: str = "all",
    touch: bool = True,
    to_own_box: bool = False,
    late: bool = False,
    background: int = -1,
    ignored: int = -2,
) -> Tensor:
    """Matching with room for the usual slips."""
    if len(boxes) == 0:
        return torch.full((len(anchors),), background, device=anchors.device)
    iou = ops.box_iou(boxes, anchors)  # (N, A)
    best_iou, best_box = iou.max(dim=0)  # (A,)
    matches = torch.full_like(best_box, ignored)
    matches[below(best_iou, negative_iou)] = background
    positive = reaches(best_iou, positive_iou)
    matches[positive] = best_box[positive]
    for n in range(len(boxes)):
        best = (iou[n] == (iou if rescue == "one" else iou[n]).max()) & ((iou[n] > 0) | (not touch))
        if rescue == "first":
            best = best & (torch.arange(len(best), device=best.device) == best.float().argmax())
        if rescue:
            matches[best] = n if to_own_box else best_box[best]
    return torch.where(below(best_iou, negative_iou), background, matches) if late else matches


def _by_box(anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    return ops.box_iou(boxes, anchors).argmax(dim=1)


def _no_way_out(anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    ops.box_iou(boxes, anchors).max(dim=0)  # an IndexError where there are no boxes
    return reference_match(anchors, boxes, positive_iou, negative_iou)


MATCH_ANCHORS_MISTAKES: dict[str, Callable] = {
    "a box that no anchor fits well gets none: its best anchor is an object too, however poor": (
        lambda a, b, p, n: _match(a, b, p, n, rescue="")
    ),
    "of several anchors that are equally good only the first is taken: compare with the maximum": (
        lambda a, b, p, n: _match(a, b, p, n, rescue="first")
    ),
    "an anchor that does not touch the box is taken for its best: ask for IoU > 0": (
        lambda a, b, p, n: _match(a, b, p, n, touch=False)
    ),
    "a box takes its best anchor from a box that fits it better: match it to the box it overlaps most": (
        lambda a, b, p, n: _match(a, b, p, n, to_own_box=True)
    ),
    "an IoU equal to positive_iou is an object: use >=": lambda a, b, p, n: _match(a, b, p, n, reaches=torch.gt),
    "an IoU equal to negative_iou is ignored, not background: use <": (
        lambda a, b, p, n: _match(a, b, p, n, below=torch.le)
    ),
    "background is set after the best anchors, and takes them back: the best anchor of a box comes last": (
        lambda a, b, p, n: _match(a, b, p, n, late=True)
    ),
    "only the best anchor of all is taken: every box has a best one, iou.max(dim=1)": (
        lambda a, b, p, n: _match(a, b, p, n, rescue="one")
    ),
    "background and ignored are exchanged: background is -1, ignored is -2": (
        lambda a, b, p, n: _match(a, b, p, n, background=-2, ignored=-1)
    ),
    "nothing is ignored: between the thresholds an anchor is -2": (lambda a, b, p, n: _match(a, b, p, n, ignored=-1)),
    "0 and 1 came back: an anchor that finds an object says which, the row of its box": (
        lambda a, b, p, n: reference_match(a, b, p, n).clamp(max=0) + (reference_match(a, b, p, n) >= 0).long()
    ),
    "the thresholds are exchanged": lambda a, b, p, n: _match(a, b, n, p),
    "without a box there is nothing to take a maximum of: then every anchor is background, -1": _no_way_out,
    "these are the best anchors of the boxes: give one number for each anchor": _by_box,
}


def _draw_match(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, MANY, fit, legend, number_boxes, panels
    from labkit.plotting import COLORS, show_boxes

    anchors, boxes = (value.cpu() for value in case.args[:2])
    looks = {"background": (COLORS["blue"], ":"), "ignored": ("0.6", "-"), "object": (COLORS["orange"], "-")}
    figure, axes = panels(2, title=f"{case.what}: at each anchor its number", width=4.8, height=3.8)
    pairs = (("expected", expected.cpu(), EXPECTED), ("got", got.cpu(), GOT))
    for ax, (title, matches, color) in zip(axes, pairs, strict=True):
        rows = {"background": matches == -1, "ignored": matches == -2, "object": matches >= 0}
        for name, (line, style) in looks.items():
            show_boxes(anchors[rows[name]], color=line, style=style, name=name, width=2, ax=ax)
        show_boxes(boxes, color=COLORS["green"], width=3.5, name="truth", ax=ax)
        if len(anchors) <= MANY:
            number_boxes(ax, anchors, color="0.3", words=[str(m) for m in matches.tolist()])
        ax.set_title(f"{title}: {int((matches >= 0).sum())} objects", color=color)
    fit(axes, torch.cat([anchors, boxes]))
    legend(axes[1])
    return figure

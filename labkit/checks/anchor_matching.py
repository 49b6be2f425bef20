"""Checks of notebook 08, Faster R-CNN: anchors, which truth each gets, and the loss of the proposal network."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.detection.boxes import decode_boxes, encode_boxes
from labkit.detection.roi_head import SMOOTH_L1_BETA


def _boxes(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# ---------------------------------------------------------------------------------------------------- anchors


def anchors(student: Callable) -> Callable:
    """Check `my_anchors(feature_size, stride, sizes, aspect_ratios) -> (h w K, 4)` of notebook 08.

    Example:
        >>> anchors(reference_anchors) is reference_anchors
        ✓ anchors: 9 cases agree. From here on the notebook uses your function.
        True
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
    ]  # fmt: skip
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
    centre = torch.stack([y, x] if turned else [x, y], dim=-1)  # (h, w, 2)
    centre = centre.transpose(0, 1) if columns_first else centre
    centre = (centre + shift).reshape(-1, 1, 2) * stride  # (h w, 1, 2)
    return torch.cat([centre - half * cell, centre + half * cell], dim=-1).reshape(-1, 4)


ANCHORS_MISTAKES = {
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
    "the grid is not flattened: reshape(-1, 4)": (
        lambda f, t, s, r: reference_anchors(f, t, s, r).reshape(*f, len(s) * len(r), 4)
    ),
}


def _draw_anchors(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_boxes

    figure, axes = new_figure(1, 2, width=4.6, height=3.8, sharex=True, sharey=True)
    pair = zip(axes, (expected, got), ("expected", "got"), (COLORS["green"], COLORS["red"]), strict=True)
    for ax, boxes, title, color in pair:
        show_boxes(boxes[:24].reshape(-1, 4), color=color, width=1.5, ax=ax)
        ax.set_title(f"{title}: the first of {len(boxes)}", color=color)
    return figure


# ---------------------------------------------------------------------------------------------- match_anchors


def match_anchors(student: Callable) -> Callable:
    """Check `my_match_anchors(anchors (A, 4), boxes (N, 4), positive_iou, negative_iou) -> (A,) int64` of notebook 08.

    Example:
        >>> match_anchors(reference_match) is reference_match
        ✓ match_anchors: 13 cases agree. From here on the notebook uses your function.
        True
    """
    box = _boxes([0, 0, 12, 8])
    quarter, half, three = _boxes([0, 0, 6, 4]), _boxes([0, 0, 6, 8]), _boxes([0, 0, 9, 8])  # IoU 1/4, 1/2, 3/4
    far, one = _boxes([40, 30, 52, 38]), _boxes([0, 0, 12, 8])
    two = _boxes([0, 0, 16, 8], [8, 0, 24, 8])
    between = _boxes([4, 0, 20, 8], [6, 0, 22, 8], [0, 0, 15, 8], [9, 0, 24, 8])
    crossed = _boxes([0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 30, 9], [60, 0, 70, 5])
    crowd, truths = _crowd()
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
            (torch.cat([half, quarter, _boxes([6, 0, 12, 8])]), box, 0.75, 0.5),
        ),
        Case("no anchor touches the box", (torch.cat([far, far + 30]), box, 0.75, 0.25)),
        Case("no boxes: all background", (torch.cat([one, far]), _boxes(), 0.75, 0.25)),
        Case("two boxes, anchors between them", (between, two, 0.75, 0.5)),
        Case(
            "the best anchor of box 1 lies better on box 0: it goes to box 0",
            (crossed[[1, 3]], crossed[[0, 2]], 0.75, 0.25),
        ),
        Case("60 anchors, 4 boxes", (crowd, truths, 0.5, 0.25)),
        Case("60 anchors, 4 boxes, wide gap", (crowd, truths, 0.75, 0.125)),
    ]
    return run_check("match_anchors", student, reference_match, cases, mistakes=MATCH_MISTAKES, draw=_draw_match)


def _crowd() -> tuple[Tensor, Tensor]:
    """60 anchors near four truths, in a frame wider than high."""
    generator = torch.Generator().manual_seed(3)
    truths = _boxes([10, 12, 34, 28], [50, 8, 62, 36], [70, 30, 100, 44], [28, 20, 44, 40])
    rows = torch.arange(60) % 4
    sides = (truths[rows, 2:] - truths[rows, :2]) * (0.3 * torch.randn(60, 2, generator=generator)).exp()
    centres = (truths[rows, :2] + truths[rows, 2:]) / 2 + 5 * torch.randn(60, 2, generator=generator)
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=1), truths


def reference_match(anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    """(A,) int64: the box an anchor is trained on, -1 background, -2 ignored."""
    return _match(anchors, boxes, positive_iou, negative_iou)


def _match(
    anchors, boxes, positive_iou, negative_iou, *, reaches=torch.ge, below=torch.lt, rescue="all", touch=True,
    to_own_box=False, background=-1, ignored=-2,
) -> Tensor:  # fmt: skip
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
        best = (iou[n] == iou[n].max()) & ((iou[n] > 0) | (not touch))
        if rescue == "first":
            best = best & (torch.arange(len(best), device=best.device) == best.float().argmax())
        if rescue:
            matches[best] = n if to_own_box else best_box[best]
    return matches


def _by_box(anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    return ops.box_iou(boxes, anchors).argmax(dim=1)


MATCH_MISTAKES = {
    "a box that no anchor fits well gets none: its best anchor is an object too, however poor": (
        lambda a, b, p, n: _match(a, b, p, n, rescue=None)
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
    "background and ignored are exchanged: background is -1, ignored is -2": (
        lambda a, b, p, n: _match(a, b, p, n, background=-2, ignored=-1)
    ),
    "nothing is ignored: between the thresholds an anchor is -2": (
        lambda a, b, p, n: _match(a, b, p, n, ignored=-1)
    ),
    "0 and 1 came back: an anchor that finds an object says which, the row of its box": (
        lambda a, b, p, n: reference_match(a, b, p, n).clamp(max=0) + (reference_match(a, b, p, n) >= 0).long()
    ),
    "the thresholds are exchanged": lambda a, b, p, n: _match(a, b, n, p),
    "these are the best anchors of the boxes: give one number for each anchor": _by_box,
}  # fmt: skip


def _draw_match(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_boxes

    anchors, boxes = case.args[:2]
    colors = {"object": COLORS["orange"], "background": COLORS["blue"], "ignored": "0.6"}
    figure, axes = new_figure(1, 2, width=4.8, height=3.8, sharex=True, sharey=True)
    for ax, matches, title in zip(axes, (expected, got), ("expected", "got"), strict=True):
        for name, rows in (("background", matches == -1), ("ignored", matches == -2), ("object", matches >= 0)):
            show_boxes(anchors[rows], color=colors[name], name=name, width=1.5, ax=ax)
        show_boxes(boxes, color=COLORS["green"], style="--", name="truth", ax=ax)
        ax.set_title(f"{title}: {int((matches >= 0).sum())} objects")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# --------------------------------------------------------------------------------------------------- rpn_loss


def rpn_loss(student: Callable) -> Callable:
    """Check `my_rpn_loss(logits (A,), deltas (A, 4), anchors, boxes, matches (A,)) -> two scalars` of notebook 08.

    Example:
        >>> rpn_loss(reference_rpn_loss) is reference_rpn_loss
        ✓ rpn_loss: 8 cases agree. From here on the notebook uses your function.
        True
    """
    anchors = _boxes([0, 0, 16, 8], [4, 2, 14, 22], [30, 10, 50, 20], [31, 12, 47, 30], [60, 0, 70, 12])
    boxes = _boxes([2, 1, 14, 9], [28, 9, 52, 22])
    logits = torch.tensor([1.5, -0.5, 2.0, 0.25, -3.0])
    deltas = torch.tensor(
        [[0.1, -0.2, 0.3, 0.05], [0.5, 0, -0.5, 0.25], [0.02, 0.12, 0.2, 0.2], [1, -1, 0.4, -0.6], [2, 2, 2, 2]]
    )

    def case(what: str, matches: list[int], rows=slice(None), truths=boxes) -> Case:
        return Case(what, (logits[rows], deltas[rows], anchors[rows], truths, torch.tensor(matches)))

    generator = torch.Generator().manual_seed(5)
    many, truths = _crowd()
    noise = 0.3 * torch.randn(60, 4, generator=generator)
    matches = reference_match(many, truths, 0.5, 0.25)
    cases = [
        case("one anchor, an object", [0], slice(0, 1)),
        case("one anchor, background", [-1], slice(0, 1)),
        case("an object and a background", [0, -1], slice(0, 2)),
        case("an ignored anchor says nothing", [0, -2, -1], slice(0, 3)),
        case("two boxes", [0, -1, 1, 1, -1]),
        case("the second box comes first", [1, -2, 0, -2, -1]),
        case("an image without objects", [-1, -1, -2, -1, -1], truths=_boxes()),
        Case("60 anchors", (4 * torch.randn(60, generator=generator), noise, many, truths, matches)),
    ]  # fmt: skip
    return run_check("rpn_loss", student, reference_rpn_loss, cases, mistakes=RPN_LOSS_MISTAKES)


def reference_rpn_loss(logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: Tensor, matches: Tensor) -> tuple:
    """(objectness, box): cross entropy averaged, smooth L1 summed over objects, both over the anchors that count."""
    return _loss(logits, deltas, anchors, boxes, matches)


def _loss(
    logits, deltas, anchors, boxes, matches, *, used=lambda m: m != -2, entropy=F.binary_cross_entropy_with_logits,
    beta=SMOOTH_L1_BETA, norm=None, target=encode_boxes, rows=None, objects=lambda m: m >= 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The two losses with room for the usual slips."""
    counts, positive = used(matches), matches >= 0
    objectness = entropy(logits[counts], objects(matches)[counts].float())
    matched = boxes[matches[positive] if rows is None else rows(matches[positive])]
    wanted = target(matched, anchors[positive])
    box = F.smooth_l1_loss(deltas[positive], wanted, beta=beta, reduction="sum")
    return objectness, box / (counts.sum() if norm is None else norm(matches))


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")


def _in_pixels(logits, deltas, anchors, boxes, matches) -> tuple[Tensor, Tensor]:
    rows = matches >= 0
    difference = F.smooth_l1_loss(
        decode_boxes(deltas[rows], anchors[rows]), boxes[matches[rows]], beta=SMOOTH_L1_BETA, reduction="sum"
    )
    return _loss(logits, deltas, anchors, boxes, matches)[0], difference / (matches != -2).sum()


RPN_LOSS_MISTAKES = {
    "ignored anchors are trained as background: leave out matches == -2": (
        lambda *args: _loss(*args, used=lambda m: m > -3)
    ),
    "the objectness is learned on objects alone: background counts as well": (
        lambda *args: (_loss(*args, used=lambda m: m >= 0)[0], _loss(*args)[1])
    ),
    "the objectness is summed: take the mean over the anchors that count": lambda *args: _loss(*args, entropy=_summed),
    "the sigmoid is taken twice: binary_cross_entropy_with_logits wants the logits": (
        lambda *args: _loss(*args, entropy=lambda s, t: F.binary_cross_entropy_with_logits(s.sigmoid(), t))
    ),
    "object and background are exchanged: the target is 1 where matches >= 0": (
        lambda *args: _loss(*args, objects=lambda m: m < 0)
    ),
    "box 0 counts as background: an object is matches >= 0": lambda *args: _loss(*args, objects=lambda m: m > 0),
    "the box loss is divided by the objects: divide by all anchors that count": (
        lambda *args: _loss(*args, norm=lambda m: (m >= 0).sum().clamp(min=1))
    ),
    "the box loss is a mean over objects and coordinates: sum it, then divide by the anchors that count": (
        lambda *args: _loss(*args, norm=lambda m: (4 * (m >= 0).sum()).clamp(min=1))
    ),
    "the box loss is divided by all anchors, the ignored ones too: divide by those that count": (
        lambda *args: _loss(*args, norm=len)
    ),
    "the box loss is not divided: divide by the anchors that count": lambda *args: _loss(*args, norm=lambda m: 1),
    "smooth L1 turns at 1: pass beta=1/9": lambda *args: _loss(*args, beta=1.0),
    "this is L1 without the parabola: pass beta=1/9": lambda *args: _loss(*args, beta=0.0),
    "anchors and boxes are exchanged: encode_boxes(boxes, anchors)": (
        lambda *args: _loss(*args, target=lambda b, a: encode_boxes(a, b))
    ),
    "boxes are compared in pixels: compare deltas": _in_pixels,
    "every object is trained on box 0: take boxes[matches]": lambda *args: _loss(*args, rows=torch.zeros_like),
}

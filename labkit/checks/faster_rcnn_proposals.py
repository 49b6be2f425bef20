"""The check of notebook 08, Faster R-CNN: the boxes made of what the region proposal network says."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, floats, noise, scattered_boxes
from labkit.detection.boxes import decode_boxes


def rpn_proposals(student: Callable) -> Callable:
    """Check `my_rpn_proposals(logits, deltas, anchors, image_size, before, after, iou_threshold) -> (R, 4)` of nb 08.

    Example:
        >>> rpn_proposals(lambda *args: _proposals(*args, clip=lambda boxes, image_size: boxes)).__name__
        ✗ rpn_proposals: a box that reaches over the right and the lower edge
        ...
          likely: the boxes are not clipped to the image
        ...
        'reference_rpn_proposals'
    """
    inside = box_rows([10, 6, 26, 14])
    pair = box_rows([10, 6, 30, 16], [11, 6, 31, 16])  # IoU 0.905
    half = box_rows([0, 0, 12, 5], [0, 0, 6, 5])  # IoU exactly 1/2
    apart = box_rows([4, 4, 16, 12], [40, 20, 60, 34], [70, 8, 80, 20], [24, 30, 38, 44])
    over = box_rows([80, 10, 100, 30], [80, 10, 116, 30])  # IoU 0.56; clipped to 90 x 50 they are one box
    many = scattered_boxes(60, seed=2)
    scores, moves = floats(-2, 1.5, 0.25, -0.5), 0.4 * noise(4, 4, seed=1)
    still = torch.zeros(4, 4)

    def case(what, logits, deltas, anchors, before=9, after=9, iou_threshold=0.7, size=(50, 90)) -> Case:
        return Case(what, (logits, deltas, anchors, size, before, after, iou_threshold))

    cases = [
        case("one anchor that need not move", floats(0.5), still[:1], inside),
        case("one anchor, shifted and stretched", floats(0.5), floats(0.5, -0.25, 0.3, -0.4)[None], inside),
        case("a box that reaches over the right and the lower edge", floats(1), still[:1], inside + 72, size=(86, 90)),
        case("a box that reaches over the left and the upper edge", floats(1), still[:1], inside - 12),
        case("a box that lies outside: clipped to nothing, it is dropped", floats(1), still[:1], inside - 40),
        case("a box half a pixel wide: thin, but a box", floats(1), still[:1], box_rows([10, 6, 10.5, 7])),
        case(
            "half a pixel of a box is left when it is clipped: it stays",
            floats(1),
            still[:1],
            box_rows([89.5, 6, 106, 7]),
        ),
        case("four boxes apart: best first", scores, still, apart),
        case("two boxes on one thing: the better one stays", floats(-1, 0.5), still[:2], pair),
        case("IoU exactly at the threshold: more than the threshold drops", floats(2, 1), still[:2], half, 9, 9, 0.5),
        case("another threshold", floats(1, 2), still[:2], half, 9, 9, 0.25),
        case(
            "two anchors apart whose boxes meet",
            floats(1, 2),
            floats(1, 0, 0, 0, 0, 0, 0, 0).view(2, 4),
            box_rows([10, 6, 26, 14], [26, 6, 42, 14]),
        ),
        case("two boxes that are one once they are clipped", floats(1, 2), still[:2], over),
        case("at most 2 anchors by score, before boxes are dropped", scores, moves, apart, 2),
        case(
            "the second best of 2 is dropped, and nobody takes its place",
            floats(3, 2, 1),
            still[:3],
            torch.cat([pair, apart[3:]]),
            2,
        ),
        case("at most 1 box comes out", scores, moves, apart, 9, 1),
        case(
            "at most 2 come out, counted after boxes are dropped",
            floats(3, 2, 1, 0),
            still,
            torch.cat([pair, apart[2:]]),
            9,
            2,
        ),
        case("no anchors", floats(), still[:0], box_rows()),
        case("60 anchors", noise(60, seed=3), 0.3 * noise(60, 4, seed=4), many, 40, 12, 0.4, (44, 80)),
    ]
    mistakes = RPN_PROPOSALS_MISTAKES
    return run_check("rpn_proposals", student, reference_rpn_proposals, cases, mistakes=mistakes, draw=_draw_proposals)


def reference_rpn_proposals(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    image_size: tuple[int, int],
    before: int,
    after: int,
    iou_threshold: float,
) -> Tensor:
    """(R, 4) boxes, best first: the best anchors, decoded, clipped, suppressed."""
    return _proposals(logits, deltas, anchors, image_size, before, after, iou_threshold)


def _some_area(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)


def _proposals(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    image_size: tuple[int, int],
    before: int,
    after: int,
    iou_threshold: float,
    *,
    best: Callable = lambda logits, before: logits.argsort(descending=True)[:before],
    decode: Callable = decode_boxes,
    clip: Callable = ops.clip_boxes_to_image,
    good: Callable = _some_area,
    suppress: Callable = ops.nms,
    judged: str = "clipped",
    given: str = "clipped",
    first: Callable = lambda rows, after: rows[:after],
    early: bool = False,
) -> Tensor:
    """The four steps with room for the usual slips; boxes are suppressed as `judged`, and come out as `given`."""
    rows = best(logits, before)
    decoded = decode(deltas[rows], anchors[rows])
    boxes = clip(decoded, image_size)
    whole = good(boxes, image_size)
    if early:  # cut to `after` before the suppression
        whole = whole & (whole.cumsum(0) <= after)
    forms = {"clipped": boxes, "decoded": decoded, "anchors": anchors[rows]}
    return forms[given][whole][first(suppress(forms[judged][whole], logits[rows][whole], iou_threshold), after)]


def _all_of_them(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return boxes[:, 0] > -torch.inf


def _in_order(*args) -> Tensor:
    """The same boxes in the order of their anchors."""
    deltas, anchors, image_size = args[1:4]
    boxes = ops.clip_boxes_to_image(decode_boxes(deltas, anchors), image_size)
    kept = reference_rpn_proposals(*args)
    rows = [int((boxes == box).all(dim=1).nonzero()[0, 0]) for box in kept]
    return boxes[sorted(rows)]


def _untranslated(logits: Tensor, deltas: Tensor, anchors: Tensor, *rest) -> Tensor:
    """The best deltas on the first anchors."""
    rows = logits.argsort(descending=True)[: rest[1]]
    return reference_rpn_proposals(logits[rows], deltas[rows], anchors[: len(rows)], *rest)


def _unsorted_scores(logits, deltas, anchors, image_size, before, after, iou_threshold) -> Tensor:
    rows = logits.argsort(descending=True)[:before]
    boxes = ops.clip_boxes_to_image(decode_boxes(deltas[rows], anchors[rows]), image_size)
    whole = _some_area(boxes, image_size)
    return boxes[whole][ops.nms(boxes[whole], logits[: len(rows)][whole], iou_threshold)][:after]


def _cut_first(logits, deltas, anchors, image_size, before, after, iou_threshold) -> Tensor:
    return _proposals(logits, deltas, anchors, image_size, min(before, after), after, iou_threshold)


def _clipped_last(*args) -> Tensor:
    """Suppressed as they were decoded, then clipped, then dropped where nothing is left."""
    boxes = ops.clip_boxes_to_image(_proposals(*args, clip=lambda boxes, image_size: boxes), args[3])
    return boxes[_some_area(boxes, args[3])]


def _within(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return (boxes >= 0).all(dim=1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)


def _rows_of(logits: Tensor, deltas: Tensor, anchors: Tensor, image_size, before, after, iou_threshold) -> Tensor:
    rows = logits.argsort(descending=True)[:before]
    boxes = ops.clip_boxes_to_image(decode_boxes(deltas[rows], anchors[rows]), image_size)
    return ops.nms(boxes, logits[rows], iou_threshold)[:after]


RPN_PROPOSALS_MISTAKES: dict[str, Callable] = {
    "`before` and `after` are exchanged": (
        lambda z, d, anchors, size, before, after, iou: _proposals(z, d, anchors, size, after, before, iou)
    ),
    "the deltas are not applied: decode_boxes(deltas, anchors)": lambda *a: _proposals(*a, decode=lambda d, b: b),
    "the deltas are added as pixels: decode_boxes(deltas, anchors)": (
        lambda *a: _proposals(*a, decode=lambda d, b: b + d)
    ),
    "deltas and anchors are exchanged: decode_boxes(deltas, anchors)": (
        lambda *a: _proposals(*a, decode=lambda d, b: decode_boxes(b, d))
    ),
    "the boxes are not clipped to the image": lambda *a: _proposals(*a, clip=lambda b, s: b),
    "boxes are dropped by their clipped form and come out unclipped: go on with the clipped ones": (
        lambda *a: _proposals(*a, judged="decoded", given="decoded")
    ),
    "boxes are dropped and suppressed in their clipped form and come out unclipped: give the clipped ones": (
        lambda *a: _proposals(*a, given="decoded")
    ),
    "the boxes are clipped last: clip them before you drop and suppress": (
        lambda *a: _proposals(*a, judged="decoded", good=_all_of_them)
    ),
    "only x is clipped: y may not leave the film either": (
        lambda *a: _proposals(*a, clip=lambda b, s: torch.where(b.new_tensor([1, 0, 1, 0]) > 0, b.clamp(0, s[1]), b))
    ),
    "height and width are exchanged: x is clipped to the width, which is image_size[1]": (
        lambda *a: _proposals(*a, clip=lambda b, s: ops.clip_boxes_to_image(b, s[::-1]))
    ),
    "clipped at 0 only: x2 may not pass the width, y2 not the height": (
        lambda *a: _proposals(*a, clip=lambda b, s: b.clamp(min=0))
    ),
    "clipped at the far edges only: nothing may lie below 0": (
        lambda *a: _proposals(*a, clip=lambda b, s: torch.minimum(b, b.new_tensor([s[1], s[0], s[1], s[0]])))
    ),
    "clipped one pixel early: x2 is exclusive, it may equal the width": (
        lambda *a: _proposals(*a, clip=lambda b, s: ops.clip_boxes_to_image(b, (s[0] - 1, s[1] - 1)))
    ),
    "a box that is clipped to nothing is kept: drop boxes without width or height": (
        lambda *a: _proposals(*a, good=_all_of_them)
    ),
    "a box that reaches over the edge is dropped: clip it": (
        lambda *a: _proposals(*a, clip=lambda b, s: b, good=_within)
    ),
    "the boxes stand in the order of their anchors: give the best first": _in_order,
    "the worst come first": lambda *a: reference_rpn_proposals(*a).flip(0),
    "the worst anchors are taken: sort descending": (
        lambda *a: _proposals(*a, best=lambda logits, before: logits.argsort()[:before])
    ),
    "the first anchors are taken: take the best by logit": (
        lambda *a: _proposals(*a, best=lambda logits, before: torch.arange(len(logits))[:before])
    ),
    "the rows are not translated: the best deltas belong to anchors[rows]": _untranslated,
    "`before` is not used: only the best `before` anchors become boxes": (
        lambda *a: _proposals(*a, best=lambda logits, before: logits.argsort(descending=True))
    ),
    "one anchor too many is taken: [:before] holds `before` of them": (
        lambda *a: _proposals(*a, best=lambda logits, before: logits.argsort(descending=True)[: before + 1])
    ),
    "the scores are not sorted with the boxes: the suppression needs logits[rows]": _unsorted_scores,
    "`after` is not used: at most `after` boxes come out": lambda *a: _proposals(*a, first=lambda rows, after: rows),
    "`after` is cut before boxes are dropped: suppress first": _cut_first,
    "`after` is cut before boxes are dropped by their overlap: suppress first, then cut": (
        lambda *a: _proposals(*a, early=True)
    ),
    "a box thinner than a pixel is dropped: only boxes without width or height go": (
        lambda *a: _proposals(*a, good=lambda b, size: (b[:, 2:] - b[:, :2] >= 1).all(dim=1))
    ),
    "a box of less than a pixel's area is dropped: only boxes without width or height go": (
        lambda *a: _proposals(*a, good=lambda b, size: ops.box_area(b) >= 1)
    ),
    "nothing is suppressed: what overlaps a better box by more than iou_threshold goes": (
        lambda *a: _proposals(*a, suppress=lambda b, s, t: torch.arange(len(b), device=b.device))
    ),
    "the threshold is written into the function: use the argument": (
        lambda *a: _proposals(*a, suppress=lambda b, s, t: ops.nms(b, s, 0.7))
    ),
    "an IoU equal to the threshold drops nothing: more than the threshold does": (
        lambda *a: _proposals(*a, suppress=lambda b, s, t: ops.nms(b, s, t - 1e-4))
    ),
    "the anchors are suppressed: decode them first": lambda *a: _proposals(*a, judged="anchors"),
    "boxes are suppressed before they are clipped: clip first, then drop and suppress": _clipped_last,
    "boxes are suppressed before they are clipped: clip first": lambda *a: _proposals(*a, judged="decoded"),
    "these are rows: give the boxes": _rows_of,
}


def _draw_proposals(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, MANY, fit, number_boxes, panels
    from labkit.plotting import show_boxes

    height, width = case.args[3]
    frame = box_rows([0, 0, width, height])
    figure, axes = panels(2, title=f"{case.what}: numbered in order", width=4.8, height=3.8)
    for ax, boxes, name, color in zip(axes, (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True):
        show_boxes(frame, color="0.4", width=1.5, style=":", ax=ax)
        show_boxes(boxes[:MANY], color=color, ax=ax)
        number_boxes(ax, boxes[:MANY], color=color)
        ax.set_title(f"{name}: {len(boxes)}", color=color)
    fit(axes, torch.cat([frame, expected.cpu(), got.reshape(-1, 4).cpu()]))
    return figure

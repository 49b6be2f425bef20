"""Checks of notebook 08, Faster R-CNN: the head of the region proposal network, and the boxes made of its answers."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, floats, noise, scattered_boxes
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.boxes import decode_boxes

# --------------------------------------------------------------------------------------------------- rpn_head


def rpn_head(student: Callable) -> Callable:
    """Check `my_rpn_head(features (B, C, h, w), conv, objectness, deltas) -> (B, h w K), (B, h w K, 4)` of notebook 08.

    Example:
        >>> rpn_head(lambda *args: _head(*args, between=lambda hidden: hidden)).__name__
        ✗ rpn_head: one cell, one anchor
        ...
          likely: the ReLU after the 3x3 convolution is missing
        ...
        'reference_rpn_head'
    """

    def case(what: str, batch: int, rows: int, columns: int, per_cell: int, kind: type[Case] = Case) -> Case:
        return kind(what, (noise(batch, 3, rows, columns, seed=rows), *_layers(3, per_cell)))

    cases = [
        case("one cell, one anchor", 1, 1, 1, 1),
        case("one cell, three anchors: four deltas for each, one anchor after the other", 1, 1, 1, 3),
        case("two rows of three cells, one anchor each", 1, 2, 3, 1),
        case("two rows of three cells, two anchors each: the anchors of a cell stand together", 1, 2, 3, 2),
        case("two images", 2, 3, 2, 2),
        case("the same, and the gradient: the network is trained through it", 2, 3, 2, 2, GradientCase),
        case("four rows of five cells, five anchors each", 1, 4, 5, 5),
    ]
    return run_check("rpn_head", student, reference_rpn_head, cases, mistakes=RPN_HEAD_MISTAKES)


def _layers(channels: int, per_cell: int) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """The three convolutions with weights of their own, the same each time."""
    make = partial(nn.utils.skip_init, nn.Conv2d)  # without a draw from the global generator
    both = make(channels, channels, 3, padding=1), make(channels, per_cell, 1), make(channels, 4 * per_cell, 1)
    for number, layer in enumerate(both):
        layer.weight.data = noise(*layer.weight.shape, seed=number)
        layer.get_parameter("bias").data = noise(layer.out_channels, seed=number + 3)
    return both


def reference_rpn_head(
    features: Tensor, conv: nn.Module, objectness: nn.Module, deltas: nn.Module
) -> tuple[Tensor, Tensor]:
    """(logits, deltas): row-major, the K anchors of a cell together."""
    return _head(features, conv, objectness, deltas)


def _rows(answers: Tensor) -> Tensor:
    return answers.permute(0, 2, 3, 1)


def _head(
    features: Tensor,
    conv: nn.Module,
    objectness: nn.Module,
    deltas: nn.Module,
    *,
    between: Callable = F.relu,
    hidden: Callable = lambda features, conv: conv(features),
    order: Callable = _rows,
    after: Callable = lambda answers: answers,
    four: Callable = lambda rows, count: rows.reshape(count, -1, 4),
    shared: bool = True,
) -> tuple[Tensor, Tensor]:
    """The head with room for the usual slips."""
    inner = between(hidden(features, conv))
    logits = order(after(objectness(inner))).flatten(1)
    return logits, four(order(after(deltas(inner if shared else features))), len(features))


RPN_HEAD_MISTAKES: dict[str, Callable] = {
    "the ReLU after the 3x3 convolution is missing": lambda *a: _head(*a, between=lambda x: x),
    "the 3x3 convolution is left out: both 1x1 convolutions look at what it gives": (
        lambda *a: _head(*a, hidden=lambda x, conv: x)
    ),
    "the deltas are taken from the features: both 1x1 convolutions look at what the 3x3 one gives": (
        lambda *a: _head(*a, shared=False)
    ),
    "the 3x3 convolution is applied twice": lambda *a: _head(*a, hidden=lambda x, conv: conv(F.relu(conv(x)))),
    "a ReLU after the answers: logits and deltas may be negative": lambda *a: _head(*a, after=F.relu),
    "a sigmoid is taken: give logits, the loss takes it": (
        lambda *a: (reference_rpn_head(*a)[0].sigmoid(), reference_rpn_head(*a)[1])
    ),
    "the channels come first: permute(0, 2, 3, 1) before you flatten, so that a cell's anchors stand together": (
        lambda *a: _head(*a, order=lambda x: x)
    ),
    "the columns are slowest: rows (y) come first, permute(0, 2, 3, 1)": (
        lambda *a: _head(*a, order=lambda x: x.permute(0, 3, 2, 1))
    ),
    "the four deltas are taken apart: the 4 K channels are four for the first anchor, then four for the next": (
        lambda *a: _head(*a, four=lambda rows, count: rows.unflatten(3, (4, -1)).transpose(3, 4).reshape(count, -1, 4))
    ),
    "the deltas are not parted: reshape them to (B, h w K, 4)": (
        lambda *a: _head(*a, four=lambda rows, count: rows.reshape(count, -1))
    ),
    "the images of the batch are joined: keep the first axis": (
        lambda *a: (_head(*a)[0].flatten(), _head(*a)[1].flatten(0, 1))
    ),
    "only the first image is answered: keep the batch": lambda *a: tuple(part[:1] for part in _head(*a)),
    "the logits have an axis too many: (B, h w K)": lambda *a: (_head(*a)[0][..., None], _head(*a)[1]),
    "the logits come first, then the deltas": lambda *a: _head(*a)[::-1],
    NO_GRADIENT: without_gradient(reference_rpn_head),
}


# ---------------------------------------------------------------------------------------------- rpn_proposals


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
) -> Tensor:
    """The four steps with room for the usual slips; boxes are suppressed as `judged`, and come out as `given`."""
    rows = best(logits, before)
    decoded = decode(deltas[rows], anchors[rows])
    boxes = clip(decoded, image_size)
    whole = good(boxes, image_size)
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


def _cut_first(logits, deltas, anchors, image_size, before, after, iou_threshold) -> Tensor:
    return _proposals(logits, deltas, anchors, image_size, min(before, after), after, iou_threshold)


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
    "`after` is not used: at most `after` boxes come out": lambda *a: _proposals(*a, first=lambda rows, after: rows),
    "`after` is cut before boxes are dropped: suppress first": _cut_first,
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

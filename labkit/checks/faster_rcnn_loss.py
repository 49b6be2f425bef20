"""The check of notebook 08, Faster R-CNN: the loss of the region proposal network."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.faster_rcnn import crowd_of_anchors, reference_match
from labkit.checks.fixtures import box_rows, floats
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.boxes import decode_boxes, encode_boxes
from labkit.detection.roi_head import SMOOTH_L1_BETA


def rpn_loss(student: Callable) -> Callable:
    """Check `my_rpn_loss(logits (A,), deltas (A, 4), anchors, boxes, matches (A,)) -> two scalars` of notebook 08.

    Example:
        >>> rpn_loss(lambda *args: tuple(part.detach() for part in reference_rpn_loss(*args))).__name__
        ✗ rpn_loss: the same, and the gradients of logits and deltas: the network is trained with it
        ...
          likely: no gradient flows: ...
        'reference_rpn_loss'
    """
    anchors = box_rows([0, 0, 16, 8], [4, 2, 14, 22], [30, 10, 50, 20], [31, 12, 47, 30], [60, 0, 70, 12])
    boxes = box_rows([2, 1, 14, 9], [28, 9, 52, 22])
    logits = floats(1.5, -0.5, 2.0, 0.25, -3.0)
    deltas = torch.tensor(
        [[0.1, -0.2, 0.3, 0.05], [0.5, 0, -0.5, 0.25], [0.02, 0.12, 0.2, 0.2], [1, -1, 0.4, -0.6], [2, 2, 2, 2]]
    )

    def case(what: str, matches: list[int], rows=slice(None), truths=boxes) -> Case:
        return Case(what, (logits[rows], deltas[rows], anchors[rows], truths, torch.tensor(matches)))

    places = box_rows([0, 0, 10, 8], [20, 0, 30, 8])
    generator = torch.Generator().manual_seed(5)
    many, truths = crowd_of_anchors()
    noise = 0.3 * torch.randn(60, 4, generator=generator)
    matches = reference_match(many, truths, 0.5, 0.25)
    cases = [
        case("one anchor, an object", [0], slice(0, 1)),
        case("one anchor, background", [-1], slice(0, 1)),
        case("an object and a background", [0, -1], slice(0, 2)),
        case("an ignored anchor says nothing", [0, -2, -1], slice(0, 3)),
        Case(
            "each anchor lies on the box that its match names, 1 and 0: the box loss is 0",
            (floats(0, 0), torch.zeros(2, 4), places, places.flip(0), torch.tensor([1, 0])),
        ),
        case("two boxes", [0, -1, 1, 1, -1]),
        case("the second box comes first", [1, -2, 0, -2, -1]),
        GradientCase(
            "the same, and the gradients of logits and deltas: the network is trained with it",
            (logits, deltas, anchors, boxes, torch.tensor([1, -2, 0, -2, -1])),
            of=(0, 1),
        ),
        case("an image without objects", [-1, -1, -2, -1, -1], truths=box_rows()),
        Case("60 anchors", (4 * torch.randn(60, generator=generator), noise, many, truths, matches)),
    ]
    return run_check("rpn_loss", student, reference_rpn_loss, cases, mistakes=RPN_LOSS_MISTAKES)


def reference_rpn_loss(logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: Tensor, matches: Tensor) -> tuple:
    """(objectness, box): cross entropy averaged, smooth L1 summed over objects, both over the anchors that count."""
    return _loss(logits, deltas, anchors, boxes, matches)


def _loss(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    matches: Tensor,
    *,
    used: Callable = lambda matches: matches != -2,
    entropy: Callable = F.binary_cross_entropy_with_logits,
    objects: Callable = lambda matches: matches >= 0,
    placed: Callable = lambda matches: matches >= 0,
    target: Callable = encode_boxes,
    rows: Callable = lambda matches: matches,
    beta: float = SMOOTH_L1_BETA,
    reduction: str = "sum",
    share: Callable = lambda matches: (matches != -2).sum(),
) -> tuple[Tensor, Tensor]:
    """The two losses with room for the usual slips.

    `used` anchors count for the objectness, `placed` ones for the boxes, whose loss is divided by `share`.
    """
    counts, positive = used(matches), placed(matches)
    objectness = entropy(logits[counts], objects(matches)[counts].float())
    wanted = target(boxes[rows(matches[positive])], anchors[positive])
    box = F.smooth_l1_loss(deltas[positive], wanted, beta=beta, reduction=reduction)
    return objectness, box / share(matches)


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")


def _in_pixels(
    logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: Tensor, matches: Tensor
) -> tuple[Tensor, Tensor]:
    rows = matches >= 0
    difference = F.smooth_l1_loss(
        decode_boxes(deltas[rows], anchors[rows]), boxes[matches[rows]], beta=SMOOTH_L1_BETA, reduction="sum"
    )
    return _loss(logits, deltas, anchors, boxes, matches)[0], difference / (matches != -2).sum()


def _over_all(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    return _summed(logits, labels) / count


RPN_LOSS_MISTAKES: dict[str, Callable] = {
    "ignored anchors are trained as background: leave out matches == -2": (
        lambda *a: _loss(*a, used=lambda m: m > -3, share=len)
    ),
    "ignored anchors are trained as background in the objectness: leave out matches == -2": (
        lambda *a: _loss(*a, used=lambda m: m > -3)
    ),
    "the objectness is learned on objects alone: background counts as well": (
        lambda *a: _loss(*a, used=lambda m: m >= 0)
    ),
    "the objectness is summed: take the mean over the anchors that count": lambda *a: _loss(*a, entropy=_summed),
    "the objectness is divided by all anchors, A: divide by those that count, matches != -2": (
        lambda *a: _loss(*a, entropy=lambda s, t: _over_all(s, t, len(a[0])))
    ),
    "both losses are divided by all anchors, A: divide by those that count, matches != -2": (
        lambda *a: _loss(*a, entropy=lambda s, t: _over_all(s, t, len(a[0])), share=len)
    ),
    "the sigmoid is taken twice: binary_cross_entropy_with_logits wants the logits": (
        lambda *a: _loss(*a, entropy=lambda s, t: F.binary_cross_entropy_with_logits(s.sigmoid(), t))
    ),
    "object and background are exchanged: the target is 1 where matches >= 0": (
        lambda *a: _loss(*a, objects=lambda m: m < 0)
    ),
    "box 0 counts as background: an object is matches >= 0, not > 0": (
        lambda *a: _loss(*a, objects=lambda m: m > 0, placed=lambda m: m > 0)
    ),
    "box 0 counts as background in the objectness: an object is matches >= 0": (
        lambda *a: _loss(*a, objects=lambda m: m > 0)
    ),
    "anchors of box 0 get no box loss: an object is matches >= 0, not > 0": (
        lambda *a: _loss(*a, placed=lambda m: m > 0)
    ),
    "background takes boxes[-1], the last box: only objects, matches >= 0, have a box loss": (
        lambda *a: _loss(*a, placed=lambda m: m != -2)
    ),
    "background and ignored anchors take boxes[-1] and boxes[-2]: only objects, matches >= 0, have a box loss": (
        lambda *a: _loss(*a, placed=lambda m: m > -3)
    ),
    "the box loss is divided by the objects: divide by all anchors that count": (
        lambda *a: _loss(*a, share=lambda m: (m >= 0).sum())
    ),
    "the box loss is divided by the objects, at least 1: divide by all anchors that count": (
        lambda *a: _loss(*a, share=lambda m: (m >= 0).sum().clamp(min=1))
    ),
    "the box loss is a mean over objects and coordinates: sum it, then divide by the anchors that count": (
        lambda *a: _loss(*a, reduction="mean", share=lambda m: 1)
    ),
    'the box loss is a mean already, and is divided once more: sum it, reduction="sum"': (
        lambda *a: _loss(*a, reduction="mean")
    ),
    "the box loss is divided by all anchors, the ignored ones too: divide by those that count": (
        lambda *a: _loss(*a, share=len)
    ),
    "the box loss is not divided: divide by the anchors that count": lambda *a: _loss(*a, share=lambda m: 1),
    "smooth L1 turns at 1: pass beta=1/9": lambda *a: _loss(*a, beta=1.0),
    "this is L1 without the parabola: pass beta=1/9": lambda *a: _loss(*a, beta=0.0),
    "anchors and boxes are exchanged: encode_boxes(boxes, anchors)": (
        lambda *a: _loss(*a, target=lambda boxes, anchors: encode_boxes(anchors, boxes))
    ),
    "deltas are no differences in pixels: the target is encode_boxes(boxes, anchors)": (
        lambda *a: _loss(*a, target=torch.sub)
    ),
    "deltas are no coordinates: the target is encode_boxes(boxes, anchors), not the box": (
        lambda *a: _loss(*a, target=lambda boxes, anchors: boxes)
    ),
    "boxes are compared in pixels: compare deltas": _in_pixels,
    "every object is trained on box 0: take boxes[matches]": lambda *a: _loss(*a, rows=torch.zeros_like),
    "box i is taken for object i: take the box that the match names, boxes[matches]": (
        lambda *a: _loss(*a, rows=lambda m: torch.arange(len(m), device=m.device) % max(len(a[3]), 1))
    ),
    "the objectness comes first, then the box loss": lambda *a: _loss(*a)[::-1],
    "the box loss carries no gradient: .item(), .detach() and float() cut the graph": (
        lambda *a: (_loss(*a)[0], _loss(*a)[1].detach())
    ),
    "the objectness carries no gradient: .item(), .detach() and float() cut the graph": (
        lambda *a: (_loss(*a)[0].detach(), _loss(*a)[1])
    ),
    "the anchors are taken by the match, which names a box: anchors[matches >= 0]": (
        lambda z, d, anchors, b, m: _loss(z, d, anchors[m.clamp(min=0)], b, m)
    ),
    "the first deltas are taken: those of the objects are wanted, deltas[matches >= 0]": (
        lambda z, d, a, b, m: _loss(z, d[(m >= 0).long().cumsum(0).sub(1).clamp(min=0)], a, b, m)
    ),
    NO_GRADIENT: without_gradient(reference_rpn_loss),
}

"""The check of notebook 07, Fast R-CNN: from the head's answers to detections."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, noise, scattered_boxes
from labkit.detection.boxes import decode_boxes
from labkit.detection.roi_head import DELTA_SPREAD

Found = tuple[Tensor, Tensor, Tensor]


def detections(student: Callable) -> Callable:
    """Check `my_detections(class_logits, deltas, proposals, size, score_threshold, iou_threshold)` of notebook 07.

    Example:
        >>> detections(lambda *args: _detections(*args, suppress=lambda b, s, l, t: ops.nms(b, s, t))).__name__
        ✗ detections: two classes on one thing: both stay
        ...
          likely: boxes of another class are suppressed: ...
        ...
        'reference_detections'
    """
    one, still = box_rows([10, 6, 26, 14]), torch.zeros(1, 3, 4)
    pair, apart = box_rows([10, 6, 30, 16], [11, 6, 31, 16]), box_rows([10, 6, 30, 16], [50, 20, 74, 38])
    moved = torch.tensor([[[9.0, 9, 9, 9], [5, -2.5, 1.5, -2], [-4, 3, 2, 1]]])

    def case(what, logits, deltas, proposals, *, score=0.05, iou=0.5, size=(50, 90)) -> Case:
        return Case(what, (torch.tensor(logits).reshape(-1, deltas.shape[1]), deltas, proposals, size, score, iou))

    cases = [
        case("one proposal, surely of class 1", [[0.0, 6, -1]], still, one),
        case("one proposal, surely background", [[6.0, 0, -1]], still, one),
        case("one proposal of class 2, whose box moves: divided deltas", [[0.0, -1, 6]], moved, one),
        case("one proposal of class 1, with a box for each class", [[0.0, 6, -1]], moved, one),
        case("one proposal that may be either: two detections", [[0.0, 1, 1.5]], moved, one),
        case("background leads, and class 1 is still above the threshold", [[1.0, 0.5, -4]], still, one),
        case("a score equal to the threshold is not above it", [[0.0, 0.0]], still[:, :2], one, score=0.5),
        case("a box that leaves the image: clipped", [[0.0, 6, -1]], still, one + 70, size=(80, 90)),
        case("a box that leaves it as a whole: dropped", [[0.0, 6, -1]], still, -one),
        case(
            "two boxes of one class on one thing: the better one stays",
            [[0, 3, -1], [0, 4.0, -1]],
            still.repeat(2, 1, 1),
            pair,
        ),
        case(
            "two boxes of one class are one once they are clipped",
            [[0, 3, -1], [0, 4.0, -1]],
            still.repeat(2, 1, 1),
            box_rows([80, 10, 100, 30], [80, 10, 116, 30]),  # IoU 0.56; clipped to 90 x 50 they are one box
            iou=0.75,
        ),
        case(
            "half a pixel of a box is left when it is clipped: it stays",
            [[0.0, 6, -1]],
            still,
            box_rows([89.5, 6, 106, 7]),
        ),
        case("two classes on one thing: both stay", [[0, 3, -4], [0, -4, 4.0]], still.repeat(2, 1, 1), pair),
        case(
            "two things: the better one first, whatever its class",
            [[0, 3, -4], [0, -4, 4.0]],
            still.repeat(2, 1, 1),
            apart,
        ),
        case("another threshold of IoU", [[0, 3, -1], [0, 4.0, -1]], still.repeat(2, 1, 1), pair, iou=0.95),
        case("no proposals", [], still[:0], box_rows()),
        Case(
            "40 proposals, three classes and background",
            (1.5 * noise(40, 4, seed=1), noise(40, 4, 4, seed=2), scattered_boxes(40, seed=5), (44, 80), 0.2, 0.3),
        ),
    ]
    return run_check(
        "detections", student, reference_detections, cases, mistakes=DETECTIONS_MISTAKES, draw=_draw_detections
    )


def reference_detections(
    class_logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
) -> Found:
    """(boxes (N, 4), labels (N,), scores (N,)), best first, suppressed within each class."""
    return _detections(class_logits, deltas, proposals, image_size, score_threshold, iou_threshold)


def _some_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)


def _detections(
    class_logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    image_size: tuple[int, int],
    score_threshold: float,
    iou_threshold: float,
    *,
    judge: Callable = lambda logits: logits.softmax(dim=1),
    spread: tuple[float, ...] = DELTA_SPREAD,
    own: Callable = lambda deltas: deltas,
    decode: Callable = decode_boxes,
    clip: Callable = ops.clip_boxes_to_image,
    good: Callable = _some_area,
    wanted: Callable = lambda scores: torch.ones_like(scores, dtype=torch.bool),
    above: Callable = torch.gt,
    first: int = 1,
    suppress: Callable = ops.batched_nms,
) -> Found:
    """The head's answers turned into detections, with room for the usual slips; classes count from `first`."""
    scores = judge(class_logits)
    shifts = own(deltas) * deltas.new_tensor(spread)
    rows = proposals[:, None].expand_as(shifts).reshape(-1, 4)
    boxes = clip(decode(shifts.reshape(-1, 4), rows), image_size).view_as(shifts)  # (R, K, 4)
    chosen = above(scores, score_threshold) & wanted(scores) & good(boxes)
    chosen[:, :first] = False
    row, label = chosen.nonzero(as_tuple=True)
    boxes, scores = boxes[row, label], scores[row, label]
    keep = suppress(boxes, scores, label, iou_threshold)
    return boxes[keep], label[keep], scores[keep]


def _clipped_last(*args) -> Found:
    """Suppressed as they were decoded, then clipped, then dropped where nothing is left."""
    boxes, labels, scores = _detections(*args, clip=lambda boxes, size: boxes)
    boxes = ops.clip_boxes_to_image(boxes, args[3])
    whole = _some_area(boxes)
    return boxes[whole], labels[whole], scores[whole]


def _in_order(*args) -> Found:
    boxes, labels, scores = reference_detections(*args)
    order = labels.argsort(stable=True)
    return boxes[order], labels[order], scores[order]


def _is_best(scores: Tensor) -> Tensor:
    """(R, K) bool: the best class of each proposal, background among them."""
    return torch.nn.functional.one_hot(scores.argmax(dim=1), scores.shape[1]).bool()


def _is_best_object(scores: Tensor) -> Tensor:
    """(R, K) bool: the best class of each proposal without background."""
    return torch.nn.functional.one_hot(scores[:, 1:].argmax(dim=1) + 1, scores.shape[1]).bool()


def _everything(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return scores.argsort(descending=True, stable=True)


def _from_zero(*args) -> Found:
    boxes, labels, scores = reference_detections(*args)
    return boxes, labels - 1, scores


DETECTIONS_MISTAKES: dict[str, Callable] = {
    "the two thresholds are exchanged": (
        lambda logits, deltas, boxes, size, score, iou: _detections(logits, deltas, boxes, size, iou, score)
    ),
    "the classes exclude one another: softmax over each row, not a sigmoid of each number": (
        lambda *a: _detections(*a, judge=torch.sigmoid)
    ),
    "softmax runs over the proposals: it belongs over the classes, dim=1": (
        lambda *a: _detections(*a, judge=lambda logits: logits.softmax(dim=0))
    ),
    "the scores are logits: take the softmax": lambda *a: _detections(*a, judge=lambda logits: logits),
    "softmax is taken without background: it is a class like the others": (
        lambda *a: _detections(
            *a, judge=lambda z: torch.cat([torch.zeros_like(z[:, :1]), z[:, 1:].softmax(dim=1)], dim=1)
        )
    ),
    "background is given back as a detection: its column, 0, says that nothing is there": (
        lambda *a: _detections(*a, first=0)
    ),
    "the labels count from 0: after background is cut off, column 0 is class 1": _from_zero,
    "the deltas are not multiplied by their spread, 0.1 0.1 0.2 0.2": (
        lambda *a: _detections(*a, spread=(1.0, 1.0, 1.0, 1.0))
    ),
    "the deltas are divided by their spread: they were divided in training, so multiply": (
        lambda *a: _detections(*a, spread=tuple(1 / s for s in DELTA_SPREAD))
    ),
    "every class has a box of its own: deltas[:, label], not those of background": (
        lambda *a: _detections(*a, own=lambda d: d[:, :1].expand_as(d))
    ),
    "the deltas of the class before are taken: after background is cut off, column 0 is class 1": (
        lambda *a: _detections(*a, own=lambda d: d.roll(1, dims=1))
    ),
    "the spread is 0.1 0.1 for the shifts and 0.2 0.2 for the sizes; these are exchanged": (
        lambda *a: _detections(*a, spread=(*DELTA_SPREAD[2:], *DELTA_SPREAD[:2]))
    ),
    "the answer of the suppression is not used: index boxes, labels and scores with it": (
        lambda *a: _detections(*a, suppress=lambda b, s, labels, t: torch.arange(len(s), device=s.device))
    ),
    "boxes are suppressed before they are clipped, and none is dropped after: clip, drop, suppress": (
        lambda *a: ((f := _detections(*a, clip=lambda b, _: b)), (ops.clip_boxes_to_image(f[0], a[3]), *f[1:]))[1]
    ),
    "every class has a box of its own: these are those of class 1": (
        lambda *a: _detections(*a, own=lambda d: d[:, 1:2].expand_as(d))
    ),
    "the boxes are the proposals: decode the deltas": lambda *a: _detections(*a, decode=lambda d, b: b),
    "deltas and proposals are exchanged: decode_boxes(deltas, proposals)": (
        lambda *a: _detections(*a, decode=lambda d, b: decode_boxes(b, d))
    ),
    "the boxes are not clipped to the image": lambda *a: _detections(*a, clip=lambda boxes, size: boxes),
    "boxes are suppressed before they are clipped: clip first, then drop and suppress": _clipped_last,
    "a box thinner than a pixel is dropped: only boxes without width or height go": (
        lambda *a: _detections(*a, good=lambda boxes: (boxes[..., 2:] - boxes[..., :2] >= 1).all(dim=-1))
    ),
    "a box of less than a pixel's area is dropped: only boxes without width or height go": (
        lambda *a: _detections(*a, good=lambda boxes: (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) >= 1)
    ),
    "height and width are exchanged: image_size is (height, width)": (
        lambda *a: _detections(*a, clip=lambda boxes, size: ops.clip_boxes_to_image(boxes, size[::-1]))
    ),
    "a box that is clipped to nothing is kept: drop boxes without width or height": (
        lambda *a: _detections(*a, good=lambda boxes: boxes[..., 0] > -torch.inf)
    ),
    "the score threshold is not used": lambda *a: _detections(*a, above=lambda scores, threshold: scores > 0),
    "a score equal to the threshold is not above it: use >": lambda *a: _detections(*a, above=torch.ge),
    "only the best class of a proposal is given: every class above the threshold is a detection": (
        lambda *a: _detections(*a, wanted=_is_best_object)
    ),
    "a proposal is dropped where background leads: every class above the threshold is a detection": (
        lambda *a: _detections(*a, wanted=_is_best)
    ),
    "boxes of another class are suppressed: batched_nms, or your class_nms, keeps the classes apart": (
        lambda *a: _detections(*a, suppress=lambda boxes, scores, labels, t: ops.nms(boxes, scores, t))
    ),
    "nothing is suppressed: a box drops those of its class with IoU > iou_threshold": (
        lambda *a: _detections(*a, suppress=_everything)
    ),
    "the threshold of IoU is written into the function: use the argument": (
        lambda *a: _detections(
            *a, suppress=lambda boxes, scores, labels, t: ops.batched_nms(boxes, scores, labels, 0.5)
        )
    ),
    "the detections stand class by class: give the best score first": _in_order,
    "the worst come first": lambda *a: tuple(part.flip(0) for part in reference_detections(*a)),
    "the order is boxes, labels, scores": (
        lambda *a: (reference_detections(*a)[0], reference_detections(*a)[2], reference_detections(*a)[1])
    ),
}


def _draw_detections(case: Case, expected: Found, got: Found):
    from labkit.checks.pictures import EXPECTED, GOT, MANY, fit, number_boxes, panels
    from labkit.plotting import COLORS, show_boxes

    proposals, (height, width) = case.args[2].cpu(), case.args[3]
    frame = box_rows([0, 0, width, height])
    figure, axes = panels(2, title=f"{case.what}: numbered in order", width=4.8, height=3.8)
    for ax, (boxes, labels, _), name, color in zip(
        axes, (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True
    ):
        show_boxes(frame, color="0.4", width=1.5, style=":", ax=ax)
        show_boxes(proposals, color=COLORS["sky"], width=1.5, ax=ax)
        show_boxes(boxes[:MANY], color=color, ax=ax)
        words = [f"{i + 1}: class {int(label)}" for i, label in enumerate(labels[:MANY])]
        number_boxes(ax, boxes[:MANY], color=color, words=words)
        ax.set_title(f"{name}: {len(boxes)}", color=color)
    fit(axes, torch.cat([frame, proposals, expected[0].cpu(), got[0].reshape(-1, 4).cpu()]))
    return figure

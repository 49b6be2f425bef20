"""Checks of notebook 03, non-maximum suppression."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check


def _boxes(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _scores(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _crowd(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` boxes scattered around a few places in a frame wider than high, and their scores."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.tensor([[20.0, 15], [33, 18], [70, 30], [88, 12]])
    centres = places[torch.arange(count) % 4] + 4 * torch.randn(count, 2, generator=generator)
    sizes = torch.tensor([18.0, 11.0]) * (0.25 * torch.randn(count, 2, generator=generator)).exp()
    boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1) + 20  # + 20: inside the image
    return boxes, torch.rand(count, generator=generator)


# -------------------------------------------------------------------------------------------------------- nms


def nms(student: Callable) -> Callable:
    """Check `my_nms(boxes (N, 4), scores (N,), iou_threshold) -> kept rows (K,) int64` of notebook 03.

    Example:
        >>> nms(ops.nms) is ops.nms
        ✓ nms: 14 cases agree. From here on the notebook uses your function.
        True
    """
    one = _boxes([2, 1, 12, 6])
    pair = _boxes([2, 1, 12, 6], [3, 1, 13, 6])  # IoU 9 / 11
    apart = _boxes([2, 1, 12, 6], [30, 1, 44, 9])
    half = _boxes([0, 0, 12, 5], [0, 0, 6, 5])  # IoU exactly 1 / 2
    inside = _boxes([0, 0, 20, 10], [4, 2, 10, 8])  # IoU 0.18, though the small one lies inside
    chain = _boxes([0, 0, 10, 5], [4, 0, 14, 5], [8, 0, 18, 5])  # neighbours 3/7, ends 1/9
    heap = _boxes([5, 5, 25, 15], [6, 5, 26, 15], [4, 5, 24, 15], [40, 5, 52, 15], [41, 5, 53, 15])
    many, many_scores = _crowd(60, 4)
    cases = [
        Case("one box", (one, _scores(0.9), 0.5)),
        Case("two boxes on one thing: the better one is in row 1", (pair, _scores(0.6, 0.9), 0.5)),
        Case("two boxes apart, the better one in row 1", (apart, _scores(0.6, 0.9), 0.5)),
        Case("IoU exactly at the threshold: more than the threshold drops", (half, _scores(0.9, 0.8), 0.5)),
        Case("IoU just above the threshold", (half, _scores(0.8, 0.9), 0.4375)),
        Case("a small box inside a large one, IoU 0.18", (inside, _scores(0.9, 0.8), 0.25)),
        Case("a chain: a dropped box drops nothing", (chain, _scores(0.9, 0.8, 0.7), 0.25)),
        Case("two groups, not sorted by score", (heap, _scores(0.5, 0.9, 0.7, 0.6, 0.8), 0.5)),
        Case("equal scores: the lower row comes first", (heap, _scores(1, 1, 1, 1, 1), 0.5)),
        Case("threshold 1: no IoU is above it", (heap, _scores(0.5, 0.9, 0.7, 0.6, 0.8), 1.0)),
        Case("no boxes", (_boxes(), _scores(), 0.5)),
        Case("40 boxes, few may stay", (*_crowd(40, 0), 0.1)),
        Case("60 boxes with few different scores", (many, many_scores.round(decimals=1), 0.625)),
        Case("60 boxes, many may stay", (*_crowd(60, 1), 0.625)),
    ]  # fmt: skip
    return run_check("nms", student, ops.nms, cases, mistakes=NMS_MISTAKES, draw=_draw_nms)


def _greedy(
    boxes: Tensor, scores: Tensor, iou_threshold: float, *, drops=torch.gt, overlap=ops.box_iou, order=None
) -> Tensor:
    """Greedy suppression with room for the usual slips."""
    order = scores.argsort(descending=True, stable=True) if order is None else order
    keep = []
    while len(order):
        keep.append(order[0])
        rest = order[1:]
        order = rest[~drops(overlap(boxes[order[:1]], boxes[rest])[0], iou_threshold)]
    return torch.stack(keep) if keep else torch.zeros(0, dtype=torch.int64, device=scores.device)


def _by_any_better(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    meets = (ops.box_iou(boxes[order], boxes[order]) > iou_threshold).tril(-1)
    return order[~meets.any(dim=1)]


def _by_the_last_kept(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    keep = []
    for row in scores.argsort(descending=True, stable=True):
        if not keep or ops.box_iou(boxes[keep[-1]][None], boxes[row][None])[0, 0] <= iou_threshold:
            keep.append(row)
    return torch.stack(keep) if keep else torch.zeros(0, dtype=torch.int64)


def _one_round(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    if not len(order):
        return order
    overlap = ops.box_iou(boxes[order[:1]], boxes[order])[0]
    overlap[0] = 0  # the best one stays
    return order[overlap <= iou_threshold]


def _places(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Where in the sorted list the kept rows stand."""
    return scores.argsort(descending=True, stable=True).argsort()[ops.nms(boxes, scores, iou_threshold)]


def _mask(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, ops.nms(boxes, scores, iou_threshold), True)


def _last_of_equals(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _greedy(boxes, scores, iou_threshold, order=scores.argsort(stable=True).flip(0))


def _over_smaller(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    iou, area1, area2 = ops.box_iou(boxes1, boxes2), ops.box_area(boxes1)[:, None], ops.box_area(boxes2)[None]
    inter = iou / (1 + iou) * (area1 + area2)
    return inter / torch.minimum(area1, area2)


NMS_MISTAKES = {
    "the worst boxes come first: sort the scores with descending=True": (
        lambda b, s, t: _greedy(b, s, t, order=s.argsort(stable=True))
    ),
    "the boxes are taken in the order they came, not from the best score down": (
        lambda b, s, t: _greedy(b, s, t, order=torch.arange(len(s)))
    ),
    "an IoU equal to the threshold stays: drop where IoU > threshold, not >=": (
        lambda b, s, t: _greedy(b, s, t, drops=torch.ge)
    ),
    "the comparison is turned round: boxes that overlap a lot are the ones to drop": (
        lambda b, s, t: _greedy(b, s, t, drops=torch.lt)
    ),
    "a box that was dropped still drops others: compare with kept boxes only": _by_any_better,
    "each box is compared with the last kept one only: compare with all kept ones": _by_the_last_kept,
    "only the best box drops its neighbours: go on with the best of those left": _one_round,
    "these are places in the sorted list: give the rows of `boxes` back, order[...]": _places,
    "the rows are sorted by number: give them back best score first": lambda b, s, t: ops.nms(b, s, t).sort().values,
    "the boxes themselves came back: give their row numbers back": lambda b, s, t: b[ops.nms(b, s, t)],
    "a mask came back: give row numbers back, best first": _mask,
    "among equal scores the lower row comes first: sort with stable=True": _last_of_equals,
    "the overlap is divided by the smaller box: divide by the union (IoU)": (
        lambda b, s, t: _greedy(b, s, t, overlap=_over_smaller)
    ),
}


def _draw_nms(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_boxes

    boxes, scores = case.args[:2]
    figure, axes = new_figure(1, 2, width=4.6, height=3.4)
    for ax, keep, title, color in zip(
        axes, (expected, got), ("expected", "got"), (COLORS["green"], COLORS["red"]), strict=True
    ):
        show_boxes(boxes, color="0.75", width=1.5, ax=ax)
        show_boxes(boxes[keep], color=color, scores=scores[keep] if len(keep) < 9 else None, ax=ax)
        ax.set_title(f"{title}: {len(keep)} kept", color=color)
    return figure


# -------------------------------------------------------------------------------------------------- class_nms


def class_nms(student: Callable) -> Callable:
    """Check `my_class_nms(boxes (N, 4), scores (N,), labels (N,), iou_threshold) -> kept rows (K,)` of notebook 03.

    Example:
        >>> class_nms(ops.batched_nms) is ops.batched_nms
        ✓ class_nms: 9 cases agree. From here on the notebook uses your function.
        True
    """
    pair = _boxes([2, 1, 12, 6], [3, 1, 13, 6])
    half = _boxes([0, 0, 12, 5], [0, 0, 6, 5])
    heap = _boxes([5, 5, 25, 15], [6, 5, 26, 15], [4, 5, 24, 15], [5, 5, 24, 15], [41, 5, 53, 15])

    def labels(*values) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    cases = [
        Case("one box", (pair[:1], _scores(0.9), labels(1), 0.5)),
        Case("two boxes at one place, of one class", (pair, _scores(0.6, 0.9), labels(1, 1), 0.5)),
        Case("two boxes at one place, of two classes", (pair, _scores(0.6, 0.9), labels(1, 2), 0.5)),
        Case("IoU exactly at the threshold", (half, _scores(0.9, 0.8), labels(2, 2), 0.5)),
        Case("two classes in turn", (heap, _scores(0.9, 0.8, 0.7, 0.6, 0.85), labels(1, 2, 1, 2, 1), 0.5)),
        Case("classes 7 and 3, the scores equal", (heap, _scores(1, 1, 1, 1, 1), labels(7, 3, 7, 3, 3), 0.5)),
        Case("no boxes", (_boxes(), _scores(), labels(), 0.5)),
        Case("50 boxes of 3 classes", (*_crowd(50, 2), torch.arange(50) % 3 + 1, 0.3125)),
        Case("60 boxes of 5 classes", (*_crowd(60, 3), torch.arange(60) ** 2 % 5 + 1, 0.125)),
    ]  # fmt: skip
    return run_check("class_nms", student, reference_class_nms, cases, mistakes=CLASS_NMS_MISTAKES, draw=_draw_class)


def reference_class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Rows (K,) int64 that greedy suppression keeps within each class, best first; any coordinates will do."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        keep[rows[ops.nms(boxes[rows], scores[rows], iou_threshold)]] = True
    rows = keep.nonzero()[:, 0]
    return rows[scores[rows].argsort(descending=True, stable=True)]


def _groups(labels: Tensor) -> list[Tensor]:
    return [(labels == label).nonzero()[:, 0] for label in labels.unique()]


def _class_after_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    kept = [rows[ops.nms(boxes[rows], scores[rows], iou_threshold)] for rows in _groups(labels)]
    return torch.cat(kept) if kept else labels


def _rows_in_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    kept = [ops.nms(boxes[rows], scores[rows], iou_threshold) for rows in _groups(labels)]
    return torch.cat(kept) if kept else labels


def _other_classes(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    def overlap(one: Tensor, rest: Tensor) -> Tensor:  # the label travels as a fifth column
        return ops.box_iou(one[:, :4], rest[:, :4]) * (one[:, 4:] != rest[:, 4:].T)

    return _greedy(torch.cat([boxes, labels[:, None]], dim=1), scores, iou_threshold, overlap=overlap)


def _without_last_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    keep = reference_class_nms(boxes, scores, labels, iou_threshold)
    return keep[labels[keep] < labels.max()] if len(keep) else keep


def _agnostic(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return ops.nms(boxes, scores, iou_threshold)


CLASS_NMS_MISTAKES = {
    "the labels are not used: a box may drop boxes of its own class only": _agnostic,
    "the classes stand one after the other: sort what is kept, best score first": _class_after_class,
    "these are rows within a class: translate them to rows of `boxes`": _rows_in_class,
    "boxes of other classes are dropped, those of the same class stay: turn it round": _other_classes,
    "the last class is missing: range(1, n) stops before n": _without_last_class,
    "moving class k by k pixels leaves the classes on top of each other: move by more than the largest coordinate": (
        lambda b, s, c, t: ops.nms(b + c[:, None], s, t)
    ),
    "the kept rows are sorted by number: give them back best score first": (
        lambda b, s, c, t: reference_class_nms(b, s, c, t).sort().values
    ),
}  # fmt: skip


def _draw_class(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import CYCLE, new_figure, show_boxes

    boxes, _, labels = case.args[:3]
    figure, axes = new_figure(1, 2, width=4.6, height=3.4)
    for ax, keep, title in zip(axes, (expected, got), ("expected", "got"), strict=True):
        show_boxes(boxes, color="0.75", width=1.5, ax=ax)
        for label in labels.unique().tolist():
            rows = keep[labels[keep] == label]
            show_boxes(boxes[rows], color=CYCLE[label % len(CYCLE)], name=f"class {label}", ax=ax)
        ax.set_title(f"{title}: {len(keep)} kept")
    axes[1].legend(loc="best")
    return figure

"""Checks of notebook 03, non-maximum suppression."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, floats, whole


def _crowd(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` boxes scattered around a few places in a frame wider than high, and their scores."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.tensor([[20.0, 15], [33, 18], [70, 30], [88, 12]])
    centers = places[torch.arange(count) % 4] + 4 * torch.randn(count, 2, generator=generator)
    sizes = torch.tensor([18.0, 11.0]) * (0.25 * torch.randn(count, 2, generator=generator)).exp()
    boxes = torch.cat([centers - sizes / 2, centers + sizes / 2], dim=1) + 20  # + 20: inside the image
    return boxes, torch.rand(count, generator=generator)


# -------------------------------------------------------------------------------------------------------- nms


def nms(student: Callable) -> Callable:
    """Check `my_nms(boxes (N, 4), scores (N,), iou_threshold) -> kept rows (K,) int64` of notebook 03.

    Example:
        >>> nms(lambda boxes, scores, iou_threshold: ops.nms(boxes, scores, iou_threshold).sort().values).__name__
        ✗ nms: two boxes apart, the better one in row 1
        ...
          likely: the rows are sorted by number: give them back best score first
        ...
        'nms'
    """
    one = box_rows([2, 1, 12, 6])
    pair = box_rows([2, 1, 12, 6], [3, 1, 13, 6])  # IoU 9 / 11
    apart = box_rows([2, 1, 12, 6], [30, 1, 44, 9])
    half = box_rows([0, 0, 12, 5], [0, 0, 6, 5])  # IoU exactly 1 / 2
    inside = box_rows([0, 0, 20, 10], [4, 2, 10, 8])  # IoU 0.18, though the small one lies inside
    chain = box_rows([0, 0, 10, 5], [4, 0, 14, 5], [8, 0, 18, 5])  # neighbours 3/7, ends 1/9
    heap = box_rows([5, 5, 25, 15], [6, 5, 26, 15], [4, 5, 24, 15], [40, 5, 52, 15], [41, 5, 53, 15])
    many, many_scores = _crowd(60, 4)
    cases = [
        Case("one box", (one, floats(0.9), 0.5)),
        Case("two boxes on one thing: the better one is in row 1", (pair, floats(0.6, 0.9), 0.5)),
        Case("two boxes apart, the better one in row 1", (apart, floats(0.6, 0.9), 0.5)),
        Case("IoU exactly at the threshold: more than the threshold drops", (half, floats(0.9, 0.8), 0.5)),
        Case("IoU just above the threshold", (half, floats(0.8, 0.9), 0.4375)),
        Case("a small box inside a large one, IoU 0.18", (inside, floats(0.9, 0.8), 0.25)),
        Case("a chain: a dropped box drops nothing", (chain, floats(0.9, 0.8, 0.7), 0.25)),
        Case("two groups, not sorted by score", (heap, floats(0.5, 0.9, 0.7, 0.6, 0.8), 0.5)),
        Case("equal scores: the lower row comes first", (heap, floats(1, 1, 1, 1, 1), 0.5)),
        Case("threshold 1: no IoU is above it", (heap, floats(0.5, 0.9, 0.7, 0.6, 0.8), 1.0)),
        Case("boxes that reach over the left and upper edge", (heap - 21, floats(0.5, 0.9, 0.7, 0.6, 0.8), 0.5)),
        Case("no boxes", (box_rows(), floats(), 0.5)),
        Case("40 boxes, few may stay", (*_crowd(40, 0), 0.1)),
        Case("60 boxes with few different scores", (many, many_scores.round(decimals=1), 0.625)),
        Case("60 boxes, many may stay", (*_crowd(60, 1), 0.625)),
    ]
    return run_check("nms", student, ops.nms, cases, mistakes=NMS_MISTAKES, draw=_draw_nms)


def _greedy(
    boxes: Tensor, scores: Tensor, iou_threshold: float, *, drops=torch.gt, overlap=ops.box_iou, order=None
) -> Tensor:
    """Greedy suppression with room for the usual slips."""
    order = scores.argsort(descending=True, stable=True) if order is None else order
    keep: list[Tensor] = []
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
    keep: list[Tensor] = []
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


def _last_forgotten(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order, keep = scores.argsort(descending=True, stable=True), scores.new_zeros(0, dtype=torch.int64)
    while len(order) > 1:
        keep = torch.cat([keep, order[:1]])
        order = order[1:][ops.box_iou(boxes[order[:1]], boxes[order[1:]])[0] <= iou_threshold]
    return keep


def _over_smaller(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    iou, area1, area2 = ops.box_iou(boxes1, boxes2), ops.box_area(boxes1)[:, None], ops.box_area(boxes2)[None]
    inter = iou / (1 + iou) * (area1 + area2)
    return inter / torch.minimum(area1, area2)


NMS_MISTAKES: dict[str, Callable] = {
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
    "among equal scores the lower row comes first: descending=True, stable=True; a flip turns ties round": (
        _last_of_equals
    ),
    "the scores came back: give the rows of `boxes` back": lambda b, s, t: s[ops.nms(b, s, t)],
    "boxes that touch at all are dropped: compare the IoU with iou_threshold": lambda b, s, t: _greedy(b, s, 0.0),
    "a threshold is written into the function: use the argument": lambda b, s, t: _greedy(b, s, 0.5),
    "the last box is never looked at: go on as long as one is left": _last_forgotten,
    "the overlap is divided by the smaller box: divide by the union (IoU)": (
        lambda b, s, t: _greedy(b, s, t, overlap=_over_smaller)
    ),
}


def _draw_nms(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_choice

    boxes, scores = case.args[:2]
    best = f", scores {', '.join(f'{v:.2g}' for v in scores.tolist())}" if len(scores) < 6 else ""
    return draw_choice(f"{case.what}{best}", boxes, {"expected to stay": expected, "got": got})


# -------------------------------------------------------------------------------------------------- class_nms


def class_nms(student: Callable) -> Callable:
    """Check `my_class_nms(boxes (N, 4), scores (N,), labels (N,), iou_threshold) -> kept rows (K,)` of notebook 03.

    Example:
        >>> class_nms(ops.batched_nms).__name__  # moves a class by the largest coordinate: below 0 boxes meet
        ✗ class_nms: two classes, one box below 0: nothing meets
        ...
        'reference_class_nms'
    """
    pair = box_rows([2, 1, 12, 6], [3, 1, 13, 6])
    half = box_rows([0, 0, 12, 5], [0, 0, 6, 5])
    heap = box_rows([5, 5, 25, 15], [6, 5, 26, 15], [4, 5, 24, 15], [5, 5, 24, 15], [41, 5, 53, 15])

    apart = box_rows([80, 80, 100, 100], [-21, -21, -1, -1])  # 101 apart, the largest coordinate and 1
    cases = [
        Case("one box", (pair[:1], floats(0.9), whole(1), 0.5)),
        Case("two boxes at one place, of one class", (pair, floats(0.6, 0.9), whole(1, 1), 0.5)),
        Case("two boxes at one place, of two classes", (pair, floats(0.6, 0.9), whole(1, 2), 0.5)),
        Case("IoU exactly at the threshold", (half, floats(0.9, 0.8), whole(2, 2), 0.5)),
        Case("two classes in turn", (heap, floats(0.9, 0.8, 0.7, 0.6, 0.85), whole(1, 2, 1, 2, 1), 0.5)),
        Case("classes 7 and 3, the scores equal", (heap, floats(1, 1, 1, 1, 1), whole(7, 3, 7, 3, 3), 0.5)),
        Case("two classes, one box below 0: nothing meets", (apart, floats(0.9, 0.8), whole(1, 2), 0.5)),
        Case("no boxes", (box_rows(), floats(), whole(), 0.5)),
        Case("50 boxes of 3 classes", (*_crowd(50, 2), torch.arange(50) % 3 + 1, 0.3125)),
        Case("50 boxes of 3 classes, many below 0", (*_below_0(50, 5), torch.arange(50) % 3, 0.3125)),
        Case("60 boxes of 5 classes", (*_crowd(60, 3), 60 * (torch.arange(60) ** 2 % 5 + 1), 0.125)),
    ]
    return run_check("class_nms", student, reference_class_nms, cases, mistakes=CLASS_NMS_MISTAKES, draw=_draw_class)


def _below_0(count: int, seed: int) -> tuple[Tensor, Tensor]:
    boxes, scores = _crowd(count, seed)
    return boxes - torch.tensor([70.0, 40.0, 70.0, 40.0]), scores


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


def _joined(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    rows = _class_after_class(boxes, scores, labels, iou_threshold)
    return rows[scores[rows].argsort(descending=True, stable=True)]


def _moved(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """The trick that moves each class out of the others' way, by too little where boxes lie below 0."""
    return ops.nms(boxes + labels[:, None] * (boxes.max() + 1), scores, iou_threshold)


def _without_last_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    keep = reference_class_nms(boxes, scores, labels, iou_threshold)
    return keep[labels[keep] < labels.max()] if len(keep) else keep


def _agnostic(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return ops.nms(boxes, scores, iou_threshold)


CLASS_NMS_MISTAKES: dict[str, Callable] = {
    "classes are moved so far apart that float32 has no digits left for the boxes": (
        lambda b, s, c, t: ops.nms(b + 1e6 * c[:, None], s, t)
    ),
    "the labels are not used: a box may drop boxes of its own class only": _agnostic,
    "the classes stand one after the other: sort what is kept, best score first": _class_after_class,
    "these are rows within a class: translate them to rows of `boxes`": _rows_in_class,
    "boxes of other classes are dropped, those of the same class stay: turn it round": _other_classes,
    "the last class is missing: range(1, n) stops before n": _without_last_class,
    "moving class k by k pixels leaves the classes on top of each other: move by more than the largest coordinate": (
        lambda b, s, c, t: ops.nms(b + c[:, None], s, t)
    ),
    "boxes that reach below 0 meet those of another class: move by more than boxes.max() - boxes.min()": _moved,
    "among equal scores the lower row comes first, whatever its class: sort the joined rows by number before": _joined,
    "class 0 is left out: take every label there is, labels.unique()": (
        lambda b, s, c, t: (keep := reference_class_nms(b, s, c, t))[c[keep] > 0]
    ),
    "class 0 and the last class are left out: take every label there is, labels.unique()": (
        lambda b, s, c, t: (keep := _without_last_class(b, s, c, t))[c[keep] > 0]
    ),
    "only the first class is looked at: does the loop end too early?": (
        lambda b, s, c, t: (keep := reference_class_nms(b, s, c, t))[c[keep] == (c.min() if len(c) else 0)]
    ),
    "these are places among the kept rows: index the rows with the order": (
        lambda b, s, c, t: s[reference_class_nms(b, s, c, t).sort().values].argsort(descending=True, stable=True)
    ),
    "a mask came back: give row numbers back, best first": (
        lambda b, s, c, t: torch.zeros_like(c, dtype=torch.bool).index_fill(0, reference_class_nms(b, s, c, t), True)
    ),
    "the kept rows are sorted by number: give them back best score first": (
        lambda b, s, c, t: reference_class_nms(b, s, c, t).sort().values
    ),
}


def _draw_class(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, fit, legend, number_boxes, panels
    from labkit.plotting import CYCLE, show_boxes

    boxes, _, labels = (value.cpu() for value in case.args[:3])
    figure, axes = panels(2, title=f"{case.what}: numbered in order", width=4.6, height=3.8)
    pairs = (("expected", expected.cpu(), EXPECTED), ("got", got.cpu(), GOT))
    for ax, (name, keep, color) in zip(axes, pairs, strict=True):
        show_boxes(boxes, color="0.75", width=1.5, ax=ax)
        for k, label in enumerate(labels.unique().tolist()):
            style = ("-", "--", ":", "-.")[k % 4]
            rows = keep[labels[keep] == label]
            show_boxes(boxes[rows], color=CYCLE[k % len(CYCLE)], style=style, name=f"class {label}", ax=ax)
        number_boxes(ax, boxes[keep], color=color)
        ax.set_title(f"{name}: {len(keep)} kept", color=color)
    fit(axes, boxes)
    legend(axes[1])
    return figure

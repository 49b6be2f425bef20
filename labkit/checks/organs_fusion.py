"""The check of notebook 15, organs in one pass: the mean of the best proposals."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform
from labkit.checks.organs import rows_3d, scattered_boxes_3d, two_views
from labkit.detection.fusion import fuse_proposals as package_fuse


def fuse_proposals(student: Callable) -> Callable:
    """Check `my_fuse_proposals(boxes (R, 6), scores (R,), share) -> (1, 6), or (0, 6) of none` of notebook 15.

    Example:
        >>> fuse_proposals(lambda boxes, scores, share: boxes[scores.argmax()][None]).__name__
        ✗ fuse_proposals: two boxes of the same score, all of them: their middle
        ...
          likely: the best alone is another method: ...
        ...
        'reference_fuse_proposals'
    """
    pair = rows_3d([2, 4, 6, 12, 9, 20], [4, 4, 8, 16, 13, 22])
    few = scattered_boxes_3d(5, 20)
    many, scores = scattered_boxes_3d(47, 30), 0.5 + 0.5 * uniform(47, seed=33)
    cases = [
        Case("two boxes of the same score, all of them: their middle", (pair, floats(0.5, 0.5), 1.0)),
        Case("two boxes of scores 0.9 and 0.3, all of them", (pair, floats(0.9, 0.3), 1.0)),
        Case("two boxes, the better one second, half of them", (pair, floats(0.6, 0.9), 0.5)),
        Case("a tenth of two boxes: one at least", (pair, floats(0.8, 0.6), 0.1)),
        Case("five boxes, half of them: two", (few, floats(0.6, 0.95, 0.7, 0.9, 0.52), 0.5)),
        Case("five boxes, three fifths, scores as small as 0.01", (few, floats(0.05, 0.01, 0.02, 0.04, 0.03), 0.6)),
        Case("one box", (pair[:1], floats(0.7), 0.1)),
        Case("47 boxes, a tenth of them: four", (many, scores, 0.1)),
        Case("no proposals: there is no answer", (rows_3d(), floats(), 0.1)),
        Case("47 boxes, a quarter of them: eleven", (many, scores, 0.25)),
    ]
    return run_check(
        "fuse_proposals",
        student,
        reference_fuse_proposals,
        cases,
        mistakes=FUSE_PROPOSALS_MISTAKES,
        draw=_draw_fused,
        atol=1e-3,
    )


def reference_fuse_proposals(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    """`labkit.detection.fusion.fuse_proposals`."""
    return package_fuse(boxes, scores, share=share)


def _at_least_one(count: int, share: float) -> int:
    return max(1, int(share * count))


def _fuse(
    boxes: Tensor,
    scores: Tensor,
    share: float,
    *,
    count: Callable = _at_least_one,
    order: Callable = lambda scores: scores.argsort(descending=True),
    weights: Callable = lambda chosen: chosen / chosen.sum(),
    empty: bool = True,
) -> Tensor:
    """The mean with room for the usual slips."""
    if empty and not len(boxes):
        return boxes
    best = order(scores)[: count(len(boxes), share)]
    return (weights(scores[best])[:, None] * boxes[best]).sum(dim=0, keepdim=True)


def _with(**slip) -> Callable:
    return lambda boxes, scores, share: _fuse(boxes, scores, share, **slip)


def _first_scores(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    count = _at_least_one(len(boxes), share)
    chosen, weights = boxes[scores.argsort(descending=True)[:count]], scores[:count, None]
    return (weights * chosen).sum(dim=0, keepdim=True) / weights.sum()


def _near_the_best(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    near = scores >= (1 - share) * scores.max()
    return (scores[near, None] * boxes[near]).sum(dim=0, keepdim=True) / scores[near].sum()


def _median(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    best = scores.topk(_at_least_one(len(boxes), share)).indices
    return boxes[best].median(dim=0, keepdim=True).values


def _none(boxes: Tensor, share: float) -> float:
    """NaN where the share of some boxes comes to none."""
    return float("nan") if len(boxes) and int(share * len(boxes)) == 0 else 0.0


def _columns_sorted(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    order = scores.sort(descending=True, stable=True).values
    return _fuse(boxes.sort(dim=0, descending=True).values, order, share)


def _around_the_best(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    best = boxes[scores.topk(_at_least_one(len(boxes), share)).indices]
    return torch.cat([best[:, :3].amin(dim=0), best[:, 3:].amax(dim=0)])[None]


FUSE_PROPOSALS_MISTAKES: dict[str, Callable] = {
    "the best alone is another method: take the mean of the best share of the proposals": _with(count=lambda n, s: 1),
    "the share is missing: only the best of the proposals count": _with(count=lambda n, s: n),
    "the share is written into the function: use the argument": _with(count=lambda n, s: max(1, n // 10)),
    "the share is rounded down: int(share * R)": _with(count=lambda n, s: max(1, -int(-s * n // 1))),
    "a tenth of few proposals is none: take one at least": _with(count=lambda n, s: int(s * n)),
    "a tenth of few proposals is none, and the mean of none is NaN: take one at least": (
        lambda b, s, share: (
            _fuse(b, s, share, count=lambda n, s: int(s * n), weights=lambda c: c / c.sum()) + _none(b, share)
        )
    ),
    "one at least, not one more": _with(count=lambda n, s: 1 + int(s * n)),
    "a better proposal counts more: weigh by score": (
        _with(weights=lambda chosen: torch.full_like(chosen, 1 / len(chosen)))
    ),
    "the share is rounded down: int(share * R), not round()": _with(count=lambda n, s: max(1, round(s * n))),
    "a better proposal counts by its score, not by its rank": (
        _with(weights=lambda chosen: torch.arange(len(chosen), 0.0, -1.0) / sum(range(len(chosen) + 1)))
    ),
    "a box is a row: sort whole rows by score, not each column by itself": _columns_sorted,
    "this is the box around the best: their mean is wanted, weighted by score": _around_the_best,
    "a wall may lie between voxels: do not round": (lambda b, s, share: reference_fuse_proposals(b, s, share).round()),
    "the weights must add up to 1: divide by the sum of the scores": _with(weights=lambda chosen: chosen),
    "divide by the sum of the scores, not by the number of boxes": _with(weights=lambda chosen: chosen / len(chosen)),
    "divide by the sum of the chosen scores, not of all": (
        lambda b, s, share: _fuse(b, s, share, weights=lambda chosen: chosen / s.sum())
    ),
    "the scores themselves are the weights: no softmax": _with(weights=lambda chosen: chosen.softmax(dim=0)),
    "the scores themselves are the weights: no squares": (_with(weights=lambda chosen: chosen**2 / (chosen**2).sum())),
    "these are the worst proposals: sort by falling score": _with(order=lambda scores: scores.argsort()),
    "these are the first proposals: sort by falling score": _with(order=lambda scores: torch.arange(len(scores))),
    "the boxes are sorted and the scores are not: index both by the same rows": _first_scores,
    "the scores are sorted and the boxes are not: index both by the same rows": (
        lambda b, s, share: _fuse(b, s.sort(descending=True).values, share)
    ),
    "the best share is a number of proposals, not a distance from the best score": _near_the_best,
    "this is a median: the mean of the boxes is wanted, weighted by score": _median,
    "without proposals there is no answer: give boxes (0, 6) back": _with(empty=False),
    "one row a box: (1, 6), not (6,)": (lambda b, s, share: reference_fuse_proposals(b, s, share)[0] if len(b) else b),
}


def _draw_fused(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.explain import shortened
    from labkit.plotting import COLORS

    boxes, got = case.args[0], got.reshape(-1, 6)
    shown = {"proposals": boxes, "expected": expected, "got": got}
    title = shortened(case.what, 200)
    return two_views(title, shown, ("0.7", COLORS["green"], COLORS["orange"]))

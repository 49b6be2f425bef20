"""The check of notebook 14, nodules in two stages: which candidates are hard negatives."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform
from labkit.checks.nodules import points
from labkit.detection.candidates import hard_candidates as package_hard


def hard_candidates(student: Callable) -> Callable:
    """Check `my_hard_candidates(centers, scores, nodules, diameters, count, margin) -> (n,) rows` of notebook 14.

    Example:
        >>> hard_candidates(lambda *args: reference_hard_candidates(*args).flip(0)).__name__
        ✗ hard_candidates: no nodule in the scan: every candidate is wrong
        ...
          likely: the hardest come first: the highest scores
        ...
        'reference_hard_candidates'
    """
    line = points([0, 0, 0], [4, 0, 0], [9, 0, 0], [14, 0, 0], [40, 0, 0])
    scores = floats(0.5, 0.7, 0.6, 0.2, 0.3)
    one, two = points([0, 0, 0]), points([0, 0, 0], [40, 3, 0])
    boxed = uniform(23, 3, seed=2) * floats(90, 60, 40)
    centers = uniform(5, 3, seed=3) * floats(90, 60, 40)
    cases = [
        _case("no nodule in the scan: every candidate is wrong", line, floats(0.5, 0.7, 0.6, 0.2, 0.4), points(), []),
        _case(
            "one nodule, one candidate on it",
            points([30, 0, 0], [1, 0, 0], [0, 50, 0]),
            floats(0.3, 0.9, 0.6),
            one,
            [8],
        ),
        _case("on the nodule, at its edge, and beyond", line, scores, one, [8]),
        _case("the same, a margin of 0", line, scores, one, [8], margin=0.0),
        _case("the same, another margin", line, scores, one, [8], margin=9.0),
        _case("exactly at radius + margin: still too near", line, scores, one, [8], margin=10.0),
        _case("a large nodule: its diameter is halved", line, scores, one, [16], margin=2.0),
        _case(
            "nearer to a small nodule than to a large one, and yet too near to that",
            points([11, 0, 0], [0, 9, 0]),
            floats(0.7, 0.4),
            points([0, 0, 0], [30, 0, 0]),
            [4, 40],
        ),
        _case("two nodules: clear of both", line, scores, two, [8, 20]),
        _case(
            "a candidate above the nodule, not beside it",
            points([0, 0, 20], [0, 0, 3], [7, 0, 0], [3, 3, -4]),
            floats(0.4, 0.9, 0.8, 0.6),
            one,
            [6],
        ),
        _case("more wrong ones than wanted", line, scores, points([99, 0, 0]), [5], count=2),
        _case("the best candidates are nodules: they take no place", line, scores, two[:1], [20], count=2),
        _case("none are wanted that are left", points([1, 0, 0], [0, 2, 0]), floats(0.9, 0.5), one, [10]),
        _case("none are asked for: count 0", line, scores, one, [8], count=0),
        _case("no candidates", points(), floats(), one, [8]),
        _case("a busy scan", boxed, uniform(23, seed=4), centers, [4, 6, 9, 15, 22], count=7),
    ]
    return run_check("hard_candidates", student, reference_hard_candidates, cases, mistakes=HARD_CANDIDATES_MISTAKES)


def _case(
    what: str,
    centers: Tensor,
    scores: Tensor,
    nodules: Tensor,
    diameters: list[float],
    *,
    count: int = 9,
    margin: float = 4.0,
) -> Case:
    return Case(what, (centers, scores, nodules, floats(*diameters), count, margin))


def reference_hard_candidates(
    centers: Tensor, scores: Tensor, nodules: Tensor, diameters: Tensor, count: int, margin: float
) -> Tensor:
    """`labkit.detection.candidates.hard_candidates`."""
    return package_hard(centers, scores, nodules, diameters, count=count, margin=margin)


def _euclid(offset: Tensor) -> Tensor:
    return offset.square().sum(dim=-1).sqrt()


def _hard(
    centers: Tensor,
    scores: Tensor,
    nodules: Tensor,
    diameters: Tensor,
    count: int,
    margin: float,
    *,
    distance: Callable = _euclid,
    limit: Callable = lambda d, margin: d / 2 + margin,
    beyond: Callable = torch.gt,
    join: Callable = lambda far: far.all(dim=1),
    order: Callable = lambda scores: scores.argsort(descending=True),
    early: bool = False,
) -> Tensor:
    """Mining with room for the usual slips."""
    far = join(beyond(distance(centers[:, None] - nodules), limit(diameters, margin)))
    rows = order(scores)
    if early:
        rows = rows[:count]
    return rows[far[rows]][:count]


def _slip(**slip) -> Callable:
    return lambda *args: _hard(*args, **slip)


def _rows_of_the_far(centers, scores, nodules, diameters, count, margin) -> Tensor:
    far = (_euclid(centers[:, None] - nodules) > diameters / 2 + margin).all(dim=1)
    return scores[far].argsort(descending=True)[:count]


def _hits(centers, scores, nodules, diameters, count, margin) -> Tensor:
    near = (_euclid(centers[:, None] - nodules) <= diameters / 2 + margin).any(dim=1)
    rows = scores.argsort(descending=True)
    return rows[near[rows]][:count]


def _nearest_center(centers, scores, nodules, diameters, count, margin) -> Tensor:
    """Only the nodule whose centre is nearest is looked at; a large one further off may reach nearer."""
    if not len(nodules):
        return scores.argsort(descending=True)[:count]
    distance, which = _euclid(centers[:, None] - nodules).min(dim=1)
    far = distance > diameters[which] / 2 + margin
    rows = scores.argsort(descending=True)
    return rows[far[rows]][:count]


def _rows_of(far: Tensor, scores: Tensor, count: int, *, best: Callable | None = None) -> Tensor:
    rows = far.nonzero()[:, 0]
    best = best or (lambda left: left.argsort(descending=True)[:count])
    return rows[best(scores[rows])]


def _nearest_surface(centers, scores, nodules, diameters, count, margin) -> Tensor:
    """Right, but where there is no nodule."""
    return _rows_of((_euclid(centers[:, None] - nodules) - diameters / 2).min(dim=1).values > margin, scores, count)


def _topk_of_few(centers, scores, nodules, diameters, count, margin) -> Tensor:
    far = (_euclid(centers[:, None] - nodules) > diameters / 2 + margin).all(dim=1)
    return _rows_of(far, scores, count, best=lambda left: left.topk(count).indices)


def _last_of_all(centers, scores, nodules, diameters, count, margin) -> Tensor:
    far = (_euclid(centers[:, None] - nodules) > diameters / 2 + margin).all(dim=1)
    return _rows_of(far, scores, count, best=lambda left: left.argsort()[-count:].flip(0))


def _over_candidates(centers, scores, nodules, diameters, count, margin) -> Tensor:
    far = (_euclid(centers[:, None] - nodules) > diameters / 2 + margin).all(dim=0)
    return _rows_of(far, scores, count)


def _scored_zero(centers, scores, nodules, diameters, count, margin) -> Tensor:
    far = (_euclid(centers[:, None] - nodules) > diameters / 2 + margin).all(dim=1)
    return torch.where(far, scores, 0.0).topk(min(count, len(scores))).indices


def _as_mask(*args) -> Tensor:
    chosen = torch.zeros(len(args[0]), dtype=torch.bool, device=args[0].device)
    chosen[_hard(*args)] = True
    return chosen


HARD_CANDIDATES_MISTAKES: dict[str, Callable] = {
    "the hardest come first: the highest scores": lambda *args: _hard(*args).flip(0),
    "hard are those with the highest scores, not the lowest": _slip(order=lambda s: s.argsort()),
    "hard are those with the highest scores, not the first of the list": _slip(
        order=lambda s: torch.arange(len(s), device=s.device)
    ),
    "candidates on nodules are no negatives: leave them out": _slip(
        join=lambda far: torch.ones(len(far), dtype=torch.bool, device=far.device)
    ),
    "those far from every nodule are wanted, not those on one": _hits,
    "the margin is missing": _slip(limit=lambda d, margin: d / 2),
    "the margin is added to the radius: a nodule reaches to its surface": _slip(limit=lambda d, margin: 0 * d + margin),
    "the margin is added to the radius, not subtracted": _slip(limit=lambda d, margin: d / 2 - margin),
    "the distance is from the centre: half of the diameter, not the diameter": _slip(
        limit=lambda d, margin: d + margin
    ),
    "the distance is from the centre: half of the diameter and the whole margin, not half of both": _slip(
        limit=lambda d, margin: (d + margin) / 2
    ),
    "count and margin are exchanged: the last two arguments are count, then margin": (
        lambda c, s, n, d, count, margin: _hard(c, s, n, d, int(margin), float(count))
    ),
    "count and margin are exchanged: the last two arguments are count, then margin (a slice needs a whole number)": (
        lambda c, s, n, d, count, margin: _hard(c, s, n, d, margin, count)
    ),
    "margin is in mm, from the surface: not a factor of the radius": _slip(limit=lambda d, margin: d / 2 * margin),
    "exactly at the limit is still too near: >": _slip(beyond=torch.ge),
    "each nodule has a radius of its own: the largest is not for all": (
        _slip(limit=lambda d, margin: (d.amax() if len(d) else 0) / 2 + margin)
    ),
    "each nodule has a radius of its own: not the mean for all": _slip(limit=lambda d, margin: d.mean() / 2 + margin),
    "all() over the nodules of one candidate, dim=1, not over the candidates": _over_candidates,
    "a candidate too near is left out; with a score of 0 it still fills a place": _scored_zero,
    "where there is no nodule there is no nearest one: all() of nothing is True, min() stops": _nearest_surface,
    "fewer may be left than `count`: topk() wants at least that many, a slice [:count] does not": _topk_of_few,
    "the last `count`, [-count:], are all of them where count is 0: sort downwards and take [:count]": _last_of_all,
    "clear of every nodule, not of any one: all, not any": _slip(
        join=lambda far: far.any(dim=1) if far.shape[1] else far.all(dim=1)
    ),
    "clear of every nodule, not of the first alone": _slip(join=lambda far: far[:, :1].all(dim=1)),
    "where there is no nodule every candidate is wrong: any of nothing is False": _slip(
        join=lambda far: far.any(dim=1)
    ),
    "a nodule whose centre is farther may be larger and reach nearer: look at every nodule": _nearest_center,
    "a distance in space has three parts; z is left out": _slip(distance=lambda d: _euclid(d[..., :2])),
    "the distance is a straight line: the root of the sum of squares, not the largest part": (
        _slip(distance=lambda d: d.abs().amax(dim=-1))
    ),
    "the distance is a straight line, not the sum of the parts": _slip(distance=lambda d: d.abs().sum(dim=-1)),
    "the root is missing: squared millimetres are compared": _slip(distance=lambda d: d.square().sum(dim=-1)),
    "first leave out, then count: nodules took places among the best": _slip(early=True),
    "rows of the whole list are wanted, not of those that were left": _rows_of_the_far,
    "rows are wanted, best first, not a mask": _as_mask,
    "rows in the order of their scores, not of the list": lambda *args: _hard(*args).sort().values,
    "at most `count` are wanted": lambda c, s, n, d, count, margin: _hard(c, s, n, d, len(c), margin),
    "the scores are not wanted, but the rows they stand in": lambda *args: args[1][_hard(*args)],
}

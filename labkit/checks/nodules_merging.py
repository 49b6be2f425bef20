"""The check of notebook 14, nodules in two stages: marks of neighbouring slices."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform
from labkit.checks.nodules import points
from labkit.detection.candidates import merge_slices as package_merge


def merge_slices(student: Callable) -> Callable:
    """Check `my_merge_slices(centers (N, 3), scores (N,), reach) -> (centers (M, 3), scores (M,))` of notebook 14.

    Example:
        >>> merge_slices(lambda centers, scores, reach: _merge(centers, scores, reach, center=_plain_mean)).__name__
        ✗ merge_slices: two marks of one thing on neighbouring slices
        ...
          likely: the mean is weighted by the scores: a faint mark counts little
        ...
        'reference_merge_slices'
    """
    column = points([4, 9, 0], [4, 9, 4], [4, 9, 8], [4, 9, 12])
    far = points([3, 5, 2], [40, 7, 2], [3, 60, 4])
    many = torch.cat([uniform(12, 3, seed=5) * floats(30, 14, 9), uniform(5, 3, seed=6) * floats(9, 5, 30)])
    cases = [
        Case("one mark", (points([12, 7, 30]), floats(0.6), 5.0)),
        Case(
            "two marks of one thing on neighbouring slices", (points([12, 7, 30], [13, 7, 32]), floats(0.6, 0.2), 5.0)
        ),
        Case("the stronger one comes last", (points([12, 7, 30], [13, 8, 32]), floats(0.2, 0.7), 5.0)),
        Case("two things far apart, the better one first", (far[:2], floats(0.3, 0.8), 5.0)),
        Case("three things, one of two marks", (torch.cat([far, far[:1] + 2]), floats(0.5, 0.9, 0.3, 0.25), 5.0)),
        Case("one below the other, many slices apart", (points([9, 7, 0], [9, 7, 30]), floats(0.4, 0.5), 6.0)),
        Case("a step of 3 mm along each axis is 5.2 mm", (points([0, 0, 0], [3, 3, 3]), floats(0.5, 0.4), 5.0)),
        Case("exactly as far as the reach: it still belongs", (points([0, 0, 0], [3, 0, 4]), floats(0.5, 0.4), 5.0)),
        Case(
            "a vessel runs through many slices: each mark looks from the strongest",
            (column, floats(0.3, 0.9, 0.5, 0.4), 5.0),
        ),
        Case(
            "a mark between two strong ones goes to the stronger",
            (points([0, 0, 0], [0, 4, 0], [0, 8, 0]), floats(0.6, 0.3, 0.8), 5.0),
        ),
        Case(
            "two candidates nearer than the reach: each mark looked from the strongest, and they stay two",
            (points([0, 0, 0], [0, 0, 5], [0, 0, 6]), floats(0.5, 0.45, 0.3), 5.0),
        ),
        Case("another reach", (column, floats(0.3, 0.9, 0.5, 0.4), 2.0)),
        Case("no marks", (points(), floats(), 5.0)),
        Case("seventeen marks", (many, uniform(17, seed=7), 7.0)),
    ]
    return run_check("merge_slices", student, reference_merge_slices, cases, mistakes=MERGE_SLICES_MISTAKES, draw=_draw)


def reference_merge_slices(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """`labkit.detection.candidates.merge_slices`."""
    return package_merge(centers, scores, reach=reach)


def _euclid(offset: Tensor) -> Tensor:
    return offset.square().sum(dim=1).sqrt()


def _weighted(centers: Tensor, scores: Tensor) -> Tensor:
    return (centers * scores[:, None]).sum(0) / scores.sum()


def _plain_mean(centers: Tensor, scores: Tensor) -> Tensor:
    return centers.mean(0)


def _merge(
    centers: Tensor,
    scores: Tensor,
    reach: float,
    *,
    distance: Callable = _euclid,
    near: Callable = torch.le,
    center: Callable = _weighted,
    score: Callable = torch.amax,
    order: Callable = lambda scores: scores.argsort(descending=True),
    taken: bool = True,
    least: int = 1,
    keep: Callable = lambda found: found,
) -> tuple[Tensor, Tensor]:
    """Greedy merging with room for the usual slips."""
    free = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    found: list[tuple[Tensor, Tensor]] = []
    for row in order(scores).tolist():
        if free[row]:
            mine = near(distance(centers - centers[row]), reach)
            mine = mine & free if taken else mine
            free = free & ~mine
            if mine.sum() >= least:
                found.append((center(centers[mine], scores[mine]), score(scores[mine])))
    found = keep(found)
    if not found:
        return centers[:0], scores[:0]
    return torch.stack([c for c, _ in found]), torch.stack([s for _, s in found])


def _chains(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """A mark belongs where it is near to any mark that is there already."""
    joined = torch.cdist(centers, centers) <= reach
    for _ in range(len(scores)):
        joined = (joined.float() @ joined.float()) > 0
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for row in scores.argsort(descending=True).tolist():
        if not any(members[row] for members, *_ in found):
            mine = joined[row]
            found.append((mine, _weighted(centers[mine], scores[mine]), scores[mine].max()))
    if not found:
        return centers[:0], scores[:0]
    return torch.stack([c for _, c, _ in found]), torch.stack([s for *_, s in found])


def _slipped(**slip) -> Callable:
    return lambda centers, scores, reach: _merge(centers, scores, reach, **slip)


def _backwards(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    middles, best = _merge(centers, scores, reach)
    return middles.flip(0), best.flip(0)


def _merged_again(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """A second round, over the candidates."""
    middles, best = _merge(centers, scores, reach)
    kept: list[int] = []
    for row in range(len(best)):
        kept += [row] * all(bool(_euclid(middles[[row]] - middles[[other]]) > reach) for other in kept)
    return middles[kept], best[kept]


def _from_the_mean(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    free = scores.argsort(descending=True).tolist()
    middles, best = [], []
    while free:
        group = [free.pop(0)]
        for row in list(free):
            middle = _weighted(centers[group], scores[group])
            if _euclid((centers[row] - middle)[None]) <= reach:
                group.append(row)
                free.remove(row)
        middles.append(_weighted(centers[group], scores[group]))
        best.append(scores[group[0]])
    return (torch.stack(middles), torch.stack(best)) if best else (centers[:0], scores[:0])


def _sorted_at_the_end(centers: Tensor, scores: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    middles, best = _merge(centers, scores, reach, order=lambda s: torch.arange(len(s)))
    order = best.argsort(descending=True)
    return middles[order], best[order]


MERGE_SLICES_MISTAKES: dict[str, Callable] = {
    "the mean is weighted by the scores: a faint mark counts little": _slipped(center=_plain_mean),
    "the mean of the marks is wanted, not the place of the strongest": _slipped(center=lambda c, s: c[s.argmax()]),
    "the weighted sum is divided by the sum of the weights, not by their number": (
        _slipped(center=lambda c, s: (c * s[:, None]).mean(0))
    ),
    "the weighted sum is divided by the sum of the weights": _slipped(center=lambda c, s: (c * s[:, None]).sum(0)),
    "the weights are the scores, not their squares": _slipped(center=lambda c, s: _weighted(c, s**2)),
    "the scores themselves are the weights: no softmax": _slipped(center=lambda c, s: s.softmax(0) @ c),
    "a candidate's score is the highest of its marks, not the lowest": _slipped(score=torch.amin),
    "a candidate's score is the highest of its marks, not their mean": _slipped(score=torch.mean),
    "a candidate's score is the highest of its marks, not their sum": _slipped(score=torch.sum),
    "the score is the highest, not that at the end of the list": _slipped(score=lambda s: s[-1]),
    "the strongest mark begins, not the first of the list": _slipped(order=lambda s: torch.arange(len(s))),
    "the strongest mark begins: to sort the candidates at the end is too late": _sorted_at_the_end,
    "each mark looks from the strongest, not from the mean of the group so far": _from_the_mean,
    "candidates are not merged again: two of them may be nearer than the reach": _merged_again,
    "a mark that was taken is gone: no later candidate may use it in its mean": (
        lambda centers, scores, reach: (
            _merge(centers, scores, reach, taken=False)[0],
            _merge(centers, scores, reach)[1],
        )
    ),
    "the strongest mark begins, not the faintest": _slipped(order=lambda s: s.argsort()),
    "a mark that was taken is gone: nobody else may take it": _slipped(taken=False),
    "a mark belongs to the strongest if it is near to that one; here it may be near to any mark of the group, and a vessel becomes one long chain": (  # noqa: E501
        _chains
    ),
    "a distance in space has three parts; z is left out": _slipped(distance=lambda d: _euclid(d[:, :2])),
    "a distance in space has three parts; only z is looked at": _slipped(distance=lambda d: d[:, 2].abs()),
    "the distance is a straight line: the root of the sum of squares, not the largest part": (
        _slipped(distance=lambda d: d.abs().amax(dim=1))
    ),
    "the distance is a straight line: the root of the sum of squares, not the sum of the parts": (
        _slipped(distance=lambda d: d.abs().sum(dim=1))
    ),
    "the root is missing: squared millimetres are compared with the reach": (
        _slipped(distance=lambda d: d.square().sum(dim=1))
    ),
    "a mark exactly at the reach belongs too: <=": _slipped(near=torch.lt),
    "the reach counts from the strongest mark; here it is halved": _slipped(near=lambda d, reach: d <= reach / 2),
    "the reach is written into the function: use the argument": _slipped(near=lambda d, reach: d <= 5.0),
    "a candidate of a single mark is one, too": _slipped(least=2),
    "all candidates are wanted, not the best alone": _slipped(keep=lambda found: found[:1]),
    "the best candidate comes first": _backwards,
    "nothing is merged: marks near to the strongest one are of the same thing": _slipped(near=lambda d, reach: d == 0),
}


def _draw(case: Case, expected: tuple, got: tuple):
    """Marks in the plane of x and z, and the candidates made of them."""
    from labkit.checks.pictures import EXPECTED, GOT, panels

    centers, scores, reach = (value.cpu() if isinstance(value, Tensor) else value for value in case.args)
    figure, axes = panels(2, title=f"{case.what}: marks (grey) and candidates, reach {reach:g} mm", width=4.4)
    for ax, name, (middles, best), color in zip(
        axes, ("expected", "got"), (expected, got), (EXPECTED, GOT), strict=True
    ):
        ax.scatter(centers[:, 0], centers[:, 2], s=60 + 500 * scores, color="0.75", edgecolor="0.4")
        x, _, z = middles.detach().cpu().float().T
        ax.scatter(x, z, s=90, color=color, marker="x", linewidths=3)
        ax.set(title=f"{name}: {len(best)}", xlabel="x (mm)", ylabel="z (mm)")
        ax.title.set_color(color)
        ax.margins(0.25)
    return figure

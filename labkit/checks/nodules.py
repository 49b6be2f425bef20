"""The checks of notebook 14, nodules in two stages: millimetres and voxels, and marks of neighbouring slices.

Which candidates are hard negatives: nodules_training.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, uniform
from labkit.detection.candidates import merge_slices as package_merge
from labkit.detection.world import world_to_voxel as package_voxels

Axes = tuple[float, float, float]
FORWARDS, TURNED = (1.0, 1.0, 1.0), (1.0, -1.0, -1.0)


def points(*rows) -> Tensor:
    """(N, 3) float32; (0, 3) of nothing.

    Example:
        >>> points([1, 2, 3]).shape, points().shape
        (torch.Size([1, 3]), torch.Size([0, 3]))
    """
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 3)


def world_to_voxel(student: Callable) -> Callable:
    """Check `my_world_to_voxel(points (N, 3) x y z, origin, spacing, direction) -> (N, 3) z y x` of notebook 14.

    Example:
        >>> world_to_voxel(lambda *args: reference_world_to_voxel(*args).flip(1)).__name__
        ✗ world_to_voxel: one point, voxels of 1 mm, an origin of 0
          the result differs in 2 of 3 numbers; at [0, 0] it is 2, expected 7
          ...
          likely: the rows of a volume are z y x: the order is turned over, from x y z
        ...
        'reference_world_to_voxel'
    """
    ones, none = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    grid = ((-130.0, 40.0, -210.0), (2.5, 0.5, 0.75))
    scattered = 90 * noise(17, 3, seed=3)
    cases = [
        Case("one point, voxels of 1 mm, an origin of 0", (points([2, 5, 7]), none, ones, FORWARDS)),
        Case("an origin that is not 0", (points([2, 5, 7]), (3.0, 1.0, -4.0), ones, FORWARDS)),
        Case("thick slices", (points([4, 6, 15]), none, (2.5, 0.5, 0.25), FORWARDS)),
        Case("origin and spacing", (points([-204, 46, -120]), *grid, FORWARDS)),
        Case("an origin far away, an axis that runs against the world's", (points([30, 20, 50]), *grid, (1, 1, -1.0))),
        Case("the slices run downwards", (points([30, 20, -150]), *grid, (-1.0, 1, 1))),
        Case("two axes turned over, as in some of LUNA16's scans", (points([-230, 12, -100]), *grid, TURNED)),
        Case("a place between voxels: not rounded", (points([-204.3, 45.6, -119.1]), *grid, FORWARDS)),
        Case("a point outside the volume: the answer says so", (points([-240, 30, -140]), *grid, FORWARDS)),
        Case("three points", (points([-204, 46, -120], [-200, 51, -110], [-190, 60, 5]), *grid, TURNED)),
        Case("no points", (points(), *grid, TURNED)),
        Case("seventeen points", (scattered, *grid, (-1.0, 1.0, -1.0))),
    ]
    return run_check(
        "world_to_voxel", student, reference_world_to_voxel, cases, mistakes=WORLD_TO_VOXEL_MISTAKES, atol=1e-3
    )


def reference_world_to_voxel(points: Tensor, origin: Axes, spacing: Axes, direction: Axes) -> Tensor:
    """`labkit.detection.world.world_to_voxel`."""
    return package_voxels(points, origin=origin, spacing=spacing, direction=direction)


def _voxels(
    given: Tensor,
    origin: Axes,
    spacing: Axes,
    direction: Axes,
    *,
    first: Callable = lambda p: p.flip(1),
    rule: Callable = lambda p, o, s, d: (p - o) / (s * d),
    last: Callable = lambda voxels: voxels,
) -> Tensor:
    """The conversion with room for the usual slips."""
    o, s, d = (torch.tensor(values, device=given.device) for values in (origin, spacing, direction))
    return last(rule(first(given), o, s, d))


def _slip(**slip) -> Callable:
    return lambda given, origin, spacing, direction: _voxels(given, origin, spacing, direction, **slip)


def _same(values: Tensor) -> Tensor:
    return values


WORLD_TO_VOXEL_MISTAKES: dict[str, Callable] = {
    "points are x y z, origin and spacing z y x: turn the points over before you subtract": _slip(first=_same),
    "points are x y z, origin and spacing z y x: turn the points over before you subtract, not at the end": (
        _slip(first=_same, last=lambda voxels: voxels.flip(1))
    ),
    "the rows of a volume are z y x: the order is turned over, from x y z": _slip(last=lambda voxels: voxels.flip(1)),
    "the three numbers of a point are turned over (dim 1), not the order of the points": (
        _slip(first=lambda p: p.flip(0))
    ),
    "points, coordinates and all, are turned over: dim 1 only": _slip(first=lambda p: p.flip(0, 1)),
    "the origin is missing: voxel 0 lies there, not at 0 mm": _slip(rule=lambda p, o, s, d: p / (s * d)),
    "the origin is subtracted, not added": _slip(rule=lambda p, o, s, d: (p + o) / (s * d)),
    "from the origin to the point: point - origin": _slip(rule=lambda p, o, s, d: (o - p) / (s * d)),
    "mm are divided by mm a voxel: divide by the spacing": _slip(rule=lambda p, o, s, d: (p - o) * s * d),
    "the spacing is missing: millimetres are not voxels": _slip(rule=lambda p, o, s, d: (p - o) * d),
    "the origin is in mm too: subtract first, divide then": _slip(rule=lambda p, o, s, d: (p / s - o) * d),
    "origin and spacing are exchanged: subtract the origin, divide by the spacing": (
        _slip(rule=lambda p, o, s, d: (p - s) / (o * d))
    ),
    "each axis has its own spacing; one is used for all": _slip(rule=lambda p, o, s, d: (p - o) / (s[0] * d)),
    "each axis has its own spacing; their mean is used for all": _slip(
        rule=lambda p, o, s, d: (p - o) / (s.mean() * d)
    ),
    "the direction is missing: some axes run against the world's": _slip(rule=lambda p, o, s, d: (p - o) / s),
    "the direction turns the whole way from the origin to the point, not the point alone": (
        _slip(rule=lambda p, o, s, d: (p * d - o) / s)
    ),
    "an axis that runs against the world's still begins at the origin: no absolute values": (
        _slip(rule=lambda p, o, s, d: ((p - o) / s).abs())
    ),
    "the answer is a place, not a row: it is not rounded": _slip(last=torch.round),
    "the answer is a place, not a row: nothing is cut off": _slip(last=torch.floor),
    "the answer is a place, not a row: nothing is cut off towards 0": _slip(last=torch.trunc),
    "the origin is the middle of voxel 0: no half voxel is added": _slip(last=lambda voxels: voxels + 0.5),
    "the origin is the middle of voxel 0: no half voxel is subtracted": _slip(last=lambda voxels: voxels - 0.5),
    "a point outside has a voxel outside: do not clip": _slip(last=lambda voxels: voxels.clamp(min=0)),
    "all points are wanted, not the first alone": lambda given, *grid: _voxels(given[:1], *grid),
}


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


MERGE_SLICES_MISTAKES: dict[str, Callable] = {
    "the mean is weighted by the scores: a faint mark counts little": _slipped(center=_plain_mean),
    "the mean of the marks is wanted, not the place of the strongest": _slipped(center=lambda c, s: c[s.argmax()]),
    "the weighted sum is divided by the sum of the weights, not by their number": (
        _slipped(center=lambda c, s: (c * s[:, None]).mean(0))
    ),
    "the weighted sum is divided by the sum of the weights": _slipped(center=lambda c, s: (c * s[:, None]).sum(0)),
    "the weights are the scores, not their squares": _slipped(center=lambda c, s: _weighted(c, s**2)),
    "a candidate's score is the highest of its marks, not their mean": _slipped(score=torch.mean),
    "a candidate's score is the highest of its marks, not their sum": _slipped(score=torch.sum),
    "the score is the highest, not that at the end of the list": _slipped(score=lambda s: s[-1]),
    "the strongest mark begins, not the first of the list": _slipped(order=lambda s: torch.arange(len(s))),
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

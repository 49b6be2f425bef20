"""The check of notebook 14, nodules in two stages: millimetres and voxels.

Marks of neighbouring slices: nodules_merging.py. Which candidates are hard negatives: nodules_training.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise
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
        Case("an origin between whole millimetres", (points([2, 5, 7]), (3.5, 1.25, -4.75), ones, FORWARDS)),
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
    "the origin has decimals: keep them, it is no whole number": _slip(
        rule=lambda p, o, s, d: (p - o.trunc()) / (s * d)
    ),
    "subtract first, then divide the whole: brackets": _slip(rule=lambda p, o, s, d: p - o / (s * d)),
    "the spacing is z y x already, as the origin is: only the points are turned over": (
        _slip(rule=lambda p, o, s, d: (p - o) / (s.flip(0) * d))
    ),
    "z y x is x y z from back to front: first z, then y, then x": _slip(first=lambda p: p[:, [2, 0, 1]]),
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
    "the direction turns the whole way from the origin to the point, not the origin alone": (
        _slip(rule=lambda p, o, s, d: (p - d * o) / s)
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

"""The checks of notebook 17, an agent that moves a box: its moves. Reward and target: organ_agent_learning.py."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats
from labkit.detection import organ_agent

LEAST = organ_agent.LEAST_SIDE


def apply_action(student: Callable) -> Callable:
    """Check `my_apply_action(box (6,), action, volume_size (Z, Y, X), step) -> (6,)` of notebook 17.

    Example:
        >>> def in_voxels(box, action, volume_size, step):
        ...     box = box.clone()
        ...     box[[action // 2, action // 2 + 3]] += 2 if action % 2 else -2
        ...     return box
        >>> apply_action(in_voxels).__name__
        ✗ apply_action: y -: by a tenth of the height of 12 voxels
        ...
        'reference_apply_action'
    """
    plain, size = floats(20, 30, 10, 40, 42, 26), (64, 96, 128)  # 20 x 12 x 16 voxels
    deep, low = floats(11, 7, 16, 25, 27, 46), floats(3, 4, 2, 13, 9, 22)
    corner = floats(1, 0.5, 0.25, 31, 20.5, 16.25)  # 30 x 20 x 16
    top = floats(98, 75, 47, 127, 95, 63)
    whole = floats(0, 0, 0, 44, 36, 28)
    number = organ_agent.ACTIONS.index
    cases = [
        Case("x +: by a tenth of the width of 20 voxels", (plain, number("x +"), size, 0.1)),
        Case("x -", (plain, number("x -"), size, 0.1)),
        Case("y -: by a tenth of the height of 12 voxels", (plain, number("y -"), size, 0.1)),
        Case("y +", (deep, number("y +"), size, 0.1)),
        Case("z -: by a tenth of the depth of 16 voxels", (plain, number("z -"), size, 0.1)),
        Case("z +", (deep, number("z +"), size, 0.1)),
        Case("another step", (low, number("z +"), size, 0.25)),
        Case("x - with 1 voxel of room: as far as the border, and as long as before", (corner, 0, size, 0.1)),
        Case("y - with half a voxel of room", (corner, number("y -"), size, 0.1)),
        Case("z - with a quarter of a voxel of room", (corner, number("z -"), size, 0.2)),
        Case("x + with 1 voxel of room", (top, number("x +"), size, 0.1)),
        Case("y + with 1 voxel of room", (top, number("y +"), size, 0.2)),
        Case("z + with 1 voxel of room", (top, number("z +"), size, 0.2)),
        Case("the box around the whole volume cannot be shifted", (whole, number("z -"), (28, 36, 44), 0.1)),
        Case("zoom in: about the middle, by a tenth of each side", (plain, number("zoom in"), size, 0.1)),
        Case("zoom in, another step", (deep, number("zoom in"), size, 0.2)),
        Case("zoom in from the whole volume", (whole, number("zoom in"), (28, 36, 44), 0.1)),
        Case("zoom out: a step of 0.2 makes it 1.25 times as long", (plain, number("zoom out"), size, 0.2)),
        Case("zoom out, a tenth", (deep, number("zoom out"), size, 0.1)),
        Case("zoom out at three borders: what leaves the volume is cut off", (corner, number("zoom out"), size, 0.2)),
        Case("zoom out at the other three borders", (top, number("zoom out"), size, 0.2)),
        Case("narrower along x", (plain, number("narrower x"), size, 0.1)),
        Case("narrower along y", (deep, number("narrower y"), size, 0.2)),
        Case("narrower along z", (low, number("narrower z"), size, 0.1)),
        Case("no side below 2 voxels: zooming in, the box stays", (floats(5, 6, 7, 25, 16, 9.1), 6, size, 0.1)),
        Case("no side below 2 voxels: narrower along z, it stays", (floats(5, 6, 7, 25, 16, 9.1), 10, size, 0.1)),
        Case("2.5 voxels along z: it may still shrink", (floats(5, 6, 7, 25, 16, 9.5), 6, size, 0.1)),
        Case("thin along z, narrower along x: it may", (floats(5, 6, 7, 25, 16, 9.1), 8, size, 0.1)),
        Case("thin along z, zoom out: it may", (floats(5, 6, 7, 25, 16, 8.5), number("zoom out"), size, 0.1)),
    ]
    return run_check(
        "apply_action", student, reference_apply_action, cases, mistakes=APPLY_ACTION_MISTAKES, draw=_draw, atol=1e-4
    )


def reference_apply_action(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    """`labkit.detection.organ_agent.apply_action`."""
    return organ_agent.apply_action(box, action, volume_size, step=step)


def _draw(case: Case, expected: Tensor, got: Tensor):
    """From the front (x and z) and from above (x and y): given, expected, got."""
    from labkit.checks.pictures import panels
    from labkit.plotting import COLORS, PREDICTION, TRUTH

    given, _, size, _ = case.args
    figure, axes = panels(2, title=f"{case.what}: grey given, green expected, orange got")
    for ax, (across, down) in zip(axes, ((0, 2), (0, 1)), strict=True):
        for box, color, style in ((given, "0.6", "-"), (expected, TRUTH, "-"), (got, PREDICTION, "--")):
            if box.shape == given.shape:
                x1, y1, x2, y2 = (float(box[i]) for i in (across, down, across + 3, down + 3))
                ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], style, color=color, lw=2.5)
        limits = list(reversed(size))
        ax.plot(*zip(*_frame(limits[across], limits[down]), strict=True), color=COLORS["black"], lw=1)
        ax.set(xlabel="xyz"[across], ylabel="xyz"[down])
        ax.invert_yaxis()
    return figure


def _frame(width: float, height: float) -> list[tuple[float, float]]:
    return [(0, 0), (width, 0), (width, height), (0, height), (0, 0)]


# Usual mistakes


def _as_far_as_it_can(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    shift = torch.maximum(torch.minimum(low - box[:3], limit - box[3:]), -box[:3])
    return box[:3] + shift, box[3:] + shift


def _fitted(low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Slide it back inside, as long as it is."""
    shift = (-low).clamp(min=0) - (high - limit).clamp(min=0)
    return low + shift, high + shift


def _cut(low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    return low.clamp(min=0), torch.minimum(high, limit)


def _stays(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    return (low, high) if (low >= 0).all() and (high <= limit).all() else (box[:3], box[3:])


def _moved(
    box: Tensor,
    action: int,
    volume_size: Sequence[int],
    step: float,
    *,
    limits: Callable = lambda size: list(reversed(size)),
    way: Callable = lambda side, axis, step: step * side[axis],
    sign: int = 1,
    axis_of: Callable = lambda axis: axis,
    shifted: Callable = _as_far_as_it_can,
    shrink: Callable = lambda step: 1 - step,
    grow: Callable = lambda step: 1 / (1 - step),
    narrow: Callable | None = None,
    narrow_axis: Callable = lambda axis: axis,
    zoom_axes: Sequence[int] = (0, 1, 2),
    anchored: float = 0.5,
    grown: Callable = _cut,
    least: Callable = lambda side, new, box: (new < side).any() and new[new < side].min() < LEAST,
    last: Callable = lambda box: box,
) -> Tensor:
    """The move with room for the usual slips."""
    limit = box.new_tensor([float(v) for v in limits(volume_size)])
    low, high = box[:3].clone(), box[3:].clone()
    side = high - low
    if action < 6:
        axis = axis_of(action // 2)
        shift = torch.zeros_like(side)
        shift[axis] = sign * way(side, axis, step) * (1 if action % 2 else -1)
        return last(torch.cat(shifted(box, low + shift, high + shift, limit)))
    new = side.clone()
    for axis in list(zoom_axes) if action < 8 else [narrow_axis(action - 8)]:
        new[axis] = side[axis] * (
            grow(step) if action == 7 else (narrow or shrink)(step) if action > 7 else shrink(step)
        )
    if least(side, new, box):
        return box.clone()
    change = new - side
    low, high = low - anchored * change, high + (1 - anchored) * change
    return last(torch.cat(grown(low, high, limit)))


def _with(**slip) -> Callable:
    return lambda box, action, volume_size, step: _moved(box, action, volume_size, step, **slip)


def _exchanged_zooms(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    return _moved(box, {6: 7, 7: 6}.get(action, action), volume_size, step)


def _stretched(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    moved = _moved(box, action, volume_size, step, narrow=lambda step: 1 / (1 - step))
    return torch.cat(_cut(moved[:3], moved[3:], box.new_tensor([float(v) for v in reversed(volume_size)])))


APPLY_ACTION_MISTAKES: dict[str, Callable] = {
    "the step is a share of the side, not voxels": _with(way=lambda side, axis, step: 10 * step),
    "each axis has a side of its own; the width is used for all": _with(way=lambda side, axis, step: step * side[0]),
    "each axis has a side of its own; their mean is used for all": (
        _with(way=lambda side, axis, step: step * side.mean())
    ),
    "the step is a share of the box's side, not of half of it": _with(
        way=lambda side, axis, step: step * side[axis] / 2
    ),
    "the step is written into the function: use the argument": lambda b, a, size, step: _moved(b, a, size, 0.1),
    "plus and minus are exchanged: even moves go towards 0": _with(sign=-1),
    "x and z are exchanged: moves 0 and 1 go along x, and a box begins with x": _with(axis_of=lambda axis: 2 - axis),
    "volume_size is (Z, Y, X) and a box x y z: turn one of them round": _with(limits=list),
    "a box that is shifted against the border is not cut off: it moves as far as there is room": (
        _with(shifted=lambda box, low, high, limit: _cut(low, high, limit))
    ),
    "a move that has too little room goes as far as it can; here the box stays": _with(shifted=_stays),
    "a box must not leave the volume when it is shifted": _with(shifted=lambda box, low, high, limit: (low, high)),
    "a box must not leave the volume when it is zoomed out": _with(grown=lambda low, high, limit: (low, high)),
    "zoomed out at the border the box is cut off; here it is pushed back and keeps its length": _with(grown=_fitted),
    "zooming in takes a step of the side in all; here each wall moves by a whole step": (
        _with(shrink=lambda step: 1 - 2 * step)
    ),
    "zooming in takes a whole step of the side, half of it at each wall": _with(shrink=lambda step: 1 - step / 2),
    "zooming out undoes zooming in: divide by 1 - step; here the side is multiplied by 1 + step": (
        _with(grow=lambda step: 1 + step)
    ),
    "zooming goes about the middle of the box, not about its first corner": _with(anchored=0.0),
    "zooming goes about the middle of the box, not about its last corner": _with(anchored=1.0),
    "zooming changes all three axes, not x alone": _with(zoom_axes=(0,)),
    "zooming changes all three axes; z is missing": _with(zoom_axes=(0, 1)),
    "zoom in and zoom out are exchanged": _exchanged_zooms,
    "moves 8, 9 and 10 make the box narrower along x, y, z; x and z are exchanged": (
        _with(narrow_axis=lambda axis: 2 - axis)
    ),
    "moves 8, 9 and 10 make the box narrower; here it is stretched": _stretched,
    "no side may fall below 2 voxels: a box too small to shrink stays": _with(least=lambda side, new, box: False),
    "only a side that shrinks has to keep 2 voxels": _with(least=lambda side, new, box: new.min() < LEAST),
    "a box with a thin side may still grow, and shrink along the others": (
        _with(least=lambda side, new, box: side.min() * 0.95 < LEAST)
    ),
    "walls need not be whole voxels: nothing is rounded": _with(last=torch.round),
    "a box is two corners, x1 y1 z1 x2 y2 z2, not a corner and three sides": (
        _with(last=lambda box: torch.cat([box[:3], box[3:] - box[:3]]))
    ),
    "the last corner moves with the first": _with(shifted=lambda box, low, high, limit: (low.clamp(min=0), box[3:])),
    "the first corner moves with the last": (
        _with(shifted=lambda box, low, high, limit: (box[:3], torch.minimum(high, limit)))
    ),
}

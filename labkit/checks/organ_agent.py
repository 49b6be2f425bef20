"""The checks of notebook 17, an agent that moves a box: its moves. Reward and target: organ_agent_learning.py."""

from collections.abc import Callable, Sequence

from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats
from labkit.checks.organ_agent_moves import APPLY_ACTION_MISTAKES
from labkit.detection import organ_agent


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
    small, flat = floats(10, 20, 8, 14, 32, 20), floats(5, 6, 7, 25, 16, 8.5)  # 4 along x; 1.5 along z
    number = organ_agent.ACTIONS.index
    cases = [
        Case("x +: by a tenth of the width of 20 voxels", (plain, number("x +"), size, 0.1)),
        Case("x -", (plain, number("x -"), size, 0.1)),
        Case("y -: by a tenth of the height of 12 voxels", (plain, number("y -"), size, 0.1)),
        Case("y +", (deep, number("y +"), size, 0.1)),
        Case("z -: by a tenth of the depth of 16 voxels", (plain, number("z -"), size, 0.1)),
        Case("z +", (deep, number("z +"), size, 0.1)),
        Case("a side of 4 voxels: a step of 0.4 voxels", (small, number("x +"), size, 0.1)),
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
        Case("all sides of 2.1 voxels: zooming in, the box stays", (floats(5, 6, 7, 7.1, 8.1, 9.1), 6, size, 0.1)),
        Case("1.5 voxels along z: zooming in, the box stays", (flat, number("zoom in"), size, 0.1)),
        Case("2.5 voxels along z: it may still shrink", (floats(5, 6, 7, 25, 16, 9.5), 6, size, 0.1)),
        Case("thin along z, narrower along x: it may", (floats(5, 6, 7, 25, 16, 9.1), 8, size, 0.1)),
        Case("a side of 4 voxels, a step of a half: 2 voxels are allowed", (small, number("narrower x"), size, 0.5)),
        Case("a side of 3.5, a step of a half: 1.75 are not", (floats(10, 20, 8, 13.5, 32, 20), 8, size, 0.5)),
        Case("1.5 voxels along z, zoom out: it may", (flat, number("zoom out"), size, 0.1)),
        Case("1.5 voxels along z, shifted along x: it may", (flat, number("x +"), size, 0.1)),
        Case("1.5 voxels along z, narrower along x: it may", (flat, number("narrower x"), size, 0.1)),
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

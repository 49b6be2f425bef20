"""World and voxels: millimetres x y z, as lists of nodules have them, and rows z y x of a volume.

Points      (N, 3) x y z in mm, world.
Voxels      (N, 3) z y x, fractions allowed: the middle of voxel (0, 0, 0) is (0.0, 0.0, 0.0).
Grid        origin: z y x in mm, where the middle of voxel (0, 0, 0) lies; spacing: z y x in mm, positive;
            direction: z y x, 1 where an axis runs with the world's and -1 where it runs against it.

A point is origin + direction * spacing * voxel, axis by axis. Taught in notebook 14.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Axes = Sequence[float]  # z y x
AS_THE_WORLD = (1.0, 1.0, 1.0)


def world_to_voxel(points: Tensor, *, origin: Axes, spacing: Axes, direction: Axes = AS_THE_WORLD) -> Tensor:
    """(N, 3) voxels z y x of points x y z; built from scratch in notebook 14.

    Args:
        points: (N, 3) x y z, mm; N may be 0.
        origin, spacing, direction: of the grid, z y x.

    Returns:
        (N, 3) float, not rounded; outside the volume where the points are.

    Raises:
        ValueError: the points have another shape, a spacing is missing or not positive, a direction is not 1 or -1.

    Example:
        >>> world_to_voxel(torch.tensor([[10.0, 20.0, 34.0]]), origin=(30, 0, 0), spacing=(2.0, 1.25, 1.25))
        tensor([[ 2., 16.,  8.]])
    """
    first, step = _grid(points, "points", origin, spacing, direction)
    return ((points.double().flip(1) - first) / step).to(points.dtype)


def voxel_to_world(voxels: Tensor, *, origin: Axes, spacing: Axes, direction: Axes = AS_THE_WORLD) -> Tensor:
    """(N, 3) points x y z, mm, of voxels z y x: the way back of `world_to_voxel`, with the same errors.

    Example:
        >>> voxel_to_world(torch.tensor([[2.0, 16.0, 8.0]]), origin=(30, 0, 0), spacing=(2.0, 1.25, 1.25))
        tensor([[10., 20., 34.]])
    """
    first, step = _grid(voxels, "voxels", origin, spacing, direction)
    return (first + voxels.double() * step).flip(1).to(voxels.dtype)


def check_spacing(spacing: Axes | None) -> tuple[float, float, float]:
    """The spacing as three numbers.

    Raises:
        ValueError: it is missing, or not three positive numbers.

    Example:
        >>> check_spacing((2.0, 0.0, 1.25))
        Traceback (most recent call last):
        ValueError: spacing must be three positive numbers z y x in mm, got (2.0, 0.0, 1.25); read it from the scan's
            header: without it no millimetre is known
    """
    given = () if spacing is None else tuple(float(step) for step in spacing)
    if len(given) != 3 or not all(0 < step < float("inf") for step in given):
        raise ValueError(
            f"spacing must be three positive numbers z y x in mm, got {None if spacing is None else given}; "
            "read it from the scan's header: without it no millimetre is known"
        )
    return given[0], given[1], given[2]


def check_inside(voxels: Tensor, shape: Sequence[int], points: Tensor | None = None, *, what: str) -> None:
    """Refuse places outside a volume; the message says so if the points look like voxels instead of mm.

    Args:
        voxels: (N, 3) z y x.
        shape: (Z, Y, X) of the volume.
        points: (N, 3) x y z as they were given, in mm.
        what: what one of them is called: "annotation", "candidate".

    Raises:
        ValueError: one lies half a voxel or more beyond the middle of the last one.

    Example:
        >>> check_inside(torch.tensor([[3.0, 4.0, 5.0]]), (6, 6, 6), what="candidate")
        >>> check_inside(torch.tensor([[3.0, 4.0, 9.0]]), (6, 6, 6), what="candidate")
        Traceback (most recent call last):
        ValueError: candidate 0 lies at voxel z y x = [3.0, 4.0, 9.0], outside the scan of 6 x 6 x 6; is it of another
            scan?
    """
    size = torch.as_tensor(shape, dtype=voxels.dtype, device=voxels.device)
    outside = ~((voxels >= -0.5) & (voxels <= size - 0.5)).all(dim=1)
    if not outside.any():
        return
    row = int(outside.nonzero()[0])
    place = [round(value, 1) for value in voxels[row].tolist()]
    told = f"{what} {row} lies at voxel z y x = {place}, outside the scan of {' x '.join(map(str, shape))}"
    if points is None:
        raise ValueError(f"{told}; is it of another scan?")
    given = points[row].tolist()
    fits = all(0 <= value < side for value, side in zip(given, reversed(list(shape)), strict=True))
    named = f"{told}: its x y z = {[round(value, 1) for value in given]} must be in mm"
    if fits:
        raise ValueError(f"{named}, and would fit as voxels; convert it with voxel_to_world")
    raise ValueError(f"{named} of the world; is it of another scan, or is an axis flipped?")


def _grid(rows: Tensor, name: str, origin: Axes, spacing: Axes, direction: Axes) -> tuple[Tensor, Tensor]:
    """Origin and signed step in float64, once all is sound."""
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] != 3 or not rows.is_floating_point():
        got = f"{rows.dtype} of {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(f"{name} must be a float tensor of shape (N, 3), got {got}; write {name}[None] for one")
    signs = tuple(float(sign) for sign in direction)
    if len(signs) != 3 or any(abs(sign) != 1 for sign in signs):
        raise ValueError(f"direction must be 1 or -1 along z y x, got {signs}; resample a scan with oblique axes")
    if len(tuple(origin)) != 3:
        raise ValueError(f"origin must be three numbers z y x in mm, got {tuple(origin)}; read it from the header")
    first = torch.tensor([float(value) for value in origin], dtype=torch.float64, device=rows.device)
    step = torch.tensor(check_spacing(spacing), dtype=torch.float64, device=rows.device)
    return first, step * torch.tensor(signs, dtype=torch.float64, device=rows.device)

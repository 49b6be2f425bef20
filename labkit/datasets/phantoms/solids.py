"""Solids in space: how deep inside them a place lies, and the volume they are laid on, one over the other.

World     x to the patient's left, y to the back, z to the head, in mm, as DICOM has them. Arrays are (Z, Y, X).
Depth     mm inside a solid's surface, negative outside. It is exact enough near the surface, where edges are
          softened over a voxel (partial volumes); far off only its sign counts.
Place     three arrays x, y, z that broadcast: the axes of a grid, or one number a point. A solid takes either.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy import ndarray

AIR = -1000.0
Triple = tuple[float, float, float]
Point = Sequence[float] | ndarray  # (3,) x y z


def triple(values: Point) -> Triple:
    """Three plain numbers.

    Example:
        >>> triple(np.arange(3))
        (0.0, 1.0, 2.0)
    """
    first, second, third = (float(value) for value in values)
    return first, second, third


class Place(NamedTuple):
    """Where, in mm."""

    x: ndarray
    y: ndarray
    z: ndarray


class Solid(NamedTuple):
    """A shape: its depth at a place, and a box (x, y, z) in mm that holds it."""

    depth: Callable[[Place], ndarray]
    low: ndarray  # (3,)
    high: ndarray  # (3,)


def ellipsoid(center: Point, half: Point, *, turn: Triple = (0.0, 0.0, 0.0)) -> Solid:
    """An ellipsoid of these half axes, turned about x, then y, then z, in radians.

    Example:
        >>> ball = ellipsoid((0, 0, 0), (5, 5, 5))
        >>> round(float(ball.depth(Place(np.array([3.0]), np.array([0.0]), np.array([0.0])))[0]), 3)
        2.0
    """
    middle, axes, rotation = np.asarray(center, float), np.asarray(half, float), _rotation(turn)
    reach = np.sqrt((rotation**2) @ axes**2)
    rows = (rotation.T / axes[:, None]).astype(np.float32)

    def depth(place: Place) -> ndarray:
        offset = [np.float32(1) * (part - np.float32(at)) for part, at in zip(place, middle, strict=True)]
        if turn == (0.0, 0.0, 0.0):
            squares = [(part * row[i]) ** 2 for i, (part, row) in enumerate(zip(offset, rows, strict=True))]
        else:
            squares = [(row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]) ** 2 for row in rows]
        return (1 - np.sqrt(squares[0] + squares[1] + squares[2])) * np.float32(axes.min())

    return Solid(depth, middle - reach, middle + reach)


def _rotation(turn: Triple) -> ndarray:
    """(3, 3) about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(turn):
        first, second = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def capsule(start: Point, end: Point, radius: float, end_radius: float | None = None) -> Solid:
    """A rod with round ends, from one radius to another.

    Example:
        >>> rod = capsule((0, 0, 0), (10, 0, 0), 4, 2)
        >>> round(float(rod.depth(Place(np.array([5.0]), np.array([1.0]), np.array([0.0])))[0]), 3)
        2.0
    """
    first, last = np.asarray(start, float), np.asarray(end, float)
    along = last - first
    square = float(along @ along) or 1.0
    growth = (radius if end_radius is None else end_radius) - radius
    wide = max(radius, radius + growth)

    def depth(place: Place) -> ndarray:
        x, y, z = (part - np.float32(at) for part, at in zip(place, first, strict=True))
        share = (x * np.float32(along[0] / square) + y * np.float32(along[1] / square)) + z * np.float32(
            along[2] / square
        )
        share = np.clip(share, 0, 1)
        x, y, z = (
            x - share * np.float32(along[0]),
            y - share * np.float32(along[1]),
            z - share * np.float32(along[2]),
        )
        return np.float32(radius) + np.float32(growth) * share - np.sqrt(x * x + y * y + z * z)

    return Solid(depth, np.minimum(first, last) - wide, np.maximum(first, last) + wide)


def rods(points: Sequence[Point] | ndarray, radii: Sequence[float]) -> list[Solid]:
    """A bent tube as capsules, one from each point to the next.

    Example:
        >>> len(rods([(0, 0, 0), (0, 0, 9), (0, 5, 9)], [3, 3, 2]))
        2
    """
    pieces = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    return [capsule(start, end, first, last) for start, end, first, last in pieces]


def within(solid: Solid, *depths: Callable[[Place], ndarray]) -> Solid:
    """What of a solid lies inside all of these too."""

    def depth(place: Place) -> ndarray:
        inside = solid.depth(place)
        for other in depths:
            inside = np.minimum(inside, other(place))
        return inside

    return Solid(depth, solid.low, solid.high)


def inset(solid: Solid, by: float) -> Callable[[Place], ndarray]:
    """The depth of a solid that ends so many mm further in, for `within`."""

    def depth(place: Place) -> ndarray:
        return solid.depth(place) - by

    return depth


class Waves:
    """A smooth random field, a sum of plane waves: the same at a place whatever grid it is seen on.

    Args:
        length: mm from crest to crest, on average.
        count: of waves; mean 0 and standard deviation 1.

    Example:
        >>> field = Waves(np.random.default_rng(0), length=50)
        >>> field.at(Place(np.zeros(4), np.zeros(4), np.arange(4.0))).shape
        (4,)
    """

    def __init__(self, generator: np.random.Generator, *, length: float, count: int = 8):
        direction = generator.standard_normal((count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self.steps = 2 * np.pi * direction / (length * generator.uniform(0.7, 1.4, (count, 1)))  # (n, 3) radians a mm
        self.phases = generator.uniform(0, 2 * np.pi, count)

    def at(self, place: Place) -> ndarray:
        """The field at points, x, y and z of one shape."""
        angle = np.stack([np.asarray(part, float) for part in place], -1) @ self.steps.T + self.phases
        return (np.sin(angle).sum(-1) * np.sqrt(2 / len(self.phases))).astype(np.float32)

    def on_grid(self, place: Place) -> ndarray:
        """(Z, Y, X) the field on the axes of a grid: a wave is a product over the axes, so this is one product."""
        x, y, z = (np.ravel(part)[:, None] * step + 0.0 for part, step in zip(place, self.steps.T, strict=True))
        angle = (z + self.phases)[:, None] + y  # (Z, Y, n)
        left = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)
        right = np.concatenate([np.sin(x), np.cos(x)], axis=-1).astype(np.float32)  # (X, 2n)
        return (left @ right.T) * np.float32(np.sqrt(2 / len(self.phases)))


class Canvas:
    """A volume while it is drawn: HU and labels of what was laid on it; later things cover earlier ones.

    Solids are drawn in the coordinates of one standard body. A patient is that body scaled along each axis (bones and
    vessels: `rigid`), and bent a little across it as well (soft organs: `bent`).

    Args:
        shape: (Z, Y, X).
        spacing: (z, y, x) mm.
        origin: (z, y, x) mm, the middle of voxel (0, 0, 0) in the patient.
        scale: (x, y, z) of the patient, against the standard body.
        bend: what is added to x and to y; mm is `BEND_MM`.
    """

    BEND_MM = 2.5  # standard deviation

    def __init__(self, shape: Sequence[int], spacing: Triple, origin: Triple, scale: Triple, bend: tuple[Waves, Waves]):
        z, y, x = (
            ((start + np.arange(count) * step) / size).astype(np.float32)
            for start, count, step, size in zip(origin, shape, spacing, scale[::-1], strict=True)
        )
        self.rigid = Place(x[None, None], y[None, :, None], z[:, None, None])
        across, down = (np.float32(self.BEND_MM) * wave.on_grid(self.rigid) for wave in bend)
        self.bent = Place(self.rigid.x + across, self.rigid.y + down, self.rigid.z)
        self.axes = (z, y, x)
        self.spacing, self.scale = spacing, np.asarray(scale, float)
        self.voxel = float(np.prod(spacing)) ** (1 / 3)
        self.soft = self.voxel / 2  # half width of an edge in mm
        self.volume = np.full(tuple(shape), AIR, np.float32)
        self.labels = np.zeros(tuple(shape), np.uint8)

    def window(self, low: ndarray, high: ndarray, margin: float) -> tuple[slice, ...] | None:
        """The part of the grid that holds a box (x, y, z); None where it holds none of it."""
        parts = []
        for axis, start, end in zip(self.axes, low[::-1], high[::-1], strict=True):
            first, last = np.searchsorted(axis, (start - margin, end + margin))
            if first == last:
                return None
            parts.append(slice(int(first), int(last)))
        return tuple(parts)

    def shares(self, solid: Solid, *, rigid: bool = False) -> tuple[tuple[slice, ...], ndarray] | None:
        """A window of the grid and how much of each of its voxels the solid fills, 0 to 1."""
        margin = self.soft + (0.5 if rigid else 3 * self.BEND_MM)
        window = self.window(solid.low, solid.high, margin)
        if window is None:
            return None
        place = self.rigid if rigid else self.bent
        parts = (
            part[tuple(cut if size > 1 else slice(None) for cut, size in zip(window, part.shape, strict=True))]
            for part in place
        )
        return window, np.clip(solid.depth(Place(*parts)) * np.float32(0.5 / self.soft) + np.float32(0.5), 0, 1)

    def lay(
        self, solid: Solid, hu: float, label: int | None = None, *, rigid: bool = False, only: tuple[int, ...] = ()
    ) -> None:
        """Cover what is inside with this HU, and with this label unless it is None; `only` where those labels are."""
        found = self.shares(solid, rigid=rigid)
        if found is None:
            return
        window, share = found
        if only:
            share = share * np.isin(self.labels[window], only)
        view = self.volume[window]
        view += share * (np.float32(hu) - view)
        if label is not None:
            self.labels[window][share > 0.5] = label

    def lay_all(self, solids: Sequence[Solid], hu: float, label: int | None = None, *, rigid: bool = False) -> None:
        """Each of them, in order."""
        for solid in solids:
            self.lay(solid, hu, label, rigid=rigid)

    def trace(self, segments: ndarray) -> ndarray:
        """(Z, Y, X) how much of each voxel thin vessels fill.

        Args:
            segments: (S, 8) start x y z, end x y z, first and last radius, of the standard body in mm.
        """
        strength = np.zeros_like(self.volume)
        for row in segments:
            found = self.shares(capsule(row[:3], row[3:6], row[6], row[7]), rigid=True)
            if found is not None:
                window, share = found
                thin = min(1.0, np.pi * float(row[6]) ** 2 / self.voxel**2)  # a vessel thinner than a voxel
                np.maximum(strength[window], share * np.float32(thin), out=strength[window])
        return strength


def scanner_noise(shape: Sequence[int], spacing: Triple, generator: np.random.Generator) -> ndarray:
    """(Z, Y, X) float32 noise of standard deviation 1 as filtered back projection leaves it, slice by slice.

    Its power grows with frequency, as the ramp filter's does, and falls to 0 at 0.7 cycles a mm, as a soft kernel's
    does (Riederer, Pelc and Chesler, Physics in Medicine and Biology 23:446, 1978). White noise is filtered: this is
    the noise of a round, even body; streaks come only from a scan that is simulated. Slices are independent.

    Example:
        >>> noise = scanner_noise((2, 40, 30), (2.0, 1.25, 1.25), np.random.default_rng(0))
        >>> noise.shape, round(float(noise.std()), 1)
        ((2, 40, 30), 1.0)
    """
    rows, columns = (np.fft.fftfreq(n, step) for n, step in zip(shape[1:], spacing[1:], strict=True))
    frequency = np.hypot(rows[:, None], columns)  # (Y, X) cycles a mm
    power = frequency * (0.5 + 0.5 * np.cos(np.pi * np.clip(frequency / 0.7, 0, 1))) ** 2
    amplitude = np.sqrt(power / power.mean())[:, : shape[2] // 2 + 1].astype(np.float32)
    white = generator.standard_normal(tuple(shape), dtype=np.float32)
    filtered = scipy.fft.irfft2(scipy.fft.rfft2(white) * amplitude, s=tuple(shape[1:]))
    return np.asarray(filtered, dtype=np.float32)

"""Lung nodules: how large they are, where they sit, and drawing them.

Sizes     as LUNA16's 1186 nodules: median 6.4 mm, 5 to 95 % from 4.1 to 19.0 mm. Diameter is that of a ball of equal
          volume.
Kinds     0 solid, 1 part-solid (a hazy rim around a solid core), 2 solid at the wall, 3 solid at a vessel.
Mix       45, 10, 25 and 20 %, chosen: about half of all nodules touch nothing.
"""

import numpy as np
from numpy import ndarray
from scipy import ndimage

from labkit.datasets.phantoms.organs import LUNGS
from labkit.datasets.phantoms.solids import Canvas, Place, Solid, Waves, ellipsoid

KINDS = ("solid", "part-solid", "at the wall", "at a vessel")
SOLID, PART_SOLID, AT_WALL, AT_VESSEL = range(4)
MIX = (0.45, 0.10, 0.25, 0.20)
SHIFT, MEDIAN_ABOVE, SPREAD = 3.586, 2.814, 1.034  # SHIFT + MEDIAN_ABOVE * exp(SPREAD * normal) has those quantiles
LARGEST = 30.0  # mm; above it is a mass
TRIES = 80  # places looked at for a nodule
GAP = 4.0  # mm between two nodules


def draw_diameters(count: int, generator: np.random.Generator) -> ndarray:
    """(count,) mm, spread as LUNA16's nodules are.

    Example:
        >>> sizes = draw_diameters(20000, np.random.default_rng(0))
        >>> np.quantile(sizes, (0.05, 0.5, 0.95)).round(1).tolist()
        [4.1, 6.4, 18.8]
    """
    sizes = SHIFT + MEDIAN_ABOVE * np.exp(SPREAD * generator.standard_normal(count))
    return np.minimum(sizes, LARGEST)


def draw_nodules(canvas: Canvas, vessels: ndarray, count: int, generator: np.random.Generator) -> ndarray:
    """(K, 5) x y z in mm of the patient, diameter in mm and kind of the nodules that were drawn, the largest first.

    Each lies whole inside the grid. One that finds no place in `TRIES` is left out, which hardly happens.

    Args:
        canvas: with lungs and vessels.
        vessels: (S, 8) segments of the vessels in the grid, standard body.
        count: of nodules wanted.
        generator: of sizes, kinds, places and forms.
    """
    sizes = np.sort(draw_diameters(count, generator))[::-1]
    kinds = generator.choice(len(KINDS), count, p=MIX)
    # every second pixel is enough to look for a place
    lungs = np.isin(canvas.labels[:, ::2, ::2], LUNGS)
    step = (canvas.spacing[0], 2 * canvas.spacing[1], 2 * canvas.spacing[2])
    depth = ndimage.distance_transform_edt(lungs, sampling=step)
    rows: list[tuple[float, ...]] = []
    for diameter, kind in zip(sizes, kinds, strict=True):
        center = _place(canvas, depth, vessels, float(diameter), int(kind), rows, generator)
        if center is not None:
            _draw(canvas, center, float(diameter), int(kind), generator)
            rows.append((*center, float(diameter), float(kind)))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _place(
    canvas: Canvas,
    depth: ndarray,
    vessels: ndarray,
    diameter: float,
    kind: int,
    taken: list[tuple[float, ...]],
    generator: np.random.Generator,
) -> ndarray | None:
    """(3,) x y z in mm of the patient; None where there is no room."""
    if kind == AT_VESSEL:
        points = _beside_vessels(canvas, vessels, diameter, generator)
    else:
        low, high = diameter / 2 + 2, np.inf
        if kind == AT_WALL:  # its middle a little inside the lung; a small one needs half a voxel more to be seen there
            low, high = max(0.12 * diameter, 1.0), max(0.32 * diameter, min(diameter / 2 + 0.6, 3.2))
        fits = (depth > low) & (depth < high)
        points = _middles(canvas, fits, generator)
    points = points[_whole(canvas, points, diameter) & _apart(points, diameter, taken)]
    if kind in (SOLID, PART_SOLID) and len(points):
        free = _clearance(points, canvas, vessels) - diameter / 2
        points = points[free > 1.0] if (free > 1.0).any() else points[[free.argmax()]]
    return points[0] if len(points) else None


def _middles(canvas: Canvas, fits: ndarray, generator: np.random.Generator) -> ndarray:
    """(n, 3) some of these voxels, x y z in mm of the patient."""
    found = np.flatnonzero(fits)
    if not len(found):
        return np.zeros((0, 3))
    z, y, x = np.unravel_index(generator.choice(found, TRIES), fits.shape)
    return np.column_stack([canvas.axes[2][2 * x], canvas.axes[1][2 * y], canvas.axes[0][z]]) * canvas.scale


def _beside_vessels(canvas: Canvas, vessels: ndarray, diameter: float, generator: np.random.Generator) -> ndarray:
    """(n, 3) points at the side of vessels thinner than 3 mm, so near that a nodule touches."""
    thin = vessels[(vessels[:, 6] > 0.8) & (vessels[:, 6] < 3.0)]
    if not len(thin):
        return np.zeros((0, 3))
    some = thin[generator.integers(len(thin), size=TRIES)]
    middle = some[:, :3] + generator.uniform(0.2, 0.8, (TRIES, 1)) * (some[:, 3:6] - some[:, :3])
    along = some[:, 3:6] - some[:, :3]
    side = np.cross(along, generator.standard_normal((TRIES, 3)))
    side /= np.linalg.norm(side, axis=1, keepdims=True).clip(1e-6)
    points = (middle + side * (some[:, 6:7] + 0.35 * diameter)) * canvas.scale
    return points[_in_lungs(canvas, points)]


def _voxels(canvas: Canvas, points: ndarray) -> ndarray:
    """(n, 3) z y x of the nearest voxels."""
    first = np.array([axis[0] for axis in canvas.axes]) * canvas.scale[::-1]
    return np.rint((points[:, ::-1] - first) / canvas.spacing).astype(int)


def _in_lungs(canvas: Canvas, points: ndarray) -> ndarray:
    index = _voxels(canvas, points)
    inside = np.all((index >= 0) & (index < canvas.labels.shape), axis=1)
    z, y, x = np.where(np.reshape(inside, (-1, 1)), index, 0).T
    return inside & np.isin(canvas.labels[z, y, x], LUNGS)


def _whole(canvas: Canvas, points: ndarray, diameter: float) -> ndarray:
    """(n,) bool whether the grid holds all of a nodule there and a voxel around it."""
    margin = np.ceil(0.6 * diameter / np.array(canvas.spacing)) + 1
    index = _voxels(canvas, points)
    return ((index >= margin) & (index < np.array(canvas.labels.shape) - margin)).all(axis=1)


def _apart(points: ndarray, diameter: float, taken: list[tuple[float, ...]]) -> ndarray:
    """(n,) bool whether a nodule there keeps clear of the others."""
    clear = np.ones(len(points), bool)
    for x, y, z, other, _ in taken:
        clear &= np.linalg.norm(points - (x, y, z), axis=1) > (diameter + other) / 2 + GAP
    return clear


def _clearance(points: ndarray, canvas: Canvas, vessels: ndarray) -> ndarray:
    """(n,) mm from each point to the wall of the nearest vessel of 2 mm or more."""
    wide = vessels[vessels[:, 6] > 1.0]
    if not len(wide):
        return np.full(len(points), np.inf)
    start, along = wide[:, :3] * canvas.scale, (wide[:, 3:6] - wide[:, :3]) * canvas.scale
    offset = points[:, None] - start  # (n, S, 3)
    share = np.clip((offset * along).sum(-1) / (along**2).sum(-1).clip(1e-9), 0, 1)
    distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)
    return (distance - wide[:, 6]).min(axis=1)


def _draw(canvas: Canvas, center: ndarray, diameter: float, kind: int, generator: np.random.Generator) -> None:
    """A lobed, slightly stretched ball; of a part-solid one the haze first, then the core."""
    stretch = np.exp(generator.normal(0, 0.09, 3))
    half = diameter / 2 * stretch / np.prod(stretch) ** (1 / 3)
    lobes = [Waves(generator, length=1.2 * diameter, count=6) for _ in range(2)]
    if kind == PART_SOLID:
        _lay(canvas, _lobed(canvas, center, half, lobes), float(generator.uniform(-650, -480)))
        core = center + 0.08 * diameter * generator.uniform(-1, 1, 3)
        half = half * generator.uniform(0.45, 0.65)
        _lay(canvas, _lobed(canvas, core, half, lobes), float(generator.uniform(-20, 40)))
    else:
        _lay(canvas, _lobed(canvas, center, half, lobes), float(generator.uniform(-40, 60)))


def _lay(canvas: Canvas, solid: Solid, hu: float) -> None:
    canvas.lay(solid, hu, rigid=True, only=LUNGS)


def _lobed(canvas: Canvas, center: ndarray, half: ndarray, lobes: list[Waves]) -> Solid:
    """In the coordinates of the standard body, so that in the patient it has its size."""
    ball = ellipsoid(center / canvas.scale, half / canvas.scale)
    bump = np.float32(0.06 * float(half.mean()))

    def depth(place: Place) -> ndarray:
        across, down = (bump * wave.on_grid(place) for wave in lobes)
        return ball.depth(Place(place.x + across, place.y + down, place.z))

    return Solid(depth, ball.low - bump, ball.high + bump)

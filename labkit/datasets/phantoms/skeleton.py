"""The bones of the torso phantom: numbered vertebrae, ribs, breastbone, shoulder blades, sacrum and pelvis.

World     x to the patient's left, y to the back, z to the head, mm of the standard body (`body`).
"""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from labkit.datasets.phantoms.body import BONE, DEEP, DISC, MARROW, SPINE, Patient, _norm
from labkit.datasets.phantoms.solids import Canvas, Place, Solid, Triple, ellipsoid, inset, rods, within

VERTEBRAE = (*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)))
# height with the disc below, mm, from L5 upwards: 181 mm of loins, 287 mm of chest; then C7, C6
_HEIGHTS = (36, 37, 37, 36, 35, 30, 28, 27, 25, 24.5, 24, 23, 22, 21.5, 21, 20.5, 20, 18, 18)
_MIDDLES = np.cumsum(_HEIGHTS) - np.array(_HEIGHTS) / 2
CORTEX_MM = 2.0
RIB_DROPS = (42, 55, 68, 78, 86, 92, 96, 96, 90, 80, 70, 60)  # mm from the spine to the front end
RIB_ENDS = (0.80, 0.82, 0.82, 0.82, 0.81, 0.80, 0.78, 0.73, 0.67, 0.60, 0.44, 0.33)  # half turns from back to front


def vertebra_centers() -> ndarray:
    """(17, 3) x y z of the vertebral bodies T1 to L5, in the order of VERTEBRAE.

    Example:
        >>> centers = vertebra_centers()
        >>> centers.shape, bool(np.all(np.diff(centers[:, 2]) < 0))
        ((17, 3), True)
    """
    z = _MIDDLES[: len(VERTEBRAE)][::-1]
    return np.column_stack([np.zeros(len(z)), SPINE(z), z])


def draw_bones(canvas: Canvas, patient: Patient) -> None:
    """All of them, over what is there."""
    _spine(canvas)
    _ribs(canvas, patient)
    _pelvis(canvas)


def _bone(canvas: Canvas, solid: Solid, marrow: float = MARROW) -> None:
    """Hard outside, soft inside."""
    canvas.lay(solid, BONE, 0, rigid=True)
    canvas.lay(within(solid, inset(solid, CORTEX_MM)), marrow, rigid=True)


def _spine(canvas: Canvas) -> None:
    """Bodies with discs between them, the canal, and what juts out behind."""
    for height, z in zip(_HEIGHTS, _MIDDLES, strict=True):
        y = float(SPINE(z))
        wide = float(np.interp(z, (20, 180, 330, 470), (25, 21, 16, 14)))
        deep = 0.72 * wide
        canvas.lay(_drum((0, y, z), (wide - 1, deep - 1), height / 2 + 1), DISC, 0, rigid=True)
        back = y + deep
        for side in (-1, 1):
            _bone(canvas, ellipsoid((side * (wide + 8), back + 9, z + 2), (15, 5.5, 6.5), turn=(0.0, 0.0, side * 0.3)))
        _bone(canvas, ellipsoid((0, back + 8, z + 1), (16, 12, 0.42 * height)))
        _bone(canvas, ellipsoid((0, back + 25, z - 4), (4.5, 13, 9), turn=(0.35, 0.0, 0.0)))
        _bone(canvas, _drum((0, y, z), (wide, deep), 0.38 * height))
        canvas.lay(ellipsoid((0, back + 8, z), (10, 7.5, height)), 32.0, 0, rigid=True)
    canvas.lay_all(rods([(0, float(SPINE(z)) + 24, z) for z in (-20, 100, 200)], [6, 7, 7]), 32.0, 0, rigid=True)


def _drum(center: Triple, half: tuple[float, float], height: float) -> Solid:
    """An upright drum, a vertebral body: half width and half depth, and half its height."""

    def depth(place: Place) -> ndarray:
        ring = (1 - _norm((place.x - center[0]) / half[0], (place.y - center[1]) / half[1])) * min(half)
        return np.minimum(ring, height - np.abs(place.z - np.float32(center[2])))

    size = np.array([*half, height])
    return Solid(depth, np.array(center) - size, np.array(center) + size)


def _ribs(canvas: Canvas, patient: Patient) -> None:
    """Twelve pairs that go down to the front, cartilage from there to the breastbone, collar bones, shoulder blades."""
    starts = vertebra_centers()[:12]
    for (_, spine, top), drop, end in zip(starts, RIB_DROPS, RIB_ENDS, strict=True):
        turns = np.linspace(0.2, end * np.pi, 15)
        z = top + 6 - drop * (1 - np.cos(turns)) / 2
        a, b, shift = patient.cage(z)
        stretch = 1 / _norm(np.sin(turns), np.cos(turns))
        x, y = (a + 6) * np.sin(turns) * stretch, shift + (b + 6) * np.cos(turns) * stretch
        x[0], y[0] = 20, spine + 18
        for side in (-1, 1):
            points = np.column_stack([side * x, y, z])
            for piece in rods(points, [4.6] * len(points)):
                _bone(canvas, piece, 260.0)
            if drop < 97 and end > 0.75:
                target = np.array([side * 13, _front(max(z[-1] + 12, 315)), max(z[-1] + 12, 315)])
                bent = points[-1] * 0.5 + target * 0.5 - np.array([0, 6, 0])
                canvas.lay_all(rods([points[-1], bent, target], [5, 5, 5]), 105.0, 0, rigid=True)
    _bone(canvas, ellipsoid((0, _front(370) - 1, 368), (18, 6, 76), turn=(-0.12, 0.0, 0.0)))
    for side in (-1, 1):
        collar = [(side * 14, _front(440), 440), (side * 60, -54, 462), (side * 112, -12, 474)]
        for piece in rods(collar, [6, 5, 6]):
            _bone(canvas, piece)
        _bone(canvas, ellipsoid((side * 106, 62, 385), (30, 4.5, 58), turn=(0.0, 0.0, side * -0.65)))


def _front(z: float) -> float:
    """y of the breastbone."""
    return -float(DEEP(z)) + 9


def _pelvis(canvas: Canvas) -> None:
    """Sacrum, the two wings, hip joints with the heads of the thigh bones, and the ring in front."""
    _bone(canvas, ellipsoid((0, 72, -48), (50, 15, 58), turn=(-0.3, 0.0, 0.0)))
    canvas.lay(ellipsoid((0, 80, -48), (8, 5, 50), turn=(-0.3, 0.0, 0.0)), 40.0, 0, rigid=True)
    for side in (-1, 1):
        _bone(canvas, _wing(side))
        ring = ellipsoid((side * 90, 4, -88), (33, 33, 33))
        head = ellipsoid((side * 92, 4, -92), (24, 24, 24))
        _bone(canvas, within(ring, _inside_of(side)))
        canvas.lay(ellipsoid((side * 92, 4, -92), (27, 27, 27)), 60.0, 0, rigid=True)
        _bone(canvas, head, 280.0)
        for piece in rods([(side * 92, 4, -92), (side * 135, 12, -122), (side * 135, 12, -190)], [15, 17, 15]):
            _bone(canvas, piece, 120.0)
        for piece in rods([(side * 82, -22, -84), (side * 40, -55, -84), (side * 9, -58, -98)], [9, 8, 11]):
            _bone(canvas, piece)
        for piece in rods(
            [(side * 84, 28, -92), (side * 62, 48, -136), (side * 40, -10, -150), (side * 12, -50, -112)],
            [13, 14, 8, 8],
        ):
            _bone(canvas, piece)


def _inside_of(side: int) -> Callable[[Place], ndarray]:
    """mm towards the middle from the socket's opening."""
    return lambda place: 96 - side * place.x


def _wing(side: int) -> Solid:
    """The wing of a hip bone: a bent plate from the sacrum to the front, its crest at L4."""

    def depth(place: Place) -> ndarray:
        out, y, z = side * place.x, place.y, place.z
        flare = np.interp(z, (-95, -40, 60), (0.35, 0.62, 0.85)).astype(np.float32)
        plate = 57 + (64 - y) * flare - 0.0022 * (64 - y) ** 2 + 0.06 * z
        crest = 62 - 0.011 * (y - 8) ** 2
        flat = 5.5 - 0.78 * np.abs(out - plate)
        return np.minimum.reduce([*np.broadcast_arrays(flat, y + 48, 66 - y, z + 92, crest - z)])

    low, high = np.array([40.0, -50.0, -95.0]), np.array([160.0, 68.0, 65.0])
    low[0], high[0] = (low[0], high[0]) if side > 0 else (-high[0], -low[0])
    return Solid(depth, low, high)

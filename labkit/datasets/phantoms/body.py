"""A patient of the torso phantom: size, fat, contrast agent, and the surfaces that organs lie between.

Everything is stated for a standard body; `Patient.scale` makes it larger or smaller along each axis.

World     x to the patient's left, y to the back, z to the head, mm. z = 0 is the top of the sacrum, x = y = 0 the
          middle of the body.
HU        native and in the portal venous phase, about 70 s after the contrast agent. Native: Prokop and Galanski
          (Spiral and Multislice Computed Tomography of the Body, 2003) and, for the liver, Husarik et al. (Academic
          Radiology 18:822, 2011); portal venous: what is usual with 30 to 40 g of iodine.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from labkit.datasets.phantoms.solids import Place, Solid, Triple, Waves, ellipsoid, triple

BOTTOM, TOP = -140.0, 500.0  # mm, of what is drawn well: the floor of the pelvis, the lower neck
APEX = 463.0  # of the lungs
FAT, LUNG, BONE, MARROW, DISC = -100.0, -865.0, 700.0, 190.0, 80.0
HU = {  # native, portal venous
    "liver": (57.0, 110.0),
    "spleen": (47.0, 120.0),
    "kidneys": (32.0, 185.0),
    "pancreas": (40.0, 95.0),
    "heart": (42.0, 105.0),
    "blood": (46.0, 150.0),
    "bladder": (4.0, 6.0),
    "muscle": (50.0, 62.0),
    "bowel": (30.0, 55.0),
    "stomach": (25.0, 35.0),
}
NATIVE_SHARE = 0.3  # of the patients are scanned without contrast agent
_Z = (-150, -90, -30, 30, 80, 130, 190, 260, 330, 400, 440, 470, 500, 540)
# half width and half depth of the body without the fat under the skin, and that fat in shares of the patient's
WIDE = PchipInterpolator(_Z, (155, 165, 158, 142, 134, 132, 137, 143, 148, 150, 146, 128, 90, 62))
DEEP = PchipInterpolator(_Z, (86, 92, 92, 86, 82, 82, 86, 92, 96, 91, 82, 72, 62, 56))
PADDING = PchipInterpolator(_Z, (1, 1, 1, 1, 1, 0.9, 0.8, 0.6, 0.45, 0.4, 0.4, 0.4, 0.4, 0.3))
SPINE = PchipInterpolator(
    (-110, -60, -10, 30, 80, 130, 190, 260, 330, 400, 470, 540), (80, 76, 58, 42, 34, 34, 40, 48, 53, 51, 42, 30)
)


def _norm(across: ndarray, down: ndarray) -> ndarray:
    """1 on the outline of a rounded box of half sides 1, between an ellipse and a superellipse of power 4."""
    u, v = across * across, down * down
    return 0.5 * np.sqrt(u + v) + 0.5 * np.sqrt(np.sqrt(u * u + v * v))


def _column(profile: PchipInterpolator, z: ndarray) -> ndarray:
    return profile(np.clip(z, _Z[0], _Z[-1])).astype(np.float32)


@dataclass(frozen=True)
class Patient:
    """What is drawn for a patient before any voxel is."""

    scale: Triple  # x y z
    fat: float  # mm under the skin of the belly
    contrast: float  # 0 native, 1 portal venous
    domes: tuple[float, float]  # highest z of the diaphragm, right and left
    shifts: dict[str, ndarray]  # of each organ, (3,) mm
    sizes: dict[str, float]  # of each organ, about 1
    hu: dict[str, float]
    bladder: float  # how full, about 1
    bend: tuple[Waves, Waves]
    bowel: tuple[Waves, Waves]  # where there are loops, and where there is gas in them
    table: Triple  # mm, where the patient lies in the scanner: world minus patient, x y z

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "Patient":
        """A patient; organs move by a few mm and change by about a tenth, the diaphragm by some breath."""
        fat = float(generator.uniform(6, 28))
        wide, deep, tall = np.clip(generator.normal(1, (0.05, 0.05, 0.04)), 0.88, 1.1)
        wide = min(wide, (188 - fat) / 166)  # the field of view is 384 mm wide
        contrast = 0.0 if generator.uniform() < NATIVE_SHARE else float(generator.uniform(0.8, 1.15))
        breath = generator.normal(0, 9)
        organs = ("heart", "liver", "spleen", "right kidney", "left kidney", "pancreas", "stomach", "bladder")
        return cls(
            scale=(float(wide), float(deep), float(tall)),
            fat=fat,
            contrast=contrast,
            domes=(278 + breath + generator.normal(0, 4), 266 + breath + generator.normal(0, 4)),
            shifts={name: generator.normal(0, 4.5, 3).clip(-10, 10) for name in organs},
            sizes={name: float(np.clip(generator.normal(1, 0.07), 0.85, 1.16)) for name in organs},
            hu={name: a + contrast * (b - a) + float(generator.normal(0, 4)) for name, (a, b) in HU.items()},
            bladder=float(generator.uniform(0.75, 1.3)),
            bend=(Waves(generator, length=130), Waves(generator, length=130)),
            bowel=(Waves(generator, length=44, count=14), Waves(generator, length=60, count=14)),
            table=triple(generator.uniform((-15, -30, -400), (15, 30, 100))),
        )

    def native(self) -> "Patient":
        """The same patient without contrast agent."""
        less = {name: hu - self.contrast * (HU[name][1] - HU[name][0]) for name, hu in self.hu.items()}
        return replace(self, contrast=0.0, hu=less)

    def at(self, name: str, center: Triple) -> ndarray:
        """(3,) where this patient has the middle of an organ."""
        return np.asarray(center) + self.shifts[name]

    # --- surfaces: depth in mm, for a grid or for points

    def body(self, place: Place) -> ndarray:
        """Inside the skin."""
        fat = np.float32(self.fat) * _column(PADDING, place.z)
        return self._tube(place, fat)

    def muscles(self, place: Place) -> ndarray:
        """Inside the fat under the skin."""
        return self._tube(place, 0.0)

    def _tube(self, place: Place, fat: ndarray | float) -> ndarray:
        a, b = _column(WIDE, place.z) + fat, _column(DEEP, place.z) + fat
        return (1 - _norm(place.x / a, place.y / b)) * np.minimum(a, b)

    def diaphragm(self, place: Place) -> ndarray:
        """z of the diaphragm: two domes that fall off to the sides, to the back and a little to the front."""
        y = place.y + 5
        slope = np.where(y > 0, 70 * (y / 75) ** 2, 30 * (y / 75) ** 2)
        right, left = (
            np.float32(top) - np.where(out > 68, 50 * ((out - 68) / 52) ** 2, 22 * ((out - 68) / 70) ** 2)
            for top, out in ((self.domes[0], -place.x), (self.domes[1], place.x))
        )
        return np.maximum(right, left) - slope

    def thorax(self, place: Place) -> ndarray:
        """Inside the ribs, above the diaphragm."""
        a, b, shift = self.cage(place.z)
        inside = (1 - _norm(place.x / a, (place.y - shift) / b)) * np.minimum(a, b)
        return np.minimum(np.minimum(inside, np.float32(APEX) - place.z), place.z - self.diaphragm(place))

    @staticmethod
    def cage(z: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """Half width, half depth and middle (y) of the space inside the ribs at these heights; it closes at the top."""
        rise = np.clip((z - 320) / (APEX - 320), 0, 0.9999)
        closing = np.maximum((1 - rise**2.8) ** (1 / 2.8), 0.05).astype(np.float32)
        a, b = (_column(WIDE, z) - 19) * closing, (_column(DEEP, z) - 17) * closing
        return a, b, (6 * (1 - closing)).astype(np.float32)

    def abdomen(self, place: Place) -> ndarray:
        """Inside the muscles of the belly and the bones of the pelvis, below the diaphragm."""
        knots = (-120, -60, -20, 30, 62, 90)
        a = _column(WIDE, place.z) - np.interp(place.z, knots, (92, 80, 68, 44, 30, 16)).astype(np.float32)
        b = _column(DEEP, place.z) - np.interp(place.z, knots, (40, 26, 22, 18, 17, 16)).astype(np.float32)
        inside = (1 - _norm(place.x / a, (place.y + 4) / b)) * np.minimum(a, b)
        return np.minimum(np.minimum(inside, place.z + 122), self.diaphragm(place) - 4 - place.z)

    def heart(self, larger: float = 0.0) -> Solid:
        """The heart, its tip to the left, to the front and down; it lies on the diaphragm."""
        middle = self.at("heart", (27, -27, self.domes[1] + 49))
        half = self.sizes["heart"] * np.array([66.0, 47.0, 53.0]) + larger
        return ellipsoid(middle, half, turn=(0.0, 0.35, -0.6))

    def lung(self, side: int) -> Solid:
        """The right (-1) or left (1) lung, vessels and all."""
        heart = self.heart(4.0)
        base = heart.low[2] / 2 + heart.high[2] / 2

        def depth(place: Place) -> ndarray:
            y = place.y
            inner = 20 - 12 / (1 + np.exp((y + 46) / 7)) + 7 * np.exp(-(((y - 5) / 22) ** 2))
            above = Place(place.x, place.y, np.maximum(place.z, np.float32(base)))  # the heart stands on the diaphragm
            own = np.minimum(self.thorax(place), np.float32(side) * place.x - inner.astype(np.float32))
            return np.minimum(own, -heart.depth(above))

        low, high = np.array([-170.0, -110.0, 130.0]), np.array([170.0, 110.0, APEX + 5])
        low[0], high[0] = (0.0, high[0]) if side > 0 else (low[0], 0.0)
        return Solid(depth, low, high)

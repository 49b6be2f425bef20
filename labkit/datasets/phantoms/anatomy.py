"""A breast without lesions, as attenuation: outline, fat, gland, strands, pectoral muscle; then the detector.

Attenuation adds along a ray, so everything is summed in p = -log(transmitted fraction); 0 is empty film.
The chest wall is at the left edge; x runs from it towards the nipple, y down; both in mm.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

from labkit.datasets.phantoms.texture import power_law_field

FILM_MM = 160.0  # height of every film; the pixel size is this over the image's height
FULL_SCALE = 3.0  # attenuation that the film shows as 1
FAT, GLAND, MUSCLE = 1.6, 0.75, 0.8  # of the compressed breast, of dense tissue on top of it, of the muscle
# X-ray quanta a square mm before the breast: 1 to 2 percent noise in a pixel behind it, as on a film of
# ordinary exposure.
QUANTA_PER_MM2 = 5e4
ELECTRONIC_SD = 15.0  # in quanta
BLUR_MM = 0.4  # standard deviation of the detector's point spread


@dataclass(frozen=True)
class Patient:
    """What both films of one patient share."""

    beta: float  # exponent of the texture's power spectrum
    density: float  # 0 fat to 1 dense
    strands: float  # strength of the fibrous strands
    reach: float  # chest wall to nipple, mm
    breadth: float  # half the extent along the chest wall, mm
    on_right: bool  # chest wall at the right edge of the film

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "Patient":
        """A patient: texture exponent 2.9 +- 0.35 as on real films, density and size spread widely."""
        return cls(
            beta=float(np.clip(generator.normal(2.9, 0.35), 2.0, 3.8)),
            density=float(generator.beta(1.5, 1.5)),
            strands=float(generator.uniform(0.12, 0.28)),
            reach=float(generator.uniform(72, 108)),
            breadth=float(generator.uniform(56, 76)),
            on_right=bool(generator.integers(2)),
        )


def breast_attenuation(
    size: tuple[int, int], *, patient: Patient, oblique: bool, generator: np.random.Generator
) -> tuple[ndarray, ndarray]:
    """Attenuation (H, W) of one view without lesions, and (H, W) bool where lesions may have their centre.

    Args:
        size: height and width in pixels.
        patient: what the patient's films share.
        oblique: True for the mediolateral oblique view (tissue up to the armpit, pectoral muscle in most),
            False for the craniocaudal one.
        generator: numpy Generator.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> patient = Patient.draw(generator)
        >>> p, room = breast_attenuation((80, 64), patient=patient, oblique=True, generator=generator)
        >>> p.shape, bool(p.min() == 0), bool(room.any())
        ((80, 64), True, True)
    """
    pixel_mm = FILM_MM / size[0]
    x = ((np.arange(size[1], dtype=np.float32) + 0.5) * pixel_mm)[None]
    y = ((np.arange(size[0], dtype=np.float32) + 0.5) * pixel_mm)[:, None]
    reach = min(patient.reach, 0.88 * size[1] * pixel_mm) * generator.uniform(0.95, 1.03)
    nipple_y = generator.uniform(88, 100) if oblique else generator.uniform(74, 86)
    depth = _depth_under_skin(x, y - nipple_y, reach, patient.breadth, oblique)  # mm, negative outside
    depth = depth + generator.uniform(-2.5, 2.5) * np.sin(y / generator.uniform(12, 25)) + generator.uniform(-1, 2)
    rim = generator.uniform(14, 24)
    fall = np.clip(depth / rim, 0, 1)
    thickness = (fall * (2 - fall)) ** 0.8  # a rounded edge: compressed breast, free at the skin

    clumps = power_law_field(size, beta=patient.beta, generator=generator)
    fibres = power_law_field(size, beta=patient.beta, generator=generator)
    dense = _dense_tissue(clumps, x / reach, (y - nipple_y) / patient.breadth, patient.density)
    strands = _strands(fibres, x, y - nipple_y, reach * generator.uniform(1.0, 1.3), pixel_mm)
    tissue = FAT + GLAND * dense + patient.strands * strands * (0.7 + 0.3 * dense) + 0.05 * clumps
    attenuation = thickness * tissue + 0.12 * np.exp(-(((depth - 1.2) / 1.0) ** 2))  # the skin is a thin bright line
    room = depth > 10
    if oblique and generator.uniform() < 0.85:
        muscle = _pectoral(x, y, generator)
        attenuation = attenuation + MUSCLE * muscle * thickness * (1 - 0.6 * dense + 0.05 * fibres)
        room &= muscle < 0.1
    return np.where(depth > 0, attenuation, 0).clip(0).astype(np.float32), room


def tissue_attenuation(size: int, *, pixel_mm: float, generator: np.random.Generator) -> ndarray:
    """(size, size) attenuation of a square region inside some breast, without skin, muscle or lesion.

    Args:
        size: side in pixels.
        pixel_mm: side of a pixel in mm.
        generator: numpy Generator.

    Example:
        >>> p = tissue_attenuation(32, pixel_mm=0.8, generator=np.random.default_rng(0))
        >>> p.shape, bool(1 < p.mean() < 2.6)
        ((32, 32), True)
    """
    patient = Patient.draw(generator)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * pixel_mm
    y, focus = (
        axis[:, None] - generator.uniform(0, size * pixel_mm),
        size * pixel_mm + generator.uniform(10, 60),
    )
    clumps = power_law_field((size, size), beta=patient.beta, generator=generator)
    fibres = power_law_field((size, size), beta=patient.beta, generator=generator)
    dense = _dense_tissue(clumps, np.float32(0.55), np.float32(0), patient.density)
    strands = _strands(fibres, axis[None], y, focus, pixel_mm)
    return (FAT + GLAND * dense + patient.strands * strands * (0.7 + 0.3 * dense) + 0.05 * clumps).astype(np.float32)


def _depth_under_skin(x: ndarray, y: ndarray, reach: float, breadth: float, oblique: bool) -> ndarray:
    """(H, W) mm from the skin inwards: a half ellipse, in the oblique view drawn out towards the armpit."""
    upper = breadth * (1.9 if oblique else 1.0)
    across = np.abs(y) / np.where(y < 0, upper, breadth)
    nipple = 1 + 0.035 * np.exp(-((y / 5) ** 2))
    bend = np.where(y < 0, 1.5 if oblique else 2.0, 2.0)  # below 2 the outline runs straighter
    radius = np.sqrt((x / (reach * nipple)) ** 2 + across**bend)
    return (1 - radius) * min(reach, breadth)


def _dense_tissue(clumps: ndarray, x: ndarray | np.floating, y: ndarray | np.floating, density: float) -> ndarray:
    """(H, W) share of glandular tissue in 0 to 1: clumps of the texture inside a disc behind the nipple."""
    disc = ((x - 0.55) / 0.42) ** 2 + (y / 0.62) ** 2
    level = 5.0 * density - 2.9 - 1.5 * np.clip(disc - 0.3, 0, None) + clumps
    return expit(1.2 * level) * (0.85 + 0.1 * clumps.clip(-2, 2))


def _strands(fibres: ndarray, x: ndarray, y: ndarray, focus: float, pixel_mm: float) -> ndarray:
    """(H, W) about -1 to 1: bright thin strands that run towards the nipple.

    The texture is read in polar coordinates around a point at the nipple, slowly along the radius and quickly
    across, and folded at its zero crossings into ridges.
    """
    away, angle = np.hypot(x - focus, y), np.arctan2(y, focus - x)
    rows = (angle / 1.8 * 0.5 + 0.5) * (fibres.shape[0] - 1)
    columns = 0.25 * away / pixel_mm
    columns = np.abs((columns + fibres.shape[1] - 1) % (2 * fibres.shape[1] - 2) - (fibres.shape[1] - 1))
    stretched = map_coordinates(fibres, [rows, columns], order=1, mode="reflect")
    return 2 * np.exp(-np.abs(stretched) / 0.3) - 0.7


def _pectoral(x: ndarray, y: ndarray, generator: np.random.Generator) -> ndarray:
    """(H, W) in 0 to 1: the muscle, a triangle with a slightly bulging edge in the upper chest corner."""
    wide, tall = generator.uniform(22, 46), generator.uniform(65, 120)
    bulge = generator.uniform(-3, 6) * np.sin(np.pi * np.clip(y / tall, 0, 1))
    inside = (wide * (1 - y / tall) + bulge - x) / 1.5  # in soft edge widths
    return expit(inside)


def detect(attenuation: ndarray, *, pixel_mm: float, generator: np.random.Generator) -> ndarray:
    """(H, W) float32 grey values in [0, 1] of the film that a detector makes of this attenuation.

    Poisson(N0 exp(-p)) quanta a pixel, plus electronic noise, blurred by the point spread (which correlates
    the noise), then -log, scaled so that FULL_SCALE is 1, and digitised to 8 bits as film scanners do.

    Args:
        attenuation: (H, W) p, no unit.
        pixel_mm: side of a pixel in mm.
        generator: numpy Generator.

    Example:
        >>> film = detect(np.full((8, 8), 1.5), pixel_mm=1.0, generator=np.random.default_rng(0))
        >>> round(float(film.mean()), 2)
        0.5
    """
    full = QUANTA_PER_MM2 * pixel_mm**2
    quanta = generator.poisson(full * np.exp(-attenuation)).astype(np.float32)
    quanta += ELECTRONIC_SD * generator.standard_normal(quanta.shape, dtype=np.float32)
    quanta = gaussian_filter(quanta, BLUR_MM / pixel_mm, truncate=3, mode="nearest")
    grey = -np.log(np.clip(quanta, 1, None) / full) / FULL_SCALE
    return (np.round(grey.clip(0, 1) * 255) / 255).astype(np.float32)

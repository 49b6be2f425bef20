"""Phantom CT slices in HU: a chest or an abdomen with organs, vessels and nodules, and where they are.

Slice i of a seed is the same however many are made: its random numbers depend on (seed, i) only.

Images    (n, 1, size, size) float32 in HU, air -1000 outside the body, which lies inside the circle a scan sees.
Pixels    358.4 mm / size: 0.7 mm at the default 512, half the 1.4 mm of a reconstruction with 256 detectors, so that
          edges cross the pixels of the reconstruction (see `labkit.denoising.ct_scan`, `binning=2`).
Masks     body, lungs, organs (heart, or liver, spleen and kidneys), bones, vessels, nodules: (n, size, size) bool.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from labkit.datasets.arguments import whole_number
from labkit.datasets.phantoms.texture import power_law_field

FIELD_MM = 358.4
AIR, LUNG, FAT, MUSCLE, BONE, MARROW = -1000.0, -850.0, -95.0, 55.0, 700.0, 220.0
MASKS = ("body", "lungs", "organs", "bones", "vessels", "nodules")


class CTSlices(NamedTuple):
    """Slices and what is in them."""

    images: Tensor  # (n, 1, size, size) HU
    masks: dict[str, Tensor]  # of MASKS, (n, size, size) bool
    pixel_mm: float


class _Canvas:
    """One slice while it is drawn: HU, and the masks of what was laid on it; later things cover earlier ones."""

    def __init__(self, size: int, generator: np.random.Generator):
        self.generator = generator
        axis = ((np.arange(size, dtype=np.float32) - size // 2) * (FIELD_MM / size)).astype(np.float32)
        self.x, self.y = axis[None], axis[:, None]  # mm right of and below the centre
        self.soft = FIELD_MM / size / 2  # half width of an edge in mm: partial volumes
        self.image = np.full((size, size), AIR, np.float32)
        self.masks = {name: np.zeros((size, size), bool) for name in MASKS}
        self.wobble = [power_law_field((size, size), beta=3.5, generator=generator) for _ in range(2)]

    def depth(
        self,
        center: tuple[float, float],
        half: tuple[float, float],
        *,
        turn: float = 0.0,
        power: float = 2.0,
        rough: float = 0.0,
    ) -> ndarray:
        """mm from the edge inwards of a turned, rounded box (power 2: an ellipse); negative outside, near the edge."""
        dx, dy = self.x - center[0], self.y - center[1]
        if rough:
            dx, dy = dx + rough * self.wobble[0], dy + rough * self.wobble[1]
        cos, sin = np.cos(turn), np.sin(turn)
        across, down = np.abs(dx * cos + dy * sin) / half[0], np.abs(dy * cos - dx * sin) / half[1]
        if power == 2:
            return (1 - np.hypot(across, down)) * min(half)
        return (1 - (across**power + down**power) ** (1 / power)) * min(half)

    def lay(self, depth: ndarray, hu: float | ndarray, mask: str | None = None) -> None:
        """Cover what is inside with this HU, its edge softened over a pixel."""
        share = np.clip(depth / self.soft * 0.5 + 0.5, 0, 1)
        self.image += share * (hu - self.image)
        inside = share > 0.5
        if mask is not None:
            self.masks[mask] |= inside

    def uncover(self, depth: ndarray, *names: str) -> None:
        """Take the inside of this off those masks."""
        for name in names:
            self.masks[name] &= depth <= 0


def ct_slices(count: int, *, size: int = 512, seed: int = 0) -> CTSlices:
    """Slices, chest and abdomen in turn, each of another body. Used in notebook 13.

    Args:
        count: number of slices.
        size: pixels a side, a multiple of 4 and at least 64.
        seed: 0 or more; another seed, other bodies.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> slices = ct_slices(2, size=64)
        >>> slices.images.shape, slices.masks["organs"].shape, slices.pixel_mm
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 64, 64]), 5.6)
    """
    count = whole_number(count, "count", least=1, cure="ask for one slice or more")
    size = whole_number(size, "size", least=64, cure="take 128")
    if size % 4:
        raise ValueError(f"size must be a multiple of 4, at least 64, got {size}; take 128")
    seed = whole_number(seed, "seed", least=0, cure="take 0 or more")
    drawn = [_slice(size, np.random.default_rng([seed, i]), chest=i % 2 == 0) for i in range(count)]
    return CTSlices(
        torch.from_numpy(np.stack([canvas.image for canvas in drawn]))[:, None],
        {name: torch.from_numpy(np.stack([canvas.masks[name] for canvas in drawn])) for name in MASKS},
        FIELD_MM / size,
    )


def _slice(size: int, generator: np.random.Generator, *, chest: bool) -> _Canvas:
    """One body, drawn from outside to inside."""
    canvas = _Canvas(size, generator)
    wide, deep = generator.uniform(135, 160), generator.uniform(95, 115)
    body = canvas.depth((0, 0), (wide, deep), power=2.4, rough=2.5)
    canvas.lay(body, FAT + 12 * canvas.wobble[0], "body")
    canvas.lay(np.minimum(body, 1.8 - body), 20.0)  # the skin
    wall = generator.uniform(8, 22)
    inner = canvas.depth((0, 0), (wide - wall, deep - wall), power=2.3, rough=3)
    canvas.lay(inner, MUSCLE + 6 * canvas.wobble[1])
    (_chest if chest else _abdomen)(canvas, wide - wall, deep - wall)
    _spine(canvas, deep - wall)
    _ribs(canvas, wide - wall - 3, deep - wall - 3)
    fine = power_law_field((size, size), beta=2.0, generator=generator)
    canvas.image += np.where(canvas.masks["lungs"], 18, 5) * fine * canvas.masks["body"]
    canvas.image = np.where(body > -canvas.soft, canvas.image, AIR).clip(AIR).astype(np.float32)
    return canvas


def _chest(canvas: _Canvas, wide: float, deep: float) -> None:
    """Two lungs with their vessels, the heart and the great vessels between them, nodules in the lungs."""
    generator = canvas.generator
    heart_at = generator.uniform(8, 22), -0.3 * deep
    for side in (-1, 1):
        lung = canvas.depth(
            (side * 0.52 * wide, 0.02 * deep), (0.4 * wide, 0.86 * deep), turn=side * 0.12, power=2.3, rough=4
        )
        canvas.lay(lung, LUNG + 18 * canvas.wobble[0] + 30 * (canvas.y / deep), "lungs")
    heart = canvas.depth(heart_at, (0.42 * wide, 0.4 * deep), turn=0.5, power=2.1, rough=2.5)
    canvas.lay(heart, FAT + 20)
    canvas.lay(heart - 4, 42 + 3 * canvas.wobble[1], "organs")
    canvas.uncover(heart, "lungs")
    for shift, hu in ((-0.14, 150.0), (0.16, 170.0)):
        chamber = canvas.depth((heart_at[0] + shift * wide, heart_at[1]), (17, 14), turn=0.6, rough=2)
        canvas.lay(chamber, hu, "vessels")
    aorta = canvas.depth((-12 + 24, 0.42 * deep), (12, 12), rough=0.6)
    canvas.lay(aorta, 160.0, "vessels")
    canvas.uncover(aorta, "lungs")
    for side in (-1, 1):
        _vessel_tree(canvas, (side * 0.16 * wide, -0.05 * deep), side, 0.75 * wide)
    lungs = canvas.masks["lungs"] & ~canvas.masks["vessels"]
    _nodules(canvas, lungs, generator.uniform(20, 60), (2.5, 9))


def _vessel_tree(canvas: _Canvas, root: tuple[float, float], side: int, reach: float) -> None:
    """Vessels that leave the hilum, branch and thin out, cut by the slice into pieces and dots."""
    generator = canvas.generator
    ends = [(root, 0.0 if side > 0 else np.pi, 5.0, 0)]
    lungs = canvas.masks["lungs"].copy()
    strength = np.zeros_like(canvas.image)
    while ends:
        (x, y), heading, radius, order = ends.pop()
        length = reach / (order + 2.6) * generator.uniform(0.6, 1.1)
        for step in np.arange(0, length, max(radius, 1.0)):
            heading += generator.normal(0, 0.12)
            x, y = x + np.cos(heading) * max(radius, 1.0), y + np.sin(heading) * max(radius, 1.0)
            thin = radius * (1 - 0.35 * step / length)
            left, right = np.searchsorted(canvas.x[0], [x - thin - 2, x + thin + 2])
            top, bottom = np.searchsorted(canvas.y[:, 0], [y - thin - 2, y + thin + 2])
            window = (slice(top, bottom), slice(left, right))
            depth = thin - np.hypot(canvas.x[:, left:right] - x, canvas.y[top:bottom] - y)
            strength[window] = np.maximum(strength[window], np.clip(depth / canvas.soft * 0.5 + 0.5, 0, 1))
        if order < 5 and radius > 0.5:
            for turn in (-1, 1):
                ends.append(((x, y), heading + turn * generator.uniform(0.25, 0.8), radius * 0.72, order + 1))
    there = canvas.wobble[1] * side < 0.3  # the tree leaves the plane of the slice here and there
    strength *= lungs & (there | (np.hypot(canvas.x - root[0], canvas.y - root[1]) < 0.25 * reach))
    canvas.image += strength * (40 - canvas.image)
    canvas.masks["vessels"] |= strength > 0.5


def _abdomen(canvas: _Canvas, wide: float, deep: float) -> None:
    """Liver, spleen, kidneys, stomach and bowel in fat, the great vessels, low-contrast nodules in the liver."""
    generator = canvas.generator
    inside = canvas.depth((0, -0.02 * deep), (wide - 9, deep - 10), power=2.3, rough=3)
    canvas.lay(inside, FAT + 10 * canvas.wobble[0])
    bowel = np.clip((canvas.wobble[0] * 1.2 + canvas.wobble[1]) * 8, -20, 20)
    canvas.lay(np.minimum(inside - 6, bowel - 1), 30 + 8 * canvas.wobble[1])
    liver = canvas.depth((-0.46 * wide, -0.12 * deep), (0.48 * wide, 0.72 * deep), turn=-0.25, power=2.4, rough=4)
    liver = np.minimum(liver, inside - 1)
    canvas.lay(liver, 105 + 3 * canvas.wobble[1], "organs")
    spleen = canvas.depth((0.72 * wide, 0.18 * deep), (0.19 * wide, 0.42 * deep), turn=0.35, rough=3)
    canvas.lay(np.minimum(spleen, inside - 1), 115 + 3 * canvas.wobble[0], "organs")
    stomach = canvas.depth((0.36 * wide, -0.4 * deep), (0.3 * wide, 0.3 * deep), turn=0.4, rough=4)
    canvas.lay(stomach, 45.0)
    canvas.uncover(stomach, "organs")
    canvas.lay(np.minimum(stomach - 5, -canvas.y - 0.5 * deep), -950.0)
    for side in (-1, 1):
        kidney = canvas.depth((side * 0.45 * wide, 0.5 * deep), (21, 27), turn=side * 0.5, rough=2)
        canvas.lay(kidney + 5, FAT)
        canvas.uncover(kidney + 5, "organs")
        canvas.lay(kidney, 185.0, "organs")
        sinus = canvas.depth((side * 0.39 * wide, 0.48 * deep), (8, 11), turn=side * 0.5, rough=2)
        canvas.lay(sinus, FAT + 70)
        canvas.uncover(sinus, "organs")
    for x, radius, hu in ((9, 10, 175.0), (-16, 11, 150.0)):
        canvas.lay(canvas.depth((x, 0.33 * deep), (radius, radius * 0.9), rough=1), hu, "vessels")
    hepatic = canvas.masks["organs"] & (liver > 4)
    for _ in range(int(generator.integers(7, 12))):
        _blob(canvas, hepatic, generator.uniform(1.5, 5.5), 165.0, "vessels")
    _nodules(canvas, hepatic & ~canvas.masks["vessels"], generator.uniform(55, 80), (3, 9))


def _nodules(canvas: _Canvas, room: ndarray, hu: float, radii: tuple[float, float]) -> None:
    """One to three round nodules."""
    for _ in range(int(canvas.generator.integers(1, 4))):
        _blob(canvas, room, canvas.generator.uniform(*radii), hu, "nodules")


def _blob(canvas: _Canvas, room: ndarray, radius: float, hu: float, mask: str) -> None:
    """A small ellipse somewhere in the room; nothing where there is none."""
    places = np.argwhere(room)
    if len(places):
        row, column = places[canvas.generator.integers(len(places))]
        center = float(canvas.x[0, column]), float(canvas.y[row, 0])
        turn, flat = canvas.generator.uniform(0, np.pi), canvas.generator.uniform(0.7, 1)
        depth = canvas.depth(center, (radius, radius * flat), turn=turn, rough=0.12 * radius)
        canvas.lay(np.where(room, depth, -1), hu, mask)


def _spine(canvas: _Canvas, deep: float) -> None:
    """A vertebra: body with a hard rim and soft marrow, canal, arch and processes."""
    y = 0.62 * deep
    parts = [
        canvas.depth((0, y), (21, 16), power=2.5, rough=1),
        canvas.depth((0, y + 31), (5, 15), rough=1),
        *(canvas.depth((side * 22, y + 17), (17, 5.5), turn=side * 0.35, rough=1) for side in (-1, 1)),
        canvas.depth((0, y + 19), (17, 12), rough=1),
    ]
    for bone in parts:
        canvas.lay(bone, BONE, "bones")
        canvas.uncover(bone, "lungs", "vessels", "organs", "nodules")
    for bone in parts:
        canvas.lay(bone - 2.2, MARROW + 60 * canvas.wobble[0])
    canal = canvas.depth((0, y + 20), (10, 8))
    canvas.lay(canal, 30.0)
    canvas.uncover(canal, "bones")


def _ribs(canvas: _Canvas, wide: float, deep: float) -> None:
    """Ribs, cut at a slant into pieces along the wall, and the sternum."""
    generator = canvas.generator
    angles = [angle for angle in np.linspace(0.12, np.pi - 0.12, 7) if abs(angle - np.pi / 2) > 0.4]
    pieces = [angle + generator.normal(0, 0.05) for angle in angles]
    for angle in [*pieces, *(-a for a in pieces if 0.3 < a < 2.84)]:
        center = wide * np.cos(angle), deep * np.sin(angle)
        along = np.arctan2(deep * np.cos(angle), -wide * np.sin(angle))
        rib = canvas.depth(center, (generator.uniform(9, 18), 4.0), turn=along + generator.normal(0, 0.06), rough=0.8)
        canvas.lay(rib, BONE, "bones")
        canvas.lay(rib - 1.6, MARROW)
        canvas.uncover(rib, "lungs", "vessels", "organs", "nodules")

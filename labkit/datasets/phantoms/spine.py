"""Frontal projections of phantom torsos, in which one vertebra is looked for: L3.

The third lumbar vertebra is where radiologists measure muscle: the area of muscle on that one slice says how much of it
a patient has (sarcopenia). Finding the slice among several hundred is tedious, and vertebrae look alike.

A scan is drawn as in `torso`, on a grid of its own, 3 x 8 x 3 mm, and every ray from front to back keeps the brightest
voxel that it meets: a maximum intensity projection, as Laousy et al. (2021) and Kanavati et al. (2018) make them. Bones
stay, most of the rest goes.

Image     (H, W) float32, 0 to 1 for 0 to 1000 HU; H = 192 rows and W = 128 columns of 3 mm. The head is at the top,
          the patient's right on the picture's left. Below the last scanned slice the image is 0.
Height    mm below the middle of the first row; row r lies at r * 3 mm.

What differs between patients: size and fat, how high each vertebra is (the same standard spine, stretched and pressed
smoothly by about a tenth), a spine that bends to the side, dense or thin bone, contrast agent in vessels, kidneys and,
in some, bowel; screws and cages of an operation in a few. What differs between scans: where they begin and end, noise.
Every image shows L3 with 45 mm above and below its middle. Nobody has four or six lumbar vertebrae here; about one
person in ten has.
"""

import inspect
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy import ndarray
from scipy import ndimage
from torch import Tensor
from tqdm.auto import tqdm

from labkit.datasets.arguments import whole_number
from labkit.datasets.cache import Arrays, cached_arrays
from labkit.datasets.phantoms import body, organs, skeleton, solids
from labkit.datasets.phantoms.body import SPINE, Patient
from labkit.datasets.phantoms.organs import draw_organs
from labkit.datasets.phantoms.skeleton import VERTEBRAE, draw_bones, vertebra_centers
from labkit.datasets.phantoms.solids import Canvas, Place, ellipsoid, rods
from labkit.datasets.splits import Choice, chosen_rows, split_by_patient

__all__ = ["COLUMNS", "MM", "ROWS", "VERTEBRAE", "Projections", "spine_projections"]

ROWS, COLUMNS, MM = 192, 128, 3.0
DEEP_MM, DEEP = 8.0, 30  # front to back
WHITE = 1000.0  # HU
MARGIN = 45.0  # mm of the scan above and below the middle of L3: at least a whole vertebra
LEAST, MOST = 270.0, 573.0  # mm that a scan reaches from head to feet
LOW, HIGH = -150.0, 490.0  # z of the standard body, of what is drawn well
MILLIMETRES = np.arange(LOW - 40, HIGH + 40.5)  # z of a patient of standard height
BLOCK = 10  # images a file of the cache


@dataclass(frozen=True)
class Projections:
    """n frontal projections, each of another patient.

    Attributes:
        images: (n, 192, 128) float32, 0 to 1.
        heights: (n,) float32, mm from the first row down to the middle of L3.
        vertebrae: (n, 17) float32, the same for T1 to L5; nan for those that the image does not show.
        scanned: (n,) int64, rows that the scan fills; below them the image is 0.
        patients: (n,) int64.
        spacing: mm from one row, or column, to the next.
    """

    images: Tensor
    heights: Tensor
    vertebrae: Tensor
    scanned: Tensor
    patients: Tensor
    spacing: float = MM

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, choice: Choice) -> "Projections":
        """The images at these positions, in this order; a mask of one bool an image picks too."""
        rows = torch.tensor(chosen_rows(choice, len(self)), dtype=torch.long)
        return Projections(
            self.images[rows],
            self.heights[rows],
            self.vertebrae[rows],
            self.scanned[rows],
            self.patients[rows],
            spacing=self.spacing,
        )

    def split(self, fractions: Sequence[float], seed: int = 0) -> list["Projections"]:
        """Parts of the images, one a fraction, drawn by patient.

        Raises:
            ValueError: the fractions do not add up to 1, or a part would be empty.
        """
        return [self.subset(part.tolist()) for part in split_by_patient(self.patients, fractions, seed=seed)]


def spine_projections(count: int, *, seed: int = 0) -> Projections:
    """Projections of `count` patients; image i of a seed is the same however many are made. Used in notebook 18.

    Args:
        count: number of images.
        seed: 0 or more; another seed, other patients.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> one = spine_projections(1)
        >>> one.images.shape, bool(one.heights[0] == one.vertebrae[0, VERTEBRAE.index("L3")])
        (torch.Size([1, 192, 128]), True)
    """
    count = whole_number(count, "count", least=1, cure="ask for one image or more")
    seed = whole_number(seed, "seed", least=0, cure="take 0 or more")
    recipe, starts = _recipe(), range(0, count, BLOCK)
    bar = tqdm(starts, desc="projections", disable=count <= 2 * BLOCK, leave=False)
    blocks = [_kept(seed, first, recipe, min(BLOCK, count - first)) for first in bar]
    held = {name: torch.from_numpy(np.concatenate([block[name] for block in blocks])) for name in blocks[0]}
    heights = held["vertebrae"].float()
    return Projections(
        images=held["images"].float() / 255,
        heights=heights[:, VERTEBRAE.index("L3")].clone(),
        vertebrae=heights,
        scanned=held["scanned"].long(),
        patients=torch.arange(count),
    )


def _kept(seed: int, first: int, recipe: int, count: int) -> Arrays:
    """The first images of a block. Whole blocks lie in the cache; of a few images no more are made than asked for."""
    if first == 0 and count < BLOCK:
        return _block(seed, range(count))
    name = f"spine-seed{seed}-{first}-{recipe:08x}"
    make = partial(_block, seed, range(first, first + BLOCK))
    return {part: array[:count] for part, array in cached_arrays(name, make, key=name).items()}


def _recipe() -> int:
    """All that the images depend on but the arguments: with another text of these modules old ones are stale."""
    parts = [inspect.getsource(module) for module in (body, organs, skeleton, solids)]
    parts += [inspect.getsource(function) for function in (_make, _reach, _canvas, _warped, _extras, _sideways)]
    return zlib.crc32(
        "".join([*parts, repr((ROWS, COLUMNS, MM, DEEP_MM, DEEP, WHITE, MARGIN, LEAST, MOST, LOW, HIGH))]).encode()
    )


def _block(seed: int, rows: range) -> Arrays:
    made = [_make(np.random.SeedSequence([seed, i])) for i in rows]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def _make(seeds: np.random.SeedSequence) -> Arrays:
    """One image, and where its vertebrae are."""
    for_patient, for_more, for_scan = (np.random.default_rng(seed) for seed in seeds.spawn(3))
    patient, warp = Patient.draw(for_patient), _warped(for_more)
    centers = np.interp(vertebra_centers()[:, 2], warp, MILLIMETRES) * patient.scale[2]  # z of this patient, mm
    bottom, rows = _reach(centers[VERTEBRAE.index("L3")], patient, for_scan)
    canvas = _canvas(patient, warp, bottom, rows, for_scan.uniform(-12, 12))
    draw_organs(canvas, patient)
    draw_bones(canvas, patient)
    _extras(canvas, patient, for_more)
    noise = for_scan.standard_normal(canvas.volume.shape, dtype=np.float32) * for_scan.uniform(15, 40)
    projected = (canvas.volume + noise).max(axis=1)  # (rows, W), the feet first
    shown = np.zeros((ROWS, COLUMNS))
    shown[:rows] = np.clip(_sideways(projected, for_more)[::-1] / WHITE, 0, 1)
    down = bottom + (rows - 1) * MM - centers
    return {
        "images": np.rint(255 * shown).astype(np.uint8),
        "vertebrae": np.where((down >= 0) & (down <= (rows - 1) * MM), down, np.nan).astype(np.float32),
        "scanned": np.array(rows),
    }


def _reach(third: float, patient: Patient, generator: np.random.Generator) -> tuple[float, int]:
    """z of a scan's lowest row, mm of the patient, and how many rows it has; `third` is the middle of L3."""
    low, high = LOW * patient.scale[2], HIGH * patient.scale[2]
    bottom = generator.uniform(low, third - MARGIN)
    top = min(bottom + generator.uniform(LEAST, MOST), high)
    return float(bottom), int((max(top, third + MARGIN) - bottom) // MM) + 1


def _canvas(patient: Patient, warp: ndarray, bottom: float, rows: int, across: float) -> Canvas:
    """An empty volume whose heights are stretched and pressed as this patient's spine is."""
    origin = (bottom, (1 - DEEP) * DEEP_MM / 2, (1 - COLUMNS) * MM / 2 + across)
    canvas = Canvas((rows, DEEP, COLUMNS), (MM, DEEP_MM, MM), origin, patient.scale, patient.bend)
    z = np.interp(canvas.axes[0], MILLIMETRES, warp).astype(np.float32)
    canvas.axes = (z, *canvas.axes[1:])
    canvas.rigid, canvas.bent = (Place(at.x, at.y, z[:, None, None]) for at in (canvas.rigid, canvas.bent))
    return canvas


def _warped(generator: np.random.Generator) -> ndarray:
    """z of the standard body for each mm of the patient's own: it rises everywhere, here faster and there slower."""
    z = MILLIMETRES
    slope = np.ones_like(z)
    for length in (90, 160, 300):
        phase, size = generator.uniform(0, 2 * np.pi), generator.normal(0, 0.055)
        slope += size * np.sin(2 * np.pi * z / (length * generator.uniform(0.8, 1.25)) + phase)
    rises = np.cumsum(np.clip(slope, 0.75, 1.25))
    return rises - np.interp(-20, z, rises) - 20  # the sacrum stays


def _extras(canvas: Canvas, patient: Patient, generator: np.random.Generator) -> None:
    """Bone as dense as this patient's; contrast agent in the bowel of some; screws in the spine of a few."""
    dense = generator.uniform(0.6, 1.15)
    hard = canvas.volume > 190
    canvas.volume[hard] = 190 + dense * (canvas.volume[hard] - 190)
    if generator.uniform() < 0.2:
        loops, filled = (wave.on_grid(canvas.rigid) for wave in patient.bowel)
        room = np.minimum(patient.abdomen(canvas.rigid) - 8, 150 - canvas.rigid.z)
        inside = (loops > 0.3) & (filled > 0.5) & (room > 0) & (canvas.rigid.y < 10) & (canvas.volume > -50)
        canvas.volume[inside] = generator.uniform(250, 600)
    operated, first = generator.uniform() < 0.08, int(generator.integers(0, 15))
    levels = range(first, min(first + int(generator.integers(2, 5)), len(VERTEBRAE)))
    for level in levels if operated else ():
        z = float(vertebra_centers()[level, 2])
        y = float(SPINE(z))
        for side in (-1, 1):
            screw = [(side * 20, y + 24, z + 4), (side * 9, y - 8, z + 2)]
            canvas.lay_all(rods(screw, [3.5, 3.0]), 2800.0, 0, rigid=True)
            canvas.lay(ellipsoid((side * 21, y + 27, z + 4), (5, 6, 6)), 2800.0, 0, rigid=True)


def _sideways(image: ndarray, generator: np.random.Generator) -> ndarray:
    """Rows moved to the side: a spine that bends, by a cm or two."""
    z = np.arange(len(image)) * MM
    bend = np.zeros(len(image))
    for length in (250, 500):
        phase, size = generator.uniform(0, 2 * np.pi), generator.normal(0, 5.0)
        bend += size * np.sin(2 * np.pi * z / (length * generator.uniform(0.8, 1.3)) + phase)
    grid = np.arange(image.shape[1])
    moved = [np.interp(grid + by / MM, grid, row) for row, by in zip(image, bend, strict=True)]
    return ndimage.gaussian_filter(np.stack(moved), 0.4)

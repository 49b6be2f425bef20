"""Phantom CT scans of the torso, made by physics: organs with their boxes, or lungs with nodules.

Two grids of the same patients, each affordable for what it is for:

torso_scans   4 x 3 x 3 mm, 64 x 96 x 128 voxels: 256 mm, two fifths of a torso, cut at a random height, so that organs
              are cut or missing: a chest, a belly, a pelvis, or parts of two. For organs (notebooks 15 and 17).
lung_scans    2 x 1.25 x 1.25 mm, 64 x 168 x 240 voxels: both lungs in full width, and 128 mm of their height of about
              270. The trade: whole axial slices, fine enough for a nodule of 4 mm, at half the cost of a whole chest.
              For nodules (notebook 14).

Volume    (Z, Y, X) float32 in HU, whole numbers. Z grows towards the head, Y towards the back, X towards the patient's
          left: a slice is seen from the feet, the patient's right on the picture's left.
World     mm, as DICOM has it: the middle of voxel (z, y, x) lies at origin + (z, y, x) * spacing. Where the patient
          lies on the table is random, so world coordinates tell nothing about anatomy.
Boxes     (N, 6) float32 x1 y1 z1 x2 y2 z2 in voxels, ends exclusive, around what the field shows of an organ. An organ
          is listed where that is 12 mm high or more.
Points    x y z, as boxes and as LUNA16's lists; spacing and origin are z y x, as volumes.

Scan i of a seed is the same however many are made, and is of another patient than any other of that seed; both grids
have the same patients. Scans are kept in the cache, one file each. The physics: HU by tissue (`body`), partial volumes
at edges, trees of vessels that fill the lungs (`trees`), noise with the deviation and the correlation of filtered back
projection (`solids`).
"""

import inspect
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy import ndarray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from labkit.datasets.arguments import whole_number
from labkit.datasets.cache import Arrays, cached_arrays
from labkit.datasets.phantoms import body, nodules, organs, skeleton, solids, trees
from labkit.datasets.phantoms.body import APEX, BOTTOM, TOP, Patient
from labkit.datasets.phantoms.nodules import KINDS, draw_nodules
from labkit.datasets.phantoms.organs import LABELS, ORGANS, draw_organs, fill_lungs
from labkit.datasets.phantoms.skeleton import VERTEBRAE, draw_bones, vertebra_centers
from labkit.datasets.phantoms.solids import Canvas, Triple, scanner_noise, triple
from labkit.datasets.splits import Choice, chosen_rows, one_row, split_by_patient

__all__ = [
    "KINDS",
    "LABELS",
    "ORGANS",
    "VERTEBRAE",
    "Nodules",
    "Scan",
    "Scans",
    "lung_scans",
    "nodule_boxes",
    "torso_scans",
]

LEAST_MM = 12.0  # of an organ along z
NOISE = {"torso": (9.0, 16.0), "lungs": (18.0, 32.0)}  # HU in the middle of the body: thick slices have less
CACHED_FROM = 200_000  # voxels: a scan of fewer takes less than a second
QUIET = 8  # scans; more of them take a while, where they are not in the cache, so a bar shows how far it is
LUNG_BASE = 185.0  # z of the standard body, the lowest that the lungs reach


@dataclass(frozen=True)
class Nodules:
    """The K nodules of a scan, the largest first."""

    centers: Tensor  # (K, 3) float32 x y z, world, mm
    diameters: Tensor  # (K,) float32 mm
    kinds: Tensor  # (K,) int64, a row of KINDS


@dataclass(frozen=True)
class Scan:
    """One scan and what is in it."""

    volume: Tensor  # (Z, Y, X) float32 HU
    spacing: Triple  # (z, y, x) mm
    origin: Triple  # (z, y, x) mm, world, of the middle of voxel (0, 0, 0)
    boxes: Tensor  # (N, 6) float32 x1 y1 z1 x2 y2 z2 voxels, ends exclusive, of organs
    labels: Tensor  # (N,) int64, a row of ORGANS, ascending
    organs: Tensor  # (Z, Y, X) uint8, the organ of each voxel, 0 where there is none
    nodules: Nodules
    vertebrae: dict[str, tuple[float, float, float]]  # T1 to L5 whose middle is in the field: x y z, world, mm
    patient: int


class Scans(Dataset):
    """Scans of one grid: `scans[i]` is a `Scan`. Held as whole HU, so a scan takes 3 bytes a voxel.

    Attributes:
        patients: (n,) int64, one a scan.
    """

    def __init__(self, arrays: Sequence[Arrays]):
        self.arrays = list(arrays)
        self.patients = torch.tensor([int(held["patient"][0]) for held in self.arrays], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Scan:
        """A scan, its tensors copies."""
        row = one_row(index)
        if not -len(self) <= row < len(self):
            raise IndexError(row)  # so that a loop ends
        held = self.arrays[row]
        found = torch.from_numpy(held["nodules"]).float()
        boxes, labels = organ_boxes(held["organs"], spacing=triple(held["spacing"]))
        return Scan(
            volume=torch.from_numpy(held["volume"]).float(),
            spacing=triple(held["spacing"]),
            origin=triple(held["origin"]),
            boxes=boxes,
            labels=labels,
            organs=torch.from_numpy(held["organs"].copy()),
            nodules=Nodules(found[:, :3], found[:, 3], found[:, 4].long()),
            vertebrae=_in_field(held),
            patient=int(self.patients[row]),
        )

    def subset(self, choice: Choice) -> "Scans":
        """The scans at these positions, in this order; a mask of one bool a scan picks too."""
        return Scans([self.arrays[row] for row in chosen_rows(choice, len(self))])

    def split(self, fractions: Sequence[float], seed: int = 0) -> list["Scans"]:
        """Parts of the scans, one a fraction, drawn by patient.

        Raises:
            ValueError: the fractions do not add up to 1, or a part would be empty.
        """
        return [self.subset(part) for part in split_by_patient(self.patients, fractions, seed=seed)]


def torso_scans(
    count: int, *, shape: Sequence[int] = (64, 96, 128), spacing: Sequence[float] = (4.0, 3.0, 3.0), seed: int = 0
) -> Scans:
    """Scans of a part of the torso, each of another patient, without nodules. Used in notebooks 15 and 17.

    Args:
        count: number of scans.
        shape: (Z, Y, X) voxels, each 8 or more.
        spacing: (z, y, x) mm; for a smaller, coarser scan of the same field halve one and double the other.
        seed: 0 or more; another seed, other patients.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> scan = torso_scans(1, shape=(16, 24, 32), spacing=(16, 12, 12))[0]
        >>> scan.volume.shape, scan.boxes.shape[1], LABELS["liver"] in scan.labels
        (torch.Size([16, 24, 32]), 6, True)
    """
    return _scans(count, "torso", shape, spacing, seed, 0.0)


def lung_scans(
    count: int,
    *,
    shape: Sequence[int] = (64, 168, 240),
    spacing: Sequence[float] = (2.0, 1.25, 1.25),
    seed: int = 0,
    nodules: float = 4.0,
) -> Scans:
    """Scans of a slab of both lungs with nodules, without contrast agent, each of another patient. Used in notebook 14.

    Args:
        count: number of scans.
        shape: (Z, Y, X) voxels, each 8 or more.
        spacing: (z, y, x) mm.
        seed: 0 or more; another seed, other patients.
        nodules: a scan, on average (Poisson). LUNA16 has 1.3 a scan; more of them teach more from few scans.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> scan = lung_scans(1, shape=(16, 42, 60), spacing=(8, 5, 5))[0]
        >>> scan.volume.shape, len(scan.nodules.diameters) == len(nodule_boxes(scan))
        (torch.Size([16, 42, 60]), True)
    """
    if not (isinstance(nodules, int | float) and 0 <= nodules <= 50):
        raise ValueError(f"nodules must be a number in 0 to 50, got {nodules!r}; it is the mean number a scan")
    return _scans(count, "lungs", shape, spacing, seed, float(nodules))


def nodule_boxes(scan: Scan) -> Tensor:
    """(K, 6) float32 boxes around the nodules of a scan, x1 y1 z1 x2 y2 z2 in voxels, as wide as their diameters.

    The middle of voxel i is at i + 0.5 of a box. Edges need not be whole.

    Example:
        >>> scan = lung_scans(1, shape=(16, 42, 60), spacing=(8, 5, 5))[0]
        >>> boxes = nodule_boxes(scan)
        >>> torch.allclose((boxes[:, 3] - boxes[:, 0]) * 5, scan.nodules.diameters, atol=1e-3)
        True
    """
    origin, spacing = (torch.tensor(values[::-1], dtype=torch.float64) for values in (scan.origin, scan.spacing))
    middles = (scan.nodules.centers.double() - origin) / spacing + 0.5
    half = scan.nodules.diameters[:, None].double() / spacing / 2
    return torch.cat([middles - half, middles + half], dim=1).float()


def organ_boxes(labels: ndarray, *, spacing: Triple) -> tuple[Tensor, Tensor]:
    """(N, 6) boxes around the organs of a label map and their (N,) labels, ascending.

    Args:
        labels: (Z, Y, X) whole numbers, rows of ORGANS.
        spacing: (z, y, x) mm.

    Example:
        >>> labels = np.zeros((6, 5, 4), np.uint8)
        >>> labels[1:5, 2:4, 0:3] = LABELS["liver"]
        >>> organ_boxes(labels, spacing=(4.0, 3.0, 3.0))
        (tensor([[0., 2., 1., 3., 4., 5.]]), tensor([4]))
    """
    rows, numbers = [], []
    for number, found in enumerate(ndimage.find_objects(labels, max_label=len(ORGANS) - 1), start=1):
        if found is not None and (found[0].stop - found[0].start) * spacing[0] >= LEAST_MM:
            rows.append([side.start for side in found[::-1]] + [side.stop for side in found[::-1]])
            numbers.append(number)
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6), torch.tensor(numbers, dtype=torch.long)


def _in_field(held: Arrays) -> dict[str, tuple[float, float, float]]:
    """The vertebrae whose middle the field holds."""
    first, step = held["origin"], held["spacing"]
    last = first + (np.array(held["volume"].shape) - 1) * step
    inside = ((held["vertebrae"][:, ::-1] >= first) & (held["vertebrae"][:, ::-1] <= last)).all(axis=1)
    return {name: triple(row) for name, row, there in zip(VERTEBRAE, held["vertebrae"], inside, strict=True) if there}


# Making them


def _scans(
    count: int, field: str, shape: Sequence[int], spacing: Sequence[float], seed: int, mean_nodules: float
) -> Scans:
    count = whole_number(count, "count", least=1, cure="ask for one scan or more")
    seed = whole_number(seed, "seed", least=0, cure="take 0 or more")
    sides, steps = list(shape), list(spacing)
    if len(sides) != 3:
        raise ValueError(f"shape must be (Z, Y, X), got {tuple(sides)}; take (64, 96, 128)")
    sides = [whole_number(side, "each side of shape", least=8, cure="take (64, 96, 128)") for side in sides]
    if len(steps) != 3 or not all(isinstance(step, int | float) and 0.5 <= step <= 20 for step in steps):
        raise ValueError(
            f"spacing must be (z, y, x), three numbers in 0.5 to 20 mm, got {tuple(steps)}; take (4, 3, 3)"
        )
    made, recipe = [], _recipe()
    for i in tqdm(range(count), desc=field, disable=count < QUIET, leave=False):
        key = f"{field} {sides} {steps} {mean_nodules} {seed} {i} {recipe:08x}"
        name = f"{field}-seed{seed}-{i}-{zlib.crc32(key.encode()):08x}"

        def make(i: int = i) -> Arrays:
            return _make(np.random.SeedSequence([seed, i]), field, sides, triple(steps), mean_nodules) | {
                "patient": np.array([i])
            }

        made.append(make() if np.prod(sides) < CACHED_FROM else cached_arrays(name, make, key=key))
    return Scans(made)


def _recipe() -> int:
    """All that the arrays depend on but the arguments: with another text of these modules old scans are stale."""
    modules: tuple[ModuleType, ...] = (body, nodules, organs, skeleton, solids, trees)
    parts = [inspect.getsource(module) for module in modules]
    parts += [inspect.getsource(function) for function in (_make, _field)]
    return zlib.crc32("".join([*parts, repr((NOISE, LUNG_BASE))]).encode())


def _make(seeds: np.random.SeedSequence, field: str, shape: list[int], spacing: Triple, mean_nodules: float) -> Arrays:
    """One scan. Patient, trees and what belongs to the scan have random numbers of their own."""
    for_patient, for_trees, for_scan = (np.random.default_rng(seed) for seed in seeds.spawn(3))
    patient = Patient.draw(for_patient)
    if field == "lungs":
        patient = patient.native()
    origin = _field(patient, field, shape, spacing, for_scan)
    canvas = Canvas(shape, spacing, origin, patient.scale, patient.bend)
    draw_organs(canvas, patient)
    vessels = fill_lungs(canvas, patient, for_trees)
    draw_bones(canvas, patient)
    wanted = int(for_scan.poisson(mean_nodules))
    found = draw_nodules(canvas, vessels, wanted, for_scan)
    deep = np.clip(patient.body(canvas.bent) / 60, -0.2, 1)  # noise is strongest where rays have crossed most tissue
    noise = scanner_noise(shape, spacing, for_scan) * (0.55 + 0.45 * deep) * for_scan.uniform(*NOISE[field])
    table = np.array(patient.table)
    found[:, :3] += table
    return {
        "volume": np.rint(canvas.volume + noise).clip(-1024, 3071).astype(np.int16),
        "organs": canvas.labels,
        "spacing": np.array(spacing),
        "origin": np.array(origin) + table[::-1],
        "nodules": found,
        "vertebrae": vertebra_centers() * patient.scale + table,
    }


def _field(
    patient: Patient, field: str, shape: Sequence[int], spacing: Triple, generator: np.random.Generator
) -> Triple:
    """(z, y, x) mm in the patient, where the first voxel lies: about the middle across, at a random height."""
    low, high = (BOTTOM, TOP) if field == "torso" else (LUNG_BASE, APEX + 8)
    reach = np.array(shape) * spacing
    low, room = low * patient.scale[2], (high - low) * patient.scale[2] - reach[0]
    start = low + (generator.uniform(0, room) if room > 0 else room / 2)
    across = generator.uniform(-6, 6, 2)
    return (
        float(start),
        float(across[0] - reach[1] / 2 + spacing[1] / 2),
        float(across[1] - reach[2] / 2 + spacing[2] / 2),
    )

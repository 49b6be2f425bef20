"""Phantom mammograms: films made by physics, so no patient's data is needed and every lesion is known exactly.

Each patient has two films of one breast (craniocaudal, mediolateral oblique) that share tissue, texture
statistics and lesion types. Film i of a seed is the same however many are made: its random numbers depend on
(seed, patient, view) only.

Images    (1, H, W) float32 grey values in [0, 1], attenuation / 3: tissue is bright, empty film 0; 8-bit
          steps.
Pixels    160 mm / H, so 1 mm at the default (160, 128).
Boxes     (N, 4) float32 x1 y1 x2 y2, x2 and y2 exclusive, around the pixels above a fifth of the lesion's
          peak: the body of a mass and the strong inner part of its spicules, the specks of a cluster.
Labels    1 benign, 2 malignant.
Kinds     0 circumscribed mass (benign), 1 spiculated mass (malignant), 2 microcalcifications (either, by
          their form).
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset

from labkit.datasets.arguments import two_values, whole_number
from labkit.datasets.cache import cached_arrays
from labkit.datasets.phantoms.anatomy import FILM_MM, Patient, breast_attenuation, detect
from labkit.datasets.phantoms.lesions import check_contrast, cluster_shape, draw_contrast, mass_shape
from labkit.datasets.phantoms.placement import place_lesion
from labkit.datasets.splits import Choice, Target, chosen_rows, clone_target, one_row, split_by_patient

CIRCUMSCRIBED, SPICULATED, CALCIFICATIONS = 0, 1, 2
BENIGN, MALIGNANT = 1, 2
VERSION = "1"  # of the recipe; a change makes every cached set again
CACHED_FROM = 50  # films, which take half a second to make; fewer are not worth a file
THREADS = 2  # FFT, noise and interpolation release the interpreter lock; more threads gain little
# A cluster fills its box with gaps, so its mean contrast is a third of a mass's (real ones: 0.4 to 0.6).
CLUSTER_CONTRAST = 1 / 3


class Lesion(NamedTuple):
    """What both films of a patient share of one lesion."""

    kind: int
    label: int
    radius_mm: float
    contrast: float  # contrast to noise it is given


class Mammograms(Dataset):
    """Films with their boxes: `dataset[i]` is `(image (1, H, W), target)`.

    Attributes:
        images: (n, 1, H, W) float32 in [0, 1].
        targets: list of n dicts: boxes (N, 4) float32, labels (N,) int64, kinds (N,) int64.
        patients: (n,) int64; the two films of a patient share a number.
        pixel_mm: side of a pixel in mm.
    """

    def __init__(self, images: Tensor, targets: list[Target], patients: Tensor, *, pixel_mm: float | None = None):
        """Put films together; without `pixel_mm` they are 160 mm high, as phantoms are."""
        if not len(images) == len(targets) == len(patients):
            raise ValueError(
                "expected one target and one patient an image, got "
                f"{len(images)} images, {len(targets)} targets, {len(patients)} patients; index all three together"
            )
        self.images, self.targets, self.patients = images, targets, patients
        self.pixel_mm = FILM_MM / images.shape[-2] if pixel_mm is None else pixel_mm

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image (1, H, W) float32 in [0, 1] and its target, copies both."""
        row = one_row(index)
        return self.images[row].clone(), clone_target(self.targets[row])

    def subset(self, choice: Choice) -> "Mammograms":
        """The films at these positions, in this order; a mask of one bool a film picks too.

        Example:
            >>> films = mammograms(6, size=(80, 64))
            >>> len(films.subset(films.patients == 2)), len(films.subset([5, 0, 1]))
            (2, 3)
        """
        rows = chosen_rows(choice, len(self))
        targets = [clone_target(self.targets[row]) for row in rows]
        return Mammograms(self.images[rows], targets, self.patients[rows], pixel_mm=self.pixel_mm)

    def split(self, fractions: Sequence[float], seed: int = 0) -> list["Mammograms"]:
        """One dataset a fraction, drawn by patient: no patient is in two of them.

        Args:
            fractions: share of the patients in each part; positive, together 1.
            seed: which draw.

        Raises:
            ValueError: the fractions do not add up to 1, or a part would be empty.

        Example:
            >>> train, test = mammograms(10, size=(80, 64)).split((0.6, 0.4))
            >>> len(train), len(test), set(train.patients.tolist()) & set(test.patients.tolist())
            (6, 4, set())
        """
        return [self.subset(part) for part in split_by_patient(self.patients, fractions, seed=seed)]


def mammograms(
    count: int,
    *,
    size: tuple[int, int] = (160, 128),
    seed: int = 0,
    cnr: tuple[float, float] = (0.8, 2.4),
    normal_fraction: float = 1 / 3,
) -> Mammograms:
    """Phantom films with benign and malignant lesions, about a third without any.

    From 50 films on they are kept in the cache (`labkit.datasets.cache`). Shown in notebook 00.

    Args:
        count: number of films; two a patient, so the last patient has one where it is odd.
        size: height and width in pixels, both 64 or more; the film is 160 mm high.
        seed: 0 or more; another seed, other patients.
        cnr: range of the masses' contrast to noise as `contrast_to_noise` measures it; the middle is the most
            frequent value. Clusters get a third of it.
        normal_fraction: probability that a patient has no lesion.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> dataset = mammograms(4, size=(80, 64), normal_fraction=0)
        >>> image, target = dataset[0]
        >>> image.shape, sorted(target), dataset.patients.tolist()
        (torch.Size([1, 80, 64]), ['boxes', 'kinds', 'labels'], [0, 0, 1, 1])
    """
    count = whole_number(count, "count", least=1, cure="ask for one film or more")
    seed = whole_number(seed, "seed", least=0, cure="take 0 or more")
    size, cnr = _checked_size(size), check_contrast(cnr)
    if not 0 <= normal_fraction <= 1:
        raise ValueError(f"normal_fraction must lie in [0, 1], got {normal_fraction}; 1/3 is the default")

    def make() -> dict[str, ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            films = list(pool.map(lambda i: _film(divmod(i, 2), size, seed, cnr, normal_fraction), range(count)))
        findings = np.concatenate([found for _, found in films])
        return {
            "images": np.stack([np.round(image * 255) for image, _ in films]).astype(np.uint8),
            "counts": np.array([len(found) for _, found in films]),
            "findings": findings.astype(np.int32),  # (N, 6) box, label, kind
        }

    if count < CACHED_FROM:
        arrays = make()
    else:
        recipe = f"{count} {size} {seed} {cnr} {normal_fraction}"
        name = f"mammograms-{count}x{size[0]}x{size[1]}-seed{seed}-{zlib.crc32(recipe.encode()):08x}"
        arrays = cached_arrays(name, make, key=f"version {VERSION}: {recipe}")
    images = torch.from_numpy(arrays["images"])[:, None].float() / 255
    targets = [
        {"boxes": found[:, :4].float(), "labels": found[:, 4].long(), "kinds": found[:, 5].long()}
        for found in torch.from_numpy(arrays["findings"]).split(arrays["counts"].tolist())
    ]
    return Mammograms(images, targets, torch.arange(count) // 2)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    pair = two_values(size, "size must be (height, width) in pixels, for example (160, 128)")
    name, cure = "size must be (height, width): each side", "make the film larger"
    height, width = (whole_number(side, name, least=64, cure=cure) for side in pair)
    return height, width


def _film(
    which: tuple[int, int], size: tuple[int, int], seed: int, cnr: tuple[float, float], normal_fraction: float
) -> tuple[ndarray, ndarray]:
    """Grey values (H, W) and findings (N, 6) of one film; which is (patient, view)."""
    number, view = which
    shared = np.random.default_rng([seed, number])
    patient = Patient.draw(shared)
    lesions = _draw_lesions(shared, cnr, normal_fraction)
    generator = np.random.default_rng([seed, number, 1 + view])
    pixel_mm = FILM_MM / size[0]
    attenuation, room = breast_attenuation(size, patient=patient, oblique=view == 1, generator=generator)
    findings: list[tuple[int, ...]] = []
    for lesion in lesions:
        shape = _shape(lesion, pixel_mm, generator)
        placed = place_lesion(shape, attenuation, room, lesion.contrast, [found[:4] for found in findings], generator)
        if placed is not None:
            attenuation = attenuation + placed[0]
            findings.append((*placed[1], lesion.label, lesion.kind))
    image = detect(attenuation, pixel_mm=pixel_mm, generator=generator)
    table = np.array(findings, dtype=np.int64).reshape(-1, 6)
    if patient.on_right:
        image = np.ascontiguousarray(image[:, ::-1])
        table[:, [0, 2]] = size[1] - table[:, [2, 0]]
    return image, table


def _draw_lesions(generator: np.random.Generator, cnr: tuple[float, float], normal_fraction: float) -> list[Lesion]:
    """The lesions of a patient: none, mostly one, sometimes two or three."""
    if generator.uniform() < normal_fraction:
        return []
    return [_draw_lesion(generator, cnr) for _ in range(generator.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))]


def _draw_lesion(generator: np.random.Generator, cnr: tuple[float, float]) -> Lesion:
    """Kind, label, size and contrast; radius as on real films: median 8.5 mm, here 4.5 to 20."""
    kind = int(generator.choice([CIRCUMSCRIBED, SPICULATED, CALCIFICATIONS], p=[0.4, 0.4, 0.2]))
    label = {CIRCUMSCRIBED: BENIGN, SPICULATED: MALIGNANT}.get(kind) or int(generator.integers(BENIGN, MALIGNANT + 1))
    contrast = draw_contrast(generator, cnr)
    radius = float(np.clip(8.5 * np.exp(0.4 * generator.standard_normal()), 4.5, 20))
    return Lesion(kind, label, radius, contrast * (CLUSTER_CONTRAST if kind == CALCIFICATIONS else 1))


def _shape(lesion: Lesion, pixel_mm: float, generator: np.random.Generator) -> ndarray:
    """(h, w) the lesion as one view shows it."""
    radius = lesion.radius_mm / pixel_mm
    if lesion.kind == CALCIFICATIONS:  # specks of 0.1 to 0.5 mm, widened by the pixel they fall in
        speck = max(0.3 / pixel_mm, 0.5)
        return cluster_shape(
            max(radius * 0.7, 2.0), malignant=lesion.label == MALIGNANT, speck=speck, generator=generator
        )
    return mass_shape(radius, spiculated=lesion.kind == SPICULATED, generator=generator)

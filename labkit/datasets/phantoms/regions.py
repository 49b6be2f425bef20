"""Square regions of breast tissue with one mass each: what a localizer learns from.

Images    (n, 1, S, S) float32 grey values in [0, 1] on the films' scale; a pixel is 0.8 mm.
Boxes     (n, 4) float32 x1 y1 x2 y2, x2 and y2 exclusive, by the films' rule.
Labels    1 benign (circumscribed), 2 malignant (spiculated).

Region i of a seed is the same however many are made.
"""

import math
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from labkit.datasets.arguments import two_values, whole_number
from labkit.datasets.cache import cached_arrays
from labkit.datasets.phantoms.anatomy import detect, tissue_attenuation
from labkit.datasets.phantoms.lesions import check_contrast, draw_contrast, mass_shape, visible_box
from labkit.datasets.phantoms.placement import place_lesion

BENIGN, MALIGNANT = 1, 2
THREADS = 2  # as for the films
CACHED_FROM = 200  # regions
VERSION = 1  # of the recipe: another one makes cached regions stale
REGION_MM = 0.8  # so that boxes of 12 to 40 pixels are lesions of 10 to 32 mm, the bulk of the real ones


def lesion_regions(
    count: int,
    *,
    size: int = 64,
    seed: int = 0,
    lesion_size: tuple[float, float] = (12, 40),
    cnr: tuple[float, float] = (0.8, 2.4),
) -> tuple[Tensor, Tensor, Tensor]:
    """Square regions of breast tissue that hold exactly one mass each, off-centre; used in notebook 01.

    A larger `size` shows the same lesions in a larger field of view. Pixels are 0.8 mm.

    Args:
        count: number of regions.
        size: side of a region in pixels.
        seed: another seed, other regions.
        lesion_size: smallest and largest side of a box in pixels.
        cnr: range of the contrast to noise, as for the films.

    Returns:
        Images (n, 1, size, size) float32 in [0, 1], boxes (n, 4) float32 xyxy, labels (n,) int64 (1 benign
        circumscribed, 2 malignant spiculated, in turn).

    Raises:
        ValueError: an argument is out of its range, or the region is too small for the largest lesion.

    Example:
        >>> images, boxes, labels = lesion_regions(2)
        >>> images.shape, boxes.shape, labels.tolist()
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 4]), [1, 2])
    """
    rule = "lesion_size must be (low, high), low >= 6, high >= 1.5 low; try (12, 40)"
    low, high = map(float, two_values(lesion_size, rule))
    if not (low >= 6 and 1.5 * low <= high < math.inf):
        raise ValueError(f"{rule}, got {lesion_size}")
    count, size, seed, cnr = checked_arguments(count, size, seed, cnr, smallest=high + 8)
    labels = np.arange(count) % 2 + BENIGN
    images, boxes = make_regions(labels, size, seed, (low, high), cnr, stream=1)
    return images, boxes, torch.from_numpy(labels)


def make_regions(
    labels: ndarray, size: int, seed: int, lesion_size: tuple[float, float], cnr: tuple[float, float], *, stream: int
) -> tuple[Tensor, Tensor]:
    """Images (n, 1, size, size) and boxes (n, 4), NaN where there is no lesion; many are kept in the cache."""

    def make() -> dict[str, ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            wanted = ((i, size, seed, lesion_size, cnr, int(label), stream) for i, label in enumerate(labels))
            made = list(pool.map(lambda arguments: _region(*arguments), wanted))
        boxes = [box or (np.nan,) * 4 for _, box in made]
        return {"images": np.stack([image for image, _ in made]), "boxes": np.array(boxes, dtype=np.float32)}

    if len(labels) < CACHED_FROM:
        arrays = make()
    else:
        recipe = f"{len(labels)} {size} {seed} {lesion_size} {cnr} {stream}"
        name = f"regions-{len(labels)}x{size}-seed{seed}-{zlib.crc32(recipe.encode()):08x}"
        arrays = cached_arrays(name, make, key=f"version {VERSION}: {recipe}")
    return torch.from_numpy(arrays["images"])[:, None], torch.from_numpy(arrays["boxes"])


def _region(
    index: int,
    size: int,
    seed: int,
    lesion_size: tuple[float, float],
    cnr: tuple[float, float],
    label: int,
    stream: int,
) -> tuple[ndarray, tuple[int, ...]]:
    """Grey values (size, size) and the box of the one mass in it; no mass and no box where the label is 0."""
    lesion, background = (np.random.default_rng([seed, index, stream, part]) for part in (0, 1))
    attenuation = tissue_attenuation(size, pixel_mm=REGION_MM, generator=background)
    room = np.ones((size, size), dtype=bool)
    box: tuple[int, ...] = ()
    while label and not box:
        shape = _mass_of_size(lesion, lesion_size, label)
        contrast = draw_contrast(lesion, cnr)
        placed = place_lesion(shape, attenuation, room, contrast, [], background)
        if placed is not None:
            attenuation, box = attenuation + placed[0], placed[1]
    return detect(attenuation, pixel_mm=REGION_MM, generator=background), box


def _mass_of_size(generator: np.random.Generator, lesion_size: tuple[float, float], label: int) -> ndarray:
    """(h, w) a mass whose box has both sides within lesion_size; sizes evenly spread in the logarithm."""
    low, high = lesion_size
    while True:
        radius = np.exp(generator.uniform(np.log(low), np.log(high))) / 2
        shape = mass_shape(radius, spiculated=label == MALIGNANT, generator=generator)
        x1, y1, x2, y2 = visible_box(shape)
        if low <= min(x2 - x1, y2 - y1) and max(x2 - x1, y2 - y1) <= high:
            return shape


def checked_arguments(
    count: int, size: int, seed: int, cnr: tuple[float, float], *, smallest: float
) -> tuple[int, int, int, tuple[float, float]]:
    """The arguments that both makers share, in plain types; ValueError where one is out of its range."""
    return (
        whole_number(count, "count", least=1, cure="ask for one region or more"),
        whole_number(size, "size", least=math.ceil(smallest), cure="make the regions larger"),
        whole_number(seed, "seed", least=0, cure="take 0 or more"),
        check_contrast(cnr),
    )

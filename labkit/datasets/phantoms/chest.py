"""Phantom chest X-rays made by physics: lungs, heart, ribs, clavicles and spine, each with its mask.

Film i of a seed is the same however many are made: its random numbers depend on (seed, i) only.

Images    (n, 1, size, size) float32 in [0, 1], attenuation shown as on a film: bone bright, lung dark.
Noise     a film has the detector's own: 2e4 quanta a mm² before the body. `noise=False` gives the mean film, what an
          endless exposure would show: the same body, the same blur. It is the clean reference of a denoiser.
Pixels    300 mm / size, so 1.2 mm at the default 256.
Masks     lungs, heart, clavicles, ribs, spine: (n, size, size) bool; they overlap, as shadows do.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from torch import Tensor

from labkit.datasets.cache import cached_arrays
from labkit.datasets.phantoms.texture import power_law_field

FIELD_MM = 300.0
MASKS = ("lungs", "heart", "clavicles", "ribs", "spine")
QUANTA_PER_MM2 = 2e4  # before the body
ELECTRONIC_SD = 8.0  # in quanta
BLUR_MM = 0.6  # standard deviation of the detector's point spread
VERSION = "1"  # of the recipe; a change makes every cached set again
CACHED_FROM = 20  # films, which take a fifth of a second each; fewer are not worth a file
THREADS = 2
WHITE = 65535  # a film has 16 bits


class ChestFilms(NamedTuple):
    """Films and what is in them."""

    images: Tensor  # (n, 1, size, size) in [0, 1]
    masks: dict[str, Tensor]  # of MASKS, (n, size, size) bool
    pixel_mm: float


def chest_films(count: int, *, size: int = 256, seed: int = 0, noise: bool = True) -> ChestFilms:
    """Frontal chest films, each of another patient. Used in notebook 11.

    From 20 films on they are kept in the cache (`labkit.datasets.cache`).

    Args:
        count: number of films.
        size: pixels a side, at least 64.
        seed: 0 or more; another seed, other patients.
        noise: whether quanta are counted; False gives the same films without noise.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> films = chest_films(2, size=64)
        >>> films.images.shape, sorted(films.masks)
        (torch.Size([2, 1, 64, 64]), ['clavicles', 'heart', 'lungs', 'ribs', 'spine'])
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}; ask for one film or more")
    if size < 64:
        raise ValueError(f"size must be at least 64, got {size}; make the film larger")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}; take 0 or more")

    def make() -> dict[str, ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            drawn = list(pool.map(lambda i: _film(size, np.random.default_rng([seed, i]), noise=noise), range(count)))
        films = {"images": np.stack([np.round(image * WHITE) for image, _ in drawn]).astype(np.uint16)}
        return films | {name: np.packbits([found[name] for _, found in drawn], axis=-1) for name in MASKS}

    recipe = f"{count}x{size}-seed{seed}{'' if noise else '-smooth'}"
    stored = (
        make() if count < CACHED_FROM else cached_arrays(f"chest-{recipe}", make, key=f"version {VERSION}: {recipe}")
    )
    images = torch.from_numpy(stored["images"].astype(np.float32))[:, None] / WHITE
    masks = {name: torch.from_numpy(np.unpackbits(stored[name], axis=-1, count=size).astype(bool)) for name in MASKS}
    return ChestFilms(images, masks, FIELD_MM / size)


def _film(size: int, generator: np.random.Generator, *, noise: bool) -> tuple[ndarray, dict[str, ndarray]]:
    """Grey values (size, size) and the masks of one film."""
    pixel = FIELD_MM / size
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * pixel).astype(np.float32)
    x, y = (
        axis[None] - FIELD_MM / 2 - generator.uniform(-5, 5),
        axis[:, None] + 16 + generator.uniform(-4, 6),
    )  # mm right of the midline, mm down
    bend = [4 * power_law_field((size, size), beta=4.0, generator=generator) for _ in range(2)]
    scale = generator.uniform(0.92, 1.06)
    lungs = [_lung(x + 0.6 * bend[0], y + 0.6 * bend[1], side, scale, generator) for side in (-1, 1)]
    air = np.maximum(*lungs)
    heart = _heart(x + 0.4 * bend[0], y + 0.4 * bend[1], scale, generator)
    clavicles = np.maximum(*(_clavicle(x, y, side, scale, generator) for side in (-1, 1)))
    ribs, bones = _ribs(x, y, scale, air, generator)
    spine, vertebrae = _spine(x + 0.2 * bend[0], y, generator)
    tissue = power_law_field((size, size), beta=3.0, generator=generator)
    vessels = _vessels(x, y, air, (size, size), scale, generator)

    body = 2.4 * _soft(_torso(x, y, generator), 14) * (1 - 0.2 * np.clip(x / 150, -1, 1) ** 2) + 0.07 * tissue
    body = body + 0.22 * np.exp(-((x / 34) ** 2)) * expit((y - 20) / 10)  # mediastinum
    body = body - 0.2 * np.exp(-(((x + 1 + 0.05 * y) / 8) ** 4)) * expit(
        (118 * scale - y) / 6
    )  # the air in the trachea
    below = expit((y - (238 * scale + 9 * np.sin(x / 40))) / 14)  # liver, stomach, diaphragm behind
    thorax = 1.15 * _soft(air, 5) * (1 - 0.35 * below) * (1 - 0.55 * _soft(heart, 5))
    attenuation = body - thorax + 0.3 * _soft(heart, 6) * (1 - 0.7 * below) + 0.25 * below
    attenuation = attenuation + 0.34 * vessels * _soft(air, 6) + 0.05 * tissue * _soft(air, 4)
    attenuation = attenuation + bones + 0.26 * clavicles + 0.16 * vertebrae
    masks = {
        "lungs": (air > 0) & (heart <= 0),
        "heart": heart > 0,
        "clavicles": clavicles > 0.4,
        "ribs": ribs,
        "spine": spine,
    }
    return _detect(attenuation, pixel, generator if noise else None), masks


def _soft(depth: ndarray, width: float) -> ndarray:
    """0 outside to 1 inside, the edge this many mm wide: rounded bodies thin out towards their outline."""
    return expit(depth / (width / 3))


def _torso(x: ndarray, y: ndarray, generator: np.random.Generator) -> ndarray:
    """mm inside the body: trunk, shoulders that slope, neck."""
    wide = generator.uniform(150, 168)
    shoulder = 26 + 0.30 * np.clip(np.abs(x) - 32, 0, None) + 0.0012 * np.clip(np.abs(x) - 60, 0, None) ** 2
    neck = np.where(np.abs(x) < 38, 60.0, -60.0) - np.clip(np.abs(x) - 30, 0, None) * 6
    trunk = np.minimum(y - shoulder, wide + 22 * expit((70 - y) / 10) * 2 - np.abs(x))
    return np.maximum(trunk, np.minimum(neck, 46 - np.abs(x)))


def _lung(x: ndarray, y: ndarray, side: int, scale: float, generator: np.random.Generator) -> ndarray:
    """mm inside a lung: pointed dome above, straight inner border, base on the diaphragm with a sharp outer angle."""
    out = side * x  # mm from the midline outwards
    apex, base = 42 * scale + generator.uniform(-3, 3), (240 + (0 if side > 0 else -9)) * scale
    t = np.clip((y - apex) / (base - apex), 0, 1.15)
    outer = (40 + 86 * np.sqrt(np.clip(t, 0, 1)) * (1 - 0.12 * np.clip(t, 0, 1))) * scale
    inner = (16 + 16 * (1 - t) ** 4 + 5 * np.clip(t, 0, 1)) * scale
    dome = (
        base
        - 26 * scale * np.exp(-(((out - 62 * scale) / (46 * scale)) ** 2))
        + 18 * scale * (out / (130 * scale)) ** 2
    )
    roof = y - apex - 0.011 * (out - 52 * scale) ** 2
    return np.minimum.reduce([outer - out, out - inner, dome - y, 0.7 * roof])


def _heart(x: ndarray, y: ndarray, scale: float, generator: np.random.Generator) -> ndarray:
    """mm inside the heart's shadow with the aortic knob and the vessels above it; the apex is at the film's right."""
    ratio = generator.uniform(0.9, 1.1)
    dx, dy = x - 20 * scale, y - 198 * scale
    turn = 0.45
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    main = (1 - np.hypot(along / (59 * ratio * scale), across / (46 * scale))) * 46
    knob = (1 - np.hypot((x - 17 * scale) / 20, (y - 98 * scale) / 19)) * 19
    stem = np.minimum(26 * scale - np.abs(x - 4), np.minimum(0.2 * (y - 72 * scale), 215 * scale - y))
    return np.maximum.reduce([main, knob, stem])


def _clavicle(x: ndarray, y: ndarray, side: int, scale: float, generator: np.random.Generator) -> ndarray:
    """0 to about 1: an S-shaped bone with a dense rim from the sternum out to the shoulder."""
    out = side * x
    middle = (74 * scale + generator.uniform(-5, 5)) - 0.16 * (out - 15) - 6 * np.sin((out - 15) / 22)
    half = 5.2 + 1.8 * np.exp(-(((out - 16) / 12) ** 2))
    inside = np.minimum(half - np.abs(y - middle), np.minimum(out - 12, 142 - out))
    return expit(inside / 0.7) * (0.55 + 0.6 * np.exp(-(((inside - 1.2) / 1.3) ** 2)))


def _ribs(
    x: ndarray, y: ndarray, scale: float, air: ndarray, generator: np.random.Generator
) -> tuple[ndarray, ndarray]:
    """Where ribs are, and their attenuation: back parts that fall gently outwards, front parts that fall steeply."""
    mask, total = np.zeros(air.shape, bool), np.zeros(air.shape, np.float32)
    first, gap = 52 * scale + generator.uniform(-3, 3), 20.5 * scale
    for side in (-1, 1):
        out = side * x / scale
        for number in range(10):
            top = first + number * gap
            reach = min(66 + 17 * number**0.8, 128) + generator.uniform(-2, 2)
            u = np.clip(out / reach, 0, 1)
            back = top - 14 * np.sin(np.pi * np.clip(u * 0.9, 0, 1)) + (8 + 3.2 * number) * u**2.2
            half = 4.6 + 0.5 * np.sin(3 * u + number)
            inside = np.minimum(half - np.abs(y - back), np.minimum(out - 14, reach - out) * 1.5)
            total += (
                0.20 * expit(inside / 0.8) * (0.55 + 0.55 * np.exp(-(((inside - 1.0) / 1.2) ** 2))) * (0.7 + 0.5 * u**3)
            )
            mask |= inside > 0
            if number in range(1, 7):
                v = np.clip((reach - out) / reach, 0, 1)
                start = top + 8 + 3.2 * number
                front = start + (46 + 3 * number) * v**0.8 * (1 - 0.25 * v)
                inside = np.minimum(4.8 - 0.75 * np.abs(y - front), np.minimum(out - 46, reach - out) * 0.6)
                total += 0.13 * expit(inside / 1.0) * (0.7 + 0.4 * np.exp(-(((inside - 1.0) / 1.2) ** 2)))
                mask |= inside > 0
    seen = expit((air + 9) / 3)  # below the diaphragm and outside the chest ribs fade into the soft tissue
    return mask & (air > -9), total * (0.35 + 0.65 * seen)


def _spine(x: ndarray, y: ndarray, generator: np.random.Generator) -> tuple[ndarray, ndarray]:
    """Where the spine is, and its shadow: vertebrae, the discs between them, pedicles and spinous processes."""
    lean = 3 * np.sin(y / 90 + generator.uniform(0, 6))
    height = 19 + 0.035 * y
    phase = (y / height + generator.uniform(0, 1)) % 1
    half = 14 + 0.018 * y + 1.6 * np.cos(2 * np.pi * phase)
    inside = half - np.abs(x - lean)
    body = expit(inside / 1.2) * (0.75 + 0.25 * expit((np.abs(phase - 0.5) - 0.40) / -0.025))
    plates = 0.25 * np.exp(-(((np.abs(phase - 0.5) - 0.38) / 0.035) ** 2)) * expit(inside / 1.5)
    pedicles = 0.3 * np.exp(-(((np.abs(x - lean) - 8.5) / 2.2) ** 2) - ((phase - 0.35) / 0.12) ** 2)
    process = 0.25 * np.exp(-(((x - lean) / 2.6) ** 2) - ((phase - 0.75) / 0.16) ** 2)
    return inside > 0, (body + plates + pedicles + process).astype(np.float32)


def _vessels(
    x: ndarray, y: ndarray, air: ndarray, size: tuple[int, int], scale: float, generator: np.random.Generator
) -> ndarray:
    """0 to about 1: vessels that leave the two hila, branch and thin out, in projection."""
    total = np.zeros(size, np.float32)
    for side in (-1, 1):
        hilum = side * 30.0 * scale, (128 if side > 0 else 136) * scale
        blob = np.exp(-(((x - hilum[0]) / 13) ** 2) - ((y - hilum[1]) / 24) ** 2)
        total += 0.7 * blob
        ends = [
            (hilum[0], hilum[1] + shift, (0 if side > 0 else np.pi) + side * heading, generator.uniform(3, 4.5), 0)
            for shift, heading in ((-10, -1.1), (-5, -0.5), (0, 0.1), (6, 0.6), (10, 1.0), (12, 1.25))
        ]
        while ends:
            at_x, at_y, heading, radius, order = ends.pop()
            steps = int(generator.uniform(9, 16))
            for _ in range(steps):
                heading += generator.normal(0, 0.07)
                at_x, at_y = at_x + 2.2 * np.cos(heading), at_y + 2.2 * np.sin(heading)
                _dot(total, x, y, at_x, at_y, radius)
                radius *= 0.985
            if order < 4 and radius > 0.5:
                for turn in (-1, 1):
                    ends.append((at_x, at_y, heading + turn * generator.uniform(0.15, 0.5), radius * 0.74, order + 1))
    return np.tanh(total)


def _dot(total: ndarray, x: ndarray, y: ndarray, at_x: float, at_y: float, radius: float) -> None:
    """Add a piece of a round vessel, thickest in the middle, in place."""
    left, right = np.searchsorted(x[0], [at_x - 3 * radius - 2, at_x + 3 * radius + 2])
    top, bottom = np.searchsorted(y[:, 0], [at_y - 3 * radius - 2, at_y + 3 * radius + 2])
    window = (slice(top, bottom), slice(left, right))
    squared = (x[:, left:right] - at_x) ** 2 + (y[top:bottom] - at_y) ** 2
    total[window] += 0.09 * radius**0.7 * np.exp(-squared / (radius + 0.6) ** 2)


def _detect(attenuation: ndarray, pixel: float, generator: np.random.Generator | None) -> ndarray:
    """The film a detector makes of this attenuation, in [0, 1]: quanta, electronic noise, blur, logarithm, window.

    Without a generator the expected quanta arrive, and no noise.
    """
    full = QUANTA_PER_MM2 * pixel**2
    expected = full * np.exp(-attenuation)
    quanta = (expected if generator is None else generator.poisson(expected)).astype(np.float32)
    if generator is not None:
        quanta += ELECTRONIC_SD * generator.standard_normal(quanta.shape, dtype=np.float32)
    quanta = gaussian_filter(quanta, BLUR_MM / pixel, truncate=3, mode="nearest")
    grey = -np.log(np.clip(quanta, 1, None) / full)
    low, high = 0.8, 3.5  # the film's latitude: lung dark, bone before the heart still below white
    return ((grey - low) / (high - low)).clip(0, 1).astype(np.float32)

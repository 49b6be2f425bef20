"""Lesions: their shapes, how strongly they show, and where they may lie.

A shape is a small (h, w) float32 map with peak 1: attenuation relative to the lesion's brightest point. What
counts as the lesion is stated once: the pixels above VISIBLE of the peak, and the box is their bounding box.

Boxes     x1 y1 x2 y2 in pixels, x2 and y2 exclusive.
Profile   A (1 - (r / R)^2)^v, the designer nodule of Burgess, Jacobson and Judy (Medical Physics 28:419,
          2001).
"""

import numpy as np
from numpy import ndarray
from scipy.ndimage import find_objects

from labkit.datasets.arguments import two_values

# A reader's circle ends where the lesion sinks into the tissue; thin ends of spicules stay outside.
VISIBLE = 0.2
# Contrast is measured against an elliptic ring from 1.2 to 2 lesion radii; the gap keeps the soft rim out of
# it.
RING = (1.2, 2.0)


def mass_shape(radius: float, *, spiculated: bool, generator: np.random.Generator) -> ndarray:
    """(h, w) float32 mass of about this visible radius, cut to its non-zero part, peak 1.

    Args:
        radius: mean radius of the visible body in pixels.
        spiculated: False gives a circumscribed ellipse (benign), True an irregular contour with tapering
            spicules.
        generator: numpy Generator.

    Example:
        >>> shape = mass_shape(6.0, spiculated=False, generator=np.random.default_rng(0))
        >>> float(shape.max()), bool(8 < shape.shape[0] < 30)
        (1.0, True)
    """
    power = generator.uniform(0.6, 1.5)
    full_radius = radius / np.sqrt(1 - VISIBLE ** (1 / power))  # where the profile reaches 0
    half = int(np.ceil(full_radius * 2.2)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32)
    x, y = axis[None] - generator.uniform(-0.5, 0.5), axis[:, None] - generator.uniform(-0.5, 0.5)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    contour = np.full_like(distance, full_radius)
    aspect, turn = generator.uniform(1.0, 1.5), generator.uniform(0, np.pi)
    contour /= np.hypot(np.cos(angle - turn) / np.sqrt(aspect), np.sin(angle - turn) * np.sqrt(aspect))
    roughness = 0.35 if spiculated else 0.06
    for order in range(2, 7):
        size, phase = roughness / order * generator.standard_normal(), generator.uniform(0, 2 * np.pi)
        contour *= 1 + np.clip(size, -0.3, 0.3) * np.cos(order * angle + phase)
    shape = np.clip(1 - (distance / contour) ** 2, 0, None) ** power
    if spiculated:
        shape = np.maximum(shape, _spicules(x, y, full_radius, generator))
    return _trim(shape / shape.max())


def _spicules(x: ndarray, y: ndarray, radius: float, generator: np.random.Generator) -> ndarray:
    """(h, w) 10 to 30 straight spicules from the centre, each thinner and fainter towards its end."""
    count = int(generator.integers(10, 31))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + generator.normal(0, 0.15, count)
    length = radius * generator.uniform(1.0, 2.2, count)
    strength = generator.uniform(0.3, 0.7, count)
    spicules = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=np.float32)
    for cosine, sine, reach, peak in zip(np.cos(angle), np.sin(angle), length, strength, strict=True):
        columns, rows = (
            _around(x[0], reach * cosine, 1 + 0.12 * radius),
            _around(y[:, 0], reach * sine, 1 + 0.12 * radius),
        )
        near_x, near_y = x[:, columns], y[rows]  # it lies in this part alone; 1 leaves room beside the 0.6 below
        along, across = near_x * cosine + near_y * sine, near_y * cosine - near_x * sine
        left = np.clip(1 - along / reach, 0, 1) * (along > 0)  # 1 at the centre, 0 at the end
        near = np.clip(1 - np.abs(across) / (0.6 + 0.12 * radius * left), 0, None)
        np.maximum(spicules[rows, columns], peak * left * near, out=spicules[rows, columns])
    return spicules


def _around(axis: ndarray, end: float, margin: float) -> slice:
    """The part of an ascending axis from 0 to `end`, in either direction, with a margin on both sides."""
    return slice(*np.searchsorted(axis, [min(0, end) - margin, max(0, end) + margin]))


def cluster_shape(radius: float, *, malignant: bool, speck: float, generator: np.random.Generator) -> ndarray:
    """(h, w) float32 cluster of microcalcifications, cut to its non-zero part, peak 1.

    Benign: round specks of equal size and brightness, spread evenly. Malignant: specks of many sizes and
    shapes (pleomorphic), some drawn out, along a branching duct (linear).

    Args:
        radius: distance of the outermost specks from the centre, pixels.
        malignant: which of the two forms.
        speck: standard deviation of a speck's Gaussian profile, pixels.
        generator: numpy Generator.

    Example:
        >>> shape = cluster_shape(5.0, malignant=True, speck=0.6, generator=np.random.default_rng(0))
        >>> float(shape.max())
        1.0
    """
    count = int(generator.integers(8, 22))
    if malignant:
        branch = generator.uniform(0, 2 * np.pi) + generator.choice([0.0, 2.4, 3.8], count)
        place = radius * generator.uniform(-0.1, 1, count)
        center_x, center_y = place * np.cos(branch), place * np.sin(branch)
        jitter = generator.normal(0, 0.1 * radius, (2, count))
        center_x, center_y = center_x + jitter[0], center_y + jitter[1]
        peak, stretch = generator.uniform(0.4, 1.0, count), generator.uniform(1, 2.5, count)
    else:
        place, direction = (
            radius * np.sqrt(generator.uniform(0, 1, count)),
            generator.uniform(0, 2 * np.pi, count),
        )
        center_x, center_y = place * np.cos(direction), place * np.sin(direction)
        branch = np.zeros(count)
        peak, stretch = generator.uniform(0.85, 1.0, count), np.ones(count)
    half = int(np.ceil(1.4 * radius + 6 * speck)) + 1
    axis = np.arange(-half, half + 1)
    x, y = axis[None, None] - center_x[:, None, None], axis[None, :, None] - center_y[:, None, None]
    along = (x * np.cos(branch)[:, None, None] + y * np.sin(branch)[:, None, None]) / stretch[:, None, None]
    across = y * np.cos(branch)[:, None, None] - x * np.sin(branch)[:, None, None]
    specks = peak[:, None, None] * np.exp(-(along**2 + across**2) / (2 * speck**2))  # (count, h, w)
    shape = specks.max(axis=0).astype(np.float32)
    return _trim(shape / shape.max())


def _trim(shape: ndarray) -> ndarray:
    """The smallest part of a shape that holds everything above a hundredth of its peak."""
    return shape[find_objects((shape > 0.01).astype(np.uint8))[0]].astype(np.float32)


def visible_box(shape: ndarray) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the pixels above VISIBLE of the peak, in the shape's own pixels.

    Example:
        >>> visible_box(np.array([[0.1, 0.5, 0.1, 0.1], [0.1, 1.0, 0.3, 0.1]]))
        (1, 0, 3, 2)
    """
    rows, columns = find_objects((shape > VISIBLE * shape.max()).astype(np.uint8))[0]
    return columns.start, rows.start, columns.stop, rows.stop


def inside_and_ring(box: ndarray, size: tuple[int, int]) -> tuple[tuple[slice, slice], ndarray, ndarray]:
    """A window around the box and, on it, the ellipse inscribed in the box and the ring around that ellipse.

    Args:
        box: (4,) xyxy pixels.
        size: height and width of the image, which the window is clipped to.

    Returns:
        The window as (rows, columns) slices; two bool maps of the window's shape.

    Example:
        >>> window, inside, ring = inside_and_ring(np.array([10, 10, 20, 16]), (40, 30))
        >>> window
        (slice(7, 19, None), slice(5, 25, None))
        >>> bool((inside & ring).any())
        False
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    center_x, center_y, radius_x, radius_y = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    top, bottom = (
        max(0, round(center_y - RING[1] * radius_y)),
        min(size[0], round(center_y + RING[1] * radius_y)),
    )
    left, right = (
        max(0, round(center_x - RING[1] * radius_x)),
        min(size[1], round(center_x + RING[1] * radius_x)),
    )
    y, x = (
        (np.arange(top, bottom)[:, None] + 0.5 - center_y) / radius_y,
        (np.arange(left, right) + 0.5 - center_x) / radius_x,
    )
    squared = y**2 + x**2
    ring = (squared >= RING[0] ** 2) & (squared < RING[1] ** 2)
    return (slice(top, bottom), slice(left, right)), squared < 1, ring


def contrast_to_noise(image: ndarray, box: ndarray, *, tissue_above: float = 0.12) -> float:
    """(mean inside - mean of the ring) / standard deviation of the ring.

    Inside is the ellipse inscribed in the box, the ring reaches from 1.2 to 2 of its radii; film without
    tissue does not count. Real masses of mini-MIAS have a median between 1 and 1.6, so their contrast is that
    of ordinary tissue.

    Args:
        image: (H, W) grey values.
        box: (4,) xyxy pixels.
        tissue_above: grey value above which a pixel is tissue and not empty film.

    Returns:
        The ratio, no unit; nan where inside or ring hold no tissue.

    Raises:
        ValueError: the image is not (H, W), or the box is not four numbers with an area.

    Example:
        >>> image = np.full((40, 40), 0.5); image[::2] += 0.1; image[15:25, 15:25] += 0.2
        >>> round(contrast_to_noise(image, np.array([15, 15, 25, 25])), 1)
        3.4
    """
    image, box = np.asarray(image), np.asarray(box)
    if image.ndim != 2:
        raise ValueError(f"image must have shape (H, W), got {image.shape}; write image[0] for one of shape (1, H, W)")
    if box.shape != (4,) or not (box[2] > box[0] and box[3] > box[1]):
        raise ValueError(
            f"box must be x1 y1 x2 y2 with x2 > x1 and y2 > y1, got {box}; write boxes[0] for one of (N, 4)"
        )
    window, inside, ring = inside_and_ring(box, image.shape)
    part = image[window].astype(np.float64)
    tissue = part > tissue_above
    inside, ring = part[inside & tissue], part[ring & tissue]
    if not inside.size or not ring.size or not ring.std():
        return float("nan")
    return float((inside.mean() - ring.mean()) / ring.std())


def check_contrast(cnr: tuple[float, float]) -> tuple[float, float]:
    """The range (low, high) as floats; ValueError unless it is one of positive contrasts."""
    rule = "cnr must be (low, high), 0 < low <= high < 20; real masses lie in (0.8, 2.4)"
    low, high = two_values(cnr, rule)
    if not 0 < low <= high < 20:
        raise ValueError(f"{rule}, got {cnr}")
    return float(low), float(high)


def draw_contrast(generator: np.random.Generator, cnr: tuple[float, float]) -> float:
    """A contrast to noise from the range, the middle most often (a triangular distribution)."""
    low, high = cnr
    return float(generator.triangular(low, (low + high) / 2, high)) if high > low else float(low)


def amplitude_for(contrast: float, background: ndarray, shape: ndarray, inside: ndarray, ring: ndarray) -> float:
    """Height at which `shape` added to `background` is measured with this contrast to noise.

    Shape and background share a window, on which `inside` and `ring` are the maps of `inside_and_ring`.
    Spicules reach into the ring and raise its mean and spread too, so the height a solves the quadratic
    (d + a e)^2 = c^2 (var(background) + 2 a cov + a^2 var(shape)) over the ring, with d and e the
    differences inside - ring of background and shape.

    Returns:
        The height, or nan where no positive height gives this contrast.

    Example:
        >>> background = np.array([1.0, 1.0, 0.0, 2.0])
        >>> inside = np.array([True, True, False, False])
        >>> amplitude_for(1.5, background, inside.astype(float), inside, ~inside)
        1.5
    """
    around, tail = background[ring].astype(np.float64), shape[ring].astype(np.float64)
    difference = background[inside].mean(dtype=np.float64) - around.mean()
    gain = shape[inside].mean(dtype=np.float64) - tail.mean()
    covariance = (around * tail).mean() - around.mean() * tail.mean()
    square = gain**2 - contrast**2 * tail.var()
    half = difference * gain - contrast**2 * covariance
    constant = difference**2 - contrast**2 * around.var()
    if square <= 0 or half**2 < square * constant:
        return float("nan")
    height = (np.sqrt(half**2 - square * constant) - half) / square  # the larger root: a bright lesion
    return float(height) if height > 0 and difference + height * gain > 0 else float("nan")

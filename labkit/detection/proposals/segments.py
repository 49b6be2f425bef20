"""Small regions: where selective search starts from, what it knows of a region, and which regions touch.

An image is cut into small regions (Felzenszwalb and Huttenlocher, IJCV 59:167, 2004); each is described by its size,
box, colour and texture (Uijlings, van de Sande, Gevers, Smeulders, IJCV 104:154, 2013, section 3.2).

Image      (C, H, W) float in [0, 1], one grey channel or three of RGB; `pixels` is the same as (H, W, C) array.
Labels     (H, W) int64, the region of each pixel, 0 to n - 1.
Regions    dict of n rows: `size` (n,) pixels, `box` (n, 4) xyxy pixels, `colour` (n, 25 C) and `texture` (n, 80 C)
           histograms; each row of a histogram sums to 1.
Taught in notebook 05.
"""

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.segmentation import felzenszwalb
from torch import Tensor

from labkit.detection.proposals.baselines import channels_last, check_image, label_boxes

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8  # section 3.2 of the paper, as is the smoothing by 0.8 pixels


def segment(image: Tensor, *, scale: float, min_size: int = 20) -> Tensor:
    """Labels of the small regions that grouping starts from.

    Args:
        image: (C, H, W) float in [0, 1].
        scale: larger gives larger regions; the paper's k, for intensities counted up to 255.
        min_size: pixels; smaller regions join a neighbour.

    Returns:
        (H, W) int64 labels 0 to n - 1.

    Raises:
        ValueError: the image is not (C, H, W) in [0, 1].

    Example:
        >>> image = torch.zeros(1, 20, 30); image[:, 5:15, 10:20] = 1
        >>> segment(image, scale=50, min_size=60).unique()
        tensor([0, 1])
    """
    check_image(image)
    return torch.from_numpy(segment_pixels(channels_last(image), scale, min_size))


def describe_regions(image: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the four similarities compare: size, box, colour and texture of each region.

    Colour is a histogram of 25 bins a channel; texture one of 10 bins for the slope (Gaussian derivative, 1 pixel wide)
    in each of 8 directions and each channel.

    Args:
        image: (C, H, W) float in [0, 1].
        labels: (H, W) int64, every number from 0 to n - 1.

    Returns:
        Regions, float64: `size` (n,), `box` (n, 4), `colour` (n, 25 C), `texture` (n, 80 C).

    Raises:
        ValueError: a shape is wrong.

    Example:
        >>> image = torch.zeros(1, 8, 10); labels = torch.zeros(8, 10, dtype=torch.int64); labels[2:5, 4:9] = 1
        >>> describe_regions(image, labels)["box"]
        tensor([[ 0.,  0., 10.,  8.],
                [ 4.,  2.,  9.,  5.]], dtype=torch.float64)
    """
    check_image(image)
    _check_labels(labels)
    if labels.shape != image.shape[1:]:
        raise ValueError(
            f"labels must have the image's shape {tuple(image.shape[1:])}, got {tuple(labels.shape)}; segment it"
        )
    regions = describe_pixels(channels_last(image), labels.cpu().numpy())
    return {name: torch.from_numpy(value) for name, value in regions.items()}


def neighbouring_pairs(labels: Tensor) -> Tensor:
    """Pairs of regions that share an edge of a pixel: the region adjacency graph.

    Args:
        labels: (H, W) int64.

    Returns:
        (P, 2) int64, each pair once, the smaller number first, sorted.

    Raises:
        ValueError: labels are not (H, W) int64.

    Example:
        >>> neighbouring_pairs(torch.tensor([[0, 0, 1], [2, 2, 1]]))
        tensor([[0, 1],
                [0, 2],
                [1, 2]])
    """
    _check_labels(labels)
    return torch.from_numpy(pairs_of(labels.cpu().numpy()))


def _check_labels(labels: Tensor) -> None:
    if labels.ndim != 2 or labels.dtype != torch.int64:
        raise ValueError(f"labels must be (H, W) int64, got {tuple(labels.shape)} {labels.dtype}; write labels.long()")


def segment_pixels(pixels: np.ndarray, scale: float, min_size: int) -> np.ndarray:
    """(H, W) int64 labels of pixels (H, W, C): `segment` without its checks."""
    return felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=min_size, channel_axis=2).astype(np.int64)


def describe_pixels(pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Regions of pixels (H, W, C): `describe_regions` without its checks."""
    n = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=n).astype(np.float64)
    channels = list(np.moveaxis(pixels, 2, 0))
    colour = _histograms(channels, labels, n, COLOUR_BINS)
    texture = _histograms(_slopes(channels), labels, n, TEXTURE_BINS)
    return {"size": size, "box": label_boxes(labels), "colour": colour, "texture": texture}


def _slopes(channels: list[np.ndarray]) -> list[np.ndarray]:
    """Upward slope of each channel in each direction, in [0, 1]; a derivative is steered by cosine and sine."""
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    slopes = []
    for channel in channels:
        along_y, along_x = np.gradient(gaussian(channel, sigma=1.0))
        # a step from 0 to 1 has the slope 1 / sqrt(2 pi) under a Gaussian of 1 pixel
        slopes += [np.clip((np.cos(a) * along_x + np.sin(a) * along_y) * np.sqrt(2 * np.pi), 0, 1) for a in angles]
    return slopes


def _histograms(maps: list[np.ndarray], labels: np.ndarray, n: int, bins: int) -> np.ndarray:
    """(n, bins * len(maps)) histograms of maps in [0, 1] inside each region, each row summing to 1."""
    counts = [
        np.bincount((labels * bins + np.minimum((m * bins).astype(np.int64), bins - 1)).ravel(), minlength=n * bins)
        for m in maps
    ]
    table = np.concatenate([c.reshape(n, bins) for c in counts], axis=1)
    return table / table.sum(axis=1, keepdims=True)


def pairs_of(labels: np.ndarray) -> np.ndarray:
    """(P, 2) neighbours: `neighbouring_pairs` without its checks."""
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    first, second = (np.concatenate([side[i].ravel() for side in sides]) for i in (0, 1))
    differ = first != second
    low, high = np.minimum(first, second)[differ], np.maximum(first, second)[differ]
    n = int(labels.max()) + 1
    codes = np.unique(low * n + high)
    return np.stack([codes // n, codes % n], axis=1)  # (P, 2)

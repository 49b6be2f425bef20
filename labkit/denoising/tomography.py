"""Radon transform and filtered back-projection of whole batches, equal to scikit-image's, with gradients.

Images      (size, size), (B, size, size) or (B, 1, size, size); zero outside the circle of radius size // 2.
Sinograms   (views, size) or (B, views, size): line integrals in pixels, view k at k · 180 / views degrees.
Centre      pixel size // 2 of each side, and detector size // 2.

Both are one sparse matrix, made once for each (size, views) and kept. Views of the second quarter turn are those of
the first one through the image turned by 90 degrees, so half a matrix is enough. Equal to
`skimage.transform.radon` and `iradon` (circle=True), transposed, to a relative 1e-5.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from labkit.denoising.images import as_images

FILTERS = ("ramp", "hann")
KEPT_ENTRIES = 48_000_000  # of a matrix, 8 bytes each: 256 pixels and 360 views fit, larger ones are made in passing
OUTSIDE_TOLERANCE = 1e-4  # of the brightest pixel


def radon(images: Tensor, *, views: int = 360) -> Tensor:
    """(…, views, size) sums along parallel rays over half a turn, sampled bilinearly once a pixel.

    Args:
        images: square images, zero outside the circle.
        views: even number of projections.

    Raises:
        ValueError: the images are not square, not zero outside the circle, or views is not even.

    Example:
        >>> point = torch.zeros(9, 9)
        >>> point[4, 6] = 1  # two pixels right of the centre
        >>> sinogram = radon(point, views=2)
        >>> sinogram.argmax(dim=1), sinogram.sum(dim=1)
        (tensor([6, 4]), tensor([1., 1.]))
    """
    images = as_images(images)
    size, half = images.shape[-1], _half(views)
    _check_square(images)
    flat = images.reshape(-1, size, size)
    spare = 1 - size % 2  # an even image gets a row and a column: then a quarter turn keeps its centre
    flat = pad(flat, (0, spare, 0, spare))
    table = torch.cat([flat, torch.rot90(flat, -1, (1, 2))]).flatten(1).T.contiguous()  # (pixels, 2 B)
    step = max(1, min(half, KEPT_ENTRIES // (4 * size * size)))
    make = _projector if step == half else _projector.__wrapped__
    parts = [
        _multiply(make(size, views, first, min(first + step, half), table.device), table)
        for first in range(0, half, step)
    ]
    rays = torch.cat(parts).reshape(half, size, 2, -1)
    return rays.permute(3, 2, 0, 1).reshape(*images.shape[:-2], views, size)


def filtered_back_projection(sinograms: Tensor, *, views: int | None = None, filter_name: str = "ramp") -> Tensor:
    """(…, size, size) images from their sinograms; zero outside the circle.

    Args:
        sinograms: (views, size), (B, views, size) or (B, 1, views, size).
        views: how many the sinogram must have, where the caller knows.
        filter_name: "ramp" (exact, and loud in noise) or "hann" (ramp times a window that falls to 0: smooth).

    Raises:
        ValueError: the number of views is odd or not the expected one, or the filter is unknown.

    Example:
        >>> image = torch.zeros(33, 33)
        >>> image[12:20, 14:22] = 1
        >>> again = filtered_back_projection(radon(image, views=60))
        >>> again.shape, round(float(again[14:18, 16:20].mean()), 1)
        (torch.Size([33, 33]), 1.0)
    """
    sinograms = as_images(sinograms, name="sinograms")
    count, size = sinograms.shape[-2:]
    if views is not None and count != views:
        raise ValueError(
            f"sinograms must have {views} views (rows), got {count}; "
            + ("they are transposed: write sinograms.mT" if size == views else "scan and reconstruct with one number")
        )
    if filter_name not in FILTERS:
        raise ValueError(
            f"filter_name must be one of {', '.join(FILTERS)}, got {filter_name!r}; 'ramp' is the sharpest"
        )
    half, radius = _half(count), size // 2
    width = 2 * radius + 1
    filtered = _filter(sinograms.reshape(-1, count, size), width, filter_name)  # (B, views, width)
    rows = torch.cat([filtered[:, :half], filtered[:, half:]]).flatten(1).T.contiguous()  # (half · width, 2 B)
    first, second = _multiply(_back_projector(size, count, rows.device), rows).T.reshape(2, -1, width, width)
    images = (first + torch.rot90(second, 1, (1, 2)))[:, :size, :size] * (np.pi / (2 * count))
    return images.reshape(*sinograms.shape[:-2], size, size)


def _check_square(images: Tensor) -> None:
    """Refuse images that are not square or not zero outside the circle."""
    height, width = images.shape[-2:]
    if height != width or height < 8:
        raise ValueError(f"images must be square, 8 x 8 or larger, got {height} x {width}; pad them")
    centered = torch.arange(height, device=images.device) - height // 2
    outside = centered[:, None] ** 2 + centered**2 > (height // 2) ** 2
    if images.numel():
        stray, brightest = float(images.detach()[..., outside].abs().max()), float(images.detach().abs().max())
        if stray > OUTSIDE_TOLERANCE * brightest:
            raise ValueError(
                f"images must be 0 outside the circle of radius {height // 2} pixels, got {stray:g} there; "
                "multiply by the circle, or pad them (HU are -1000 in air: turn them into attenuation first)"
            )


def _half(views: int) -> int:
    """Half the views, or the error that asks for an even number."""
    if views < 2 or views % 2:
        raise ValueError(f"views must be even, 2 or more, got {views}; the second half is the first, a quarter turn on")
    return views // 2


def _multiply(matrix: tuple[Tensor, Tensor, Tensor], table: Tensor) -> Tensor:
    """(rows, K) sparse matrix, as columns and weights of its entries and starts of rows, times table (columns, K)."""
    columns, weights, starts = matrix
    return embedding_bag(columns, table, starts, mode="sum", per_sample_weights=weights.to(table.dtype))


@lru_cache(maxsize=2)
def _projector(size: int, views: int, first: int, last: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of the matrix whose rows are the rays (view, detector) of these views, columns the pixels."""
    center, width = size // 2, size // 2 * 2 + 1
    axis = np.arange(size, dtype=np.float32) - center
    inside = axis[:, None] ** 2 + axis**2 <= (center + 1.5) ** 2  # (detector, step along the ray)
    detector, along = (part[inside] for part in np.broadcast_arrays(axis[:, None], axis))
    columns = np.empty((last - first, len(along), 4), np.int32)
    weights = np.empty(columns.shape, np.float32)
    for row, angle in enumerate(_angles(views)[first:last]):
        x = center + detector * np.cos(angle) + along * np.sin(angle)
        y = center - detector * np.sin(angle) + along * np.cos(angle)
        left, top = np.floor(x), np.floor(y)
        for corner, (right, down) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            column, line = left + right, top + down
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - line))
            there = (column >= 0) & (column < width) & (line >= 0) & (line < width)
            weights[row, :, corner] = np.where(there, weight, 0)
            columns[row, :, corner] = np.where(there, line * width + column, 0)
    return _entries(columns, weights, 4 * np.tile(inside.sum(axis=1), last - first), device)


@lru_cache(maxsize=2)
def _back_projector(size: int, views: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of the matrix whose rows are pixels, columns (view, detector) of the first quarter turn."""
    radius, half = size // 2, views // 2
    width = 2 * radius + 1
    axis = np.arange(width, dtype=np.float32) - radius
    inside = axis[:, None] ** 2 + axis**2 <= radius**2
    y, x = (part[inside] for part in np.broadcast_arrays(axis[:, None], axis))
    columns = np.empty((len(x), half, 2), np.int32)
    weights = np.empty(columns.shape, np.float32)
    for view, angle in enumerate(_angles(views)[:half]):
        detector = x * np.cos(angle) - y * np.sin(angle) + radius
        left = np.clip(np.floor(detector), 0, width - 2)
        columns[:, view, 0] = view * width + left
        weights[:, view, 1] = detector - left
    columns[:, :, 1] = columns[:, :, 0] + 1
    weights[:, :, 0] = 1 - weights[:, :, 1]
    return _entries(columns, weights, 2 * half * inside.ravel().astype(np.int64), device)


def _angles(views: int) -> ndarray:
    """(views,) in radians; float32 would blur the rays far from the centre."""
    return np.arange(views) * np.pi / views


def _entries(
    columns: ndarray, weights: ndarray, per_row: ndarray, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, weights and the start of each row."""
    starts = np.concatenate([[0], np.cumsum(per_row)[:-1]]).astype(np.int32)
    flat = columns.ravel(), weights.ravel()
    return (
        torch.from_numpy(flat[0]).to(device),
        torch.from_numpy(flat[1]).to(device),
        torch.from_numpy(starts).to(device),
    )


def _filter(sinograms: Tensor, width: int, filter_name: str) -> Tensor:
    """(B, views, width) sinograms (B, views, size) after the ramp, the transform of the exact kernel."""
    length = max(64, 2 ** int(np.ceil(np.log2(2 * np.ceil(np.sqrt(2) * sinograms.shape[-1])))))
    offset = np.fft.fftfreq(length, 1 / length)
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = offset % 2 == 1
    kernel[odd] = -1 / (np.pi * offset[odd]) ** 2  # Kak and Slaney, chapter 3, equation 61
    ramp = 2 * np.fft.fft(kernel).real
    if filter_name == "hann":
        ramp *= np.fft.fftshift(np.hanning(length))
        ramp = (ramp + np.roll(ramp[::-1], 1)) / 2  # that window is not even; its even part is what a real signal sees
    response = torch.from_numpy(ramp[: length // 2 + 1]).to(sinograms.dtype).to(sinograms.device)
    return torch.fft.irfft(torch.fft.rfft(sinograms, length) * response, length)[..., :width]

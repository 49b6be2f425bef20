"""Power-law texture: make it, and measure its slope.

The spectrum of a mammogram falls as 1 / f^beta with beta near 3 (Burgess, Jacobson and Judy, Medical Physics
28:419, 2001).

Images    (H, W) float, any unit; frequencies in cycles per mm, so a slope does not depend on the pixel size.
Generator a numpy Generator, here and in the other phantom files: one for each film makes a film independent
          of its batch.
"""

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy import ndarray


def power_law_field(size: tuple[int, int], *, beta: float, generator: np.random.Generator) -> ndarray:
    """(H, W) float32 Gaussian field with power spectrum 1 / f^beta, mean 0 and standard deviation 1.

    The field is cut from one twice as large: a discrete Fourier field wraps, its left edge continues at the
    right.

    Args:
        size: height and width in pixels.
        beta: exponent of the power spectrum; 0 is white noise, 3 a mammogram.
        generator: numpy Generator.

    Raises:
        ValueError: a side is below 2.

    Example:
        >>> field = power_law_field((40, 30), beta=3.0, generator=np.random.default_rng(0))
        >>> field.shape, float(field.std().round(3))
        ((40, 30), 1.0)
    """
    height, width = size
    if min(size) < 2:
        raise ValueError(f"size must be at least (2, 2), got {size}; a spectrum needs two pixels a side")
    log_power = _log_frequency_squared(2 * height, 2 * width)
    amplitude = np.exp(np.float32(-beta / 4) * log_power)
    amplitude[0, 0] = 0
    white = generator.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    spectrum = white.view(np.complex64)[..., 0] * amplitude
    field = scipy.fft.irfft2(spectrum, s=(2 * height, 2 * width))[:height, :width]
    field = field - field.mean()
    return field / field.std()


@lru_cache(maxsize=8)
def _log_frequency_squared(height: int, width: int) -> ndarray:
    """(height, width // 2 + 1) log of f squared in cycles per pixel, with 0 in place of log 0 at the constant term."""
    squared = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2
    squared[0, 0] = 1
    return np.log(squared).astype(np.float32)


def radial_power_spectrum(image: ndarray, *, pixel_mm: float, bins: int = 24) -> tuple[ndarray, ndarray]:
    """Frequencies (K,) in cycles per mm and the mean power (K,) on rings around the origin.

    The mean is removed and a Hann window laid over the image, so that its edges do not leak power into high
    frequencies. Rings are evenly spaced in log f from two periods an image (below that the window rules) to
    the Nyquist frequency; a ring without a coefficient is left out. Used in notebook 00.

    Args:
        image: (H, W), any unit.
        pixel_mm: side of a pixel in mm.
        bins: the number of rings.

    Raises:
        ValueError: the image is not (H, W) with 16 pixels a side, or pixel_mm is not positive.

    Example:
        >>> image = np.random.default_rng(0).standard_normal((64, 48))
        >>> frequencies, power = radial_power_spectrum(image, pixel_mm=0.5)
        >>> bool(0 < frequencies[0] and frequencies[-1] <= 1.0)
        True
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2 or min(image.shape) < 16:
        raise ValueError(f"image must be (H, W), at least 16 pixels a side, got {image.shape}; cut a larger region")
    if not pixel_mm > 0:
        raise ValueError(f"pixel_mm must be positive, got {pixel_mm}; give the side of a pixel in mm")
    height, width = image.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    centered = image - (image * window).sum() / window.sum()
    power = np.abs(np.fft.fft2(centered * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(height, pixel_mm)[:, None], np.fft.fftfreq(width, pixel_mm))
    edges = np.geomspace(2 / (min(height, width) * pixel_mm), 0.5 / pixel_mm, bins + 1)
    ring = np.digitize(frequency, edges) - 1
    inside = (ring >= 0) & (ring < bins)
    count = np.bincount(ring[inside], minlength=bins)
    filled = count > 0
    total = np.bincount(ring[inside], power[inside], bins)
    place = np.bincount(ring[inside], frequency[inside], bins)
    return place[filled] / count[filled], total[filled] / count[filled]


def spectral_slope(image: ndarray, *, pixel_mm: float, band: tuple[float, float] = (0.05, 0.3)) -> float:
    """beta of the power law 1 / f^beta that fits the radial power spectrum best, a straight line in log-log.

    Args:
        image: (H, W), a region inside the breast.
        pixel_mm: side of a pixel in mm.
        band: lowest and highest frequency of the fit in cycles per mm. The default suits 1 mm pixels: above
            it the detector's blur steepens the spectrum and noise flattens it.

    Raises:
        ValueError: fewer than three rings lie in the band.

    Example:
        >>> field = power_law_field((128, 128), beta=3.0, generator=np.random.default_rng(1))
        >>> bool(abs(spectral_slope(field, pixel_mm=1.0) - 3) < 0.3)
        True
    """
    frequency, power = radial_power_spectrum(image, pixel_mm=pixel_mm)
    used = (frequency >= band[0]) & (frequency <= band[1]) & (power > 0)
    if used.sum() < 3:
        raise ValueError(
            f"band must hold 3 rings with power, got {used.sum()} in {band}; widen it or cut a larger region"
        )
    return float(-np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0])

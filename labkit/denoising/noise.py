"""Noise by its cause: electronic (Gaussian), too few quanta (Poisson), the magnitude of MRI (Rician), low-dose CT.

Images    clean and noisy (H, W), (B, H, W) or (B, 1, H, W), grey, one intensity unit. Nothing is clipped: clipping
          breaks the mean of the noise.
Levels    sigma and photons are one number, or (B,) one an image.
Generator draws on its own device, so the same seed gives the same noise on a CPU and on a GPU.

Shown in notebook 10. Gradients reach the clean image; see each function.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.denoising.ct_scan import measure, project, reconstruct
from labkit.denoising.draws import normal, poisson
from labkit.denoising.images import as_images, level

__all__ = ["gaussian_noise", "low_dose_ct", "poisson_noise", "rician_noise"]

STARVED_SAID = 1e-3  # share of the rays from which on starved ones are said: below they are not seen


def gaussian_noise(clean: Tensor, *, sigma: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """clean + N(0, sigma): mean clean, standard deviation sigma everywhere. The gradient is 1.

    Args:
        clean: the images.
        sigma: standard deviation in the images' unit, 0 or more; one number or (B,).
        generator: where the random numbers come from.

    Raises:
        ValueError: clean is no image, or sigma is negative.

    Example:
        >>> noisy = gaussian_noise(torch.zeros(256, 256), sigma=0.1, generator=torch.Generator().manual_seed(0))
        >>> round(float(noisy.std()), 2)
        0.1
    """
    clean = as_images(clean, name="clean")
    return clean + level(sigma, clean, name="sigma") * normal(clean, generator)


def poisson_noise(
    clean: Tensor,
    *,
    photons: float | Tensor,
    electronic_sd: float = 0.0,
    blur: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Quanta counted by a detector, in the unit of clean: mean clean, variance clean / photons without the extras.

    Poisson(photons · clean) quanta a pixel, plus electronic noise, then the detector's point spread, which correlates
    the noise (and blurs the image), divided by photons. With electronic noise the variance before the blur is
    clean / photons + (electronic_sd / photons)^2. The gradient is that of the mean.

    Args:
        clean: the transmitted share of the rays, 0 or more; 1 where nothing is in their way.
        photons: quanta a pixel where clean is 1, above 0; one number or (B,).
        electronic_sd: standard deviation of the electronic noise in quanta.
        blur: standard deviation of the point spread in pixels.
        generator: where the random numbers come from.

    Raises:
        ValueError: clean is no image or negative somewhere, photons is not positive, or a width is negative.

    Example:
        >>> noisy = poisson_noise(torch.full((256, 256), 0.5), photons=200, generator=torch.Generator().manual_seed(0))
        >>> round(float(noisy.mean()), 2), round(float(noisy.std()), 2)  # sqrt(0.5 / 200) = 0.05
        (0.5, 0.05)
    """
    clean = _not_negative(clean, "it is a share of the quanta; subtract its minimum")
    quanta = level(photons, clean, name="photons", positive=True)
    electronic = level(electronic_sd, clean, name="electronic_sd")
    expected = clean * quanta
    counts = expected + (poisson(expected.detach(), generator) - expected).detach()
    counts = counts + electronic * normal(clean, generator)
    if not 0 <= blur < math.inf:
        raise ValueError(f"blur must be 0 or more and finite, got {blur}; give a standard deviation in pixels")
    return (_point_spread(counts, blur) if blur > 0 else counts) / quanta


def rician_noise(clean: Tensor, *, sigma: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """|clean + n1 + i n2|, n1 and n2 ~ N(0, sigma): the magnitude image of MRI.

    Never negative and biased upwards where the signal is weak: background 1.253 sigma with deviation 0.655 sigma
    (Gudbjartsson and Patz, MRM 34:910, 1995). Differentiable.

    Args:
        clean: magnitudes, 0 or more.
        sigma: standard deviation of each of the two channels, in the images' unit; one number or (B,).
        generator: where the random numbers come from.

    Raises:
        ValueError: clean is no image or negative somewhere, or sigma is negative.

    Example:
        >>> noisy = rician_noise(torch.zeros(256, 256), sigma=1.0, generator=torch.Generator().manual_seed(0))
        >>> round(float(noisy.mean()), 1), round(float(noisy.std()), 1)
        (1.3, 0.7)
    """
    clean = _not_negative(clean, "a magnitude has no sign; write clean.abs()")
    width = level(sigma, clean, name="sigma")
    parts = torch.stack([clean + width * normal(clean, generator), width * normal(clean, generator)])
    return torch.linalg.vector_norm(parts, dim=0)  # its slope at 0 is 0, not NaN


def low_dose_ct(
    clean: Tensor,
    *,
    photons: float | Tensor,
    pixel_mm: float = 1.4,
    views: int = 360,
    electronic_sd: float = 0.0,
    filter_name: str = "ramp",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The slices as a scan with this many photons a ray reconstructs them, in HU.

    Beer and Lambert: photons · exp(-line integral) are expected behind the body, Poisson counts plus electronic noise
    arrive, and the logarithm is reconstructed by filtered back-projection. The standard deviation goes with
    photons^-1/2. `labkit.denoising.ct_scan` holds the three steps, and says what the clean reference is.

    Args:
        clean: square slices in HU, air (-1000) outside the largest circle.
        photons: photons a ray without a body, above 0; 4e5 is about a normal dose for 30 cm, 1e5 a quarter of it.
        pixel_mm: side of a pixel in mm.
        views: projections over half a turn.
        electronic_sd: standard deviation of the detector's own noise in photons.
        filter_name: "ramp", or "hann", which smooths.
        generator: where the random numbers come from.

    Raises:
        ValueError: clean is no square slice in HU, or an argument is out of its range.

    Warns:
        UserWarning: more than 0.1 % of the rays starved (counted fewer than one photon).

    Example:
        >>> water = torch.full((32, 32), -1000.0)
        >>> water[12:20, 12:20] = 0
        >>> noisy = low_dose_ct(water, photons=1e5, views=24, generator=torch.Generator().manual_seed(0))
        >>> noisy.shape, bool(noisy[14:18, 14:18].mean().abs() < 100)
        (torch.Size([32, 32]), True)
    """
    integrals = project(clean, pixel_mm=pixel_mm, views=views)
    measured = measure(integrals, photons=photons, electronic_sd=electronic_sd, generator=generator)
    share = float(measured.starved.max()) if measured.starved.numel() else 0.0
    if share > STARVED_SAID:
        warnings.warn(
            f"{share:.1%} of an image's rays counted fewer than one photon and were set to one: streaks and a bias "
            "in HU; take more photons or a smaller body",
            stacklevel=2,
        )
    return reconstruct(measured.line_integrals, pixel_mm=pixel_mm, filter_name=filter_name)


def _not_negative(clean: Tensor, cure: str) -> Tensor:
    """The images, or the error that says they go below 0."""
    clean = as_images(clean, name="clean")
    if clean.numel() and float(clean.detach().min()) < 0:
        raise ValueError(f"clean must be 0 or more, got {float(clean.detach().min()):g}; {cure}")
    return clean


def _point_spread(images: Tensor, sd: float) -> Tensor:
    """The images under a Gaussian of this standard deviation in pixels, cut at 3 of them; edge pixels repeated."""
    radius = math.ceil(3 * sd)
    if radius >= 4096:
        raise ValueError(f"blur must be a few pixels, got {sd}; give its standard deviation")
    offset = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-(offset**2) / (2 * sd**2))
    kernel = kernel / kernel.sum()
    maps = images.reshape(-1, 1, *images.shape[-2:])
    maps = F.conv2d(F.pad(maps, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    maps = F.conv2d(F.pad(maps, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))
    return maps.reshape(images.shape)

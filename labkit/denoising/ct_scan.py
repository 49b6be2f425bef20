"""A CT scan in three steps: line integrals through the body, photons counted behind it, reconstruction in HU.

Images      (size, size), (B, size, size) or (B, 1, size, size) in HU: air -1000, water 0.
Sinograms   (views, detectors) or (B, …): line integrals of the attenuation, no unit; exp(-p) of the photons pass.

The clean reference of a denoiser is `reconstruct(project(...))`, the scan without noise, not the body itself: else the
network also learns what the reconstruction does. The body comes on a finer grid than the reconstruction (`binning`):
a simulation that inverts its own pixels exactly (the inverse crime) shows fewer artefacts than a scanner does.

Taught in notebook 13.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from labkit.denoising.draws import normal, poisson
from labkit.denoising.images import as_images, level
from labkit.denoising.tomography import filtered_back_projection, radon

MU_WATER = 0.0193  # per mm, at about 70 keV
AIR = -1000.0


class Measurement(NamedTuple):
    """What the detector gave."""

    line_integrals: Tensor  # (…, views, detectors) -log(counts / photons)
    starved: Tensor  # () or (B,) share of the rays that counted fewer than one photon and were set to one


def project(clean: Tensor, *, pixel_mm: float, views: int = 360, binning: int = 1) -> Tensor:
    """(…, views, size / binning) line integrals of the attenuation along parallel rays over half a turn.

    Args:
        clean: square slices in HU, air (-1000) outside the largest circle.
        pixel_mm: side of a pixel of `clean` in mm.
        views: even number of projections.
        binning: 2 for a body drawn twice as fine as the detector: each detector then averages over its width,
            weights 1/4 1/2 1/4, centred on every second ray. 1 or 2.

    Raises:
        ValueError: clean is no square slice in HU, or an argument is out of its range.

    Example:
        >>> slices = torch.full((32, 32), -1000.0)
        >>> slices[12:20, 12:20] = 0
        >>> round(float(project(slices, pixel_mm=1.0, views=4)[0, 15]), 4)  # 8 mm of water
        0.1544
    """
    clean = as_images(clean, name="clean")
    if not pixel_mm > 0:
        raise ValueError(f"pixel_mm must be positive, got {pixel_mm}; give the side of a pixel in mm")
    if binning not in (1, 2) or clean.shape[-1] % (2 * binning) * (binning - 1):
        raise ValueError(
            f"binning must be 1, or 2 with a size that is a multiple of 4, got {binning} for {clean.shape[-1]} pixels; "
            "pad the images, or write binning=1"
        )
    if clean.numel() and float(clean.detach().min()) < AIR:
        raise ValueError(
            f"clean must be in HU, not below air at -1000, got {float(clean.detach().min()):g}; "
            "write clean.clamp(min=-1000)"
        )
    rays = radon(MU_WATER * (1 + clean / 1000), views=views) * pixel_mm
    if binning == 2:
        before = torch.cat([torch.zeros_like(rays[..., :1]), rays[..., 1:-1:2]], dim=-1)
        rays = before / 4 + rays[..., ::2] / 2 + rays[..., 1::2] / 4
    return rays


def measure(
    line_integrals: Tensor,
    *,
    photons: float | Tensor,
    electronic_sd: float = 0.0,
    generator: torch.Generator | None = None,
) -> Measurement:
    """The line integrals a detector finds, by Beer and Lambert, and the share of starved rays.

    Poisson(photons · exp(-p)) + N(0, electronic_sd) photons are counted, fewer than one set to one, and p is
    -log(counts / photons). Its standard deviation is about 1 / sqrt(photons · exp(-p)): one photon in a thousand
    passes 36 cm of water. The gradient is that of the expected counts.

    Args:
        line_integrals: (…, views, detectors) without noise.
        photons: photons a ray without a body, above 0; one number or (B,).
        electronic_sd: standard deviation of the detector's own noise in photons; it matters below 1000 of them.
        generator: where the random numbers come from.

    Raises:
        ValueError: photons is not positive, or electronic_sd is negative.

    Example:
        >>> measured = measure(torch.zeros(4, 64), photons=1e4, generator=torch.Generator().manual_seed(0))
        >>> round(float(measured.line_integrals.std()), 2), measured.starved
        (0.01, tensor(0.))
    """
    p = as_images(line_integrals, name="line_integrals")
    full = level(photons, p, name="photons", positive=True)
    expected = full * torch.exp(-p)
    counts = expected + (poisson(expected, generator) - expected).detach()
    counts = counts + level(electronic_sd, p, name="electronic_sd") * normal(p, generator)
    starved = (counts < 1).to(p.dtype).flatten(0 if p.ndim == 2 else 1).mean(dim=-1)
    return Measurement(-torch.log(counts.clamp(min=1) / full), starved)


def reconstruct(
    line_integrals: Tensor, *, pixel_mm: float, views: int | None = None, filter_name: str = "ramp"
) -> Tensor:
    """(…, size, size) slices in HU by filtered back-projection; size is the number of detectors.

    Args:
        line_integrals: (…, views, detectors).
        pixel_mm: width of a detector, which becomes the side of a pixel, in mm.
        views: how many there must be, where the caller knows.
        filter_name: "ramp", or "hann", which smooths: 0.38 times the noise.

    Raises:
        ValueError: pixel_mm is not positive, or the sinogram has another number of views.

    Example:
        >>> slices = torch.full((32, 32), -1000.0)
        >>> slices[12:20, 12:20] = 40
        >>> again = reconstruct(project(slices, pixel_mm=1.0, views=60), pixel_mm=1.0)
        >>> bool((again[15:17, 15:17] - 40).abs().max() < 40)
        True
    """
    if not pixel_mm > 0:
        raise ValueError(f"pixel_mm must be positive, got {pixel_mm}; give the width of a detector in mm")
    mu = filtered_back_projection(line_integrals, views=views, filter_name=filter_name) / pixel_mm
    return 1000 * (mu / MU_WATER - 1)

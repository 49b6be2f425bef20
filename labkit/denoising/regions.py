"""What a radiologist reads off a region: its mean, its standard deviation, and the frequencies of its noise.

Images    (H, W), (B, H, W) or (B, 1, H, W), grey, one intensity unit (HU for CT).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from labkit.denoising.images import as_images, per_image


class RegionStatistics(NamedTuple):
    """Of one region in each image, in the images' unit."""

    mean: Tensor  # () or (B,)
    sd: Tensor  # () or (B,)


def roi_statistics(images: Tensor, mask: Tensor) -> RegionStatistics:
    """Mean and sample standard deviation inside a region, one pair an image.

    Their quotient mean / sd is the signal to noise ratio of imaging (not `snr_db`). Used in notebooks 10 and 13.

    Args:
        images: the images.
        mask: (H, W) bool, True inside the region; at least two pixels.

    Raises:
        ValueError: an image is none, or the mask is not (H, W) bool with two pixels.

    Example:
        >>> mask = torch.tensor([[True, True], [False, False]])
        >>> roi_statistics(torch.tensor([[1.0, 3.0], [9.0, 9.0]]), mask)
        RegionStatistics(mean=tensor(2.), sd=tensor(1.4142))
    """
    images = as_images(images)
    if mask.dtype != torch.bool or mask.shape != images.shape[-2:]:
        got = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ValueError(f"mask must be bool of shape {tuple(images.shape[-2:])}, got {got}; write mask > 0")
    if int(mask.sum()) < 2:
        raise ValueError(f"mask must hold at least 2 pixels, got {int(mask.sum())}; a deviation needs two values")
    inside = images[..., mask.to(images.device)].flatten(0, -2) if images.ndim > 2 else images[mask][None]  # (B, P)
    return RegionStatistics(per_image(inside.mean(dim=-1), images), per_image(inside.std(dim=-1), images))


def noise_power_spectrum(noise: Tensor, *, pixel_mm: float, bins: int = 16) -> tuple[Tensor, Tensor]:
    """Frequencies (K,) in cycles per mm and the noise power (K,) on rings, in unit^2 mm^2, averaged over the images.

    NPS(f) = pixel^2 / N |DFT(noise - mean)|^2 on N pixels, so white noise of deviation s gives s^2 pixel^2 at every
    frequency. CT noise rises with the frequency (the ramp of the reconstruction); a denoiser that smooths moves it
    down. Rings are evenly spaced from 0 to the Nyquist frequency; the constant term is left out.

    Args:
        noise: a flat region, or better the difference of two images of the same object (divide it by sqrt 2).
        pixel_mm: side of a pixel in mm.
        bins: number of rings; one without a coefficient is left out.

    Raises:
        ValueError: an image is none or below 8 x 8 pixels, or pixel_mm is not positive.

    Example:
        >>> noise = torch.randn(8, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> frequency, power = noise_power_spectrum(noise, pixel_mm=0.5)
        >>> bool(frequency[-1] <= 1), round(float(power.mean()), 2)
        (True, 0.25)
    """
    noise = as_images(noise, name="noise")
    height, width = noise.shape[-2:]
    if min(height, width) < 8:
        raise ValueError(f"noise must be at least 8 x 8 pixels, got {height} x {width}; cut a larger region")
    if not pixel_mm > 0 or bins < 1:
        raise ValueError(
            f"pixel_mm and bins must be positive, got {pixel_mm} and {bins}; give the side of a pixel in mm, 16 bins"
        )
    noise = noise.reshape(-1, height, width)
    spectrum = torch.fft.fft2(noise - noise.mean(dim=(-2, -1), keepdim=True)).abs().square().mean(dim=0)
    power = (spectrum * pixel_mm**2 / (height * width)).flatten()
    down = torch.fft.fftfreq(height, pixel_mm, device=noise.device, dtype=noise.dtype)
    across = torch.fft.fftfreq(width, pixel_mm, device=noise.device, dtype=noise.dtype)
    frequency = torch.hypot(down[:, None], across).flatten()
    ring = (frequency * (2 * pixel_mm * bins)).ceil().long()  # 0 is the constant term, 1 … bins the rings
    ring = torch.where(ring > bins, 0, ring)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(bins + 1).index_add(0, ring, values)[1:]

    count = total(torch.ones_like(power))
    filled = count > 0
    return (total(frequency) / count)[filled], (total(power) / count)[filled]

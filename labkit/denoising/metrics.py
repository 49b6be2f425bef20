"""Numbers for an image beside its reference, one value an image.

Images    pred and target (H, W), (B, H, W) or (B, 1, H, W), grey, in one intensity unit; integers are converted.
Values    () for one (H, W) image, else (B,); float32, or float64 where an input is.
Range     data_range is the largest less the smallest *possible* value. It is never guessed: a guess moves the PSNR of
          a CT by 10 dB.

Built from scratch in notebook 10, which shows what each number does not see. None of them clips.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.denoising.images import as_pair, check_data_range, per_image
from labkit.denoising.similarity import SCALE_WEIGHTS, ms_ssim_of, ssim_of

__all__ = ["coc", "epi", "epi_ratio", "ms_ssim", "mse", "psnr", "snr_db", "ssim"]


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, in the images' unit squared.

    Raises:
        ValueError: the shapes differ, or an image is none (see `labkit.denoising.images.as_images`).

    Example:
        >>> mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor(2.)
    """
    x, y = as_pair(pred, target)
    return per_image((x - y).square().mean(dim=(-2, -1)), pred)


def psnr(pred: Tensor, target: Tensor, *, data_range: float) -> Tensor:
    """Peak signal to noise ratio 10 log10(data_range^2 / MSE) in dB; infinite where the images are equal.

    Args:
        pred, target: the images.
        data_range: largest less smallest possible value.

    Raises:
        ValueError: as `mse`, or data_range is not positive.

    Example:
        >>> psnr(torch.full((8, 8), 0.6), torch.full((8, 8), 0.5), data_range=1.0)
        tensor(20.0000)
    """
    return 10 * torch.log10(check_data_range(data_range) ** 2 / mse(pred, target))


def ssim(pred: Tensor, target: Tensor, *, data_range: float) -> Tensor:
    """Mean structural similarity with Wang's window: 1 where the images are equal.

    Equal to scikit-image's with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

    Args:
        pred, target: the images, 11 x 11 pixels or more.
        data_range: largest less smallest possible value.

    Raises:
        ValueError: as `psnr`, or an image is smaller than the window.

    Example:
        >>> ssim(torch.full((16, 16), 0.6), torch.full((16, 16), 0.5), data_range=1.0)  # brightness alone differs
        tensor(0.9836)
    """
    x, y = as_pair(pred, target)
    return per_image(ssim_of(x, y, data_range=check_data_range(data_range)), pred)


def ms_ssim(pred: Tensor, target: Tensor, *, data_range: float, weights: Sequence[float] = SCALE_WEIGHTS) -> Tensor:
    """SSIM over five scales, each half as fine as the one before; 1 where the images are equal.

    Args:
        pred, target: the images; five scales need 161 x 161 pixels.
        data_range: largest less smallest possible value.
        weights: exponent of each scale, finest first; fewer weights, fewer scales. They should add up to 1.

    Raises:
        ValueError: as `psnr`, or an image is too small for that many scales.

    Example:
        >>> image = torch.rand(161, 170, generator=torch.Generator().manual_seed(0))
        >>> ms_ssim(image, image, data_range=1.0)
        tensor(1.)
    """
    x, y = as_pair(pred, target)
    return per_image(ms_ssim_of(x, y, data_range=check_data_range(data_range), weights=weights), pred)


def snr_db(pred: Tensor, target: Tensor) -> Tensor:
    """Signal to noise ratio 10 log10(sum target^2 / sum (pred - target)^2) in dB; not a region's mean over its SD.

    It moves with the zero of the unit: HU and HU + 1024 give two values.

    Raises:
        ValueError: as `mse`.

    Example:
        >>> snr_db(torch.full((4, 4), 0.9), torch.ones(4, 4))
        tensor(20.0000)
    """
    x, y = as_pair(pred, target)
    return per_image(10 * torch.log10(y.square().sum(dim=(-2, -1)) / (x - y).square().sum(dim=(-2, -1))), pred)


def coc(pred: Tensor, target: Tensor) -> Tensor:
    """Correlation coefficient (Pearson) over the pixels, -1 to 1; gain and offset do not change it.

    NaN where one of the images is constant: there is nothing to correlate.

    Raises:
        ValueError: as `mse`.

    Example:
        >>> image = torch.arange(12.0).reshape(3, 4)
        >>> round(float(coc(3 * image + 100, image)), 4)
        1.0
    """
    x, y = as_pair(pred, target)
    return per_image(_correlation(x, y), pred)


def epi(pred: Tensor, target: Tensor) -> Tensor:
    """Edge preservation index: the correlation of both images after a 3 x 3 Laplacian; 1 keeps every edge.

    Sattar, Floreby, Salomonsson and Lövström, IEEE TIP 6:888, 1997. The Laplacian has 4 neighbours and is taken inside
    the image only. NaN where an image has no edge at all.

    Raises:
        ValueError: as `mse`, or an image is below 3 x 3 pixels.

    Example:
        >>> image = torch.rand(1, 8, 9, generator=torch.Generator().manual_seed(0))
        >>> round(float(epi(2 * image + 5, image)), 4)
        1.0
    """
    x, y = as_pair(pred, target)
    return per_image(_correlation(_laplacian(x), _laplacian(y)), pred)


def epi_ratio(pred: Tensor, target: Tensor) -> Tensor:
    """Sum of |differences between neighbours| in pred over that in target: another number under the name of EPI.

    It counts noise as edges: above 1 for a noisy image, so it rewards what a denoiser should take away.

    Raises:
        ValueError: as `mse`.

    Example:
        >>> image = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> epi_ratio(3 * image, image)
        tensor(3.)
    """
    x, y = as_pair(pred, target)
    return per_image(_variation(x) / _variation(y), pred)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """(B,) Pearson correlation of (B, H, W); NaN where one is constant."""
    x, y = x.flatten(1), y.flatten(1)
    constant = (x.amax(dim=1) == x.amin(dim=1)) | (y.amax(dim=1) == y.amin(dim=1))
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    x, y = F.normalize(x, dim=1, eps=0), F.normalize(y, dim=1, eps=0)
    return torch.where(constant, torch.nan, (x * y).sum(dim=1).clamp(-1, 1))


def _laplacian(images: Tensor) -> Tensor:
    """(B, H - 2, W - 2) sum of the four neighbours less four times the pixel."""
    if min(images.shape[-2:]) < 3:
        size = " x ".join(map(str, images.shape[-2:]))
        raise ValueError(f"images must be at least 3 x 3 pixels for a Laplacian, got {size}; take a larger patch")
    rows, columns = images[:, :, 1:-1], images[:, 1:-1]
    return rows[:, :-2] + rows[:, 2:] + columns[:, :, :-2] + columns[:, :, 2:] - 4 * rows[:, 1:-1]


def _variation(images: Tensor) -> Tensor:
    """(B,) sum of |differences| down and across."""
    return images.diff(dim=-2).abs().sum(dim=(-2, -1)) + images.diff(dim=-1).abs().sum(dim=(-2, -1))

"""SSIM and MS-SSIM: how alike two images are in brightness, contrast and structure, window by window.

Window    Wang's: 11 x 11 Gaussian, sd 1.5 pixels, weights add up to 1, population covariance; only windows that lie
          inside the image count, so no border is invented.
Shapes    pred and target (B, H, W), as `labkit.denoising.images.as_pair` gives them.

SSIM is Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004; MS-SSIM Wang, Simoncelli and Bovik, Asilomar 2003.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, WINDOW_SD = 11, 1.5  # section III.C of the paper
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest first, of the second paper; they add up to 1
AT_ONCE = 2 * 256 * 256  # pixels: on a CPU their maps stay in the cache


def ssim_of(pred: Tensor, target: Tensor, *, data_range: float) -> Tensor:
    """(B,) mean SSIM, differentiable.

    Raises:
        ValueError: a side is below the window's 11 pixels.

    Example:
        >>> image = torch.rand(1, 16, 20, generator=torch.Generator().manual_seed(0))
        >>> ssim_of(image, image, data_range=1.0)
        tensor([1.])
    """
    height, width = pred.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"images must be at least {WINDOW} x {WINDOW} pixels, the window of SSIM, got {height} x {width}; "
            "take a larger patch"
        )
    return _factors(pred, target, data_range)[0]


def ms_ssim_of(pred: Tensor, target: Tensor, *, data_range: float, weights: Sequence[float]) -> Tensor:
    """(B,) product over the scales of (mean contrast-structure term) ** weight, the coarsest with brightness too.

    Between scales images are averaged over 2 x 2 pixels; an odd last row or column is repeated. A term that is not
    positive makes the product 0.

    Raises:
        ValueError: a side is below the window at the coarsest scale, or the weights are none.

    Example:
        >>> image = torch.rand(1, 45, 50, generator=torch.Generator().manual_seed(0))
        >>> ms_ssim_of(image, image, data_range=1.0, weights=(0.3, 0.3, 0.4))
        tensor([1.])
    """
    if not len(weights) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(
            f"weights must be positive numbers, one a scale, finest first, got {tuple(weights)}; leave them out for "
            "those of the paper"
        )
    smallest = (WINDOW - 1) * 2 ** (len(weights) - 1) + 1
    height, width = pred.shape[-2:]
    if min(height, width) < smallest:
        fit = (
            max(1 + math.floor(math.log2((min(height, width) - 1) / (WINDOW - 1))), 0) if min(height, width) > 1 else 0
        )
        cure = f"or fewer scales: {fit} fit, with weights of your own" if fit > 0 else "no scale fits below 11 pixels"
        raise ValueError(
            f"images must be at least {smallest} x {smallest} pixels for {len(weights)} scales, "
            f"got {height} x {width}; take larger patches, {cure}"
        )
    if not len(pred):  # pooling refuses it
        return pred.new_ones(0)
    product = torch.ones_like(pred[:, 0, 0])
    for scale, weight in enumerate(weights):
        if scale:
            pred, target = _halve(pred), _halve(target)
        whole, contrast = _factors(pred, target, data_range)
        term = whole if scale == len(weights) - 1 else contrast
        opposite = term <= 0  # not `~(term > 0)`: NaN stays NaN
        power = torch.where(opposite, 1, term) ** weight  # a power of 0 has an infinite slope: kept out of the gradient
        product = product * torch.where(opposite, 0, power)
    return product


def _halve(images: Tensor) -> Tensor:
    """(B, ceil(H / 2), ceil(W / 2)) means over 2 x 2 pixels."""
    odd_rows, odd_columns = images.shape[-2] % 2, images.shape[-1] % 2
    if odd_rows or odd_columns:
        images = F.pad(images[:, None], (0, odd_columns, 0, odd_rows), mode="replicate")[:, 0]
    rows = images[:, ::2] + images[:, 1::2]  # on a CPU nine times as fast as pooling
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _factors(pred: Tensor, target: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Mean SSIM (B,) and mean contrast-structure term (B,); on a CPU a few images at a time."""
    if not len(pred):
        return pred.new_ones(0), pred.new_ones(0)
    size = max(1, AT_ONCE // pred[0].numel()) if pred.device.type == "cpu" else len(pred)
    parts = [_factors_at_once(p, t, data_range) for p, t in zip(pred.split(size), target.split(size), strict=True)]
    return torch.cat([whole for whole, _ in parts]), torch.cat([contrast for _, contrast in parts])


def _factors_at_once(pred: Tensor, target: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The same with all images in one step.

    The images' mean is taken off first: variances do not change, and E[x^2] - E[x]^2 keeps its digits far from 0.
    """
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean = target.detach().flatten(1).mean(dim=1)[:, None, None]  # (B, 1, 1)
    x, y = pred - mean, target - mean
    maps = torch.cat([x, y, x * x + y * y, x * y])
    mean_x, mean_y, squares, product = _smooth(maps).chunk(4)  # (B, H - 10, W - 10) each
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (product - mean_product) + c2) / (squares - mean_squares + c2)
    shift = 2 * mean * (mean_x + mean_y + mean) + c1  # what taking the mean off left out
    brightness = (2 * mean_product + shift) / (mean_squares + shift)
    return (brightness * contrast).flatten(1).mean(dim=1), contrast.flatten(1).mean(dim=1)


def _smooth(maps: Tensor) -> Tensor:
    """maps (N, H, W) under the Gaussian window, (N, H - 10, W - 10): down, then across.

    The maps are channels, last in memory: several are weighed in one instruction, four times as fast on a CPU.
    """
    offset = torch.arange(WINDOW, dtype=torch.float64) - (WINDOW - 1) / 2
    window = torch.exp(-(offset**2) / (2 * WINDOW_SD**2))
    window = (window / window.sum()).to(maps.dtype).to(maps.device).repeat(len(maps), 1, 1, 1)  # (N, 1, 1, 11)
    maps = maps[None].contiguous(memory_format=torch.channels_last)
    maps = F.conv2d(F.conv2d(maps, window.mT, groups=maps.shape[1]), window, groups=maps.shape[1])
    return maps[0].contiguous()

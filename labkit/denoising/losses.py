"""What a denoiser is trained to make small: l1 and l2 are torch's; here are those that look at windows.

Images    pred and target (H, W), (B, H, W) or (B, 1, H, W), grey, in one intensity unit.
Values    a scalar, the mean over the batch, 0 where the images are equal and never below.

SSIM is a likeness, so a loss is *1 - SSIM*; one that adds SSIM trains towards images that are unlike. Zhao, Gallo,
Frosio and Kautz, IEEE TCI 3:47, 2017. Built from scratch in notebook 12. NaN and infinite pixels are not looked for
(that waits for a GPU at each step): they make the loss NaN, and `labkit.training.fit` says so.

The paper takes the window in the middle of a patch, and for MS-SSIM five Gaussians of sd 0.5 to 8 pixels on the image
itself with all exponents 1. Here each loss is 1 less the metric of `labkit.denoising.metrics`: all windows of a patch,
and a pyramid with Wang's exponents. So what is trained is what is scored.
"""

from collections.abc import Sequence

from torch import Tensor

from labkit.denoising.images import as_pair, check_data_range
from labkit.denoising.similarity import SCALE_WEIGHTS, ms_ssim_of, ssim_of

ALPHA = 0.84  # of the paper: both parts then weigh about the same


def ssim_loss(pred: Tensor, target: Tensor, *, data_range: float) -> Tensor:
    """1 - SSIM.

    Args:
        pred, target: the images, 11 x 11 pixels or more.
        data_range: largest less smallest possible value.

    Raises:
        ValueError: the shapes differ, data_range is not positive, or an image is smaller than the window.

    Example:
        >>> import torch
        >>> image = torch.rand(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))
        >>> ssim_loss(image, image, data_range=1.0)
        tensor(0.)
    """
    x, y = as_pair(pred, target, finite=False)
    return 1 - ssim_of(x, y, data_range=check_data_range(data_range)).mean()


def ms_ssim_loss(
    pred: Tensor, target: Tensor, *, data_range: float, weights: Sequence[float] = SCALE_WEIGHTS
) -> Tensor:
    """1 - MS-SSIM.

    An image of which the mean contrast-structure term is not positive at some scale (its dark and bright are exchanged)
    has the loss 1 and no gradient: nothing leads out from there. `zhao_loss` has l1 besides, which does.

    Args:
        pred, target: the images; five scales need 161 x 161 pixels.
        data_range: largest less smallest possible value.
        weights: exponent of each scale, finest first, that should add up to 1; three of them fit 41 pixels. Of fewer
            than five take Wang's own, divided by their sum.

    Raises:
        ValueError: as `ssim_loss`, or a patch is too small for that many scales.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))
        >>> ms_ssim_loss(image, image, data_range=1.0, weights=(0.3, 0.3, 0.4))
        tensor(0.)
    """
    x, y = as_pair(pred, target, finite=False)
    return 1 - ms_ssim_of(x, y, data_range=check_data_range(data_range), weights=weights).mean()


def zhao_loss(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: float,
    alpha: float = ALPHA,
    weights: Sequence[float] = SCALE_WEIGHTS,
) -> Tensor:
    """alpha · (1 - MS-SSIM) + (1 - alpha) · l1, with l1 in units of data_range.

    The paper lays the coarsest window over l1 in each patch; here l1 is the plain mean. On patches cut at random
    places both have the same expectation.

    Args:
        pred, target: the images; five scales need 161 x 161 pixels.
        data_range: largest less smallest possible value.
        alpha: share of MS-SSIM, 0 to 1.
        weights: exponent of each scale, finest first.

    Raises:
        ValueError: as `ms_ssim_loss`, or alpha is not in [0, 1].

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))
        >>> zhao_loss(image, image, data_range=1.0, weights=(0.3, 0.3, 0.4))
        tensor(0.)
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}; 0.84 is the paper's")
    structure = ms_ssim_loss(pred, target, data_range=data_range, weights=weights)
    x, y = as_pair(pred, target, finite=False)
    return alpha * structure + (1 - alpha) * (x - y).abs().mean() / check_data_range(data_range)

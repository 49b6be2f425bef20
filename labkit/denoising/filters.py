"""Denoisers without training, to measure a network against; all are `(noisy, *, sigma) -> denoised`.

Images    noisy (H, W), (B, H, W) or (B, 1, H, W), grey, any unit; computed on the CPU, given back where noisy is.
sigma     standard deviation of the noise, in the unit of the images, above 0.

Used in notebook 11. BM3D is there where its package is (`pip install bm3d`): its licence allows non-commercial
use only, so this kit does not depend on it.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from labkit.denoising.images import as_images, level

__all__ = ["bm3d", "nlm", "tv", "wavelet"]


def nlm(noisy: Tensor, *, sigma: float) -> Tensor:
    """Non-local means: each pixel becomes a mean over pixels with a like surrounding.

    Buades, Coll and Morel, CVPR 2005; 5 x 5 patches, 13 x 13 search, h = 0.8 sigma.

    Args:
        noisy: the images.
        sigma: standard deviation of the noise.

    Raises:
        ValueError: noisy is no image, or sigma is not positive.

    Example:
        >>> noisy = 0.1 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
        >>> bool(nlm(noisy, sigma=0.1).std() < 0.05)
        True
    """
    from skimage.restoration import denoise_nl_means

    return _each(noisy, sigma, lambda x, s: denoise_nl_means(x, h=0.8 * s, sigma=s, patch_size=5, patch_distance=6))


def tv(noisy: Tensor, *, sigma: float) -> Tensor:
    """Total variation: the image near the noisy one whose neighbours differ least in sum; weight 1.2 sigma.

    Chambolle, JMIV 20:89, 2004.

    Args:
        noisy: the images.
        sigma: standard deviation of the noise.

    Raises:
        ValueError: noisy is no image, or sigma is not positive.

    Example:
        >>> noisy = 0.1 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
        >>> bool(tv(noisy, sigma=0.1).std() < 0.05)
        True
    """
    from skimage.restoration import denoise_tv_chambolle

    return _each(noisy, sigma, lambda x, s: denoise_tv_chambolle(x, weight=1.2 * s))


def wavelet(noisy: Tensor, *, sigma: float) -> Tensor:
    """Wavelet coefficients made smaller by BayesShrink's threshold (Chang, Yu and Vetterli, IEEE TIP 9:1532, 2000).

    Args:
        noisy: the images.
        sigma: standard deviation of the noise.

    Raises:
        ValueError: noisy is no image, or sigma is not positive.
        ImportError: PyWavelets is missing.
    """
    try:
        import pywt  # noqa: F401 - scikit-image needs it, and says so late
    except ImportError:
        raise ImportError(
            "the wavelet filter needs PyWavelets, which is missing; write: pip install PyWavelets"
        ) from None
    from skimage.restoration import denoise_wavelet

    return _each(noisy, sigma, lambda x, s: denoise_wavelet(x, sigma=s, wavelet="sym4", method="BayesShrink"))


def bm3d(noisy: Tensor, *, sigma: float) -> Tensor:
    """Block matching and 3-D filtering (Dabov, Foi, Katkovnik and Egiazarian, IEEE TIP 16:2080, 2007).

    Args:
        noisy: the images.
        sigma: standard deviation of the noise.

    Raises:
        ValueError: noisy is no image, or sigma is not positive.
        ImportError: the package is missing.
    """
    try:
        from bm3d import bm3d as filter_one
    except ImportError:
        raise ImportError(
            "BM3D is not installed; write: pip install bm3d. Its licence allows non-commercial use only"
        ) from None
    return _each(noisy, sigma, lambda x, s: filter_one(x, sigma_psd=s))


def _each(noisy: Tensor, sigma: float, one: Callable[[ndarray, float], ndarray]) -> Tensor:
    """The filter on each image."""
    noisy = as_images(noisy, name="noisy")
    width = float(level(float(sigma), noisy, name="sigma", positive=True))
    flat = noisy.detach().reshape(-1, *noisy.shape[-2:]).cpu().numpy()
    done = [np.asarray(one(image, width)) for image in flat]
    denoised = torch.from_numpy(np.stack(done)) if done else torch.from_numpy(flat)
    return denoised.reshape(noisy.shape).to(noisy.device, noisy.dtype)

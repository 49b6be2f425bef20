"""Six ways to be wrong by the same mean squared error: to the MSE one picture, to a reader six.

Images    one image (H, W) or (1, H, W), grey in [0, 1]. Results may leave [0, 1]: nothing is clipped.

The idea is figure 2 of Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004. Shown live in notebook 10.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from scipy.fft import dctn, idctn
from torch import Tensor

from labkit.denoising.images import as_images

BLOCK = 8  # pixels a side, as in JPEG
HALVINGS = 20  # of an interval of logarithms: to a part in 10,000; what is left is scaled away


def same_mse(image: Tensor, *, mse: float, seed: int = 0) -> dict[str, Tensor]:
    """The image with an offset, a gain, blurred, noisy, in blocks and with dead pixels, all with this MSE.

    offset       a constant is added: a wrong zero of the scale.
    gain         multiplied by a number above 1: a wrong unit.
    blurred      smoothed by a Gaussian: a denoiser that does too much.
    noisy        white Gaussian noise is added.
    blocks       coarse steps for the cosine coefficients of 8 x 8 pixels: strong compression.
    dead pixels  few pixels are black or white.

    Args:
        image: the image.
        mse: the mean squared error, above 0 and below the image's variance, where a blur has made it flat.
        seed: of the noise and of the dead pixels; the same seed puts them at the same places whatever the MSE.

    Returns:
        name -> image, each in the shape of the one given.

    Raises:
        ValueError: this is not one image in [0, 1], or the MSE is out of reach.

    Example:
        >>> image = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
        >>> wrong = same_mse(image, mse=0.01)
        >>> [round(float((other - image).square().mean()), 5) for other in wrong.values()]
        [0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    """
    given = as_images(image, name="image")
    x = given.detach().reshape(-1, *given.shape[-2:]).double().cpu().numpy()
    if len(x) != 1:
        raise ValueError(f"image must be one image, (H, W) or (1, H, W), got {tuple(given.shape)}; index the batch")
    x = x[0]
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"image must lie in [0, 1], got {x.min():g} to {x.max():g}; rescale it")
    if not 0 < mse < x.var():
        raise ValueError(
            f"mse must be above 0 and below the image's variance, {x.var():.4g}, got {mse:g}; "
            "there a blur has made it flat, and cannot do more"
        )
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(x.shape)
    wrong = {
        "offset": x + np.sqrt(mse),
        "gain": _scaled(x, x, mse),
        "blurred": _blurred(x, mse),
        "noisy": _scaled(x, noise, mse),
        "blocks": _in_blocks(x, mse),
        "dead pixels": _with_dead_pixels(x, mse, generator),
    }
    return {
        name: torch.from_numpy(other).to(given.device, given.dtype).reshape(given.shape)
        for name, other in wrong.items()
    }


def _scaled(x: ndarray, difference: ndarray, mse: float) -> ndarray:
    """x with so much of a difference that the MSE is met."""
    return x + np.sqrt(mse / np.square(difference).mean()) * difference


def _grown_to(error: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The argument from which on an error is at least what is wanted, by halving on a logarithmic scale."""
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if error(middle) >= wanted else (middle, high)
    return high


def _blurred(x: ndarray, mse: float) -> ndarray:
    """Under a Gaussian so wide that the MSE is met; the image goes on mirrored beyond its edges."""
    waves = dctn(x, norm="ortho")
    power = np.square(waves) / x.size
    down, across = (-np.square(np.pi * np.arange(size) / size) / 2 for size in x.shape)

    def passed(sd: float) -> ndarray:
        return np.exp(sd**2 * down)[:, None] * np.exp(sd**2 * across)

    sd = _grown_to(lambda sd: float((power * np.square(1 - passed(sd))).sum()), mse, 1e-2, 10.0 * max(x.shape))
    return _scaled(x, idctn(waves * passed(sd), norm="ortho") - x, mse)


def _in_blocks(x: ndarray, mse: float) -> ndarray:
    """Coefficients of 8 x 8 pixels in steps that grow with the frequency; the error is scaled to fit exactly."""
    height, width = x.shape
    padded = np.pad(x, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    rows, columns = (size // BLOCK for size in padded.shape)
    waves = dctn(padded.reshape(rows, BLOCK, columns, BLOCK), axes=(1, 3), norm="ortho")
    order = np.arange(BLOCK)
    steps = (0.5 + order[:, None] + order)[:, None]  # (8, 1, 8); the mean of a block is finest, as in JPEG

    def rounded(step: float) -> ndarray:
        return np.round(waves / (step * steps)) * (step * steps)

    def error(step: float) -> float:
        return float(np.square(rounded(step) - waves).mean())

    coarse = idctn(rounded(_grown_to(error, mse, 1e-4, 100.0)), axes=(1, 3), norm="ortho")
    return _scaled(x, coarse.reshape(padded.shape)[:height, :width] - x, mse)


def _with_dead_pixels(x: ndarray, mse: float, generator: np.random.Generator) -> ndarray:
    """Pixels in random order set to black or white until the MSE is met; the last one goes part of the way."""
    order = generator.permutation(x.size)
    change = generator.integers(0, 2, x.size).astype(float) - x.ravel()[order]
    total = np.square(change).cumsum()
    count = int(np.searchsorted(total, mse * x.size))
    if count == x.size:
        raise ValueError(f"mse {mse:g} is more than black and white pixels can do; take a smaller one")
    before = total[count - 1] if count else 0.0
    change[count] = np.sign(change[count]) * np.sqrt(mse * x.size - before)
    change[count + 1 :] = 0
    wrong = x.ravel().copy()
    wrong[order] += change
    return wrong.reshape(x.shape)

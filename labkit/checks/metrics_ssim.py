"""The check of notebook 10, measuring image quality: SSIM of whole images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.denoising import metrics


def ssim(student: Callable) -> Callable:
    """Check `my_ssim(pred (B, H, W), target (B, H, W), data_range) -> (B,)` of notebook 10.

    Example:
        >>> ssim(lambda pred, target, data_range: reference_ssim(pred, target, data_range).detach()).__name__
        ✗ ssim: the gradient: notebook 12 trains with it
        ...
          likely: no gradient flows: ...
        'reference_ssim'
    """
    one, grey = uniform(1, 11, 11, seed=0), uniform(1, 14, 19, seed=1)
    error, soft = noise(1, 14, 19, seed=2), 0.5 + 0.1 * noise(1, 13, 16, seed=3)
    two = uniform(2, 13, 18, seed=4)
    air = uniform(1, 15, 27, seed=5) * (torch.arange(27) > 13)  # the body on the right, nothing on the left
    spread = torch.tensor([0.02, 0.1, 0.4])[:, None, None]
    three = uniform(3, 16, 23, seed=6)
    cases = [
        Case("two flat images, 0.5 and 0.25", (torch.full((1, 12, 15), 0.5), torch.full((1, 12, 15), 0.25), 1.0)),
        Case("one window: 11 x 11 pixels", (0.7 * one + 0.1 * noise(1, 11, 11, seed=7), one, 1.0)),
        Case("opposite structure: SSIM below 0", (1 - soft, soft, 1.0)),
        Case("4 x 9 windows", (0.8 * grey + 0.15 * error + 0.1, grey, 1.0)),
        Case("a range of 255", (200 * grey + 20 * error, 200 * grey, 255.0)),
        Case("HU from -1000 to 1000: a range of 2000", (2000 * grey - 1000 + 200 * error, 2000 * grey - 1000, 2000.0)),
        Case("an image that uses a tenth of its range", (0.5 + 0.1 * grey + 0.02 * error, 0.5 + 0.1 * grey, 1.0)),
        Case("noise that leaves [0, 1]: nothing is clipped", (grey + 0.6 * error, grey, 1.0)),
        Case("one bad image, one good: a value for each", (two + spread[[2, 0]] * noise(2, 13, 18, seed=8), two, 1.0)),
        GradientCase("the gradient: notebook 12 trains with it", (grey + 0.2 * error, grey, 1.0)),
        GradientCase("the gradient where both images are black: no NaN", (0.9 * air, air, 1.0)),
        Case("three images, each with its own noise", (three + spread * noise(3, 16, 23, seed=9), three, 1.0)),
    ]
    return run_check("ssim", student, reference_ssim, cases, mistakes=SSIM_MISTAKES, draw=_draw_pair, atol=3e-5)


def _draw_pair(case: Case, expected: Tensor, got: Tensor):
    """The two images with their values, or the two gradients."""
    from labkit.checks.pictures import draw_maps, panels
    from labkit.plotting import show_image

    pred, target, _ = case.args
    if expected.ndim > 1:
        brightest = expected.abs().max() / target.abs().max()  # of the gradients: one scale for all
        return draw_maps(case.what, target * brightest, expected, got)
    worst = int((got.detach() - expected).abs().argmax()) if got.shape == expected.shape else 0
    figure, axes = panels(2, title=case.what)
    low = float(min(pred.min(), target.min()))
    value = f"got {float(got[worst]):.4f}" if got.shape == expected.shape else f"got shape {tuple(got.shape)}"
    titles = f"pred: SSIM {float(expected[worst]):.4f} expected,\n{value}", "target"
    for ax, images, title in zip(axes, (pred, target), titles, strict=True):
        window = low, max(float(pred.max()), float(target.max()), low + 1e-6)
        show_image(images[worst], value_range=window, title=title, ax=ax)
    return figure


def reference_ssim(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    """What `labkit.denoising.metrics.ssim` gives."""
    return metrics.ssim(pred, target, data_range=data_range)


def _gaussian(images: Tensor, *, pad: str | None = None) -> Tensor:
    """(B, H, W) -> (B, H - 10, W - 10) weighted means of windows, or (B, H, W) with an invented border."""
    offset = torch.arange(-5.0, 6.0, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(offset**2) / (2 * 1.5**2))
    weights = weights / weights.sum()
    maps = images[:, None] if pad is None else F.pad(images[:, None], (5, 5, 5, 5), mode=pad)
    return F.conv2d(maps, (weights[:, None] * weights)[None, None])[:, 0]


def _uniform(images: Tensor, size: int = 11) -> Tensor:
    return F.avg_pool2d(images[:, None], size, stride=1)[:, 0]


def _squared(data_range: float) -> tuple[float, float]:
    return (0.01 * data_range) ** 2, (0.03 * data_range) ** 2


def _two_fractions(mx: Tensor, my: Tensor, vx: Tensor, vy: Tensor, cov: Tensor, c1: float, c2: float) -> Tensor:
    return _brightness(mx, my, c1) * _rest(vx, vy, cov, c1, c2)


def _brightness(mx: Tensor, my: Tensor, c1: float) -> Tensor:
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1)


def _rest(vx: Tensor, vy: Tensor, cov: Tensor, c1: float, c2: float) -> Tensor:
    """Contrast and structure together."""
    return (2 * cov + c2) / (vx + vy + c2)


def _per_image(maps: Tensor) -> Tensor:
    return maps.mean(dim=(1, 2))


def _ssim(
    pred: Tensor,
    target: Tensor,
    data_range: float | Tensor,
    *,
    mean: Callable = _gaussian,
    constants: Callable = _squared,
    combine: Callable = _two_fractions,
    reduce: Callable = _per_image,
    unbiased: float = 1.0,
    centred: float = 1.0,
) -> Tensor:
    """SSIM with room for the usual slips."""
    mx, my = mean(pred), mean(target)
    vx, vy = unbiased * (mean(pred * pred) - centred * mx * mx), unbiased * (mean(target * target) - centred * my * my)
    cov = unbiased * (mean(pred * target) - centred * mx * my)
    return reduce(combine(mx, my, vx, vy, cov, *constants(data_range)))


def _whole(images: Tensor) -> Tensor:
    return images.mean(dim=(1, 2), keepdim=True)


def _one_for_all(maps: Tensor) -> Tensor:
    return maps.mean().expand(len(maps))


def _mean_factors(mx: Tensor, my: Tensor, vx: Tensor, vy: Tensor, cov: Tensor, c1: float, c2: float) -> Tensor:
    """The product of the factors' means, as a map of one value."""
    brightness, rest = _brightness(mx, my, c1), _rest(vx, vy, cov, c1, c2)
    return brightness.mean(dim=(1, 2), keepdim=True) * rest.mean(dim=(1, 2), keepdim=True)


def _three_factors(share: float) -> Callable:
    """The product of three factors, c3 = share * c2."""

    def combine(mx, my, vx, vy, cov, c1, c2):
        sx, sy = vx.abs().sqrt(), vy.abs().sqrt()  # rounding can make them negative
        contrast, structure = (2 * sx * sy + c2) / (vx + vy + c2), (cov + share * c2) / (sx * sy + share * c2)
        return _brightness(mx, my, c1) * contrast * structure

    return combine


def _with_covariance(change: Callable) -> Callable:
    """The two fractions with a changed covariance."""
    return lambda mx, my, vx, vy, cov, c1, c2: _two_fractions(mx, my, vx, vy, change(cov), c1, c2)


def _over_deviations(mx: Tensor, my: Tensor, vx: Tensor, vy: Tensor, cov: Tensor, c1: float, c2: float) -> Tensor:
    """Deviations in place of variances below the line."""
    return _two_fractions(mx, my, vx.abs().sqrt(), vy.abs().sqrt(), cov, c1, c2)


def _half_brightness(mx: Tensor, my: Tensor, c1: float) -> Tensor:
    return (mx * my + c1) / (mx**2 + my**2 + c1)


def _own_range(image: Tensor) -> Tensor:
    """(B, 1, 1) largest less smallest value."""
    return image.amax(dim=(1, 2), keepdim=True) - image.amin(dim=(1, 2), keepdim=True)


SSIM_MISTAKES: dict[str, Callable] = {
    "the range is written into the function as 1: use the argument": lambda p, t, r: _ssim(p, t, 1.0),
    "the range is written into the function as 255: use the argument": lambda p, t, r: _ssim(p, t, 255.0),
    "the range is guessed from the image, its largest less its smallest value: use the argument": (
        lambda p, t, r: _ssim(p, t, _own_range(t))
    ),
    "the constants are (0.01 range)^2 and (0.03 range)^2: square them": (
        lambda p, t, r: _ssim(p, t, r, constants=lambda r: (0.01 * r, 0.03 * r))
    ),
    "the constants are (0.01 range)^2 and (0.03 range)^2: the range is squared, too": (
        lambda p, t, r: _ssim(p, t, r, constants=lambda r: (0.01**2 * r, 0.03**2 * r))
    ),
    "c1 goes with the means, c2 with the variances": (
        lambda p, t, r: _ssim(p, t, r, constants=lambda r: _squared(r)[::-1])
    ),
    "the constants are missing: where both images are flat, 0 / 0 comes out": (
        lambda p, t, r: _ssim(p, t, r, constants=lambda r: (0.0, 0.0))
    ),
    "the window is Gaussian: the pixels of an 11 x 11 window do not count alike": (
        lambda p, t, r: _ssim(p, t, r, mean=_uniform)
    ),
    "this is scikit-image's default window, 7 x 7 pixels that count alike: take the Gaussian of 11 x 11": (
        without_gradient(lambda p, t, r: _ssim(p, t, r, mean=lambda x: _uniform(x, 7), unbiased=49 / 48))
    ),
    "the variance of a whole population is wanted, not n / (n - 1) times as much": (
        lambda p, t, r: _ssim(p, t, r, unbiased=121 / 120)
    ),
    "zeros are invented around the image: only windows that lie inside count": (
        lambda p, t, r: _ssim(p, t, r, mean=lambda x: _gaussian(x, pad="constant"))
    ),
    "a border is invented around the image (mirrored): only windows that lie inside count": (
        lambda p, t, r: _ssim(p, t, r, mean=lambda x: _gaussian(x, pad="reflect"))
    ),
    "this is one window as large as the image: take the means of small windows": (
        lambda p, t, r: _ssim(p, t, r, mean=_whole)
    ),
    "a variance is E[x^2] - E[x]^2: the square of the mean is not subtracted": (
        lambda p, t, r: _ssim(p, t, r, centred=0.0)
    ),
    "below the line stand the variances, not the deviations: no root": (
        lambda p, t, r: _ssim(p, t, r, combine=_over_deviations)
    ),
    "E[x]^2 - E[x^2] is turned round: a variance is E[x^2] - E[x]^2": (
        lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, vx, vy, *a: _two_fractions(mx, my, -vx, -vy, *a))
    ),
    "the range counts once: in the constants, or divided out of the images": lambda p, t, r: _ssim(p / r, t / r, r),
    "the 2 before the covariance is missing": (
        lambda p, t, r: _ssim(p, t, r, combine=_with_covariance(lambda cov: cov / 2))
    ),
    "the 2 before the product of the means is missing": (
        lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, *a: _half_brightness(mx, my, a[3]) * _rest(*a))
    ),
    "the brightness is left out": lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, *a: _rest(*a)),
    "contrast and structure are left out": (
        lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, *a: _brightness(mx, my, a[3]))
    ),
    "the two fractions are added: multiply them": (
        lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, *a: _brightness(mx, my, a[3]) + _rest(*a))
    ),
    "the two fractions are averaged: multiply them": (
        lambda p, t, r: _ssim(p, t, r, combine=lambda mx, my, *a: (_brightness(mx, my, a[3]) + _rest(*a)) / 2)
    ),
    "with three factors c3 is half of c2": lambda p, t, r: _ssim(p, t, r, combine=_three_factors(1.0)),
    "the root of a variance is infinitely steep at 0, and the gradient NaN where the images are flat: take the two fractions without a root": (  # noqa: E501
        lambda p, t, r: _ssim(p, t, r, combine=_three_factors(0.5))
    ),
    "multiply window by window, then take the mean: these are the means of the factors, multiplied": (
        lambda p, t, r: _ssim(p, t, r, combine=_mean_factors)
    ),
    "the windows are summed: take their mean": lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m.sum(dim=(1, 2))),
    "the median of the windows is taken: take their mean": (
        lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m.flatten(1).median(dim=1).values)
    ),
    "the worst window counts alone: take the mean": (
        lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m.amin(dim=(1, 2)))
    ),
    "one value for all images: take the mean over dim=(1, 2) only": (
        lambda p, t, r: _ssim(p, t, r, reduce=_one_for_all)
    ),
    "a single number comes back: one value an image is wanted, (B,)": lambda p, t, r: _ssim(p, t, r).mean(),
    "the map comes back, a value for each window: take its mean": lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m),
    "this is 1 - SSIM, a loss: the likeness itself is wanted, 1 for equal images": lambda p, t, r: 1 - _ssim(p, t, r),
    "the mean goes over images and rows: dim=(1, 2) are rows and columns, dim 0 counts the images": (
        lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m.mean(dim=(0, 1)))
    ),
    "an SSIM below 0 is not cut off": lambda p, t, r: _ssim(p, t, r).clamp(min=0),
    "windows of opposite structure are below 0: they are not cut off": (
        lambda p, t, r: _ssim(p, t, r, reduce=lambda m: m.clamp(min=0).mean(dim=(1, 2)))
    ),
    "the absolute value of the covariance is taken: opposite structure is below 0": (
        lambda p, t, r: _ssim(p, t, r, combine=_with_covariance(torch.abs))
    ),
    "pred is clipped to [0, range]: nothing is clipped": lambda p, t, r: _ssim(p.clamp(0, r), t, r),
    NO_GRADIENT: without_gradient(reference_ssim),
}

"""Checks of notebook 10, measuring image quality: PSNR, and the three factors of SSIM.

SSIM of whole images: metrics_ssim.py.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.denoising import metrics

# ------------------------------------------------------------------------------------------------------- psnr


def psnr(student: Callable) -> Callable:
    """Check `my_psnr(pred (B, H, W), target (B, H, W), data_range) -> (B,)` of notebook 10.

    Example:
        >>> psnr(lambda pred, target, data_range: reference_psnr(pred, target, 1.0)).__name__
        ✗ psnr: every pixel off by a tenth of the range, 25.5 of 255: 20 dB
        ...
          likely: the range is written into the function as 1: use the argument
        ...
        'reference_psnr'
    """
    grey, error = uniform(1, 5, 7, seed=0), noise(1, 5, 7, seed=1)
    three = uniform(3, 8, 6, seed=2)
    spread = torch.tensor([0.02, 0.1, 0.4])[:, None, None]
    dark = torch.tensor([[[10, 200, 31], [7, 0, 90]]], dtype=torch.uint8)
    cases = [
        Case("two pixels, one of them off by half", (pixels(0.5, 0.25), pixels(0.0, 0.25), 1.0)),
        Case("every pixel off by a tenth, range 1: 20 dB", (0.1 + 0.5 * grey, 0.5 * grey, 1.0)),
        Case("every pixel off by a tenth of the range, 25.5 of 255: 20 dB", (25.5 + 99 * grey, 99 * grey, 255.0)),
        Case("errors of both signs, and an offset", (grey + 0.2 * error - 0.1, grey, 1.0)),
        Case("an image that uses a fifth of its range", (0.4 + 0.2 * grey + 0.02 * error, 0.4 + 0.2 * grey, 1.0)),
        Case("noise that leaves [0, 1]: it counts in full", (grey + 0.6 * error, grey, 1.0)),
        Case("HU from -1000 to 1000: the range is 2000", (2000 * grey - 1000 + 30 * error, 2000 * grey - 1000, 2000.0)),
        Case("one good image, one bad: a value for each", (pixels(0.5, 0.6, rows=2), pixels(0.51, 0.2, rows=2), 1.0)),
        Case("two equal images: there is no error, and PSNR is infinite", (99 * grey, 99 * grey, 255.0)),
        # 40 and not 10: of a small difference the square comes out right, (246 * 246) % 256 is 100, and 216 gives 64
        Case("bytes: 10 - 50 is -40, not 216", (dark, (dark.int() + 40).to(torch.uint8), 255.0)),
        Case("three images, each with its own noise", (three + spread * noise(3, 8, 6, seed=3), three, 1.0)),
    ]
    return run_check("psnr", student, reference_psnr, cases, mistakes=PSNR_MISTAKES)


def pixels(*values: float, rows: int = 1) -> Tensor:
    """Images of few pixels: (rows, 1, n / rows)."""
    return torch.tensor(values).reshape(rows, 1, -1)


def reference_psnr(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    """What `labkit.denoising.metrics.psnr` gives."""
    return metrics.psnr(pred, target, data_range=data_range)


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().mean(dim=(1, 2))


def _psnr(
    pred: Tensor,
    target: Tensor,
    data_range: float | Tensor,
    *,
    error: Callable = _mean_square,
    times: float = 10,
    log: Callable = torch.log10,
    power: int = 2,
    epsilon: float = 0.0,
) -> Tensor:
    """PSNR with room for the usual slips."""
    pred, target = pred.float(), target.float()
    return times * log(torch.as_tensor(data_range) ** power / (error(pred - target) + epsilon))


def _of_both(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    return _psnr(pred, target, data_range, error=lambda d: d.square().mean().expand(len(d)))


def _wrapped(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    difference = (pred - target).float()
    return _psnr(difference, torch.zeros_like(difference), data_range)


def _squared_in_bytes(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    square = (pred - target).square().float()
    return _psnr(square.sqrt(), torch.zeros_like(square), data_range)


def _own_range(image: Tensor) -> Tensor:
    return (image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).float()


def _relative(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    power = target.float().square().mean(dim=(1, 2))
    return 10 * torch.log10(power / _mean_square(pred.float() - target.float()))


PSNR_MISTAKES: dict[str, Callable] = {
    "the range is written into the function as 1: use the argument": lambda p, t, r: _psnr(p, t, 1.0),
    "the range is written into the function as 255: use the argument": lambda p, t, r: _psnr(p, t, 255.0),
    "the range is guessed from the image, its largest less its smallest value: use the argument": (
        lambda p, t, r: _psnr(p, t, _own_range(t))
    ),
    "the range is guessed from the image, its largest value: use the argument": (
        lambda p, t, r: _psnr(p, t, t.amax(dim=(1, 2)).float())
    ),
    "the range is guessed from pred, its largest value: use the argument": (
        lambda p, t, r: _psnr(p, t, p.amax(dim=(1, 2)).float())
    ),
    "the range is squared, as the error is": lambda p, t, r: _psnr(p, t, r, power=1),
    "20 log10 goes with the root of the MSE; with the MSE it is 10 log10": lambda p, t, r: _psnr(p, t, r, times=20),
    "10 log10 goes with the MSE; with its root it is 20 log10": (
        lambda p, t, r: _psnr(p, t, r, power=1, error=lambda d: _mean_square(d).sqrt())
    ),
    "this is the natural logarithm: take torch.log10": lambda p, t, r: _psnr(p, t, r, log=torch.log),
    "this is the logarithm to the base 2: take torch.log10": lambda p, t, r: _psnr(p, t, r, log=torch.log2),
    "range / MSE: the range is squared where the MSE is, or the root of the MSE is taken": (
        lambda p, t, r: _psnr(p, t, r, times=20, power=1)
    ),
    "the mean goes over the columns alone: dim=(1, 2) are rows and columns": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.square().mean(dim=1))
    ),
    "the mean goes over images and rows: dim=(1, 2) are rows and columns, dim 0 counts the images": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.square().mean(dim=(0, 1)))
    ),
    "the factor 10 is missing: these are bels, not decibels": lambda p, t, r: _psnr(p, t, r, times=1),
    "the sign is turned: range^2 / MSE, not MSE / range^2": lambda p, t, r: _psnr(p, t, r, times=-10),
    "the squared errors are summed: take their mean": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.square().sum(dim=(1, 2)))
    ),
    "these are absolute errors: square them": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.abs().mean(dim=(1, 2)))
    ),
    "this is the variance of the error: it leaves an offset out, take the mean of the squares": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.var(dim=(1, 2), correction=0))
    ),
    "the mean is squared: square first, then take the mean": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.mean(dim=(1, 2)).square())
    ),
    "one value for all images: take the mean over dim=(1, 2) only": _of_both,
    "a single number comes back: one value an image is wanted, (B,)": lambda p, t, r: _of_both(p, t, r)[0],
    "the mean of the values comes back: one value an image is wanted, (B,)": lambda p, t, r: _psnr(p, t, r).mean(),
    "the mean goes over the images: dim=(1, 2) are rows and columns, dim 0 counts the images": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.square().mean(dim=0))
    ),
    "pred is clipped to [0, range]: nothing is clipped, an error counts in full": (
        lambda p, t, r: _psnr(p.clamp(0, r), t, r)
    ),
    "something small is added to the MSE: two equal images have an infinite PSNR": (
        lambda p, t, r: _psnr(p, t, r, epsilon=1e-10)
    ),
    "equal images are given 100 dB: their PSNR is infinite": lambda p, t, r: _psnr(p, t, r).clamp(max=100.0),
    "equal images are given 0 dB: their PSNR is infinite": (
        lambda p, t, r: _psnr(p, t, r).masked_fill(_mean_square(p.float() - t.float()) == 0, 0.0)
    ),
    "bytes cannot be negative, so their difference wraps around: write .float() before subtracting": _wrapped,
    "a byte holds no square above 255: write .float() before subtracting, not after squaring": _squared_in_bytes,
    "the target's own power stands where the range belongs: that is an SNR, not the peak's": _relative,
    "the worst pixel counts alone: take the mean of the squares": (
        lambda p, t, r: _psnr(p, t, r, error=lambda d: d.square().amax(dim=(1, 2)))
    ),
    "the range is halved: it goes from the smallest to the largest possible value": (
        lambda p, t, r: _psnr(p, t, r / 2)
    ),
    "the bracket is missing: 10 log10(range^2) / MSE": (
        lambda p, t, r: 10 * math.log10(r**2) / _mean_square(p.float() - t.float())
    ),
}


# ----------------------------------------------------------------------------------------------- ssim_factors


def ssim_factors(student: Callable) -> Callable:
    """Check `my_ssim_factors(mean_x, mean_y, var_x, var_y, cov, c1, c2, c3)` of notebook 10.

    It gives back three tensors in the shape of mean_x: brightness, contrast, structure.

    Example:
        >>> ssim_factors(lambda *args: reference_ssim_factors(*args)[::-1]).__name__
        ✗ ssim_factors: one window, darker and of less contrast
        ...
          likely: the order is brightness, contrast, structure
        ...
        'reference_ssim_factors'
    """
    constants = 0.01**2, 0.03**2, 0.03**2 / 2
    many = _statistics(5, 7, seed=0)
    cases = [
        Case("one window, darker and of less contrast", (*windows([0.4, 0.6, 0.01, 0.04, 0.015]), *constants)),
        Case("opposite structure: the third factor is negative", (*windows([0.5, 0.5, 0.02, 0.03, -0.02]), *constants)),
        Case("two flat windows: the constants alone are left", (*windows([0.2, 0.3, 0.0, 0.0, 0.0]), *constants)),
        Case("two black windows: all three are 1", (*windows([0.0, 0.0, 0.0, 0.0, 0.0]), *constants)),
        Case("one flat, one not", (*windows([0.5, 0.45, 0.0, 0.02, 0.0]), *constants)),
        Case("large constants, none of them alike", (*windows([0.3, 0.8, 0.09, 0.01, 0.02]), 0.05, 0.2, 0.7)),
        Case("HU: means below 0", (*windows([-850.0, 40.0, 900.0, 400.0, 300.0]), 400.0, 3600.0, 1800.0)),
        GradientCase("5 x 7 windows, and the gradient", (*many, *constants), of=(0, 2, 4)),
        Case("5 x 7 windows", (*many, *constants)),
        Case("2 images, 4 x 6 windows each, other constants", (*_statistics(2, 4, 6, seed=4), 0.3, 0.02, 0.11)),
    ]
    return run_check("ssim_factors", student, reference_ssim_factors, cases, mistakes=SSIM_FACTORS_MISTAKES)


def windows(*rows: list[float]) -> tuple[Tensor, ...]:
    """Rows of mean_x, mean_y, var_x, var_y, cov as five tensors (N,)."""
    return tuple(floats(*column) for column in zip(*rows, strict=True))


def _statistics(*shape: int, seed: int) -> tuple[Tensor, ...]:
    """Two means, two variances and a covariance that the variances allow, in this shape."""
    mean_x, mean_y, part_x, part_y, share = uniform(5, *shape, seed=seed)
    var_x, var_y = 0.1 * part_x, 0.1 * part_y
    return mean_x, mean_y, var_x, var_y, (2 * share - 1) * (var_x * var_y).sqrt()


def reference_ssim_factors(
    mean_x: Tensor, mean_y: Tensor, var_x: Tensor, var_y: Tensor, cov: Tensor, c1: float, c2: float, c3: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness, contrast and structure of Wang et al. (2004), equations 6, 9 and 10."""
    return _factors(mean_x, mean_y, var_x, var_y, cov, c1, c2, c3)


def _factors(
    mean_x: Tensor,
    mean_y: Tensor,
    var_x: Tensor,
    var_y: Tensor,
    cov: Tensor,
    c1: float,
    c2: float,
    c3: float,
    *,
    twice: tuple[float, float, float] = (2, 2, 1),
    root: Callable = torch.sqrt,
    top: Callable = lambda mx, my, vx, vy, sx, sy, cov: (mx * my, sx * sy, cov),
    over: Callable = lambda mx, my, vx, vy, sx, sy: (mx**2 + my**2, vx + vy, sx * sy),
) -> tuple[Tensor, Tensor, Tensor]:
    """The factors with room for the usual slips."""
    sd_x, sd_y = root(var_x), root(var_y)
    below = over(mean_x, mean_y, var_x, var_y, sd_x, sd_y)
    above = top(mean_x, mean_y, var_x, var_y, sd_x, sd_y, cov)
    parts = zip(twice, above, below, (c1, c2, c3), strict=True)
    brightness, contrast, structure = ((times * up + c) / (down + c) for times, up, down, c in parts)
    return brightness, contrast, structure


def _of_values(change: Callable) -> Callable:
    """The three factors, changed at the end."""
    return lambda *args: change(*_factors(*args))


def _other_constants(choose: Callable) -> Callable:
    """The factors with other constants than the given ones."""
    return lambda *args: _factors(*args[:5], *choose(*args[5:]))


def _added_after(*args) -> tuple[Tensor, Tensor, Tensor]:
    """The constants above the line only."""
    mean_x, mean_y, var_x, var_y, cov, c1, c2, c3 = args
    product = (var_x * var_y).sqrt()
    return (
        (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2),
        (2 * product + c2) / (var_x + var_y),
        (cov + c3) / product,
    )


def _unbracketed(*args) -> tuple[Tensor, Tensor, Tensor]:
    """Fractions as Python reads them without brackets above the line."""
    mean_x, mean_y, var_x, var_y, cov, c1, c2, c3 = args
    product = (var_x * var_y).sqrt()
    return (
        2 * mean_x * mean_y + c1 / (mean_x**2 + mean_y**2 + c1),
        2 * product + c2 / (var_x + var_y + c2),
        cov + c3 / (product + c3),
    )


SSIM_FACTORS_MISTAKES: dict[str, Callable] = {
    "the order is brightness, contrast, structure": _of_values(lambda b, c, s: (s, c, b)),
    "contrast comes before structure": _of_values(lambda b, c, s: (b, s, c)),
    "the three are multiplied: give them back one by one": _of_values(lambda b, c, s: b * c * s),
    "the 2 in the brightness is missing": lambda *a: _factors(*a, twice=(1, 2, 1)),
    "the 2 in the contrast is missing": lambda *a: _factors(*a, twice=(2, 1, 1)),
    "the structure has no 2: (cov + c3) / (sd_x sd_y + c3)": lambda *a: _factors(*a, twice=(2, 2, 2)),
    "the root is missing: a standard deviation is the root of a variance": lambda *a: _factors(*a, root=lambda v: v),
    "the contrast has the deviations above the line, sd_x sd_y: the root of the variances is missing there": (
        lambda *a: _factors(*a, top=lambda mx, my, vx, vy, sx, sy, cov: (mx * my, vx * vy, cov))
    ),
    "a variance is a square already: the contrast is divided by var_x + var_y + c2": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (mx**2 + my**2, vx**2 + vy**2, sx * sy))
    ),
    "brackets: each fraction is (… + c) / (… + c), and / comes before +": _unbracketed,
    "the contrast is divided by var_x + var_y + c2, not by the sum of the deviations": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (mx**2 + my**2, sx + sy, sx * sy))
    ),
    "the structure is divided by the product of the deviations, not of the variances": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (mx**2 + my**2, vx + vy, vx * vy))
    ),
    "the structure is divided by sd_x sd_y + c3, not by a sum of variances": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (mx**2 + my**2, vx + vy, vx + vy))
    ),
    "the brightness is divided by the sum of the squared means, not by the means' sum": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (mx + my, vx + vy, sx * sy))
    ),
    "the brightness is divided by mean_x^2 + mean_y^2, not by (mean_x + mean_y)^2": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: ((mx + my) ** 2, vx + vy, sx * sy))
    ),
    "the brightness is divided by 2 mean_x mean_y, so that it is always 1": (
        lambda *a: _factors(*a, over=lambda mx, my, vx, vy, sx, sy: (2 * mx * my, vx + vy, sx * sy))
    ),
    "c1 belongs to the brightness, c2 to the contrast": _other_constants(lambda c1, c2, c3: (c2, c1, c3)),
    "c3 belongs to the structure, c2 to the contrast": _other_constants(lambda c1, c2, c3: (c1, c3, c2)),
    "c2 stands in the structure as well: its constant is c3": _other_constants(lambda c1, c2, c3: (c1, c2, c2)),
    "c3 is taken as c2 / 2: use the argument": _other_constants(lambda c1, c2, c3: (c1, c2, c2 / 2)),
    "the constants are written into the function: use the arguments": (
        _other_constants(lambda c1, c2, c3: (0.01**2, 0.03**2, 0.03**2 / 2))
    ),
    "the constants are squared once more: they come as they are": (
        _other_constants(lambda c1, c2, c3: (c1**2, c2**2, c3**2))
    ),
    "the constants are missing: flat windows give 0 / 0": _other_constants(lambda c1, c2, c3: (0.0, 0.0, 0.0)),
    "the constants stand above and below the line": _added_after,
    "a structure can be negative: leave its sign": _of_values(lambda b, c, s: (b, c, s.abs())),
    "a structure can be negative: it is not cut off at 0": _of_values(lambda b, c, s: (b, c, s.clamp(min=0))),
    "contrast and structure come as one: give them back one by one": _of_values(lambda b, c, s: (b, c * s)),
    "these are means over all windows: give one value for each": (
        _of_values(lambda b, c, s: (b.mean(), c.mean(), s.mean()))
    ),
    NO_GRADIENT: without_gradient(reference_ssim_factors),
}

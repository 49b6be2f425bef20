"""Checks of notebook 12: SSIM over several scales, and the mix of Zhao and others. SSIM itself: losses.py."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.checks.losses import close, pair, ssim_maps
from labkit.denoising.losses import zhao_loss as package_zhao_loss
from labkit.denoising.metrics import ms_ssim as package_ms_ssim

TWO, THREE = (0.4, 0.6), (0.2, 0.3, 0.5)  # in no order of size that a reversal would leave as it is
FIVE = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


# ---------------------------------------------------------------------------------------------------- ms_ssim


def ms_ssim(student: Callable) -> Callable:
    """Check `my_ms_ssim(pred (B, 1, H, W), target, data_range, weights) -> (B,)` of notebook 12.

    The sides of all cases halve evenly, and every mean is positive: how odd sides and negative means are met is no
    part of the exercise.

    Example:
        >>> ms_ssim(lambda p, t, r, w: reference_ms_ssim(p, t, r, w[::-1])).__name__
        ✗ ms_ssim: two scales
        ...
          likely: the weights begin with the finest scale
        ...
        'reference_ms_ssim'
    """
    small, middle = pair(1, 1, 22, 24, seed=21), pair(2, 1, 24, 28, seed=23)
    deep, bright = pair(3, 1, 44, 56, seed=25), pair(2, 1, 44, 48, seed=27, spread=0.05)
    cases = [
        Case("one scale of weight 1: it is SSIM", (*small, 1.0, (1.0,))),
        Case("two scales", (*small, 1.0, TWO)),
        Case("two scales, brighter by 0.4: only the coarsest scale sees it", (small[0] + 0.4, small[1], 1.0, TWO)),
        Case("the images are equal", (small[1], small[1], 1.0, TWO)),
        Case("2 images, two scales: one number an image", (*middle, 1.0, TWO)),
        Case("bytes: data_range 255", (255 * middle[0], 255 * middle[1], 255.0, TWO)),
        Case("weights that do not add up to 1", (*middle, 1.0, (0.5, 0.9))),
        Case("2 images, three scales", (bright[0] + 0.2, bright[1], 1.0, THREE)),
        GradientCase("2 images, and the gradient: a network is trained with it", (*middle, 1.0, TWO)),
        Case("3 images, three scales", (*deep, 1.0, THREE)),
    ]
    return run_check("ms_ssim", student, reference_ms_ssim, cases, mistakes=MS_SSIM_MISTAKES, compare=close)


def reference_ms_ssim(pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float]) -> Tensor:
    """`labkit.denoising.metrics.ms_ssim`."""
    return package_ms_ssim(pred, target, data_range=data_range, weights=tuple(weights))


def _halved(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 2)


def _scales(
    pred: Tensor,
    target: Tensor,
    data_range: float,
    weights: Sequence[float],
    *,
    halve: Callable = _halved,
    whole_at: Callable = lambda scale, last: scale == last,
    at_last: Callable = torch.mul,
    mean: Callable = lambda maps: maps.mean(dim=(1, 2, 3)),
    power: Callable = lambda term, weight: term**weight,
    first: int = 0,
    together: Callable = lambda terms: torch.stack(terms).prod(dim=0),
) -> Tensor:
    """The product over the scales with room for the usual slips; `first` is the scale before which nothing halves."""
    terms = []
    for scale, weight in enumerate(weights):
        if scale > first:
            pred, target = halve(pred), halve(target)
        brightness, contrast = ssim_maps(pred, target, data_range)
        maps = at_last(brightness, contrast) if whole_at(scale, len(weights) - 1) else contrast
        terms.append(power(mean(maps), weight))
    return together(terms)


def _power_first(pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float]) -> Tensor:
    terms = []
    for scale, weight in enumerate(weights):
        if scale:
            pred, target = _halved(pred), _halved(target)
        brightness, contrast = ssim_maps(pred, target, data_range)
        maps = brightness * contrast if scale == len(weights) - 1 else contrast
        terms.append((maps.clamp(min=1e-6) ** weight).mean(dim=(1, 2, 3)))
    return torch.stack(terms).prod(dim=0)


def _one_forgotten(pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float]) -> Tensor:
    """Only pred becomes smaller."""
    sizes = [_halved(pred), target] if len(weights) > 1 else [pred, target]
    return _scales(sizes[0], sizes[1], data_range, weights, first=len(weights))


def _means_multiplied(pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float]) -> Tensor:
    """The coarsest scale's two means, multiplied."""
    contrast = _scales(pred, target, data_range, weights, whole_at=lambda scale, last: False)
    for _ in weights[1:]:
        pred, target = _halved(pred), _halved(target)
    return contrast * ssim_maps(pred, target, data_range)[0].mean(dim=(1, 2, 3)) ** weights[-1]


MS_SSIM_MISTAKES: dict[str, Callable] = {
    "brightness counts at the coarsest scale alone; the finer ones give cs": (
        lambda *a: _scales(*a, whole_at=lambda scale, last: True)
    ),
    "at the coarsest scale brightness counts too: l · cs": lambda *a: _scales(*a, whole_at=lambda scale, last: False),
    "at the coarsest scale cs counts too, not l alone": (
        lambda *a: _scales(*a, at_last=lambda brightness, contrast: brightness)
    ),
    "at the coarsest scale l and cs are multiplied window by window, and then comes the mean": _means_multiplied,
    "brightness belongs to the coarsest scale, which comes last, not to the finest": (
        lambda *a: _scales(*a, whole_at=lambda scale, last: scale == 0)
    ),
    "the weights begin with the finest scale": lambda p, t, r, w: _scales(p, t, r, w[::-1]),
    "the weights are exponents, not factors": lambda *a: _scales(*a, power=lambda term, weight: term * weight),
    "the scales are multiplied, each to the power of its weight; this is their weighted mean": (
        lambda *a: _scales(*a, power=lambda t, w: t * w, together=lambda terms: torch.stack(terms).sum(dim=0))
    ),
    "the scales are multiplied, not added": (
        lambda *a: _scales(*a, together=lambda terms: torch.stack(terms).sum(dim=0))
    ),
    "each scale has its weight as exponent; here they are missing": (
        lambda *a: _scales(*a, power=lambda term, weight: term)
    ),
    "halve both images between the scales": lambda *a: _scales(*a, first=99),
    "the first scale is the image itself: halve between the scales, not before the first": (
        lambda *a: _scales(*a, first=-1)
    ),
    "halve both images, pred and target": _one_forgotten,
    "take the mean of 2 x 2 pixels; leaving out every other pixel lets noise through": (
        lambda *a: _scales(*a, halve=lambda images: images[..., ::2, ::2])
    ),
    "take the mean of 2 x 2 pixels, not the largest": lambda *a: _scales(*a, halve=lambda im: F.max_pool2d(im, 2)),
    "half the size: avg_pool2d(images, 2), without stride=1": (
        lambda *a: _scales(*a, halve=lambda images: F.avg_pool2d(images, 2, stride=1))
    ),
    "first the mean over the windows, then the power": _power_first,
    "a window below 0 counts in the mean with its sign: it is not cut off": (
        lambda *a: _scales(*a, mean=lambda maps: maps.clamp(min=0).mean(dim=(1, 2, 3)))
    ),
    "a window below 0 counts in the mean with its sign: no abs()": (
        lambda *a: _scales(*a, mean=lambda maps: maps.abs().mean(dim=(1, 2, 3)))
    ),
    "the weights are written into the function: use the argument": lambda p, t, r, w: _scales(p, t, r, FIVE[: len(w)]),
    "the mean goes over dim=(1, 2, 3), and leaves (B,); here one axis stays": (
        lambda *a: _scales(*a, mean=lambda maps: maps.mean(dim=(2, 3)))
    ),
    "one number an image is wanted: dim=(1, 2, 3), not a mean over everything": (
        lambda *a: _scales(*a, mean=torch.mean)
    ),
    "one number an image is wanted: no mean over the batch": (
        lambda *a: _scales(*a, mean=lambda maps: maps.mean().expand(len(maps)))
    ),
    "keep one number for each image": lambda *a: _scales(*a).mean(),
    "data_range is fixed at 1 here; use the argument": lambda p, t, r, w: _scales(p, t, 1.0, w),
    "the weights are used as they are given, even where they do not add up to 1": (
        lambda p, t, r, w: _scales(p, t, r, [weight / sum(w) for weight in w])
    ),
    "MS-SSIM is a likeness, 1 where the images are equal; the loss comes later": lambda *a: 1 - _scales(*a),
    NO_GRADIENT: without_gradient(reference_ms_ssim),
}


# -------------------------------------------------------------------------------------------------- zhao_loss


def zhao_loss(student: Callable) -> Callable:
    """Check `my_zhao_loss(pred (B, 1, H, W), target, data_range, weights, alpha) -> scalar` of notebook 12.

    Example:
        >>> zhao_loss(lambda p, t, r, w, a: reference_zhao_loss(p, t, r, w, 1 - a)).__name__
        ✗ zhao_loss: alpha 0: l1 alone
        ...
          likely: alpha weighs MS-SSIM, 1 - alpha weighs l1; they are exchanged
        ...
        'reference_zhao_loss'
    """
    small, middle, deep = pair(1, 1, 22, 24, seed=31), pair(2, 1, 24, 28, seed=33), pair(3, 1, 44, 56, seed=35)
    cases = [
        Case("the images are equal: nothing to lose", (small[1], small[1], 1.0, TWO, 0.84)),
        Case("alpha 0: l1 alone", (*small, 1.0, TWO, 0.0)),
        Case("alpha 1: 1 - MS-SSIM alone", (*small, 1.0, TWO, 1.0)),
        Case("alpha 0.84, as in the paper", (*small, 1.0, TWO, 0.84)),
        Case("2 images, alpha 0.3", (*middle, 1.0, TWO, 0.3)),
        Case("bytes: data_range 255, and the same loss", (255 * middle[0], 255 * middle[1], 255.0, TWO, 0.5)),
        GradientCase("2 images, and the gradient: a network is trained with it", (*middle, 1.0, TWO, 0.5)),
        Case("3 images, three scales", (*deep, 1.0, THREE, 0.84)),
    ]
    return run_check("zhao_loss", student, reference_zhao_loss, cases, mistakes=ZHAO_LOSS_MISTAKES, compare=close)


def reference_zhao_loss(
    pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float], alpha: float
) -> Tensor:
    """`labkit.denoising.losses.zhao_loss`."""
    return package_zhao_loss(pred, target, data_range=data_range, weights=tuple(weights), alpha=alpha)


def _mix(
    pred: Tensor,
    target: Tensor,
    data_range: float,
    weights: Sequence[float],
    alpha: float,
    *,
    loss: Callable = lambda likeness: 1 - likeness.mean(),
    distance: Callable = lambda difference, r: (difference / r).abs().mean(),
    shares: Callable = lambda alpha: (alpha, 1 - alpha),
) -> Tensor:
    """The mix with room for the usual slips."""
    structure, rest = shares(alpha)
    likeness = _scales(pred, target, data_range, weights)
    return structure * loss(likeness) + rest * distance(pred - target, data_range)


def _with_ssim(pred: Tensor, target: Tensor, data_range: float, weights: Sequence[float], alpha: float) -> Tensor:
    likeness = _scales(pred, target, data_range, (1.0,)).mean()
    return alpha * (1 - likeness) + (1 - alpha) * (pred - target).abs().mean() / data_range


ZHAO_LOSS_MISTAKES: dict[str, Callable] = {
    "alpha weighs MS-SSIM, 1 - alpha weighs l1; they are exchanged": lambda *a: _mix(*a, shares=lambda s: (1 - s, s)),
    "MS-SSIM is a likeness: 1 - MS-SSIM goes into a loss": lambda *a: _mix(*a, loss=lambda likeness: likeness.mean()),
    "a loss is 0 where the images are equal: 1 - MS-SSIM, not minus MS-SSIM": (
        lambda *a: _mix(*a, loss=lambda likeness: -likeness.mean())
    ),
    "l1 is divided by data_range, or bytes drown the structure": (
        lambda *a: _mix(*a, distance=lambda d, r: d.abs().mean())
    ),
    "this is l2: the absolute difference is wanted": lambda *a: _mix(*a, distance=lambda d, r: (d / r).square().mean()),
    "l1 is the mean over the pixels, not the sum": lambda *a: _mix(*a, distance=lambda d, r: (d / r).abs().sum()),
    "this is l2, divided by data_range: the absolute difference is wanted": (
        lambda *a: _mix(*a, distance=lambda d, r: d.square().mean() / r)
    ),
    "this is the root of l2: the absolute difference is wanted": (
        lambda *a: _mix(*a, distance=lambda d, r: d.square().mean().sqrt() / r)
    ),
    "l1 is divided by data_range once": lambda *a: _mix(*a, distance=lambda d, r: d.abs().mean() / r**2),
    "only l1 is divided by data_range: MS-SSIM has no unit": (
        lambda p, t, r, w, a: _mix(p, t, r, w, a, loss=lambda likeness: (1 - likeness.mean()) / r)
    ),
    "brackets: the 1 belongs to MS-SSIM alone, and l1 is added": (
        lambda p, t, r, w, a: 1 - _mix(p, t, r, w, a, loss=lambda likeness: likeness.mean())
    ),
    "the two parts have weights, alpha and 1 - alpha": lambda *a: _mix(*a, shares=lambda s: (1.0, 1.0)),
    "take the mean of MS-SSIM over the images, not the sum": (
        lambda *a: _mix(*a, loss=lambda likeness: (1 - likeness).sum())
    ),
    "the sum of MS-SSIM over the images is taken off 1: take the mean": (
        lambda *a: _mix(*a, loss=lambda likeness: 1 - likeness.sum())
    ),
    "the absolute value is missing: errors up and down cancel": (
        lambda *a: _mix(*a, distance=lambda d, r: (d / r).mean())
    ),
    "take the absolute value before the mean": lambda *a: _mix(*a, distance=lambda d, r: (d / r).mean().abs()),
    "the shares are alpha and 1 - alpha: l1 has no weight here": lambda *a: _mix(*a, shares=lambda s: (s, 1.0)),
    "both parts have the weight alpha; l1 has 1 - alpha": lambda *a: _mix(*a, shares=lambda s: (s, s)),
    "alpha is written into the function: use the argument": lambda *a: _mix(*a, shares=lambda s: (0.84, 0.16)),
    "SSIM over several scales is wanted, not SSIM": _with_ssim,
    "the weights are written into the function: use the argument": (
        lambda p, t, r, w, a: _mix(p, t, r, (1 / len(w),) * len(w), a)
    ),
    "data_range is fixed at 1 for MS-SSIM; use the argument": (
        lambda p, t, r, w, a: _mix(p, t, 1.0, w, a, shares=lambda s: (s, 0.0)) + (1 - a) * (p - t).abs().mean() / r
    ),
    "data_range is never guessed from the image: use the argument": (
        lambda p, t, r, w, a: _mix(p, t, float(t.max() - t.min()), w, a)
    ),
    "one number for the batch is wanted: take the mean over the images": (
        lambda *a: _mix(*a, loss=lambda likeness: 1 - likeness)
    ),
    NO_GRADIENT: without_gradient(reference_zhao_loss),
}

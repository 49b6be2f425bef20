"""Checks of notebook 12: SSIM as a loss, and its gradient. MS-SSIM and the mix: losses_scales.py."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.cases import difference
from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.denoising.losses import ssim_loss as package_ssim_loss

SIDE, SD = 11, 1.5  # of Wang's window
K1, K2 = 0.01, 0.03
TOLERANCE = 2e-4  # of the largest number: E[x²] - E[x]² in float32 keeps about four digits


def close(got, expected) -> str | None:
    """What differs by more than a small share of the largest number expected."""
    parts = expected if isinstance(expected, tuple | list) else [expected]
    # a bare number will do for a scalar, and a student's tensor may carry a gradient
    largest = max(float(torch.as_tensor(part).detach().abs().max()) for part in parts)
    return difference(got, expected, atol=TOLERANCE * max(largest, 0.01))


def pair(*shape: int, seed: int, spread: float = 0.2) -> tuple[Tensor, Tensor]:
    """(pred, target): smooth structure in about 0 to 1, and the same with noise; no two images alike."""
    coarse = uniform(shape[0], 1, 2 + shape[2] // 6, 2 + shape[3] // 6, seed=seed)
    target = F.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=True)
    return target + spread * noise(*shape, seed=seed + 1), target


def window_mean(images: Tensor) -> Tensor:
    """(B, 1, H - 10, W - 10) means under Wang's Gaussian window."""
    offset = torch.arange(SIDE, dtype=images.dtype, device=images.device) - SIDE // 2
    bell = torch.exp(-(offset**2) / (2 * SD**2))
    window = torch.outer(bell, bell) / bell.sum() ** 2
    return F.conv2d(images, window[None, None])


def ssim_maps(pred: Tensor, target: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Brightness l, and contrast times structure cs, window by window: (B, 1, H - 10, W - 10) each."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mx, my = window_mean(pred), window_mean(target)
    vx, vy = window_mean(pred**2) - mx**2, window_mean(target**2) - my**2
    both = window_mean(pred * target) - mx * my
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * both + c2) / (vx + vy + c2)


# -------------------------------------------------------------------------------------------------- ssim_loss


def ssim_loss(student: Callable) -> Callable:
    """Check `my_ssim_loss(pred (B, 1, H, W), target, data_range) -> scalar` of notebook 12.

    Example:
        >>> ssim_loss(lambda p, t, r: 1 - reference_ssim_loss(p, t, r)).__name__
        ✗ ssim_loss: the images are equal: nothing to lose
        ...
          likely: this is SSIM itself, which is 1 where the images are equal: minimised, it trains towards images ...
        'reference_ssim_loss'
    """
    one, two, wide = pair(1, 1, 11, 11, seed=11), pair(2, 1, 13, 15, seed=13), pair(3, 1, 18, 25, seed=15)
    beyond, within = pair(2, 1, 12, 14, seed=17, spread=0.6)  # the noise leaves [0, 1]
    cases = [
        Case("the images are equal: nothing to lose", (one[1], one[1], 1.0)),
        Case("one window, noise on structure", (*one, 1.0)),
        Case("a negative: SSIM below 0, so more than 1 is lost", (1 - one[1], one[1], 1.0)),
        Case("brighter by 0.3, nothing else", (one[1] + 0.3, one[1], 1.0)),
        Case("2 images, 3 x 5 windows in each", (*two, 1.0)),
        Case("noise that leaves the range: nothing is clipped", (beyond, within, 1.0)),
        Case("bytes: data_range 255", (255 * two[0], 255 * two[1], 255.0)),
        GradientCase("2 images, and the gradient: a network is trained with it", (beyond, within, 1.0)),
        Case("3 images of a CT window, 400 wide", (400 * wide[0] - 160, 400 * wide[1] - 160, 400.0)),
    ]
    return run_check("ssim_loss", student, reference_ssim_loss, cases, mistakes=SSIM_LOSS_MISTAKES, compare=close)


def reference_ssim_loss(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    """`labkit.denoising.losses.ssim_loss`."""
    return package_ssim_loss(pred, target, data_range=data_range)


def _likeness(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    """SSIM of every window."""
    brightness, contrast = ssim_maps(pred, target, data_range)
    return brightness * contrast


def _sum_of_factors(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    brightness, contrast = ssim_maps(pred, target, data_range)
    return 1 - (brightness + contrast).mean() / 2


def _product_of_means(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    brightness, contrast = ssim_maps(pred, target, data_range)
    return 1 - brightness.mean() * contrast.mean()


SSIM_LOSS_MISTAKES: dict[str, Callable] = {
    "this is SSIM itself, which is 1 where the images are equal: minimised, it trains towards images that are unlike; take 1 - SSIM": (  # noqa: E501
        lambda p, t, r: _likeness(p, t, r).mean()
    ),
    "minus SSIM goes the right way, but a loss is 0 where the images are equal: 1 - SSIM": (
        lambda p, t, r: -_likeness(p, t, r).mean()
    ),
    "1 - SSIM is wanted, not 1 + SSIM": lambda p, t, r: 1 + _likeness(p, t, r).mean(),
    "take the mean over all windows and images, not the sum": lambda p, t, r: (1 - _likeness(p, t, r)).sum(),
    "SSIM is the mean over all windows, not their sum": lambda p, t, r: 1 - _likeness(p, t, r).sum(),
    "one number is wanted, and this is one a window: take the mean": lambda p, t, r: 1 - _likeness(p, t, r),
    "one number for the whole batch is wanted: take the mean over the images too": (
        lambda p, t, r: 1 - _likeness(p, t, r).mean(dim=(1, 2, 3))
    ),
    "multiply the factors window by window, then take the mean": _product_of_means,
    "SSIM is the product of both factors, not their mean": _sum_of_factors,
    "SSIM is the product of both factors, not their sum": lambda p, t, r: 1 - torch.add(*ssim_maps(p, t, r)).mean(),
    "SSIM is a product: lose 1 - l · cs, not what both factors lose by themselves": (
        lambda p, t, r: 2 - torch.add(*ssim_maps(p, t, r)).mean()
    ),
    "1 - SSIM is wanted: no square": lambda p, t, r: (1 - _likeness(p, t, r)).square().mean(),
    "brightness is missing: SSIM is l · cs": lambda p, t, r: 1 - ssim_maps(p, t, r)[1].mean(),
    "contrast and structure are missing: SSIM is l · cs": lambda p, t, r: 1 - ssim_maps(p, t, r)[0].mean(),
    "data_range is fixed at 1 here; use the argument": lambda p, t, r: 1 - _likeness(p, t, 1.0).mean(),
    "data_range is fixed at 255 here; use the argument": lambda p, t, r: 1 - _likeness(p, t, 255.0).mean(),
    "data_range is never guessed from the image: use the argument": (
        lambda p, t, r: 1 - _likeness(p, t, float(t.max() - t.min())).mean()
    ),
    "nothing is clipped: clipped pixels have no gradient": (
        lambda p, t, r: 1 - _likeness(p.clamp(0, r), t.clamp(0, r), r).mean()
    ),
    "pred is not clipped: clipped pixels have no gradient": lambda p, t, r: 1 - _likeness(p.clamp(0, 1), t, r).mean(),
    "a window below 0 counts with its sign: it is not cut off": (
        lambda p, t, r: 1 - _likeness(p, t, r).clamp(min=0).mean()
    ),
    "where SSIM is below 0, its sign counts: no absolute value": lambda p, t, r: 1 - _likeness(p, t, r).abs().mean(),
    "SSIM below 0 loses more than 1: do not limit the loss to 1": (
        lambda p, t, r: (1 - _likeness(p, t, r).mean()).clamp(0, 1)
    ),
    "that is half of it: 1 - SSIM, without a factor": lambda p, t, r: (1 - _likeness(p, t, r).mean()) / 2,
    "all images of the batch count, not the first alone": lambda p, t, r: 1 - _likeness(p, t, r)[:1].mean(),
    NO_GRADIENT: without_gradient(reference_ssim_loss),
}


# ---------------------------------------------------------------------------------------------- ssim_gradient


def ssim_gradient(student: Callable) -> Callable:
    """Check `my_ssim_gradient(pred (n, m), target, window, data_range) -> (n, m)` of notebook 12.

    Example:
        >>> ssim_gradient(lambda p, t, w, r: -reference_ssim_gradient(p, t, w, r)).__name__
        ✗ ssim_gradient: 3 x 4 pixels, all of one weight
        ...
          likely: this is the gradient of 1 - SSIM: that of SSIM itself has the other sign
        ...
        'reference_ssim_gradient'
    """
    even, bell = torch.full((3, 4), 1 / 12), _window(7, 9)
    few, some, more = (_grey_pair(shape, seed) for shape, seed in (((3, 4), 41), ((7, 9), 43), ((11, 11), 45)))
    flat = torch.full((7, 9), 0.3)
    cases = [
        Case("3 x 4 pixels, all of one weight", (*few, even, 1.0)),
        Case("two flat images: only brightness has a slope", (flat + 0.4, flat, bell, 1.0)),
        Case("two flat images in bytes, nearly black: C1 counts", (25 * flat + 8, 25 * flat, bell, 255.0)),
        Case("equal images: SSIM is at its top", (some[1], some[1], bell, 1.0)),
        Case("a Gaussian window of 7 x 9 pixels", (*some, bell, 1.0)),
        Case("bytes: data_range 255", (255 * some[0], 255 * some[1], bell, 255.0)),
        Case("a CT window, 400 wide", (400 * some[0] - 160, 400 * some[1] - 160, bell, 400.0)),
        Case("Wang's window of 11 x 11 pixels", (*more, _window(SIDE, SIDE), 1.0)),
    ]
    return run_check(
        "ssim_gradient",
        student,
        reference_ssim_gradient,
        cases,
        mistakes=SSIM_GRADIENT_MISTAKES,
        draw=_draw_slopes,
        compare=close,
    )


def reference_ssim_gradient(pred: Tensor, target: Tensor, window: Tensor, data_range: float) -> Tensor:
    """What autograd finds for the SSIM of one window."""
    with torch.enable_grad():
        x = pred.detach().clone().requires_grad_()
        value = _one_window(x, target, window, data_range)
    return torch.autograd.grad(value, x)[0]


def _one_window(x: Tensor, y: Tensor, window: Tensor, data_range: float) -> Tensor:
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
    both = (window * (x - mx) * (y - my)).sum()
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * both + c2) / (vx + vy + c2)


def _window(rows: int, columns: int) -> Tensor:
    """Gaussian weights that add up to 1."""
    down, across = (
        torch.exp(-((torch.arange(float(size)) - size // 2) ** 2) / (2 * SD**2)) for size in (rows, columns)
    )
    window = torch.outer(down, across)
    return window / window.sum()


def _grey_pair(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    target = 0.2 + 0.6 * uniform(*shape, seed=seed)
    return target + 0.15 * noise(*shape, seed=seed + 1), target


def _draw_slopes(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    scale = 1 / case.args[3]  # grey values beside slopes, on one scale
    return draw_maps(case.what, case.args[0] * scale, expected / scale, got / scale)


def _slopes(
    x: Tensor,
    y: Tensor,
    window: Tensor,
    data_range: float,
    *,
    constants: Callable = lambda r: ((K1 * r) ** 2, (K2 * r) ** 2),
    outer: Callable = lambda window: window,
    weighted: tuple[float, float] = (1, 1),
    below_cs: Callable = lambda spread: spread,
    inner: Callable = lambda window: window,
    two: float = 2,
    brightness: Callable = lambda mx, my, light: my - light * mx,
    structure: Callable = lambda dx, dy, cs: dy - cs * dx,
    centred: bool = True,
    crossed: bool = False,
    rule: Callable = lambda light, cs, dl, dcs: dl * cs + light * dcs,
) -> Tensor:
    """The slide's gradient with room for the usual slips."""
    c1, c2 = constants(data_range)
    weights, w = inner(window), outer(window)
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
    below, spread = mx**2 + my**2 + c1, vx + vy + c2
    light = (2 * mx * my + c1) / below
    cs = (2 * (weights * (x - mx) * (y - my)).sum() + c2) / spread
    dx, dy = (x - mx, y - my) if centred else (x, y)
    if crossed:
        below, spread = spread, below
    first, second = w ** weighted[0], w ** weighted[1]
    dl, dcs = two * first * brightness(mx, my, light) / below, two * second * structure(dx, dy, cs) / below_cs(spread)
    return rule(light, cs, dl, dcs)


def _unbracketed(x: Tensor, y: Tensor, window: Tensor, data_range: float) -> Tensor:
    """dl without the brackets around the difference of the means."""
    c1, mx, my = (K1 * data_range) ** 2, (window * x).sum(), (window * y).sum()
    below = mx**2 + my**2 + c1
    light = (2 * mx * my + c1) / below
    dl = 2 * window * my - light * mx / below
    return _slopes(x, y, window, data_range, rule=lambda light, cs, _, dcs: dl * cs + light * dcs)


SSIM_GRADIENT_MISTAKES: dict[str, Callable] = {
    "this is the gradient of 1 - SSIM: that of SSIM itself has the other sign": lambda *a: -_slopes(*a),
    "each derivative is multiplied by the OTHER factor: dl · cs + l · dcs": (
        lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: light * dl + cs * dcs)
    ),
    "a product has two terms: dl · cs is here, l · dcs is missing": (
        lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: dl * cs)
    ),
    "a product has two terms: l · dcs is here, dl · cs is missing": (
        lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: light * dcs)
    ),
    "the derivative of a product is no product of derivatives: dl · cs + l · dcs": (
        lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: dl * dcs)
    ),
    "add the two terms": lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: dl * cs - light * dcs),
    "the factors are missing: dl · cs + l · dcs, not dl + dcs": (
        lambda *a: _slopes(*a, rule=lambda light, cs, dl, dcs: dl + dcs)
    ),
    "pred moves, target stands still: x is pred, y is target": lambda p, t, w, r: _slopes(t, p, w, r),
    "each pixel counts with its weight in the window": (
        lambda *a: _slopes(*a, outer=lambda window: torch.ones_like(window))
    ),
    "dl holds the pixel's weight, too": lambda *a: _slopes(*a, weighted=(0, 1)),
    "dcs holds the pixel's weight, too": lambda *a: _slopes(*a, weighted=(1, 0)),
    "below dcs stand the variances and C2, not their root": lambda *a: _slopes(*a, below_cs=torch.sqrt),
    "C1 and C2 are missing": lambda *a: _slopes(*a, constants=lambda r: (0.0, 0.0)),
    "C1 and C2 are (0.01 · data_range)² and (0.03 · data_range)²: data_range is squared, too": (
        lambda *a: _slopes(*a, constants=lambda r: (K1**2 * r, K2**2 * r))
    ),
    "dl holds μy - l μx, not l μy - μx": lambda *a: _slopes(*a, brightness=lambda mx, my, light: light * my - mx),
    "brackets: 2 w (μy - l μx) / …, all of the bracket is multiplied and divided": _unbracketed,
    "the means and variances are weighted by the window, not plain ones": (
        lambda *a: _slopes(*a, inner=lambda window: torch.full_like(window, 1 / window.numel()))
    ),
    "both derivatives begin with a factor 2": lambda *a: _slopes(*a, two=1),
    "dl holds μy - l μx: the l is missing": lambda *a: _slopes(*a, brightness=lambda mx, my, light: my - mx),
    "dl holds μy - l μx, not μx - l μy": lambda *a: _slopes(*a, brightness=lambda mx, my, light: mx - light * my),
    "dcs holds (y - μy) - cs (x - μx): the cs is missing": (
        lambda *a: _slopes(*a, structure=lambda dx, dy, cs: dy - dx)
    ),
    "dcs holds (y - μy) - cs (x - μx), not (x - μx) - cs (y - μy)": (
        lambda *a: _slopes(*a, structure=lambda dx, dy, cs: dx - cs * dy)
    ),
    "dcs holds pixels LESS their means: y - μy and x - μx": lambda *a: _slopes(*a, centred=False),
    "the lines of the two fractions are exchanged: the means stand below dl, the variances below dcs": (
        lambda *a: _slopes(*a, crossed=True)
    ),
    "C1 and C2 hold data_range: (0.01 · data_range)² and (0.03 · data_range)²": (
        lambda *a: _slopes(*a, constants=lambda r: (K1**2, K2**2))
    ),
    "C1 and C2 are squares: (0.01 · data_range)², data_range squared too": (
        lambda *a: _slopes(*a, constants=lambda r: (K1 * r, K2 * r))
    ),
    "C1 and C2 are exchanged: 0.01 goes with the means, 0.03 with the variances": (
        lambda *a: _slopes(*a, constants=lambda r: ((K2 * r) ** 2, (K1 * r) ** 2))
    ),
    "one slope a pixel is wanted, a map like the image: nothing is summed": lambda *a: _slopes(*a).sum(),
    "there is one window: nothing is divided by the number of pixels": (
        lambda p, t, w, r: _slopes(p, t, w, r) / p.numel()
    ),
}

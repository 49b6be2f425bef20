"""Checks of notebook 11, residual learning: the target, what is taken off the image, and Sori's loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


def _draw_images(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_batch

    return draw_batch(case, expected, got)


def _row(*values: float) -> Tensor:
    """(1, 1, 1, n): one image of one row."""
    return torch.tensor(values).reshape(1, 1, 1, -1)


def _clean_and_noise(count: int, height: int, width: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Images in [0, 1], and noise whose mean is not quite 0 and whose spread differs from image to image."""
    spread = torch.linspace(0.05, 0.3, count).reshape(-1, 1, 1, 1)
    return uniform(count, 1, height, width, seed=seed), spread * noise(count, 1, height, width, seed=seed + 1)


# ----------------------------------------------------------------------------------------------- residual_target


def residual_target(student: Callable) -> Callable:
    """Check `my_residual_target(noisy (B, 1, H, W), clean (B, 1, H, W)) -> (B, 1, H, W)` of notebook 11.

    Example:
        >>> residual_target(lambda noisy, clean: clean - noisy).__name__
        ✗ residual_target: one image of 1 x 3 pixels
        ...
          likely: the residual is what the noise has added: noisy less clean
        ...
        'reference_residual_target'
    """
    clean, added = _clean_and_noise(3, 4, 6, seed=10)
    cases = [
        Case("one image of 1 x 3 pixels", (_row(0.5, 0.2, 0.9), _row(0.4, 0.3, 0.5))),
        Case("noise that leads below 0 and above 1: nothing is cut off", (_row(-0.25, 1.5, 0.5), _row(0.1, 0.9, 0.6))),
        Case("noise that is brighter on the whole: its mean stays in", (_row(0.5, 0.6, 0.8), _row(0.3, 0.5, 0.5))),
        Case("an image without noise: zeros", (clean[:1], clean[:1])),
        Case("a CT slice in HU: any unit", (1000 * (clean[:2] + added[:2]), 1000 * clean[:2])),
        Case("3 images", (clean + added, clean)),
    ]
    return run_check(
        "residual_target",
        student,
        reference_residual_target,
        cases,
        mistakes=RESIDUAL_TARGET_MISTAKES,
        draw=_draw_images,
    )


def reference_residual_target(noisy: Tensor, clean: Tensor) -> Tensor:
    """What the noise has added."""
    return noisy - clean


RESIDUAL_TARGET_MISTAKES: dict[str, Callable] = {
    "the residual is what the noise has added: noisy less clean": lambda noisy, clean: clean - noisy,
    "this is the clean image: the target is what must be taken away": lambda noisy, clean: clean,
    "this is the noisy image: take the clean one off it": lambda noisy, clean: noisy,
    "noise has a sign: no abs()": lambda noisy, clean: (noisy - clean).abs(),
    "noise is below 0 as often as above: no clamp to [0, 1]": lambda noisy, clean: (noisy - clean).clamp(0, 1),
    "nothing is squared yet: that is the loss": lambda noisy, clean: (noisy - clean).square(),
    "noise is below 0 as often as above: no clamp on the residual": lambda noisy, clean: (noisy - clean).clamp(min=0),
    "clipping the noisy image breaks the mean of the noise: leave it as it is": (
        lambda noisy, clean: noisy.clamp(0, 1) - clean
    ),
    "one number a pixel is wanted, not the mean of the noise": lambda noisy, clean: (noisy - clean).mean(),
    "the mean of the noise belongs to it": (
        lambda noisy, clean: (noisy - clean) - (noisy - clean).mean((1, 2, 3), keepdim=True)
    ),
    "the residual is in the unit of the images: nothing is divided": (
        lambda noisy, clean: (noisy - clean) / (noisy - clean).std().clamp(min=1e-6)
    ),
    "add and subtract: this is the sum of both images": lambda noisy, clean: noisy + clean,
}


# ------------------------------------------------------------------------------------------------------ denoised


def denoised(student: Callable) -> Callable:
    """Check `my_denoised(noisy (B, 1, H, W), residual (B, 1, H, W)) -> (B, 1, H, W)` of notebook 11.

    Example:
        >>> denoised(lambda noisy, residual: noisy + residual).__name__
        ✗ denoised: one image of 1 x 3 pixels
        ...
          likely: the noise was added to the image: take it off again
        ...
        'reference_denoised'
    """
    clean, added = _clean_and_noise(3, 5, 4, seed=20)
    noisy, residual = clean + added, added + 0.02 * noise(3, 1, 5, 4, seed=22)
    cases = [
        Case("one image of 1 x 3 pixels", (_row(0.5, 0.2, 0.9), _row(0.1, -0.1, 0.4))),
        Case(
            "a noisy image that leaves [0, 1], and a residual that brings it back", (_row(-0.2, 1.4), _row(-0.3, 0.6))
        ),
        Case("a denoised image that leaves [0, 1]: nothing is cut off", (_row(0.1, 0.9), _row(0.3, -0.25))),
        Case("a residual whose mean is not 0", (_row(0.5, 0.6, 0.7), _row(0.2, 0.3, 0.1))),
        Case("nothing is noise: the image as it was", (noisy[:1], torch.zeros_like(noisy[:1]))),
        GradientCase(
            "the gradient of the residual: the network is trained through it", (noisy[:2], residual[:2]), of=(1,)
        ),
        Case("a CT slice in HU: any unit", (1000 * noisy[:2] - 200, 1000 * residual[:2])),
        Case("3 images", (noisy, residual)),
    ]
    return run_check("denoised", student, reference_denoised, cases, mistakes=DENOISED_MISTAKES, draw=_draw_images)


def reference_denoised(noisy: Tensor, residual: Tensor) -> Tensor:
    """The image without what the network takes for noise."""
    return noisy - residual


DENOISED_MISTAKES: dict[str, Callable] = {
    "the noise was added to the image: take it off again": lambda noisy, residual: noisy + residual,
    "the residual is taken off the noisy image, not the other way round": lambda noisy, residual: residual - noisy,
    "this is the noise: the image is what is left": lambda noisy, residual: residual,
    "nothing was taken off": lambda noisy, residual: noisy,
    "no clamp: cut off only where an image is shown, never before it is measured": (
        lambda noisy, residual: (noisy - residual).clamp(0, 1)
    ),
    "the noisy image stays as it is: no clamp": lambda noisy, residual: noisy.clamp(0, 1) - residual,
    "the residual's mean is taken off, too": (
        lambda noisy, residual: noisy - (residual - residual.mean((1, 2, 3), keepdim=True))
    ),
    "the image keeps its unit: do not stretch it to [0, 1]": lambda noisy, residual: _stretched(noisy - residual),
    "a residual has a sign: no abs()": lambda noisy, residual: noisy - residual.abs(),
    "no clamp: a pixel below 0 stays below 0": lambda noisy, residual: (noisy - residual).clamp(min=0),
    "noise adds here, it does not multiply": lambda noisy, residual: noisy * (1 - residual),
    NO_GRADIENT: without_gradient(reference_denoised),
}


def _stretched(images: Tensor) -> Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-6)


# ------------------------------------------------------------------------------------------------- residual_loss


def residual_loss(student: Callable) -> Callable:
    """Check `my_residual_loss(residual, noisy, clean)`, each (B, 1, H, W), -> a scalar tensor, of notebook 11.

    Example:
        >>> residual_loss(lambda residual, noisy, clean: ((residual - noisy + clean) ** 2).mean() / 2).__name__
        ✗ residual_loss: one image of 1 x 3 pixels
        ...
          likely: sum over the pixels of an image; the mean is over images only
        ...
        'reference_residual_loss'
    """
    clean, added = _clean_and_noise(4, 3, 5, seed=30)
    noisy, predicted = clean + added, 0.6 * added + 0.1 * noise(4, 1, 3, 5, seed=32)
    one = (_row(0.1, 0.3, -0.2), _row(0.5, 0.2, 0.9), _row(0.4, 0.5, 0.5))
    cases = [
        Case("one image of 1 x 3 pixels", one),
        Case("a residual that is right: 0", (_row(0.1, -0.3), _row(0.5, 0.2), _row(0.4, 0.5))),
        Case("a noisy image that leaves [0, 1]: nothing is cut off", (_row(0.2, 0.1), _row(-0.3, 1.6), _row(0.1, 0.9))),
        Case("two images: their mean", (predicted[:2], noisy[:2], clean[:2])),
        GradientCase("the gradient of the residual: a network is trained with it", (predicted, noisy, clean), of=(0,)),
        Case("4 images of 3 x 5 pixels", (predicted, noisy, clean)),
        Case("3 images far off", (5 * predicted[1:], noisy[1:], clean[1:])),
    ]
    return run_check("residual_loss", student, reference_residual_loss, cases, mistakes=RESIDUAL_LOSS_MISTAKES)


def reference_residual_loss(residual: Tensor, noisy: Tensor, clean: Tensor) -> Tensor:
    """1/(2N) sum over the N images of the squared length of residual - (noisy - clean)."""
    return _loss(residual, noisy, clean)


def _loss(
    residual: Tensor,
    noisy: Tensor,
    clean: Tensor,
    *,
    target: Callable = lambda noisy, clean: noisy - clean,
    distance: Callable = torch.square,
    half: float = 0.5,
    total: Callable = lambda each: each.sum() / len(each),
) -> Tensor:
    """The loss with room for the usual slips."""
    return half * total(distance(residual - target(noisy, clean)))


def _sum_squared(each: Tensor) -> Tensor:
    """The square of each image's sum, mean over the images."""
    return each.sum((1, 2, 3)).square().mean()


RESIDUAL_LOSS_MISTAKES: dict[str, Callable] = {
    "the target is noisy less clean, not the other way round": (
        lambda *a: _loss(*a, target=lambda noisy, clean: clean - noisy)
    ),
    "the target is the noise, not the clean image": lambda *a: _loss(*a, target=lambda noisy, clean: clean),
    "the target is the noise, not the noisy image": lambda *a: _loss(*a, target=lambda noisy, clean: noisy),
    "sum over the pixels of an image; the mean is over images only": lambda *a: _loss(*a, total=torch.mean),
    "sum over the pixels of an image, and keep the half": lambda *a: _loss(*a, total=torch.mean, half=1.0),
    "square each pixel's difference first, then add up": lambda *a: _loss(*a, distance=lambda d: d, total=_sum_squared),
    "N is divided out twice: the mean over the images has it": (
        lambda *a: _loss(*a, total=lambda each: each.sum() / len(each) ** 2)
    ),
    "divide by the number of images": lambda *a: _loss(*a, total=torch.sum),
    "divide by the number of images, not by the rows of one": (
        lambda *a: _loss(*a, total=lambda each: each.sum() / each.shape[2])
    ),
    "divide by the number of images, not by the columns of one": (
        lambda *a: _loss(*a, total=lambda each: each.sum() / each.shape[3])
    ),
    "one number for the whole batch is wanted: take the mean over the images": (
        lambda *a: _loss(*a, total=lambda each: each.sum((1, 2, 3)))
    ),
    "the half is missing": lambda *a: _loss(*a, half=1.0),
    "a quarter is one half too many": lambda *a: _loss(*a, half=0.25),
    "these are absolute values: the loss squares": lambda *a: _loss(*a, distance=torch.abs),
    "no root: the squared length is wanted": (
        lambda *a: _loss(*a, total=lambda each: each.sum((1, 2, 3)).sqrt().mean())
    ),
    "clipping the noisy image breaks the mean of the noise: leave it as it is": (
        lambda *a: _loss(*a, target=lambda noisy, clean: noisy.clamp(0, 1) - clean)
    ),
    NO_GRADIENT: without_gradient(reference_residual_loss),
}

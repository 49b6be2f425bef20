"""The check of notebook 16, attention heatmaps: the focal loss that goes easy on what is near a centre."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.heatmaps import heatmap_loss as package_loss


def heatmap_loss(student: Callable) -> Callable:
    """Check `my_heatmap_loss(logits (B, h, w), target (B, h, w), alpha, beta) -> scalar` of notebook 16.

    Example:
        >>> heatmap_loss(lambda *args: reference_heatmap_loss(*args).detach()).__name__  # right, and trains nothing
        ✗ heatmap_loss: 2 films, and the gradient of the logits: the network is trained with it
        ...
          likely: no gradient flows: ...
        'reference_heatmap_loss'
    """

    def row(*values: float) -> Tensor:
        return floats(*values)[None, None]

    def case(films: int, height: int, width: int, *, centers: int, seed: int) -> tuple[Tensor, Tensor]:
        target = 0.95 * uniform(films, height, width, seed=seed)
        places = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(seed))[:centers]
        target.view(-1)[places] = 1.0
        return 2 * noise(films, height, width, seed=seed + 1), target

    nothing = 2 * noise(2, 3, 4, seed=5), torch.zeros(2, 3, 4)
    uneven = case(3, 2, 5, centers=0, seed=40)  # all centres on the last film
    uneven[1][2, :, 1:3] = 1.0
    cases = [
        Case("one cell, a centre, nothing learned yet", (row(0), row(1), 2.0, 4.0)),
        Case("one cell without, nothing learned yet", (row(0), row(0), 2.0, 4.0)),
        Case("a centre that is found, 0.88", (row(2), row(1), 2.0, 4.0)),
        Case("a false alarm, 0.88, and no centre on the film", (row(2, -3), row(0, 0), 2.0, 4.0)),
        Case("the slope of a hill: 0.6 of 1", (row(0.5), row(0.6), 2.0, 4.0)),
        Case("a centre and its slope", (row(1, 0.4, -2), row(1, 0.7, 0.1), 2.0, 4.0)),
        Case("beside a centre a cell of 0.995, which is no centre", (row(1, 0.4), row(1, 0.995), 2.0, 4.0)),
        Case("far out on a slope: a cell of 0.005", (row(1, 2), row(1, 0.005), 2.0, 4.0)),
        Case("two centres on one film", (row(1, -1, 0.3, -2), row(1, 1, 0.4, 0), 2.0, 4.0)),
        Case("2 films without a centre: divided by 1", (*nothing, 2.0, 4.0)),
        Case("3 films, all centres on one of them", (*uneven, 2.0, 4.0)),
        Case(
            "logits of 30: the logarithm of 1 - p, without a clamp and without + eps",
            (row(30, -30, 30), row(0.2, 1, 1), 2.0, 4.0),
        ),
        Case("logits of 200, where p and 1 - p round to 0", (row(200, -200, 200), row(0.2, 1, 1), 2.0, 4.0)),
        Case("other exponents", (*case(1, 3, 4, centers=2, seed=10), 1.0, 2.0)),
        Case("exponents the other way round", (*case(1, 3, 4, centers=1, seed=15), 4.0, 1.5)),
        GradientCase(
            "2 films, and the gradient of the logits: the network is trained with it",
            (*case(2, 3, 5, centers=3, seed=20), 2.0, 4.0),
        ),
        Case("4 films of 5 x 7 cells", (*case(4, 5, 7, centers=6, seed=30), 2.0, 4.0)),
    ]
    return run_check("heatmap_loss", student, reference_heatmap_loss, cases, mistakes=HEATMAP_LOSS_MISTAKES, atol=1e-4)


def reference_heatmap_loss(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    """`labkit.detection.heatmaps.heatmap_loss`."""
    return package_loss(logits, target, alpha=alpha, beta=beta)


def _both(p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return 1 - p, p


def _count(is_center: Tensor) -> Tensor:
    return is_center.sum().clamp(min=1)


def _loss(
    logits: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    *,
    center: Callable = lambda target: target == 1,
    weights: Callable = _both,
    near: Callable = lambda target, beta: (1 - target) ** beta,
    logs: Callable = lambda z: (F.logsigmoid(z), F.logsigmoid(-z)),
    count: Callable = _count,
    probability: Callable = torch.sigmoid,
    sign: float = -1.0,
) -> Tensor:
    """The loss with room for the usual slips."""
    is_center, p = center(target), probability(logits)
    far, said = weights(p, target)
    yes, no = logs(logits)
    each = torch.where(is_center, far**alpha * yes, near(target, beta) * said**alpha * no)
    return sign * each.sum() / count(is_center)


def _with(**slip) -> Callable:
    return lambda logits, target, alpha, beta: _loss(logits, target, alpha, beta, **slip)


def _clamped(z: Tensor) -> tuple[Tensor, Tensor]:
    p = z.sigmoid().clamp(1e-4, 1 - 1e-4)
    return p.log(), (1 - p).log()


def _naive(z: Tensor) -> tuple[Tensor, Tensor]:
    p = z.sigmoid()
    return p.log(), (1 - p).log()


def _every_film(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    rows = zip(logits, target, strict=True)
    return torch.stack([_loss(one, wanted, alpha, beta) for one, wanted in rows]).mean()


def _zero_without(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    return _loss(logits, target, alpha, beta) * (target == 1).any()


def _soft(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    p = logits.sigmoid()
    yes = target * (1 - p) ** alpha * F.logsigmoid(logits)
    no = (1 - target) ** beta * p**alpha * F.logsigmoid(-logits)
    return -(yes + no).sum() / _count(target == 1)


def _squares(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    return (logits.sigmoid() - target).square().sum() / _count(target == 1)


def _only_centers(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    return _loss(logits, target, alpha, beta, near=lambda target, beta: 0 * target)


def _films(is_center: Tensor) -> int:
    return len(is_center)


def _films_with(is_center: Tensor) -> Tensor:
    return is_center.flatten(1).any(dim=1).sum().clamp(min=1)


def _each_at_least_one(is_center: Tensor) -> Tensor:
    return is_center.flatten(1).sum(dim=1).clamp(min=1).sum()


def _clamped_throughout(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    return _loss(logits, target, alpha, beta, probability=lambda z: z.sigmoid().clamp(1e-4, 1 - 1e-4), logs=_clamped)


def _plus(small: float) -> Callable:
    return _with(logs=lambda z: ((z.sigmoid() + small).log(), (1 - z.sigmoid() + small).log()))


def _tops(above: float) -> Callable:
    """Every cell above a limit is summed up as a centre; those of 1 are counted."""
    return lambda z, y, a, b: _loss(z, y, a, b, center=lambda target: target > above, count=lambda _: _count(y == 1))


HEATMAP_LOSS_MISTAKES: dict[str, Callable] = {
    "divide by the number of centres": _with(count=lambda is_center: 1),
    "divide by the number of centres, not of cells": _with(count=lambda is_center: is_center.numel()),
    "divide by the number of centres, not of films": _with(count=_films),
    "divide by the number of centres, not of films that have one": _with(count=_films_with),
    "at least 1 is for the whole batch: a film without a centre adds nothing to the number": (
        _with(count=_each_at_least_one)
    ),
    "divide once, by the number of centres, not by the films as well": (
        _with(count=lambda is_center: _count(is_center) * len(is_center))
    ),
    "all films of the batch count, not the first alone": (
        lambda z, y, a, b: _loss(z[:1], y[:1], a, b, count=lambda _: _count(y == 1))
    ),
    "divide by the number of centres, not by the sum of the target": (
        lambda z, y, a, b: _loss(z, y, a, b, count=lambda is_center: y.sum().clamp(min=1))
    ),
    "films without a centre: divide by at least 1": _with(count=lambda is_center: is_center.sum()),
    "centres are counted one too many: at least 1, not plus 1": _with(count=lambda is_center: is_center.sum() + 1),
    "films without a centre have a loss too: there is nothing to be seen on them": _zero_without,
    "centres are counted over all films of the batch, not film by film": _every_film,
    "a centre that is missed counts most: (1 - p) ** alpha there, p ** alpha elsewhere; they are exchanged": (
        _with(weights=lambda p, target: (p, 1 - p))
    ),
    "away from the centres the weight is p ** alpha: alarms count, silence does not": (
        _with(weights=lambda p, target: (1 - p, 1 - p))
    ),
    "alpha is missing at the centres: (1 - p) ** alpha": (_with(weights=lambda p, target: (torch.ones_like(p), p))),
    "alpha is missing away from the centres: p ** alpha": (
        _with(weights=lambda p, target: (1 - p, torch.ones_like(p)))
    ),
    "the focus is missing: (1 - p) ** alpha and p ** alpha": (
        _with(weights=lambda p, target: (torch.ones_like(p), torch.ones_like(p)))
    ),
    "near a centre a false alarm counts little: (1 - target) ** beta is missing": (
        _with(near=lambda target, beta: torch.ones_like(target))
    ),
    "near a centre a false alarm counts LITTLE: (1 - target) ** beta, not target ** beta": (
        _with(near=lambda target, beta: target**beta)
    ),
    "(1 - target) is taken to the power beta": _with(near=lambda target, beta: 1 - target),
    "logits and target are exchanged: logits come first": lambda z, y, a, b: _loss(y, z, a, b),
    "alpha and beta are exchanged": lambda z, y, a, b: _loss(z, y, b, a),
    "the exponents are written into the function: use alpha and beta": lambda z, y, a, b: _loss(z, y, 2.0, 4.0),
    "a centre is where the target is 1: slopes are not": _with(center=lambda target: target > 0),
    "a centre is where the target is 1, not from 1/2 on": _with(center=lambda target: target >= 0.5),
    "a centre is where the target is exactly 1; a cell of 0.995 is not": _with(center=lambda target: target > 0.99),
    "a centre is where the target is exactly 1, not from 0.9 on": _with(center=lambda target: target > 0.9),
    "target == 1 in both places: here every cell above 0 is summed up as a centre": _tops(0),
    "target == 1 in both places: here every cell above 1/2 is summed up as a centre": _tops(0.5),
    "target == 1 in both places: here every cell above 0.9 is summed up as a centre": _tops(0.9),
    "target == 1 in both places: here every cell above 0.99 is summed up as a centre": _tops(0.99),
    "torch.where(condition, here, there): what belongs to centres comes first; the two are exchanged": (
        _with(center=lambda target: target != 1, count=lambda is_other: _count(~is_other))
    ),
    "small targets count as they are: nothing is set to 0": (
        lambda z, y, a, b: _loss(z, torch.where(y < 0.01, 0.0, y), a, b)
    ),
    "cells are centres or not, they are not mixed by their target: log p counts where it is 1, and there alone": _soft,
    "the other cells are missing: without them the network says 1 everywhere": _only_centers,
    "the minus is missing: logarithms of probabilities are negative": _with(sign=1.0),
    "logits come in: take the sigmoid once, not twice": (lambda z, y, a, b: _loss(z.sigmoid(), y, a, b)),
    "p rounds to 0 or 1 and its logarithm is infinite: take F.logsigmoid(logits) and F.logsigmoid(-logits)": (
        _with(logs=_naive)
    ),
    "a p that is clamped has no gradient where the network is most wrong: F.logsigmoid needs no clamp": (
        _clamped_throughout
    ),
    "p + eps changes the logarithm: F.logsigmoid(logits) and F.logsigmoid(-logits) need no eps": _plus(1e-8),
    "p + eps changes the logarithm where p is small: F.logsigmoid(logits), F.logsigmoid(-logits)": _plus(1e-6),
    "a clamped p has no gradient where the network is most wrong: F.logsigmoid needs no clamp": _with(logs=_clamped),
    "the weights (1 - p) ** alpha and p ** alpha belong to the gradient, too: no detach()": (
        _with(probability=lambda z: z.sigmoid().detach())
    ),
    "squared differences are another loss": _squares,
    NO_GRADIENT: without_gradient(reference_heatmap_loss),
}

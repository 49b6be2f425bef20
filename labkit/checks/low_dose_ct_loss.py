"""The check of notebook 13, low-dose CT: the critic's loss with its gradient penalty."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, uniform
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


def critic_loss(student: Callable) -> Callable:
    """Check `my_critic_loss(critic, real (B, 1, H, W), fake (B, 1, H, W), epsilon (B,), weight)` of notebook 13.

    Example:
        >>> critic_loss(lambda critic, real, fake, epsilon, weight: critic(fake).mean() - critic(real).mean()).__name__
        ✗ critic_loss: one image of two pixels, D = x1 + 2 x2
        ...
          likely: the gradient penalty is missing: ...
        'reference_critic_loss'
    """

    def case(batch: int, height: int, width: int, seed: int) -> tuple:
        shape = batch, 1, height, width
        pictures = noise(*shape, seed=seed), noise(*shape, seed=seed + 1) + 0.3
        return QuadraticCritic(0.4 * noise(1, height, width, seed=seed + 2), 0.5), *pictures, uniform(batch, seed=seed)

    two = floats(3, 1).reshape(1, 1, 1, 2), floats(0.5, -1).reshape(1, 1, 1, 2), torch.tensor([0.25])
    plain = QuadraticCritic(floats(1, 2).reshape(1, 1, 2), 0.0)
    unit, low = (QuadraticCritic(floats(0.6 * s, 0.8 * s).reshape(1, 1, 2), 0.0) for s in (1.0, 0.5))
    bent = QuadraticCritic(floats(1, 2).reshape(1, 1, 2), 0.5)
    cases = [
        Case("one image of two pixels, D = x1 + 2 x2", (plain, *two, 10.0)),
        Case("D has slope 1 everywhere: no penalty", (unit, *two, 10.0)),
        Case("D has slope 1/2: below 1 costs, too", (low, *two, 10.0)),
        Case("a slope that depends on the place, epsilon 0.25", (bent, *two, 10.0)),
        Case("3 images of 2 x 4 pixels", (*case(3, 2, 4, 10), 10.0)),
        Case("a penalty that counts half", (*case(3, 2, 4, 20), 0.5)),
        Case("as many images as columns: each image has its own epsilon", (*case(4, 3, 4, 30), 10.0)),
        Case("as many images as rows", (*case(3, 3, 5, 40), 10.0)),
        GradientCase("2 images, and the gradient of D's weights: D is trained with it", (*case(2, 2, 3, 50), 10.0)),
        GradientCase("the same with 5 images", (*case(5, 4, 3, 60), 10.0)),
        Case("7 images of 5 x 6 pixels", (*case(7, 5, 6, 70), 10.0)),
    ]
    return run_check("critic_loss", student, reference_critic_loss, cases, mistakes=CRITIC_LOSS_MISTAKES, atol=1e-4)


class QuadraticCritic(nn.Module):
    """D(x) = sum of w x + curve / 2 · x^2 over the pixels of an image: its slope is w + curve · x."""

    def __init__(self, weights: Tensor, curve: float):
        super().__init__()
        self.weights, self.curve = nn.Parameter(weights), nn.Parameter(torch.tensor(curve))

    def forward(self, images: Tensor) -> Tensor:
        """(B,) scores of (B, 1, H, W)."""
        return (self.weights * images + self.curve / 2 * images**2).flatten(1).sum(dim=1)

    def __repr__(self) -> str:
        return f"D(x) = sum of w x + {float(self.curve.detach()) / 2:g} x²"


def reference_critic_loss(critic: Callable, real: Tensor, fake: Tensor, epsilon: Tensor, weight: float) -> Tensor:
    """What `labkit.denoising.low_dose_ct.critic_loss` gives, with one weight a score in place of their sum.

    A student may write it so too. torch then loads a library of symbols at the first call, which takes seconds: here,
    where no time is taken, and not while the student's function runs.
    """
    part = _rows(epsilon, real)
    between = (part * real + (1 - part) * fake).detach().requires_grad_()
    scores = critic(between)
    (slope,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
    return critic(fake).mean() - critic(real).mean() + weight * _square(_norm(slope))


def _norm(slope: Tensor) -> Tensor:
    return slope.flatten(1).norm(dim=1)


def _square(norms: Tensor) -> Tensor:
    return (norms - 1).square().mean()


def _rows(epsilon: Tensor, real: Tensor) -> Tensor:
    return epsilon[:, None, None, None]


def _along(place: int) -> Callable:
    """Epsilon laid along an axis of the images where it fits, as an image's own where it does not."""

    def share(epsilon: Tensor, real: Tensor) -> Tensor:
        if real.shape[place] != len(epsilon):
            return _rows(epsilon, real)
        return epsilon.reshape([-1 if i == place else 1 for i in range(4)])

    return share


def _loss(
    critic: Callable,
    real: Tensor,
    fake: Tensor,
    epsilon: Tensor,
    weight: float,
    *,
    share: Callable = _rows,
    between: Callable | None = None,
    output: Callable = torch.sum,
    norm: Callable = _norm,
    punish: Callable = _square,
    graph: bool = True,
    reduce: Callable = torch.mean,
    score: Callable = lambda scores: scores,
    sign: float = 1.0,
) -> Tensor:
    """The loss with room for the usual slips."""
    part = share(epsilon, real)
    middle = part * real + (1 - part) * fake if between is None else between(real, fake, part)
    middle = middle.detach().requires_grad_()
    (slope,) = torch.autograd.grad(output(critic(middle)), middle, create_graph=graph)
    return sign * (reduce(score(critic(fake))) - reduce(score(critic(real)))) + weight * punish(norm(slope))


def _weighted_whole(critic: Callable, real: Tensor, fake: Tensor, epsilon: Tensor, weight: float) -> Tensor:
    return weight * _loss(critic, real, fake, epsilon, 1.0)


def _logistic(critic: Callable, real: Tensor, fake: Tensor, epsilon: Tensor, weight: float) -> Tensor:
    scores = critic(fake), critic(real)
    loss = nn.functional.softplus(scores[0]).mean() + nn.functional.softplus(-scores[1]).mean()
    return loss + _loss(critic, real, fake, epsilon, weight) - (scores[0].mean() - scores[1].mean())


CRITIC_LOSS_MISTAKES: dict[str, Callable] = {
    "the gradient penalty is missing: weight times the mean over images of (norm of the slope - 1) squared": (
        lambda *a: _loss(*a, punish=lambda norms: 0 * norms.sum())
    ),
    "the sign: the critic wants high scores for real, so mean D(fake) - mean D(real) becomes small": (
        lambda *a: _loss(*a, sign=-1.0)
    ),
    "the penalty is added, not subtracted": lambda c, r, f, e, w: _loss(c, r, f, e, -w),
    "each image has a norm of its own: flatten(1).norm(dim=1), not the norm of the whole batch": (
        lambda *a: _loss(*a, norm=lambda slope: slope.norm()[None])
    ),
    "the norm runs over all pixels of an image, not over each row: flatten(1) first": (
        lambda *a: _loss(*a, norm=lambda slope: slope.norm(dim=-1))
    ),
    "the norm runs over all pixels of an image: this one is taken pixel by pixel": (
        lambda *a: _loss(*a, norm=torch.abs)
    ),
    "a norm is the root of the SUM of squares: the root of the mean depends on how many pixels there are": (
        lambda *a: _loss(*a, norm=lambda slope: slope.flatten(1).square().mean(dim=1).sqrt())
    ),
    "the 2-norm: squares, their sum, the root; these are absolute values": (
        lambda *a: _loss(*a, norm=lambda slope: slope.flatten(1).abs().sum(dim=1))
    ),
    "the root is missing: the norm less 1 is squared, not the squared norm less 1": (
        lambda *a: _loss(*a, norm=lambda slope: slope.flatten(1).square().sum(dim=1))
    ),
    "(norm - 1) is squared": lambda *a: _loss(*a, punish=lambda norms: (norms - 1).mean()),
    "(norm - 1) is squared, not its absolute value": lambda *a: _loss(
        *a, punish=lambda norms: (norms - 1).abs().mean()
    ),
    "square first, then the mean over the images": lambda *a: _loss(*a, punish=lambda norms: (norms.mean() - 1) ** 2),
    "a mean over the images, not a sum": lambda *a: _loss(*a, punish=lambda norms: (norms - 1).square().sum()),
    "a slope below 1 costs too: no relu or clamp": (
        lambda *a: _loss(*a, punish=lambda norms: (norms - 1).relu().square().mean())
    ),
    "the norm is wanted at 1, not at 0": lambda *a: _loss(*a, punish=lambda norms: norms.square().mean()),
    "autograd.grad of a mean divides every image's slope by the batch: give it the sum of the scores": (
        lambda *a: _loss(*a, output=torch.mean)
    ),
    "create_graph=True is missing, or the slope was detached: the penalty has no gradient and changes nothing": (
        lambda *a: _loss(*a, graph=False)
    ),
    "epsilon belongs to real: epsilon · real + (1 - epsilon) · fake": (
        lambda *a: _loss(*a, share=lambda epsilon, real: 1 - _rows(epsilon, real))
    ),
    "epsilon has one number an image: epsilon[:, None, None, None]; here it lies along the columns": (
        lambda *a: _loss(*a, share=_along(3))
    ),
    "epsilon has one number an image: epsilon[:, None, None, None]; here it lies along the rows": (
        lambda *a: _loss(*a, share=_along(2))
    ),
    "epsilon (B,) alone meets the last axis, the columns: write epsilon[:, None, None, None]": (
        lambda *a: _loss(*a, share=lambda epsilon, real: epsilon)
    ),
    "one epsilon for the whole batch: each image has its own": (
        lambda *a: _loss(*a, share=lambda epsilon, real: epsilon[0])
    ),
    "the mean of all epsilons: each image has its own": lambda *a: _loss(
        *a, share=lambda epsilon, real: epsilon.mean()
    ),
    "the slope is taken between real and fake, not at the fakes": (
        lambda *a: _loss(*a, between=lambda real, fake, part: fake)
    ),
    "the slope is taken between real and fake, not at the real ones": (
        lambda *a: _loss(*a, between=lambda real, fake, part: real)
    ),
    "use the epsilon that is given, not always the middle": (
        lambda *a: _loss(*a, share=lambda epsilon, real: 0.5 * torch.ones_like(_rows(epsilon, real)))
    ),
    "the scores are averaged over the batch, not added up": lambda *a: _loss(*a, reduce=torch.sum),
    "a Wasserstein critic has no sigmoid at its end": lambda *a: _loss(*a, score=torch.sigmoid),
    "this is the cross entropy of the first GANs; Wasserstein takes the scores as they are": _logistic,
    "weight multiplies the penalty alone": _weighted_whole,
    "weight is written into the function: use the argument": lambda c, r, f, e, w: _loss(c, r, f, e, 10.0),
    "the scores are cut off from the critic: no .detach() and no no_grad on them": (
        lambda *a: _loss(*a, score=torch.detach)
    ),
    "weight is missing": lambda c, r, f, e, w: _loss(c, r, f, e, 1.0),
    "this is the generator's loss: the critic sees both, and pays the penalty": (lambda c, r, f, e, w: -c(f).mean()),
    NO_GRADIENT: without_gradient(reference_critic_loss),
}

"""Checks of notebook 01: the losses a localizer is trained with, and the step that trains it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torch.optim import Optimizer

from labkit.checks.engine import Case, difference, run_check
from labkit.checks.fixtures import scattered_boxes
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient

HALF_WAY = torch.tensor([[0.3, -0.1, 0.05, 0.0], [2.0, -1.0, 0.5, -0.5], [-0.2, 0.2, -3.0, 0.1]])
SLOPE = "the same, and its gradient: how the loss changes with each predicted number"


def l2_loss(student: Callable) -> Callable:
    """Check `my_l2_loss(predicted (n, 4), wanted (n, 4)) -> scalar` of notebook 01.

    Example:
        >>> l2_loss(lambda predicted, wanted: F.mse_loss(predicted, wanted).item()).__name__
        ✗ l2_loss: the same, and its gradient: how the loss changes with each predicted number
        ...
          likely: no gradient flows: ...
        'mse_loss'
    """
    wanted = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    zeros = torch.zeros(3, 4)
    cases = [
        Case("the prediction is right", (wanted, wanted)),
        Case("one number of four is off by 2", (wanted + torch.tensor([0, 0, 2.0, 0]), wanted)),
        Case("one number of four is off by -2", (wanted - torch.tensor([0, 0, 2.0, 0]), wanted)),
        Case("three regions", (HALF_WAY, zeros)),
        GradientCase(SLOPE, (HALF_WAY, zeros)),
        Case("17 regions", (scattered_boxes(17, 3) / 50, scattered_boxes(17, 5) / 50)),
    ]
    return run_check("l2_loss", student, F.mse_loss, cases, mistakes=L2_LOSS_MISTAKES)


L2_LOSS_MISTAKES: dict[str, Callable] = {
    "take the mean over all numbers, not the sum, or the loss grows with the batch": lambda p, w: ((p - w) ** 2).sum(),
    "this sums the four numbers of a region; take the mean over all": lambda p, w: ((p - w) ** 2).sum(dim=1).mean(),
    "the differences are not squared": lambda p, w: (p - w).mean(),
    "square each difference before you take the mean": lambda p, w: (p - w).mean() ** 2,
    "this is the mean absolute difference, L1": lambda p, w: (p - w).abs().mean(),
    "no root: the mean of the squares is the loss": lambda p, w: ((p - w) ** 2).mean().sqrt(),
    "one factor 1/2 too many": lambda p, w: ((p - w) ** 2).mean() / 2,
    "keep one number for the whole batch: average over the regions too": lambda p, w: ((p - w) ** 2).mean(dim=1),
    "keep one number for the whole batch: average over all": lambda p, w: (p - w) ** 2,
    NO_GRADIENT: without_gradient(F.mse_loss),
}


def smooth_l1_loss(student: Callable) -> Callable:
    """Check `my_smooth_l1_loss(predicted (n, 4), wanted (n, 4), beta) -> scalar` of notebook 01.

    Example:
        >>> smooth_l1_loss(lambda predicted, wanted, beta: F.smooth_l1_loss(predicted, wanted)).__name__
        ✗ smooth_l1_loss: off by 0.2, inside the parabola
        ...
          likely: beta is fixed at 1 here; use the argument
        ...
        'reference_smooth_l1'
    """
    wanted = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    off = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    cases = [
        Case("the prediction is right", (wanted, wanted, 1.0)),
        Case("off by 0.2, inside the parabola", (wanted + 0.2 * off, wanted, 0.5)),
        Case("off by -3, on the line", (wanted - 3 * off, wanted, 0.5)),
        Case("off by exactly beta, where parabola and line meet", (wanted + 0.5 * off, wanted, 0.5)),
        Case("three regions, beta 1", (HALF_WAY, torch.zeros(3, 4), 1.0)),
        Case("three regions, beta 0.1", (HALF_WAY, torch.zeros(3, 4), 0.1)),
        GradientCase(SLOPE, (HALF_WAY, torch.full((3, 4), 0.02), 0.1)),
        Case("17 regions", (scattered_boxes(17, 3) / 50, scattered_boxes(17, 5) / 50, 0.25)),
    ]
    return run_check("smooth_l1_loss", student, reference_smooth_l1, cases, mistakes=SMOOTH_L1_LOSS_MISTAKES)


def reference_smooth_l1(predicted: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """Mean over all numbers of smooth L1."""
    return F.smooth_l1_loss(predicted, wanted, beta=beta)


def _smooth(predicted, wanted, beta, *, line=None, parabola=None, small=None, reduce=torch.mean) -> Tensor:
    """The loss with room for the usual slips: the line, the parabola, and which numbers count as small."""
    d = predicted - wanted
    near = 0.5 * d**2 / beta if parabola is None else parabola(d)
    far = d.abs() - 0.5 * beta if line is None else line(d.abs())
    return reduce(torch.where(d.abs() < beta if small is None else small(d), near, far))


SMOOTH_L1_LOSS_MISTAKES: dict[str, Callable] = {
    "the line must meet the parabola: subtract beta / 2 from it": lambda p, w, b: _smooth(p, w, b, line=lambda d: d),
    "the line goes down by beta / 2, not by 1/2": lambda p, w, b: _smooth(p, w, b, line=lambda d: d - 0.5),
    "the line goes down by beta / 2, not by beta": lambda p, w, b: _smooth(p, w, b, line=lambda d: d - b),
    "the parabola is 0.5 d² / beta: the division by beta is missing": (
        lambda p, w, b: _smooth(p, w, b, parabola=lambda d: 0.5 * d**2)
    ),
    "the parabola needs its factor 0.5": lambda p, w, b: _smooth(p, w, b, parabola=lambda d: d**2 / b),
    "compare the size of the difference with beta, |d|, or large negative ones count as small": (
        lambda p, w, b: _smooth(p, w, b, small=lambda d: d < b)
    ),
    "parabola and line are exchanged: the parabola is for |d| < beta": (
        lambda p, w, b: _smooth(p, w, b, small=lambda d: d.abs() >= b)
    ),
    "each number chooses for itself between parabola and line: torch.where, not one `if` for all": (
        lambda p, w, b: _smooth(p, w, b, small=lambda d: (d.abs() < b).all().expand_as(d))
    ),
    "one branch is chosen for the whole batch, by its mean: each number chooses for itself, torch.where": (
        lambda p, w, b: _smooth(p, w, b, small=lambda d: (d.abs().mean() < b).expand_as(d))
    ),
    "this is plain L1, without the parabola": lambda p, w, b: (p - w).abs().mean(),
    "this is plain L2, without the line": lambda p, w, b: (0.5 * (p - w) ** 2 / b).mean(),
    "this is Huber's loss with delta = beta, which is beta times smooth L1: divide it by beta": lambda p, w, b: (
        F.huber_loss(p, w, delta=b)
    ),
    "this sums the four numbers of a region; take the mean over all": (
        lambda p, w, b: _smooth(p, w, b, reduce=lambda values: values.sum(dim=1).mean())
    ),
    "take the mean over all numbers, not the sum": lambda p, w, b: _smooth(p, w, b, reduce=torch.sum),
    "beta is fixed at 1 here; use the argument": lambda p, w, b: _smooth(p, w, 1.0),
    NO_GRADIENT: without_gradient(reference_smooth_l1),
}


# ----------------------------------------------------------------------------------------------- training_step


def training_step(student: Callable) -> Callable:
    """Check `my_training_step(head, optimizer, features, targets, loss) -> loss value` of notebook 01.

    The step is taken a few times on a small network, with a loss that costs more above the target than below;
    losses and weights must come out as with the reference.

    Example:
        >>> def backwards(head, optimizer, features, targets, loss):
        ...     return reference_step(head, optimizer, features, targets, lambda p, t: loss(t, p))
        >>> training_step(backwards).__name__
        ✗ training_step: one step of gradient descent
        ...
          likely: the predictions come first: loss(head(features), targets)
        ...
        'reference_step'
    """
    cases = [
        Case("one step of gradient descent", (_Task(seed=0, steps=1, rate=0.05),)),
        Case("three steps of gradient descent", (_Task(seed=1, steps=3, rate=0.05),)),
        Case("four steps with momentum", (_Task(seed=2, steps=4, rate=0.02, momentum=0.9),)),
    ]
    theirs, mistakes = _steps_with(student), {s: _steps_with(f) for s, f in TRAINING_STEP_MISTAKES.items()}
    passed = run_check(
        "training_step", theirs, _steps_with(reference_step), cases, mistakes=mistakes, compare=_compare_steps
    )
    return student if passed is theirs else reference_step


def reference_step(head: nn.Module, optimizer: Optimizer, features: Tensor, targets: Tensor, loss: Callable) -> Tensor:
    """The loss of a batch, after the weights of `head` took one step downhill."""
    value = loss(head(features), targets)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@dataclass(frozen=True)
class _Task:
    """A small training to be done with a step function."""

    seed: int
    steps: int
    rate: float
    momentum: float = 0.0

    def __repr__(self) -> str:
        speed = f" and momentum {self.momentum:g}" if self.momentum else ""
        return f"a layer of 5 inputs and 4 outputs, 7 rows a batch, rate {self.rate:g}{speed}"


@dataclass(frozen=True)
class _Trained:
    """What came of a training."""

    losses: Tensor
    start: Tensor  # all weights before
    weights: Tensor  # and after
    graph: bool  # whether a loss still holds its graph

    def __repr__(self) -> str:
        losses = ", ".join(f"{value:.4f}" for value in self.losses.tolist())
        moved = float((self.weights - self.start).norm())
        return f"loss {losses}; the weights moved by {moved:.4f}"


def _lopsided(predicted: Tensor, targets: Tensor) -> Tensor:
    """A loss whose arguments cannot be exchanged: too high costs three times what too low costs."""
    d = predicted - targets
    return (torch.where(d > 0, 1.5, 0.5) * d**2).mean()


def _steps_with(step: Callable) -> Callable:
    """`run(task)` -> what a small network becomes with a step function; None where the step gives nothing back."""

    def run(task: _Task) -> _Trained | None:
        generator = torch.Generator().manual_seed(task.seed)
        head = skip_init(nn.Linear, 5, 4)
        with torch.no_grad():
            for weight in head.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        start = nn.utils.parameters_to_vector(head.parameters()).detach().clone()
        optimizer = torch.optim.SGD(head.parameters(), lr=task.rate, momentum=task.momentum)
        losses: list[Any] = []
        for _ in range(task.steps):
            features, targets = torch.randn(7, 5, generator=generator), torch.randn(7, 4, generator=generator)
            value = step(head, optimizer, features, targets, _lopsided)
            if value is None:
                return None
            losses.append(value)
        graph = any(isinstance(v, Tensor) and v.requires_grad for v in losses)
        numbers = [float(v.detach() if isinstance(v, Tensor) else v) for v in losses]
        weights = nn.utils.parameters_to_vector(head.parameters()).detach()
        return _Trained(torch.tensor(numbers), start, weights, graph)

    return run


def _compare_steps(got: _Trained, expected: _Trained) -> str | None:
    """What went otherwise, the most telling first."""
    if torch.equal(got.weights, got.start) and not torch.equal(expected.weights, expected.start):
        return "the weights did not move"
    if told := difference(got.losses[:1], expected.losses[:1], where="the first loss given back"):
        return told
    if told := difference(got.weights, expected.weights, atol=1e-4):
        return f"the weights came out otherwise: {told.removeprefix('the result differs in ')}"
    if got.graph != expected.graph:
        return "the loss still holds its graph" if got.graph else "the loss holds no graph"
    return difference(got.losses, expected.losses, atol=1e-4, where="the losses given back")


def _step(head, optimizer, features, targets, loss, *, order="zero backward step", detach=True, again=False):
    value = loss(head(features), targets)
    for action in order.split():
        {"zero": optimizer.zero_grad, "backward": value.backward, "step": optimizer.step}[action]()
    if again:
        value = loss(head(features), targets)
    return value.detach() if detach else value


def _exchanged(head, optimizer, features, targets, loss):
    return _step(head, optimizer, features, targets, lambda predicted, wanted: loss(wanted, predicted))


def _uphill(head, optimizer, features, targets, loss):
    return -_step(head, optimizer, features, targets, lambda predicted, wanted: -loss(predicted, wanted))


def _own_loss(head, optimizer, features, targets, loss):
    return _step(head, optimizer, features, targets, F.mse_loss)


def _by_hand(head, optimizer, features, targets, loss):
    """The rate times the gradient, without the optimizer's memory."""
    value = _step(head, optimizer, features, targets, loss, order="zero backward")
    with torch.no_grad():
        for weight in head.parameters():
            weight -= optimizer.param_groups[0]["lr"] * weight.grad
    return value


TRAINING_STEP_MISTAKES: dict[str, Callable] = {
    "the predictions come first: loss(head(features), targets)": _exchanged,
    "gradients add up from step to step: call optimizer.zero_grad() before backward": (
        partial(_step, order="backward step")
    ),
    "the order is optimizer.zero_grad(), then value.backward(), then optimizer.step()": (
        partial(_step, order="zero step backward")
    ),
    "give back the loss with .detach(): it holds on to the whole graph, and memory fills up": (
        partial(_step, detach=False)
    ),
    "give back the loss from before the step; a second forward pass costs as much again": partial(_step, again=True),
    "this steps uphill: the optimizer subtracts the gradient already": _uphill,
    "another loss is used than the one handed over: call `loss`": _own_loss,
    "step with optimizer.step(): only it knows the momentum": _by_hand,
    "one step a batch is enough: optimizer.step() once": partial(_step, order="zero backward step step"),
}

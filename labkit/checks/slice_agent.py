"""The checks of notebook 18, an agent that finds L3: a step, and two streams. Its walk: slice_agent_walk.py."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, uniform, whole
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.slice_agent import duelling_values, move


def slice_step(student: Callable) -> Callable:
    """Check `my_slice_step(rows (B,), actions (B,), targets (B,), height) -> (rows (B,), rewards (B,))` of notebook 18.

    Example:
        >>> slice_step(lambda *args: reference_slice_step(args[0], 1 - args[1], *args[2:])).__name__
        ✗ slice_step: one agent goes up, towards the slice
        ...
          likely: 0 is up, and up is one row less: row 0 is the top
        ...
        'reference_slice_step'
    """
    many = whole(*range(24)) % 12, (noise(24, seed=1) > 0).long(), uniform(24, seed=2) * 11
    cases = [
        Case("one agent goes up, towards the slice", (whole(7), whole(0), floats(3.2), 12)),
        Case("one agent goes down, away from it", (whole(7), whole(1), floats(3.2), 12)),
        Case("one agent goes down, towards the slice", (whole(2), whole(1), floats(8.7), 12)),
        Case("it steps over the slice and is nearer", (whole(4), whole(1), floats(4.8), 12)),
        Case("it steps over the slice and is farther away", (whole(4), whole(1), floats(4.3), 12)),
        Case("it steps over the slice and is nearer by less than half a row", (whole(4), whole(1), floats(4.7), 12)),
        Case("it steps over the slice and is nearer by a hundredth", (whole(4), whole(1), floats(4.505), 12)),
        Case("it leaves the row of the slice", (whole(6), whole(0), floats(6), 12)),
        Case("it comes to the row of the slice", (whole(5), whole(1), floats(6), 12)),
        Case("as far as before on the other side: not nearer", (whole(5), whole(1), floats(5.5), 12)),
        Case("up at the first row: it stays, and is not nearer", (whole(0), whole(0), floats(4.1), 12)),
        Case("down at the last row: it stays, and is not nearer", (whole(11), whole(1), floats(4.1), 12)),
        Case("the slice is on the first row", (whole(1), whole(0), floats(0), 12)),
        Case("the slice is on the last row", (whole(10), whole(1), floats(11), 12)),
        Case("another height, and the last row is another too", (whole(4, 4, 0), whole(1, 0, 0), floats(3, 3, 3), 5)),
        Case("no agents", (whole(), whole(), floats(), 12)),
        Case("24 agents", (*many, 12)),
    ]
    return run_check("slice_step", student, reference_slice_step, cases, mistakes=SLICE_STEP_MISTAKES)


def reference_slice_step(rows: Tensor, actions: Tensor, targets: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """`labkit.detection.slice_agent.move`."""
    return move(rows, actions, targets, height)


def _step(
    rows: Tensor,
    actions: Tensor,
    targets: Tensor,
    height: int,
    *,
    by: Callable = lambda actions: 2 * actions - 1,
    stay: Callable = lambda after, height: after.clamp(0, height - 1),
    earn: Callable = lambda before, now: torch.where(now < before, 1.0, -1.0),
    distance: Callable = lambda rows, targets: (rows - targets).abs(),
) -> tuple[Tensor, Tensor]:
    """The step with room for the usual slips."""
    after = stay(rows + by(actions), height)
    return after, earn(distance(rows, targets), distance(after, targets))


def _by_direction(rows: Tensor, actions: Tensor, targets: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """A reward for each step that goes the right way."""
    right_way = (targets - rows) * (2 * actions - 1) > 0
    return _step(rows, actions, targets, height)[0], torch.where(right_way, 1.0, -1.0)


def _nothing_at_the_edge(rows: Tensor, actions: Tensor, targets: Tensor, height: int) -> tuple[Tensor, Tensor]:
    after, rewards = _step(rows, actions, targets, height)
    return after, torch.where(after == rows, 0.0, rewards)


def _one_action_for_all(rows: Tensor, actions: Tensor, targets: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """`if` asks a batch of actions for one answer."""
    return _step(rows, actions, targets, height, by=lambda actions: -1 if actions == 0 else 1)


def _with(**slip) -> Callable:
    return lambda rows, actions, targets, height: _step(rows, actions, targets, height, **slip)


SLICE_STEP_MISTAKES: dict[str, Callable] = {
    "0 is up, and up is one row less: row 0 is the top": _with(by=lambda actions: 1 - 2 * actions),
    "0 is up, not stay: the row falls by one": _with(by=lambda actions: actions),
    "1 is down, not stay: the row grows by one": _with(by=lambda actions: actions - 1),
    "a step is one row, not two": _with(by=lambda actions: 4 * actions - 2),
    "who goes beyond the edge stays at it: clamp the rows": _with(stay=lambda after, height: after),
    "the last row is height - 1": _with(stay=lambda after, height: after.clamp(0, height)),
    "the first row is 0: clamp on that side, too": _with(stay=lambda after, height: after.clamp(max=height - 1)),
    "the first row is 0, not 1": _with(stay=lambda after, height: after.clamp(1, height - 1)),
    "rows run from 0 to height - 1, not from 1 to height": _with(stay=lambda after, height: after.clamp(1, height)),
    "the last row is height - 1, not the lowest row of the batch": (
        lambda rows, actions, targets, height: _step(rows, actions, targets, int(rows.amax()) + 1)
    ),
    "each agent has an action of its own: torch.where, not if": _one_action_for_all,
    "who stays at the edge comes no nearer: -1, not 0": _nothing_at_the_edge,
    "compare the distance after the step with that before: a step the right way may go too far": _by_direction,
    "nearer by a little is nearer: no margin": _with(
        earn=lambda before, now: torch.where(now + 0.5 < before, 1.0, -1.0)
    ),
    "+1 is for coming nearer, not for being within a row": (
        _with(earn=lambda before, now: torch.where(now < 1, 1.0, -1.0))
    ),
    "a distance is the difference of two rows, not of their squares": (
        _with(distance=lambda rows, targets: (rows**2 - targets**2).abs())
    ),
    "who goes beyond the edge stays at it, and does not come back on the other side": (
        _with(stay=lambda after, height: after % height)
    ),
    "the sign is the wrong way round: +1 is for coming nearer": (
        _with(earn=lambda before, now: torch.where(now < before, -1.0, 1.0))
    ),
    "who comes no nearer gets -1, also where the distance stays the same; sign() gives 0 there": (
        _with(earn=lambda before, now: torch.sign(before - now))
    ),
    "who comes no nearer gets -1, also where the distance stays the same": (
        _with(earn=lambda before, now: torch.where(now <= before, 1.0, -1.0))
    ),
    "the reward is +1 or -1, not the rows that were gained": _with(earn=lambda before, now: before - now),
    "a step that brings it no nearer costs 1; it is not for nothing": (
        _with(earn=lambda before, now: (now < before).float())
    ),
    "the reward is for coming nearer, not for arriving": (
        _with(earn=lambda before, now: torch.where(now < 0.5, 1.0, -1.0))
    ),
    "a distance has no sign: abs()": _with(distance=lambda rows, targets: rows - targets),
    "the target lies between two rows: do not round it": (
        _with(distance=lambda rows, targets: (rows - targets.round()).abs())
    ),
    "the target lies between two rows: do not cut it off": (
        _with(distance=lambda rows, targets: (rows - targets.long()).abs())
    ),
    "the rewards come second: rows first": lambda *args: _step(*args)[::-1],
    "one reward for each agent, not their sum": (
        _with(earn=lambda before, now: torch.where(now < before, 1.0, -1.0).sum().expand(len(now)))
    ),
    "actions and rows are exchanged: rows come first": (
        lambda rows, actions, targets, height: _step(actions, rows, targets, height)
    ),
}


def duelling(student: Callable) -> Callable:
    """Check `my_duelling(value (B, 1), advantage (B, A)) -> (B, A)` of notebook 18.

    Example:
        >>> duelling(lambda value, advantage: value + advantage).__name__
        ✗ duelling: one state, two actions
        ...
          likely: the mean of the advantages is taken off: without it value and advantage cannot be told apart
        ...
        'reference_duelling'
    """

    def case(states: int, actions: int, seed: int) -> tuple[Tensor, Tensor]:
        return 2 * noise(states, 1, seed=seed), noise(states, actions, seed=seed + 1)

    cases = [
        Case("one state, two actions", (floats(5)[None], floats(3, 1)[None])),
        Case("all actions alike: each is worth what the state is", (floats(-2)[None], floats(4, 4, 4)[None])),
        Case("one state, three actions", case(1, 3, 10)),
        Case("3 states, two actions", case(3, 2, 20)),
        Case("as many states as actions", case(2, 2, 30)),
        Case("as many states as actions, three", case(3, 3, 40)),
        Case("advantages a hundred times as large as values", (0.01 * noise(2, 1, seed=5), 100 * noise(2, 4, seed=6))),
        Case("one action", case(4, 1, 50)),
        Case("no states", (torch.zeros(0, 1), torch.zeros(0, 2))),
        GradientCase("4 states, and the gradient of both streams: they are trained with it", case(4, 3, 60), of=(0, 1)),
        Case("7 states, five actions", case(7, 5, 70)),
    ]
    return run_check("duelling", student, reference_duelling, cases, mistakes=DUELLING_MISTAKES, atol=1e-4)


def reference_duelling(value: Tensor, advantage: Tensor) -> Tensor:
    """`labkit.detection.slice_agent.duelling_values`."""
    return duelling_values(value, advantage)


def _value_not_trained(value: Tensor, advantage: Tensor) -> Tensor:
    return value.detach() + advantage - advantage.mean(dim=1, keepdim=True)


DUELLING_MISTAKES: dict[str, Callable] = {
    "the mean of the advantages is taken off: without it value and advantage cannot be told apart": (
        lambda value, advantage: value + advantage
    ),
    "take off the mean over the actions, not over the states": (
        lambda value, advantage: value + advantage - advantage.mean(dim=0, keepdim=True)
    ),
    "each state has a mean of its own; this is one for the whole batch": (
        lambda value, advantage: value + advantage - advantage.mean()
    ),
    "the mean keeps its axis, keepdim=True: else it is taken off along the states": (
        lambda value, advantage: value + advantage - advantage.mean(dim=1)
    ),
    "take off the mean, not the largest advantage": (
        lambda value, advantage: value + advantage - advantage.amax(dim=1, keepdim=True)
    ),
    "take off the mean, not the sum": (lambda value, advantage: value + advantage - advantage.sum(dim=1, keepdim=True)),
    "take off the mean, not the median": (
        lambda value, advantage: value + advantage - advantage.median(dim=1, keepdim=True).values
    ),
    "divide the sum by the number of actions, not by 2": (
        lambda value, advantage: value + advantage - advantage.sum(dim=1, keepdim=True) / 2
    ),
    "divide the sum by the number of actions, not of states": (
        lambda value, advantage: value + advantage - advantage.sum(dim=1, keepdim=True) / len(advantage)
    ),
    "the mean is over all actions, the one itself as well": (
        lambda value, advantage: (
            value + advantage - (advantage.sum(dim=1, keepdim=True) - advantage) / (advantage.shape[1] - 1)
        )
    ),
    "the mean has a sign: no abs()": (
        lambda value, advantage: value + advantage - advantage.abs().mean(dim=1, keepdim=True)
    ),
    "the advantage is added, not taken off": (
        lambda value, advantage: value - advantage - advantage.mean(dim=1, keepdim=True)
    ),
    "nothing is taken off the value: only the advantages lose their mean": (
        lambda value, advantage: value - value.mean() + advantage - advantage.mean(dim=1, keepdim=True)
    ),
    "each state has a value of its own, not that of the first": (
        lambda value, advantage: value[:1] + advantage - advantage.mean(dim=1, keepdim=True)
    ),
    "an advantage is no probability: no softmax, take off the mean": (
        lambda value, advantage: value + advantage.softmax(dim=1)
    ),
    "the mean is taken off, not added": (
        lambda value, advantage: value + advantage + advantage.mean(dim=1, keepdim=True)
    ),
    "the value of the state is missing": lambda value, advantage: advantage - advantage.mean(dim=1, keepdim=True),
    "the value is added, not taken off": (
        lambda value, advantage: advantage - advantage.mean(dim=1, keepdim=True) - value
    ),
    "the value is added; it does not multiply": (
        lambda value, advantage: value * (advantage - advantage.mean(dim=1, keepdim=True))
    ),
    "each state has a value of its own, not the mean of the batch": (
        lambda value, advantage: value.mean() + advantage - advantage.mean(dim=1, keepdim=True)
    ),
    "the advantages are not divided by their spread": (
        lambda value, advantage: (
            value
            + (advantage - advantage.mean(1, keepdim=True)) / (advantage.std(1, keepdim=True, correction=0) + 1e-5)
        )
    ),
    "the advantages are not divided by their spread, the standard deviation": (
        lambda value, advantage: (
            value + (advantage - advantage.mean(1, keepdim=True)) / (advantage.std(1, keepdim=True) + 1e-6)
        )
    ),
    "advantages may be below 0: no softmax over the actions": (
        lambda value, advantage: value + advantage.softmax(dim=1) - 1 / max(advantage.shape[1], 1)
    ),
    "the mean belongs to the gradient, too: no detach()": (
        lambda value, advantage: value + advantage - advantage.mean(dim=1, keepdim=True).detach()
    ),
    "the value is trained, too: no detach()": _value_not_trained,
    NO_GRADIENT: without_gradient(reference_duelling),
}

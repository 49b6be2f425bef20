"""Checks of notebook 18."""

import pytest
import torch

from labkit import checks
from labkit.checks import slice_agent as subject
from labkit.checks import slice_agent_walk


def step_by_step(rows, actions, targets, height):
    """Every agent by itself, in Python's numbers."""
    after, rewards = [], []
    for row, action, target in zip(rows.tolist(), actions.tolist(), targets.tolist(), strict=True):
        new = min(height - 1, row + 1) if action == 1 else max(0, row - 1)
        after.append(new)
        rewards.append(1.0 if abs(new - target) < abs(row - target) else -1.0)
    return torch.tensor(after, dtype=torch.int64), torch.tensor(rewards, dtype=torch.float32)


def step_by_signs(rows, actions, targets, height):
    after = torch.where(actions == 0, rows - 1, rows + 1)
    after = torch.minimum(torch.maximum(after, torch.zeros_like(after)), torch.full_like(after, height - 1))
    gained = torch.abs(rows - targets) - torch.abs(after - targets)
    return after, 2.0 * (gained > 0).float() - 1.0


def join_in_two_lines(value, advantage):
    centred = advantage - advantage.mean(-1)[:, None]
    return value.expand_as(advantage) + centred


def join_with_a_sum(value, advantage):
    count = advantage.size(1)
    return value - advantage.sum(1, keepdim=True) / count + advantage


def end_by_rows_seen(path, values):
    """A row seen before: on a walk of single steps that is the same."""
    if path[-1] not in path[:-1]:
        return False, path[-1]
    two = sorted(zip(values[-2:], path[-2:], strict=True))
    return True, two[0][1]


def end_by_slices(path, values):
    if len(path) == 1:
        return (False, path[0])
    before, now = path[-2:]
    if before == now:
        return (True, now)
    turned = path[-3:][0] == now and len(path) >= 3
    return (turned, now if not turned or values[-2] > values[-1] else before)


RIGHT = [
    (checks.slice_step, step_by_step),
    (checks.slice_step, step_by_signs),
    (checks.duelling, join_in_two_lines),
    (checks.duelling, join_with_a_sum),
    (checks.walk_end, end_by_rows_seen),
    (checks.walk_end, end_by_slices),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_examples_by_hand_are_right():
    rows, rewards = subject.reference_slice_step(
        torch.tensor([7, 0]), torch.tensor([0, 0]), torch.tensor([3.2, 4.1]), 12
    )
    assert (rows.tolist(), rewards.tolist()) == ([6, 0], [1, -1])
    assert subject.reference_duelling(torch.tensor([[5.0]]), torch.tensor([[3.0, 1.0]])).tolist() == [[6, 4]]
    assert slice_agent_walk.reference_walk_end([7, 6, 7], [2.5, 0.5, 2.5]) == (True, 6)
    assert slice_agent_walk.reference_walk_end([7, 6, 5], [2.5, 2.0, 1.0]) == (False, 5)


def test_a_sign_of_zero_is_met_where_nothing_is_gained(message_of):
    def by_sign(rows, actions, targets, height):
        after = (rows + 2 * actions - 1).clamp(0, height - 1)
        return after, torch.sign((rows - targets).abs() - (after - targets).abs())

    told = message_of(checks.slice_step, by_sign)
    assert "not nearer" in told.splitlines()[0]
    assert "sign() gives 0 there" in told


def test_a_mean_over_the_states_is_met_by_a_batch(message_of):
    told = message_of(checks.duelling, lambda value, advantage: value + advantage - advantage.mean(dim=0))
    assert "likely: take off the mean over the actions, not over the states" in told


def test_an_edge_that_is_forgotten_is_met(message_of):
    def forgets(path, values):
        if len(path) > 2 and path[-1] == path[-3]:
            return True, path[-1] if values[-1] < values[-2] else path[-2]
        return False, path[-1]

    told = message_of(checks.walk_end, forgets)
    assert "bumps against the top" in told.splitlines()[0]
    assert "likely: who bumps against the edge of the image has ended, too" in told


@pytest.mark.parametrize(
    "mistakes", [subject.SLICE_STEP_MISTAKES, subject.DUELLING_MISTAKES, slice_agent_walk.WALK_END_MISTAKES]
)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

"""Checks of notebook 17."""

import pytest
import torch

from labkit import checks
from labkit.checks import organ_agent as subject
from labkit.checks import organ_agent_learning
from labkit.detection.boxes_3d import box_iou_3d


def moves_by_walls(box, action, volume_size, step):
    """Wall by wall, in Python's numbers."""
    limit = list(volume_size)[::-1]
    walls = box.tolist()
    sides = [walls[i + 3] - walls[i] for i in range(3)]
    if action < 6:
        i, way = action // 2, step * sides[action // 2]
        way = min(way, limit[i] - walls[i + 3]) if action % 2 else -min(way, walls[i])
        walls[i], walls[i + 3] = walls[i] + way, walls[i + 3] + way
    elif action == 7:
        for i in range(3):
            more = (sides[i] / (1 - step) - sides[i]) / 2
            walls[i], walls[i + 3] = max(0.0, walls[i] - more), min(limit[i], walls[i + 3] + more)
    else:
        axes = range(3) if action == 6 else [action - 8]
        if all(sides[i] * (1 - step) >= 2 for i in axes):
            for i in axes:
                walls[i], walls[i + 3] = walls[i] + step * sides[i] / 2, walls[i + 3] - step * sides[i] / 2
    return torch.tensor(walls, device=box.device)


def moves_by_middles(box, action, volume_size, step):
    """Middle and side, and a clamp of the middle."""
    limit = torch.tensor(volume_size, dtype=box.dtype, device=box.device).flip(0)
    middle, side = (box[:3] + box[3:]) / 2, box[3:] - box[:3]
    unit = torch.eye(3, dtype=box.dtype, device=box.device)
    if action < 6:
        middle = middle + (1, -1)[action % 2 == 0] * step * side * unit[action // 2]
        middle = torch.maximum(torch.minimum(middle, limit - side / 2), side / 2)
        return torch.cat([middle - side / 2, middle + side / 2])
    if action == 7:
        half = side / (2 - 2 * step)
        return torch.cat([(middle - half).clamp(min=0), torch.minimum(middle + half, limit)])
    mask = torch.ones(3, dtype=box.dtype, device=box.device) if action == 6 else unit[action - 8]
    smaller = side * (1 - step * mask)
    if smaller[mask > 0].min() < 2:
        return box.clone()
    return torch.cat([middle - smaller / 2, middle + smaller / 2])


def reward_by_package(box, next_box, truth):
    before, after = (float(box_iou_3d(b[None], truth[None])) for b in (box, next_box))
    return 0 if abs(after - before) < 1e-6 else 1 if after > before else -1


def reward_of_tensors(box, next_box, truth):
    """In float64, a tensor of one number."""
    boxes, truth = torch.stack([box, next_box]).double(), truth.double()
    sides = (torch.minimum(boxes[:, 3:], truth[3:]) - torch.maximum(boxes[:, :3], truth[:3])).clamp(min=0)
    common = sides.prod(dim=1)
    iou = common / ((boxes[:, 3:] - boxes[:, :3]).prod(dim=1) + (truth[3:] - truth[:3]).prod() - common)
    change = iou[1] - iou[0]
    return torch.sign(change) * (change.abs() > 1e-6)


def target_step_by_step(rewards, ended, next_q, discount):
    values = []
    for reward, end, row in zip(rewards.tolist(), ended.tolist(), next_q.tolist(), strict=True):
        values.append(reward if end else reward + discount * max(row))
    return torch.tensor(values, device=rewards.device)


def target_with_where(rewards, ended, next_q, discount):
    with torch.no_grad():
        return torch.where(ended, rewards, rewards + discount * next_q.amax(dim=1))


RIGHT = [
    (checks.apply_action, moves_by_walls),
    (checks.apply_action, moves_by_middles),
    (checks.reward, reward_by_package),
    (checks.reward, reward_of_tensors),
    (checks.td_target, target_step_by_step),
    (checks.td_target, target_with_where),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_examples_by_hand_are_right():
    box = torch.tensor([10.0, 10, 10, 30, 20, 20])
    assert subject.reference_apply_action(box, 1, (64, 96, 128), 0.1).tolist() == [12, 10, 10, 32, 20, 20]
    truth = torch.tensor([0.0, 0, 0, 4, 4, 4])
    assert organ_agent_learning.reference_reward(truth + 2, truth + 1, truth) == 1
    target = organ_agent_learning.reference_td_target(
        torch.tensor([1.0, -1]), torch.tensor([False, True]), torch.tensor([[0.5, 2], [3, 0]]), 0.9
    )
    assert target.tolist() == pytest.approx([2.8, -1])


def test_a_box_squashed_at_the_border_is_named(message_of):
    def squashes(box, action, volume_size, step):
        moved = subject._moved(box, action, volume_size, step, shifted=lambda box, low, high, limit: (low, high))
        limit = torch.tensor(list(volume_size)[::-1])
        return torch.cat([moved[:3].clamp(min=0), torch.minimum(moved[3:], limit)])

    told = message_of(checks.apply_action, squashes)
    assert "as long as before" in told.splitlines()[0]
    assert "likely: a box that is shifted against the border is not cut off" in told


def test_sizes_read_in_the_wrong_order_are_named(message_of):
    def turned(box, action, volume_size, step):
        return subject.reference_apply_action(box, action, list(volume_size)[::-1], step)

    assert "likely: volume_size is (Z, Y, X)" in message_of(checks.apply_action, turned)


def test_a_reward_made_of_rounding_is_named(message_of):
    def rounds(box, next_box, truth):
        before, after = (float(organ_agent_learning._iou32(b, truth)) for b in (box, next_box))
        return float((after > before) - (after < before))

    told = message_of(checks.reward, rounds)
    assert "only rounding differs" in told.splitlines()[0] or "other way round" in told.splitlines()[0]
    assert "likely: changes below 1e-6 are rounding" in told


def test_a_reward_as_large_as_the_change_is_named(message_of):
    def change(box, next_box, truth):
        after, before = (box_iou_3d(b[None], truth[None]) for b in (next_box, box))
        return float(after - before)

    assert "likely: only the sign of the change counts, not the change" in message_of(checks.reward, change)


def test_a_target_with_a_gradient_is_refused(message_of):
    def follows(rewards, ended, next_q, discount):
        return rewards + discount * next_q.max(dim=1).values * ~ended

    told = message_of(checks.td_target, follows)
    assert "must not" in told.splitlines()[0]
    assert "likely: the target must carry no gradient" in told


def test_a_table_of_all_with_all_is_named(message_of):
    def table(rewards, ended, next_q, discount):
        return rewards + discount * next_q.detach().max(dim=1, keepdim=True).values * ~ended

    assert "without keepdim" in message_of(checks.td_target, table)


MISTAKES = [
    subject.APPLY_ACTION_MISTAKES,
    organ_agent_learning.REWARD_MISTAKES,
    organ_agent_learning.TD_TARGET_MISTAKES,
]


@pytest.mark.parametrize("mistakes", MISTAKES)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

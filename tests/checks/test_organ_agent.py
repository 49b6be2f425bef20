"""Checks of notebook 17."""

import pytest
import torch

from labkit import checks
from labkit.checks import organ_agent as subject
from labkit.checks import organ_agent_learning, organ_agent_moves
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
        moved = organ_agent_moves._moved(
            box, action, volume_size, step, shifted=lambda box, low, high, limit: (low, high)
        )
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


def moves_with(*, size=None, shift_size=None, way=None, refuse=None, narrower=None):
    """A move as a student writes it, axis by axis, with room for one slip."""

    def my_apply_action(box, action, volume_size, step):
        end = (size or (lambda volume: list(volume)[::-1]))(volume_size)
        border = (shift_size or (lambda volume: end))(volume_size)
        b = box.clone()
        low, high = b[:3].clone(), b[3:].clone()
        side, middle = high - low, (low + high) / 2
        if action < 6:
            k, sign = action // 2, 1 if action % 2 else -1
            if refuse and refuse(side, [], step):
                return b
            d = sign * (way(step, side[k]) if way else step * side[k])
            d = max(-float(low[k]), min(float(d), float(border[k] - high[k])))
            b[k] += d
            b[k + 3] += d
        elif action == 7:
            for k in range(3):
                b[k] = max(0, middle[k] - side[k] / (1 - step) / 2)
                b[k + 3] = min(float(end[k]), middle[k] + side[k] / (1 - step) / 2)
        else:
            axes = [0, 1, 2] if action == 6 else [action - 8]
            if (refuse or (lambda side, axes, step: any(side[k] * (1 - step) < 2 for k in axes)))(side, axes, step):
                return b
            for k in axes:
                b[k], b[k + 3] = (narrower if narrower and action > 7 else shrunk)(middle[k], side[k], step)
        return b

    return my_apply_action


def shrunk(middle, side, step):
    return middle - side * (1 - step) / 2, middle + side * (1 - step) / 2


def thin(side, axes, step):
    """The usual rule, and shifts are refused as well."""
    return (side < 2).any() if not axes else any(side[k] * (1 - step) < 2 for k in axes)


MOVES: dict[str, tuple[dict, str, str]] = {  # a slip, the case that meets it, its cause
    "at least one voxel": ({"way": lambda step, side: max(1.0, step * side)}, "a side of 4", "not at least 1 voxel"),
    "exactly 2 refused": (
        {"refuse": lambda side, axes, step: any(side[k] * (1 - step) <= 2 for k in axes)},
        "2 voxels are allowed",
        "exactly 2 voxels is allowed",
    ),
    "0.9 in the rule": (
        {"refuse": lambda side, axes, step: any(side[k] * 0.9 < 2 for k in axes)},
        "1.75 are not",
        "not side * 0.9",
    ),
    "a thin box is not shifted": ({"refuse": thin}, "shifted along x: it may", "a shift shortens no side"),
    "all sides": (
        {"refuse": lambda side, axes, step: bool(axes) and (side * (1 - step) < 2).any()},
        "thin along z, narrower along x",
        "only the sides that this move shrinks",
    ),
    "all()": (
        {"refuse": lambda side, axes, step: bool(axes) and all(side[k] * (1 - step) < 2 for k in axes)},
        "no side below 2",
        "any, not all",
    ),
    "zoom in alone": (
        {"refuse": lambda side, axes, step: len(axes) == 3 and (side * (1 - step) < 2).any()},
        "narrower along z, it stays",
        "narrower has to keep 2 voxels, too",
    ),
    "size not turned": ({"size": list}, "room", "volume_size is (Z, Y, X) and a box x y z"),
    "size not turned, shift alone": ({"shift_size": list}, "room", "also where a shift meets the border"),
    "size not turned, clip alone": (
        {"size": list, "shift_size": lambda volume: list(volume)[::-1]},
        "zoom out",
        "also where zooming out is cut off",
    ),
    "the side before": (
        {"refuse": lambda side, axes, step: any(side[k] < 2 for k in axes)},
        "zooming in, the box stays",
        "the side AFTER the move",
    ),
    "narrower alone": (
        {"refuse": lambda side, axes, step: len(axes) == 1 and any(side[k] * (1 - step) < 2 for k in axes)},
        "zooming in, the box stays",
        "zoom in has to keep 2 voxels, too",
    ),
    "size - 1": ({"size": lambda volume: [v - 1 for v in volume[::-1]]}, "room", "not at size - 1"),
    "narrower from one end": (
        {"narrower": lambda middle, side, step: (middle - side / 2, middle - side / 2 + side * (1 - step))},
        "narrower along x",
        "here the first corner stays",
    ),
}


def test_a_move_without_a_slip_is_accepted(strict):
    right = moves_with()
    assert checks.apply_action(right) is right


@pytest.mark.parametrize("name", MOVES)
def test_a_usual_slip_of_a_move_is_met_and_named(message_of, name):
    slip, case, cause = MOVES[name]
    told = message_of(checks.apply_action, moves_with(**slip))
    assert case in told.splitlines()[0], told
    assert cause in told.partition("likely: ")[2], told


def by_change(rule):
    def my_reward(box, next_box, truth):
        before, after = (float(box_iou_3d(b[None], truth[None])) for b in (box, next_box))
        return rule(after - before, after)

    return my_reward


def sign_above(limit):
    return by_change(lambda change, after: 0 if abs(change) < limit else 1 if change > 0 else -1)


REWARDS = {
    "1e-3": (sign_above(1e-3), "only changes below 1e-6 count as none"),
    "1e-4": (sign_above(1e-4), "only changes below 1e-6 count as none"),
    "1e-5": (sign_above(1e-5), "only changes below 1e-6 count as none"),
    "1e-7": (sign_above(1e-7), "here the limit is smaller"),
    "1e6": (sign_above(1e6), "1e6 is a million"),
    "int": (by_change(lambda change, after: int(change)), "this is 0 always"),
    "good already": (
        by_change(lambda change, after: 1 if after > 0.85 else (change > 1e-6) - (change < -1e-6)),
        "a box that is good already can get worse",
    ),
}


@pytest.mark.parametrize("name", REWARDS)
def test_a_usual_slip_of_a_reward_is_met_and_named(message_of, name):
    wrong, cause = REWARDS[name]
    told = message_of(checks.reward, wrong)
    assert cause in told.partition("likely: ")[2], told


def test_isclose_is_no_tolerance_of_a_millionth(message_of):
    def close(box, next_box, truth):
        before, after = (box_iou_3d(b[None], truth[None])[0, 0] for b in (box, next_box))
        return 0 if torch.isclose(before, after) else 1 if after > before else -1

    assert "four millionths" in message_of(checks.reward, close).splitlines()[0]


def test_a_reward_without_a_return_for_no_change_is_told_which(message_of):
    wrong = by_change(lambda change, after: 1 if change > 1e-6 else -1 if change < -1e-6 else None)
    told = message_of(checks.reward, wrong)
    assert told.splitlines()[0].endswith("has not moved: 0")
    assert "gave None back" in told


def test_rewards_that_are_clamped_are_named(message_of):
    def clamps(rewards, ended, next_q, discount):
        return rewards.clamp(-1, 1) + discount * next_q.detach().amax(dim=1) * ~ended

    told = message_of(checks.td_target, clamps)
    assert "rewards of 2 and -3" in told.splitlines()[0]
    assert "no clamp" in told


def test_next_q_keeps_its_gradient(message_of):
    def switches_it_off(rewards, ended, next_q, discount):
        next_q.requires_grad_(False)
        return rewards + discount * next_q.amax(dim=1) * ~ended

    told = message_of(checks.td_target, switches_it_off)
    assert "still has its gradient" in told.splitlines()[0]
    assert "changed its arguments in place" in told


@pytest.mark.parametrize("goes_on", [lambda ended: 1 - ended, lambda ended: -ended])
def test_a_minus_before_a_bool_is_explained(message_of, goes_on):
    told = message_of(checks.td_target, lambda r, ended, q, discount: r + discount * q.amax(dim=1) * goes_on(ended))
    assert "`~ended` is true where the walk goes on" in told


MISTAKES = [
    organ_agent_moves.APPLY_ACTION_MISTAKES,
    organ_agent_learning.REWARD_MISTAKES,
    organ_agent_learning.TD_TARGET_MISTAKES,
]


@pytest.mark.parametrize("mistakes", MISTAKES)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

"""The checks of notebook 17 on learning: the reward of a move, and the target of a value."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.checks.cases import HintCase, difference
from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import flags, floats, noise
from labkit.detection import organ_agent, q_learning
from labkit.detection.boxes_3d import box_iou_3d

SAME = organ_agent.SAME


def reward(student: Callable) -> Callable:
    """Check `my_reward(box (6,), next_box (6,), truth (6,)) -> 1, 0 or -1` of notebook 17.

    Example:
        >>> reward(lambda box, next_box, truth: reference_reward(next_box, box, truth)).__name__
        ✗ reward: a step towards the organ
          the result is -1, expected 1
        ...
          likely: the move is good where the IoU AFTER it is larger: after - before
        ...
        'reference_reward'
    """
    organ = floats(20, 30, 10, 40, 42, 26)  # 20 x 12 x 16

    def moved(x: float, y: float, z: float, grow: float = 0.0) -> Tensor:
        shift = floats(x, y, z)
        return torch.cat([organ[:3] + shift - grow, organ[3:] + shift + grow])

    slid = [  # the organ stays inside, the IoU the same but for rounding
        (floats(11.4, 26.2, 5, 48.3, 43.3, 35), floats(11.2, 26.3, 5.1, 48.1, 43.4, 35.1)),
        (floats(13.7, 27, 2.4, 47.6, 45.3, 31.3), floats(13.3, 27.1, 2.3, 47.2, 45.4, 31.2)),
    ]
    cases = [
        Case("a step towards the organ", (moved(8, 0, 0), moved(6, 0, 0), organ)),
        Case("a step away from it", (moved(0, 3, 0), moved(0, 5, 0), organ)),
        Case("away along z", (moved(0, 0, 2), moved(0, 0, 4), organ)),
        Case("the box at the border has not moved: 0", (moved(5, 2, 1), moved(5, 2, 1), organ)),
        Case("no overlap before and after, although it comes nearer", (moved(60, 0, 0), moved(40, 0, 0), organ)),
        Case("nearer, half a voxel apart before, a quarter after", (moved(20.5, 0, 0), moved(20.25, 0, 0), organ)),
        Case("the first overlap", (moved(21, 0, 0), moved(19, 0, 0), organ)),
        Case("the last overlap is lost", (moved(0, 0, 15), moved(0, 0, 17), organ)),
        Case("a tight box grows over the whole organ, and too far", (moved(0, 0, 0, -1), moved(0, 0, 0, 4), organ)),
        Case("a box around the organ gets smaller", (moved(0, 0, 0, 6), moved(0, 0, 0, 5), organ)),
        Case("a box inside the organ gets smaller", (moved(0, 0, 0, -2), moved(0, 0, 0, -3), organ)),
        Case("a wide box loses a slice of the organ, and gains", (moved(0, 0, 0, 10), moved(1, 0, 0, 0.5), organ)),
        Case("a box slides while the organ stays inside", (moved(2, 1, 0, 8), moved(-2, 0, 1, 8), organ)),
        Case("it slides by fractions of voxels: only rounding differs", (*slid[0], organ)),
        Case("the same the other way round", (slid[0][1], slid[0][0], organ)),
        Case("another box slides, the organ stays inside", (*slid[1], organ)),
        Case("a gain of a thousandth", (moved(5, 0, 0), moved(4.98, 0, 0), organ)),
        Case("a loss of a thousandth", (moved(5, 0, 0), moved(5.02, 0, 0), organ)),
        Case("a gain of four millionths is a gain", (moved(5, 0, 0), moved(5 - 2**-14, 0, 0), organ)),
        Case("a gain of half a millionth counts as none", (moved(5, 0, 0), moved(5 - 2**-17, 0, 0), organ)),
        Case("1.4 voxels away before, 0.6 after", (moved(1.4, 0, 0), moved(0.6, 0, 0), organ)),
        Case("from an IoU of 0.95 to 0.90", (moved(0.5, 0, 0), moved(1, 0, 0), organ)),
        Case("nearer with its middle, and worse", (moved(4, 0, 0), moved(0, 0, 0, 6), organ)),
        Case("farther with its middle and its walls, and better", (moved(0, 4, 0), moved(5, 0, 0), organ)),
        Case("good already, and better", (moved(1, 0, 0), moved(0.5, 0, 0), organ)),
        Case("x gains more than z loses", (moved(12, 0, 1), moved(4, 0, 2), organ)),
        Case("z loses more than x gains", (moved(4, 0, 0), moved(3, 0, 9), organ)),
    ]
    return run_check("reward", student, reference_reward, cases, mistakes=REWARD_MISTAKES)


def td_target(student: Callable) -> Callable:
    """Check `my_td_target(rewards (B,), ended (B,), next_q (B, A), discount) -> (B,)` of notebook 17.

    Example:
        >>> td_target(lambda rewards, ended, next_q, discount: rewards + discount * next_q.max(dim=1).values).__name__
        ✗ td_target: the walk has ended: the reward alone
        ...
          likely: after an end nothing comes: its value is 0, and the reward is all
        ...
        'reference_td_target'
    """

    def case(count: int, actions: int, ended: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        return noise(count, seed=seed).sign(), flags(ended), 2 * noise(count, actions, seed=seed + 1)

    asked, with_slope = noise(3, 4, seed=9).requires_grad_(), case(3, 4, "-+-", 7)[:2]
    cases = [
        HintCase("one step, two actions", (floats(1), flags("-"), floats(0.5, 2)[None], 0.5), hints=HINTS),
        Case("the walk has ended: the reward alone", (floats(-1), flags("+"), floats(0.5, 2)[None], 0.5)),
        Case("all values are negative", (floats(1), flags("-"), floats(-0.5, -2, -1)[None], 0.9)),
        Case("the largest is not the one farthest from 0", (floats(0), flags("-"), floats(0.5, -3, 1)[None], 0.9)),
        Case("no discount: a reward later counts as much", (floats(-1), flags("-"), floats(0.25, 4, 3)[None], 1.0)),
        Case("a discount of 0: only the reward counts", (floats(-1), flags("-"), floats(3, 4)[None], 0.0)),
        Case("two steps", (floats(1, -1), flags("--"), torch.tensor([[1.0, 3, 2], [0, -1, 5]]), 0.5)),
        Case("two steps, the first has ended", (floats(1, -1), flags("+-"), torch.tensor([[1.0, 7], [4, 3]]), 0.8)),
        Case("three steps, three actions", (*case(3, 3, "-+-", 1), 0.9)),
        Case("as many steps as actions, none ended", (*case(4, 4, "----", 3), 0.7)),
        Case("all have ended", (*case(3, 5, "+++", 5), 0.9)),
        Case("rewards of 2 and -3", (floats(2, -3), flags("-+"), torch.tensor([[1.0, 3], [4, 2]]), 0.5)),
        Case("the network's values carry a gradient: the target must not", (*with_slope, asked, 0.9)),
        HintCase("and next_q still has its gradient: use .detach()", (*with_slope, asked, 0.9), keeps=True),
        Case("7 steps, 11 actions", (*case(7, 11, "-+---+-", 11), 0.85)),
    ]
    return run_check("td_target", student, reference_td_target, cases, mistakes=TD_TARGET_MISTAKES, compare=_compare)


HINTS = {"bool tensor": "`ended` is bool, and bools have no minus: `~ended` is true where the walk goes on"}


def reference_reward(box: Tensor, next_box: Tensor, truth: Tensor) -> float:
    """`labkit.detection.organ_agent.overlap_reward`."""
    return organ_agent.overlap_reward(box, next_box, truth)


def reference_td_target(rewards: Tensor, ended: Tensor, next_q: Tensor, discount: float) -> Tensor:
    """`labkit.detection.q_learning.td_target`."""
    return q_learning.td_target(rewards, ended, next_q, discount=discount)


def _compare(got: Any, expected: Tensor) -> str | None:
    differs = difference(got.detach() if isinstance(got, Tensor) else got, expected)
    if differs is None and isinstance(got, Tensor) and got.requires_grad and not expected.requires_grad:
        return "the result carries a gradient: a target is a number to aim at, so that Q moves and the target does not"
    return differs


# Usual mistakes of the reward


def _iou(box: Tensor, truth: Tensor, *, axes: tuple[int, ...] = (0, 1, 2), below: str = "union") -> float:
    common, sizes = 1.0, [1.0, 1.0]
    for i in axes:
        common *= max(0.0, float(min(box[i + 3], truth[i + 3]) - max(box[i], truth[i])))
        sizes = [size * float(b[i + 3] - b[i]) for size, b in zip(sizes, (box, truth), strict=True)]
    shares = {"union": sum(sizes) - common, "truth": sizes[1], "box": sizes[0]}
    return common / shares[below]


def _sign(change: float, same: float = SAME) -> float:
    return float((change > same) - (change < -same))


def _by(score: Callable, *, same: float = SAME) -> Callable:
    return lambda box, next_box, truth: _sign(score(next_box, truth) - score(box, truth), same)


def _change(box: Tensor, next_box: Tensor, truth: Tensor) -> float:
    return _iou(next_box, truth) - _iou(box, truth)


def _package_change(box: Tensor, next_box: Tensor, truth: Tensor) -> float:
    return float(box_iou_3d(next_box[None], truth[None]) - box_iou_3d(box[None], truth[None]))


def _of_the_change(rule: Callable) -> Callable:
    return lambda box, next_box, truth: rule(_change(box, next_box, truth))


def _inclusive(box: Tensor, truth: Tensor) -> float:
    return _iou(torch.cat([box[:3], box[3:] + 1]), torch.cat([truth[:3], truth[3:] + 1]))


def _negative_sides(box: Tensor, truth: Tensor) -> float:
    """An intersection that is not cut off at 0: two negative sides make a positive volume."""
    sides = torch.minimum(box[3:], truth[3:]) - torch.maximum(box[:3], truth[:3])
    volumes = [float((b[3:] - b[:3]).prod()) for b in (box, truth)]
    return float(sides.prod()) / (sum(volumes) - float(sides.prod()))


def _away(box: Tensor, truth: Tensor) -> float:
    return -float(((box[:3] + box[3:]) / 2 - (truth[:3] + truth[3:]) / 2).norm())


def _walls(box: Tensor, truth: Tensor) -> float:
    return -float((box - truth).abs().mean())


REWARD_MISTAKES: dict[str, Callable] = {
    "the move is good where the IoU AFTER it is larger: after - before": (
        lambda box, next_box, truth: _sign(_iou(box, truth) - _iou(next_box, truth))
    ),
    "only the sign of the change counts, not the change": _change,
    "only the sign of the change counts; here it is divided by the IoU before": (
        lambda b, n, t: _change(b, n, t) / max(_iou(b, t), 1e-3)
    ),
    "a move that makes it worse gets -1, not 0": _of_the_change(lambda change: float(change > SAME)),
    "a move that changes nothing gets 0, not -1": _of_the_change(lambda change: 1.0 if change > SAME else -1.0),
    "a move that changes nothing gets 0, not 1": _of_the_change(lambda change: -1.0 if change < -SAME else 1.0),
    "changes below 1e-6 are rounding, and count as none: a bare sign takes them for gains and losses": (
        lambda box, next_box, truth: _sign(_package_change(box, next_box, truth), 0.0)
    ),
    "changes below 1e-6 count as none, and none gets 0: with `>` alone it gets -1": (
        lambda box, next_box, truth: 1.0 if _package_change(box, next_box, truth) > 0 else -1.0
    ),
    "changes below 1e-6 count as none, and none gets 0: with `>=` alone it gets 1": (
        lambda box, next_box, truth: 1.0 if _package_change(box, next_box, truth) >= 0 else -1.0
    ),
    "changes below 1e-6 are rounding, and count as none": (
        lambda box, next_box, truth: _sign(_iou32(next_box, truth) - _iou32(box, truth), 0.0)
    ),
    "only changes below 1e-6 count as none; here those of a hundredth do too": (
        _of_the_change(lambda change: _sign(change, 1e-2))
    ),
    "changes below 1e-6 count as none, also one of half a millionth; here the limit is smaller": (
        _of_the_change(lambda change: _sign(change, 1e-7))
    ),
    "only changes below 1e-6 count as none; here larger ones do too": (
        _of_the_change(lambda change: _sign(change, 1e-4))
    ),
    "this is 0 always: int(…) and round(…) leave nothing of a change below 1, and 1e6 is a million, 1e-6 a millionth": (
        lambda box, next_box, truth: 0.0
    ),
    "walls need not be whole voxels: no box is rounded before it is compared": (
        lambda box, next_box, truth: _sign(_change(box.round(), next_box.round(), truth))
    ),
    "a box that is good already can get worse: no reward for an IoU above 0.85": (
        lambda box, next_box, truth: 1.0 if _iou(next_box, truth) > 0.85 else _sign(_change(box, next_box, truth))
    ),
    "the change counts, not how good the box is after the move": (
        lambda box, next_box, truth: 1.0 if _iou(next_box, truth) > 0.5 else -1.0
    ),
    "both boxes are compared with the truth, not with each other": (
        lambda box, next_box, truth: _sign(_iou(next_box, truth) - _iou(next_box, box))
    ),
    "the truth is the third argument, not the first": (
        lambda box, next_box, truth: _sign(_iou(truth, box) - _iou(next_box, box))
    ),
    "overlap is in three dimensions: z is missing": _by(lambda b, t: _iou(b, t, axes=(0, 1))),
    "overlap is in three dimensions: x is missing": _by(lambda b, t: _iou(b, t, axes=(1, 2))),
    "IoU is divided by the union; by the organ's volume, or by nothing, a box may grow for ever": (
        _by(lambda b, t: _iou(b, t, below="truth"))
    ),
    "IoU is divided by the union; by the box's volume alone it may shrink for ever": (
        _by(lambda b, t: _iou(b, t, below="box"))
    ),
    "ends are exclusive: a side is x2 - x1, without + 1": _by(_inclusive),
    "boxes that do not meet have no intersection: cut its sides off at 0": _by(_negative_sides),
    "the IoU is asked, not the distance of the middles": _by(_away),
    "the IoU is asked, not the distance of the walls": _by(_walls),
}


def _iou32(box: Tensor, truth: Tensor) -> float:
    """In float32, with all its rounding."""
    sides = (torch.minimum(box[3:], truth[3:]) - torch.maximum(box[:3], truth[:3])).clamp(min=0)
    common, one, other = sides.prod(), (box[3:] - box[:3]).prod(), (truth[3:] - truth[:3]).prod()
    return float(common / (one + other - common))


# Usual mistakes of the target


def _target(
    rewards: Tensor,
    ended: Tensor,
    next_q: Tensor,
    discount: float,
    *,
    best: Callable = lambda q: q.max(dim=1).values,
    goes_on: Callable = lambda ended: ~ended,
    join: Callable = lambda rewards, later, discount: rewards + discount * later,
) -> Tensor:
    later = best(next_q) * goes_on(ended)
    return join(rewards, later, discount)


def _with(**slip) -> Callable:
    return lambda rewards, ended, next_q, discount: _target(rewards, ended, next_q, discount, **slip)


def _with_gradient(rewards: Tensor, ended: Tensor, next_q: Tensor, discount: float) -> Tensor:
    return rewards + discount * next_q.max(dim=1).values * ~ended


def _whole_batch_ends(rewards: Tensor, ended: Tensor, next_q: Tensor, discount: float) -> Tensor:
    return rewards if ended.any() else _target(rewards, ended, next_q, discount)


TD_TARGET_MISTAKES: dict[str, Callable] = {
    "after an end nothing comes: its value is 0, and the reward is all": _with(goes_on=lambda ended: 1.0),
    "`ended` is turned round: the value counts where the walk has NOT ended": _with(goes_on=lambda ended: ended),
    "at an end the value falls away, the reward does not": (
        lambda rewards, ended, q, discount: _target(rewards, ended, q, discount) * ~ended
    ),
    "each step has its own end; here one end silences the batch": _whole_batch_ends,
    "the best action counts: the maximum, not the mean": _with(best=lambda q: q.mean(dim=1)),
    "the best action counts: the maximum, not the sum": _with(best=lambda q: q.sum(dim=1)),
    "the best action counts: the maximum, not the minimum": _with(best=lambda q: q.min(dim=1).values),
    "the best action counts: the maximum, not the first one": _with(best=lambda q: q[:, 0]),
    "the largest value is wanted, not the number of its action: max(dim=1).values, not argmax": (
        _with(best=lambda q: q.argmax(dim=1).float())
    ),
    "the largest value is wanted, not the one farthest from 0": _with(best=lambda q: q.abs().max(dim=1).values),
    "each step has its own best action: the maximum over dim 1, here it is over the whole batch": (
        _with(best=lambda q: q.max().expand(len(q)))
    ),
    "actions are columns: the maximum over dim 1, here it is over dim 0": (
        lambda rewards, ended, q, discount: rewards + discount * q.max(dim=0).values[: len(rewards)] * ~ended
    ),
    "values may be negative: nothing is cut off at 0": _with(best=lambda q: q.max(dim=1).values.clamp(min=0)),
    "a weighted mean of the values is not their maximum": _with(best=lambda q: (q.softmax(dim=1) * q).sum(dim=1)),
    "rewards are taken as they are: no clamp to -1 and 1": (
        lambda rewards, *others: _target(rewards.clamp(-1, 1), *others)
    ),
    "the discount counts once, not squared": (
        _with(join=lambda rewards, later, discount: rewards + discount**2 * later)
    ),
    "the discount is missing": _with(join=lambda rewards, later, discount: rewards + later),
    "the discount belongs to what comes later, not to the reward": (
        _with(join=lambda rewards, later, discount: discount * rewards + later)
    ),
    "the discount belongs to what comes later, not to both": (
        _with(join=lambda rewards, later, discount: discount * (rewards + later))
    ),
    "reward and value are weighed by 1 and discount, not by 1 - discount and discount": (
        _with(join=lambda rewards, later, discount: (1 - discount) * rewards + discount * later)
    ),
    "the discount is written into the function: use the argument": lambda r, e, q, discount: _target(r, e, q, 0.9),
    "the value later is added, not subtracted": _with(join=lambda rewards, later, discount: rewards - discount * later),
    "the reward is missing": _with(join=lambda rewards, later, discount: discount * later),
    "the result is (B,): a (B, 1) makes a table of all with all": (
        lambda rewards, ended, q, discount: _target(rewards, ended, q, discount)[:, None]
    ),
    "rewards (B,) and values (B, 1) make a table of all with all: take the maximum without keepdim": (
        lambda rewards, ended, q, discount: rewards + discount * q.max(dim=1, keepdim=True).values * ~ended
    ),
    "the target must carry no gradient: next_q.detach()": _with_gradient,
}

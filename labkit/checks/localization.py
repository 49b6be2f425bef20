"""Checks of notebook 01, localization as regression."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.detection.boxes import decode_boxes, encode_boxes


def _boxes(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random_boxes(count: int, seed: int, *, width: int = 90, height: int = 50) -> Tensor:
    """`count` boxes inside a frame wider than high, so that x and y cannot be exchanged unseen."""
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([width, height])
    size = 3 + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * torch.tensor([30, 14])
    return torch.cat([corner, corner + size], dim=1)


# ---------------------------------------------------------------------------------------------------- box_iou


def box_iou(student: Callable) -> Callable:
    """Check `my_box_iou(boxes1 (N, 4), boxes2 (M, 4)) -> (N, M)` of notebook 01.

    Example:
        >>> from torchvision.ops import box_iou as theirs
        >>> box_iou(theirs) is theirs
        ✓ box_iou: 9 cases agree. From here on the notebook uses your function.
        True
    """
    one = _boxes([2, 1, 12, 6])
    cases = [
        Case("a box with itself", (one, one)),
        Case("two boxes that share a part", (one, _boxes([7, 3, 17, 9]))),
        Case("a box inside a larger one", (_boxes([4, 2, 8, 5]), one)),
        Case("boxes that only touch at an edge", (one, _boxes([12, 1, 20, 6]))),
        Case("boxes apart in x and in y", (one, _boxes([30, 20, 45, 22]))),
        Case("boxes apart in x only", (one, _boxes([20, 2, 30, 5]))),
        Case("3 boxes against 2", (_random_boxes(3, 0), _random_boxes(2, 2))),
        Case("no boxes against 2", (_boxes(), _random_boxes(2, 4))),
        Case("60 boxes against 41", (_random_boxes(60, 6), _random_boxes(41, 8))),
    ]
    return run_check("box_iou", student, ops.box_iou, cases, mistakes=BOX_IOU_MISTAKES, draw=_draw_iou)


def _iou(boxes1: Tensor, boxes2: Tensor, *, clamp=True, plus=0.0, union="both") -> Tensor:
    """IoU with room for the usual slips."""
    low = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    sides = high - low + plus
    inter = (sides.clamp(min=0) if clamp else sides).prod(dim=2)
    area1 = (boxes1[:, 2:] - boxes1[:, :2] + plus).prod(dim=1)[:, None]
    area2 = (boxes2[:, 2:] - boxes2[:, :2] + plus).prod(dim=1)[None, :]
    smaller = torch.minimum(area1, area2)
    total = {"both": area1 + area2 - inter, "twice": area1 + area2, "first": area1, "smaller": smaller}[union]
    return inter / total


def _as_centres(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return ops.box_iou(ops.box_convert(boxes1, "cxcywh", "xyxy"), ops.box_convert(boxes2, "cxcywh", "xyxy"))


BOX_IOU_MISTAKES = {
    "boxes that do not meet have negative sides; clamp each side at 0 before you multiply": (
        lambda a, b: _iou(a, b, clamp=False)
    ),
    "x2 and y2 are exclusive here: the width is x2 - x1, without + 1": lambda a, b: _iou(a, b, plus=1.0),
    "the union counts the shared part twice: subtract the intersection once": lambda a, b: _iou(a, b, union="twice"),
    "the intersection is divided by the area of the first box, not by the union": lambda a, b: _iou(
        a, b, union="first"
    ),
    "the result is turned: rows are boxes1, columns are boxes2": lambda a, b: ops.box_iou(b, a),
    "boxes are x1 y1 x2 y2 here, not centre and size": _as_centres,
    "the intersection is divided by the smaller box, not by the union": lambda a, b: _iou(a, b, union="smaller"),
    "this is 1 - IoU, a distance; 1 must mean equal boxes": lambda a, b: 1 - ops.box_iou(a, b),
}


def _draw_iou(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_boxes

    figure, axes = new_figure(width=5, height=3.4)
    for boxes, color, name in zip(case.args, (COLORS["green"], COLORS["orange"]), ("boxes1", "boxes2"), strict=True):
        show_boxes(boxes, color=color, name=name, ax=axes)
    axes.set_title(f"{case.what}: expected {float(expected[0, 0]):.3f}, got {float(got[0, 0]):.3f}")
    axes.legend(loc="best")
    return figure


# ------------------------------------------------------------------------------------------------- encode_box


def encode_box(student: Callable) -> Callable:
    """Check `my_encode_box(box (4,), anchor (4,)) -> (4,)` of notebook 01.

    Example:
        >>> encode_box(reference_encode_box) is reference_encode_box
        ✓ encode_box: 6 cases agree. From here on the notebook uses your function.
        True
    """
    anchor = torch.tensor([10.0, 20.0, 50.0, 40.0])
    cases = [
        Case("the box is the anchor", (anchor, anchor)),
        Case("the anchor, moved to the right by half its width", (anchor + torch.tensor([20.0, 0, 20, 0]), anchor)),
        Case("the anchor, moved down by half its height", (anchor + torch.tensor([0.0, 10, 0, 10]), anchor)),
        Case("same centre, twice as wide", (torch.tensor([-10.0, 20, 70, 40]), anchor)),
        Case("a box in a region of 64 x 48", (torch.tensor([12.0, 30, 31, 41]), torch.tensor([0.0, 0, 64, 48]))),
        Case("another box and anchor", (torch.tensor([3.0, 5, 10, 25]), torch.tensor([6.0, 1, 18, 9]))),
    ]
    return run_check(
        "encode_box", student, reference_encode_box, cases, mistakes=ENCODE_BOX_MISTAKES, draw=_draw_deltas
    )


def reference_encode_box(box: Tensor, anchor: Tensor) -> Tensor:
    """Deltas (4,) from an anchor (4,) to a box (4,)."""
    return encode_boxes(box[None], anchor[None])[0]


def _deltas(box: Tensor, anchor: Tensor, *, unit="anchor", ratio="log", shift="centre", turned=False) -> Tensor:
    """Deltas with room for the usual slips."""
    size, anchor_size = box[2:] - box[:2], anchor[2:] - anchor[:2]
    start, anchor_start = (
        (box[:2], anchor[:2]) if shift == "corner" else (box[:2] + size / 2, anchor[:2] + anchor_size / 2)
    )
    move = start - anchor_start
    move = move / {"anchor": anchor_size, "turned": anchor_size.flip(0), "box": size, "pixels": 1}[unit]
    change = size / anchor_size
    change = {"log": change.log(), "plain": change, "inverse": -change.log(), "difference": size - anchor_size}[ratio]
    return torch.cat([change, move] if turned else [move, change])


ENCODE_BOX_MISTAKES = {
    "dx and dy are in anchor sizes: divide the shift by the anchor's width and height": (
        lambda b, a: _deltas(b, a, unit="pixels")
    ),
    "the ratio of sizes needs a logarithm, so that no change is 0": lambda b, a: _deltas(b, a, ratio="plain"),
    "the ratio is upside down: box over anchor": lambda b, a: _deltas(b, a, ratio="inverse"),
    "sizes are compared by their ratio, not by their difference": lambda b, a: _deltas(b, a, ratio="difference"),
    "compare the centres, not the upper left corners": lambda b, a: _deltas(b, a, shift="corner"),
    "divide by the anchor's size, not by the box's": lambda b, a: _deltas(b, a, unit="box"),
    "dx goes with the width and dy with the height": lambda b, a: _deltas(b, a, unit="turned"),
    "the order is dx dy dw dh: shifts first": lambda b, a: _deltas(b, a, turned=True),
    "box and anchor are exchanged": lambda b, a: _deltas(a, b),
}


def _draw_deltas(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_boxes

    _, anchor = case.args
    figure, axes = new_figure(width=6, height=4)
    show_boxes(anchor[None], color=COLORS["black"], style="--", name="anchor", ax=axes)
    show_boxes(
        decode_boxes(expected[None], anchor[None]), color=COLORS["green"], name="where your deltas should lead", ax=axes
    )
    show_boxes(decode_boxes(got[None], anchor[None]), color=COLORS["red"], name="where they lead", ax=axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), frameon=False)
    axes.set_title(case.what)
    return figure


# ------------------------------------------------------------------------------------------------------ losses

HALF_WAY = torch.tensor([[0.3, -0.1, 0.05, 0.0], [2.0, -1.0, 0.5, -0.5], [-0.2, 0.2, -3.0, 0.1]])


def l2_loss(student: Callable) -> Callable:
    """Check `my_l2_loss(predicted (n, 4), wanted (n, 4)) -> scalar` of notebook 01.

    Example:
        >>> l2_loss(torch.nn.functional.mse_loss) is torch.nn.functional.mse_loss
        ✓ l2_loss: 5 cases agree. From here on the notebook uses your function.
        True
    """
    wanted = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    zeros = torch.zeros(3, 4)
    cases = [
        Case("the prediction is right", (wanted, wanted)),
        Case("one number of four is off by 2", (wanted + torch.tensor([0, 0, 2.0, 0]), wanted)),
        Case("one number of four is off by -2", (wanted - torch.tensor([0, 0, 2.0, 0]), wanted)),
        Case("three regions", (HALF_WAY, zeros)),
        Case("17 regions", (_random_boxes(17, 3) / 50, _random_boxes(17, 5) / 50)),
    ]
    return run_check("l2_loss", student, F.mse_loss, cases, mistakes=L2_MISTAKES)


L2_MISTAKES = {
    "take the mean over all numbers, not the sum, or the loss grows with the batch": lambda p, w: ((p - w) ** 2).sum(),
    "this sums the four numbers of a region; take the mean over all": lambda p, w: ((p - w) ** 2).sum(dim=1).mean(),
    "the differences are not squared": lambda p, w: (p - w).mean(),
    "this is the mean absolute difference, L1": lambda p, w: (p - w).abs().mean(),
    "no root: the mean of the squares is the loss": lambda p, w: ((p - w) ** 2).mean().sqrt(),
    "one factor 1/2 too many": lambda p, w: ((p - w) ** 2).mean() / 2,
    "keep one number for the whole batch: average over the regions too": lambda p, w: ((p - w) ** 2).mean(dim=1),
}


def smooth_l1_loss(student: Callable) -> Callable:
    """Check `my_smooth_l1_loss(predicted (n, 4), wanted (n, 4), beta) -> scalar` of notebook 01.

    Example:
        >>> smooth_l1_loss(reference_smooth_l1) is reference_smooth_l1
        ✓ smooth_l1_loss: 7 cases agree. From here on the notebook uses your function.
        True
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
        Case("17 regions", (_random_boxes(17, 3) / 50, _random_boxes(17, 5) / 50, 0.25)),
    ]
    return run_check("smooth_l1_loss", student, reference_smooth_l1, cases, mistakes=SMOOTH_L1_MISTAKES)


def reference_smooth_l1(predicted: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """Mean over all numbers of smooth L1."""
    return F.smooth_l1_loss(predicted, wanted, beta=beta)


def _smooth(predicted, wanted, beta, *, line=-0.5, parabola=None, absolute=True, reduce=torch.mean):
    d = predicted - wanted
    size = d.abs() if absolute else d
    small = 0.5 * d**2 / beta if parabola is None else parabola(d)
    return reduce(torch.where(size < beta, small, d.abs() + line * beta))


SMOOTH_L1_MISTAKES = {
    "the line must meet the parabola: subtract beta / 2 from it": lambda p, w, b: _smooth(p, w, b, line=0.0),
    "the parabola is 0.5 d² / beta: the division by beta is missing": (
        lambda p, w, b: _smooth(p, w, b, parabola=lambda d: 0.5 * d**2)
    ),
    "the parabola needs its factor 0.5": lambda p, w, b: _smooth(p, w, b, parabola=lambda d: d**2 / b),
    "compare the size of the difference with beta, |d|, or large negative ones count as small": (
        lambda p, w, b: _smooth(p, w, b, absolute=False)
    ),
    "this is plain L1, without the parabola": lambda p, w, b: (p - w).abs().mean(),
    "this is plain L2, without the line": lambda p, w, b: (0.5 * (p - w) ** 2 / b).mean(),
    "take the mean over all numbers, not the sum": lambda p, w, b: _smooth(p, w, b, reduce=torch.sum),
    "beta is fixed at 1 here; use the argument": lambda p, w, b: _smooth(p, w, 1.0),
}


# ----------------------------------------------------------------------------------------------- training_step


def training_step(student: Callable) -> Callable:
    """Check `my_training_step(head, optimizer, features, targets, loss) -> loss value` of notebook 01.

    The step is taken a few times on a small network; losses and weights must come out as with the reference.

    Example:
        >>> training_step(reference_step) is reference_step
        ✓ training_step: 3 cases agree. From here on the notebook uses your function.
        True
    """
    cases = [
        Case("one step of gradient descent", (0,), {"steps": 1, "rate": 0.05}),
        Case("three steps of gradient descent", (1,), {"steps": 3, "rate": 0.05}),
        Case("four steps with momentum", (2,), {"steps": 4, "rate": 0.02, "momentum": 0.9}),
    ]
    ours, theirs = _steps_with(reference_step), _steps_with(student)
    passed = run_check(
        "training_step", theirs, ours, cases, mistakes={s: _steps_with(f) for s, f in STEP_MISTAKES.items()}
    )
    return student if passed is theirs else reference_step


def reference_step(head: nn.Module, optimizer: Optimizer, features: Tensor, targets: Tensor, loss: Callable) -> Tensor:
    """The loss of a batch, after the weights of `head` took one step downhill."""
    value = loss(head(features), targets)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


def _steps_with(step: Callable) -> Callable:
    """`run(seed, steps, rate, momentum)` -> losses and weights of a small network trained with a step function."""

    def run(seed: int, *, steps: int, rate: float, momentum: float = 0.0) -> dict:
        generator = torch.Generator().manual_seed(seed)
        head = nn.Linear(5, 4)
        with torch.no_grad():
            for weight in head.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=momentum)
        losses = []
        for _ in range(steps):
            features, targets = torch.randn(7, 5, generator=generator), torch.randn(7, 4, generator=generator)
            value = step(head, optimizer, features, targets, F.mse_loss)
            if not isinstance(value, Tensor | float):
                raise TypeError(f"expected the loss as a number, got {type(value).__name__}")
            losses.append(value)
        holds = any(isinstance(v, Tensor) and v.requires_grad for v in losses)
        return {
            "the loss still holds its graph": holds,
            "losses": torch.tensor([float(v) for v in losses]),
            "weights": head.weight.detach(),
            "biases": head.bias.detach(),
        }

    return run


def _step(head, optimizer, features, targets, loss, *, order="zero backward step", detach=True, again=False):
    value = loss(head(features), targets)
    for action in order.split():
        {"zero": optimizer.zero_grad, "backward": value.backward, "step": optimizer.step}[action]()
    if again:
        value = loss(head(features), targets)
    return value.detach() if detach else value


STEP_MISTAKES = {
    "gradients add up from step to step: call optimizer.zero_grad() before backward": partial(
        _step, order="backward step"
    ),
    "the weights did not move: first zero_grad, then backward, then step": partial(_step, order="zero step backward"),
    "give back the loss with .detach(): it holds on to the whole graph, and memory fills up": partial(
        _step, detach=False
    ),
    "give back the loss from before the step; a second forward pass costs as much again": partial(_step, again=True),
    "this steps uphill: the optimizer subtracts the gradient already": (
        lambda head, optimizer, features, targets, loss: (
            -_step(head, optimizer, features, targets, lambda p, w: -loss(p, w))
        )
    ),
}

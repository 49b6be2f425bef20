"""Checks of notebook 01."""

import math
from functools import partial

import pytest
import torch
from torchvision import ops

from labkit import checks
from labkit.checks import localization


def loop_iou(boxes1, boxes2):
    """The definition, pair by pair."""
    result = torch.zeros(len(boxes1), len(boxes2))
    for i, (ax1, ay1, ax2, ay2) in enumerate(boxes1.tolist()):
        for j, (bx1, by1, bx2, by2) in enumerate(boxes2.tolist()):
            inter = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
            result[i, j] = inter / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter)
    return result


def broadcast_iou(boxes1, boxes2):
    a, b = boxes1.unsqueeze(1), boxes2.unsqueeze(0)
    width = (torch.min(a[..., 2], b[..., 2]) - torch.max(a[..., 0], b[..., 0])).relu()
    height = (torch.min(a[..., 3], b[..., 3]) - torch.max(a[..., 1], b[..., 1])).relu()
    return width * height / (ops.box_area(boxes1)[:, None] + ops.box_area(boxes2)[None] - width * height)


@pytest.mark.parametrize("right", [loop_iou, broadcast_iou])
def test_box_iou_accepts_other_ways_to_write_it(strict, right):
    assert checks.box_iou(right) is right


@pytest.mark.parametrize("sentence", localization.BOX_IOU_MISTAKES)
def test_box_iou_names_the_usual_mistake(message_of, sentence):
    assert sentence in message_of(checks.box_iou, localization.BOX_IOU_MISTAKES[sentence])


def test_box_iou_blank_runs_on_with_the_reference(lenient, capsys):
    def my_box_iou(boxes1, boxes2):
        raise NotImplementedError("Exercise 1.1: IoU")

    assert checks.box_iou(my_box_iou) is ops.box_iou
    assert "not written yet (Exercise 1.1: IoU)" in capsys.readouterr().out


ALL_MISTAKES = [
    (check, sentence)
    for check, mistakes in (
        ("encode_box", localization.ENCODE_BOX_MISTAKES),
        ("l2_loss", localization.L2_MISTAKES),
        ("smooth_l1_loss", localization.SMOOTH_L1_MISTAKES),
        ("training_step", localization.STEP_MISTAKES),
    )
    for sentence in mistakes
]
WRONG = {
    "encode_box": localization.ENCODE_BOX_MISTAKES,
    "l2_loss": localization.L2_MISTAKES,
    "smooth_l1_loss": localization.SMOOTH_L1_MISTAKES,
    "training_step": localization.STEP_MISTAKES,
}


@pytest.mark.parametrize(("check", "sentence"), ALL_MISTAKES)
def test_the_usual_mistake_is_named(message_of, check, sentence):
    assert sentence in message_of(getattr(checks, check), WRONG[check][sentence])


def encode_by_conversion(box, anchor):
    x, y, w, h = ops.box_convert(box[None], "xyxy", "cxcywh")[0].tolist()
    xa, ya, wa, ha = ops.box_convert(anchor[None], "xyxy", "cxcywh")[0].tolist()
    return torch.tensor([(x - xa) / wa, (y - ya) / ha, math.log(w / wa), math.log(h) - math.log(ha)])


def encode_by_halves(box, anchor):
    return torch.cat(
        [
            (box[:2] + box[2:] - anchor[:2] - anchor[2:]) / 2 / (anchor[2:] - anchor[:2]),
            torch.log((box[2:] - box[:2]) / (anchor[2:] - anchor[:2])),
        ]
    )


def l2_by_loop(predicted, wanted):
    differences = [(p - w) ** 2 for p, w in zip(predicted.flatten(), wanted.flatten(), strict=True)]
    return sum(differences) / len(differences)


def l2_by_norm(predicted, wanted):
    return torch.linalg.vector_norm(predicted - wanted) ** 2 / predicted.numel()


def smooth_by_huber(predicted, wanted, beta):
    return torch.nn.functional.huber_loss(predicted, wanted, delta=beta) / beta


def smooth_by_mask(predicted, wanted, beta):
    d = predicted - wanted
    small = (d.abs() < beta).float()
    return (small * d * d / (2 * beta) + (1 - small) * (d.abs() - beta / 2)).mean()


def step_with_none_grads(head, optimizer, features, targets, loss):
    for weight in head.parameters():
        weight.grad = None
    value = loss(head(features), targets)
    value.backward()
    optimizer.step()
    return value.item()


def step_zero_after(head, optimizer, features, targets, loss):
    value = loss(head(features), targets)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


@pytest.mark.parametrize(
    ("check", "right"),
    [
        ("encode_box", encode_by_conversion),
        ("encode_box", encode_by_halves),
        ("l2_loss", l2_by_loop),
        ("l2_loss", l2_by_norm),
        ("smooth_l1_loss", smooth_by_huber),
        ("smooth_l1_loss", smooth_by_mask),
        ("training_step", step_with_none_grads),
        ("training_step", step_zero_after),
    ],
)
def test_right_answers_written_differently(strict, check, right):
    assert getattr(checks, check)(right) is right


def test_wrong_deltas_are_drawn():
    case = localization.Case("moved", (torch.tensor([12.0, 30, 31, 41]), torch.tensor([0.0, 0, 64, 48])))
    figure = localization._draw_deltas(case, torch.tensor([0.1, 0.2, -1.0, -1.2]), torch.tensor([0.2, 0.1, -1.0, -1.2]))
    assert len(figure.axes[0].patches) == 3


@pytest.mark.parametrize("order", ["zero backward", "backward zero step", "zero step backward", ""])
def test_weights_that_do_not_move_are_told(message_of, order):
    step = partial(localization._step, order=order)
    assert "the weights did not move" in message_of(checks.training_step, step)

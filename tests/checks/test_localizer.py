"""Checks of notebook 01."""

import math
from functools import partial

import pytest
import torch
from torchvision import ops

from labkit import checks
from labkit.checks import localizer_training


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


def decode_by_conversion(deltas, anchor):
    x, y, w, h = ops.box_convert(anchor[None], "xyxy", "cxcywh")[0]
    dx, dy, dw, dh = deltas
    box = torch.stack([x + dx * w, y + dy * h, w * dw.exp(), h * dh.exp()])
    return ops.box_convert(box[None], "cxcywh", "xyxy")[0]


def decode_number_by_number(deltas, anchor):
    (dx, dy, dw, dh), (x1, y1, x2, y2) = deltas.tolist(), anchor.tolist()
    wide, high = (x2 - x1) * math.e**dw, (y2 - y1) * math.e**dh
    left = (x1 + x2) / 2 + dx * (x2 - x1) - wide / 2
    top = (y1 + y2) / 2 + dy * (y2 - y1) - high / 2
    return torch.tensor([left, top, left + wide, top + high])


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
        ("box_iou", loop_iou),
        ("box_iou", broadcast_iou),
        ("encode_box", encode_by_conversion),
        ("encode_box", encode_by_halves),
        ("decode_box", decode_by_conversion),
        ("decode_box", decode_number_by_number),
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


@pytest.mark.parametrize("order", ["zero backward", "backward zero step", "zero step backward", ""])
def test_weights_that_do_not_move_are_told(message_of, order):
    step = partial(localizer_training._step, order=order)
    assert "the weights did not move" in message_of(checks.training_step, step)


def loss_as_a_number(predicted, wanted):
    return ((predicted - wanted) ** 2).mean().item()


def loss_by_lists(predicted, wanted, beta):
    total = 0.0
    for p, w in zip(predicted.flatten().tolist(), wanted.flatten().tolist(), strict=True):
        d = abs(p - w)
        total += 0.5 * d * d / beta if d < beta else d - beta / 2
    return torch.tensor(total / predicted.numel())


@pytest.mark.parametrize(("check", "wrong"), [("l2_loss", loss_as_a_number), ("smooth_l1_loss", loss_by_lists)])
def test_a_loss_from_which_nothing_is_learned_is_refused(message_of, check, wrong):
    told = message_of(getattr(checks, check), wrong)
    assert "gradient" in told
    assert "likely: no gradient flows" in told


def exchanged(head, optimizer, features, targets, loss):
    optimizer.zero_grad()
    value = loss(targets, head(features))
    value.backward()
    optimizer.step()
    return value.item()


def without_return(head, optimizer, features, targets, loss):
    optimizer.zero_grad()
    loss(head(features), targets).backward()
    optimizer.step()


def test_exchanged_arguments_of_the_loss_are_refused(message_of):
    assert "the predictions come first" in message_of(checks.training_step, exchanged)


def test_a_step_without_return_is_told_in_words_of_the_student(message_of):
    told = message_of(checks.training_step, without_return)
    assert "is the `return` missing?" in told
    assert "labkit" not in told


def test_a_wrong_step_is_told_in_a_few_numbers(message_of):
    told = message_of(checks.training_step, exchanged)
    assert "the weights moved by" in told
    assert len(told) < 700


def one_clamp_for_both(boxes1, boxes2):
    """The commonest way to clamp the product."""
    result = torch.zeros(len(boxes1), len(boxes2))
    for i, a in enumerate(boxes1):
        for j, b in enumerate(boxes2):
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            inter = max(width * height, 0)
            result[i, j] = inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
    return result


def both_by_width(box, anchor):
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    dx = ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / w
    dy = ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / w
    return torch.stack([dx, dy, torch.log((box[2] - box[0]) / w), torch.log((box[3] - box[1]) / h)])


@pytest.mark.parametrize(
    ("check", "wrong", "told"),
    [
        ("box_iou", one_clamp_for_both, "clamp each side at 0, not their product"),
        ("encode_box", both_by_width, "dy is divided by the anchor's width"),
    ],
)
def test_what_students_write_is_named(message_of, check, wrong, told):
    assert f"likely: {told}" in message_of(getattr(checks, check), wrong)

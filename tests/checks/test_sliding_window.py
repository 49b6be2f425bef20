"""Checks of notebook 02."""

import importlib

import pytest
import torch
from torch import nn

from labkit import checks

subject = importlib.import_module("labkit.checks.sliding_window")  # its name alone is the check


def with_loops(image, window, stride):
    height, width = window
    crops, boxes = [], []
    for y in range(0, image.shape[1] - height + 1, stride):
        for x in range(0, image.shape[2] - width + 1, stride):
            crops.append(image[:, y : y + height, x : x + width])
            boxes.append([x, y, x + width, y + height])
    return torch.stack(crops), torch.tensor(boxes, dtype=torch.float32, device=image.device)


def with_unfold(image, window, stride):
    height, width = window
    tiles = image.unfold(1, height, stride).unfold(2, width, stride)  # (C, rows, columns, h, w)
    rows, columns = tiles.shape[1:3]
    index = torch.arange(rows * columns, device=image.device)
    x, y = index % columns * stride, index // columns * stride
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1), torch.stack([x, y, x + width, y + height], dim=1).float()


def by_view(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, (height, width)).to(linear.weight.device)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view(-1, channels, height, width))
        conv.bias.copy_(linear.bias)
    return conv


def by_unflatten(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, kernel_size=(height, width), device=linear.weight.device)
    conv.load_state_dict({"weight": linear.weight.unflatten(1, (channels, height, width)), "bias": linear.bias})
    return conv


def hard_by_loop(image, margin, window, stride, least, most):
    """Cell by cell."""
    rows, columns = margin.shape
    found = []
    for y in range(rows):
        for x in range(columns):
            around = margin[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
            if margin[y, x] > least and margin[y, x] == around.max():
                found.append((float(margin[y, x]), y * stride, x * stride))
    best = sorted(found, reverse=True)[:most]
    cut = [image[:, y : y + window[0], x : x + window[1]] for _, y, x in best]
    return torch.stack(cut) if cut else torch.zeros(0, image.shape[0], *window, device=image.device)


def hard_by_index(image, margin, window, stride, least, most):
    """All windows by unfold, the peaks by number."""
    highest, where = nn.functional.max_pool2d(margin[None, None], 7, 1, 3, return_indices=True)
    own = torch.arange(margin.numel(), device=margin.device).view_as(margin)
    peak = (where[0, 0] == own) & (highest[0, 0] > least)
    order = torch.where(peak, margin, -torch.inf).flatten().topk(min(most, int(peak.sum()))).indices
    tiles = image.unfold(1, window[0], stride).unfold(2, window[1], stride)
    y, x = order // margin.shape[1], order % margin.shape[1]
    return tiles[:, y, x].transpose(0, 1).contiguous()


RIGHT = [
    (checks.hard_windows, hard_by_loop),
    (checks.hard_windows, hard_by_index),
    (checks.sliding_window, with_loops),
    (checks.sliding_window, with_unfold),
    (checks.fc_to_conv, by_view),
    (checks.fc_to_conv, by_unflatten),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def doubles(image, window, stride):
    crops, boxes = subject.reference_windows(image, window, stride)
    return crops, boxes.double()


def without_channels(image, window, stride):
    crops, boxes = subject.reference_windows(image, window, stride)
    return crops[:, 0], boxes


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (doubles, "dtype float64, expected float32"),
        (without_channels, "shape (4, 1, 2), expected (4, 1, 1, 2)"),
        (lambda *a: subject.reference_windows(*a)[0], "expected 2 values"),
    ],
)
def test_sliding_window_tells_form(message_of, wrong, told):
    assert told in message_of(checks.sliding_window, wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda linear, *_: linear, "is Linear, expected an nn.Conv2d"),
        (lambda linear, c, h, w: nn.Conv2d(c, linear.out_features, (h, w)), "the weight differs"),
        (lambda linear, c, h, w: nn.Conv2d(c, linear.out_features, (h, w), stride=2), "stride is (2, 2)"),
    ],
)
def test_fc_to_conv_tells_form(message_of, wrong, told):
    assert told in message_of(checks.fc_to_conv, wrong)


def ragged(image, window, stride):
    """Stops at the border of the image, not at the last window that fits."""
    crops, boxes = [], []
    for y in range(0, image.shape[1], stride):
        for x in range(0, image.shape[2], stride):
            crops.append(image[:, y : y + window[0], x : x + window[1]])
            boxes.append([x, y, x + window[1], y + window[0]])
    return torch.stack(crops), torch.tensor(boxes, dtype=torch.float32)


def bias_forgotten(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, kernel_size=(height, width))
    conv.weight = nn.Parameter(linear.weight.detach().reshape(-1, channels, height, width).clone())
    return conv


def transposed(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, kernel_size=(height, width))
    conv.weight = nn.Parameter(linear.weight.detach().T.reshape(-1, channels, height, width).clone())
    conv.bias = linear.bias
    return conv


@pytest.mark.parametrize(
    ("check", "wrong", "told"),
    [
        (checks.sliding_window, ragged, "likely: windows that leave the image are cut ragged"),
        (checks.fc_to_conv, bias_forgotten, "is the layer's bias copied, too?"),
        (checks.fc_to_conv, transposed, "likely: no transposing"),
    ],
)
def test_what_students_write_is_named(message_of, check, wrong, told):
    assert told in message_of(check, wrong)

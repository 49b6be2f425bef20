"""Checks of notebook 02."""

import pytest
import torch
from torch import nn

from labkit import checks
from labkit.checks import windows
from labkit.detection.sliding_window import fc_to_conv

REFERENCES = [("sliding_window", windows.reference_windows), ("fc_to_conv", fc_to_conv)]


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


@pytest.mark.parametrize("right", [with_loops, with_unfold])
def test_sliding_window_accepts_other_ways_to_write_it(strict, right):
    assert checks.sliding_window(right) is right


@pytest.mark.parametrize("right", [by_view, by_unflatten])
def test_fc_to_conv_accepts_other_ways_to_write_it(strict, right):
    assert checks.fc_to_conv(right) is right


@pytest.mark.parametrize("sentence", windows.SLIDING_WINDOW_MISTAKES)
def test_sliding_window_names_the_usual_mistake(message_of, sentence):
    assert sentence in message_of(checks.sliding_window, windows.SLIDING_WINDOW_MISTAKES[sentence])


@pytest.mark.parametrize("sentence", windows.FC_TO_CONV_MISTAKES)
def test_fc_to_conv_names_the_usual_mistake(message_of, sentence):
    assert sentence in message_of(checks.fc_to_conv, windows.FC_TO_CONV_MISTAKES[sentence])


def blank(*_):
    raise NotImplementedError("Exercise 2.0: your turn")


def raising(*_):
    return [][3]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(blank, "not written yet (Exercise 2.0: your turn)"), (raising, "stopped with IndexError"), (print, "None")],
)
@pytest.mark.parametrize(("name", "reference"), REFERENCES)
def test_other_troubles_are_told_and_the_reference_comes_back(lenient, capsys, name, reference, wrong, told):
    assert getattr(checks, name)(wrong) is reference
    assert told in capsys.readouterr().out


def in_place(image, window, stride):
    image.mul_(0.5)
    return windows.reference_windows(2 * image, window, stride)


def doubles(image, window, stride):
    crops, boxes = windows.reference_windows(image, window, stride)
    return crops, boxes.double()


def without_channels(image, window, stride):
    crops, boxes = windows.reference_windows(image, window, stride)
    return crops[:, 0], boxes


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (in_place, "changed its arguments in place"),
        (doubles, "dtype float64, expected float32"),
        (without_channels, "shape (4, 1, 2), expected (4, 1, 1, 2)"),
        (lambda *a: windows.reference_windows(*a)[0], "expected 2 values"),
    ],
)
def test_sliding_window_tells_form(lenient, capsys, wrong, told):
    assert checks.sliding_window(wrong) is windows.reference_windows
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda linear, *_: linear, "is Linear, expected an nn.Conv2d"),
        (lambda linear, c, h, w: nn.Conv2d(c, linear.out_features, (h, w)), "the weight differs"),
        (lambda linear, c, h, w: nn.Conv2d(c, linear.out_features, (h, w), stride=2), "stride is (2, 2)"),
    ],
)
def test_fc_to_conv_tells_form(lenient, capsys, wrong, told):
    assert checks.fc_to_conv(wrong) is fc_to_conv
    assert told in capsys.readouterr().out


def test_a_wrong_answer_is_drawn():
    case = windows.Case("a ramp", (windows._ramp(1, 6, 8), (3, 5), 2))
    right = windows.reference_windows(*case.args)
    figure = windows._draw_boxes(case, right, (right[0][:2], right[1][:2]))
    assert [ax.get_title() for ax in figure.axes] == [
        "expected: 4 windows, the first thick",
        "got: 2 windows, the first thick",
    ]

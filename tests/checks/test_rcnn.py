"""Checks of notebook 06."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torchvision import ops

from labkit import checks
from labkit.checks import rcnn as subject
from labkit.detection import rcnn


def pixel_by_pixel(image, boxes, size, context):
    """Bilinear by hand, one output pixel at a time."""
    channels, height, width = image.shape
    out = image.new_zeros(len(boxes), channels, size, size)
    inner = size - 2 * context
    for r, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for i in range(size):
            for j in range(size):
                y = y1 + (i + 0.5 - context) * (y2 - y1) / inner - 0.5
                x = x1 + (j + 0.5 - context) * (x2 - x1) / inner - 0.5
                top, left = math.floor(y), math.floor(x)
                for row, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
                    for column, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
                        if 0 <= row < height and 0 <= column < width:
                            out[r, :, i, j] += wy * wx * image[:, row, column]
    return out


def by_padding(image, boxes, size, context):
    """The image in a frame of zeros, the box widened, torchvision's RoIAlign with one sample a bin."""
    frame = 40
    padded = torch.nn.functional.pad(image, (frame,) * 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    around = sides * context / (size - 2 * context)
    wide = torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], dim=1) + frame
    return ops.roi_align(padded[None], [wide], size, sampling_ratio=1, aligned=True)


def with_a_list(scores, is_background, chosen, count):
    rows = [i for i in range(len(scores)) if is_background[i] and not chosen[i] and float(scores[i]) > -1]
    rows = sorted(rows, key=lambda i: -float(scores[i]))[:count]
    return torch.tensor(rows, dtype=torch.int64)


def with_where(scores, is_background, chosen, count):
    worth = torch.where(is_background & ~chosen, scores, torch.full_like(scores, -torch.inf))
    order = worth.argsort(descending=True, stable=True)
    return order[worth[order] > -1][:count]


def with_sklearn(features, targets, penalty):
    model = Ridge(alpha=penalty, solver="cholesky").fit(features.double().cpu().numpy(), targets.double().cpu().numpy())
    weights = np.concatenate([np.atleast_2d(model.coef_).reshape(targets.shape[1], -1).T, model.intercept_[None]])
    return torch.from_numpy(weights).to(features)


def by_least_squares(features, targets, penalty):
    """A row of sqrt(penalty) for each weight, to be met with 0."""
    rows = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    extra = torch.eye(rows.shape[1]).double()[:-1] * penalty**0.5
    wanted = torch.cat([targets.double(), torch.zeros(len(extra), targets.shape[1]).double()])
    return torch.linalg.lstsq(torch.cat([rows, extra]), wanted).solution.float()


RIGHT = [
    (checks.crop_and_resize, pixel_by_pixel),
    (checks.crop_and_resize, by_padding),
    (checks.hard_negatives, with_a_list),
    (checks.hard_negatives, with_where),
    (checks.ridge, with_sklearn),
    (checks.ridge, by_least_squares),
]
WRONG = [
    *((checks.crop_and_resize, s, f) for s, f in subject.CROP_AND_RESIZE_MISTAKES.items()),
    *((checks.hard_negatives, s, f) for s, f in subject.HARD_NEGATIVES_MISTAKES.items()),
    *((checks.ridge, s, f) for s, f in subject.RIDGE_MISTAKES.items()),
]
REFERENCES = [
    (checks.crop_and_resize, subject.reference_crop_and_resize),
    (checks.hard_negatives, rcnn.hard_negatives),
    (checks.ridge, rcnn.ridge),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


@pytest.mark.parametrize(("check", "sentence", "wrong"), WRONG)
def test_the_usual_mistake_is_named(message_of, check, sentence, wrong):
    assert f"likely: {sentence}" in message_of(check, wrong)


@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_blank_runs_on_with_the_reference(lenient, capsys, check, reference):
    def blank(*_):
        raise NotImplementedError("Exercise 6.1: yours")

    assert check(blank) is reference
    assert "not written yet (Exercise 6.1: yours)" in capsys.readouterr().out


def raising(*_):
    raise IndexError("index 3 is out of bounds")


def in_place(first, *_):
    first += 1
    return first


def as_list(first, *_):
    return first.tolist()


def too_long(*arguments):
    return torch.zeros(99, 7)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (raising, "stopped with IndexError"),
        (in_place, "changed its arguments in place"),
        (as_list, "is a list, expected a tensor"),
        (too_long, "has shape (99, 7), expected"),
    ],
)
@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_other_troubles_are_told_and_the_reference_comes_back(lenient, capsys, check, reference, wrong, told):
    assert check(wrong) is reference
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_the_wrong_kind_of_number_is_told(message_of, check, reference):
    assert "has dtype" in message_of(check, lambda *a: reference(*a).to(torch.float64))


def test_a_wrong_crop_is_drawn():
    image, boxes = torch.rand(1, 12, 17), torch.tensor([[2.0, 3, 9, 8]])
    case = subject.Case("one", (image, boxes, 6, 1))
    figure = subject._draw_crops(case, torch.rand(1, 1, 6, 6), torch.rand(1, 1, 6, 6))
    assert [ax.get_title() for ax in figure.axes] == ["given: one", "expected", "got"]

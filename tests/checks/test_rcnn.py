"""Checks of notebook 06."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torchvision import ops

from labkit import checks


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


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def by_affine_grid(image, boxes, size, context, *, swap=False, turned=False, corners=False, minus=0):
    """Written as a student would, with the commonest slips of coordinates."""
    _, height, width = image.shape
    height, width = (width, height) if turned else (height, width)
    crops = []
    for x1, y1, x2, y2 in boxes.tolist():
        inner = size - 2 * context
        at = (torch.arange(size) + 0.5 - context) / inner
        x = 2 * (x1 + at * (x2 - x1)) / (width - minus) - 1
        y = 2 * (y1 + at * (y2 - y1)) / (height - minus) - 1
        gy, gx = torch.meshgrid(y, x, indexing="ij")
        grid = torch.stack([gy, gx] if swap else [gx, gy], dim=-1)
        crops.append(torch.nn.functional.grid_sample(image[None], grid[None], align_corners=corners)[0])
    return torch.stack(crops)  # and no thought of an image without boxes


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ({"swap": True}, "grid_sample wants x before y"),
        ({"turned": True}, "x is divided by the height and y by the width"),
        ({"corners": True}, "align_corners=False: -1 and 1 are the edges of the image"),
        ({"minus": 1}, "x counts in widths, 2 x / W - 1: divide by W, not by W - 1"),
    ],
)
def test_the_commonest_slips_of_coordinates_are_named(message_of, slip, told):
    message = message_of(checks.crop_and_resize, lambda *args: by_affine_grid(*args, **slip))
    assert "✗ crop_and_resize: an image whose value is x" in message
    assert f"likely: {told}" in message


def not_translated(scores, is_background, chosen, count):
    hard = scores[is_background & ~chosen & (scores > -1)]
    return hard.argsort(descending=True, stable=True)[:count]


def test_rows_that_are_not_translated_back_fail_where_it_is_about_rows(message_of):
    told = message_of(checks.hard_negatives, not_translated)
    assert "row 1 is hard" in told
    assert "likely: these are places among the hard rows" in told


def single_precision(features, targets, penalty):
    rows = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    costs = penalty * torch.eye(rows.shape[1])
    costs[-1, -1] = 0
    return torch.linalg.solve(rows.T @ rows + costs, rows.T @ targets)


def test_ridge_in_single_precision_is_refused_as_the_exercise_says(message_of):
    told = message_of(checks.ridge, single_precision)
    assert "features far from 0" in told
    assert "likely: single precision is too coarse" in told

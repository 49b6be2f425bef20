"""The check of notebook 00."""

import pytest
import torch

from labkit import checks
from labkit.checks import start_here


def by_narrow(image, box):
    height, width = image.shape
    x1, x2 = (int(v.clamp(0, width)) for v in box[[0, 2]])
    y1, y2 = (int(v.clamp(0, height)) for v in box[[1, 3]])
    return image.narrow(0, y1, y2 - y1).narrow(1, x1, x2 - x1)


def by_index(image, box):
    rows = [r for r in range(image.shape[0]) if box[1] <= r < box[3]]
    columns = [c for c in range(image.shape[1]) if box[0] <= c < box[2]]
    return image[rows][:, columns].clone()


@pytest.mark.parametrize("right", [by_narrow, by_index])
def test_other_ways_to_write_it(strict, right):
    assert checks.crop(right) is right


def test_a_crop_without_pixels_may_have_any_sides(strict):
    def by_hand(image, box):
        x1, y1, x2, y2 = box.long().tolist()
        if x2 <= 0 or y2 <= 0 or x1 >= image.shape[1] or y1 >= image.shape[0]:
            return image[:0, :0]
        return image[max(y1, 0) : y2, max(x1, 0) : x2]

    assert checks.crop(by_hand) is by_hand


def only_the_start_clamped(image, box):
    x1, y1, x2, y2 = [int(v) for v in box]
    if x1 < 0:
        x1 = 0
    if y1 < 0:
        y1 = 0
    return image[y1:y2, x1:x2]


@pytest.mark.parametrize(
    ("box", "side"), [((-12, 5, -3, 14), "left"), ((8, -15, 20, -4), "above"), ((55, 5, 60, 14), "right")]
)
def test_a_box_outside_on_any_side_holds_nothing(box, side):
    image = torch.rand(30, 50)
    assert start_here.reference_crop(image, torch.tensor(box, dtype=torch.float32)).numel() == 0


def test_a_negative_end_is_met(message_of):
    told = message_of(checks.crop, only_the_start_clamped)
    assert "a box wholly left of the image" in told
    assert "likely: a negative end counts from the far end too" in told


def test_lenient_explains_even_where_wrong_answers_raise(strict, capsys):
    with checks.lenient():
        assert checks.crop(lambda image, box: image) is start_here.reference_crop
    assert "✗ crop" in capsys.readouterr().out
    with pytest.raises(checks.CheckFailed):
        checks.crop(lambda image, box: image)

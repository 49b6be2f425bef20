"""The check of notebook 00."""

import pytest
import torch

from labkit import checks
from labkit.checks import start


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


@pytest.mark.parametrize("sentence", start.CROP_MISTAKES)
def test_the_usual_mistakes_are_named(message_of, sentence):
    assert sentence in message_of(checks.crop, start.CROP_MISTAKES[sentence])


def test_a_wrong_crop_is_drawn():
    image = torch.rand(30, 50)
    case = start.Case("spot", (image, torch.tensor([22.0, 4, 44, 20])))
    figure = start._draw_crop(case, image[4:20, 22:44], image[22:44, 4:20])
    assert [ax.get_title() for ax in figure.axes] == ["given", "expected", "got"]


def test_lenient_explains_even_where_wrong_answers_raise(strict, capsys):
    with checks.lenient():
        assert checks.crop(lambda image, box: image) is start.reference_crop
    assert "✗ crop" in capsys.readouterr().out
    with pytest.raises(checks.CheckFailed):
        checks.crop(lambda image, box: image)

"""Six distortions, live: the slider is moved and the picture is looked at."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from labkit.denoising.distortions import same_mse
from labkit.denoising.metrics import ssim
from labkit.widgets import distortions_demo

PHOTOGRAPH = torch.from_numpy(data.camera()[100:228, 150:310].copy()).float() / 255  # (128, 160)


def pixels(demo) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(demo.children[2].value))).astype(int)


def test_it_shows_its_first_state_without_a_slider_moved():
    demo = distortions_demo(PHOTOGRAPH, mse=0.01)
    assert demo.children[1].value.startswith("all six: MSE <b>0.0100</b>, PSNR <b>20.0 dB</b>; SSIM from <b>")
    height, width = pixels(demo).shape[:2]
    assert width / height == pytest.approx(2 * 160 / 128, rel=0.2)  # four columns, two rows, and room for words


def test_its_numbers_are_those_of_the_distortions():
    demo = distortions_demo(PHOTOGRAPH, mse=0.002, seed=3)
    wrong = torch.stack(list(same_mse(PHOTOGRAPH, mse=demo.children[0].value, seed=3).values()))
    values = ssim(wrong, PHOTOGRAPH.expand_as(wrong), data_range=1.0)
    told = [float(word) for word in re.findall(r"<b>([\d.]+)</b>", demo.children[1].value)]
    assert told == pytest.approx([0.002, float(values.min()), float(values.max())], abs=0.006)


def test_it_follows_the_slider_and_nothing_stays_behind():
    demo = distortions_demo(PHOTOGRAPH, mse=0.001)
    before = demo.children[2].value
    demo.children[0].value = 0.02
    assert "PSNR <b>17.0 dB</b>" in demo.children[1].value
    assert demo.children[2].value != before
    demo.children[0].value = 0.001
    assert demo.children[2].value == before


def test_the_image_itself_stays_and_the_others_move():
    demo = distortions_demo(PHOTOGRAPH, mse=0.001)
    before = pixels(demo)
    demo.children[0].value = 0.02
    moved = abs(pixels(demo) - before).max(axis=2) > 8
    height, width = moved.shape
    first, offset = moved[: height // 2, : width // 5], moved[: height // 2, width * 3 // 10 : width * 2 // 5]
    assert not first.any()
    assert offset[height // 8 :].mean() > 0.5


def test_the_slider_ends_where_a_blur_can_do_no_more():
    demo = distortions_demo(PHOTOGRAPH[None])
    slider = demo.children[0]
    for end in (slider.min, slider.max):
        slider.value = 10**end
        assert "all six" in demo.children[1].value
    assert 10**slider.max < float(PHOTOGRAPH.var())


@pytest.mark.parametrize("image", [torch.full((40, 50), 0.5), torch.zeros(3, 40, 50)])
def test_a_flat_or_coloured_image_is_refused(image):
    with pytest.raises(ValueError, match="must be grey and not flat"):
        distortions_demo(image)

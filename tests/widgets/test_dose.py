"""The dose of a scan, live: the slider is moved, the words and the picture are looked at."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.widgets import dose_demo

ORANGE = (230, 159, 0)


def body(size=64):
    image = torch.full((size, size), -1000.0)
    axis = torch.arange(size) - size // 2
    image[torch.hypot(axis[:, None].float(), axis.float()) < 0.35 * size] = 40
    return image


def demo(**options):
    return dose_demo(body(), pixel_mm=5.0, views=60, **options)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[3].value))).astype(int)


def sd_of(widget):
    return float(re.search(r"deviation <b>(\d+)</b> HU", widget.children[2].value)[1])


def test_it_shows_its_first_state_without_a_slider_moved():
    widget = demo()
    assert widget.children[2].value.startswith("<b>400,000</b> photons a ray")
    assert "0.0% of the rays starved" in widget.children[2].value
    picture = pixels(widget)
    assert picture.shape[1] > 1.9 * picture.shape[0]
    assert (abs(picture - ORANGE).max(axis=2) < 40).any()


def test_a_quarter_of_the_dose_is_twice_the_noise():
    widget = demo(photons=1e5, radius=18)
    before = sd_of(widget)
    widget.children[0].value = 2.5e4
    assert sd_of(widget) == pytest.approx(2 * before, rel=0.1, abs=1)


def test_half_and_a_quarter_of_the_dose_can_be_set():
    slider = demo().children[0]
    steps = (np.log10([4e5, 2e5, 1e5]) - slider.min) / slider.step
    assert steps == pytest.approx(np.round(steps), abs=1e-6)
    assert 10**slider.min >= 1000


def test_the_left_half_stays_and_the_right_half_changes():
    widget = demo()
    first = pixels(widget)
    widget.children[0].value = 1e4
    second, half = pixels(widget), first.shape[1] // 2 - 5
    assert np.array_equal(first[:, :half], second[:, :half])
    assert (first[:, half:] != second[:, half:]).mean() > 0.3
    widget.children[0].value = 4e5
    assert np.array_equal(pixels(widget), first)  # nothing of the other state stays behind


def test_hann_smooths():
    widget = demo(photons=1e5)
    ramp = sd_of(widget)
    widget.children[1].value = "hann"
    assert sd_of(widget) < 0.6 * ramp


def test_starved_rays_are_said():
    widget = dose_demo(body(), pixel_mm=14.0, views=60, photons=1e3)
    share = float(re.search(r"([\d.]+)% of the rays starved", widget.children[2].value)[1])
    assert share > 1


def test_it_changes_no_argument_and_takes_a_circle():
    image = body()
    before = image.clone()
    widget = dose_demo(image, pixel_mm=5.0, views=60, center=(30, 20), radius=3)
    widget.children[0].value = 1e4
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (torch.zeros(1, 64, 64), {}, "body must be .size, size."),
        (torch.zeros(64, 60), {}, "body must be .size, size."),
        (body(), {"photons": 10}, "photons must be from 1000 to"),
    ],
)
def test_bad_input_is_named(image, options, words):
    with pytest.raises(ValueError, match=words):
        dose_demo(image, pixel_mm=5.0, views=60, **options)

"""The denoising demo: its sliders are moved, its buttons pressed, and the picture is looked at."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labkit.denoising.networks import DnCNN
from labkit.widgets import denoise_demo

ORANGE = (230, 159, 0)
CLEAN = torch.full((40, 60), 0.5)


def black(noisy, *, sigma):
    """A bad denoiser, easily seen."""
    return torch.zeros_like(noisy)


def perfect(noisy, *, sigma):
    return torch.full_like(noisy, 0.5)


def pixels(demo) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(demo.children[4].value))).astype(int)


def parts(demo):
    """The grey values of the wiped image and of the difference."""
    shown = pixels(demo)
    half = shown.shape[1] // 2
    return shown[:, : half - 6], shown[:, half + 6 :]


def decibels(demo):
    return [float(number) for number in re.findall(r"([\d.]+)(?:</b>)? dB", demo.children[3].value)]


def test_the_first_state_shows_without_a_slider_moved():
    demo = denoise_demo(CLEAN, {"black": black})
    assert decibels(demo) == [pytest.approx(20.2, abs=0.3), 6.0]
    image, _ = parts(demo)
    middle = image.shape[1] // 2
    assert image[:, : middle - 10].std() > 10  # noisy
    assert not image[:, middle + 10 :].any()  # black
    assert (abs(image - ORANGE).max(axis=2) < 40).any(axis=0).nonzero()[0].mean() == pytest.approx(middle, abs=4)


def test_the_difference_has_one_scale_and_grey_is_right():
    demo = denoise_demo(CLEAN, {"perfect": perfect, "black": black})
    assert abs(parts(demo)[1] - 127.5).max() <= 1
    demo.children[1].value = "black"
    assert not parts(demo)[1].any()  # far below: black


def test_the_wipe_moves_the_line_and_nothing_is_computed_anew():
    calls = []

    def counted(noisy, *, sigma):
        calls.append(sigma)
        return torch.zeros_like(noisy)

    demo = denoise_demo(CLEAN, {"counted": counted}, sigma=10 / 255)
    before = demo.children[4].value
    demo.children[2].value = 1.0
    assert (parts(demo)[0][:, 20:-20].std(axis=(0, 1)) > 5).all()  # noisy all over
    demo.children[2].value = 0.0
    assert not parts(demo)[0][:, 20:].any()
    demo.children[2].value = 0.5
    assert demo.children[4].value == before
    assert calls == [10 / 255]


def test_more_noise_is_the_same_noise_louder():
    seen = []

    def keep(noisy, *, sigma):
        seen.append((noisy - CLEAN) / sigma)
        return noisy

    demo = denoise_demo(CLEAN, {"keep": keep})
    demo.children[0].value = 50
    assert "σ = 50 of 255" in demo.children[3].value
    assert decibels(demo)[0] == pytest.approx(14.2, abs=0.3)
    torch.testing.assert_close(seen[0], seen[1], atol=1e-4, rtol=0)
    assert demo.children[0].min == 1  # a filter needs some


def test_networks_and_filters_stand_side_by_side():
    torch.manual_seed(0)
    network = DnCNN(depth=3, width=4).train()
    demo = denoise_demo(CLEAN[None], {"network": network, "perfect": perfect})
    assert decibels(demo)[0] == decibels(demo)[1]  # it starts as "nothing is noise"
    assert network.training
    demo.children[1].value = "perfect"
    assert "perfect <b>inf</b> dB" in demo.children[3].value


def test_arguments_are_not_changed():
    clean = CLEAN.clone()
    denoise_demo(clean, {"plus": lambda noisy, sigma: noisy.add_(1)})
    assert torch.equal(clean, CLEAN)


@pytest.mark.parametrize(
    ("clean", "denoisers", "sigma", "message"),
    [
        (CLEAN, {}, 0.1, "at least one, got none"),
        (CLEAN[None, None], {"a": black}, 0.1, "index the batch first"),
        (CLEAN.expand(3, 40, 60), {"a": black}, 0.1, "must be"),
        (CLEAN, {"a": black}, 25, "write 25 / 255"),
        (CLEAN, {"a": black}, 0.0, "from 1 to 75"),
    ],
)
def test_bad_input_is_said(clean, denoisers, sigma, message):
    with pytest.raises(ValueError, match=message):
        denoise_demo(clean, denoisers, sigma=sigma)


class Slow(nn.Module):
    """Only a shape: the demo's own work beside a network's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, noisy):
        return noisy * self.weight


def test_an_image_of_another_shape_keeps_it():
    shown = pixels(denoise_demo(torch.rand(30, 90), {"keep": Slow()}))
    assert shown.shape[1] / shown.shape[0] == pytest.approx(6, rel=0.03)

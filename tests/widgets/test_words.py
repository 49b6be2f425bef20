"""Every demo in words: its picture says what it shows, and whatever can be moved has a name."""

import html
import re

import ipywidgets
import numpy as np
import pytest
import torch

from labkit import widgets
from labkit.detection.evaluation import FrocMarks, froc_curve
from labkit.detection.slice_agent import Walk

BOXES = torch.tensor([[4.0, 4, 12, 12], [10.0, 3, 20, 11]])
SCORES = torch.tensor([0.9, 0.6])
BODY = torch.full((64, 64), -1000.0)
BODY[20:44, 20:44] = 0
BLOCK = torch.tensor([[2.0, 3, 1, 9, 8, 6]])
FILM = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))


def halves() -> torch.Tensor:
    """(20, 30) two regions, left and right."""
    labels = torch.zeros(20, 30, dtype=torch.int64)
    labels[:, 15:] = 1
    return labels


HIERARCHY = torch.tensor([[0.0, 0, 15, 20], [15, 0, 30, 20], [0, 0, 30, 20]]), torch.tensor([[0, 1]])
DETECTION = {"boxes": BOXES, "scores": SCORES, "labels": torch.tensor([1, 2])}
WALK = torch.tensor([[0.0, 0, 0, 64, 64, 1], [8, 8, 0, 48, 40, 1]])
CURVE = froc_curve([FrocMarks(np.array([0.9]), np.array([0.4]))])
CANDIDATE = {"voxels": torch.tensor([[4.0, 6, 7]]), "scores": torch.tensor([0.9])}
STEPS = Walk([20, 21, 20], [(0.0, 1.0), (0.4, 0.1), (0.0, 1.0)], 21)
DEMOS = {
    "anchors_demo": lambda demo: demo(FILM, BOXES, stride=8, sizes=[8], aspect_ratios=[1.0]),
    "denoise_demo": lambda demo: demo(FILM, {"none": lambda noisy, sigma: noisy}),
    "detector_demo": lambda demo: demo([FILM], [DETECTION], truths=[BOXES]),
    "distortions_demo": lambda demo: demo(torch.linspace(0, 1, 32 * 32).reshape(32, 32)),
    "dose_demo": lambda demo: demo(BODY, pixel_mm=5.0, views=60),
    "heatmap_demo": lambda demo: demo([FILM], [torch.rand(10, 15)], CURVE, truths=[BOXES]),
    "nms_demo": lambda demo: demo(BOXES, SCORES, image=FILM),
    "operating_point_demo": lambda demo: demo([FILM], [BOXES], [SCORES], CURVE, truths=[BOXES]),
    "roi_demo": lambda demo: demo(torch.rand(1, 6, 9), stride=8, box=torch.tensor([11.0, 13, 43, 27])),
    "selective_search_demo": lambda demo: demo(FILM, halves(), *HIERARCHY),
    "stages_demo": lambda demo: demo(torch.zeros(9, 20, 30), {"1": CANDIDATE}, {"1": CURVE}, truths=torch.zeros(0, 6)),
    "volume_demo": lambda demo: demo(torch.zeros(8, 12, 14), BLOCK, ["liver"], truths=BLOCK, spacing=(4.0, 3.0, 3.0)),
    "walk_demo": lambda demo: demo(BODY[None], WALK, torch.rand(2, 3), truth=WALK[1], spacing=(4, 3, 3), actions="abc"),
    "slice_walk_demo": lambda demo: demo(torch.rand(48, 64), STEPS, height=63.0, spacing=3.0),
}


def test_every_demo_is_here():
    assert sorted(DEMOS) == sorted(widgets.__all__)


@pytest.mark.parametrize("name", DEMOS)
def test_a_picture_says_what_it_shows_and_every_control_has_a_name(name):
    demo = DEMOS[name](getattr(widgets, name))
    place, picture = next((i, c) for i, c in enumerate(demo.children) if isinstance(c, ipywidgets.Image))
    words, controls = demo.children[place - 1], demo.children[: place - 1]
    assert controls
    assert len({control.description for control in controls} - {""}) == len(controls)
    said = html.unescape(re.sub("<.*?>", "", words.value))
    assert said
    assert picture.tooltip.endswith(f": {said}")
    assert not picture.tooltip.startswith(":")
    words.value = "<b>3</b> &lt; 4"
    assert picture.tooltip.endswith(": 3 < 4")

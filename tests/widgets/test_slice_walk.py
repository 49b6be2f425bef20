"""The agent's walk, live: the slider is moved, the words and the picture are looked at."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.detection.slice_agent import Walk
from labkit.widgets import slice_walk_demo

WALK = Walk([20, 21, 22, 21], [(0.0, 1.0), (0.2, 0.6), (0.5, 0.1), (0.2, 0.6)], 22)
ORANGE = (230, 159, 0)


def demo(walk=WALK):
    image = torch.rand(96, 128, generator=torch.Generator().manual_seed(0))
    return slice_walk_demo(image, walk, height=65.0, spacing=3.0)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[2].value))).astype(int)


def test_the_words_follow_the_slider():
    widget = demo()
    assert widget.children[1].value == "row <b>20</b>, 5 mm above the slice; up is worth 0.00, down <b>1.00</b>"
    widget.children[0].value = 2
    assert widget.children[1].value == "row <b>22</b>, 1 mm below the slice; up is worth <b>0.50</b>, down 0.10"
    assert widget.children[0].max == 3


def test_the_agent_moves_and_nothing_stays_behind():
    widget = demo()
    first = pixels(widget)
    assert (abs(first - ORANGE).max(axis=2) < 40).any()
    widget.children[0].value = 1
    assert not np.array_equal(pixels(widget), first)
    widget.children[0].value = 0
    assert np.array_equal(pixels(widget), first)


def test_a_walk_that_leaves_the_image_is_refused():
    with pytest.raises(ValueError, match=r"walk must have steps on rows below 96, got \[96\]; walk on this image"):
        demo(Walk([96], [(0.0, 1.0)], 96))
    with pytest.raises(ValueError, match="walk must have steps"):
        demo(Walk([], [], 0))

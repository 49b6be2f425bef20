"""An agent's walk, live: the slider is moved, the words and the picture are looked at."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.widgets import walk_demo

ORANGE = (230, 159, 0)
TRUTH = torch.tensor([4.0, 3, 2, 12, 9, 6])
BOXES = torch.stack([torch.tensor([0.0, 0, 0, 16, 12, 8]), torch.tensor([2.0, 1, 1, 14, 11, 7]), TRUTH])
VALUES = torch.tensor([[0.1, 0.9, -0.5], [0.8, 0.2, -0.1], [-0.3, -0.2, -0.9]])


def demo(**options):
    given = {"truth": TRUTH, "spacing": (4, 3, 3), "actions": ["x +", "zoom in", "zoom out"]} | options
    return walk_demo(torch.zeros(8, 12, 16), BOXES, VALUES, **given)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[2].value))).astype(int)


def test_it_shows_its_first_state_without_a_slider_moved():
    widget = demo()
    assert widget.children[1].value == "IoU <b>0.12</b>; the move that follows: <b>zoom in</b>"
    assert (abs(pixels(widget) - ORANGE).max(axis=2) < 40).any()


def test_the_words_and_the_picture_follow_the_slider():
    widget = demo()
    first = pixels(widget)
    widget.children[0].value = 1
    assert widget.children[1].value == "IoU <b>0.27</b>; the move that follows: <b>x +</b>"
    assert not np.array_equal(pixels(widget), first)
    widget.children[0].value = 2
    assert widget.children[1].value == "IoU <b>1.00</b>; the walk ends here"
    widget.children[0].value = 0
    assert np.array_equal(pixels(widget), first)  # nothing stays behind


def test_it_may_begin_elsewhere():
    assert demo(step=2).children[1].value.startswith("IoU <b>1.00")


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"boxes must be \(T, 6\) and truth \(6,\), got \(3, 6\) and \(4,\)"):
        demo(truth=torch.zeros(4))
    with pytest.raises(ValueError, match=r"values must hold 3 rows of 2 actions, got \(3, 3\); ask the network"):
        demo(actions=["x +", "x -"])

"""Through a volume, live: sliders are moved, the words and the picture are looked at."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.widgets import volume_demo

ORANGE, GREEN = (230, 159, 0), (0, 158, 115)
BOX = torch.tensor([[4.0, 6, 10, 30, 20, 26]])
STEPS = (4.0, 3.0, 3.0)


def scene():
    """A block of 100 HU in water, slices of other grey at each height."""
    volume = torch.zeros(32, 40, 48)
    volume[10:26, 6:20, 4:30] = 150
    return volume


def demo(boxes=BOX, names=("liver",), truths=BOX):
    return volume_demo(scene(), boxes, list(names), truths=truths, spacing=STEPS)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[5].value))).astype(int)


def share(widget, color):
    """Of the picture, that is about this colour."""
    return float((abs(pixels(widget) - color).max(axis=2) < 40).mean())


def go_to(widget, x, y, z):
    for slider, value in zip(widget.children[:3], (x, y, z), strict=True):
        slider.value = value


def test_it_shows_its_first_state_without_a_slider_moved():
    widget = demo()
    assert widget.children[4].value == "the slices through <b>x 24, y 20, z 16</b> cut <b>1</b> found box: liver"
    assert share(widget, ORANGE) > 0


def test_a_box_is_shown_from_its_first_slice_to_its_last():
    widget = demo()
    for z, inside in ((9, False), (10, True), (25, True), (26, False)):
        go_to(widget, 47, 39, z)
        assert ("liver" in widget.children[4].value) == inside
        assert (share(widget, ORANGE) > 0) == inside


def test_truth_is_green_and_needs_no_answer():
    widget = demo(boxes=BOX[:0], names=())
    go_to(widget, 10, 10, 20)
    assert share(widget, GREEN) > 0
    assert share(widget, ORANGE) == 0
    go_to(widget, 47, 39, 2)
    assert share(widget, GREEN) == 0


def test_the_three_planes_follow_the_sliders_and_nothing_stays_behind():
    widget = demo(boxes=BOX[:0], names=(), truths=BOX[:0])
    go_to(widget, 40, 30, 5)
    dark = pixels(widget)
    for place in ((15, 30, 5), (40, 10, 5), (40, 30, 15)):
        go_to(widget, *place)
        assert pixels(widget).mean() > dark.mean() + 0.5
    go_to(widget, 40, 30, 5)
    assert np.array_equal(pixels(widget), dark)


def test_the_window_changes_the_greys():
    widget = demo()
    soft = pixels(widget)
    widget.children[3].value = "lungs"
    assert not np.array_equal(pixels(widget), soft)


def test_the_head_is_above():
    volume = torch.full((32, 40, 48), -1000.0)
    volume[28:] = 1000  # the uppermost slices
    widget = volume_demo(volume, BOX[:0], [], truths=BOX[:0], spacing=STEPS)
    picture = pixels(widget)[..., 0]
    width = picture.shape[1]
    coronal = picture[:, int(0.45 * width) : int(0.55 * width)]
    rows = np.nonzero((coronal > 250).mean(axis=1) > 0.9)[0]
    body = np.nonzero((coronal < 5).mean(axis=1) > 0.9)[0]
    assert len(body)
    assert rows[rows < body.min()].size


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"volume must be \(Z, Y, X\), got shape \(1, 32, 40, 48\)"):
        volume_demo(scene()[None], BOX, ["liver"], truths=BOX, spacing=STEPS)
    with pytest.raises(ValueError, match="names must be one a box, got 2 for 1 boxes"):
        demo(names=("liver", "spleen"))
    with pytest.raises(ValueError, match="spacing must be three positive numbers"):
        volume_demo(scene(), BOX, ["liver"], truths=BOX, spacing=(0.0, 3.0, 3.0))
    with pytest.raises(ValueError, match="a flat box needs z1 and z2 too"):
        demo(boxes=BOX[:, :4])

"""Two stages, live: buttons are pressed, sliders moved, the words and the picture looked at."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.detection.evaluation import FrocMarks, froc_curve
from labkit.widgets import stages_demo

ORANGE, GREEN = (230, 159, 0), (0, 158, 115)
BOX = torch.tensor([[20.0, 30.0, 8.0, 32.0, 42.0, 14.0]])  # a nodule around slice 11
ONE = {"voxels": torch.tensor([[11.0, 36, 26], [11.0, 60, 90], [3.0, 20, 50]]), "scores": torch.tensor([0.8, 0.7, 0.6])}
TWO = {"voxels": ONE["voxels"], "scores": torch.tensor([0.9, 0.1, 0.2])}
CURVES = {
    "stage 1": froc_curve([FrocMarks(np.array([0.8]), np.array([0.7, 0.6]))]),
    "stages 1 + 2": froc_curve([FrocMarks(np.array([0.9]), np.array([0.1, 0.2]))]),
}


def demo(**options):
    marks = {"stage 1": ONE, "stages 1 + 2": TWO}
    return stages_demo(torch.full((16, 80, 120), -850.0), marks, CURVES, truths=BOX, **options)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[4].value))).astype(int)


def has(widget, color):
    """Whether the slice's part of the picture shows a colour."""
    picture = pixels(widget)
    return bool((abs(picture[:, : picture.shape[1] * 6 // 10] - color).max(axis=2) < 40).any())


def numbers(widget):
    return [float(value) for value in re.findall(r"<b>([\d.]+)</b>", widget.children[3].value)]


def test_it_begins_on_the_largest_nodules_slice():
    widget = demo()
    assert widget.children[1].value == 11
    assert numbers(widget) == [1.0, 2.0]
    assert widget.children[3].value.endswith("2 marks on this slice")
    assert has(widget, GREEN)
    assert has(widget, ORANGE)


def test_stage_two_takes_false_marks_away():
    widget = demo()
    widget.children[0].value = "stages 1 + 2"
    assert numbers(widget) == [1.0, 0.0]
    assert widget.children[3].value.endswith("1 mark on this slice")


@pytest.mark.parametrize(("threshold", "expected"), [(0.65, [1.0, 1.0]), (0.75, [1.0, 0.0]), (0.9, [0.0, 0.0])])
def test_the_point_follows_the_threshold(threshold, expected):
    widget = demo()
    widget.children[2].value = threshold
    assert numbers(widget) == expected


def test_another_slice_shows_its_own_marks():
    widget = demo()
    widget.children[1].value = 3
    assert widget.children[3].value.endswith("1 mark on this slice")
    assert not has(widget, GREEN)
    widget.children[1].value = 7
    assert not has(widget, ORANGE)


def test_nothing_stays_behind():
    widget = demo()
    first = pixels(widget)
    widget.children[1].value = 2
    widget.children[0].value = "stages 1 + 2"
    assert not np.array_equal(pixels(widget), first)
    widget.children[1].value, widget.children[0].value = 11, "stage 1"
    assert np.array_equal(pixels(widget), first)


def test_a_scan_without_nodules():
    marks = {"stage 1": {"voxels": torch.zeros(0, 3), "scores": torch.zeros(0)}}
    curve = froc_curve([FrocMarks(np.array([]), np.array([]))])
    widget = stages_demo(torch.zeros(5, 8, 8), marks, {"stage 1": curve}, truths=torch.zeros(0, 6))
    assert widget.children[1].value == 2
    assert "0 marks" in widget.children[3].value


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"same names, got \['stage 1'\] and \[\]; give one"):
        stages_demo(torch.zeros(5, 8, 8), {"stage 1": ONE}, {}, truths=BOX)
    with pytest.raises(ValueError, match=r"volume must be \(Z, Y, X\), got \(8, 8\)"):
        stages_demo(torch.zeros(8, 8), {"stage 1": ONE}, {"stage 1": CURVES["stage 1"]}, truths=BOX)


def test_a_point_beyond_the_axis_is_an_arrow_at_its_end():
    many = {"stage 1": froc_curve([FrocMarks(np.array([0.8]), np.linspace(0.5, 0.7, 40))])}
    widget = stages_demo(torch.full((16, 80, 120), -850.0), {"stage 1": ONE}, many, truths=BOX, threshold=0.0)
    assert numbers(widget) == [1.0, 40.0]
    picture = pixels(widget)
    assert (abs(picture[:, -40:] - ORANGE).max(axis=2) < 40).any()  # not cut off at the edge of the chart

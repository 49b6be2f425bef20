"""The threshold on a heatmap, live: the slider is moved, the words and the picture are looked at."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.detection.evaluation import froc, hit_center_in_box
from labkit.detection.heatmaps import gaussian_heatmap, heatmap_peaks
from labkit.widgets import heatmap_demo

ORANGE, GREEN = (230, 159, 0), (0, 158, 115)
TRUTHS = [torch.tensor([[20.0, 30, 44, 50]]), torch.tensor([[50.0, 60, 70, 90]])]


def scene():
    """Two films; the first lesion has a hill of 0.9, the second one of 0.4, and the first film an alarm of 0.6."""
    maps = [
        0.9 * gaussian_heatmap(TRUTHS[0], (120, 90), stride=2),
        0.4 * gaussian_heatmap(TRUTHS[1], (120, 90), stride=2),
    ]
    maps[0] = torch.maximum(maps[0], 0.6 * gaussian_heatmap(torch.tensor([[60.0, 80, 80, 100]]), (120, 90), stride=2))
    found = [heatmap_peaks(one) for one in maps]
    curve = froc(found, [{"boxes": boxes} for boxes in TRUTHS], hit=hit_center_in_box())
    return [torch.full((1, 120, 90), 0.4)] * 2, maps, curve


def demo(**options):
    films, maps, curve = scene()
    return heatmap_demo(films, maps, curve, truths=TRUTHS, **options)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[2].value))).astype(int)


def orange(widget):
    """Share of the films' part of the picture that is about orange."""
    picture = pixels(widget)
    warm = picture[:, : picture.shape[1] // 2] - ORANGE
    return float((abs(warm).max(axis=2) < 60).mean())


def numbers(widget):
    return [float(value) for value in re.findall(r"<b>([\d.]+)</b>", widget.children[1].value)]


def test_it_shows_its_first_state_without_a_slider_moved():
    widget = demo(threshold=0.3)
    assert numbers(widget) == [1.0, 0.5]
    assert widget.children[1].value.endswith("3 peaks on these films")
    assert (abs(pixels(widget) - GREEN).max(axis=2) < 40).any()


@pytest.mark.parametrize(
    ("threshold", "expected", "peaks"), [(0.5, [0.5, 0.5], 2), (0.7, [0.5, 0.0], 1), (1.0, [0, 0], 0)]
)
def test_the_words_follow_the_slider(threshold, expected, peaks):
    widget = demo()
    widget.children[0].value = threshold
    assert numbers(widget) == expected
    assert f"; {peaks} peak" in widget.children[1].value


def test_less_lies_above_a_higher_threshold_and_nothing_stays_behind():
    widget = demo(threshold=0.05)
    first, low = pixels(widget), orange(widget)
    widget.children[0].value = 0.7
    assert orange(widget) < low
    widget.children[0].value = 0.05
    assert np.array_equal(pixels(widget), first)


def test_it_changes_no_argument():
    films, maps, curve = scene()
    before = [one.clone() for one in maps]
    heatmap_demo(films, maps, curve, truths=TRUTHS).children[0].value = 0.9
    assert all(torch.equal(one, other) for one, other in zip(maps, before, strict=True))


def test_bad_input_is_named():
    films, maps, curve = scene()
    with pytest.raises(ValueError, match="one entry a film, got 2, 1 and 2; give at least one"):
        heatmap_demo(films, maps[:1], curve, truths=TRUTHS)
    with pytest.raises(ValueError, match=r"stride 4 must be 30 x 22 cells, got \(60, 45\); name its stride"):
        heatmap_demo(films, maps, curve, truths=TRUTHS, stride=4)

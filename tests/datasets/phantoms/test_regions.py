"""Regions: one mass each, of the asked size and contrast."""

import numpy as np
import pytest
import torch

from labkit.datasets.phantoms import lesion_regions
from labkit.datasets.phantoms.lesions import contrast_to_noise


def test_regions_hold_one_lesion_of_the_asked_size_off_centre():
    images, boxes, labels = lesion_regions(60, lesion_size=(12, 40))
    assert images.shape == (60, 1, 64, 64)
    assert images.dtype == boxes.dtype == torch.float32
    assert labels.tolist() == [1, 2] * 30
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 12
    assert sides.max() <= 40
    assert (sides[:, 0] != sides[:, 1]).float().mean() > 0.7
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert ((centers - 32).abs().amax(1) > 6).float().mean() > 0.5
    contrast = [contrast_to_noise(image[0].numpy(), box.numpy()) for image, box in zip(images, boxes, strict=True)]
    assert 1.35 < np.median(contrast) < 1.85


def test_regions_repeat_and_do_not_depend_on_count():
    assert all(map(torch.equal, lesion_regions(3, seed=2), (part[:3] for part in lesion_regions(5, seed=2))))
    assert not torch.equal(lesion_regions(2, seed=2)[0], lesion_regions(2, seed=3)[0])


def test_a_larger_field_of_view_shows_the_same_lesions():
    (_, small, labels), (images, large, labels_large) = lesion_regions(30), lesion_regions(30, size=112)
    assert images.shape == (30, 1, 112, 112)
    assert torch.equal(labels, labels_large)
    same = ((small[:, 2:] - small[:, :2]) == (large[:, 2:] - large[:, :2])).all(1)
    assert same.float().mean() > 0.9  # a large one that found no place in the small region was drawn again


def test_whole_numbers_of_any_library_are_whole_numbers():
    regions = lesion_regions(np.int64(2), size=np.int64(64), seed=torch.tensor(3))
    assert all(map(torch.equal, regions, lesion_regions(2, seed=3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be"),
        ({"count": 1, "size": 40}, "size must be"),
        ({"count": 1, "size": (64, 64)}, "size must be"),
        ({"count": 1, "lesion_size": (20, 20)}, "lesion_size must be"),
        ({"count": 1, "lesion_size": 20}, "lesion_size must be"),
        ({"count": 1, "lesion_size": (12, float("inf"))}, "lesion_size must be"),
        ({"count": 1, "cnr": (1.0,)}, "cnr must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesion_regions(**arguments)

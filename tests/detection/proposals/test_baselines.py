"""Proposals without a search: drawn from the examples, inside the image, and as many as asked for."""

import numpy as np
import pytest
import torch
from skimage.measure import regionprops

from labkit.detection.proposals.baselines import (
    at_working_size,
    gaussian_boxes,
    label_boxes,
    sliding_window_boxes,
    superpixel_boxes,
    uniform_boxes,
)

IMAGE = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))


def examples(count=400) -> torch.Tensor:
    """Upright boxes about the middle of an image 60 by 90."""
    draw = torch.Generator().manual_seed(1)
    centers = torch.tensor([45.0, 30.0]) + torch.tensor([8.0, 4.0]) * torch.randn(count, 2, generator=draw).clamp(-2, 2)
    sides = torch.tensor([12.0, 20.0]) * (0.1 * torch.randn(count, 2, generator=draw)).exp()
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1).clamp(min=0).clamp(max=60)


def numbers(boxes):
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([centers, sides.prod(1, keepdim=True).sqrt(), (sides[:, 1:] / sides[:, :1]).log()], dim=1)


def methods():
    draw = torch.Generator().manual_seed(2)
    return {
        "uniform": lambda image, count: uniform_boxes(image, count=count, examples=examples(), generator=draw),
        "gaussian": lambda image, count: gaussian_boxes(image, count=count, examples=examples(), generator=draw),
        "sliding window": lambda image, count: sliding_window_boxes(image, count=count),
        "superpixels": lambda image, count: superpixel_boxes(image, count=count),
    }


@pytest.mark.parametrize("name", methods())
@pytest.mark.parametrize("count", [1, 50, 333])
def test_boxes_lie_in_the_image_have_an_area_and_no_opinion(name, count):
    boxes, scores = methods()[name](IMAGE, count)
    assert 1 <= len(boxes) <= count
    assert boxes.dtype == scores.dtype == torch.float32
    assert boxes.min() >= 0
    assert (boxes.amax(0)[2:] <= torch.tensor([90.0, 60.0]) + 1e-4).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert torch.equal(scores, torch.zeros(len(boxes)))


def test_gaussian_boxes_have_the_mean_and_covariance_of_the_examples():
    drawn = numbers(
        gaussian_boxes(IMAGE, count=20_000, examples=examples(), generator=torch.Generator().manual_seed(3))[0]
    )
    torch.testing.assert_close(drawn.mean(0), numbers(examples()).mean(0), rtol=0.01, atol=0.2)
    torch.testing.assert_close(drawn.T.cov(), numbers(examples()).T.cov(), rtol=0.1, atol=0.3)


def test_uniform_boxes_fill_the_ranges_of_the_examples():
    drawn = numbers(
        uniform_boxes(IMAGE, count=5000, examples=examples(), generator=torch.Generator().manual_seed(3))[0]
    )
    low, high = numbers(examples()).quantile(torch.tensor([0.005, 0.995]), dim=0)
    torch.testing.assert_close(drawn.amin(0), low, rtol=0, atol=0.3)
    torch.testing.assert_close(drawn.amax(0), high, rtol=0, atol=0.3)
    torch.testing.assert_close(drawn.mean(0), (low + high) / 2, rtol=0.02, atol=0.02)


def test_windows_come_in_several_sizes_and_shapes_and_cover_the_image():
    boxes, _ = sliding_window_boxes(IMAGE, count=1000)
    assert 900 <= len(boxes) <= 1000
    assert len(numbers(boxes)[:, 3].mul(10).round().unique()) == 3
    assert len(numbers(boxes)[:, 2].round().unique()) >= 6
    covered = torch.zeros(60, 90, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes[:100].round().long().tolist():  # the first hundred do it already
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert torch.equal(boxes, sliding_window_boxes(torch.zeros(1, 60, 90), count=1000)[0])


def test_label_boxes_are_those_of_skimage():
    labels = np.random.default_rng(0).integers(0, 30, (5, 7)).repeat(4, 0).repeat(3, 1)
    labels = np.unique(labels, return_inverse=True)[1].reshape(20, 21)
    expected = [[r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]] for r in regionprops(labels + 1)]
    assert label_boxes(labels).tolist() == expected


def test_superpixels_follow_edges():
    image = torch.zeros(1, 40, 60)
    image[:, :, 25:] = 1
    boxes, _ = superpixel_boxes(image, count=24)
    assert not ((boxes[:, 0] < 24) & (boxes[:, 2] > 26)).any()  # none reaches over the edge


def test_working_size_shrinks_only_what_is_larger():
    pixels = np.random.default_rng(0).random((60, 90, 1))
    same, factors = at_working_size(pixels, 90)
    assert same is pixels
    assert factors == (1, 1, 1, 1)
    small, factors = at_working_size(pixels, 45)
    assert small.shape == (30, 45, 1)
    assert factors == (2, 2, 2, 2)


@pytest.mark.parametrize("method", [uniform_boxes, gaussian_boxes])
def test_bad_examples_are_told(method):
    with pytest.raises(ValueError, match="examples must hold at least"):
        method(IMAGE, count=5, examples=torch.zeros(0, 4))
    with pytest.raises(ValueError, match="examples must lie in the image"):
        method(IMAGE, count=5, examples=torch.tensor([[80.0, 10.0, 95.0, 20.0]]).repeat(9, 1))
    with pytest.raises(ValueError, match=r"count must be a positive whole number, got 2\.5"):
        method(IMAGE, count=2.5, examples=examples())


def test_a_covariance_needs_enough_examples():
    with pytest.raises(ValueError, match="at least 6 boxes for a covariance of 4 numbers, got 5"):
        gaussian_boxes(IMAGE, count=5, examples=examples(5))

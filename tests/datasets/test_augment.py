"""Flips carry their boxes along; batches are collated into two lists."""

import pytest
import torch

from labkit.datasets.augment import Flipped, collate_fn, flip


def film():
    """A dark film 6 high and 10 wide with one bright rectangle, its box, and a label."""
    image = torch.zeros(1, 6, 10)
    image[:, 1:3, 2:7] = 1
    return image, {"boxes": torch.tensor([[2.0, 1, 7, 3]]), "labels": torch.tensor([2])}


def bright(image):
    rows, columns = image[0].nonzero().unbind(dim=1)
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@pytest.mark.parametrize(("axis", "box"), [("x", [3.0, 1.0, 8.0, 3.0]), ("y", [2.0, 3.0, 7.0, 5.0])])
def test_the_box_stays_around_what_it_marked(axis, box):
    image, target = flip(*film(), axis=axis)
    assert target["boxes"][0].tolist() == box == bright(image)
    assert target["labels"].tolist() == [2]


@pytest.mark.parametrize(("axis", "low", "high", "side"), [("x", 0, 2, 100), ("y", 1, 3, 60)])
def test_boxes_are_mirrored_exactly_and_are_plain_tensors(axis, low, high, side):
    corner = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) * 40
    boxes = torch.cat([corner, corner + 9.3], dim=1)
    flipped = flip(torch.zeros(1, 60, 100), {"boxes": boxes}, axis=axis)[1]["boxes"]
    assert type(flipped) is torch.Tensor
    expected = boxes.clone()
    expected[:, low], expected[:, high] = side - boxes[:, high], side - boxes[:, low]
    assert torch.equal(flipped, expected)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_twice_is_nothing_and_no_argument_changes(axis):
    image, target = film()
    twice = flip(*flip(image, target, axis=axis), axis=axis)
    assert torch.equal(twice[0], film()[0])
    assert torch.equal(twice[1]["boxes"], film()[1]["boxes"])
    assert torch.equal(target["boxes"], film()[1]["boxes"])


def test_a_film_without_boxes():
    assert flip(torch.zeros(1, 6, 10), {"boxes": torch.zeros(0, 4)}, axis="x")[1]["boxes"].shape == (0, 4)


def test_an_unknown_axis_is_refused():
    with pytest.raises(ValueError, match="swaps left and right"):
        flip(*film(), axis="h")
    with pytest.raises(ValueError, match=r"image must have shape \(C, H, W\), got \(6, 10\)"):
        flip(film()[0][0], film()[1], axis="x")


@pytest.mark.parametrize("name", ["masks", "keypoints", "centers"])
def test_places_that_would_stay_behind_are_refused(name):
    image, target = film()
    with pytest.raises(ValueError, match=f"no places but its boxes, got {name}, which would stay"):
        flip(image, target | {name: torch.zeros(1, 2)}, axis="x")


def test_all_four_sides_come_up_and_their_boxes_fit():
    torch.manual_seed(0)
    images = Flipped([film()])
    seen = [images[0] for _ in range(40)]
    assert len(images) == 1
    assert all(bright(image) == target["boxes"][0].tolist() for image, target in seen)
    assert len({tuple(bright(image)) for image, _ in seen}) == 4


def test_a_batch_is_two_lists():
    images, targets = collate_fn([film(), film()])
    assert [image.shape for image in images] == [(1, 6, 10)] * 2
    assert [target["labels"].tolist() for target in targets] == [[2], [2]]

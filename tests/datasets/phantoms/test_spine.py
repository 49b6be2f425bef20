"""Frontal projections: the same on every call, L3 in each of them, and what they show."""

import numpy as np
import pytest
import torch

from labkit.datasets.phantoms.spine import MARGIN, MM, VERTEBRAE, spine_projections

few = pytest.fixture(scope="module")(lambda: spine_projections(6, seed=3))


def test_an_image_does_not_depend_on_how_many_are_made(few):
    again = spine_projections(2, seed=3)
    assert torch.equal(again.images, few.images[:2])
    assert torch.equal(again.heights, few.heights[:2])


def test_another_seed_has_other_patients(few):
    assert not torch.equal(spine_projections(1, seed=4).images, few.images[:1])


def test_each_shows_l3_with_room_around_it(few):
    last = (few.scanned - 1) * MM
    assert bool((few.heights >= MARGIN - MM).all())
    assert bool((few.heights <= last - MARGIN + MM).all())


def test_vertebrae_come_in_order_and_a_lumbar_one_is_three_cm_high(few):
    for row in few.vertebrae:
        there = row[row.isfinite()]
        assert bool((there.diff() > 0).all())
    lumbar = few.vertebrae[:, VERTEBRAE.index("L3")] - few.vertebrae[:, VERTEBRAE.index("L2")]
    assert bool(((lumbar > 25) & (lumbar < 50)).all())


def test_below_the_scan_all_is_black_and_in_it_bone_is_bright(few):
    for image, rows, height in zip(few.images, few.scanned.tolist(), few.heights.tolist(), strict=True):
        assert float(image[rows:].sum()) == 0
        row = round(height / MM)
        spine, side = image[row - 3 : row + 4, 55:73].mean(), image[row - 3 : row + 4, 36:44].mean()
        assert spine > 1.5 * side
        assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_parts_share_no_patient(few):
    train, test = few.split((0.5, 0.5))
    assert not set(train.patients.tolist()) & set(test.patients.tolist())
    assert len(train) + len(test) == 6
    assert torch.equal(few.subset([2]).images[0], few.images[2])
    assert np.isclose(float(few.subset([2]).heights[0]), float(few.heights[2]))


@pytest.mark.parametrize(("arguments", "told"), [((0,), "count must be"), ((1.5,), "count must be")])
def test_bad_input_is_named(arguments, told):
    with pytest.raises(ValueError, match=told):
        spine_projections(*arguments)
    with pytest.raises(ValueError, match="seed must be"):
        spine_projections(1, seed=-1)

"""Anchors in a volume: by hand, in order, as the flat ones, and what is refused."""

import itertools

import pytest
import torch

from labkit.detection.anchors import anchor_grid
from labkit.detection.anchors_3d import anchor_grid_3d
from labkit.detection.boxes import box_iou_3d
from labkit.detection.matching import match_iou

NAN = float("nan")


def test_a_grid_by_hand():
    grid = anchor_grid_3d((2, 3, 4), stride=(4, 10, 20), sizes=[2, (8, 6, 4)]).reshape(2, 3, 4, 2, 6)
    assert grid[1, 2, 3, 0].tolist() == [59, 19, 3, 61, 21, 5]  # cell z=1, y=2, x=3: centre (60, 20, 4)
    assert grid[1, 2, 3, 1].tolist() == [56, 17, 2, 64, 23, 6]
    assert grid[0, 0, 0, 0].tolist() == [-1, -1, -1, 1, 1, 1]
    assert grid.dtype == torch.float32


def test_a_layer_of_cells_has_the_flat_anchors():
    flat = anchor_grid((3, 5), stride=(6, 8), sizes=[7, 12], aspect_ratios=[1.0], rounded=False)
    grid = anchor_grid_3d((1, 3, 5), stride=(4, 6, 8), sizes=[7, 12])
    assert torch.equal(grid[:, [0, 1, 3, 4]], flat)


def test_every_combination_of_sides():
    sizes = list(itertools.product((15, 30, 60, 120), repeat=3))
    grid = anchor_grid_3d((2, 1, 1), stride=8, sizes=sizes)
    assert grid.shape == (128, 6)
    assert len({tuple(box[3:].sub(box[:3]).tolist()) for box in grid[:64]}) == 64


def test_the_best_anchor_of_each_box_is_found():
    anchors = anchor_grid_3d((3, 4, 5), stride=8, sizes=[6, 14])
    boxes = torch.tensor([[10.0, 9, 1, 24, 23, 15], [0.0, 0, 13, 2, 3, 18]])
    matches = match_iou(box_iou_3d(boxes, anchors), positive_iou=0.7, negative_iou=0.3, best_of_each_truth=True)
    assert set(matches.tolist()) == {0, 1, -1, -2}


def test_a_grid_without_cells():
    assert anchor_grid_3d((0, 3, 2), stride=8, sizes=[16]).shape == (0, 6)
    assert len(anchor_grid_3d(torch.zeros(1, 1, 2, 3, 4).shape[-3:], stride=8, sizes=[16])) == 24


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": []}, "sizes must be a list of sides"),
        ({"sizes": 16}, "sizes must be a list of sides"),
        ({"sizes": [16, -1]}, "sizes must be positive, one number or three, got -1"),
        ({"sizes": [(16, 8)]}, r"sizes must be positive, one number or three, got \(16, 8\)"),
        ({"sizes": [(16, 8, 0)]}, "sizes must be positive"),
        ({"sizes": [NAN]}, "sizes must be positive"),
        ({"stride": 0}, "stride must be positive"),
        ({"stride": (8, 8)}, "stride must be positive, one number or three"),
        ({"stride": (8, NAN, 8)}, "stride must be positive"),
        ({"feature_size": (2, 3)}, r"feature_size must be \(d, h, w\)"),
        ({"feature_size": (2, 3, 2.5)}, "feature_size must be"),
        ({"feature_size": (2, 3, -1)}, "feature_size must be"),
    ],
)
def test_grids_that_are_refused(changed, message):
    options = {"feature_size": (2, 3, 4), "stride": 8, "sizes": [16], **changed}
    with pytest.raises(ValueError, match=message):
        anchor_grid_3d(options.pop("feature_size"), **options)

"""Localization as regression: targets, heads, and what they see."""

import math

import pytest
import torch

from labkit.detection.localizer import BoxHead, LesionClassifier, to_boxes, to_targets

BOXES = torch.tensor([[3.0, 10, 20, 40], [0, 0, 64, 64], [30, 5, 61, 17]])


def test_targets_by_hand():
    # centre (32, 40) in a region around (32, 32); half as wide as the region, a quarter as high
    targets = to_targets(torch.tensor([[16.0, 32.0, 48.0, 48.0]]), size=64)
    torch.testing.assert_close(targets, torch.tensor([[0.0, 8 / 64, math.log(1 / 2), math.log(1 / 4)]]))


def test_boxes_come_back_and_are_clipped():
    torch.testing.assert_close(to_boxes(to_targets(BOXES, size=64), size=64), BOXES, atol=1e-4, rtol=0)
    outside = to_boxes(torch.tensor([[0.4, 0.0, 0.0, 0.0]]), size=64)
    torch.testing.assert_close(outside, torch.tensor([[25.6, 0.0, 64.0, 64.0]]))


@pytest.mark.parametrize(("attach", "shape"), [("conv", (2, 96, 8, 8)), ("fc", (2, 128))])
def test_features_and_heads_fit(attach, shape):
    model = LesionClassifier().eval()
    features = model.features(torch.rand(2, 1, 64, 64), attach=attach)
    assert features.shape == shape
    assert BoxHead(attach, classes=3)(features).shape == (2, 3, 4)


def test_a_larger_view_has_features_of_the_same_size():
    assert LesionClassifier().eval().features(torch.rand(1, 1, 128, 128), attach="conv").shape == (1, 96, 8, 8)


def test_an_unknown_place_is_told():
    with pytest.raises(ValueError, match='attach must be "conv" or "fc", got \'pool\''):
        LesionClassifier().features(torch.rand(1, 1, 64, 64), attach="pool")
    with pytest.raises(ValueError, match="attach must be one of conv, fc, got 'pool'"):
        BoxHead("pool")


def test_a_head_learns_the_place_of_a_bright_square():
    torch.manual_seed(0)
    corner = torch.randint(0, 40, (200, 2))
    boxes = torch.cat([corner, corner + 20], dim=1).float()
    features = torch.zeros(200, 96, 8, 8)
    for row, (x, y) in enumerate((corner + 10) // 8):
        features[row, :, y, x] = 1.0
    head, wanted = BoxHead("conv"), to_targets(boxes, size=64)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.smooth_l1_loss(head(features)[:, 0], wanted, beta=0.1)
        loss.backward()
        optimizer.step()
    found = to_boxes(head.eval()(features)[:, 0], size=64)
    assert (found - boxes).abs().mean() < 4  # half a cell of the map

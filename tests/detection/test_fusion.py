"""The mean of the best proposals."""

import pytest
import torch

from labkit.detection.fusion import fuse_proposals

BOXES = torch.tensor([[0.0, 0, 0, 4, 4, 4], [2, 2, 2, 8, 8, 8], [90, 90, 90, 99, 99, 99]])


def test_the_best_are_weighed_by_their_scores():
    fused = fuse_proposals(BOXES, torch.tensor([0.6, 0.3, 0.1]), share=0.7)
    torch.testing.assert_close(fused, (2 * BOXES[:1] + BOXES[1:2]) / 3)


def test_equal_boxes_stay_and_the_order_does_not_matter():
    same, scores = BOXES[:1].repeat(7, 1), torch.rand(7) + 0.1
    torch.testing.assert_close(fuse_proposals(same, scores, share=0.5), BOXES[:1])
    some, order = torch.rand(11, 6), torch.randperm(11)
    values = torch.linspace(0.2, 0.9, 11)
    ours = fuse_proposals(some, values, share=0.3)
    torch.testing.assert_close(fuse_proposals(some[order], values[order], share=0.3), ours)


def test_none_of_none_and_one_of_one():
    assert fuse_proposals(BOXES[:0], torch.zeros(0)).shape == (0, 6)
    torch.testing.assert_close(fuse_proposals(BOXES[:1], torch.tensor([0.2])), BOXES[:1])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="give one score a box"):
        fuse_proposals(BOXES, torch.ones(2))
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 10; 0.1 takes the best tenth"):
        fuse_proposals(BOXES, torch.ones(3), share=10)

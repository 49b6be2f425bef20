"""RoI align against torchvision's: values and gradients, at every border."""

import pytest
import torch
from torchvision import ops

from labkit.detection.roi_pooling import roi_align


def features_and_boxes(channels=5, height=9, width=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, height, width, generator=generator)
    limit = torch.tensor([width * 4.0, height * 4.0])
    boxes = []
    for count in (7, 4):
        corner = (torch.rand(count, 2, generator=generator) * 1.4 - 0.2) * limit  # some hang over an edge
        boxes.append(torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * limit], dim=1))
    boxes[0][0] = torch.tensor([-30.0, -30, -10, -9])  # wholly outside
    boxes[0][1] = torch.tensor([3.0, 3, 3.5, 3.25])  # narrower than a cell
    boxes[0][2] = torch.tensor([0.0, 0, width * 4, height * 4])  # the whole image
    return features, boxes


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [1, 5, 7])
@pytest.mark.parametrize(("height", "width"), [(9, 14), (1, 6), (6, 1)])
def test_values_and_gradients_are_torchvisions(size, height, width, layout):
    features, boxes = features_and_boxes(height=height, width=width)
    mine, theirs = (features.clone().contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    got = roi_align(mine, boxes, size=size, stride=4)
    expected = ops.roi_align(theirs, boxes, size, spatial_scale=1 / 4, sampling_ratio=2, aligned=False)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(3))
    (got * weight).sum().backward(), (expected * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_no_proposal_at_all():
    features, _ = features_and_boxes()
    assert roi_align(features, [torch.zeros(0, 4), torch.zeros(0, 4)], size=3, stride=4).shape == (0, 5, 3, 3)
    one = roi_align(features, [torch.zeros(0, 4), torch.tensor([[4.0, 4.0, 20.0, 12.0]])], size=3, stride=4)
    expected = ops.roi_align(features[1:], [torch.tensor([[4.0, 4.0, 20.0, 12.0]])], 3, 1 / 4, 2)
    torch.testing.assert_close(one, expected, atol=1e-5, rtol=0)

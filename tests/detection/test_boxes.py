import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from labkit.detection.boxes import decode_boxes, encode_boxes


def random_boxes(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([90.0, 40.0])
    size = 2 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([30.0, 12.0])
    return torch.cat([corner, corner + size], dim=1).to(dtype)


# --- encode, decode


def test_encode_by_hand():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    boxes = torch.tensor([[10.0, 10.0, 30.0, 20.0]])  # centre (20, 15) against (5, 10); twice as wide, half as high
    torch.testing.assert_close(encode_boxes(boxes, anchors), torch.tensor([[1.5, 0.25, math.log(2), -math.log(2)]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encode_and_decode_equal_torchvision(dtype):
    boxes, anchors = random_boxes(200, 1, dtype), random_boxes(200, 2, dtype)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    deltas = encode_boxes(boxes, anchors)
    assert deltas.dtype == dtype
    torch.testing.assert_close(deltas, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
    wild = 6 * torch.randn(200, 4, generator=torch.Generator().manual_seed(3)).to(dtype)  # some beyond the clamp
    torch.testing.assert_close(decode_boxes(wild, anchors), coder.decode_single(wild, anchors), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.float16, 0.3), (torch.bfloat16, 2)],
)
def test_decode_undoes_encode(dtype, tolerance):
    boxes, anchors = random_boxes(50, 1, dtype), random_boxes(50, 2, dtype)
    decoded = decode_boxes(encode_boxes(boxes, anchors), anchors)
    assert decoded.dtype == dtype
    torch.testing.assert_close(decoded, boxes, rtol=0, atol=tolerance)


def test_decode_clamps_only_growth():
    anchors = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    grown = decode_boxes(torch.tensor([[0.0, 0.0, 80.0, -80.0]]), anchors)
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(1000.0))
    torch.testing.assert_close(grown[0, 3] - grown[0, 1], torch.tensor(0.0))


def test_encode_and_decode_of_nothing():
    empty = torch.zeros(0, 4)
    assert encode_boxes(empty, empty).shape == (0, 4)
    assert decode_boxes(empty, empty).shape == (0, 4)


def test_gradients_flow_and_arguments_stay():
    anchors = random_boxes(5, 2, torch.float64)
    deltas = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = deltas.detach().clone()
    assert torch.autograd.gradcheck(lambda d: decode_boxes(d, anchors), deltas)
    boxes = random_boxes(5, 1, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: encode_boxes(b, anchors), boxes)
    assert torch.equal(deltas, before)


# --- bad input


@pytest.mark.parametrize("anchors", [torch.zeros(4), torch.tensor([[0.0, 0.0, 4.0, 0.0]])])
def test_anchors_that_are_none_are_refused(anchors):
    with pytest.raises(ValueError, match="anchors must have"):
        encode_boxes(torch.zeros(0, 4), anchors)


@pytest.mark.parametrize("change", [Tensor.tolist, Tensor.numpy])
def test_lists_and_arrays_are_told(change):
    boxes, anchors = random_boxes(3, 1), random_boxes(3, 2)
    for call in (
        lambda: encode_boxes(change(boxes), anchors),
        lambda: encode_boxes(boxes, change(anchors)),
        lambda: decode_boxes(change(boxes), anchors),
        lambda: decode_boxes(boxes, change(anchors)),
    ):
        with pytest.raises(ValueError, match=r"must be (a tensor|tensors), got .*; write torch.as_tensor\("):
            call()


def test_rows_must_correspond():
    with pytest.raises(ValueError, match=r"boxes must have a row for each anchor, \(2, 4\), got \(3, 4\)"):
        encode_boxes(random_boxes(3), random_boxes(2))
    with pytest.raises(ValueError, match=r"deltas must .* got \(3, 8\)"):
        decode_boxes(torch.zeros(3, 8), random_boxes(3))
    with pytest.raises(ValueError, match=r"anchors must have shape"):
        decode_boxes(torch.zeros(4), torch.zeros(4))

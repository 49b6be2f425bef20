import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, nms

from labkit.detection.boxes import check_boxes, decode_boxes, encode_boxes, soft_nms


def random_boxes(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([90.0, 40.0])
    size = 2 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([30.0, 12.0])
    return torch.cat([corner, corner + size], dim=1).to(dtype)


def slow_soft_nms(boxes, scores, sigma, score_threshold):
    """The paper's loop, one box and one pair at a time."""
    left, keep, kept_scores = {i: float(score) for i, score in enumerate(scores)}, [], []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        if left[best] < score_threshold:
            break
        keep.append(best)
        kept_scores.append(left.pop(best))
        for i in left:
            overlap = float(box_iou(boxes[best : best + 1], boxes[i : i + 1]))
            left[i] *= math.exp(-(overlap**2) / sigma)
    return keep, kept_scores


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


# --- soft suppression


def test_soft_nms_by_hand():
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [50.0, 0.0, 60.0, 10.0]]
    )  # IoU 1/2 with the first
    keep, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.5)
    assert keep.tolist() == [0, 2]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7]))
    keep, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.4)
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(scores[2], torch.tensor(0.8 * math.exp(-0.25 / 0.5)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_soft_nms_equals_the_papers_loop(seed, sigma):
    boxes = random_boxes(40, seed, torch.float64)
    scores = torch.rand(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores = (10 * scores).round() / 10 if seed % 2 else scores  # ties, and scores of 0
    before = scores.clone()
    keep, kept_scores = soft_nms(boxes, scores, sigma=sigma, score_threshold=0.15)
    expected_keep, expected_scores = slow_soft_nms(boxes, scores, sigma, 0.15)
    assert keep.tolist() == expected_keep
    assert kept_scores.tolist() == pytest.approx(expected_scores, abs=1e-12)
    assert torch.equal(scores, before)


def test_soft_nms_with_a_tiny_sigma_is_nms_at_zero():
    boxes, scores = random_boxes(60, 4), torch.rand(60, generator=torch.Generator().manual_seed(4))
    keep, kept_scores = soft_nms(boxes, scores, sigma=1e-9, score_threshold=1e-6)
    assert keep.tolist() == nms(boxes, scores, 0.0).tolist()
    assert torch.equal(kept_scores, scores[keep])  # what stays has lost nothing


def test_soft_nms_takes_each_box_once_and_in_order():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 8.0]]).repeat(6, 1)  # scores fall to exactly 0 in the end
    keep, scores = soft_nms(boxes, torch.full((6,), 0.5), sigma=1e-3, score_threshold=0.0)
    assert keep.tolist() == [0, 1, 2, 3, 4, 5]
    assert scores.tolist() == [0.5, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_soft_nms_keeps_the_dtype(dtype):
    _, scores = soft_nms(
        random_boxes(9).to(dtype), torch.linspace(0.1, 1, 9, dtype=dtype), sigma=0.5, score_threshold=0.2
    )
    assert scores.dtype == dtype


def test_soft_nms_of_nothing():
    for boxes, scores in ((torch.zeros(0, 4), torch.zeros(0)), (random_boxes(3), torch.full((3,), 0.1))):
        keep, kept_scores = soft_nms(boxes, scores, sigma=0.5, score_threshold=0.2)
        assert keep.shape == (0,)
        assert keep.dtype == torch.int64
        assert kept_scores.shape == (0,)


# --- bad input


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(4), r"shape \(N, 4\), got \(4,\); write boxes\[None\]"),
        (torch.zeros(2, 5), r"got \(2, 5\)"),
        (torch.zeros(0), r"an image without boxes has \(0, 4\)"),
        (torch.tensor([[0, 0, 4, 4]]), r"floating point, got torch.int64; write boxes.float\(\)"),
        (torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, float("nan"), 4.0, 4.0]]), "finite, got .* in row 1"),
        (torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 0.0, 4.0]]), "x1 < x2 and y1 < y2, got .* in row 1"),
        (torch.tensor([[0.0, 0.0, 4.0, 0.0]]), "in row 0; drop it"),
    ],
)
def test_boxes_that_are_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        check_boxes(boxes)
    with pytest.raises(ValueError, match="anchors"):
        encode_boxes(torch.zeros(0, 4), boxes)


def test_boxes_outside_their_image_are_refused():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 5.0]])
    check_boxes(boxes, image_size=(5, 9))
    check_boxes(torch.zeros(0, 4), image_size=(5, 9))
    with pytest.raises(ValueError, match=r"image of 9 x 5 \(H x W\), got \[0.0, 0.0, 9.0, 5.0\] in row 0"):
        check_boxes(boxes, image_size=(9, 5))
    with pytest.raises(ValueError, match="row 0"):
        check_boxes(boxes - 1, image_size=(9, 9))


def test_rows_must_correspond():
    with pytest.raises(ValueError, match=r"boxes must have a row for each anchor, \(2, 4\), got \(3, 4\)"):
        encode_boxes(random_boxes(3), random_boxes(2))
    with pytest.raises(ValueError, match=r"deltas must .* got \(3, 8\)"):
        decode_boxes(torch.zeros(3, 8), random_boxes(3))
    with pytest.raises(ValueError, match=r"anchors must have shape"):
        decode_boxes(torch.zeros(4), torch.zeros(4))


@pytest.mark.parametrize(
    ("scores", "sigma", "message"),
    [
        (torch.zeros(2), 0.5, r"got \(3, 4\) and \(2,\)"),
        (torch.zeros(3), 0.0, "sigma must be positive, got 0.0"),
        (torch.tensor([0.1, -2.0, 0.3]), 0.5, "not negative"),
        (torch.tensor([0.1, float("nan"), 0.3]), 0.5, "finite"),
    ],
)
def test_soft_nms_refuses(scores, sigma, message):
    with pytest.raises(ValueError, match=message):
        soft_nms(random_boxes(3), scores, sigma=sigma, score_threshold=0.1)


TWO = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])


def test_soft_nms_asks_for_floating_scores():
    with pytest.raises(ValueError, match=r"scores must be floating point, got torch.int64; write scores.float\(\)"):
        soft_nms(TWO, torch.tensor([90, 80, 70]), sigma=0.5, score_threshold=0.1)


def test_soft_nms_keeps_boxes_without_area():
    points = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [9, 9, 9, 12]])
    keep, scores = soft_nms(points, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.1)
    assert keep.tolist() == [0, 1, 2]  # they overlap nothing, not even one another
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.7]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0])
def test_soft_nms_refuses_what_is_no_box(value):
    boxes = TWO.clone()
    boxes[1, 2] = value
    with pytest.raises(ValueError, match=r"finite with x1 <= x2 and y1 <= y2, got .* in row 1"):
        soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.1)

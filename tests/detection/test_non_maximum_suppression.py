"""Soft suppression against the paper's loop, and the greedy merge of OverFeat."""

import math

import pytest
import torch
from torchvision.ops import box_iou, nms

from labkit.detection.boxes import soft_nms
from labkit.detection.non_maximum_suppression import greedy_merge

TWO = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])


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


@pytest.mark.parametrize(
    ("scores", "sigma", "message"),
    [
        (torch.zeros(2), 0.5, r"got \(3, 4\) and \(2,\)"),
        (torch.zeros(3), 0.0, "sigma must be positive, got 0.0"),
        (torch.tensor([0.1, -2.0, 0.3]), 0.5, "not negative"),
        (torch.tensor([0.1, float("nan"), 0.3]), 0.5, "finite"),
        (torch.zeros(3), float("nan"), "sigma must be positive, got nan"),
        ([0.1, 0.2, 0.3], 0.5, r"scores must be a tensor, got list; write torch.as_tensor\(scores\)"),
        (torch.ones(3, dtype=torch.bool), 0.5, "scores must be floating point, got torch.bool"),
    ],
)
def test_soft_nms_refuses(scores, sigma, message):
    with pytest.raises(ValueError, match=message):
        soft_nms(random_boxes(3), scores, sigma=sigma, score_threshold=0.1)


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


def test_a_threshold_that_is_no_number_would_drop_every_box():
    with pytest.raises(ValueError, match=r"score_threshold must be a number, got nan; 0.001 is the paper's value"):
        soft_nms(TWO, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=float("nan"))


def test_whole_numbers_are_good_boxes_and_options():
    scores = torch.tensor([0.9, 0.8, 0.7])
    keep, kept = soft_nms(TWO.long(), scores, sigma=1, score_threshold=0)
    expected = soft_nms(TWO.long().float(), scores, sigma=1.0, score_threshold=0.0)
    assert torch.equal(keep, expected[0])
    torch.testing.assert_close(kept, expected[1])


# The greedy merge


@pytest.mark.parametrize("limit", [float("nan"), -1.0])
def test_a_limit_that_is_none_would_merge_everything(limit):
    with pytest.raises(ValueError, match=r"max_distance must be 0 or more, got .*; 1 merges boxes that meet"):
        greedy_merge(TWO, torch.tensor([0.9, 0.8, 0.7]), max_distance=limit)


def test_merge_asks_for_tensors():
    with pytest.raises(ValueError, match=r"boxes must be a tensor, got list; write torch.as_tensor\(boxes\)"):
        greedy_merge(TWO.tolist(), torch.tensor([0.9, 0.8, 0.7]))


def test_merged_boxes_are_weighted_means_and_scores_add_up():
    boxes = torch.tensor([[0.0, 0, 10, 20], [4, 2, 14, 22], [60, 0, 80, 10]])
    merged, scores = greedy_merge(boxes, torch.tensor([3.0, 1, 2]))
    assert merged.tolist() == [[1, 0.5, 11, 20.5], [60, 0, 80, 10]]
    assert scores.tolist() == [4, 2]


def test_a_cluster_becomes_its_mean_in_whatever_order():
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[30.0, 20], [120, 60]]).repeat(20, 1) + 2 * torch.randn(40, 2, generator=generator)
    boxes = torch.cat([centers - torch.tensor([12.0, 8]), centers + torch.tensor([12.0, 8])], dim=1)
    scores = torch.rand(40, generator=generator) + 0.1
    merged, sums = greedy_merge(boxes, scores)
    means = [(boxes[i::2] * scores[i::2, None]).sum(0) / scores[i::2].sum() for i in (0, 1)]
    means.sort(key=lambda box: -scores[int(box[0] > 60) :: 2].sum())
    torch.testing.assert_close(merged, torch.stack(means))
    torch.testing.assert_close(sums.sum(), scores.sum())


def test_the_limit_decides_what_is_one_thing():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10]])  # centres 0.5 sides apart, half of the area common: 1.0
    ones = torch.ones(2)
    assert len(greedy_merge(boxes, ones, max_distance=1.0)[0]) == 1
    assert len(greedy_merge(boxes, ones, max_distance=0.99)[0]) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes_stay(count):
    boxes = torch.tensor([[1.0, 2, 3, 5]])[:count]
    merged, scores = greedy_merge(boxes, torch.ones(count))
    assert torch.equal(merged, boxes)
    assert torch.equal(scores, torch.ones(count))


def test_merge_leaves_its_arguments():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]]), torch.tensor([1.0, 2])
    greedy_merge(boxes, scores)
    assert boxes[0].tolist() == [0, 0, 10, 10]
    assert scores.tolist() == [1, 2]


@pytest.mark.parametrize(("shape", "scores"), [((4,), [1.0]), ((2, 4), [1.0]), ((2, 4), [1.0, 0.0])])
def test_merge_tells_bad_input(shape, scores):
    with pytest.raises(ValueError, match="must be"):
        greedy_merge(torch.ones(shape), torch.tensor(scores))


@pytest.mark.parametrize("value", [float("nan"), -5.0])
def test_a_box_that_is_none_swallows_no_others(value):
    boxes = torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [80, 0, 90, 10]])
    boxes[1, 2] = value
    with pytest.raises(ValueError, match="in row 1; are they x1 y1 x2 y2"):
        greedy_merge(boxes, torch.ones(3))


def test_boxes_without_area_are_not_merged():
    points = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [60, 60, 60, 60]])
    boxes, scores = greedy_merge(points, torch.tensor([1.0, 2.0, 3.0]))
    assert boxes.tolist() == points.flip(0).tolist()
    assert scores.tolist() == [3, 2, 1]


def test_whole_numbers_would_be_cut_off_in_a_mean():
    with pytest.raises(
        ValueError, match=r"must be floating point, got torch.int64 and torch.float32; write boxes.float"
    ):
        greedy_merge(torch.tensor([[0, 0, 3, 3], [0, 0, 4, 4]]), torch.ones(2))
    with pytest.raises(ValueError, match="positive and finite"):
        greedy_merge(torch.tensor([[0.0, 0, 3, 3]]), torch.tensor([float("nan")]))

"""How good proposals are: recall and overlaps by hand, average recall as an integral, repeatability."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from labkit.detection.proposals import (
    average_best_overlap,
    average_recall,
    best_overlaps,
    measures,
    proposal_recall,
    recall_by_count,
    recall_by_iou,
    repeatability,
    selective_search,
)

BOXES = [
    torch.tensor([[50.0, 0.0, 60.0, 5.0], [0.0, 0.0, 12.0, 5.0], [20.0, 0.0, 30.0, 4.0]]),
    torch.zeros(0, 4),
    torch.tensor([[5.0, 5.0, 9.0, 8.0]]),
]
TARGETS = [
    {"boxes": torch.tensor([[0.0, 0.0, 6.0, 5.0], [20.0, 0.0, 30.0, 4.0]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.tensor([[0.0, 0.0, 4.0, 3.0]]), "labels": torch.tensor([2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def random_sets(seed, *, images=5):
    draw = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner = torch.rand(count, 2, generator=draw) * torch.tensor([60.0, 30.0])
        return torch.cat(
            [corner, corner + 3 + torch.rand(count, 2, generator=draw) * torch.tensor([30.0, 20.0])], dim=1
        )

    return [boxes(40) for _ in range(images)], [{"boxes": boxes(7)} for _ in range(images)]


# ------------------------------------------------------------------------------------------ recall, overlap


def test_overlaps_by_hand():
    assert best_overlaps(BOXES, TARGETS).tolist() == [0.5, 1.0, 0.0]
    assert best_overlaps(BOXES, TARGETS, count=2).tolist() == [0.5, 0.0, 0.0]
    assert best_overlaps(BOXES, TARGETS, label=2).tolist() == [1.0, 0.0]


def test_recall_by_hand():
    assert proposal_recall(BOXES, TARGETS, iou_threshold=0.5) == pytest.approx(2 / 3)  # exactly at 0.5 counts
    assert proposal_recall(BOXES, TARGETS, iou_threshold=0.51) == pytest.approx(1 / 3)
    assert proposal_recall(BOXES, TARGETS, iou_threshold=0.5, label=1) == 1
    assert average_best_overlap(BOXES, TARGETS) == pytest.approx(0.5)
    assert average_recall(BOXES, TARGETS) == pytest.approx(1 / 3)


def test_average_recall_is_the_area_under_the_recall_curve():
    found, targets = random_sets(0)
    thresholds = torch.linspace(0.5, 1, 20_001)
    recall = recall_by_iou(found, targets, iou_thresholds=thresholds)
    area = 2 * torch.trapezoid(recall.double(), thresholds.double())
    assert average_recall(found, targets) == pytest.approx(area.item(), abs=1e-3)


def test_curves_agree_with_single_calls_and_are_monotone():
    found, targets = random_sets(1)
    thresholds, counts = torch.tensor([0.3, 0.5, 0.7]), [1, 5, 20, 40]
    by_iou = recall_by_iou(found, targets, iou_thresholds=thresholds, count=20)
    by_count = recall_by_count(found, targets, counts=counts, iou_threshold=0.4)
    assert by_iou.tolist() == [
        pytest.approx(proposal_recall(found, targets, iou_threshold=t, count=20)) for t in thresholds.tolist()
    ]
    assert by_count.tolist() == [
        pytest.approx(proposal_recall(found, targets, iou_threshold=0.4, count=c)) for c in counts
    ]
    assert (by_iou.diff() <= 0).all()
    assert (by_count.diff() >= 0).all()
    assert by_count[-1] > by_count[0]


def test_the_truth_itself_is_perfect():
    _, targets = random_sets(2)
    truth = [target["boxes"] for target in targets]
    assert proposal_recall(truth, targets, iou_threshold=1.0) == 1
    assert average_recall(truth, targets) == average_best_overlap(truth, targets) == 1


def test_without_any_truth_there_is_no_recall():
    empty = [{"boxes": torch.zeros(0, 4)}]
    assert math.isnan(proposal_recall(BOXES[:1], empty))
    assert math.isnan(average_best_overlap([], []))


def test_bad_proposals_are_told():
    with pytest.raises(ValueError, match="got 2 for 3 targets"):
        best_overlaps(BOXES[:2], TARGETS)
    with pytest.raises(ValueError, match="proposals of image 0 must have x1 < x2"):
        best_overlaps([torch.tensor([[4.0, 0.0, 4.0, 5.0]])], TARGETS[:1])
    with pytest.raises(
        ValueError, match=r"proposals of image 0 must have shape \(N, 4\), got \(4,\); write proposals\[None\]"
    ):
        best_overlaps([torch.ones(4)], TARGETS[:1])


# ------------------------------------------------------------------------------------------ repeatability


IMAGE = torch.rand(1, 60, 84, generator=torch.Generator().manual_seed(0))


def thirds(image):
    """Boxes that follow the size of the image only."""
    height, width = image.shape[1:]
    corners = torch.tensor([[0.0, 0.0, 1 / 3, 1 / 2], [1 / 3, 0.0, 1.0, 1 / 2], [0.0, 1 / 2, 1.0, 1.0]])
    return corners * torch.tensor([width, height] * 2), torch.zeros(3)


def brightest(image):
    """A box about the centre of brightness: it goes where the content goes."""
    height, width = image.shape[1:]
    weight = (image[0] - 0.4).clamp(min=0)
    y, x = (
        weight.sum(1 - axis) @ (torch.arange(side) + 0.5) / weight.sum() for axis, side in ((0, height), (1, width))
    )
    half = 0.1 * width
    return torch.stack([x - half, y - half, x + half, y + half])[None], torch.zeros(1)


@pytest.mark.parametrize(("change", "amount"), [("noise", 0.2), ("blur", 2.0), ("scale", 0.5), ("scale", 1.5)])
def test_boxes_that_look_at_nothing_are_found_again(change, amount):
    assert repeatability(thirds, IMAGE, change=change, amount=amount) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "amount"), [("blur", 1.5), ("scale", 0.5), ("scale", 1.7), ("rotation", 15.0), ("rotation", -20.0)]
)
def test_boxes_that_follow_the_content_are_found_again(change, amount):
    image = torch.full((1, 80, 120), 0.1)
    image[:, 22:30, 72:80] = 1.0  # off the centre, so that a rotation to the wrong side loses it
    assert repeatability(brightest, image, change=change, amount=amount) > 0.85


def test_content_that_turns_is_lost_by_boxes_that_do_not():
    assert repeatability(thirds, IMAGE, change="rotation", amount=20.0) < 0.9


def test_more_noise_repeats_less():
    def search(image):
        return selective_search(image, count=50, generator=torch.Generator().manual_seed(0))

    image = torch.full((1, 60, 84), 0.3)
    image[:, 10:30, 20:50] = 0.7
    image = image + 0.02 * torch.rand(1, 60, 84, generator=torch.Generator().manual_seed(1))
    little, much = (
        repeatability(search, image, change="noise", amount=amount, generator=torch.Generator().manual_seed(2))
        for amount in (0.002, 0.2)
    )
    assert 0 <= much < little <= 1


def test_matching_is_greedy_and_one_to_one():
    found, targets = random_sets(3, images=6)
    for boxes, target in zip(found, targets, strict=True):
        for iou in (box_iou(boxes, target["boxes"]), box_iou(target["boxes"], boxes)):
            expected, left = torch.zeros(len(iou)), iou.clone()
            while left.max() > 0:
                r, c = divmod(int(left.argmax()), left.shape[1])
                expected[r] = iou[r, c]
                left[r], left[:, c] = -1, -1
            torch.testing.assert_close(measures._matched(iou), expected)


def test_two_boxes_on_one_share_it_not():
    """Both boxes of the original meet the only box of the changed image; one stays alone."""

    def first_sees_two(image):
        box = torch.tensor([[5.0, 5.0, 25.0, 15.0]])
        return (box.repeat(2, 1) if image is IMAGE else box), torch.zeros(1)

    assert repeatability(first_sees_two, IMAGE, change="noise", amount=0.1) == 0.5


def test_a_method_without_boxes():
    def nothing(image):
        return torch.zeros(0, 4), torch.zeros(0)

    def nothing_when_changed(image):
        return thirds(image) if image is IMAGE else nothing(image)

    assert math.isnan(repeatability(nothing, IMAGE, change="blur", amount=1.0))
    assert repeatability(nothing_when_changed, IMAGE, change="blur", amount=1.0) == 0


@pytest.mark.parametrize(
    ("change", "amount", "message"),
    [
        ("shear", 1.0, "change must be"),
        ("noise", -0.1, "amount must be a positive number for noise"),
        ("rotation", 25.0, "at most 20 degrees"),
        ("scale", float("nan"), "amount must be a positive number for scale"),
    ],
)
def test_bad_changes_are_told(change, amount, message):
    with pytest.raises(ValueError, match=message):
        repeatability(thirds, IMAGE, change=change, amount=amount)


def test_boxes_and_scores_together_are_no_boxes():
    truth = [{"boxes": torch.tensor([[4.0, 3.0, 20.0, 15.0]])}]
    both = selective_search(torch.rand(1, 30, 40), count=5)
    with pytest.raises(
        ValueError, match=r"proposals of image 0 .* got a tuple; .* gives \(boxes, scores\): take \[0\]"
    ):
        proposal_recall([both], truth)
    assert proposal_recall([both[0]], truth) in (0.0, 1.0)


def test_numpys_whole_numbers_count():
    assert len(selective_search(torch.rand(1, 30, 40), count=np.int64(3))[0]) <= 3
    with pytest.raises(ValueError, match="count must be a positive whole number, got True"):
        selective_search(torch.rand(1, 30, 40), count=True)


def test_a_rounding_error_beyond_white_is_white():
    image = torch.rand(3, 30, 40)
    over = image.clone()
    image[:, :9, :9], over[:, :9, :9] = 1.0, 1.0 + 2e-7
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    expected, got = (selective_search(i, generator=g)[0] for i, g in zip((image, over), draws, strict=True))
    assert torch.equal(got, expected)


def test_a_method_that_makes_no_boxes_is_named():
    with pytest.raises(ValueError, match="boxes of the method must be finite"):
        repeatability(
            lambda image: (torch.full((1, 4), torch.nan), None), torch.rand(1, 30, 40), change="blur", amount=1
        )

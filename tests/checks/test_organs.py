"""Checks of notebook 15."""

import pytest
import torch
import torch.nn.functional as F

from labkit import checks
from labkit.checks import organs as subject
from labkit.checks import organs_fusion, organs_loss


def iou_by_pairs(boxes1, boxes2):
    """Every pair by itself, in Python's numbers."""
    table = torch.zeros(len(boxes1), len(boxes2), device=boxes1.device)
    for i, a in enumerate(boxes1.tolist()):
        for j, b in enumerate(boxes2.tolist()):
            common = volume_a = volume_b = 1.0
            for axis in range(3):
                common *= max(0.0, min(a[axis + 3], b[axis + 3]) - max(a[axis], b[axis]))
                volume_a *= a[axis + 3] - a[axis]
                volume_b *= b[axis + 3] - b[axis]
            table[i, j] = common / (volume_a + volume_b - common)
    return table


def iou_axis_by_axis(boxes1, boxes2):
    """Sides that are shared, one axis after the other."""
    common = torch.ones(len(boxes1), len(boxes2), device=boxes1.device)
    for axis in range(3):
        low = boxes1[:, axis, None].max(boxes2[None, :, axis])
        high = boxes1[:, axis + 3, None].min(boxes2[None, :, axis + 3])
        common = common * F.relu(high - low)
    one, two = ((b[:, 3:] - b[:, :3]).prod(1) for b in (boxes1, boxes2))
    return common / (one.unsqueeze(1) + two.unsqueeze(0) - common)


def focal_by_nll(logits, labels, gamma):
    log_p = F.log_softmax(logits, dim=1)
    each = -F.nll_loss(log_p, labels, ignore_index=-1, reduction="none")
    kept = labels != -1
    return -((1 - each[kept].exp()).pow(gamma) * each[kept]).sum() / max(int((labels > 0).sum()), 1)


def focal_by_cross_entropy(logits, labels, gamma):
    """p from the cross entropy itself."""
    each = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
    weight = (1 - torch.exp(-each)) ** gamma
    return (weight * each).sum() / torch.clamp((labels > 0).sum(), min=1)


def fused_by_sorting(boxes, scores, share):
    if not boxes.numel():
        return boxes.clone()
    order = torch.sort(scores, descending=True).indices[: max(int(len(scores) * share), 1)]
    return torch.einsum("r,rc->c", scores[order] / scores[order].sum(), boxes[order])[None]


def fused_by_average(boxes, scores, share):
    """Box by box, in Python's numbers."""
    count = len(boxes)
    if count == 0:
        return torch.zeros(0, 6, device=boxes.device)
    ranked = sorted(zip(scores.tolist(), boxes.tolist(), strict=True), reverse=True)[: max(1, int(count * share))]
    total = sum(score for score, _ in ranked)
    return torch.tensor([[sum(s * b[k] for s, b in ranked) / total for k in range(6)]], device=boxes.device)


RIGHT = [
    (checks.box_iou_3d, iou_by_pairs),
    (checks.box_iou_3d, iou_axis_by_axis),
    (checks.focal_loss, focal_by_nll),
    (checks.focal_loss, focal_by_cross_entropy),
    (checks.fuse_proposals, fused_by_sorting),
    (checks.fuse_proposals, fused_by_average),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_examples_by_hand_are_right():
    box = subject.rows_3d([0, 0, 0, 4, 2, 3])
    assert subject.package_iou(box, box + torch.tensor([2.0, 0, 0, 2, 0, 0])).item() == pytest.approx(1 / 3)
    loss = organs_loss.reference_focal_loss(torch.zeros(1, 2), torch.tensor([1]), 2.0)
    assert loss.item() == pytest.approx(0.173, abs=5e-4)
    pair = subject.rows_3d([2, 0, 0, 9, 9, 9], [4, 0, 0, 9, 9, 9])
    assert organs_fusion.reference_fuse_proposals(pair, torch.tensor([0.9, 0.3]), 1.0)[0, 0].item() == pytest.approx(
        2.5
    )


def test_overlap_without_z_is_named(message_of):
    def flat(boxes1, boxes2):
        return subject._iou(boxes1, boxes2, axes=2)

    told = message_of(checks.box_iou_3d, flat)
    assert "likely: z is missing" in told


def test_anchors_that_are_left_out_are_met_by_a_case_of_their_own(message_of):
    def as_background(logits, labels, gamma):
        return organs_loss.reference_focal_loss(logits, labels.clamp(min=0), gamma)

    told = message_of(checks.focal_loss, as_background)
    assert "left out, label -1" in told.splitlines()[0]
    assert "it is not background" in told


def test_a_loss_that_is_infinite_far_out_is_named(message_of):
    def naive(logits, labels, gamma):
        p = logits.softmax(dim=1)[labels >= 0]
        p = p[torch.arange(len(p)), labels[labels >= 0]]
        return -((1 - p) ** gamma * p.log()).sum() / (labels > 0).sum().clamp(min=1)

    told = message_of(checks.focal_loss, naive)
    assert "logits of 200" in told.splitlines()[0]
    assert "likely: p rounds to 0" in told


def test_a_mean_of_nothing_is_named(message_of):
    def careless(boxes, scores, share):
        best = scores.topk(max(1, int(share * len(boxes))) if len(boxes) else 0).indices
        return (scores[best, None] * boxes[best]).sum(dim=0, keepdim=True) / scores[best].sum()

    assert "no proposals: there is no answer" in message_of(checks.fuse_proposals, careless).splitlines()[0]


@pytest.mark.parametrize(
    "mistakes", [subject.BOX_IOU_3D_MISTAKES, organs_loss.FOCAL_LOSS_MISTAKES, organs_fusion.FUSE_PROPOSALS_MISTAKES]
)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

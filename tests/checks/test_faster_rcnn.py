"""Checks of notebook 08."""

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from labkit import checks
from labkit.checks import faster_rcnn as subject
from labkit.checks import faster_rcnn_loss
from labkit.detection.anchors import match_anchors
from labkit.detection.boxes import encode_boxes


def anchors_by_loop(feature_size, stride, sizes, aspect_ratios):
    rows = []
    for y in range(feature_size[0]):
        for x in range(feature_size[1]):
            for ratio in aspect_ratios:
                for size in sizes:
                    h = size * ratio**0.5
                    w = size * size / h
                    rows.append([x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2])
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def anchors_at_once(feature_size, stride, sizes, aspect_ratios):
    ratio = torch.tensor(aspect_ratios).repeat_interleave(len(sizes)).sqrt()
    side = torch.tensor(sizes).repeat(len(aspect_ratios))
    half = torch.stack([-side / ratio, -side * ratio, side / ratio, side * ratio], dim=1) / 2
    cell = torch.cartesian_prod(torch.arange(feature_size[0]), torch.arange(feature_size[1])).reshape(-1, 2)
    return (stride * cell[:, [1, 0, 1, 0]][:, None] + half).reshape(-1, 4)


def match_by_loop(anchors, boxes, positive_iou, negative_iou):
    if len(boxes) == 0:
        return torch.full((len(anchors),), -1, device=anchors.device)
    iou = box_iou(anchors, boxes)
    best = iou.max(dim=0).values
    matches = []
    for row in iou:
        top = row.max()
        if top >= positive_iou or any(row[n] == best[n] and best[n] > 0 for n in range(len(boxes))):
            matches.append(int(row.argmax()))
        else:
            matches.append(-1 if top < negative_iou else -2)
    return torch.tensor(matches, device=anchors.device)


def match_of_labkit(anchors, boxes, positive_iou, negative_iou):
    return match_anchors(anchors, boxes, positive_iou=positive_iou, negative_iou=negative_iou)


def loss_by_weights(logits, deltas, anchors, boxes, matches):
    """Every anchor is computed, and weighted 0 or 1."""
    is_object, counts = (matches >= 0).float(), (matches > -2).float()
    entropy = -(is_object * functional.logsigmoid(logits) + (1 - is_object) * functional.logsigmoid(-logits))
    total = torch.zeros((), device=logits.device)
    for row in (matches >= 0).nonzero()[:, 0]:
        off = (deltas[row] - encode_boxes(boxes[matches[row]][None], anchors[row][None])[0]).abs()
        total = total + torch.where(off < 1 / 9, 4.5 * off**2, off - 1 / 18).sum()
    return (entropy * counts).sum() / counts.sum(), total / counts.sum()


def loss_as_list(*args):
    return list(faster_rcnn_loss.reference_rpn_loss(*args))


RIGHT = [
    (checks.anchors, anchors_by_loop),
    (checks.anchors, anchors_at_once),
    (checks.match_anchors, match_by_loop),
    (checks.match_anchors, match_of_labkit),
    (checks.rpn_loss, loss_by_weights),
    (checks.rpn_loss, loss_as_list),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_anchors_are_torchvisions_but_for_rounding():
    generator = AnchorGenerator(((12.0, 24.0, 48.0),), ((0.5, 2.0),))
    image = ImageList(torch.zeros(1, 1, 32, 56), [(32, 56)])
    theirs = generator(image, [torch.zeros(1, 1, 4, 7)])[0]
    ours = subject.reference_anchors((4, 7), 8, [12.0, 24.0, 48.0], [0.5, 2.0])
    assert (ours - theirs).abs().max() <= 0.5


def test_the_matches_are_torchvisions():
    anchors, boxes = subject.crowd_of_anchors()
    theirs = Matcher(0.5, 0.25, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    assert torch.equal(subject.reference_match(anchors, boxes, 0.5, 0.25), theirs)


def loss_of_a_student(logits, deltas, anchors, boxes, matches, *, slip=""):
    """Two losses in the plainest way, and the usual slips as they are made."""
    counts, positive = matches != -2, matches > 0 if slip == "> 0" else matches >= 0
    if slip == "ignored":
        counts = torch.ones_like(counts)
    objectness = functional.binary_cross_entropy_with_logits(
        logits[counts], positive[counts].float(), reduction="sum" if slip == "/ A" else "mean"
    )
    if slip == "boxes[-1]":
        positive = counts
    if slip == "raw differences":
        wanted = boxes[matches[positive]] - anchors[positive]
    else:
        wanted = encode_boxes(boxes[matches[positive]], anchors[positive])
    how = "mean" if slip == "mean" else "sum"
    box = functional.smooth_l1_loss(deltas[positive], wanted, beta=1 / 9, reduction=how)
    if slip == "/ A":
        return objectness / len(logits), box / len(logits)
    return objectness, box if slip == "mean" else box / counts.sum()


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ("ignored", "ignored anchors are trained as background"),
        ("/ A", "both losses are divided by all anchors, A"),
        ("> 0", "box 0 counts as background"),
        ("boxes[-1]", "background takes boxes[-1]"),
        ("mean", "the box loss is a mean over objects and coordinates"),
        ("raw differences", "deltas are no differences in pixels"),
    ],
)
def test_the_usual_slips_of_the_loss_are_named(message_of, slip, told):
    assert f"likely: {told}" in message_of(checks.rpn_loss, lambda *args: loss_of_a_student(*args, slip=slip))


def test_the_plain_loss_without_a_slip_is_right(strict):
    assert checks.rpn_loss(loss_of_a_student) is loss_of_a_student


def test_a_loss_from_which_nothing_is_learned_is_refused(message_of):
    told = message_of(
        checks.rpn_loss, lambda *args: [part.item() for part in faster_rcnn_loss.reference_rpn_loss(*args)]
    )
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told

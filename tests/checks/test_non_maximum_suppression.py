"""Checks of notebook 03."""

import pytest
import torch
from torchvision import ops

from labkit import checks
from labkit.checks import non_maximum_suppression as subject


def with_a_list(boxes, scores, iou_threshold):
    """Box by box, IoU by hand."""
    rows = sorted(range(len(scores)), key=lambda i: -float(scores[i]))  # sorted() is stable
    keep = []
    for i in rows:
        if all(float(ops.box_iou(boxes[i : i + 1], boxes[j : j + 1])) <= iou_threshold for j in keep):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.int64)


def with_a_mask(boxes, scores, iou_threshold):
    """All pairs at once, then a sweep."""
    order = torch.sort(scores, descending=True, stable=True).indices
    meets = ops.box_iou(boxes[order], boxes[order]) > iou_threshold
    alive = torch.ones_like(order, dtype=torch.bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~meets[i, i + 1 :]
    return order[alive]


def by_loop(boxes, scores, labels, iou_threshold):
    rows = [
        (-float(scores[i]), i) for k in set(labels.tolist()) for i in kept_of(boxes, scores, labels, k, iou_threshold)
    ]
    return torch.tensor([i for _, i in sorted(rows)], dtype=torch.int64)


def kept_of(boxes, scores, labels, label, iou_threshold):
    rows = torch.where(labels == label)[0]
    return rows[ops.nms(boxes[rows], scores[rows], iou_threshold)].tolist()


def by_offset(boxes, scores, labels, iou_threshold):
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    return ops.nms(boxes + labels[:, None] * (boxes.max() - boxes.min() + 1), scores, iou_threshold)


RIGHT = [
    (checks.nms, with_a_list),
    (checks.nms, with_a_mask),
    (checks.class_nms, by_loop),
    (checks.class_nms, by_offset),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def as_float(boxes, *others):
    return ops.nms(boxes, others[0], others[-1]).float()


def as_column(boxes, *others):
    return ops.nms(boxes, others[0], others[-1])[:, None]


def as_list(boxes, *others):
    return ops.nms(boxes, others[0], others[-1]).tolist()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (as_float, "dtype float32, expected int64"),
        (as_column, "shape (1, 1), expected (1,)"),
        (as_list, "is a list, expected a tensor"),
    ],
)
@pytest.mark.parametrize("check", [checks.nms, checks.class_nms])
def test_a_wrong_form_is_told(message_of, check, wrong, told):
    assert told in message_of(check, wrong)


def test_every_case_of_nms_is_torchvisions_too():
    """The looped definition and torchvision agree where IoU meets the threshold and scores are equal."""
    half = torch.tensor([[0.0, 0, 12, 5], [0, 0, 6, 5]])
    assert with_a_list(half, torch.ones(2), 0.5).tolist() == ops.nms(half, torch.ones(2), 0.5).tolist() == [0, 1]


def test_class_nms_equals_torchvision_on_many_boxes():
    boxes, scores = subject._crowd(300, 9)
    labels = torch.arange(300) % 7
    expected = ops.batched_nms(boxes, scores, labels, 0.4)
    assert torch.equal(subject.reference_class_nms(boxes, scores, labels, 0.4), expected)


def test_the_reference_takes_boxes_outside_the_image():
    boxes = torch.tensor([[80.0, 80, 100, 100], [-21, -21, -1, -1]])  # the offset trick lays one on the other
    kept = subject.reference_class_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.5)
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize(
    "wrong", [ops.batched_nms, lambda b, s, c, t: ops.nms(b + c[:, None] * (b.max() + 1), s, t) if len(b) else c]
)
def test_moving_classes_by_the_largest_coordinate_fails_below_0(message_of, wrong):
    assert "one box below 0: nothing meets" in message_of(checks.class_nms, wrong)


def class_by_class(boxes, scores, labels, iou_threshold):
    """Not sorted, and without a thought of an image without boxes."""
    kept = []
    for label in labels.unique():
        rows = torch.where(labels == label)[0]
        kept.append(rows[ops.nms(boxes[rows], scores[rows], iou_threshold)])
    return torch.cat(kept)


def not_translated(boxes, scores, labels, iou_threshold):
    kept = []
    for label in labels.unique():
        mine = labels == label
        kept.append(ops.nms(boxes[mine], scores[mine], iou_threshold))
    return torch.cat(kept)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(class_by_class, "the classes stand one after the other"), (not_translated, "these are rows within a class")],
)
def test_the_two_commonest_slips_are_named(message_of, wrong, told):
    assert f"likely: {told}" in message_of(checks.class_nms, wrong)

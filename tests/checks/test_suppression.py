"""Checks of notebook 03."""

import pytest
import torch
from torchvision import ops

from labkit import checks
from labkit.checks import suppression


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
    return ops.nms(boxes + labels[:, None] * (boxes.max() + 1), scores, iou_threshold)


RIGHT = [
    (checks.nms, with_a_list),
    (checks.nms, with_a_mask),
    (checks.class_nms, by_loop),
    (checks.class_nms, by_offset),
    (checks.class_nms, ops.batched_nms),
]
WRONG = [(checks.nms, s, f) for s, f in suppression.NMS_MISTAKES.items()]
WRONG += [(checks.class_nms, s, f) for s, f in suppression.CLASS_NMS_MISTAKES.items()]
REFERENCES = [(checks.nms, ops.nms), (checks.class_nms, suppression.reference_class_nms)]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


@pytest.mark.parametrize(("check", "sentence", "wrong"), WRONG)
def test_the_usual_mistake_is_named(message_of, check, sentence, wrong):
    assert f"likely: {sentence}" in message_of(check, wrong)


@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_blank_runs_on_with_the_reference(lenient, capsys, check, reference):
    def blank(*_):
        raise NotImplementedError("Exercise 3.1: yours")

    assert check(blank) is reference
    assert "not written yet (Exercise 3.1: yours)" in capsys.readouterr().out


def raising(*_):
    raise IndexError("index 3 is out of bounds")


def in_place(boxes, *others):
    boxes += 1
    return ops.nms(boxes, others[0], others[-1])


def as_float(boxes, *others):
    return ops.nms(boxes, others[0], others[-1]).float()


def as_column(boxes, *others):
    return ops.nms(boxes, others[0], others[-1])[:, None]


def as_list(boxes, *others):
    return ops.nms(boxes, others[0], others[-1]).tolist()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (raising, "stopped with IndexError"),
        (in_place, "changed its arguments in place"),
        (as_float, "dtype float32, expected int64"),
        (as_column, "shape (1, 1), expected (1,)"),
        (as_list, "is a list, expected a tensor"),
    ],
)
@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_other_troubles_are_told_and_the_reference_comes_back(lenient, capsys, check, reference, wrong, told):
    assert check(wrong) is reference
    assert told in capsys.readouterr().out


def test_every_case_of_nms_is_torchvisions_too():
    """The looped definition and torchvision agree where IoU meets the threshold and scores are equal."""
    half = torch.tensor([[0.0, 0, 12, 5], [0, 0, 6, 5]])
    assert with_a_list(half, torch.ones(2), 0.5).tolist() == ops.nms(half, torch.ones(2), 0.5).tolist() == [0, 1]


def test_class_nms_equals_torchvision_on_many_boxes():
    boxes, scores = suppression._crowd(300, 9)
    labels = torch.arange(300) % 7
    expected = ops.batched_nms(boxes, scores, labels, 0.4)
    assert torch.equal(suppression.reference_class_nms(boxes, scores, labels, 0.4), expected)


def test_the_reference_takes_boxes_outside_the_image():
    boxes = torch.tensor([[80.0, 80, 100, 100], [-21, -21, -1, -1]])  # the offset trick lays one on the other
    kept = suppression.reference_class_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.5)
    assert kept.tolist() == [0, 1]


def test_a_wrong_answer_is_drawn():
    boxes, scores = suppression._crowd(6, 0)
    case = suppression.Case("six", (boxes, scores, torch.arange(6) % 2, 0.5))
    figure = suppression._draw_class(case, torch.tensor([0, 1]), torch.tensor([2]))
    assert [ax.get_title() for ax in figure.axes] == ["expected: 2 kept", "got: 1 kept"]
    figure = suppression._draw_nms(
        suppression.Case("six", (boxes, scores, 0.5)), torch.tensor([0, 1]), torch.tensor([2, 3, 4])
    )
    assert [ax.get_title() for ax in figure.axes] == ["expected: 2 kept", "got: 3 kept"]

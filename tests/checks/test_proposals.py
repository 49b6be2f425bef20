"""Checks of notebook 05."""

import pytest
import torch
from torchvision.ops import box_iou

from labkit import checks
from labkit.checks import proposals as subject
from labkit.detection import proposals


def loop_similarity(first, second, image_size):
    """The four by hand, as plain numbers."""
    shared = 0.0
    for name in ("colour", "texture"):
        for a, b in zip(first[name].tolist(), second[name].tolist(), strict=True):
            shared += min(a, b)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first["box"].tolist(), second["box"].tolist()
    both = float(first["size"] + second["size"])
    joint = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return shared + 2 - both / image_size - (joint - both) / image_size


def l1_similarity(first, second, image_size):
    """What two histograms share is 1 - half the sum of their differences; size and fill add up to little."""
    shared = sum(1 - (first[name] - second[name]).abs().sum() / 2 for name in ("colour", "texture"))
    corners = torch.stack([first["box"], second["box"]])
    joint = (corners[:, 2:].amax(0) - corners[:, :2].amin(0)).prod()
    return shared + 2 - joint / image_size


def stacked_merge(first, second):
    """Everything stacked, and a weighted mean."""
    part = first["size"] / (first["size"] + second["size"])
    boxes = torch.stack([first["box"], second["box"]])
    return {
        "size": first["size"] + second["size"],
        "colour": torch.lerp(second["colour"], first["colour"], part),
        "texture": torch.lerp(second["texture"], first["texture"], part),
        "box": torch.where(torch.tensor([True, True, False, False]), boxes.amin(0), boxes.amax(0)),
    }


def loop_merge(first, second):
    size = first["size"] + second["size"]
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first["box"], second["box"]
    box = torch.stack([min(ax1, bx1), min(ay1, by1), max(ax2, bx2), max(ay2, by2)])
    counts = {name: first["size"] * first[name] + second["size"] * second[name] for name in ("colour", "texture")}
    return {"size": size, "box": box} | {name: value / value.sum() for name, value in counts.items()}


def loop_recall(boxes, truths, iou_threshold):
    found = 0
    for truth in truths:
        found += any(box_iou(truth[None], box[None]).item() >= iou_threshold for box in boxes)
    return found / len(truths)


def tensor_recall(boxes, truths, iou_threshold):
    return (box_iou(truths, boxes) >= iou_threshold).any(dim=1).float().mean()


RIGHT = [
    (checks.merge_similarity, loop_similarity),
    (checks.merge_similarity, l1_similarity),
    (checks.merge_regions, stacked_merge),
    (checks.merge_regions, loop_merge),
    (checks.recall, loop_recall),
    (checks.recall, tensor_recall),
]
WRONG = [
    (check, sentence, wrong)
    for check, mistakes in (
        (checks.merge_similarity, subject.MERGE_SIMILARITY_MISTAKES),
        (checks.merge_regions, subject.MERGE_REGIONS_MISTAKES),
        (checks.recall, subject.RECALL_MISTAKES),
    )
    for sentence, wrong in mistakes.items()
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


@pytest.mark.parametrize(("check", "sentence", "wrong"), WRONG, ids=[sentence for _, sentence, _ in WRONG])
def test_the_usual_mistake_is_named(message_of, check, sentence, wrong):
    assert sentence in message_of(check, wrong)


def unwritten(*_):
    raise NotImplementedError("Exercise 5: your turn")


def raising(*_):
    return torch.zeros(3)[7]


def of_another_type(*_):
    return "4"


def spoiling_similarity(first, second, image_size):
    first["colour"] *= 1
    first["size"] += second["size"]
    return proposals.merge_similarity(first, second, image_size)


def spoiling_merge(first, second):
    first["size"] += second["size"]
    return first


def rounded_merge(first, second):
    return {name: value.float() for name, value in proposals.merge_regions(first, second).items()}


def short_merge(first, second):
    merged = proposals.merge_regions(first, second)
    return merged | {"colour": merged["colour"][:1]}


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        *((check, wrong) for check in (checks.merge_similarity, checks.merge_regions, checks.recall)
          for wrong in (unwritten, raising, of_another_type)),
        (checks.merge_similarity, spoiling_similarity),
        (checks.merge_regions, spoiling_merge),
        (checks.merge_regions, rounded_merge),
        (checks.merge_regions, short_merge),
        (checks.recall, lambda boxes, truths, iou_threshold: box_iou(truths, boxes)),
    ],
)  # fmt: skip
def test_whatever_is_wrong_the_notebook_goes_on_with_the_reference(lenient, check, wrong, capsys):
    went_on = check(wrong)
    assert went_on is not wrong
    assert went_on.__module__.startswith("labkit.")
    assert "goes on with the reference" in capsys.readouterr().out


def test_pictures_of_failing_cases_can_be_drawn():
    one = subject.LEFT, subject.HIGHER, 640.0
    case = subject.Case("drawn", one)
    assert subject._draw_similarity(case, proposals.merge_similarity(*one), 1.0).axes[0].patches
    boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    assert len(subject._draw_recall(subject.Case("drawn", (boxes, boxes, 0.5)), 1.0, 0.5).axes[0].patches) == 2

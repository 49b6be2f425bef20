"""Checks of notebook 05."""

import pytest
import torch
from torchvision.ops import box_iou

from labkit import checks
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


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def short_merge(first, second):
    merged = proposals.merge_regions(first, second)
    return merged | {"colour": merged["colour"][:1]}


@pytest.mark.parametrize(
    ("check", "wrong", "told"),
    [
        (checks.merge_regions, short_merge, "'colour' of the result has shape (1,), expected"),
        (checks.recall, lambda boxes, truths, iou_threshold: box_iou(truths, boxes), "is a Tensor, expected a number"),
    ],
)
def test_a_wrong_form_is_told(message_of, check, wrong, told):
    assert told in message_of(check, wrong)


def with_one_term_off(term):
    """The four by hand, one of them wrong in a way that no table of mistakes holds."""

    def similarity(first, second, image_size):
        low = torch.minimum(first["box"], second["box"])[:2]
        joint = (torch.maximum(first["box"], second["box"])[2:] - low).prod()
        both = first["size"] + second["size"]
        terms = {name: torch.minimum(first[name], second[name]).sum() for name in ("colour", "texture")}
        terms |= {"size": 1 - both / image_size, "fill": 1 - (joint - both) / image_size}
        return sum(value**1.5 if name == term else value for name, value in terms.items())

    return similarity


@pytest.mark.parametrize("term", ["colour", "texture", "size", "fill"])
def test_the_check_says_which_of_the_four_terms_is_off(message_of, term):
    assert f"✗ merge_similarity: the {term}: " in message_of(checks.merge_similarity, with_one_term_off(term))

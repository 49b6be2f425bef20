"""Checks of notebook 08."""

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from labkit import checks
from labkit.checks import anchor_matching as subject
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
    return list(subject.reference_rpn_loss(*args))


RIGHT = [
    (checks.anchors, anchors_by_loop),
    (checks.anchors, anchors_at_once),
    (checks.match_anchors, match_by_loop),
    (checks.match_anchors, match_of_labkit),
    (checks.rpn_loss, loss_by_weights),
    (checks.rpn_loss, loss_as_list),
]
WRONG = [(checks.anchors, s, f) for s, f in subject.ANCHORS_MISTAKES.items()]
WRONG += [(checks.match_anchors, s, f) for s, f in subject.MATCH_MISTAKES.items()]
WRONG += [(checks.rpn_loss, s, f) for s, f in subject.RPN_LOSS_MISTAKES.items()]
REFERENCES = [
    (checks.anchors, subject.reference_anchors),
    (checks.match_anchors, subject.reference_match),
    (checks.rpn_loss, subject.reference_rpn_loss),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


@pytest.mark.parametrize(("check", "sentence", "wrong"), WRONG)
def test_the_usual_mistake_is_named(message_of, check, sentence, wrong):
    assert f"likely: {sentence}" in message_of(check, wrong)


@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_blank_runs_on_with_the_reference(lenient, capsys, check, reference):
    def blank(*_):
        raise NotImplementedError("Exercise 8.1: yours")

    assert check(blank) is reference
    assert "not written yet (Exercise 8.1: yours)" in capsys.readouterr().out


def spoilt(reference, change):
    """The reference, and a change of its first tensor (the only one, or the first of two)."""

    def wrong(*args):
        result = reference(*args)
        return (change(result[0]), *result[1:]) if isinstance(result, tuple) else change(result)

    return wrong


TROUBLES = [
    (lambda t: t.double(), "dtype float64"),
    (lambda t: t[None], "has shape (1"),
    (lambda t: [t], "is a list"),
]


@pytest.mark.parametrize(("change", "told"), TROUBLES)
@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_other_troubles_are_told_and_the_reference_comes_back(lenient, capsys, check, reference, change, told):
    assert check(spoilt(reference, change)) is reference
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_raising_and_changing_arguments_are_told(lenient, capsys, check, reference):
    def raising(*_):
        raise IndexError("index 3 is out of bounds")

    def in_place(*args):
        result = reference(*args)
        for arg in args:
            if isinstance(arg, torch.Tensor):
                arg += 1
            elif isinstance(arg, list):
                arg.append(1.0)
        return result

    assert check(raising) is reference
    assert "stopped with IndexError" in capsys.readouterr().out
    assert check(in_place) is reference
    assert "changed its arguments in place" in capsys.readouterr().out


def test_the_anchors_are_torchvisions_but_for_rounding():
    generator = AnchorGenerator(((12.0, 24.0, 48.0),), ((0.5, 2.0),))
    image = ImageList(torch.zeros(1, 1, 32, 56), [(32, 56)])
    theirs = generator(image, [torch.zeros(1, 1, 4, 7)])[0]
    ours = subject.reference_anchors((4, 7), 8, [12.0, 24.0, 48.0], [0.5, 2.0])
    assert (ours - theirs).abs().max() <= 0.5


def test_the_matches_are_torchvisions():
    anchors, boxes = subject._crowd()
    theirs = Matcher(0.5, 0.25, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    assert torch.equal(subject.reference_match(anchors, boxes, 0.5, 0.25), theirs)


def test_a_wrong_answer_is_drawn():
    anchors, boxes = subject._crowd()
    case = subject.Case("crowd", (anchors, boxes, 0.5, 0.25))
    right = subject.reference_match(anchors, boxes, 0.5, 0.25)
    figure = subject._draw_match(case, right, torch.full_like(right, -1))
    assert figure.axes[1].get_title() == "got: 0 objects"
    figure = subject._draw_anchors(case, anchors, anchors[:3])
    assert [ax.get_title() for ax in figure.axes] == ["expected: the first of 60", "got: the first of 3"]

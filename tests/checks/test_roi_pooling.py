"""Checks of notebook 07."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops

from labkit import checks
from labkit.checks import roi_pooling as subject


def pool_by_cells(features, boxes, size, stride):
    """The maximum over lists of numbers."""
    channels, height, width = features.shape
    out = torch.zeros(len(boxes), channels, size, size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (math.floor(v / stride + 0.5) for v in box)
        wide, high = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for c in range(channels):
            for i in range(size):
                rows = range(y1 + i * high // size, y1 + -(-(i + 1) * high // size))
                for j in range(size):
                    columns = range(x1 + j * wide // size, x1 + -(-(j + 1) * wide // size))
                    values = [
                        float(features[c, y, x]) for y in rows for x in columns if 0 <= y < height and 0 <= x < width
                    ]
                    out[r, c, i, j] = max(values, default=0.0)
    return out


def pool_with_ops(features, boxes, size, stride):
    rows = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    return ops.roi_pool(features.unsqueeze(0), rows, (size, size), 1 / stride)


def align_by_loops(features, boxes, size, stride):
    return subject._align(features, boxes, size, stride)


def align_with_grid_sample(features, boxes, size, stride):
    height, width = features.shape[1:]
    out = []
    for x1, y1, x2, y2 in (boxes / stride).tolist():
        steps = (torch.arange(2 * size) + 0.5) / (2 * size)
        x, y = x1 + steps * (x2 - x1), y1 + steps * (y2 - y1)
        grid = torch.stack(torch.broadcast_tensors(2 * x / width - 1, (2 * y / height - 1)[:, None]), dim=-1)
        samples = F.grid_sample(features[None], grid[None], padding_mode="border", align_corners=False)
        out.append(F.avg_pool2d(samples, 2)[0])
    return torch.stack(out) if out else features.new_zeros(0, len(features), size, size)


def loss_by_rows(class_logits, deltas, labels, targets):
    classes = boxes = torch.zeros(())
    for row, label in enumerate(labels.tolist()):
        classes = classes - class_logits[row].log_softmax(0)[label]
        if label:
            far = (deltas[row, label] - targets[row]).abs()
            boxes = boxes + torch.where(far < 1 / 9, 4.5 * far**2, far - 1 / 18).sum()
    return classes / len(labels), boxes / len(labels)


def loss_with_huber(class_logits, deltas, labels, targets):
    own = deltas.gather(1, labels[:, None, None].expand(-1, 1, 4))[:, 0]
    each = F.huber_loss(own, targets, reduction="none", delta=1 / 9).sum(dim=1) * 9
    return F.nll_loss(class_logits.log_softmax(1), labels), (each * (labels != 0)).mean()


RIGHT = [
    (checks.roi_pool, pool_by_cells),
    (checks.roi_pool, pool_with_ops),
    (checks.roi_align, align_by_loops),
    (checks.roi_align, align_with_grid_sample),
    (checks.multi_task_loss, loss_by_rows),
    (checks.multi_task_loss, loss_with_huber),
]
WRONG = [
    *((checks.roi_pool, s, f) for s, f in subject.ROI_POOL_MISTAKES.items()),
    *((checks.roi_align, s, f) for s, f in subject.ROI_ALIGN_MISTAKES.items()),
    *((checks.multi_task_loss, s, f) for s, f in subject.MULTI_TASK_LOSS_MISTAKES.items()),
]
REFERENCES = [
    (checks.roi_pool, subject.reference_roi_pool),
    (checks.roi_align, subject.reference_roi_align),
    (checks.multi_task_loss, subject.reference_multi_task_loss),
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
        raise NotImplementedError("Exercise 7.1: yours")

    assert check(blank) is reference
    assert "not written yet (Exercise 7.1: yours)" in capsys.readouterr().out


def raising(*_):
    raise IndexError("index 3 is out of bounds")


def in_place(first, *_):
    first += 1
    return first


@pytest.mark.parametrize(
    ("wrong", "told"), [(raising, "stopped with IndexError"), (in_place, "changed its arguments in place")]
)
@pytest.mark.parametrize(("check", "reference"), REFERENCES)
def test_other_troubles_are_told_and_the_reference_comes_back(lenient, capsys, check, reference, wrong, told):
    assert check(wrong) is reference
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("check", "reference"), REFERENCES[:2])
def test_a_wrong_shape_or_kind_of_number_is_told(message_of, check, reference):
    assert "has dtype float64, expected float32" in message_of(check, lambda *a: reference(*a).double())
    assert "has shape" in message_of(check, lambda *a: reference(*a).flatten(1))


def test_slices_that_wrap_around_are_met_with_a_box_left_of_the_map(message_of):
    def wraps(features, boxes, size, stride):
        out = features.new_zeros(len(boxes), len(features), size, size)
        for r, box in enumerate(boxes.tolist()):
            x1, y1, x2, y2 = (math.floor(v / stride + 0.5) for v in box)
            wide, high = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
            for i in range(size):
                rows = slice(y1 + i * high // size, y1 + math.ceil((i + 1) * high / size))
                for j in range(size):
                    columns = slice(x1 + j * wide // size, x1 + math.ceil((j + 1) * wide / size))
                    if (cells := features[:, rows, columns]).numel():
                        out[r, :, i, j] = cells.amax(dim=(1, 2))
        return out

    told = message_of(checks.roi_pool, wraps)
    assert "a box that begins left of the map" in told
    assert "likely: a slice that starts below 0 counts from the end" in told


def test_one_number_in_place_of_two_is_told(message_of):
    total = lambda *a: sum(subject.reference_multi_task_loss(*a))  # noqa: E731
    assert "expected 2 values" in message_of(checks.multi_task_loss, total)


def test_a_wrong_answer_is_drawn():
    case = subject.Case("one", (torch.rand(1, 6, 9), torch.tensor([[8.0, 8, 40, 30]]), 3, 8))
    figure = subject._draw_pooled(case, torch.rand(1, 1, 3, 3), torch.rand(1, 1, 3, 3))
    assert [ax.get_title() for ax in figure.axes] == ["given: one", "expected", "got"]

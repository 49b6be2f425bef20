"""Checks of notebook 07."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops

from labkit import checks
from labkit.checks import fast_rcnn as subject
from labkit.checks import fast_rcnn_align, fast_rcnn_loss
from labkit.detection.boxes import decode_boxes
from labkit.detection.roi_head import _decode_classes, select_detections


def pool_by_cells(features, boxes, size, stride):
    """The maximum over lists of cells."""
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
                    values = [features[c, y, x] for y in rows for x in columns if 0 <= y < height and 0 <= x < width]
                    out[r, c, i, j] = max(values, default=0.0)
    return out


def pool_with_ops(features, boxes, size, stride):
    rows = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    return ops.roi_pool(features.unsqueeze(0), rows, (size, size), 1 / stride)


def align_by_loops(features, boxes, size, stride):
    return fast_rcnn_align._align(features, boxes, size, stride)


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


def detections_by_loop(class_logits, deltas, proposals, image_size, score_threshold, iou_threshold):
    """Class by class, then sorted."""
    height, width = image_size
    scores = class_logits.exp() / class_logits.exp().sum(dim=1, keepdim=True)
    found = []
    for label in range(1, class_logits.shape[1]):
        boxes = decode_boxes(deltas[:, label] * torch.tensor([0.1, 0.1, 0.2, 0.2]), proposals)
        boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).flatten(1)
        rows = ((scores[:, label] > score_threshold) & (ops.box_area(boxes) > 0)).nonzero()[:, 0]
        for row in rows[ops.nms(boxes[rows], scores[rows, label], iou_threshold)].tolist():
            found.append((float(scores[row, label]), label, boxes[row]))
    found.sort(key=lambda one: -one[0])
    boxes = torch.stack([box for _, _, box in found]) if found else proposals[:0]
    labels = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
    return boxes, labels, torch.tensor([score for score, _, _ in found], dtype=torch.float32)


def detections_of_the_package(class_logits, deltas, proposals, image_size, score_threshold, iou_threshold):
    found = select_detections(
        _decode_classes(deltas, proposals),
        class_logits.softmax(dim=1),
        image_size,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=100,
    )
    return [found["boxes"], found["labels"], found["scores"]]


RIGHT = [
    (checks.detections, detections_by_loop),
    (checks.detections, detections_of_the_package),
    (checks.roi_pool, pool_by_cells),
    (checks.roi_pool, pool_with_ops),
    (checks.roi_align, align_by_loops),
    (checks.roi_align, align_with_grid_sample),
    (checks.multi_task_loss, loss_by_rows),
    (checks.multi_task_loss, loss_with_huber),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


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
    total = lambda *a: sum(fast_rcnn_loss.reference_multi_task_loss(*a))  # noqa: E731
    assert "expected 2 values" in message_of(checks.multi_task_loss, total)


def clamped_to_the_size(features, boxes, size, stride):
    """Cells reach to W - 1; a place beyond it is clamped one too far."""
    height, width = features.shape[1:]

    def look(features, y, x):
        y, x = min(max(y, 0.0), float(height)), min(max(x, 0.0), float(width))
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = (1 - x + left) * features[:, top, left] + (x - left) * features[:, top, right]
        lower = (1 - x + left) * features[:, bottom, left] + (x - left) * features[:, bottom, right]
        return (1 - y + top) * upper + (y - top) * lower

    return fast_rcnn_align._align(features, boxes, size, stride, look=look)


def test_places_clamped_to_the_size_of_the_map_are_refused_and_named(message_of):
    told = message_of(checks.roi_align, clamped_to_the_size)
    assert "a box that leaves the map on the right" in told
    assert "likely: the last cell is W - 1 and H - 1" in told


def pool_to_numbers(features, boxes, size, stride):
    return torch.tensor(subject.reference_roi_pool(features, boxes, size, stride).tolist()).reshape(
        len(boxes), len(features), size, size
    )


def loss_as_numbers(*args):
    return [part.item() for part in fast_rcnn_loss.reference_multi_task_loss(*args)]


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (checks.roi_pool, pool_to_numbers),
        (checks.roi_align, lambda *args: fast_rcnn_align.reference_roi_align(*args).detach()),
        (checks.multi_task_loss, loss_as_numbers),
    ],
)
def test_an_answer_through_which_nothing_is_learned_is_refused(message_of, check, wrong):
    told = message_of(check, wrong)
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told

"""Slips written out as students write them: each refused, with its own cause, on a case to be checked by eye."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops

from labkit import checks
from labkit.detection.boxes import decode_boxes, encode_boxes
from labkit.detection.boxes_3d import box_iou_3d

# Notebooks 02 to 05


def cut_unsorted(image, margin, window, stride, least, most):
    """The first peaks in reading order, sorted after."""
    peak = (margin == F.max_pool2d(margin[None], 7, stride=1, padding=3)[0]) & (margin > least)
    ys, xs = (places[:most] for places in peak.nonzero(as_tuple=True))
    order = margin[ys, xs].argsort(descending=True)
    corners = [(y * stride, x * stride) for y, x in zip(ys[order].tolist(), xs[order].tolist(), strict=True)]
    cut = [image[:, y : y + window[0], x : x + window[1]] for y, x in corners]
    return torch.stack(cut) if cut else image.new_zeros(0, len(image), *window)


def turned_round(boxes, scores, iou_threshold):
    """Sorted with stable=True, ascending, and turned round."""
    order, keep = scores.argsort(stable=True).flip(0), []
    while len(order):
        keep.append(order[0])
        rest = order[1:]
        order = rest[ops.box_iou(boxes[order[:1]], boxes[rest])[0] <= iou_threshold]
    return torch.stack(keep) if keep else torch.zeros(0, dtype=torch.int64)


def similarity(first, second, image_size, *, slip):
    a, b = first["box"], second["box"]
    joint = torch.cat([torch.minimum(a[:2], b[:2]), torch.maximum(a[2:], b[2:])])
    if slip == "first to second":
        joint = torch.cat([a[:2], b[2:]])
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])  # noqa: E731
    both = first["size"] + second["size"]
    taken = area(a) + area(b) if slip == "areas" else both
    alike = sum(torch.minimum(first[k], second[k]).sum() for k in ("colour", "texture"))
    return alike + (1 - both / image_size) + (1 - (area(joint) - taken) / image_size)


# Notebook 07


def pooled_after_clipping(features, boxes, size, stride):
    channels, height, width = features.shape
    out = features.new_zeros(len(boxes), channels, size, size)
    for r, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (math.floor(v / stride + 0.5) for v in box)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width - 1), min(y2, height - 1)
        w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for i in range(size):
            for j in range(size):
                rows = slice(max(y1 + i * h // size, 0), max(y1 + math.ceil((i + 1) * h / size), 0))
                columns = slice(max(x1 + j * w // size, 0), max(x1 + math.ceil((j + 1) * w / size), 0))
                if (cells := features[:, rows, columns]).numel():
                    out[r, :, i, j] = cells.amax(dim=(1, 2))
    return out


def aligned_beyond_the_map(features, boxes, size, stride):
    """The cells are clamped, the places between them are not."""
    channels, height, width = features.shape
    out = features.new_zeros(len(boxes), channels, size, size)
    steps = (torch.arange(2 * size) + 0.5) / (2 * size)
    for r, box in enumerate(boxes):
        x1, y1, x2, y2 = box / stride - 0.5
        x, y = x1 + steps * (x2 - x1), y1 + steps * (y2 - y1)
        left, top = x.floor().long().clamp(0, width - 1), y.floor().long().clamp(0, height - 1)
        right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
        a, b = x - left, (y - top)[:, None]
        upper = features[:, top][:, :, left] * (1 - a) + features[:, top][:, :, right] * a
        lower = features[:, bottom][:, :, left] * (1 - a) + features[:, bottom][:, :, right] * a
        out[r] = F.avg_pool2d(upper * (1 - b) + lower * b, 2)
    return out


def found(class_logits, deltas, proposals, image_size, score_threshold, iou_threshold, *, slip):
    scores = class_logits.softmax(dim=1)[:, 1:]
    rows, columns = (scores > score_threshold).nonzero(as_tuple=True)
    s, labels = scores[rows, columns], columns + 1
    boxes = decode_boxes(deltas[rows, labels] * deltas.new_tensor([0.1, 0.1, 0.2, 0.2]), proposals[rows])
    if slip == "suppressed first":
        keep = ops.batched_nms(boxes, s, labels, iou_threshold)
        boxes, s, labels = boxes[keep], s[keep], labels[keep]
    boxes = ops.clip_boxes_to_image(boxes, image_size)
    least = 1.0 if slip == "thin" else 1e-9
    large = ops.remove_small_boxes(boxes, least)
    boxes, s, labels = boxes[large], s[large], labels[large]
    if slip == "suppressed first":
        return boxes, labels, s
    keep = ops.batched_nms(boxes, s, labels, iou_threshold)
    return boxes[keep], labels[keep], s[keep]


# Notebook 08


def head(features, conv, objectness, deltas, *, slip):
    raw = conv(features)
    hidden = F.relu(raw)
    logits = objectness(hidden).permute(0, 2, 3, 1).flatten(1)
    if slip == "viewed":
        return logits, deltas(hidden).view(len(features), -1, 4)
    return logits, deltas(raw).permute(0, 2, 3, 1).reshape(len(features), -1, 4)


def loss_of_the_first_boxes(logits, deltas, anchors, boxes, matches):
    counts, positive = matches != -2, matches >= 0
    objectness = F.binary_cross_entropy_with_logits(logits[counts], positive[counts].float())
    wanted = encode_boxes(boxes[: int(positive.sum())], anchors[positive])
    return objectness, F.smooth_l1_loss(deltas[positive], wanted, beta=1 / 9, reduction="sum") / counts.sum()


def proposed(logits, deltas, anchors, image_size, before, after, iou_threshold, *, slip):
    rows = logits.argsort(descending=True)[:before]
    boxes, scores = decode_boxes(deltas[rows], anchors[rows]), logits[rows]
    if slip == "suppressed first":
        boxes = ops.clip_boxes_to_image(boxes[ops.nms(boxes, scores, iou_threshold)][:after], image_size)
        return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    boxes = ops.clip_boxes_to_image(boxes, image_size)
    large = ops.remove_small_boxes(boxes, 1.0 if slip == "thin" else 1e-9)
    boxes, scores = boxes[large], scores[large]
    if slip == "cut first":
        boxes, scores = boxes[:after], scores[:after]
    return boxes[ops.nms(boxes, scores, iou_threshold)][:after]


# Notebooks 09 to 18


def root_of_the_quantile(boxes, count):
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return torch.quantile(areas, (torch.arange(count) + 0.5) / count).sqrt()


def exchanged_last(centers, scores, nodules, diameters, margin, count):
    far = (torch.cdist(centers, nodules) > diameters / 2 + margin).all(dim=1)
    rows = scores.argsort(descending=True)
    return rows[far[rows]][:count]


def exchanged_grid(points, spacing, origin, direction):
    return (points.flip(1) - torch.tensor(origin)) / (torch.tensor(spacing) * torch.tensor(direction))


def bare_sign(box, next_box, truth):
    return torch.sign(box_iou_3d(next_box[None], truth[None]) - box_iou_3d(box[None], truth[None])).item()


def of_larger_value(path, values):
    if len(path) > 1 and path[-1] == path[-2]:
        return True, path[-1]
    if len(path) > 2 and path[-1] == path[-3]:
        return True, max(zip(values[-2:], path[-2:], strict=True))[1]
    return False, path[-1]


def slipped(function, slip):
    return lambda *args: function(*args, slip=slip)


SLIPS = [
    (
        "hard_windows",
        cut_unsorted,
        "the best two are asked for: 3, then 2",
        "the first peaks in reading order are taken",
    ),
    ("nms", turned_round, "equal scores: the lower row", "among equal scores the lower row comes first: descending"),
    ("merge_similarity", slipped(similarity, "areas"), "fills half of its box", "the fill takes the areas"),
    (
        "merge_similarity",
        slipped(similarity, "first to second"),
        "the lower region comes first",
        "the joint box goes from the first's x1 y1",
    ),
    ("roi_pool", pooled_after_clipping, "it is cut first", "the box is clipped to the map before it is cut"),
    ("roi_align", aligned_beyond_the_map, "that of the first cells, 25", "the cell is clamped and its place is not"),
    ("detections", slipped(found, "suppressed first"), "are one once they are clipped", "boxes are suppressed before"),
    ("detections", slipped(found, "thin"), "half a pixel of a box is left", "a box thinner than a pixel is dropped"),
    ("rpn_head", slipped(head, "viewed"), "two cells, 1 and 2", "the channels of the deltas come first"),
    ("rpn_head", slipped(head, "before the ReLU"), "makes 0 of the -1", "the deltas are taken from before the ReLU"),
    ("rpn_loss", loss_of_the_first_boxes, "its match names", "box i is taken for object i"),
    (
        "rpn_proposals",
        slipped(proposed, "suppressed first"),
        "one once they are clipped",
        "boxes are suppressed before",
    ),
    (
        "rpn_proposals",
        slipped(proposed, "cut first"),
        "at most 2 come out",
        "`after` is cut before boxes are dropped",
    ),
    ("rpn_proposals", slipped(proposed, "thin"), "a box half a pixel wide", "a box thinner than a pixel is dropped"),
    ("anchor_sizes", root_of_the_quantile, "two boxes, one anchor", "the quantile of the areas is taken"),
    ("hard_candidates", exchanged_last, "no nodule in the scan", "count and margin are exchanged"),
    ("world_to_voxel", exchanged_grid, "one point", "origin and spacing are exchanged"),
    ("box_iou_3d", lambda a, b: box_iou_3d(a, b) ** (1 / 3), "an eighth", "the cube root of the IoU"),
    ("reward", bare_sign, "only rounding differs", "changes below 1e-6 are rounding"),
    ("walk_end", of_larger_value, "the row before was worth less", "the LOWER value is nearer"),
]


@pytest.mark.parametrize(("name", "wrong", "case", "cause"), SLIPS)
def test_the_slip_is_shown_and_its_cause_named(message_of, name, wrong, case, cause):
    told = message_of(getattr(checks, name), wrong)
    assert case in told.splitlines()[0]
    assert f"likely: {cause}" in told


RIGHT = [
    ("merge_similarity", slipped(similarity, "")),
    ("detections", slipped(found, "")),
    ("rpn_proposals", slipped(proposed, "")),
]


@pytest.mark.parametrize(("name", "right"), RIGHT)
def test_the_same_without_the_slip_is_right(strict, name, right):
    assert getattr(checks, name)(right) is right

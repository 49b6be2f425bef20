"""Checks of notebook 08."""

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, clip_boxes_to_image, nms, remove_small_boxes

from labkit import checks
from labkit.checks import faster_rcnn as subject
from labkit.checks import faster_rcnn_head, faster_rcnn_loss, faster_rcnn_proposals
from labkit.detection.anchors import match_anchors
from labkit.detection.boxes import decode_boxes, encode_boxes
from labkit.detection.faster_rcnn import RegionProposalNetwork


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


def head_by_loop(features, conv, objectness, deltas):
    """Anchor by anchor, as one reads."""
    hidden = conv(features).clamp(min=0)
    scores, shifts = objectness(hidden), deltas(hidden)
    rows, columns = features.shape[2:]
    places = [(y, x, k) for y in range(rows) for x in range(columns) for k in range(scores.shape[1])]
    logits = torch.stack([scores[:, k, y, x] for y, x, k in places], dim=1)
    return logits, torch.stack([shifts[:, 4 * k : 4 * k + 4, y, x] for y, x, k in places], dim=1)


def head_by_view(features, conv, objectness, deltas):
    hidden = functional.relu(conv(features))
    shifts = deltas(hidden)
    batch, channels, rows, columns = shifts.shape
    shifts = shifts.view(batch, channels // 4, 4, rows, columns).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
    return [objectness(hidden).permute(0, 2, 3, 1).reshape(batch, -1), shifts]


def proposals_by_loop(logits, deltas, anchors, image_size, before, after, iou_threshold):
    """Greedy, box by box; sorted whole, cut by counting."""
    order = logits.sort(descending=True).indices[:before].tolist()
    limit = [image_size[1], image_size[0]] * 2
    kept: list[torch.Tensor] = []
    for row in order:
        box = decode_boxes(deltas[row][None], anchors[row][None])[0]
        box = torch.stack([value.clamp(0, most) for value, most in zip(box, limit, strict=True)])
        if box[2] - box[0] <= 0 or box[3] - box[1] <= 0:
            continue
        if all(box_iou(box[None], better[None])[0, 0] <= iou_threshold for better in kept):
            kept.append(box)
    return torch.stack(kept[:after]) if kept else anchors.new_zeros(0, 4)


def proposals_with_scores(logits, deltas, anchors, image_size, before, after, iou_threshold):
    """By topk and the sigmoid, as torchvision does."""
    scores, rows = logits.sigmoid().topk(min(before, len(logits)))
    boxes = clip_boxes_to_image(decode_boxes(deltas[rows], anchors[rows]), image_size)
    large = remove_small_boxes(boxes, 1e-3)
    boxes, scores = boxes[large], scores[large]
    return boxes[nms(boxes, scores, iou_threshold)][:after]


RIGHT = [
    (checks.rpn_head, head_by_loop),
    (checks.rpn_head, head_by_view),
    (checks.rpn_proposals, proposals_by_loop),
    (checks.rpn_proposals, proposals_with_scores),
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


def test_head_and_proposals_are_the_packages():
    torch.manual_seed(0)
    rpn = RegionProposalNetwork(4, stride=4, sizes=(6, 14), aspect_ratios=(0.5, 2.0), after_nms=(20, 12)).eval()
    for layer in (rpn.conv, rpn.objectness, rpn.deltas):
        torch.nn.init.normal_(layer.weight, std=0.3)
    features = torch.randn(1, 4, 9, 13)
    with torch.no_grad():
        logits, deltas, anchors = rpn(features)
        ours = faster_rcnn_head.reference_rpn_head(features, rpn.conv, rpn.objectness, rpn.deltas)
    torch.testing.assert_close(ours, (logits, deltas))
    theirs = rpn.proposals(logits, deltas, anchors, [(36, 52)])[0]
    found = faster_rcnn_proposals.reference_rpn_proposals(logits[0], deltas[0], anchors, (36, 52), 1000, 12, 0.7)
    torch.testing.assert_close(found, theirs)


def head_of_a_student(features, conv, objectness, deltas, *, slip=""):
    """The head in the plainest way, and the usual slips as they are made."""
    hidden = conv(features) if slip == "no relu" else functional.relu(conv(features))
    scores, shifts = objectness(hidden), deltas(hidden)
    if slip == "no permute":
        return scores.flatten(1), shifts.reshape(len(features), -1, 4)
    if slip == "x first":
        scores, shifts = scores.mT, shifts.mT
    scores, shifts = scores.permute(0, 2, 3, 1), shifts.permute(0, 2, 3, 1)
    if slip == "four first":
        return scores.flatten(1), shifts.unflatten(3, (4, -1)).mT.reshape(len(features), -1, 4)
    return scores.flatten(1), shifts.reshape(len(features), -1, 4)


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ("no relu", "the ReLU after the 3x3 convolution is missing"),
        ("no permute", "the channels come first"),
        ("x first", "the columns are slowest"),
        ("four first", "the four deltas are taken apart"),
    ],
)
def test_the_usual_slips_of_the_head_are_named(message_of, slip, told):
    assert f"likely: {told}" in message_of(checks.rpn_head, lambda *args: head_of_a_student(*args, slip=slip))


def test_the_plain_head_without_a_slip_is_right(strict):
    assert checks.rpn_head(head_of_a_student) is head_of_a_student


def proposals_of_a_student(logits, deltas, anchors, image_size, before, after, iou_threshold, *, slip=""):
    """The four steps in the plainest way, and the ways to lose the clipping."""
    rows = logits.argsort(descending=True)[:before]
    decoded, scores = decode_boxes(deltas[rows], anchors[rows]), logits[rows]
    clipped = clip_boxes_to_image(decoded, image_size)
    if slip == "not at all":
        return decoded[nms(decoded, scores, iou_threshold)[:after]]
    if slip == "at the very end":
        return clip_boxes_to_image(decoded[nms(decoded, scores, iou_threshold)[:after]], image_size)
    whole = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
    decoded, clipped, scores = decoded[whole], clipped[whole], scores[whole]
    if slip == "for the width alone":
        return decoded[nms(decoded, scores, iou_threshold)[:after]]
    keep = nms(clipped, scores, iou_threshold)[:after]
    return decoded[keep] if slip == "for suppression alone" else clipped[keep]


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ("not at all", "the boxes are not clipped to the image"),
        ("at the very end", "the boxes are clipped last"),
        ("for the width alone", "boxes are dropped by their clipped form and come out unclipped"),
        ("for suppression alone", "boxes are dropped and suppressed in their clipped form and come out unclipped"),
    ],
)
def test_every_way_to_lose_the_clipping_is_named(message_of, slip, told):
    answer = message_of(checks.rpn_proposals, lambda *args: proposals_of_a_student(*args, slip=slip))
    assert f"likely: {told}" in answer


def test_the_plain_proposals_without_a_slip_are_right(strict):
    assert checks.rpn_proposals(proposals_of_a_student) is proposals_of_a_student

"""The second stage by itself: its units, its samples, and which detections come out."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image

from labkit.detection.roi_head import SMALLEST, RoIHead, _decode_classes, select_detections

CLASSES = 3


def head(**options):
    torch.manual_seed(0)
    return RoIHead(4, CLASSES, stride=8, **{"pool_size": 3, "hidden": 10, "samples": 16} | options)


def test_deltas_are_counted_in_torchvisions_units():
    """What a head answers are deltas over their usual spread, as torchvision's coder has it."""
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    proposals = torch.tensor([[4.0, 6.0, 30.0, 26.0], [50.0, 8.0, 90.0, 70.0]])
    deltas = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    expected = coder.decode(deltas.flatten(1), [proposals])  # (2, 1, 4)
    torch.testing.assert_close(_decode_classes(deltas, proposals), expected, atol=1e-4, rtol=0)


def test_select_detections_suppresses_within_a_class_and_clips():
    boxes = torch.tensor([[-5.0, 2, 9, 30], [-5, 2, 9, 29], [40, 2, 60, 9]])[:, None].expand(3, 3, 4)
    scores = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.0, 0.9, 0.1]])
    found = select_detections(boxes, scores, (20, 30), score_threshold=0.2, iou_threshold=0.5, max_detections=5)
    assert found["labels"].tolist() == [1, 2]  # the third lies outside the image
    assert found["boxes"].tolist() == [[0, 2, 9, 20], [0, 2, 9, 20]]
    torch.testing.assert_close(found["scores"], torch.tensor([0.6, 0.4]))


@pytest.mark.parametrize("seed", range(4))
def test_detections_are_those_of_torchvisions_operators(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(50, CLASSES, 2, generator=generator) * torch.tensor([60.0, 40.0]) - 4
    boxes = torch.cat([corner, corner + 4 + 20 * torch.rand(50, CLASSES, 2, generator=generator)], dim=2)
    scores = torch.randn(50, CLASSES, generator=generator).softmax(1)
    found = select_detections(boxes, scores, (40, 60), score_threshold=0.3, iou_threshold=0.4, max_detections=9)
    inside = clip_boxes_to_image(boxes, (40, 60))[:, 1:].flatten(0, 1)
    labels = torch.arange(1, CLASSES).expand(50, -1).flatten()
    flat = scores[:, 1:].flatten()
    whole = ((flat > 0.3) & (inside[:, 2:] - inside[:, :2] >= SMALLEST).all(1)).nonzero()[:, 0]
    kept = whole[batched_nms(inside[whole], flat[whole], labels[whole], 0.4)[:9]]
    assert len(kept) == 9
    assert torch.equal(found["labels"], labels[kept])
    torch.testing.assert_close(found["scores"], flat[kept], atol=0, rtol=0)
    torch.testing.assert_close(found["boxes"], inside[kept], atol=1e-5, rtol=0)


def test_the_background_is_never_a_detection():
    boxes = torch.tensor([[0.0, 0, 8, 6]])[:, None].expand(1, CLASSES, 4)
    scores = torch.tensor([[0.98, 0.01, 0.01]])
    found = select_detections(boxes, scores, (20, 30), score_threshold=0.05, iou_threshold=0.5, max_detections=5)
    assert [tuple(found[key].shape) for key in ("boxes", "labels", "scores")] == [(0, 4), (0,), (0,)]


def test_shapes_of_proposals_of_all_images_and_of_none():
    features = torch.rand(2, 4, 6, 9)
    proposals = [torch.tensor([[3.0, 4, 30, 20], [8, 8, 60, 40]]), torch.zeros(0, 4)]
    logits, deltas = head()(features, proposals)
    assert (logits.shape, deltas.shape) == ((2, CLASSES), (2, CLASSES, 4))
    logits, deltas = head()(features, [proposals[1]] * 2)
    assert (logits.shape, deltas.shape) == ((0, CLASSES), (0, CLASSES, 4))


def test_a_truth_is_a_proposal_too_and_only_its_class_moves():
    """Without any proposal the loss of the box is that of the truth onto itself, by the deltas of its own class."""
    model, features = head(), torch.rand(1, 4, 6, 9)
    target = {"boxes": torch.tensor([[8.0, 8, 40, 30]]), "labels": torch.tensor([2])}
    losses = model.losses(features, [torch.zeros(0, 4)], [target])
    _, deltas = model(features, [target["boxes"]])
    wanted = torch.nn.functional.smooth_l1_loss(deltas[0, 2], torch.zeros(4), beta=1 / 9, reduction="sum")
    torch.testing.assert_close(losses["box"], wanted, atol=1e-6, rtol=0)
    losses["box"].backward()
    moved = model.box_deltas.bias.grad.reshape(CLASSES, 4).abs().sum(1) > 0
    assert moved.tolist() == [False, False, True]


def test_a_batch_without_objects_teaches_background_alone():
    proposals = [torch.tensor([[3.0, 4, 30, 20], [8, 8, 60, 40]])]
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = head().losses(torch.rand(1, 4, 6, 9), proposals, [nothing])
    assert losses["box"] == 0
    assert 0 < losses["classifier"] < 3

"""R-CNN: cutting out, what overlaps what, the whole; against torchvision. Its SVM and ridge: test_linear_models."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops

from labkit.detection.backbone import Backbone
from labkit.detection.rcnn import (
    RCNN,
    RegionNetwork,
    class_overlaps,
    crop_and_resize,
    proposal_features,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def boxes_in(height, width, count, seed=0):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor(
        [width - 14, height - 14]
    )
    size = 3 + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 10
    return torch.cat([corner, corner + size], dim=1)


# crop_and_resize


def test_a_box_of_the_results_size_on_whole_pixels_is_a_plain_crop():
    image = normal(2, 20, 31)
    crop = crop_and_resize(image, torch.tensor([[4.0, 3, 11, 10]]), size=7)
    torch.testing.assert_close(crop[0], image[:, 3:10, 4:11], atol=1e-5, rtol=0)


def test_the_context_is_what_is_around_the_box():
    image = normal(1, 24, 31)
    crop = crop_and_resize(image, torch.tensor([[8.0, 7, 14, 13]]), size=10, context=2)
    torch.testing.assert_close(crop[0], image[:, 5:15, 6:16], atol=1e-5, rtol=0)


def test_outside_the_image_is_zero():
    crop = crop_and_resize(torch.ones(1, 9, 13), torch.tensor([[0.0, 0, 4, 4]]), size=8, context=2)[0, 0]
    assert (crop[:2] == 0).all()
    assert (crop[:, :2] == 0).all()
    torch.testing.assert_close(crop[2:, 2:], torch.ones(6, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "context"), [(5, 0), (16, 0), (12, 3)])
def test_it_is_a_bilinear_look_at_the_middle_of_each_pixel_and_zero_outside(size, context):
    image = normal(3, 40, 57).double()
    boxes = torch.cat(
        [boxes_in(40, 57, 12), torch.tensor([[-9.0, -7, 12, 20], [40, 30, 70, 55], [0, 0, 57, 40]])]
    ).double()
    pixel = (torch.arange(size, dtype=torch.float64) + 0.5 - context) / (size - 2 * context)
    x, y = (boxes[:, s, None] + pixel * (boxes[:, s + 2] - boxes[:, s])[:, None] for s in (0, 1))  # (R, size)
    x, y = 2 * x / 57 - 1, 2 * y / 40 - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    expected = F.grid_sample(image.expand(len(boxes), 3, 40, 57), grid, align_corners=False)
    got = crop_and_resize(image, boxes, size=size, context=context)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    close = crop_and_resize(image.float(), boxes.float(), size=size, context=context)
    torch.testing.assert_close(close, expected.float(), atol=2e-5, rtol=0)


def test_no_boxes_give_no_crops():
    assert crop_and_resize(torch.zeros(3, 20, 30), torch.zeros(0, 4), size=9).shape == (0, 3, 9, 9)


@pytest.mark.parametrize(
    ("image", "boxes", "options", "words"),
    [
        (torch.zeros(20, 30), torch.zeros(0, 4), {}, r"image must be floating point \(C, H, W\)"),
        (torch.zeros(1, 20, 30, dtype=torch.uint8), torch.zeros(0, 4), {}, r"torch.uint8; write .* image.float\(\)"),
        (torch.zeros(1, 20, 30), torch.tensor([[3.0, 3, 3, 9]]), {}, "x1 < x2"),
        (torch.zeros(1, 20, 30), torch.zeros(4), {}, "shape"),
        (torch.zeros(1, 20, 30), torch.zeros(0, 4), {"context": 4}, "the box needs room"),
        (torch.zeros(1, 20, 30), torch.zeros(0, 4), {"context": -1}, "the box needs room"),
        (torch.zeros(1, 20, 30), torch.zeros(0, 4), {"size": 8.5}, "in whole pixels, got 0 and 8.5"),
        (torch.zeros(1, 20, 30), torch.zeros(0, 4), {"size": 0}, "got 0 and 0; the box needs room"),
    ],
)
def test_crop_and_resize_names_bad_input(image, boxes, options, words):
    with pytest.raises(ValueError, match=words):
        crop_and_resize(image, boxes, **{"size": 8} | options)


# class_overlaps


def test_each_class_has_its_own_nearest_truth():
    truths, labels = torch.tensor([[0.0, 0, 10, 6], [20, 0, 30, 6], [0, 1, 10, 7]]), torch.tensor([1, 1, 2])
    proposals = torch.tensor([[0.0, 0, 10, 6], [21, 0, 31, 6], [40, 0, 44, 4]])
    iou, truth = class_overlaps(proposals, truths, labels, num_classes=4)
    assert iou.shape == (3, 3)
    assert truth[:2, 0].tolist() == truths[:2].tolist()
    assert truth[0, 1].tolist() == truths[2].tolist()
    torch.testing.assert_close(iou[:, 0], torch.tensor([1.0, 54 / 66, 0.0]))
    assert iou[0, 0] == 1  # exactly: `iou >= 1` finds the truths
    assert not iou[:, 2].any()


def test_without_truths_nothing_overlaps():
    iou, truth = class_overlaps(torch.ones(3, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), num_classes=3)
    assert iou.shape == (3, 2)
    assert truth.shape == (3, 2, 4)
    assert not iou.any()


# the whole


def network(size=24):
    torch.manual_seed(0)
    return RegionNetwork(Backbone(width=4), num_classes=3, size=size, hidden=16).eval()


def test_features_are_those_of_each_proposal_by_itself():
    model, image, proposals = network(), torch.rand(1, 40, 57), boxes_in(40, 57, 5)
    together = proposal_features(model, image, proposals)
    assert together.shape == (5, 16)
    alone = torch.cat([proposal_features(model, image, box[None]) for box in proposals])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_proposals_of_another_image_size_are_refused():
    with pytest.raises(ValueError, match="proposals must lie in the image of 40 x 57"):
        proposal_features(network(), torch.rand(1, 40, 57), torch.tensor([[5.0, 5, 90, 20]]))
    with pytest.raises(ValueError, match="proposals must have x1 < x2"):
        proposal_features(network(), torch.rand(1, 40, 57), torch.tensor([[5.0, 5, 5, 20]]))


def test_a_network_in_training_mode_is_refused():
    before, model = network(), network().train()  # it would mix the proposals of a film, and change
    with pytest.raises(ValueError, match=r"call network\.eval\(\)"):
        proposal_features(model, torch.rand(1, 40, 57), torch.tensor([[5.0, 5, 20, 20]]))
    for key, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_images_and_proposals_go_together():
    model = RCNN(network(), torch.zeros(2, 16), torch.ones(2))
    with pytest.raises(ValueError, match="got 1 for 2 images"):
        model([torch.rand(1, 40, 57)] * 2, [torch.zeros(0, 4)])


@pytest.mark.parametrize("label", [0, 3, -1])
def test_overlaps_with_a_label_outside_the_classes_are_refused(label):
    box = torch.tensor([[1.0, 2, 9, 7]])
    with pytest.raises(ValueError, match=f"labels must lie in 1 to 2, got .{label}"):
        class_overlaps(box, box, torch.tensor([label]), num_classes=3)


def test_without_regression_detections_are_proposals():
    model = RCNN(network(), normal(2, 16), torch.tensor([0.5, 0.1]), score_threshold=-100, iou_threshold=0.3)
    image, proposals = torch.rand(1, 40, 57), boxes_in(40, 57, 9)
    found = model([image], [proposals])[0]
    assert len(found["boxes"]) > 4
    for box in found["boxes"]:
        assert (box == proposals).all(dim=1).any()
    scores = proposal_features(model.network, image, proposals) @ model.svm_weights.T + model.svm_biases
    for label in (1, 2):
        kept = ops.nms(proposals, scores[:, label - 1], 0.3)
        torch.testing.assert_close(found["scores"][found["labels"] == label], scores[kept, label - 1])


def test_regression_moves_each_class_by_its_own_deltas():
    box_weights = torch.zeros(2, 17, 4)
    box_weights[0, -1] = torch.tensor([0.5, 0, 0, 0])  # class 1 moves right by half a width
    model = RCNN(network(), torch.zeros(2, 16), torch.tensor([1.0, 2.0]), box_weights)
    found = model([torch.rand(1, 40, 57)], [torch.tensor([[10.0, 8, 20, 30]])])[0]
    assert found["labels"].tolist() == [2, 1]
    torch.testing.assert_close(found["boxes"], torch.tensor([[10.0, 8, 20, 30], [15, 8, 25, 30]]))


def test_an_image_without_proposals_has_no_detections():
    model = RCNN(network(), torch.zeros(2, 16), torch.ones(2), torch.zeros(2, 17, 4))
    found = model([torch.rand(1, 40, 57)], [torch.zeros(0, 4)])[0]
    assert [len(found[k]) for k in ("boxes", "labels", "scores")] == [0, 0, 0]


def test_the_network_can_be_trained():
    model = network().train()
    crops, labels = torch.rand(6, 1, 24, 24), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.nn.functional.cross_entropy(model(crops), labels).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: (255 * image).byte(), r"image 0 must be float32 .* write image.float\(\) / 255 for bytes"),
        (lambda image: image[0], r"image 0 must be float32 \(C, H, W\), got shape \(30, 40\).* write image\[None\]"),
        (lambda image: 255 * image, r"image 0 must be in \[0, 1\]"),
        (lambda image: (image - 0.5) / 0.25, "the detector normalises it itself"),
        (lambda image: image * torch.nan, "image 0 must be finite"),
        (lambda image: image.expand(3, -1, -1), r"image 0 must have 1 channel\(s\), got 3"),
    ],
)
def test_what_is_no_image_is_named(change, words):
    model = RCNN(network(), normal(2, 16), torch.zeros(2))
    image = torch.linspace(0, 1, 1200).reshape(1, 30, 40)
    with pytest.raises(ValueError, match=words):
        model([change(image)], [torch.tensor([[2.0, 3, 20, 25]])])


@pytest.mark.parametrize("part", ["network.fc.1.weight", "svm_weights", "svm_biases", "box_weights"])
def test_broken_weights_are_not_an_empty_image(part):
    model = RCNN(network(), normal(2, 16), torch.zeros(2), normal(2, 17, 4))
    state = model.state_dict()
    state[part].view(-1)[0] = torch.nan
    state["svm_biases"][1] += 9
    with pytest.raises(ValueError, match="its weights are broken"):
        model([torch.rand(1, 30, 40)], [torch.tensor([[2.0, 3, 20, 25]])])

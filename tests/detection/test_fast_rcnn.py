"""Fast R-CNN against torchvision's RoIHeads: same weights, same proposals, same answers."""

import pytest
import torch
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign

from labkit.detection.backbone import Backbone
from labkit.detection.fast_rcnn import FastRCNN

CLASSES = 3


def ours(**options) -> FastRCNN:
    torch.manual_seed(0)
    model = FastRCNN(Backbone(width=8), CLASSES, hidden=40, samples=24, **options)
    with torch.no_grad():  # an untrained head calls everything background: spread its answers
        model.roi_head.class_logits.weight.mul_(20)
        model.roi_head.box_deltas.weight.mul_(4)
        for norm in (m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.momentum = 1.0  # one look at noise, so that features have a sane scale at test time
        model.backbone(torch.rand(4, 1, 64, 96))
    return model


def torchvisions(model: FastRCNN) -> RoIHeads:
    channels = model.backbone.out_channels
    heads = RoIHeads(
        MultiScaleRoIAlign(["0"], 7, 2), TwoMLPHead(channels * 49, 40), FastRCNNPredictor(40, CLASSES),
        fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=24, positive_fraction=0.25,
        bbox_reg_weights=None, score_thresh=0.05, nms_thresh=0.5, detections_per_img=100,
    )  # fmt: skip
    names = {
        "fc1": "box_head.fc6",
        "fc2": "box_head.fc7",
        "class_logits": "box_predictor.cls_score",
        "box_deltas": "box_predictor.bbox_pred",
    }
    state = {}
    for key, value in model.roi_head.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        state[f"{names[layer]}.{kind}"] = value.clone()
    heads.load_state_dict(state)
    return heads


def batch():
    """Two images of one size, the second without objects, and proposals around and away from the truths."""
    generator = torch.Generator().manual_seed(1)
    images = list(torch.rand(2, 1, 64, 96, generator=generator))
    targets = [
        {"boxes": torch.tensor([[10.0, 12, 34, 50], [50, 20, 90, 44]]), "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    proposals = []
    for _ in images:
        corner = torch.rand(60, 2, generator=generator) * torch.tensor([66.0, 40])
        side = 8 + torch.rand(60, 2, generator=generator) * torch.tensor([20.0, 14])
        near = torch.tensor([[10.0, 12, 34, 50], [50, 20, 90, 44]]).repeat(8, 1)
        near = near + 3 * torch.randn(16, 4, generator=generator)
        proposals.append(torch.cat([torch.cat([corner, corner + side], dim=1), near]))
    return images, proposals, targets


def features_of(model, images):
    return model.backbone((torch.stack(images) - 0.5) / 0.25)


def test_the_losses_and_gradients_are_torchvisions():
    model = ours().train()
    heads = torchvisions(model).train()
    images, proposals, targets = batch()
    torch.manual_seed(5)
    losses = model(images, proposals, targets)
    sum(losses.values()).backward()
    gradient = model.backbone.layers[0].weight.grad.clone()
    model.zero_grad()
    torch.manual_seed(5)
    _, expected = heads({"0": features_of(model, images)}, proposals, [(64, 96)] * 2, targets)
    sum(expected.values()).backward()
    for name, theirs in (("classifier", "loss_classifier"), ("box", "loss_box_reg")):
        assert expected[theirs] > 1e-3  # not equal because nothing happened
        torch.testing.assert_close(losses[name], expected[theirs], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient, model.backbone.layers[0].weight.grad, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_the_detections_are_torchvisions():
    model = ours().eval()
    heads = torchvisions(model).eval()
    images, proposals, _ = batch()
    expected, _ = heads({"0": features_of(model, images)}, proposals, [(64, 96)] * 2)
    for got, want in zip(model(images, proposals), expected, strict=True):
        assert len(want["boxes"]) > 5
        assert torch.equal(got["labels"], want["labels"])
        for key in ("boxes", "scores"):
            torch.testing.assert_close(got[key], want[key], atol=1e-4, rtol=1e-4)


def test_images_without_proposals_or_objects():
    model = ours()
    image, nothing = torch.rand(1, 40, 56), torch.zeros(0, 4)
    target = {"boxes": nothing, "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model.train()([image], [nothing], [target])
    assert [value.item() for value in losses.values()] == [0, 0]  # a mean over nothing would be NaN
    found = model.eval()([image, image], [nothing, torch.tensor([[4.0, 4, 30, 20]])])
    assert len(found[0]["boxes"]) == 0
    assert len(found) == 2


def test_the_largest_image_of_a_batch_gives_what_it_gives_alone():
    model = ours().eval()
    images = [torch.rand(1, 64, 96), torch.rand(1, 64, 96)[:, :, :88]]
    proposals = batch()[1]
    proposals[1] = proposals[1].clamp(max=80)
    proposals[1][:, 3].clamp_(max=60)
    with torch.no_grad():
        together, alone = model(images, proposals)[0], model(images[:1], proposals[:1])[0]
    torch.testing.assert_close(together["boxes"], alone["boxes"], atol=1e-4, rtol=1e-4)


def test_it_learns_an_image_by_heart():
    torch.manual_seed(0)
    model = FastRCNN(Backbone(width=8), CLASSES, samples=24)
    images, proposals, targets = batch()
    image, boxes, target = images[0] * 0.5 + 0.25, proposals[0], targets[0]
    image[:, 12:50, 10:34], image[:, 20:44, 50:90] = 1.0, 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model([image], [boxes], [target]).values()).backward()
        optimizer.step()
    found = model.eval()([image], [boxes])[0]
    sure = found["scores"] > 0.5
    assert sorted(found["labels"][sure].tolist()) == [1, 2]


def good():
    image = torch.rand(1, 40, 56)
    return (
        image,
        torch.tensor([[4.0, 5, 30, 20]]),
        {"boxes": torch.tensor([[2.0, 3, 20, 30]]), "labels": torch.tensor([1])},
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, p, t: (i, torch.tensor([[4.0, 5, 4, 20]]), t), "proposals of image 0 must have x1 < x2"),
        (lambda i, p, t: (i, p * 3, t), "proposals of image 0 must lie in the image of 40 x 56"),
        (lambda i, p, t: (i, p[0], t), r"proposals of image 0 must have shape \(N, 4\)"),
        (lambda i, p, t: (i, p.long(), t), r"proposals of image 0 must be float32, got torch\.int64; write"),
        (lambda i, p, t: (i, p * torch.nan, t), "proposals of image 0 must be finite"),
        (lambda i, p, t: (i[:, :5], p, t), "image 0 must be at least 8 x 8"),
        (lambda i, p, t: (i, p, t | {"labels": torch.tensor([3])}), "labels of image 0 must lie in 1 to 2"),
        (lambda i, p, t: (i, p, t | {"boxes": t["boxes"] * 3}), "boxes of image 0 must lie in the image"),
    ],
)
def test_bad_input_is_named(change, words):
    image, proposals, target = change(*good())
    with pytest.raises(ValueError, match=words):
        ours().train()([image], [proposals], [target])


def test_proposals_for_each_image():
    image, proposals, _ = good()
    with pytest.raises(ValueError, match="got 1 for 2 images"):
        ours().eval()([image, image], [proposals])


def test_training_without_targets_is_told():
    image, proposals, _ = good()
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        ours().train()([image], [proposals])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_not_an_empty_image(value):
    image, proposals, _ = good()
    model = FastRCNN(Backbone(width=8), CLASSES).eval()
    model.backbone.layers[-2].bias.data[3] = value
    with pytest.raises(ValueError, match="its weights are broken"):
        model([image], [proposals])

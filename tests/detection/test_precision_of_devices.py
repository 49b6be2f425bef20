"""Precision: these tests compare in float32; and Apple's GPUs know no float64: nothing may make one there.

That is emulated on the CPU: tensors carry a mark.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from labkit import device as machine
from labkit.checks import evaluation
from labkit.detection.backbone import Backbone
from labkit.detection.boxes import soft_nms
from labkit.detection.evaluation import average_precision, froc, hit_iou, image_auc
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.faster_rcnn import FasterRCNN
from labkit.detection.proposals import find_contours, score_boxes
from labkit.detection.rcnn import RCNN, RegionNetwork, ridge


class Apple(TorchFunctionMode):
    """What comes of a marked tensor is marked, until it is fetched by `.cpu()`; a marked float64 is an error."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        there = any(getattr(leaf, "there", False) for leaf in tree_leaves((args, kwargs)))
        if function is torch.Tensor.cpu:
            return result.clone() if there else result
        if there:
            for leaf in tree_leaves(result):
                send(leaf)
        return result


def send(value):
    """The same tensors, marked as lying on the device."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            if leaf.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
            leaf.there = True
    return value


def send_model(model):
    send([*model.parameters(), *model.buffers()])
    return model


IMAGES = [torch.rand(1, 40, 56), torch.rand(1, 48, 40)]
BOXES = torch.tensor([[2.0, 3, 20, 30], [10, 8, 36, 34]])
TARGETS = [{"boxes": BOXES, "labels": torch.tensor([1, 2])}, {"boxes": BOXES[:1], "labels": torch.tensor([2])}]


def test_numbers_are_compared_in_float32():
    """What conftest.py sets for every test in this folder."""
    assert machine.precision("cpu") == "fp32"
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.is_autocast_enabled("cpu")
    fine = torch.tensor([[1.0, 2.0**-20]])  # bf16 has 8 bits, TF32 11
    assert (fine @ torch.ones(2, 1)).item() == 1 + 2.0**-20


def test_the_emulation_refuses_what_the_device_refuses():
    with Apple(), pytest.raises(TypeError, match="MPS"):
        send(torch.ones(2)).double()
    with Apple():
        assert send(torch.ones(2)).cpu().double().dtype == torch.float64


def test_detectors_train_and_detect():
    inputs = send([image.clone() for image in IMAGES])
    targets = send([{key: value.clone() for key, value in target.items()} for target in TARGETS])
    proposals = send([BOXES.clone(), BOXES.clone()])
    with Apple():
        model = send_model(FasterRCNN(Backbone(width=8), 3)).train()
        sum(model(inputs, targets).values()).backward()
        assert len(model.eval()(inputs)) == 2
        model = send_model(FastRCNN(Backbone(width=8), 3)).train()
        sum(model(inputs, proposals, targets).values()).backward()
        assert len(model.eval()(inputs, proposals)) == 2


def test_rcnn_its_regression_and_what_comes_after():
    with Apple():
        features, wanted = send(torch.randn(30, 16)), send(torch.randn(30, 4))
        weights = ridge(features, wanted, 1.0)
        assert weights.dtype == torch.float32
        network = RegionNetwork(Backbone(width=4), 3, size=24, hidden=16)
        model = send_model(RCNN(network, torch.randn(2, 16), torch.zeros(2), weights.expand(2, 17, 4).contiguous()))
        assert len(model(send([IMAGES[0].clone()]), send([BOXES.clone()]))) == 1
        soft_nms(send(BOXES.clone()), send(torch.tensor([0.9, 0.8])), sigma=0.5, score_threshold=0.1)
        contours, strength = find_contours(torch.rand(1, 40, 60))
        score_boxes(send(BOXES.clone()), send(contours), send(strength))


def test_scores_of_detections():
    targets = [{key: value.clone() for key, value in target.items()} for target in TARGETS]
    detections = [target | {"scores": torch.rand(len(target["labels"]))} for target in targets]
    with Apple():
        send([detections, targets])
        assert average_precision(detections, targets)["mean"] == 1
        assert froc(detections, targets, hit=hit_iou(0.5)).sensitivity[-1] == 1
        image_auc(detections, targets)


def test_the_references_of_notebook_04_score():
    """What an untouched copy of the notebook goes on with: marks on the device, in float32."""
    scores, hits = torch.tensor([0.9, 0.3, 0.8, 0.6]), torch.tensor([True, True, False, True])
    truth = torch.tensor([0, 1, -1, -1])
    expected = evaluation.reference_average_precision(scores, hits, 5), evaluation.reference_froc(scores, truth, 2, 3)
    with Apple():
        area = evaluation.reference_average_precision(send(scores.clone()), send(hits.clone()), 5)
        curve = evaluation.reference_froc(send(scores.clone()), send(truth.clone()), 2, 3)
        curve = [values.cpu() for values in curve]
    assert area == expected[0]
    assert all(torch.equal(one, other) for one, other in zip(curve, expected[1], strict=True))

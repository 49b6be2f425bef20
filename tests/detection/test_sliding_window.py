"""Sliding windows, the classifier as a convolution, the detector."""

import pytest
import torch
from torch import nn
from torchvision import ops

from labkit.detection.non_maximum_suppression import greedy_merge
from labkit.detection.sliding_window import (
    SlidingWindowDetector,
    convolutionalize,
    fc_to_conv,
    receptive_fields,
    resize,
    sliding_windows,
)


def classifier(*, padding=0, outputs=3, block=(3, 5)):
    """Two convolutions and a pool, then two linear layers, for windows of 12 rows and 16 columns."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=padding), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * block[0] * block[1], 7), nn.Tanh(), nn.Dropout(), nn.Linear(7, outputs),
    ).eval()  # fmt: skip


WINDOW = (12, 16)


def image(height=31, width=44):
    return torch.rand(2, height, width, generator=torch.Generator().manual_seed(1))


# -------------------------------------------------------------------------------------------- sliding_windows


def test_windows_by_hand():
    boxes = sliding_windows((5, 6), window=(2, 3), stride=3)
    assert boxes.tolist() == [[0, 0, 3, 2], [3, 0, 6, 2], [0, 3, 3, 5], [3, 3, 6, 5]]


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_windows_are_those_of_unfold(stride):
    picture = torch.rand(1, 1, 19, 33)
    cut = nn.functional.unfold(picture, (7, 10), stride=stride)[0].T.reshape(-1, 7, 10)
    boxes = sliding_windows((19, 33), window=(7, 10), stride=stride).long().tolist()
    mine = torch.stack([picture[0, 0, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
    assert torch.equal(mine, cut)


@pytest.mark.parametrize("size", [(4, 30), (30, 4), (0, 0)])
def test_an_image_smaller_than_the_window_has_none(size):
    assert sliding_windows(size, window=(5, 5), stride=1).shape == (0, 4)


@pytest.mark.parametrize(("window", "stride"), [((0, 3), 1), ((3, -1), 1), ((3, 3), 0)])
def test_windows_and_strides_are_positive(window, stride):
    with pytest.raises(ValueError, match="at least 1 pixel, got"):
        sliding_windows((9, 9), window=window, stride=stride)


# ---------------------------------------------------------------------------------- fc_to_conv, convolutionalize


@pytest.mark.parametrize("bias", [True, False])
def test_the_convolution_is_the_linear_layer_at_every_position(bias):
    linear = nn.Linear(3 * 2 * 5, 4, bias=bias).double()
    block = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    cuts = [[block[:, :, y : y + 2, x : x + 5].flatten(1) for x in range(5)] for y in range(5)]
    expected = torch.stack([torch.stack([linear(cut) for cut in row], dim=-1) for row in cuts], dim=-2)
    torch.testing.assert_close(fc_to_conv(linear, 3, 2, 5)(block), expected)


def test_the_weights_are_a_copy():
    linear = nn.Linear(6, 2)
    conv = fc_to_conv(linear, 1, 2, 3)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
    assert linear.weight.abs().min() > 0
    assert linear.bias.abs().min() > 0


def test_the_block_must_fit_the_layer():
    with pytest.raises(ValueError, match=r"3 \* 2 \* 5 = 30 inputs, got 29"):
        fc_to_conv(nn.Linear(29, 4), 3, 2, 5)


def test_dense_is_crop_by_crop():
    network, picture = classifier(), image()
    dense = convolutionalize(network, window=WINDOW)(picture[None])[0].flatten(1).T
    boxes = sliding_windows(picture.shape[1:], window=WINDOW, stride=2).long().tolist()
    crops = torch.stack([picture[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
    torch.testing.assert_close(dense, network(crops), atol=1e-6, rtol=0)


def test_dense_is_not_crop_by_crop_with_padding():
    network, picture = classifier(padding=1, block=(6, 8)), image()
    dense = convolutionalize(network, window=WINDOW)(picture[None])[0]
    assert (dense[:, 2, 3] - network(picture[None, :, 4:16, 6:22])[0]).abs().max() > 1e-3


def test_the_classifier_stays_as_it_is():
    network = classifier().train()
    before = [parameter.clone() for parameter in network.parameters()]
    dense = convolutionalize(network, window=WINDOW)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.zero_()
    assert network.training
    assert not dense.training
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "got 0 nn.Flatten"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), "begins with a convolution"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)), "got Adaptive"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2), nn.Softmax(1)), "got Softmax"),
    ],
)
def test_layers_without_a_dense_form_are_refused(network, told):
    with pytest.raises(ValueError, match=told):
        convolutionalize(network, window=(3, 3))


# ---------------------------------------------------------------------------------------------- receptive_fields


def test_receptive_fields_of_alexnet():
    """The published figures: 195 pixels and stride 32 after the last pool."""
    alexnet = nn.Sequential(
        nn.Conv2d(3, 8, 11, stride=4), nn.MaxPool2d(3, 2), nn.Conv2d(8, 8, 5), nn.MaxPool2d(3, 2), nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    assert receptive_fields(alexnet)[-1][3:] == (32, 195)


def test_the_field_is_what_moves_the_output():
    network = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3, dilation=2))
    picture = torch.rand(1, 1, 61, 61, requires_grad=True)
    network(picture)[0, 0, 2, 2].backward()
    rows = picture.grad[0, 0].abs().sum(1).nonzero()
    assert receptive_fields(network)[-1].field == rows.max() - rows.min() + 1


def test_fields_need_square_kernels():
    with pytest.raises(ValueError, match="square kernels"):
        receptive_fields(nn.Sequential(nn.Conv2d(1, 1, (3, 5))))


# ---------------------------------------------------------------------------------------------------- detector


def spot_detector(**options):
    """Finds bright squares of 8 pixels: one convolution that sums them, and a line through the sums."""
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=0), nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        network[0].weight.fill_(1 / 9)
        network[0].bias.zero_()
        network[2].weight.copy_(torch.stack([torch.zeros(36), torch.full((36,), 1.0)]))
        network[2].bias.copy_(torch.tensor([0.0, -32.0]))  # more than 32 of 36 cells bright
    return SlidingWindowDetector(network, window=(8, 8), **options)


def test_a_square_is_found_where_it_is():
    picture = torch.zeros(1, 30, 50)
    picture[:, 6:14, 33:41] = 1
    (found,) = spot_detector()(picture[None])
    assert found["boxes"].tolist() == [[33, 6, 41, 14]]
    assert found["labels"].tolist() == [1]
    assert found["scores"][0] > 0.9


def test_a_square_twice_as_large_is_found_a_level_higher():
    picture = torch.zeros(1, 30, 50)
    picture[:, 6:22, 30:46] = 1
    detector = spot_detector(scales=(0.5,))
    (found,) = detector([picture])
    assert found["boxes"][0].tolist() == [30, 6, 46, 22]


def test_nothing_found_is_empty():
    (found,) = spot_detector()(torch.zeros(1, 1, 20, 30))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


def test_windows_are_the_classifiers_answers_to_crops_of_every_level():
    network, picture = classifier(), image(40, 61)
    detector = SlidingWindowDetector(network, window=WINDOW, scales=(1.0, 0.6))
    boxes, logits = detector.windows(picture)
    level = resize(picture, 0.6)
    at = sliding_windows(level.shape[1:], window=WINDOW, stride=2)
    crops = torch.stack([level[:, y1:y2, x1:x2] for x1, y1, x2, y2 in at.long().tolist()])
    torch.testing.assert_close(logits[-len(at) :], network(crops), atol=1e-6, rtol=0)
    torch.testing.assert_close(boxes[-1], at[-1] * torch.tensor([61 / 37, 40 / 24] * 2))


def test_a_pool_that_leaves_a_rest_gives_no_window_outside_the_image():
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 3 * 3, 2)).eval()
    detector = SlidingWindowDetector(network, window=(8, 8))  # 8 -> 7 -> 3, the last row of 7 is dropped
    picture = torch.rand(1, 11, 13)
    boxes, logits = detector.windows(picture)
    assert torch.equal(boxes, sliding_windows((11, 13), window=(8, 8), stride=2))
    crops = torch.stack([picture[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.long().tolist()])
    torch.testing.assert_close(logits, network(crops), atol=1e-6, rtol=0)


def test_suppression_is_by_class_and_best_first():
    detector = SlidingWindowDetector(classifier(), window=WINDOW, score_threshold=0.2, iou_threshold=0.2)
    (found,) = detector([image()])
    assert set(found["labels"].tolist()) <= {1, 2}
    assert found["scores"].diff().max() <= 0
    for label in (1, 2):
        boxes = found["boxes"][found["labels"] == label]
        assert (ops.box_iou(boxes, boxes) - torch.eye(len(boxes))).max() <= 0.2


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"image must be float32 \(C, H, W\)"):
        spot_detector().windows(torch.zeros(1, 1, 20, 20))
    with pytest.raises(ValueError, match="use larger scales"):
        spot_detector(scales=(0.2,)).windows(torch.zeros(1, 20, 20))
    with pytest.raises(ValueError, match="scales must be positive"):
        spot_detector(scales=())


@pytest.mark.gpu
def test_the_detector_runs_on_a_gpu():
    picture = torch.zeros(1, 30, 50, device="cuda")
    picture[:, 6:14, 33:41] = 1
    (found,) = spot_detector().to("cuda")([picture])
    assert found["boxes"].tolist() == [[33, 6, 41, 14]]
    assert greedy_merge(found["boxes"], found["scores"])[0].is_cuda


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: (255 * image).byte(), "image 0 must be float32 .* write image.float\\(\\) / 255 for bytes"),
        (lambda image: 255 * image, r"image 0 must be in \[0, 1\], .* divide bytes by 255"),
        (lambda image: (image - 0.5) / 0.1, "the detector normalises it itself|divide bytes"),
        (lambda image: image * torch.nan, "image 0 must be finite"),
        (lambda image: image[0], r"write image\[None\]"),
        (lambda image: image[:1], "image 0 must have 2 channel"),
    ],
)
def test_a_detector_names_what_is_no_image(change, words):
    detector = SlidingWindowDetector(classifier(), window=WINDOW)
    with pytest.raises(ValueError, match=words):
        detector([change(image())])


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match=r"expected a list of images \(C, H, W\), got one tensor .* write \[image\]"):
        SlidingWindowDetector(classifier(), window=WINDOW)(image())


def test_broken_weights_are_not_an_empty_image():
    detector = SlidingWindowDetector(classifier(), window=WINDOW)
    detector.network[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="its weights are broken"):
        detector([image()])

"""What a detector is given: one check for all of them, with one look at the numbers; normalised and padded."""

import pytest
import torch
from gpu_waits import Waits
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from labkit.detection.backbone import Backbone
from labkit.detection.images import (
    batch_images,
    channel_values,
    check_answers,
    check_batch,
    check_image,
    check_images,
    check_labels,
    check_proposals,
)

BOX = torch.tensor([[2.0, 3, 20, 30]])


def image(*, channels=1, height=40, width=56):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))


def batch():
    targets = [{"boxes": BOX, "labels": torch.tensor([1])}, {"boxes": BOX[:0], "labels": torch.zeros(0).long()}]
    return [image(), image(height=32)], targets


# one image


FAULTS = [
    (lambda i: (255 * i).byte(), r"must be float32 .*; write image.float\(\) / 255 for bytes"),
    (lambda i: i.double(), r"must be float32 .*, torch.float64; write image.float\(\)"),
    (lambda i: i[0], r"got shape \(40, 56\), torch.float32; write image\[None\] for a grey one"),
    (lambda i: i[None], "give one image, channels first"),
    (lambda i: i.numpy(), r"must be a tensor, got ndarray; write torch.as_tensor\(image\)"),
    (lambda i: None, "must be a tensor, got NoneType"),
    (lambda i: i * torch.nan, "must be finite, got NaN or infinity; look for a division by zero"),
    (lambda i: i / 0, "must be finite"),
    (lambda i: 255 * i, r"must be in \[0, 1\], got .*; divide bytes by 255"),
    (lambda i: (i - 0.5) / 0.25, "give it as it was: the detector normalises it itself"),
    (lambda i: i.permute(1, 2, 0), r"channels come first: write image.permute\(2, 0, 1\)"),
    (lambda i: i.expand(3, -1, -1), r"must have 1 channel\(s\), got 3; write image.mean\(0, keepdim=True\)"),
    (lambda i: i[:, :7], "must be at least 8 x 8 pixels, got 7 x 56; enlarge it"),
    (lambda i: i[:, :, :0], "must be at least 8 x 8 pixels, got 40 x 0"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_each_fault_of_an_image_is_named(change, message):
    wrong = change(image())
    with pytest.raises(ValueError, match=f"^image .*{message}"):
        check_image(wrong, channels=(1,), least_side=8)
    with pytest.raises(ValueError, match=f"^image 1 .*{message}"):
        check_images([image(), wrong], channels=(1,), least_side=8)
    with pytest.raises(ValueError, match=f"^image 1 .*{message}"):
        check_batch([image(), wrong], None, stride=8, num_classes=3, channels=1)


def test_an_image_may_overshoot_as_noise_makes_it():
    check_image(image() * 1.9 - 0.45)
    check_image(torch.zeros(1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_where_any_floating_type_will_do_it_does(dtype):
    check_image(image().to(dtype), any_float=True)
    with pytest.raises(ValueError, match="must be floating point"):
        check_image(image().long(), any_float=True)


def test_a_batch_is_a_list_or_one_tensor_of_images():
    check_images(torch.stack([image(), image()]))
    check_images((image(), image()))
    with pytest.raises(ValueError, match=r"expected a list of images .*, got one tensor \(1, 40, 56\); write"):
        check_images(image())
    with pytest.raises(ValueError, match="got an empty list; skip empty batches"):
        check_images([])
    for wrong in (None, 3, (one for one in [image()])):
        with pytest.raises(ValueError, match=rf"got {type(wrong).__name__}; write \[image\] or list"):
            check_images(wrong)
    with pytest.raises(ValueError, match="image 1 must be finite"):
        check_images(torch.stack([image(), image() * torch.nan]))


# a batch


def test_a_good_batch_passes_and_stays():
    images, targets = batch()
    before = [one.clone() for one in images]
    check_batch(images, targets, stride=8, num_classes=3, channels=1)
    assert all(map(torch.equal, images, before))
    assert targets[0].keys() == {"boxes", "labels"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": BOX.double()}, r"target 0 must have float32 boxes and int64 labels, got torch.float64"),
        ({"labels": torch.tensor([1.0])}, "got torch.float32 and torch.float32; write"),
        ({"labels": torch.tensor([True])}, "int64 labels, got torch.float32 and torch.bool"),
        ({"labels": torch.tensor([1], dtype=torch.int32)}, "int64 labels, got torch.float32 and torch.int32"),
        ({"labels": torch.tensor([1, 2])}, "one label a box"),
        ({"labels": torch.tensor([[1]])}, "one label a box"),
        ({"labels": torch.tensor([3])}, "labels of image 0 must lie in 1 to 2, got .3.; 0 is background"),
        ({"labels": torch.tensor([0])}, "0 is background"),
        ({"boxes": BOX * 3}, "boxes of image 0 must lie in the image of 40 x 56"),
        ({"boxes": -BOX.flip(1)}, "boxes of image 0 must lie in the image"),
        ({"boxes": BOX.flip(1)}, "x1 < x2"),
        ({"boxes": BOX * torch.nan}, "boxes of image 0 must be finite"),
        ({"boxes": BOX[0]}, "shape"),
        ({"boxes": BOX.tolist()}, "boxes of image 0 must be a tensor, got list; write torch.as_tensor"),
        ({"labels": [1]}, "labels of image 0 must be a tensor, got list"),
    ],
)
def test_each_fault_of_a_target_is_named(change, message):
    images, targets = batch()
    targets[0] |= change
    with pytest.raises(ValueError, match=message):
        check_batch(images, targets, stride=8, num_classes=3, channels=1)


@pytest.mark.parametrize("target", [{"boxes": BOX}, {"box": BOX, "labels": torch.tensor([1])}, None, BOX])
def test_a_target_is_a_dict_with_both(target):
    images, targets = batch()
    with pytest.raises(ValueError, match=r'target 1 must have "boxes" and "labels", got .*; mind the spelling'):
        check_batch(images, [targets[0], target], stride=8, num_classes=3, channels=1)


def test_as_many_targets_as_images():
    images, targets = batch()
    with pytest.raises(ValueError, match="got 2 images and 1 targets; pair them"):
        check_batch(images, targets[:1], stride=8, num_classes=3, channels=1)


def test_a_batch_is_checked_with_one_look():
    images, targets = batch()
    with Waits() as waits:
        check_batch(images, targets, stride=8, num_classes=3, channels=1)
        assert waits.count == 1


def test_labels_by_name():
    check_labels(torch.zeros(0, dtype=torch.int64), num_classes=3)
    with pytest.raises(ValueError, match=r"^labels must lie in 1 to 2, got \[-1, 2\]"):
        check_labels(torch.tensor([2, -1, 2]), num_classes=3)


# proposals


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([(BOX, torch.ones(1))], r"must be a tensor \(R, 4\), got a tuple; .* take \[0\]"),
        ([BOX.tolist()], r"got list; write torch.as_tensor\(boxes\)"),
        ([BOX[0]], r"proposals of image 0 must have shape \(N, 4\)"),
        ([BOX.double()], r"must be float32, got torch.float64; write proposals.float\(\)"),
        ([BOX * torch.nan], "proposals of image 0 must be finite"),
        ([BOX * 3], "must lie in the image of 40 x 56"),
        ([BOX.flip(1)], "x1 < x2"),
        ([], "got 0 for 1 images; none is"),
        (None, "got NoneType for 1 images"),
    ],
)
def test_each_fault_of_proposals_is_named(proposals, message):
    with pytest.raises(ValueError, match=message):
        check_proposals(proposals, [image()])


def test_an_image_may_have_no_proposals():
    check_proposals([BOX, BOX[:0]], [image(), image()])


# answers, channels, the batch


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_answers_that_are_no_numbers_are_the_weights_fault(value):
    check_answers(torch.zeros(2, 3), torch.zeros(0))
    with pytest.raises(ValueError, match="its weights are broken, load or train them again"):
        check_answers(torch.zeros(2, 3), torch.tensor([0.0, value]))


def test_channels_have_one_number_each_or_share_it():
    mean, std = channel_values(Backbone(channels=3), (0.1, 0.2, 0.3), (0.25,))
    torch.testing.assert_close(mean, torch.tensor([0.1, 0.2, 0.3]))
    assert std.tolist() == [0.25] * 3
    for wrong in ((0.1, 0.2), ()):
        with pytest.raises(ValueError, match=f"image_mean must hold 1 or 3 numbers, got {len(wrong)}; give one"):
            channel_values(Backbone(channels=3), wrong, (0.25,))
    with pytest.raises(ValueError, match="image_std must be positive"):
        channel_values(Backbone(channels=3), (0.1,), (0.25, 0.0, 0.3))


@pytest.mark.parametrize("multiple", [1, 8, 32])
def test_images_are_batched_as_torchvisions_transform_does(multiple):
    images = [image(channels=3), image(channels=3, height=33, width=61), image(channels=3, height=64, width=20)]
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    theirs = GeneralizedRCNNTransform(1, 4096, mean, std, size_divisible=multiple)
    theirs.resize = lambda image, target: (image, target)
    expected, _ = theirs(images)
    got = batch_images(images, mean=torch.tensor(mean), std=torch.tensor(std), multiple=multiple)
    torch.testing.assert_close(got, expected.tensors, atol=1e-6, rtol=0)
    assert got.shape[2] % multiple == got.shape[3] % multiple == 0

"""Checks of notebook 11."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import checks
from labkit.checks import networks, networks_loss


def block_by_hand(features, weight, gamma, beta):
    """Windows times kernels, and the batch norm of its definition."""
    count, _, height, width = features.shape
    windows = F.unfold(features, 3, padding=1)  # (B, C * 9, H * W)
    x = (weight.reshape(len(weight), -1) @ windows).reshape(count, -1, height, width)
    rows = x.transpose(0, 1).flatten(1)  # (D, B * H * W)
    mean = rows.mean(dim=1)
    variance = ((rows - mean[:, None]) ** 2).mean(dim=1)
    normalised = (rows - mean[:, None]) * (variance + 1e-5)[:, None] ** -0.5
    out = (gamma[:, None] * normalised + beta[:, None]).clamp(min=0)
    return out.reshape(-1, count, height, width).transpose(0, 1)


def block_of_modules(features, weight, gamma, beta):
    """Layers whose weights are put in as functions, so that the gradient reaches the arguments."""
    norm = nn.BatchNorm2d(len(weight)).to(features.device)
    convolved = F.conv2d(F.pad(features, (1, 1, 1, 1)), weight)
    return F.relu(torch.func.functional_call(norm, {"weight": gamma, "bias": beta}, (convolved,)))


def target_by_images(noisy, clean):
    return torch.stack([a.sub(b) for a, b in zip(noisy, clean, strict=True)])


def target_as_a_sum(noisy, clean):
    return torch.add(noisy, clean, alpha=-1)


def denoised_as_a_sum(noisy, residual):
    return noisy + (-1) * residual


def denoised_by_torch(noisy, residual):
    return torch.sub(noisy, residual)


def loss_of_the_image(residual, noisy, clean):
    """The same number, seen from the image: what is left is compared with the clean one."""
    return 0.5 * F.mse_loss(noisy - residual, clean, reduction="sum") / len(clean)


def loss_image_by_image(residual, noisy, clean):
    lengths = [torch.linalg.vector_norm(r - (z - x)) ** 2 for r, z, x in zip(residual, noisy, clean, strict=True)]
    return sum(lengths) / (2 * len(lengths))


RIGHT = [
    (checks.dncnn_block, block_by_hand),
    (checks.dncnn_block, block_of_modules),
    (checks.residual_target, target_by_images),
    (checks.residual_target, target_as_a_sum),
    (checks.denoised, denoised_as_a_sum),
    (checks.denoised, denoised_by_torch),
    (checks.residual_loss, loss_of_the_image),
    (checks.residual_loss, loss_image_by_image),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_reference_is_the_block_of_the_package():
    """Convolution without bias, batch norm and ReLU, as they stand in `DnCNN`."""
    from labkit.denoising.networks import DnCNN

    torch.manual_seed(0)
    network = DnCNN(depth=3, width=4).train()
    _, _, convolution, norm, relu, _ = network.layers
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert convolution.bias is None
    features = torch.randn(2, 4, 5, 7)
    expected = relu(norm(convolution(features)))
    got = networks.reference_dncnn_block(features, convolution.weight, norm.weight, norm.bias)
    torch.testing.assert_close(got, expected)


def test_running_statistics_in_place_of_the_batchs_are_refused(message_of):
    def frozen(features, weight, gamma, beta):
        convolved = F.conv2d(features, weight, padding=1)
        return F.batch_norm(convolved, torch.zeros(len(weight)), torch.ones(len(weight)), gamma, beta).relu()

    assert "a kernel that copies" in message_of(checks.dncnn_block, frozen)


def test_a_bias_that_the_batch_norm_takes_off_again_is_accepted(strict):
    def with_bias(features, weight, gamma, beta):
        convolved = F.conv2d(features, weight, torch.full_like(beta, 0.25), padding=1)
        return F.batch_norm(convolved, None, None, gamma, beta, training=True).relu()

    assert checks.dncnn_block(with_bias) is with_bias


def numbers_of(function):
    """The same numbers, through Python's."""

    def wrong(*args):
        return torch.tensor(function(*args).tolist())

    return wrong


@pytest.mark.parametrize(
    ("check", "reference"),
    [
        (checks.dncnn_block, networks.reference_dncnn_block),
        (checks.denoised, networks_loss.reference_denoised),
        (checks.residual_loss, networks_loss.reference_residual_loss),
    ],
)
def test_an_answer_through_which_nothing_is_learned_is_refused(message_of, check, reference):
    told = message_of(check, numbers_of(reference))
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told


@pytest.mark.parametrize(
    ("check", "reference"),
    [
        (checks.residual_target, networks_loss.reference_residual_target),
        (checks.denoised, networks_loss.reference_denoised),
    ],
)
def test_the_sign_is_named(message_of, check, reference):
    told = message_of(check, lambda first, second: -reference(first, second))
    assert "one image of 1 x 3 pixels" in told
    assert "likely:" in told


def test_a_loss_with_noisy_and_clean_exchanged_is_refused(message_of):
    told = message_of(checks.residual_loss, lambda r, z, x: networks_loss.reference_residual_loss(r, x, z))
    assert "likely: the target is noisy less clean" in told


def test_a_half_over_all_pixels_is_named(message_of):
    told = message_of(checks.residual_loss, lambda r, z, x: 0.5 * F.mse_loss(r, z - x))
    assert "likely: sum over the pixels of an image" in told


def test_rounding_to_bytes_is_refused(message_of):
    message_of(checks.denoised, lambda noisy, residual: ((noisy - residual) * 255).round() / 255)


def test_noise_clipped_on_both_sides_is_refused(message_of):
    message_of(checks.residual_target, lambda noisy, clean: (noisy - clean).clamp(-0.2, 0.2))

"""Checks of notebook 10."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from labkit import checks
from labkit.checks import metrics as subject
from labkit.checks import metrics_ssim


def psnr_by_images(pred, target, data_range):
    """A loop, the root first, numbers until the end."""
    values = []
    for one, other in zip(pred, target, strict=True):
        rms = (one.double() - other.double()).pow(2).mean().sqrt().item()
        values.append(math.inf if rms == 0 else 20 * math.log10(data_range / rms))
    return torch.tensor(values)


def psnr_in_numpy(pred, target, data_range):
    error = ((pred.cpu().numpy().astype(np.float64) - target.cpu().numpy()) ** 2).reshape(len(pred), -1).mean(1)
    with np.errstate(divide="ignore"):
        return torch.from_numpy(10 * np.log10(data_range**2 / error)).float().to(pred.device)


def factors_as_distances(mean_x, mean_y, var_x, var_y, cov, c1, c2, c3):
    """1 less what differs: (a - b)^2 in place of 2 a b."""
    sd_x, sd_y = var_x**0.5, var_y**0.5
    brightness = 1 - (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2 + c1)
    contrast = 1 - (sd_x - sd_y) ** 2 / (sd_x**2 + sd_y**2 + c2)
    return brightness, contrast, 1 + (cov - sd_x * sd_y) / (sd_x * sd_y + c3)


def factors_as_a_list(mean_x, mean_y, var_x, var_y, cov, c1, c2, c3):
    product = torch.sqrt(var_x * var_y)
    return [
        (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1),
        (2 * product + c2) / (var_x + var_y + c2),
        (cov + c3) / (product + c3),
    ]


def window_weights(like):
    offset = torch.arange(-5.0, 6.0, device=like.device, dtype=like.dtype)
    weights = torch.exp(-(offset**2) / 4.5)
    return weights / weights.sum()


def ssim_of_unfolded_windows(pred, target, data_range):
    """Every window cut out, centred on its own mean; no E[x^2] - E[x]^2."""
    weights = torch.outer(window_weights(pred), window_weights(pred)).flatten()[:, None]
    x, y = (F.unfold(images[:, None], 11) for images in (pred, target))  # (B, 121, L)
    mean_x, mean_y = ((weights * part).sum(1, keepdim=True) for part in (x, y))
    var_x, var_y = (weights * (x - mean_x) ** 2).sum(1), (weights * (y - mean_y) ** 2).sum(1)
    cov = (weights * (x - mean_x) * (y - mean_y)).sum(1)
    mean_x, mean_y = mean_x[:, 0], mean_y[:, 0]
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return (top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(1)


def ssim_row_by_row(pred, target, data_range):
    """The Gaussian down, then across, one image at a time."""
    weights = window_weights(pred)

    def mean(image):
        return F.conv2d(F.conv2d(image[None, None], weights[None, None, :, None]), weights[None, None, None])[0, 0]

    values = []
    for x, y in zip(pred, target, strict=True):
        mx, my = mean(x), mean(y)
        total = mean(x * x) + mean(y * y) - mx**2 - my**2 + (0.03 * data_range) ** 2
        likeness = (2 * (mean(x * y) - mx * my) + (0.03 * data_range) ** 2) / total
        likeness = likeness * (2 * mx * my + (0.01 * data_range) ** 2) / (mx**2 + my**2 + (0.01 * data_range) ** 2)
        values.append(likeness.mean())
    return torch.stack(values)


RIGHT = [
    (checks.psnr, psnr_by_images),
    (checks.psnr, psnr_in_numpy),
    (checks.ssim_factors, factors_as_distances),
    (checks.ssim_factors, factors_as_a_list),
    (checks.ssim, ssim_of_unfolded_windows),
    (checks.ssim, ssim_row_by_row),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_bytes_that_wrap_are_met(message_of):
    def wraps(pred, target, data_range):
        return 10 * torch.log10(data_range**2 / (pred - target).float().square().mean(dim=(1, 2)))

    told = message_of(checks.psnr, wraps)
    assert told.startswith("✗ psnr: bytes: 10 - 50")
    assert "likely: bytes cannot be negative" in told


def test_bytes_that_wrap_when_they_are_squared_are_met(message_of):
    def wraps(pred, target, data_range):
        return 10 * torch.log10(data_range**2 / (pred - target).square().float().mean(dim=(1, 2)))

    told = message_of(checks.psnr, wraps)
    assert told.startswith("✗ psnr: bytes: 10 - 50")
    assert "likely: a byte holds no square above 255" in told


def test_a_function_for_one_image_is_met_with_two(message_of):
    def of_one(pred, target, data_range):
        return (10 * torch.log10(data_range**2 / (pred.float() - target.float()).square().mean())).reshape(1)

    assert "shape (1,), expected (2,)" in message_of(checks.psnr, of_one)


def three_factors(pred, target, data_range):
    """Right but for its gradient."""
    mean_x, mean_y = metrics_ssim._gaussian(pred), metrics_ssim._gaussian(target)
    var_x, var_y = metrics_ssim._gaussian(pred**2) - mean_x**2, metrics_ssim._gaussian(target**2) - mean_y**2
    cov = metrics_ssim._gaussian(pred * target) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    parts = subject.reference_ssim_factors(mean_x, mean_y, var_x.abs(), var_y.abs(), cov, c1, c2, c2 / 2)
    return (parts[0] * parts[1] * parts[2]).mean(dim=(1, 2))


def test_three_factors_with_a_root_are_refused_for_their_gradient(message_of):
    told = message_of(checks.ssim, three_factors)
    assert "the gradient where both images are black" in told
    assert "likely: the root of a variance is infinitely steep at 0" in told


def test_scikit_images_own_default_is_refused_and_named(message_of):
    def default(pred, target, data_range):
        pairs = zip(pred.detach().numpy(), target.numpy(), strict=True)
        values = [structural_similarity(x, y, data_range=data_range, win_size=7) for x, y in pairs]
        return torch.tensor(values).float()

    told = message_of(checks.ssim, default)
    assert "likely: this is scikit-image's default window" in told


def test_factors_as_bare_numbers_are_refused(message_of):
    def numbers(*args):
        return [torch.tensor(part.tolist()) for part in subject.reference_ssim_factors(*args)]

    told = message_of(checks.ssim_factors, numbers)
    assert told.startswith("✗ ssim_factors: 5 x 7 windows, and the gradient")
    assert "likely: no gradient flows" in told


def ssim_as_numbers(*args):
    return torch.tensor(metrics_ssim.reference_ssim(*args).tolist())


@pytest.mark.parametrize("wrong", [ssim_as_numbers, lambda *args: metrics_ssim.reference_ssim(*args).detach()])
def test_an_answer_through_which_nothing_is_learned_is_refused(message_of, wrong):
    told = message_of(checks.ssim, wrong)
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told


def test_factors_are_the_papers():
    """By hand: means 0.4 and 0.6, deviations 0.1 and 0.2, covariance 0.015, no constants but 1e-12."""
    args = [torch.tensor([value], dtype=torch.float64) for value in (0.4, 0.6, 0.01, 0.04, 0.015)]
    found = [float(part) for part in subject.reference_ssim_factors(*args, 1e-12, 1e-12, 1e-12)]
    assert found == pytest.approx([0.48 / 0.52, 0.04 / 0.05, 0.75])


def test_statistics_of_the_cases_are_possible():
    """No covariance is larger than its variances allow."""
    _, _, var_x, var_y, cov = subject._statistics(50, seed=0)
    assert (cov.abs() <= (var_x * var_y).sqrt() + 1e-7).all()

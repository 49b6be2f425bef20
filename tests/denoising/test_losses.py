"""Losses: 0 at equality, gradients that are right and lead to the target, and the traps of patches."""

import math

import pytest
import torch

from labkit.denoising.losses import ms_ssim_loss, ssim_loss, zhao_loss
from labkit.denoising.metrics import ms_ssim, ssim

THREE = (0.3, 0.3, 0.4)
LOSSES = [ssim_loss, ms_ssim_loss, zhao_loss]


def images(shape=(2, 1, 44, 52), seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def options(loss):
    return {"data_range": 1.0} if loss is ssim_loss else {"data_range": 1.0, "weights": THREE}


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_at_equality_and_more_the_further_away(loss):
    target, noise = images(), images(seed=1) - 0.5
    values = [float(loss(target + a * noise, target, **options(loss))) for a in (0, 0.1, 0.3, 1)]
    assert values[0] == 0
    assert values == sorted(values)
    assert loss(target, target, **options(loss)).shape == ()


def test_values_are_those_of_the_metrics():
    pred, target = images((2, 170, 180)), images((2, 170, 180), seed=1)
    one, many = ssim(pred, target, data_range=1.0), ms_ssim(pred, target, data_range=1.0)
    torch.testing.assert_close(ssim_loss(pred, target, data_range=1.0), 1 - one.mean())
    torch.testing.assert_close(ms_ssim_loss(pred, target, data_range=1.0), 1 - many.mean())
    expected = 0.84 * (1 - many.mean()) + 0.16 * (pred - target).abs().mean()
    torch.testing.assert_close(zhao_loss(pred, target, data_range=1.0), expected)
    torch.testing.assert_close(zhao_loss(255 * pred, 255 * target, data_range=255), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(zhao_loss(pred, target, data_range=1.0, alpha=0), (pred - target).abs().mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_against_finite_differences(loss):
    size = (1, 12, 13) if loss is ssim_loss else (1, 21, 22)
    chosen = {"data_range": 1.0} if loss is ssim_loss else {"data_range": 1.0, "weights": (0.5, 0.5)}
    target = images(size, dtype=torch.float64)
    pred = (target + 0.2 * images(size, seed=1, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target, **chosen), pred)
    assert torch.autograd.gradcheck(lambda x: loss(target, x, **chosen), pred)


@pytest.mark.parametrize("loss", LOSSES)
def test_descent_leads_to_the_target(loss):
    target = images((1, 1, 44, 52))
    pred = (0.5 * torch.ones_like(target)).requires_grad_()
    optimizer = torch.optim.Adam([pred], lr=0.02)
    before = float((pred - target).detach().square().mean())
    for _ in range(60):
        optimizer.zero_grad()
        loss(pred, target, **options(loss)).backward()
        optimizer.step()
    assert float((pred - target).detach().square().mean()) < 0.2 * before  # adding SSIM would lead away


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_stay_finite_where_images_are_flat_equal_or_opposite(loss):
    target = images()
    for pred in (torch.zeros_like(target), target, 10 - target, -target):
        pred = pred.clone().requires_grad_()
        loss(pred, target, **options(loss)).backward()
        assert torch.isfinite(pred.grad).all()


def test_a_negative_has_no_way_out_but_for_the_mix():
    target = images()
    slopes = []
    for loss in (ms_ssim_loss, zhao_loss):
        pred = (1 - target).requires_grad_()
        value = loss(pred, target, **options(loss))
        slopes.append(torch.autograd.grad(value, pred)[0])
    assert not slopes[0].any()
    torch.testing.assert_close(slopes[1], 0.16 * (1 - 2 * target).sign() / target.numel())


def test_a_batch_is_the_mean_of_its_images():
    pred, target = images((3, 1, 44, 52)), images((3, 1, 44, 52), seed=1)
    for loss in LOSSES:
        alone = [loss(p, t, **options(loss)) for p, t in zip(pred, target, strict=True)]
        torch.testing.assert_close(loss(pred, target, **options(loss)), torch.stack(alone).mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    pred, target = images().to(dtype), images(seed=1).to(dtype)
    for loss in LOSSES:
        value = loss(pred, target, **options(loss))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(pred.float(), target.float(), **options(loss)))


def test_nan_is_not_hidden():
    target = images()
    pred = target.clone()
    pred[0, 0, 20, 20] = math.nan
    for loss in LOSSES:
        assert loss(pred, target, **options(loss)).isnan()


@pytest.mark.parametrize("loss", [ms_ssim_loss, zhao_loss])
def test_patches_below_161_pixels_and_five_scales(loss):
    patch = torch.zeros(4, 1, 160, 160)
    with pytest.raises(ValueError, match=r"at least 161 x 161 .* got 160 x 160; take larger patches, or fewer scales"):
        loss(patch, patch, data_range=1.0)
    assert float(loss(patch, patch, data_range=1.0, weights=THREE)) == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("pred", "target", "changes", "message"),
    [
        (torch.zeros(1, 1, 44, 44), torch.zeros(1, 1, 44, 45), {}, "must have one shape"),
        (torch.zeros(2, 1, 44, 44), torch.zeros(2, 44, 44), {}, "must have one shape"),
        (torch.zeros(1, 3, 44, 44), torch.zeros(1, 3, 44, 44), {}, "must be grey"),
        (torch.zeros(1, 1, 44, 44), torch.zeros(1, 1, 44, 44), {"data_range": 0}, "data_range must be a positive"),
        (torch.zeros(1, 1, 10, 44), torch.zeros(1, 1, 10, 44), {}, "at least"),
    ],
)
def test_bad_input_is_said(loss, pred, target, changes, message):
    with pytest.raises(ValueError, match=message):
        loss(pred, target, **(options(loss) | changes))


def test_alpha_outside_is_said():
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got 84"):
        zhao_loss(images(), images(), data_range=1.0, alpha=84)

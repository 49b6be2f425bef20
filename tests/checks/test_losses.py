"""Checks of notebook 12."""

import pytest
import torch
import torch.nn.functional as F

from labkit import checks
from labkit.checks import losses as subject
from labkit.checks import losses_scales
from labkit.denoising import losses, metrics


def loss_of_every_window(pred, target, data_range):
    """1 - SSIM, one window of 11 x 11 pixels after the other."""
    offset = torch.arange(-5.0, 6)
    weights = torch.exp(-(offset[:, None] ** 2 + offset**2) / 4.5)
    weights = (weights / weights.sum()).flatten()[:, None]
    c1, c2 = 1e-4 * data_range**2, 9e-4 * data_range**2
    x, y = (F.unfold(images, 11) for images in (pred, target))  # (B, 121, windows)
    mx, my = ((weights * v).sum(dim=1, keepdim=True) for v in (x, y))
    vx, vy = (weights * (x - mx) ** 2).sum(dim=1), (weights * (y - my) ** 2).sum(dim=1)
    both = (weights * (x - mx) * (y - my)).sum(dim=1)
    mx, my = mx[:, 0], my[:, 0]
    likeness = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return torch.mean(1 - likeness)


def loss_from_the_metric(pred, target, data_range):
    return (1 - metrics.ssim(pred, target, data_range=data_range)).mean()


def gradient_by_differences(pred, target, window, data_range):
    """Each pixel a little up and a little down."""
    x, y, w = pred.double(), target.double(), window.double()
    slopes = torch.zeros_like(x)
    step = 1e-5 * data_range
    for place in range(x.numel()):
        moved = torch.zeros(x.numel(), dtype=x.dtype)
        moved[place] = step
        moved = moved.reshape(x.shape)
        up, down = (subject._one_window(x + sign * moved, y, w, data_range) for sign in (1, -1))
        slopes.view(-1)[place] = (up - down) / (2 * step)
    return slopes.to(pred.dtype)


def gradient_from_the_slide(pred, target, window, data_range):
    return subject._slopes(pred, target, window, data_range)


def scales_by_logarithms(pred, target, data_range, weights):
    total = torch.zeros(len(pred))
    for scale, weight in enumerate(weights):
        light, structure = subject.ssim_maps(pred, target, data_range)
        last = scale == len(weights) - 1
        total = total + weight * ((light * structure) if last else structure).mean(dim=(1, 2, 3)).log()
        pred, target = (F.interpolate(v, scale_factor=0.5, mode="bilinear") for v in (pred, target))
    return total.exp()


def scales_by_themselves(pred, target, data_range, weights):
    """The finest scale times all the others."""
    light, structure = subject.ssim_maps(pred, target, data_range)
    if len(weights) == 1:
        return (light * structure).flatten(1).mean(dim=1) ** weights[0]
    coarser = [F.avg_pool2d(v, 2, ceil_mode=True) for v in (pred, target)]
    return structure.flatten(1).mean(dim=1) ** weights[0] * scales_by_themselves(*coarser, data_range, weights[1:])


def mix_in_its_own_unit(pred, target, data_range, weights, alpha):
    x, y = pred / data_range, target / data_range
    likeness = metrics.ms_ssim(x, y, data_range=1.0, weights=weights).mean()
    return (1 - alpha) * F.l1_loss(x, y) + alpha - alpha * likeness


def mix_image_by_image(pred, target, data_range, weights, alpha):
    parts = [
        alpha * losses.ms_ssim_loss(p, t, data_range=data_range, weights=weights)
        + (1 - alpha) * (p - t).abs().sum() / (data_range * p.numel())
        for p, t in zip(pred[:, 0], target[:, 0], strict=True)
    ]
    return torch.stack(parts).mean()


RIGHT = [
    (checks.ssim_loss, loss_of_every_window),
    (checks.ssim_loss, loss_from_the_metric),
    (checks.ssim_gradient, gradient_by_differences),
    (checks.ssim_gradient, gradient_from_the_slide),
    (checks.ms_ssim, scales_by_logarithms),
    (checks.ms_ssim, scales_by_themselves),
    (checks.zhao_loss, mix_in_its_own_unit),
    (checks.zhao_loss, mix_image_by_image),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_ssim_added_is_met_where_the_images_are_equal(message_of):
    told = message_of(checks.ssim_loss, lambda p, t, r: metrics.ssim(p, t, data_range=r).mean())
    assert "the images are equal: nothing to lose" in told.splitlines()[0]
    assert "it trains towards images that are unlike" in told


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (checks.ssim_loss, lambda *a: subject.reference_ssim_loss(*a).item()),
        (checks.ms_ssim, lambda *a: torch.tensor(losses_scales.reference_ms_ssim(*a).tolist())),
        (checks.zhao_loss, lambda *a: losses_scales.reference_zhao_loss(*a).item()),
    ],
)
def test_an_answer_through_which_nothing_is_learned_is_refused(message_of, check, wrong):
    told = message_of(check, wrong)
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told


def half_a_gradient(pred, target, data_range):
    """The right number; the gradient takes brightness alone."""
    light, structure = subject.ssim_maps(pred, target, data_range)
    return 1 - (light * structure.detach()).mean()


def l1_without_its_gradient(pred, target, data_range, weights, alpha):
    structure = losses.ms_ssim_loss(pred, target, data_range=data_range, weights=weights)
    return alpha * structure + (1 - alpha) * (pred - target).abs().mean().detach() / data_range


def of_the_target(pred, target, data_range):
    """The right number; the gradient goes to the wrong image."""
    return subject.reference_ssim_loss(pred.detach(), target, data_range) + 0 * pred.sum()


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (checks.ssim_loss, half_a_gradient),
        (checks.ssim_loss, of_the_target),
        (checks.zhao_loss, l1_without_its_gradient),
    ],
)
def test_a_gradient_that_is_only_half_there_is_refused(message_of, check, wrong):
    assert "gradient" in message_of(check, wrong).splitlines()[0]


def sides_exchanged(pred, target, data_range):
    """Rows read as columns: a window of 11 x 11 is the same either way, so is the mean. This is right."""
    return subject.reference_ssim_loss(pred.mT, target.mT, data_range)


def test_turned_images_have_the_same_loss(strict):
    assert checks.ssim_loss(sides_exchanged) is sides_exchanged


def test_the_tolerance_is_a_share_of_the_largest_number():
    expected = torch.tensor([2e-3, -5e-3])
    assert subject.close(expected + 1e-6, expected) is None
    assert "differs in 2 of 2" in subject.close(expected + 1e-4, expected)


@pytest.mark.parametrize(
    "constant",
    [
        lambda *a: torch.zeros(()),
        lambda *a: 0.5,
        lambda pred, *a: 0 * pred.sum(),
        lambda pred, target, data_range, weights, alpha: pred.new_ones((), requires_grad=True),
    ],
    ids=["zero", "a number", "zero with a gradient", "a leaf"],
)
@pytest.mark.parametrize("check", [checks.zhao_loss, checks.ssim_loss])
def test_a_loss_that_never_changes_is_named(message_of, check, constant):
    if check is checks.ssim_loss:
        told = message_of(check, lambda *a: constant(*a, (1.0,), 0.5))
    else:
        told = message_of(check, constant)
    assert "likely: the answer is the same in every case" in told

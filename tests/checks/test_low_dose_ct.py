"""Checks of notebook 13."""

import math

import pytest
import torch
from torch import nn

from labkit import checks
from labkit.checks import low_dose_ct as subject
from labkit.checks import low_dose_ct_loss
from labkit.denoising import low_dose_ct


def counts_layer_by_layer(attenuation, step_mm, photons):
    left = torch.full((len(attenuation),), float(photons))
    for layer in attenuation.T:
        left = left * torch.exp(-layer * step_mm)
    return left


def counts_by_loops(attenuation, step_mm, photons):
    return torch.tensor([photons * math.exp(-step_mm * sum(ray)) for ray in attenuation.tolist()])


def integrals_by_loops(counts, photons):
    return torch.tensor([[math.log(photons) - math.log(max(count, 1.0)) for count in row] for row in counts.tolist()])


def integrals_capped(counts, photons):
    return torch.where(counts >= 1, torch.log(photons / counts.abs().clamp(min=0.5)), math.log(photons))


def loss_by_images(critic, real, fake, epsilon, weight):
    terms = []
    for x, y, share in zip(real, fake, epsilon, strict=True):
        between = torch.lerp(y, x, share)[None].detach().requires_grad_(True)
        slope = torch.autograd.grad(critic(between), between, grad_outputs=torch.ones(1), create_graph=True)[0]
        terms.append(critic(y[None])[0] - critic(x[None])[0] + weight * (slope.pow(2).sum().sqrt() - 1) ** 2)
    return sum(terms) / len(terms)


def loss_in_one_batch(critic, real, fake, epsilon, weight):
    mixed = fake + epsilon.view(-1, 1, 1, 1) * (real - fake)
    mixed = torch.autograd.Variable(mixed, requires_grad=True)
    scores = critic(mixed)
    gradients = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True, retain_graph=True)[0]
    penalty = weight * ((gradients.norm(2, dim=(1, 2, 3)) - 1) ** 2).mean()
    return -(critic(real).mean() - critic(fake).mean()) + penalty


RIGHT = [
    (checks.photon_counts, counts_layer_by_layer),
    (checks.photon_counts, counts_by_loops),
    (checks.line_integrals, integrals_by_loops),
    (checks.line_integrals, integrals_capped),
    (checks.critic_loss, loss_by_images),
    (checks.critic_loss, loss_in_one_batch),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_a_starved_ray_is_met_before_anything_else_goes_wrong(message_of):
    told = message_of(checks.line_integrals, lambda counts, photons: -torch.log(counts / photons))
    assert "a ray that counted nothing" in told
    assert "likely: log(0) is minus infinity" in told


def test_clamping_in_place_is_told(message_of):
    told = message_of(checks.line_integrals, lambda counts, photons: -torch.log(counts.clamp_(min=1) / photons))
    assert "changed its arguments in place" in told


def test_counts_that_are_rounded_are_met(message_of):
    told = message_of(checks.line_integrals, lambda counts, photons: -torch.log(counts.round().clamp(min=1) / photons))
    assert told.startswith("✗ line_integrals: no ray of the scan is free")
    assert "likely: counts are not whole" in told


def test_a_penalty_without_a_graph_has_the_right_value_and_is_refused_by_its_gradient(message_of):
    def forgotten(critic, real, fake, epsilon, weight):
        return low_dose_ct_loss._loss(critic, real, fake, epsilon, weight, graph=False)

    told = message_of(checks.critic_loss, forgotten)
    assert "gradient" in told.splitlines()[0]
    assert "likely: create_graph=True is missing" in told


def test_a_random_epsilon_of_ones_own_is_refused(message_of):
    def own(critic, real, fake, epsilon, weight):
        return subject_loss(critic, real, fake, torch.rand(len(real)), weight)

    assert "✗ critic_loss" in message_of(checks.critic_loss, own)


def test_one_epsilon_a_pixel_is_refused(message_of):
    def pixels(critic, real, fake, epsilon, weight):
        share = torch.rand_like(real)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return critic(fake).mean() - critic(real).mean() + weight * penalty

    assert "✗ critic_loss" in message_of(checks.critic_loss, pixels)


def test_an_answer_without_a_graph_at_all_is_refused(message_of):
    def number(critic, real, fake, epsilon, weight):
        return subject_loss(critic, real, fake, epsilon, weight).item()

    told = message_of(checks.critic_loss, number)
    assert "gradient" in told.splitlines()[0]
    assert "likely: no gradient flows" in told


subject_loss = low_dose_ct_loss.reference_critic_loss


def test_the_critic_of_the_cases_has_the_slope_that_is_said():
    critic = low_dose_ct_loss.QuadraticCritic(torch.tensor([[[1.0, 2.0]]]), 0.5)
    images = torch.tensor([[[[3.0, -1.0]]]], requires_grad=True)
    (slope,) = torch.autograd.grad(critic(images).sum(), images)
    assert slope.flatten().tolist() == [2.5, 1.5]
    assert isinstance(critic, nn.Module)
    assert repr(critic) == "D(x) = sum of w x + 0.25 x²"


def test_the_example_of_the_docstring_is_right():
    critic = low_dose_ct_loss.QuadraticCritic(torch.tensor([[[1.0, 2.0]]]), 0.0)
    real, fake = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[0.5, -1.0]]]])
    value = subject_loss(critic, real, fake, torch.tensor([0.25]), 10.0)
    assert float(value.detach()) == pytest.approx(-1.5 - 5 + 10 * (math.sqrt(5) - 1) ** 2, abs=1e-5)
    assert float(value.detach()) == pytest.approx(8.779, abs=1e-3)


def test_the_reference_is_the_packages(record_of):
    for case in record_of("critic_loss", subject_loss)["cases"]:
        torch.testing.assert_close(case.call(subject_loss)[0], case.call(low_dose_ct.critic_loss)[0])


@pytest.mark.parametrize("name", ["PHOTON_COUNTS", "LINE_INTEGRALS"])
def test_there_are_wrong_answers_enough(name):
    assert len(getattr(subject, f"{name}_MISTAKES")) >= 8

"""Generator, critic and what they are trained by; the shipped weights and what they reach."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from labkit.datasets.ct_scans import ct_scans
from labkit.denoising import low_dose_ct
from labkit.denoising.low_dose_ct import (
    METHODS,
    AdversarialPair,
    Critic,
    FeatureLoss,
    Generator,
    TissueNet,
    critic_loss,
    denoise,
    denoisers,
    gan_critic_loss,
    gan_generator_loss,
    generator_loss,
    to_hu,
    to_units,
)
from labkit.denoising.metrics import psnr
from labkit.weights import FOLDER


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_units_and_back():
    hu = torch.tensor([-1000.0, -160, 40, 240, 700])
    torch.testing.assert_close(to_units(hu), torch.tensor([-2.6, -0.5, 0, 0.5, 1.65]))
    torch.testing.assert_close(to_hu(to_units(hu)), hu, rtol=0, atol=1e-4)


def test_the_generator_is_the_papers_and_begins_as_nothing_is_noise():
    generator = Generator()
    convolutions = [layer for layer in generator.layers if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(1, 32), *[(32, 32)] * 6, (32, 1)]
    assert all(c.kernel_size == (3, 3) for c in convolutions)
    slices = noise(2, 1, 13, 9)
    assert torch.equal(generator(slices), slices)


def test_the_critic_is_the_papers():
    critic = Critic(64)
    convolutions = [layer for layer in critic.features if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128, 256, 256]
    assert [c.stride[0] for c in convolutions] == [1, 2, 1, 2, 1, 2]
    assert all(c.padding == (0, 0) for c in convolutions)
    assert [layer.out_features for layer in critic.score if isinstance(layer, nn.Linear)] == [1024, 1]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    assert critic(torch.zeros(3, 1, 64, 64)).shape == (3,)
    assert Critic(29, widths=(2,) * 6, full=4)(torch.zeros(2, 1, 29, 29)).shape == (2,)
    with pytest.raises(ValueError, match="size must be 29 or more"):
        Critic(28)


@torch.no_grad()
def by_formula(critic, real, fake, epsilon, weight):
    """The critic's loss image by image, the slope by differences."""
    total = 0.0
    for x, y, share in zip(real.double(), fake.double(), epsilon.double(), strict=True):
        between, step = share * x + (1 - share) * y, 1e-5
        slopes = []
        for place in range(between.numel()):
            moved = torch.zeros(between.numel(), dtype=torch.float64)
            moved[place] = step
            moved = moved.reshape(between.shape)
            slopes.append(float(critic((between + moved)[None]) - critic((between - moved)[None])) / (2 * step))
        norm = sum(slope**2 for slope in slopes) ** 0.5
        total += float(critic(y[None]) - critic(x[None])) + weight * (norm - 1) ** 2
    return total / len(real)


def test_critic_loss_against_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(1), nn.Flatten(0)).double()
    real, fake, epsilon = noise(3, 1, 5, 6).double(), noise(3, 1, 5, 6, seed=1).double(), torch.tensor([0.1, 0.5, 0.9])
    critic(real)
    value = critic_loss(critic, real, fake, epsilon.double(), 7.0)
    assert float(value.detach()) == pytest.approx(by_formula(critic, real, fake, epsilon, 7.0), abs=1e-6)


def test_the_penalty_brings_a_slope_to_one():
    """A linear critic: what is left to learn is its length; without the penalty it grows without end."""
    torch.manual_seed(0)
    real, fake = noise(16, 1, 4, 4) + 0.5, noise(16, 1, 4, 4, seed=1)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        critic_loss(critic, real, fake, torch.rand(16)).backward()
        optimizer.step()
    assert float(critic[1].weight.detach().norm()) == pytest.approx(1, abs=0.15)  # 1 + W / (2 · 10) at the optimum


@pytest.mark.parametrize("epsilon", [torch.rand(3), torch.rand(2, 1)])
def test_critic_loss_refuses_what_does_not_belong_together(epsilon):
    with pytest.raises(ValueError, match="one epsilon an image"):
        critic_loss(lambda x: x.flatten(1).sum(1), torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), epsilon)


def test_the_losses_of_the_first_gans_are_cross_entropies():
    scores = {"real": torch.tensor([2.0, -1.0]), "fake": torch.tensor([0.5, -3.0])}
    images = {name: value[:, None, None, None] for name, value in scores.items()}
    got = gan_critic_loss(lambda x: x[:, 0, 0, 0], images["real"], images["fake"], torch.zeros(2))
    expected = F.binary_cross_entropy_with_logits(scores["real"], torch.ones(2))
    expected = expected + F.binary_cross_entropy_with_logits(scores["fake"], torch.zeros(2))
    torch.testing.assert_close(got, expected)
    expected = F.binary_cross_entropy_with_logits(scores["fake"], torch.ones(2))
    torch.testing.assert_close(gan_generator_loss(scores["fake"]), expected)
    assert float(generator_loss(scores["fake"])) == pytest.approx(1.25)


def pair(**options):
    torch.manual_seed(0)
    generator = Generator(3, 4)
    nn.init.normal_(generator.layers[-1].weight, std=0.1)
    return AdversarialPair(generator, Critic(36, widths=(4,) * 6, full=8), **options)


def gradients(module):
    return [None if p.grad is None else float(p.grad.abs().sum()) for p in module.parameters()]


@pytest.mark.parametrize("options", [{}, {"judge": gan_critic_loss, "please": gan_generator_loss}])
def test_each_loss_moves_its_own_network_alone(options):
    low, normal = noise(2, 1, 36, 36), noise(2, 1, 36, 36, seed=1)
    both = pair(content=F.mse_loss, weight=3.0, **options)
    both(low, normal)["critic"].backward()
    assert set(gradients(both.generator)) == {None}
    assert any(gradients(both.critic)[:2])
    both = pair(content=F.mse_loss, weight=3.0, **options)
    losses = both(low, normal)
    (losses["generator"] + losses["content"]).backward()
    assert set(gradients(both.critic)) == {None}
    assert all(gradients(both.generator))


def test_content_counts_with_its_weight_and_can_be_left_out():
    low, normal = noise(2, 1, 36, 36), noise(2, 1, 36, 36, seed=1)
    assert set(pair()(low, normal)) == {"critic", "generator"}
    three, one = (pair(content=F.mse_loss, weight=w)(low, normal)["content"] for w in (3.0, 1.0))
    torch.testing.assert_close(three, 3 * one)


def test_the_judge_gets_the_papers_arguments():
    seen = []

    def judge(critic, real, fake, epsilon, weight):
        seen.extend([real, fake, epsilon, weight])
        return critic(real).mean()

    low, normal = noise(5, 1, 36, 36), noise(5, 1, 36, 36, seed=1)
    pair(judge=judge)(low, normal)
    real, fake, epsilon, weight = seen
    assert torch.equal(real, normal)
    assert not fake.requires_grad
    assert epsilon.shape == (5,)
    assert len(epsilon.unique()) == 5
    assert weight == 10


def test_feature_loss_looks_and_does_not_learn():
    torch.manual_seed(0)
    loss = FeatureLoss(TissueNet().features)
    fake, real = noise(2, 1, 32, 32).requires_grad_(), noise(2, 1, 32, 32, seed=1).requires_grad_()
    value = loss(fake, real)
    value.backward()
    assert float(fake.grad.abs().sum()) > 0
    assert real.grad is None
    assert set(gradients(loss)) == {None}
    with torch.no_grad():
        expected = (loss.features(fake) - loss.features(real)).square().mean()
    torch.testing.assert_close(value.detach(), expected)


def test_denoise_does_not_depend_on_the_batch(monkeypatch):
    monkeypatch.setenv("LABKIT_PRECISION", "fp32")
    generator = Generator(3, 4)
    nn.init.normal_(generator.layers[-1].weight, std=0.1)
    slices = 100 * noise(5, 1, 20, 24)
    torch.testing.assert_close(denoise(generator, slices, batch=2), denoise(generator, slices, batch=5))


def test_shipped_weights_hold_every_method_and_are_small():
    networks = denoisers()
    assert set(networks) == {*METHODS, "tissue"}
    card = json.loads((FOLDER / "low_dose_ct.json").read_text())
    assert card["bytes"] < 3 * 2**20
    assert set(card["held out"]) >= {"low dose", "normal dose", *METHODS}
    assert all(isinstance(network, Generator) for name, network in networks.items() if name in METHODS)


def test_the_shipped_generator_reaches_its_figure(recipe):
    card = json.loads((FOLDER / "low_dose_ct.json").read_text())["first two slices"]
    scans = ct_scans("test", count=2)
    reached = recipe("low_dose_ct").figures(denoise(denoisers()["CNN-MSE"], scans.low), scans)
    assert reached["PSNR"] == pytest.approx(card["PSNR"], abs=0.05)  # bf16 or fp32
    assert reached["SD liver"] == pytest.approx(card["SD liver"], abs=0.5)


def test_the_cards_figures_are_in_the_papers_order():
    held = json.loads((FOLDER / "low_dose_ct.json").read_text())["held out"]
    decibels = {name: held[name]["PSNR"] for name in ("low dose", "WGAN-feature", "CNN-MSE")}
    assert decibels["low dose"] < decibels["WGAN-feature"] < decibels["CNN-MSE"]
    sd = {name: held[name]["SD liver"] for name in ("CNN-MSE", "normal dose", "WGAN-feature", "low dose")}
    assert sd["CNN-MSE"] < sd["normal dose"] < sd["low dose"]
    assert sd["CNN-MSE"] < sd["WGAN-feature"] < sd["low dose"]


def test_a_real_slice_comes_out_nearer_to_the_clean_one(real_data):
    """0 to 1 is the window of the challenge, 350 HU around 40: fat then lies where fat should, about -110 HU."""
    noisy, clean = (
        350 * torch.from_numpy(np.array(Image.open(real_data / "ct" / name)))[None, None] - 135
        for name in ("test014.tiff", "test016.tiff")
    )
    fat = clean[(clean > -130) & (clean < -20)]
    assert float(fat.median()) == pytest.approx(-110, abs=10)
    before = float(psnr(noisy, clean, data_range=350))
    assert before == pytest.approx(22.7, abs=0.05)
    networks = denoisers()
    for name in ("CNN-MSE", "WGAN-feature"):
        after = float(psnr(denoise(networks[name], noisy).clamp(-135, 215), clean, data_range=350))
        assert after > before + 3, name  # 6.4 and 4.6 dB were reached


def test_the_module_says_what_it_was_trained_on():
    assert low_dose_ct.TISSUES == ("lungs", "organs", "bones", "vessels", "nodules")

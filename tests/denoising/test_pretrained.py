"""The denoisers that come trained: each reaches its card's figure, and its recipe trains."""

import json

import pytest
import torch

from labkit.denoising import filters
from labkit.denoising.metrics import psnr
from labkit.denoising.networks import DnCNN
from labkit.denoising.noise import gaussian_noise
from labkit.denoising.pretrained import LEVELS, dncnn, mammogram_denoiser, xray_denoiser
from labkit.weights import FOLDER

NETWORKS = {
    **{name: (lambda sigma=sigma: dncnn(sigma)) for sigma, name in LEVELS.items()},
    "denoiser-xray": xray_denoiser,
    "denoiser-mammogram": mammogram_denoiser,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_reaches_the_figure_of_its_card(name, recipe):
    """On a photograph that is everywhere; another processor rounds otherwise."""
    making, card = recipe("denoiser"), json.loads((FOLDER / f"{name}.json").read_text())
    sigmas = tuple(int(key.split()[1]) for key in card["camera"])
    network = NETWORKS[name]()
    assert not network.training
    assert making.figures(network, making.camera(), sigmas) == pytest.approx(card["camera"], abs=0.02)
    assert set(card["held out"]) >= {f"sigma {sigma}" for sigma in sigmas}


@pytest.mark.parametrize("sigma", [50, 0, "15"])
def test_a_level_without_a_network_is_told_the_blind_one(sigma):
    with pytest.raises(ValueError, match=r"sigma must be 15, 25 or None, got .*; None takes the blind network"):
        dncnn(sigma)


def test_the_right_dncnn_is_ahead_of_every_filter_on_a_photograph(recipe):
    image = recipe("denoiser").camera()[0][None]
    noisy = gaussian_noise(image, sigma=25 / 255, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = psnr(dncnn(25)(noisy), image, data_range=1.0).item()
    others = [psnr(make(noisy, sigma=25 / 255), image, data_range=1.0).item() for make in (filters.nlm, filters.tv)]
    assert ours > max(others) + 0.2  # reached 0.37


def test_the_recipe_trains_and_its_batches_can_be_made_again(recipe):
    making = recipe("denoiser")
    images = [torch.stack(making.camera())]
    batches = making.NoisyPatches(images, (25, 25), steps=60, count=8, size=32)
    noisy, clean = batches[7]
    assert torch.equal(noisy, batches[7][0])
    assert (noisy - clean).std().item() == pytest.approx(25 / 255, rel=0.05)
    torch.manual_seed(0)
    network = DnCNN(depth=4, width=16, batch_norm=False, scale=0.1)
    making.train(network, batches, 4e-3, falls=True)
    before = psnr(noisy, clean, data_range=1.0).mean().item()
    with torch.no_grad():
        after = psnr(network(noisy), clean, data_range=1.0).mean().item()
    assert after > before + 4


def test_levels_are_drawn_over_the_whole_range(recipe):
    making = recipe("denoiser")
    batches = making.NoisyPatches([torch.zeros(1, 1, 32, 32)], (0, 55), steps=9, count=16, size=32)
    deviations = 255 * torch.cat([batches[step][0].std(dim=(1, 2, 3)) for step in range(9)])
    assert deviations.min() < 5 < 50 < deviations.max() < 58
    with pytest.raises(IndexError):
        batches[9]

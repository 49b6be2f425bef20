"""Every kind of noise has the moments its formula says; tolerances are about five standard errors."""

import math

import pytest
import torch

from labkit.denoising.noise import gaussian_noise, low_dose_ct, poisson_noise, rician_noise

SHAPES = [(400, 300), (3, 200, 200), (3, 1, 200, 200)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_moments_and_nothing_clipped(shape):
    clean = torch.full(shape, 0.3)
    noisy = gaussian_noise(clean, sigma=0.25, generator=seeded())
    assert noisy.shape == clean.shape
    assert float(noisy.mean()) == pytest.approx(0.3, abs=5 * 0.25 / math.sqrt(clean.numel()))
    assert float(noisy.std()) == pytest.approx(0.25, rel=0.02)
    assert float(noisy.min()) < 0
    assert torch.equal(clean, torch.full(shape, 0.3))


@pytest.mark.parametrize("kind", [gaussian_noise, rician_noise])
def test_one_sigma_an_image(kind):
    sigma = torch.tensor([0.0, 0.1, 0.5])
    noisy = kind(torch.full((3, 1, 200, 200), 5.0), sigma=sigma, generator=seeded())
    torch.testing.assert_close(noisy.std(dim=(1, 2, 3)), sigma, rtol=0.03, atol=1e-6)


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: gaussian_noise(torch.ones(2, 8, 9), sigma=1.0, generator=g),
        lambda g: poisson_noise(torch.ones(2, 8, 9), photons=50, electronic_sd=2, blur=1, generator=g),
        lambda g: rician_noise(torch.ones(2, 8, 9), sigma=1.0, generator=g),
        lambda g: low_dose_ct(torch.full((2, 16, 16), -1000.0), photons=1e4, views=8, generator=g),
    ],
)
def test_the_generator_decides(draw):
    torch.manual_seed(1)
    first, state = draw(seeded(3)), torch.get_rng_state()
    assert torch.equal(first, draw(seeded(3)))
    assert not torch.equal(first, draw(seeded(4)))
    assert torch.equal(state, torch.get_rng_state())  # the global generator is left alone
    assert not torch.equal(draw(None), draw(None))


@pytest.mark.parametrize("level", [0.1, 1.0, 4.0])
def test_poisson_moments(level):
    noisy = poisson_noise(torch.full((300, 400), level), photons=100, generator=seeded())
    variance = level / 100
    assert float(noisy.mean()) == pytest.approx(level, abs=5 * math.sqrt(variance / noisy.numel()))
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03)


def test_electronic_noise_adds_its_variance():
    noisy = poisson_noise(torch.full((300, 400), 0.5), photons=100, electronic_sd=7.0, generator=seeded())
    assert float(noisy.var()) == pytest.approx(0.5 / 100 + (7 / 100) ** 2, rel=0.03)


def test_detector_blur_lowers_the_variance_by_the_kernels_square_and_correlates_neighbours():
    noisy = poisson_noise(torch.full((400, 400), 1.0), photons=100, blur=1.0, generator=seeded())
    offset = torch.arange(-3.0, 4)
    kernel = torch.exp(-(offset**2) / 2)
    kernel /= kernel.sum()
    inner = noisy[8:-8, 8:-8] - 1
    assert float(noisy.mean()) == pytest.approx(1, abs=0.002)
    assert float(inner.var()) == pytest.approx(float((kernel**2).sum() ** 2) / 100, rel=0.03)
    neighbours = float((inner[:, 1:] * inner[:, :-1]).mean() / inner.var())
    assert neighbours == pytest.approx(float((kernel[1:] * kernel[:-1]).sum() / (kernel**2).sum()), abs=0.02)


def test_rician_background_and_bias():
    """Background mean 1.253 s and deviation 0.655 s; at A / s = 2, 5, 10 a bias of 0.27, 0.10, 0.05 s."""
    background = rician_noise(torch.zeros(600, 600), sigma=2.0, generator=seeded())
    assert float(background.mean()) / 2 == pytest.approx(math.sqrt(math.pi / 2), abs=0.006)
    assert float(background.std()) / 2 == pytest.approx(math.sqrt(2 - math.pi / 2), abs=0.005)
    assert float(background.min()) >= 0
    for ratio, bias in [(1, 0.55), (2, 0.27), (3, 0.17), (5, 0.10), (10, 0.05)]:
        noisy = rician_noise(torch.full((600, 600), float(ratio)), sigma=1.0, generator=seeded())
        assert float(noisy.mean()) - ratio == pytest.approx(bias, abs=0.012)


@pytest.mark.parametrize(
    "noise",
    [
        lambda x: gaussian_noise(x, sigma=0.1, generator=seeded()),
        lambda x: rician_noise(x, sigma=0.0),
        lambda x: poisson_noise(x, photons=10, generator=seeded()),
    ],
)
def test_gradients_reach_the_clean_image(noise):
    clean = torch.full((6, 7), 0.5)
    clean[0] = 0
    clean.requires_grad_()
    noise(clean).sum().backward()
    assert torch.isfinite(clean.grad).all()
    torch.testing.assert_close(clean.grad[1:], torch.ones(5, 7))


def test_sigma_of_a_network_gets_a_gradient():
    sigma = torch.tensor(0.3, requires_grad=True)
    gaussian_noise(torch.zeros(9, 9), sigma=sigma, generator=seeded()).square().mean().backward()
    assert float(sigma.grad) > 0


def test_float64_stays_and_bytes_are_converted():
    assert gaussian_noise(torch.zeros(4, 4, dtype=torch.float64), sigma=1).dtype == torch.float64
    assert gaussian_noise(torch.zeros(4, 4, dtype=torch.uint8), sigma=1).dtype == torch.float32


def test_empty_batch():
    assert gaussian_noise(torch.zeros(0, 1, 8, 8), sigma=1).shape == (0, 1, 8, 8)
    assert poisson_noise(torch.zeros(0, 8, 8), photons=5, blur=1).shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_noise(torch.zeros(4, 4), sigma=-1), "sigma must be 0 or more and finite, got -1"),
        (lambda: gaussian_noise(torch.zeros(4, 4), sigma=math.nan), "sigma must be 0 or more and finite, got nan"),
        (lambda: gaussian_noise(torch.zeros(4, 4), sigma=torch.ones(2)), "one number, or one an image"),
        (lambda: gaussian_noise(torch.zeros(3, 4, 4), sigma=torch.ones(2)), "one number, or one an image"),
        (lambda: gaussian_noise(torch.full((4, 4), math.nan), sigma=1), "16 NaN or infinite pixels"),
        (lambda: gaussian_noise(torch.zeros(2, 3, 9, 9), sigma=1), r"clean.mean\(dim=1\)"),
        (lambda: gaussian_noise([[1.0]], sigma=1), "clean must be a tensor, got list"),
        (lambda: poisson_noise(torch.ones(4, 4), photons=0), "photons must be positive and finite, got 0"),
        (lambda: poisson_noise(torch.ones(4, 4), photons=math.inf), "photons must be positive and finite"),
        (lambda: poisson_noise(-torch.ones(4, 4), photons=9), "clean must be 0 or more, got -1"),
        (lambda: poisson_noise(torch.ones(4, 4), photons=9, electronic_sd=-1), "electronic_sd must be 0 or more"),
        (lambda: poisson_noise(torch.ones(4, 4), photons=9, blur=-1), "blur must be 0 or more"),
        (lambda: rician_noise(-torch.ones(4, 4), sigma=1), "a magnitude has no sign"),
        (lambda: rician_noise(torch.ones(4, 4), sigma=-0.1), "sigma must be 0 or more"),
        (lambda: low_dose_ct(torch.full((16, 16), -1000.0), photons=0), "photons must be positive"),
        (lambda: low_dose_ct(torch.full((16, 16), -1000.0), photons=-5), "photons must be positive"),
        (lambda: low_dose_ct(torch.full((16, 20), -1000.0), photons=1e5), "must be square"),
        (lambda: low_dose_ct(torch.zeros(16, 16), photons=1e5), "HU are -1000 in air"),
        (lambda: low_dose_ct(torch.full((16, 16), -2000.0), photons=1e5), r"clean.clamp\(min=-1000\)"),
        (lambda: low_dose_ct(torch.full((16, 16), -1000.0), photons=1e5, views=7), "views must be even"),
    ],
)
def test_bad_input_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()

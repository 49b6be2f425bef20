import math

import pytest
import torch

from labkit.denoising.regions import noise_power_spectrum, roi_statistics


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(9, 7), (2, 9, 7), (2, 1, 9, 7)])
def test_mean_and_sd_of_a_region(shape):
    images = noise(shape)
    mask = torch.zeros(9, 7, dtype=torch.bool)
    mask[2:5, 1:6] = True
    mean, sd = roi_statistics(images, mask)
    inside = images.reshape(-1, 9, 7)[:, 2:5, 1:6].flatten(1)
    expected = (2,) if len(shape) > 2 else ()
    torch.testing.assert_close(mean, inside.mean(dim=1).reshape(expected))
    torch.testing.assert_close(sd, inside.std(dim=1).reshape(expected))


def test_white_noise_has_one_power_at_all_frequencies():
    frequency, power = noise_power_spectrum(3 * noise((20, 64, 48)), pixel_mm=0.5, bins=6)
    torch.testing.assert_close(power, torch.full((6,), 9 * 0.25), rtol=0.06, atol=0)
    assert bool((frequency.diff() > 0).all())
    assert float(frequency[-1]) <= 1.0


def test_a_wave_lies_on_its_ring():
    wave = torch.sin(2 * math.pi * 12 * torch.arange(64) / 64).expand(64, 64)  # 12 / 64 px = 0.1875 / px
    frequency, power = noise_power_spectrum(wave, pixel_mm=1.0, bins=16)
    assert float(frequency[power.argmax()]) == pytest.approx(0.1875, abs=0.5 / 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: roi_statistics(noise((5, 6)), torch.ones(5, 6)), "mask must be bool"),
        (lambda: roi_statistics(noise((5, 6)), torch.ones(6, 5, dtype=torch.bool)), "mask must be bool of shape"),
        (lambda: roi_statistics(noise((5, 6)), torch.zeros(5, 6, dtype=torch.bool)), "at least 2 pixels, got 0"),
        (lambda: noise_power_spectrum(noise((5, 9)), pixel_mm=1), "at least 8 x 8"),
        (lambda: noise_power_spectrum(noise((9, 9)), pixel_mm=0), "must be positive"),
        (lambda: noise_power_spectrum(noise((9, 9)), pixel_mm=1, bins=0), "must be positive"),
    ],
)
def test_bad_input_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()

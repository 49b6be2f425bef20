"""Texture: power-law fields and the slope of a spectrum."""

import numpy as np
import pytest

from labkit.datasets.phantoms.texture import power_law_field, radial_power_spectrum, spectral_slope


@pytest.mark.parametrize("beta", [0.0, 2.0, 3.0])
def test_field_has_the_slope_it_was_made_with(beta):
    generator = np.random.default_rng(0)
    fields = [power_law_field((128, 96), beta=beta, generator=generator) for _ in range(20)]
    assert np.mean([spectral_slope(field, pixel_mm=1.0) for field in fields]) == pytest.approx(beta, abs=0.15)


def test_field_does_not_wrap():
    field = power_law_field((64, 64), beta=3.0, generator=np.random.default_rng(2))
    across, step = np.abs(field[:, 0] - field[:, -1]).mean(), np.abs(np.diff(field, axis=1)).mean()
    assert across > 4 * step


def test_spectrum_of_a_wave_peaks_at_its_frequency_and_keeps_white_power():
    wave = np.sin(2 * np.pi * 0.2 * np.arange(100) * 0.5)[None] + np.zeros((80, 1))
    frequency, power = radial_power_spectrum(wave, pixel_mm=0.5)
    assert frequency[power.argmax()] == pytest.approx(0.2, abs=0.03)
    _, white = radial_power_spectrum(np.random.default_rng(0).normal(0, 2, (128, 128)), pixel_mm=1.0)
    assert np.median(white) == pytest.approx(4.0, rel=0.15)


def test_bad_spectra():
    with pytest.raises(ValueError, match="image must be"):
        radial_power_spectrum(np.ones((1, 32, 32)), pixel_mm=1.0)
    with pytest.raises(ValueError, match="pixel_mm must be"):
        radial_power_spectrum(np.ones((32, 32)), pixel_mm=0.0)
    with pytest.raises(ValueError, match="band must hold"):
        spectral_slope(np.random.default_rng(0).normal(size=(32, 32)), pixel_mm=1.0, band=(0.4, 0.41))
    with pytest.raises(ValueError, match="size must be"):
        power_law_field((1, 8), beta=3.0, generator=np.random.default_rng(0))

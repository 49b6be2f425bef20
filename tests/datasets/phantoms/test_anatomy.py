"""The detector: noise as counting demands, attenuation kept."""

import numpy as np
import pytest

from labkit.datasets.phantoms.anatomy import detect


def test_noise_grows_behind_thicker_tissue_as_counting_demands():
    def noise(attenuation):
        flat = np.full((200, 200), attenuation)
        return detect(flat, pixel_mm=2.0, generator=np.random.default_rng(0)).std()  # at 2 mm the blur is nil

    # sd of -log N is 1 / sqrt(N), N = 2e5 exp(-p), shown over 3; the 8-bit steps add 1 / (255 sqrt(12))
    for attenuation in (1.5, 3.0 - 0.3, 2.1):
        expected = np.hypot(np.exp(attenuation / 2) / np.sqrt(2e5) / 3, 1 / 255 / np.sqrt(12))
        assert noise(attenuation) == pytest.approx(expected, rel=0.12)


def test_noise_free_film_keeps_attenuation():
    ramp = np.linspace(0.3, 2.7, 64)[None] + np.zeros((64, 1))
    film = detect(ramp, pixel_mm=1.0, generator=np.random.default_rng(0))
    assert np.abs(film - ramp / 3).max() < 0.04

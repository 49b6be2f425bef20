import importlib.util
import sys

import pytest
import torch
from skimage import data

from labkit.denoising.filters import bm3d, nlm, tv, wavelet
from labkit.denoising.metrics import psnr
from labkit.denoising.noise import gaussian_noise

PACKAGE = {nlm: "skimage", tv: "skimage", wavelet: "pywt", bm3d: "bm3d"}
HERE = [filter_ for filter_, package in PACKAGE.items() if importlib.util.find_spec(package)]


def films():
    clean = torch.from_numpy(data.camera()[100:164, 200:272].copy()).float()[None] / 255
    clean = torch.cat([clean, clean.flip(-1)])
    return clean, gaussian_noise(clean, sigma=0.1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("filter_", HERE)
def test_takes_noise_away_in_any_shape_and_unit(filter_):
    clean, noisy = films()
    kept = noisy.clone()
    denoised = filter_(noisy, sigma=0.1)
    gain = psnr(denoised, clean, data_range=1.0) - psnr(noisy, clean, data_range=1.0)
    assert (gain > 2).all()
    assert torch.equal(noisy, kept)
    assert denoised.dtype == torch.float32
    assert filter_(noisy[0], sigma=0.1).shape == (64, 72)
    assert filter_(noisy[:, None], sigma=0.1).shape == (2, 1, 64, 72)
    assert filter_(noisy[:0], sigma=0.1).shape == (0, 64, 72)
    scaled = filter_(400 * noisy - 160, sigma=40.0)  # as a CT window has it
    assert (psnr((scaled + 160) / 400, clean, data_range=1.0) > psnr(denoised, clean, data_range=1.0) - 0.3).all()


@pytest.mark.parametrize("filter_", HERE)
def test_bad_input_is_said(filter_):
    _, noisy = films()
    for sigma in (0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="sigma must be positive and finite"):
            filter_(noisy, sigma=sigma)
    with pytest.raises(ValueError, match="noisy must be grey"):
        filter_(torch.zeros(2, 3, 20, 20), sigma=0.1)
    with pytest.raises(ValueError, match="noisy must be finite"):
        filter_(torch.full((20, 20), torch.nan), sigma=0.1)


@pytest.mark.parametrize(("filter_", "cure"), [(wavelet, "pip install PyWavelets"), (bm3d, "pip install bm3d")])
def test_a_missing_package_is_said_with_the_cure(filter_, cure, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE[filter_], None)
    with pytest.raises(ImportError, match=cure):
        filter_(films()[1], sigma=0.1)

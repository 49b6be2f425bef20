"""Metrics against scikit-image, the formulas written out, and the identities of each number."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, gaussian_filter, laplace
from skimage import data
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from labkit.denoising.metrics import coc, epi, epi_ratio, ms_ssim, mse, psnr, snr_db, ssim
from labkit.denoising.noise import gaussian_noise
from labkit.denoising.similarity import SCALE_WEIGHTS

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
WITH_RANGE = [psnr, ssim, ms_ssim]
WITHOUT = [mse, snr_db, coc, epi, epi_ratio]


def pairs(offset=0.0, scale=1.0, size=(176, 190)):
    """Three pairs cut from a real photograph, neither square nor alike."""
    photograph = torch.from_numpy(data.camera()).float() / 255
    target = torch.stack([photograph[y : y + size[0], x : x + size[1]] for y, x in ((0, 0), (90, 200), (300, 310))])
    sigma = torch.tensor([0.02, 0.1, 0.4])
    pred = gaussian_noise(target, sigma=sigma, generator=torch.Generator().manual_seed(0))
    return pred * scale + offset, target * scale + offset


def wang_ms_ssim(pred, target, data_range):
    """The paper's formula in float64: scipy's windows, 2 x 2 means between scales."""
    offset = np.arange(11) - 5
    window = np.exp(-(offset**2) / 4.5) / np.exp(-(offset**2) / 4.5).sum()

    def smooth(x):
        return correlate1d(correlate1d(x, window, axis=0), window, axis=1)[5:-5, 5:-5]

    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        mx, my = smooth(pred), smooth(target)
        vx, vy, vxy = smooth(pred**2) - mx**2, smooth(target**2) - my**2, smooth(pred * target) - mx * my
        term = (2 * vxy + (0.03 * data_range) ** 2) / (vx + vy + (0.03 * data_range) ** 2)
        if scale == 4:
            c1 = (0.01 * data_range) ** 2
            term = term * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        product *= max(term.mean(), 0) ** weight
        pred, target = (np.pad(x, [(0, x.shape[0] % 2), (0, x.shape[1] % 2)], mode="edge") for x in (pred, target))
        pred, target = ((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 for x in (pred, target))
    return product


# --- against references


@pytest.mark.parametrize(
    ("scale", "offset", "data_range"), [(1, 0, 1.0), (255, 0, 255.0), (2000, -1000, 2000.0), (400, 3000, 400.0)]
)
def test_equal_to_scikit_image(scale, offset, data_range):
    pred, target = pairs(offset, scale)
    a, b = pred.double().numpy(), target.double().numpy()
    expected = [structural_similarity(x, y, data_range=data_range, **WANG) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(pred, target, data_range=data_range).numpy(), expected, atol=1e-5, rtol=0)
    expected = [peak_signal_noise_ratio(y, x, data_range=data_range) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(pred, target, data_range=data_range).numpy(), expected, atol=1e-5, rtol=1e-6)
    expected = [mean_squared_error(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(mse(pred, target).numpy(), expected, rtol=1e-5)
    expected = [wang_ms_ssim(x, y, data_range) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(pred, target, data_range=data_range).numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (27, 26), (43, 59)])
def test_ssim_of_any_size(size):
    pred, target = pairs(size=size)
    expected = [
        structural_similarity(x, y, data_range=1.0, **WANG)
        for x, y in zip(pred.double().numpy(), target.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim(pred, target, data_range=1.0).numpy(), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(
        ssim(pred.double(), target.double(), data_range=1.0).numpy(), expected, atol=1e-12, rtol=0
    )


def test_correlations_against_numpy():
    pred, target = pairs()
    for i in range(3):
        x, y = pred[i].double().numpy(), target[i].double().numpy()
        assert float(coc(pred, target)[i]) == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-5)
        x, y = laplace(x)[1:-1, 1:-1].ravel(), laplace(y)[1:-1, 1:-1].ravel()
        assert float(epi(pred, target)[i]) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)


def test_snr_by_hand():
    assert float(snr_db(torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))) == (
        pytest.approx(10 * math.log10(30))
    )


# --- identities


def test_of_an_image_with_itself():
    _, target = pairs()
    assert mse(target, target).tolist() == [0] * 3
    assert psnr(target, target, data_range=1.0).tolist() == [math.inf] * 3
    assert snr_db(target, target).tolist() == [math.inf] * 3
    for metric in (ssim, ms_ssim):
        assert metric(target, target, data_range=1.0).tolist() == [1] * 3
    for metric in (epi, coc, epi_ratio):
        torch.testing.assert_close(metric(target, target), torch.ones(3), atol=1e-5, rtol=0)


def test_psnr_of_gaussian_noise_is_known():
    """20.17 dB for sigma 25 of 255, not clipped; 24.61 for 15."""
    clean = torch.full((500, 500), 0.5)
    for sigma, expected in [(25, 20.17), (15, 24.61)]:
        noisy = gaussian_noise(clean, sigma=sigma / 255, generator=torch.Generator().manual_seed(0))
        assert float(psnr(noisy, clean, data_range=1.0)) == pytest.approx(expected, abs=0.05)


def test_gain_and_offset_are_not_seen_by_correlations():
    pred, target = pairs()
    c = 0.125
    assert float(mse(target + c, target)[0]) == pytest.approx(c**2, rel=1e-5)
    for metric in (coc, epi):
        torch.testing.assert_close(metric(3 * pred + c, target), metric(pred, target), atol=1e-5, rtol=0)
        torch.testing.assert_close(metric(-pred, target), -metric(pred, target), atol=1e-6, rtol=0)
    assert (ssim(target + c, target, data_range=1.0) < 1).all()


def test_blur_takes_edges_before_correlation_and_noise_looks_like_edges_to_the_ratio():
    pred, target = pairs()
    blurred = torch.stack([torch.from_numpy(gaussian_filter(x.numpy(), 2)) for x in target])
    assert (epi(blurred, target) < coc(blurred, target) - 0.2).all()
    assert (epi_ratio(blurred, target) < 1).all()
    assert (epi_ratio(pred, target)[1:] > 1.5).all()
    assert (epi(pred, target)[1:] < 0.6).all()


def test_symmetry_and_range():
    pred, target = pairs()
    for metric in WITH_RANGE:
        torch.testing.assert_close(metric(pred, target, data_range=1.0), metric(target, pred, data_range=1.0))
    gain = psnr(pred, target, data_range=10.0) - psnr(pred, target, data_range=1.0)
    torch.testing.assert_close(gain, torch.full((3,), 20.0))  # why it is never guessed


def test_opposite_structure():
    """SSIM goes below 0; a scale that is not positive makes MS-SSIM 0, not NaN."""
    _, target = pairs()
    opposite = 1 - target
    assert (ssim(opposite, target, data_range=1.0) < 0.5).all()
    noise = torch.randn(1, 170, 170, generator=torch.Generator().manual_seed(0))
    assert float(ssim(9 - noise, 9 + noise, data_range=1.0)) < -0.9
    assert float(ms_ssim(9 - noise, 9 + noise, data_range=1.0)) == 0


# --- shapes and types


@pytest.mark.parametrize("metric", WITHOUT + WITH_RANGE)
def test_one_value_an_image_whatever_its_shape(metric):
    pred, target = pairs()
    options = {"data_range": 1.0} if metric in WITH_RANGE else {}
    values = metric(pred, target, **options)
    assert values.shape == (3,)
    assert torch.equal(metric(pred[:, None], target[:, None], **options), values)
    assert metric(pred[1], target[1], **options).shape == ()
    torch.testing.assert_close(metric(pred[1], target[1], **options), values[1], atol=1e-6, rtol=1e-6)
    assert metric(pred[:0], target[:0], **options).shape == (0,)


@pytest.mark.parametrize("metric", WITHOUT + WITH_RANGE)
def test_bytes_do_not_wrap_and_nothing_is_changed(metric):
    pred, target = (x.clamp(0, 1).mul(255).to(torch.uint8) for x in pairs())
    before = pred.clone(), target.clone()
    options = {"data_range": 255} if metric in WITH_RANGE else {}
    torch.testing.assert_close(metric(pred, target, **options), metric(pred.float(), target.float(), **options))
    assert torch.equal(pred, before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("metric", [coc, epi])
def test_nothing_to_correlate(metric):
    _, target = pairs()
    flat = torch.full_like(target, 0.3)
    assert metric(flat, target).isnan().all()
    assert metric(target, flat).isnan().all()


# --- bad input


@pytest.mark.parametrize("metric", WITHOUT + WITH_RANGE)
@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (torch.zeros(170, 170), torch.zeros(170, 171), "must have one shape"),
        (torch.zeros(2, 170, 170), torch.zeros(170, 170), "must have one shape"),
        (torch.zeros(2, 3, 170, 170), torch.zeros(2, 3, 170, 170), r"pred.mean\(dim=1\)"),
        (torch.zeros(170, 170, 3), torch.zeros(170, 170, 3), r"pred.mean\(dim=-1\)"),
        (torch.full((170, 170), math.nan), torch.zeros(170, 170), "pred must be finite, got 28900 NaN"),
        (torch.zeros(170, 170), torch.full((170, 170), math.inf), "target must be finite"),
        (torch.zeros(170), torch.zeros(170), r"must be grey, \(H, W\)"),
        (torch.zeros(170, 170, dtype=torch.bool), torch.zeros(170, 170), "got torch.bool"),
        (np.zeros((170, 170)), torch.zeros(170, 170), "pred must be a tensor, got ndarray"),
        (torch.zeros(170, 0), torch.zeros(170, 0), "at least one pixel"),
    ],
)
def test_bad_images_are_said(metric, pred, target, message):
    options = {"data_range": 1.0} if metric in WITH_RANGE else {}
    with pytest.raises(ValueError, match=message):
        metric(pred, target, **options)


@pytest.mark.parametrize("metric", WITH_RANGE)
@pytest.mark.parametrize("data_range", [None, 0, -1.0, math.nan, math.inf, "255", True])
def test_bad_range_is_said(metric, data_range):
    image = torch.zeros(170, 170, dtype=torch.uint8)
    with pytest.raises(ValueError, match="data_range must be a positive number"):
        metric(image, image, data_range=data_range)


@pytest.mark.parametrize("metric", WITH_RANGE)
def test_the_range_is_never_guessed(metric):
    image = torch.zeros(170, 170, dtype=torch.uint8)
    with pytest.raises(TypeError, match="data_range"):
        metric(image, image)


def test_too_small_says_how_large():
    small = torch.zeros(40, 10)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, the window of SSIM, got 40 x 10"):
        ssim(small, small, data_range=1.0)
    patch = torch.zeros(160, 200)
    with pytest.raises(ValueError, match=r"at least 161 x 161 pixels for 5 scales, got 160 x 200; .* 4 fit"):
        ms_ssim(patch, patch, data_range=1.0)
    with pytest.raises(ValueError, match="no scale fits below 11 pixels"):
        ms_ssim(small, small, data_range=1.0)
    with pytest.raises(ValueError, match="weights must be positive"):
        ms_ssim(patch, patch, data_range=1.0, weights=())
    with pytest.raises(ValueError, match="at least 3 x 3 pixels"):
        epi(torch.zeros(2, 9), torch.zeros(2, 9))
    just = torch.rand(161, 161, generator=torch.Generator().manual_seed(0))
    assert float(ms_ssim(just, just, data_range=1.0)) == 1
    assert float(ms_ssim(just[:80, :80], just[:80, :80], data_range=1.0, weights=(0.4, 0.3, 0.2))) == 1

"""Radon transform and back-projection against scikit-image, and their own laws."""

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon, resize
from skimage.transform import radon as slow_radon

from labkit.denoising import tomography
from labkit.denoising.tomography import filtered_back_projection, radon


def heads(size, seed=0):
    """Two images, the second turned and with noise, zero outside the circle."""
    head = resize(shepp_logan_phantom(), (size, size)).astype(np.float32)
    grain = np.random.default_rng(seed).random((size, size), dtype=np.float32)
    axis = np.arange(size) - size // 2
    circle = axis[:, None] ** 2 + axis**2 <= (size // 2) ** 2
    return torch.from_numpy(np.stack([head, np.rot90(head, 1) + grain]) * circle).float()


@pytest.mark.parametrize(("size", "views"), [(64, 60), (65, 90), (40, 2), (33, 46)])
def test_equal_to_scikit_image(size, views):
    """To a relative 1e-5 of the largest value, for even and odd sizes; float32 against its float64."""
    images, theta = heads(size), np.arange(views) * 180 / views
    sinograms = radon(images, views=views)
    assert sinograms.shape == (2, views, size)
    for image, sinogram in zip(images, sinograms, strict=True):
        expected = slow_radon(image.double().numpy(), theta)
        np.testing.assert_allclose(sinogram.numpy().T, expected, atol=1e-5 * expected.max(), rtol=0)
    for name in ("ramp", "hann"):
        for sinogram, image in zip(sinograms, filtered_back_projection(sinograms, filter_name=name), strict=True):
            expected = iradon(sinogram.double().numpy().T, theta, filter_name=name)
            np.testing.assert_allclose(image.numpy(), expected, atol=1e-5 * expected.max(), rtol=0)


def test_large_sizes_are_projected_in_parts(monkeypatch):
    images = heads(48)
    expected = radon(images, views=20)
    monkeypatch.setattr(tomography, "KEPT_ENTRIES", 3 * 4 * 48 * 48)  # three views at a time
    assert torch.equal(radon(images, views=20), expected)


def test_mass_is_kept_at_every_angle_and_the_transform_is_linear():
    images = heads(64)
    inner = torch.nn.functional.pad(images[:, 12:-12, 12:-12], (12, 12, 12, 12))
    sums = radon(inner, views=30).sum(dim=-1)  # (2, 30)
    torch.testing.assert_close(sums, inner.sum(dim=(1, 2))[:, None].expand(2, 30), rtol=3e-3, atol=0)
    both = radon(2 * images[:1] - 3 * images[1:], views=30)
    torch.testing.assert_close(
        both, 2 * radon(images[:1], views=30) - 3 * radon(images[1:], views=30), atol=1e-3, rtol=1e-4
    )


def test_there_and_back_nears_the_image():
    image = heads(96)[0]
    smooth = torch.nn.functional.avg_pool2d(image[None], 5, stride=1, padding=2)[0]
    again = filtered_back_projection(radon(smooth, views=160), views=160)
    assert float((again - smooth)[20:-20, 20:-20].abs().mean()) < 0.01


@pytest.mark.parametrize("shape", [(32, 32), (3, 32, 32), (3, 1, 32, 32), (0, 32, 32)])
def test_shapes(shape):
    images = torch.zeros(shape)
    sinograms = radon(images, views=10)
    assert sinograms.shape == (*shape[:-2], 10, 32)
    assert filtered_back_projection(sinograms).shape == shape


def test_gradients():
    image = torch.zeros(1, 9, 9, dtype=torch.float64)
    image[0, 3:6, 2:7] = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    circle = (torch.arange(9)[:, None] - 4) ** 2 + (torch.arange(9) - 4) ** 2 <= 16
    assert torch.autograd.gradcheck(lambda x: radon(x * circle, views=6), image.requires_grad_())
    sinogram = torch.rand(1, 6, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(filtered_back_projection, sinogram)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radon(torch.zeros(16, 20)), "must be square, 8 x 8 or larger, got 16 x 20"),
        (lambda: radon(torch.ones(16, 16)), "must be 0 outside the circle of radius 8 pixels"),
        (lambda: radon(torch.zeros(16, 16), views=5), "views must be even, 2 or more, got 5"),
        (lambda: radon(torch.zeros(16, 16), views=0), "views must be even"),
        (lambda: filtered_back_projection(torch.zeros(30, 16), views=60), "must have 60 views .* got 30"),
        (lambda: filtered_back_projection(torch.zeros(16, 60), views=60), "transposed: write sinograms.mT"),
        (lambda: filtered_back_projection(torch.zeros(31, 16)), "views must be even"),
        (lambda: filtered_back_projection(torch.zeros(30, 16), filter_name="hamming"), "one of ramp, hann"),
        (lambda: filtered_back_projection(torch.full((30, 16), torch.nan)), "sinograms must be finite"),
    ],
)
def test_bad_input_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()

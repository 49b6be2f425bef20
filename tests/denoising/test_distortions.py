"""Six distortions: the same MSE, each of its own kind, nothing guessed."""

import numpy as np
import pytest
import torch
from skimage import data

from labkit.denoising.distortions import same_mse
from labkit.denoising.metrics import coc, epi, mse, ssim

NAMES = ["offset", "gain", "blurred", "noisy", "blocks", "dead pixels"]


@pytest.fixture(scope="module")
def photograph():
    """Neither square nor a multiple of 8."""
    return torch.from_numpy(data.camera()[10:213, 40:195].copy()).double() / 255


@pytest.mark.parametrize("wanted", [1e-4, 0.003, 0.03])
def test_all_have_the_mse_that_was_asked_for(photograph, wanted):
    wrong = same_mse(photograph, mse=wanted)
    assert list(wrong) == NAMES
    for image in wrong.values():
        assert float(mse(image, photograph)) == pytest.approx(wanted, rel=1e-6)


def test_each_is_what_its_name_says(photograph):
    wanted = 0.003
    wrong = same_mse(photograph, mse=wanted)
    torch.testing.assert_close(wrong["offset"] - photograph, torch.full_like(photograph, wanted**0.5))
    ratio = wrong["gain"][photograph > 0] / photograph[photograph > 0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio[0])))
    assert float(ratio[0]) > 1
    assert float(coc(wrong["gain"], photograph)) == pytest.approx(1)
    assert float(wrong["blurred"].mean()) == pytest.approx(float(photograph.mean()))
    assert float(wrong["blurred"].var()) < float(photograph.var())
    assert float(epi(wrong["blurred"], photograph)) < 0.7
    error = wrong["noisy"] - photograph
    assert abs(float(torch.corrcoef(torch.stack([error[:, 1:].flatten(), error[:, :-1].flatten()]))[0, 1])) < 0.03
    changed = wrong["dead pixels"] != photograph
    assert 0.001 < float(changed.double().mean()) < 0.05
    values = wrong["dead pixels"][changed]
    assert int(((values != 0) & (values != 1)).sum()) <= 1  # the last one goes part of the way


def test_blocks_stand_at_the_multiples_of_eight(photograph):
    error = same_mse(photograph, mse=0.003)["blocks"] - photograph
    steps = error.diff(dim=1).square().mean(dim=0)
    at_edges = np.arange(1, photograph.shape[1]) % 8 == 0
    assert float(steps[at_edges].mean()) > 1.5 * float(steps[~at_edges].mean())


def test_ssim_tells_them_apart(photograph):
    wrong = torch.stack(list(same_mse(photograph, mse=0.008).values()))
    values = ssim(wrong, photograph.expand_as(wrong), data_range=1.0)
    assert float(values.max() - values.min()) > 0.3


def test_the_seed_decides_and_places_stay(photograph):
    one, again = same_mse(photograph, mse=0.003, seed=3), same_mse(photograph, mse=0.003, seed=3)
    assert all(torch.equal(one[name], again[name]) for name in NAMES)
    other, more = same_mse(photograph, mse=0.003, seed=4), same_mse(photograph, mse=0.01, seed=3)
    assert not torch.equal(one["noisy"], other["noisy"])
    few, many = one["dead pixels"] != photograph, more["dead pixels"] != photograph
    assert not (few & ~many).any()
    parts = [(image["noisy"] - photograph).flatten() for image in (one, more)]
    assert float(torch.corrcoef(torch.stack(parts))[0, 1]) == pytest.approx(1)


def test_shapes_types_and_arguments_stay(photograph):
    image = photograph.float()[None]
    before = image.clone()
    for other in same_mse(image, mse=0.003).values():
        assert other.shape == image.shape
        assert other.dtype == torch.float32
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("image", "wanted", "message"),
    [
        (torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0)), 0.01, "must be one image"),
        (torch.full((20, 20), 1.5), 0.01, r"must lie in \[0, 1\], got 1.5"),
        (torch.full((20, 20), 0.5), 0.01, "below the image's variance, 0, got 0.01"),
        (torch.eye(20), 0.0, "above 0"),
        (torch.eye(20), 0.3, "below the image's variance"),
        (torch.eye(20), float("nan"), "above 0"),
        (np.eye(20), 0.01, "must be a tensor"),
    ],
)
def test_bad_input_is_said(image, wanted, message):
    with pytest.raises(ValueError, match=message):
        same_mse(image, mse=wanted)

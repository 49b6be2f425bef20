"""The scans of notebook 13: their doses, the noise they share, and that they are kept."""

import pytest
import torch

from labkit.datasets import ct_scans as subject
from labkit.datasets.ct_scans import LOW, NORMAL, Patches, ct_scans, flat_discs, two_doses
from labkit.datasets.phantoms import ct

ORIGINAL = ct.ct_slices


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Four and two slices of 64 pixels, and a cache of its own."""
    monkeypatch.setattr(subject, "PARTS", {"train": (4, 13), "test": (2, 14)})
    monkeypatch.setattr(subject, "VIEWS", 60)
    monkeypatch.setattr(subject.ct, "ct_slices", lambda count, *, seed: ORIGINAL(count, size=128, seed=seed))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))


def test_shapes_units_and_masks():
    scans = ct_scans("train")
    for slices in (scans.low, scans.normal, scans.noise_free):
        assert slices.shape == (4, 1, 64, 64)
        assert slices.dtype == torch.float32
    assert set(scans.masks) == set(subject.KEPT_MASKS)
    assert all(mask.shape == (4, 64, 64) and mask.dtype == torch.bool for mask in scans.masks.values())
    assert scans.pixel_mm == pytest.approx(5.6)
    lungs = scans.masks["lungs"].flatten(1).sum(dim=1)
    assert (lungs[::2] > 0).all()
    assert (lungs[1::2] == 0).all()


def test_noise_falls_with_the_dose_and_the_mean_stays():
    scans = ct_scans("train")
    body = scans.noise_free[:, 0] > -300
    noise = {name: getattr(scans, name)[:, 0][body] - scans.noise_free[:, 0][body] for name in ("low", "normal")}
    assert float(noise["low"].std() / noise["normal"].std()) == pytest.approx(2, rel=0.1)
    assert abs(float(noise["low"].mean())) < 0.1 * float(noise["low"].std())


def test_the_quarter_is_a_part_of_the_whole():
    """Deviations as 2 to 1, correlation one half: the noise of low dose is that of normal dose and more."""
    rays = torch.full((400, 300), 5.0)
    low, normal = (part - 5 for part in two_doses(rays, generator=torch.Generator().manual_seed(0)))
    assert float(low.std()) == pytest.approx((LOW * 2.718281828**-5) ** -0.5, rel=0.02)
    assert float(normal.std()) == pytest.approx((NORMAL * 2.718281828**-5) ** -0.5, rel=0.02)
    both = torch.corrcoef(torch.stack([low.flatten(), normal.flatten()]))[0, 1]
    assert float(both) == pytest.approx(0.5, abs=0.02)


def test_starved_rays_stay_finite():
    low, normal = two_doses(torch.full((20, 30), 30.0), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(low, torch.full((20, 30), LOW).log())
    torch.testing.assert_close(normal, torch.full((20, 30), NORMAL).log())


def test_the_second_call_finds_them_in_the_cache(monkeypatch):
    first = ct_scans("test")
    monkeypatch.setattr(subject.ct, "ct_slices", None)  # not to be called
    assert torch.equal(ct_scans("test").low, first.low)


def test_some_slices_are_the_first_of_all():
    some, whole = ct_scans("train", count=2), ct_scans("train")
    torch.testing.assert_close(some.low, whole.low[:2])
    assert torch.equal(some.discs, whole.discs[:2])
    assert not torch.equal(ct_scans("test").noise_free, some.noise_free)


def test_another_recipe_is_made_again(monkeypatch):
    first = ct_scans("test")
    monkeypatch.setattr(subject, "VIEWS", 30)
    with pytest.warns(UserWarning, match="another recipe"):
        second = ct_scans("test")
    assert not torch.equal(first.low, second.low)


def test_discs_lie_in_the_liver_and_in_the_blood_of_the_heart():
    scans = ct_scans("train")
    for row, disc in enumerate(scans.discs):
        home = scans.masks["organs"][row] & ~scans.masks["vessels"][row] if row % 2 else scans.masks["vessels"][row]
        assert disc.sum() > 8
        assert not (disc & ~home).any()


def test_a_disc_takes_the_deepest_place():
    mask = torch.zeros(2, 30, 40, dtype=torch.bool)
    mask[0, 2:9, 3:10] = True
    mask[0, 10:27, 15:36] = True
    mask[1, 5:16, 5:16] = True
    discs = flat_discs(mask, radius=4)
    assert discs[1, 10, 10]
    rows, columns = discs[0].nonzero().T
    assert 17 <= float(rows.float().mean()) <= 19
    assert float(columns.float().mean()) > 20
    assert int(discs[1].sum()) == 49  # whole pixels of a circle of radius 4


def test_patches_are_cut_alike_from_all_images_and_differ():
    first = torch.arange(2 * 100 * 120.0).reshape(2, 1, 100, 120)
    patches = Patches(first, first + 0.5, count=40, size=24)
    torch.manual_seed(0)
    seen = [patches[i] for i in range(40)]
    for low, normal in seen:
        assert low.shape == normal.shape == (1, 24, 24)
        assert torch.equal(normal - low, torch.full_like(low, 0.5))
    assert len({float(low[0, 0, 0]) for low, _ in seen}) > 30
    torch.manual_seed(0)
    assert torch.equal(patches[0][0], seen[0][0])
    with pytest.raises(IndexError):
        patches[40]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("val",), "part must be one of train, test"),
        (("train", 9), "count must be at most 4"),
        (("train", 0), "count must be a whole number"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        ct_scans(arguments[0], count=arguments[1] if len(arguments) > 1 else None)

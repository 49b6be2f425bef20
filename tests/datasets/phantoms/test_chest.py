"""Phantom chest films: grey values in order, masks where the anatomy is, and that a seed decides."""

import pytest
import torch

from labkit.datasets.phantoms import chest
from labkit.datasets.phantoms.chest import FIELD_MM, MASKS, chest_films


@pytest.fixture(scope="module")
def films():
    return chest_films(4, size=128, seed=1)


def middle(mask, axis):
    """Mean position of a mask along an axis, as a share of the film, one a film."""
    place = torch.arange(128).float().reshape((-1, 1) if axis == "down" else (1, -1))
    return (mask * place).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)) / 128


def extent(mask):
    """Pixels from the first column of a mask to its last, one a film."""
    columns = [row.nonzero() for row in mask.any(dim=1)]
    return torch.tensor([float(found.max() - found.min()) for found in columns])


def test_shapes_and_units(films):
    assert films.images.shape == (4, 1, 128, 128)
    assert films.images.dtype == torch.float32
    assert float(films.images.min()) >= 0
    assert float(films.images.max()) <= 1
    assert films.pixel_mm == FIELD_MM / 128
    assert set(films.masks) == set(MASKS)
    for mask in films.masks.values():
        assert mask.shape == (4, 128, 128)
        assert mask.dtype == torch.bool
        assert mask.flatten(1).any(dim=1).all()


def test_lungs_are_dark_the_heart_is_bright_and_bones_are_brighter_than_lung_alone(films):
    images, masks = films.images[:, 0], films.masks
    for i in range(4):
        lung = masks["lungs"][i] & ~masks["ribs"][i] & ~masks["clavicles"][i]
        bone = masks["lungs"][i] & masks["ribs"][i]
        heart = masks["heart"][i]
        assert float(images[i][heart].median()) > float(images[i][lung].median()) + 0.2
        assert float(images[i][bone].mean()) > float(images[i][lung].mean())
    assert (images >= 1).float().mean() < 0.02  # the film's window cuts little off
    assert (images <= 0).float().mean() < 0.25  # the air beside the neck


def test_anatomy_lies_where_it_lies(films):
    masks = films.masks
    lungs = masks["lungs"].flatten(1).float().mean(dim=1)
    assert ((lungs > 0.15) & (lungs < 0.5)).all()
    assert (masks["lungs"][:, :, :64].flatten(1).sum(1) > 500).all()
    assert (masks["lungs"][:, :, 64:].flatten(1).sum(1) > 500).all()
    assert (
        middle(masks["heart"], "across") > middle(masks["spine"], "across")
    ).all()  # the apex is at the film's right
    assert (middle(masks["clavicles"], "down") < middle(masks["lungs"], "down")).all()
    assert ((middle(masks["spine"], "across") - 0.5).abs() < 0.05).all()
    assert not (masks["lungs"] & masks["heart"]).any()
    ratio = extent(masks["heart"]) / extent(masks["lungs"])  # from the right lung's edge to the left one's
    assert ((ratio > 0.4) & (ratio < 0.6)).all()  # cardiothoracic ratio, about a half


def test_a_film_depends_on_its_seed_and_number_alone(films):
    again = chest_films(2, size=128, seed=1)
    assert torch.equal(again.images, films.images[:2])
    assert all(torch.equal(again.masks[name], films.masks[name][:2]) for name in MASKS)
    assert not torch.equal(again.images[0], again.images[1])
    assert not torch.equal(chest_films(1, size=128, seed=2).images, again.images[:1])


def test_many_films_are_kept_and_come_back_as_they_were(films, monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(chest, "CACHED_FROM", 4)
    made = chest_films(4, size=128, seed=1)
    smooth = chest_films(4, size=128, seed=1, noise=False)
    assert len(list(tmp_path.glob("chest-*.safetensors"))) == 2  # one never stands in for the other
    monkeypatch.setattr(chest, "_film", None)  # nothing is drawn again
    kept = chest_films(4, size=128, seed=1)
    for other in (made, kept):
        assert torch.equal(other.images, films.images)
        assert all(torch.equal(other.masks[name], films.masks[name]) for name in MASKS)
    assert torch.equal(chest_films(4, size=128, seed=1, noise=False).images, smooth.images)


def test_without_noise_the_same_films_come_smooth(films):
    smooth = chest_films(4, size=128, seed=1, noise=False)
    assert all(torch.equal(smooth.masks[name], films.masks[name]) for name in MASKS)
    noise = films.images - smooth.images
    grey = (smooth.images > 0.05) & (smooth.images < 0.95)  # inside the film's window
    assert abs(float(noise[grey].mean())) < 1e-3
    assert 0.002 < float(noise[grey].std()) < 0.05
    dark, bright = grey & (smooth.images < 0.35), grey & (smooth.images > 0.65)
    assert float(noise[bright].std()) > 1.5 * float(noise[dark].std())  # fewer quanta behind more tissue
    rough = [float(some.diff(dim=-1)[..., 40:88, 20:60].std()) for some in (films.images, smooth.images)]
    assert rough[0] > rough[1]


def test_a_longer_exposure_would_come_near_the_film_without_noise(monkeypatch):
    smooth = chest_films(1, size=64, seed=1, noise=False).images
    far = [float((chest_films(1, size=64, seed=1).images - smooth).std())]
    monkeypatch.setattr(chest, "QUANTA_PER_MM2", 100 * chest.QUANTA_PER_MM2)
    assert torch.allclose(chest_films(1, size=64, seed=1, noise=False).images, smooth, atol=2e-4)
    far.append(float((chest_films(1, size=64, seed=1).images - smooth).std()))
    assert far[1] < 0.15 * far[0]  # a tenth, 100 times the quanta


@pytest.mark.parametrize(
    ("options", "message"), [({"count": 0}, "count"), ({"size": 63}, "size"), ({"seed": -1}, "seed")]
)
def test_bad_input_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        chest_films(**({"count": 1} | options))

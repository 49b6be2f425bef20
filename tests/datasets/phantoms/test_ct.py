"""Phantom slices: what each tissue measures, where it lies, and that a seed decides."""

import pytest
import torch

from labkit.datasets.phantoms.ct import FIELD_MM, MASKS, ct_slices
from labkit.denoising.ct_scan import project, reconstruct


@pytest.fixture(scope="module")
def slices():
    return ct_slices(6, size=128, seed=1)


def test_shapes_and_units(slices):
    assert slices.images.shape == (6, 1, 128, 128)
    assert slices.images.dtype == torch.float32
    assert slices.pixel_mm == FIELD_MM / 128
    assert set(slices.masks) == set(MASKS)
    for mask in slices.masks.values():
        assert mask.shape == (6, 128, 128)
        assert mask.dtype == torch.bool
    assert torch.isfinite(slices.images).all()
    assert float(slices.images.min()) >= -1000
    assert float(slices.images.max()) < 1000


def test_the_body_lies_in_air_inside_the_circle_of_a_scan(slices):
    axis = torch.arange(128) - 64
    outside = axis[:, None] ** 2 + axis**2 > 60**2
    assert (slices.images[:, 0, outside] == -1000).all()
    for name in set(MASKS) - {"body"}:
        assert not (slices.masks[name] & ~slices.masks["body"]).any()
    diameters = slices.masks["body"].any(dim=1).sum(dim=-1) * slices.pixel_mm
    assert ((diameters > 250) & (diameters < 340)).all()


def test_tissues_have_their_hounsfield_units(slices):
    images = slices.images[:, 0]
    alone = {name: slices.masks[name].clone() for name in MASKS}
    alone["lungs"] &= ~(alone["vessels"] | alone["nodules"] | alone["bones"])
    alone["organs"] &= ~(alone["vessels"] | alone["nodules"])
    for name, low, high in [("lungs", -950, -700), ("organs", 30, 200), ("bones", 150, 900), ("vessels", 0, 220)]:
        assert low < float(images[alone[name]].median()) < high


def test_what_covers_an_organ_is_no_organ(slices):
    """Stomach, gas and the fat around a kidney lie over liver and spleen, and are taken off their mask."""
    organs = slices.masks["organs"] & ~slices.masks["vessels"] & ~slices.masks["nodules"]
    values = slices.images[1::2, 0][organs[1::2]]
    assert float((values > 60).float().mean()) > 0.97


def test_chest_and_abdomen_in_turn(slices):
    lungs = slices.masks["lungs"].flatten(1).sum(dim=1)
    assert (lungs[::2] > 1000).all()
    assert (lungs[1::2] == 0).all()
    assert (slices.masks["nodules"].flatten(1).sum(dim=1) > 0).sum() >= 4
    assert not (slices.masks["bones"] & slices.masks["nodules"]).any()


def test_a_slice_depends_on_its_seed_and_number_alone(slices):
    again = ct_slices(3, size=128, seed=1)
    assert torch.equal(again.images, slices.images[:3])
    assert all(torch.equal(again.masks[name], slices.masks[name][:3]) for name in MASKS)
    assert not torch.equal(ct_slices(1, size=128, seed=2).images, again.images[:1])
    assert not torch.equal(again.images[0], again.images[2])


def test_a_scan_without_noise_finds_the_tissues_again():
    slices = ct_slices(2, size=256)
    scan = reconstruct(project(slices.images, pixel_mm=slices.pixel_mm, views=120, binning=2), pixel_mm=2.8)
    assert scan.shape == (2, 1, 128, 128)
    difference = (scan - slices.images[..., ::2, ::2])[slices.masks["body"][:, None, ::2, ::2]]
    assert abs(float(difference.mean())) < 15
    assert float(difference.abs().median()) < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count"),
        ({"size": 66}, "multiple of 4"),
        ({"size": 32}, "at least 64"),
        ({"seed": -1}, "seed"),
        ({"count": 2.5}, "whole number"),
    ],
)
def test_bad_input_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        ct_slices(**({"count": 1} | options))

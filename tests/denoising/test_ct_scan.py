"""The dose of a scan and the noise of its reconstruction, with the figures that other scans have shown."""

import math

import pytest
import torch

from labkit.denoising.ct_scan import MU_WATER, measure, project, reconstruct
from labkit.denoising.noise import low_dose_ct


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def water(diameter_mm, *, size, pixel_mm):
    """(size, size) HU of a water cylinder in air, its edge averaged over 4 x 4 points of each pixel."""
    axis = (torch.arange(size * 4) - 4 * (size // 2) - 1.5) / 4 * pixel_mm
    inside = (torch.hypot(axis[:, None], axis) < diameter_mm / 2).float()
    return -1000 + 1000 * inside.reshape(size, 4, size, 4).mean(dim=(1, 3))


def center_sd(images):
    """Standard deviation in HU of the middle third's noise; a scan of the same body without noise is taken off."""
    size = images.shape[-1]
    third = slice(size // 2 - size // 12, size // 2 + size // 12)
    return images[..., third, third].flatten(-2).std(dim=-1)


def test_calibrated_doses():
    """30 cm of water, 256 pixels of 1.4 mm, 360 views: 33 HU at 4e5 photons a ray, 68 at a quarter; 20 cm: 13."""
    bodies = torch.stack([water(mm, size=256, pixel_mm=1.4) for mm in (300, 200, 300)])
    integrals = project(bodies, pixel_mm=1.4)
    assert integrals.shape == (3, 360, 256)
    clean = reconstruct(integrals, pixel_mm=1.4)
    assert float(clean[0, 120:136, 120:136].mean()) == pytest.approx(0, abs=5)
    measured = measure(integrals, photons=torch.tensor([4e5, 4e5, 1e5]), generator=seeded())
    normal, thin, quarter = center_sd(reconstruct(measured.line_integrals, pixel_mm=1.4) - clean).tolist()
    assert normal == pytest.approx(33, rel=0.08)
    assert thin == pytest.approx(13, rel=0.08)
    assert quarter == pytest.approx(68, rel=0.08)
    assert quarter / normal == pytest.approx(2, rel=0.08)
    assert normal / thin == pytest.approx(2.6, rel=0.08)
    assert measured.starved.tolist() == [0, 0, 0]


def test_noise_goes_with_the_root_of_the_photons_and_hann_smooths():
    body = water(200, size=96, pixel_mm=2.5)
    integrals = project(body[None].expand(4, 96, 96), pixel_mm=2.5, views=120)
    clean = reconstruct(integrals, pixel_mm=2.5)
    photons = torch.tensor([1e4, 4e4, 1.6e5, 6.4e5])
    measured = measure(integrals, photons=photons, generator=seeded()).line_integrals
    sd = center_sd(reconstruct(measured, pixel_mm=2.5) - clean)
    torch.testing.assert_close(sd * photons.sqrt() / (sd[0] * 100), torch.ones(4), rtol=0.12, atol=0)
    smooth = reconstruct(measured, pixel_mm=2.5, filter_name="hann")
    soft_clean = reconstruct(integrals, pixel_mm=2.5, filter_name="hann")
    ratio = center_sd(smooth - soft_clean) / sd
    torch.testing.assert_close(ratio, torch.full((4,), 0.38), rtol=0.15, atol=0)


def test_line_integrals_of_water_and_the_variance_of_their_measurement():
    body = water(200, size=96, pixel_mm=2.5)
    integrals = project(body, pixel_mm=2.5, views=40)
    torch.testing.assert_close(integrals[:, 48], torch.full((40,), 200 * MU_WATER), rtol=5e-3, atol=0)
    measured = measure(torch.full((500, 400), 2.0), photons=1e4, generator=seeded()).line_integrals
    assert float(measured.std()) == pytest.approx(1 / math.sqrt(1e4 * math.exp(-2)), rel=0.02)
    electronic = measure(torch.full((500, 400), 2.0), photons=1e4, electronic_sd=40, generator=seeded())
    counts = 1e4 * math.exp(-2)
    assert float(electronic.line_integrals.std()) == pytest.approx(math.sqrt(counts + 40**2) / counts, rel=0.03)


def test_starved_rays_are_counted_and_said():
    p = torch.zeros(2, 100, 100)
    p[1, :25] = 30  # no photon in 1e13 passes
    measured = measure(p, photons=1e4, generator=seeded())
    assert measured.starved.tolist() == [0, 0.25]
    torch.testing.assert_close(measured.line_integrals[1, :25], torch.full((25, 100), math.log(1e4)))
    assert measure(p[1], photons=1e4, generator=seeded()).starved.shape == ()
    assert measure(p[:, None], photons=1e4, generator=seeded()).starved.shape == (2,)
    lead = water(120, size=64, pixel_mm=2.5)
    lead[lead > -500] = 9000
    with pytest.warns(UserWarning, match="% of an image's rays counted fewer than one photon"):
        low_dose_ct(lead, photons=1e3, pixel_mm=2.5, views=40, generator=seeded())


def test_low_dose_ct_is_the_three_steps():
    body = water(100, size=64, pixel_mm=2.5)[None, None].expand(2, 1, 64, 64)
    noisy = low_dose_ct(body, photons=1e4, pixel_mm=2.5, views=40, electronic_sd=3.0, generator=seeded(5))
    integrals = project(body, pixel_mm=2.5, views=40)
    measured = measure(integrals, photons=1e4, electronic_sd=3.0, generator=seeded(5))
    assert noisy.shape == body.shape
    assert torch.equal(noisy, reconstruct(measured.line_integrals, pixel_mm=2.5))
    assert not torch.equal(noisy[0], noisy[1])


def test_a_finer_body_gives_the_same_sinogram_at_half_the_detectors():
    fine, coarse = water(150, size=128, pixel_mm=1.5), water(150, size=64, pixel_mm=3.0)
    binned = project(fine, pixel_mm=1.5, views=40, binning=2)
    assert binned.shape == (40, 64)
    expected = project(coarse, pixel_mm=3.0, views=40)
    assert float((binned - expected).abs().max()) < 0.03 * float(expected.max())  # at the edge of the cylinder
    assert float((binned - expected).abs().mean()) < 0.003 * float(expected.max())
    again = reconstruct(binned, pixel_mm=3.0)
    assert float(again[28:36, 28:36].mean()) == pytest.approx(0, abs=8)


def test_ct_noise_is_not_white():
    """The ramp makes it loud at high frequencies and silent at low ones."""
    from labkit.denoising.regions import noise_power_spectrum

    body = water(160, size=96, pixel_mm=2.5)
    integrals = project(body[None].expand(6, 96, 96), pixel_mm=2.5, views=120)
    noise = reconstruct(measure(integrals, photons=1e5, generator=seeded()).line_integrals, pixel_mm=2.5)
    noise = (noise - reconstruct(integrals, pixel_mm=2.5))[:, 32:64, 32:64]
    _, power = noise_power_spectrum(noise, pixel_mm=2.5, bins=6)
    assert float(power[3] / power[0]) > 2


def test_gradients_reach_the_body():
    body = water(60, size=32, pixel_mm=2.5).requires_grad_()
    low_dose_ct(body, photons=1e5, pixel_mm=2.5, views=16, generator=seeded())[12:20, 12:20].sum().backward()
    assert torch.isfinite(body.grad).all()
    assert float(body.grad[16, 16]) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: project(torch.full((16, 16), -1000.0), pixel_mm=0), "pixel_mm must be positive"),
        (lambda: project(torch.full((16, 16), -1000.0), pixel_mm=1, binning=3), "binning must be 1, or 2"),
        (lambda: project(torch.full((18, 18), -1000.0), pixel_mm=1, binning=2), "multiple of 4, got 2 for 18"),
        (lambda: project(torch.full((2, 3, 16, 16), -1000.0), pixel_mm=1), "clean must be grey"),
        (lambda: measure(torch.zeros(4, 8), photons=0), "photons must be positive and finite, got 0"),
        (lambda: measure(torch.zeros(4, 8), photons=9, electronic_sd=-1), "electronic_sd must be 0 or more"),
        (lambda: reconstruct(torch.zeros(4, 8), pixel_mm=-1), "pixel_mm must be positive"),
        (lambda: reconstruct(torch.zeros(30, 16), pixel_mm=1, views=60), "must have 60 views"),
    ],
)
def test_bad_input_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()

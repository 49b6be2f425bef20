"""Solids: their depth by hand, how much of a voxel they fill, waves that do not know the grid, and the noise of CT."""

import numpy as np
import pytest

from labkit.datasets.phantoms.solids import (
    AIR,
    Canvas,
    Place,
    Waves,
    capsule,
    ellipsoid,
    rods,
    scanner_noise,
    triple,
    within,
)


def place(*points):
    return Place(*np.array(points, dtype=np.float32).T)


def canvas(shape=(20, 24, 28), spacing=(2.0, 1.5, 1.0), scale=(1.0, 1.0, 1.0), seed=0):
    generator = np.random.default_rng(seed)
    origin = triple(-(np.array(shape) - 1) / 2 * spacing)
    return Canvas(shape, spacing, origin, scale, (Waves(generator, length=130), Waves(generator, length=130)))


# --- shapes


def test_depth_of_an_ellipsoid_on_its_axes():
    solid = ellipsoid((1, 2, 3), (4, 8, 2))
    depth = solid.depth(place((1, 2, 3), (5, 2, 3), (1, 10, 3), (1, 2, 5), (1, 2, 7)))
    np.testing.assert_allclose(depth, [2, 0, 0, 0, -2], atol=1e-5)
    np.testing.assert_allclose([solid.low, solid.high], [[-3, -6, 1], [5, 10, 5]])


@pytest.mark.parametrize(
    ("turn", "end"),
    [((0, 0, np.pi / 2), (0, 9, 0)), ((0, np.pi / 2, 0), (0, 0, -9)), ((np.pi / 2, 0, 0), (9, 0, 0))],
)
def test_an_ellipsoid_turns_about_each_axis(turn, end):
    solid = ellipsoid((0, 0, 0), (9, 3, 2), turn=turn)
    depth = solid.depth(place(end, np.multiply(end, 1.1), np.multiply(end, 0.9)))
    assert abs(float(depth[0])) < 1e-5
    assert depth[1] < 0 < depth[2]
    assert (np.abs(end) <= solid.high + 1e-6).all()


def test_the_box_of_a_turned_ellipsoid_holds_it():
    generator = np.random.default_rng(0)
    points = generator.uniform(-10, 10, (40000, 3))
    for _ in range(5):
        solid = ellipsoid((0, 0, 0), generator.uniform(2, 9, 3), turn=triple(generator.uniform(-2, 2, 3)))
        inside = points[solid.depth(place(*points)) > 0]
        assert (inside >= solid.low - 1e-3).all()
        assert (inside <= solid.high + 1e-3).all()
        assert (inside.max(0) > 0.8 * solid.high).all()  # and is no larger than need be


def test_depth_of_a_capsule():
    solid = capsule((0, 0, 0), (0, 0, 10), 4, 2)
    depth = solid.depth(place((0, 0, 0), (4, 0, 0), (2, 0, 10), (0, 0, 12), (3, 0, 5), (0, 0, -4)))
    np.testing.assert_allclose(depth, [4, 0, 0, 0, 0, 0], atol=1e-5)
    assert (solid.low <= (-4, -4, -4)).all()
    assert (solid.high >= (4, 4, 12)).all()
    point = capsule((1, 1, 1), (1, 1, 1), 3)  # without a length it is a ball
    np.testing.assert_allclose(point.depth(place((1, 1, 3))), [1])


def test_rods_join_at_their_ends():
    pieces = rods([(0, 0, 0), (6, 0, 0), (6, 6, 0)], [2, 3, 1])
    depth = np.max([piece.depth(place((6, 0, 0), (3, 0, 0), (6, 6, 0))) for piece in pieces], axis=0)
    np.testing.assert_allclose(depth, [3, 2.5, 1], atol=1e-5)


def test_within_is_the_common_part():
    half_ball = within(ellipsoid((0, 0, 0), (5, 5, 5)), lambda where: where.x)
    np.testing.assert_allclose(half_ball.depth(place((1, 0, 0), (-1, 0, 0), (4, 0, 0))), [1, -1, 1], atol=1e-5)


# --- waves


def test_waves_are_the_same_on_a_grid_and_at_its_points():
    field = Waves(np.random.default_rng(3), length=40)
    x, y, z = np.arange(-5.0, 9), np.arange(3.0), np.linspace(0, 70, 4)
    grid = field.on_grid(Place(x[None, None], y[None, :, None], z[:, None, None]))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    assert grid.shape == (4, 3, 14)
    np.testing.assert_allclose(grid, field.at(Place(xx, yy, zz)), atol=1e-4)


def test_waves_have_their_deviation_and_length():
    generator = np.random.default_rng(0)
    values, correlations = [], []
    for _ in range(60):
        field = Waves(generator, length=40)
        points = generator.uniform(0, 2000, (400, 3))
        here, near, far = (field.at(place(*(points + np.array([shift, 0, 0])))) for shift in (0, 2, 20))
        values.append(here)
        correlations.append([np.corrcoef(here, near)[0, 1], np.corrcoef(here, far)[0, 1]])
    assert np.std(values) == pytest.approx(1, abs=0.05)
    near, far = np.mean(correlations, axis=0)
    assert near > 0.95
    assert far < 0.3


# --- laying


def test_a_voxel_holds_what_fills_it():
    """The HU of a ball on air add up to its volume, wherever it lies: partial volumes."""
    for shift in (0.0, 0.3, 0.7):
        drawn = canvas()
        drawn.lay(ellipsoid((shift, shift, shift), (7, 8, 9)), 40.0, 3, rigid=True)
        filled = (drawn.volume - AIR).sum() / (40 - AIR) * 3.0  # mm³ a voxel
        assert filled == pytest.approx(4 / 3 * np.pi * 7 * 8 * 9, rel=0.04)
        assert (drawn.labels == 3).sum() * 3.0 == pytest.approx(4 / 3 * np.pi * 7 * 8 * 9, rel=0.04)
        assert drawn.volume.min() == AIR
        assert drawn.volume.max() == 40


def test_a_patient_twice_as_wide_has_organs_twice_as_wide():
    drawn = canvas(scale=(2.0, 1.0, 1.0))
    drawn.lay(ellipsoid((1, 0, 0), (4, 6, 8)), 40.0, 1, rigid=True)
    columns = np.flatnonzero((drawn.labels == 1).any((0, 1)))
    assert len(columns) == pytest.approx(16, abs=1)
    assert drawn.axes[2][columns].mean() * 2 == pytest.approx(2, abs=0.6)


def test_later_things_cover_and_only_where_they_may():
    drawn = canvas()
    drawn.lay(ellipsoid((0, 0, 0), (99, 99, 99)), -100.0, 0)
    drawn.lay(ellipsoid((0, 0, 0), (6, 6, 6)), 50.0, 2, rigid=True)
    drawn.lay(ellipsoid((0, 0, 0), (9, 3, 3)), 80.0, only=(2,), rigid=True)
    assert set(np.unique(drawn.labels)) == {0, 2}
    assert drawn.volume[10, 12, 14] == 80
    assert drawn.volume[drawn.labels == 0].max() < 60  # the edge of the first at most
    far = drawn.volume.copy()
    drawn.lay(ellipsoid((500, 0, 0), (6, 6, 6)), 50.0, 4)  # outside the grid
    assert np.array_equal(drawn.volume, far)


def test_a_vessel_thinner_than_a_voxel_is_fainter():
    drawn = canvas()
    thick, thin = (drawn.trace(np.array([[-8, 0.75, 1, 8, 0.75, 1, r, r]])).max() for r in (2.0, 0.4))
    assert thick == 1
    assert 0.02 < thin < 0.5


# --- noise


def test_noise_is_that_of_filtered_back_projection():
    """Deviation 1, no mean, little power at low frequencies, neighbours that are not independent, slices that are."""
    noise = scanner_noise((40, 60, 72), (2.0, 0.8, 0.8), np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert abs(noise.mean()) < 0.01
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(60, 0.8)[:, None], np.fft.fftfreq(72, 0.8))
    low, middle, high = (power[(frequency > a) & (frequency <= a + 0.05)].mean() for a in (0.01, 0.25, 0.55))
    assert low < 0.4 * middle
    assert high < 0.3 * middle
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() > 0.1
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.02

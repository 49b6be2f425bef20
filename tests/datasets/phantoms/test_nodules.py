"""Nodules: LUNA16's sizes, where each kind sits, and that what is drawn has the size and the density it was given."""

import numpy as np
import pytest
from scipy import ndimage

from labkit.datasets.phantoms import nodules
from labkit.datasets.phantoms.nodules import (
    AT_VESSEL,
    AT_WALL,
    GAP,
    KINDS,
    LARGEST,
    PART_SOLID,
    SOLID,
    draw_diameters,
    draw_nodules,
)
from labkit.datasets.phantoms.solids import Canvas, Waves, ellipsoid

SPACING = (1.5, 1.25, 1.25)
VESSEL = np.array([[-20.0, 10, -30, -20, 10, 30, 2.0, 2.0]])


def a_lung(seed=0):
    """A canvas of fat with one large lung in it, and a vessel through the lung."""
    generator = np.random.default_rng(seed)
    shape = (56, 72, 80)
    origin = tuple(float(-(n - 1) / 2 * step) for n, step in zip(shape, SPACING, strict=True))
    canvas = Canvas(shape, SPACING, origin, (1.05, 0.95, 1.0), (Waves(generator, length=130),) * 2)
    canvas.lay(ellipsoid((0, 0, 0), (500, 500, 500)), -100.0, 0)
    canvas.lay(ellipsoid((0, 0, 0), (46, 43, 39)), -860.0, 1, rigid=True)
    strength = canvas.trace(VESSEL) * (canvas.labels == 1)
    canvas.volume += strength * (45 - canvas.volume)
    return canvas, generator


@pytest.fixture(scope="module")
def drawn():
    """Some lungs full of nodules, and the lungs before."""
    lungs = []
    for seed in range(6):
        canvas, generator = a_lung(seed)
        before = canvas.volume.copy()
        lungs.append((before, canvas, draw_nodules(canvas, VESSEL, 8, generator)))
    return lungs


def each(lungs, *kinds):
    """(lung before, canvas, distance in mm of every voxel from its middle, row) of each nodule of these kinds."""
    for before, canvas, rows in lungs:
        z, y, x = (axis * size for axis, size in zip(canvas.axes, canvas.scale[::-1], strict=True))
        for row in rows[np.isin(rows[:, 4], kinds)]:
            squared = (
                (x[None, None] - row[0]) ** 2 + (y[None, :, None] - row[1]) ** 2 + (z[:, None, None] - row[2]) ** 2
            )
            yield before, canvas, np.sqrt(squared), row


def test_sizes_are_lunas():
    sizes = draw_diameters(50000, np.random.default_rng(1))
    np.testing.assert_allclose(np.quantile(sizes, (0.05, 0.5, 0.95)), (4.1, 6.4, 19.0), rtol=0.03)
    assert sizes.min() > 3
    assert sizes.max() == LARGEST


def test_all_kinds_are_drawn_and_few_are_left_out(drawn):
    rows = np.concatenate([found for _, _, found in drawn])
    assert len(rows) >= 0.8 * 48  # this lung is small
    assert set(rows[:, 4]) == set(range(len(KINDS)))
    assert all((np.diff(found[:, 3]) <= 0).all() for _, _, found in drawn)  # the largest first


def test_nodules_keep_apart_and_lie_whole_in_the_grid(drawn):
    for _, canvas, rows in drawn:
        far = np.array([axis[-1] for axis in canvas.axes[::-1]]) * canvas.scale
        assert (np.abs(rows[:, :3]) + rows[:, 3:4] / 2 < far).all()
        for i, row in enumerate(rows):
            others = np.delete(rows, i, axis=0)
            distance = np.linalg.norm(others[:, :3] - row[:3], axis=1)
            assert (distance > (others[:, 3] + row[3]) / 2 + GAP).all()


def test_a_solid_one_has_its_size_and_density(drawn):
    """The HU above lung add up to the volume of a ball of that diameter."""
    for before, canvas, distance, row in each(drawn, SOLID):
        near = distance < row[3] * 0.8 + 2
        core = np.median(canvas.volume[distance < max(0.25 * row[3], 1.0)])
        added = (canvas.volume - before)[near & (before < -800)]
        volume = added.sum() / (core + 860) * np.prod(SPACING)
        assert -45 < core < 65
        assert volume == pytest.approx(np.pi / 6 * row[3] ** 3, rel=0.3)


def test_a_part_solid_one_is_hazy_around_a_core(monkeypatch):
    monkeypatch.setattr(nodules, "MIX", (0.0, 1.0, 0.0, 0.0))
    canvas, generator = a_lung(7)
    lungs = [(canvas.volume.copy(), canvas, draw_nodules(canvas, VESSEL, 10, generator))]
    for _, canvas, distance, row in each(lungs, PART_SOLID):
        inside = canvas.volume[distance < row[3] / 2]
        hazy = (inside > -720) & (inside < -400)
        assert hazy.mean() > 0.3
        assert -150 < inside.max() < 65
        assert np.median(distance[distance < row[3] / 2][inside > -200]) < 0.3 * row[3]  # the core is in the middle


def test_each_kind_sits_where_it_should(drawn):
    for _, canvas, distance, row in each(drawn, *range(len(KINDS))):
        touches_wall = (canvas.labels[distance < row[3] / 2 + 0.5] == 0).any()
        start, end = VESSEL[0, :3] * canvas.scale, VESSEL[0, 3:6] * canvas.scale
        share = np.clip((row[:3] - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
        gap = np.linalg.norm(row[:3] - start - share * (end - start)) - VESSEL[0, 6] - row[3] / 2
        if row[4] in (SOLID, PART_SOLID):
            assert not touches_wall or row[3] > 15
            assert gap > 0.5
        elif row[4] == AT_WALL:
            assert touches_wall
        else:
            assert row[4] == AT_VESSEL
            assert -0.35 * row[3] < gap < 0.5


def test_without_lungs_or_vessels_none_are_drawn():
    canvas, generator = a_lung()
    canvas.labels[:] = 0
    assert draw_nodules(canvas, VESSEL, 5, generator).shape == (0, 5)
    canvas, generator = a_lung()
    rows = draw_nodules(canvas, np.zeros((0, 8)), 12, generator)
    assert AT_VESSEL not in rows[:, 4]
    assert draw_nodules(canvas, VESSEL, 0, generator).shape == (0, 5)


def test_nodules_stay_in_the_lung(drawn):
    for before, canvas, _ in drawn:
        outside = canvas.labels == 0
        changed = ndimage.binary_erosion(outside) & (canvas.volume != before)
        assert not changed.any()

"""Lesions: shapes, boxes, contrast."""

import numpy as np
import pytest

from labkit.datasets.phantoms import mammograms
from labkit.datasets.phantoms.lesions import amplitude_for, cluster_shape, contrast_to_noise, mass_shape, visible_box


@pytest.mark.parametrize("spiculated", [False, True])
def test_box_encloses_the_lesion(spiculated):
    generator = np.random.default_rng(0)
    for _ in range(30):
        shape = mass_shape(generator.uniform(4, 15), spiculated=spiculated, generator=generator)
        x1, y1, x2, y2 = visible_box(shape)
        assert shape.max() == 1
        energy = (shape[y1:y2, x1:x2] ** 2).sum() / (shape**2).sum()
        assert energy > 0.97


def test_circumscribed_radius_is_the_visible_one():
    generator = np.random.default_rng(0)
    sizes = []
    for _ in range(40):
        x1, y1, x2, y2 = visible_box(mass_shape(10.0, spiculated=False, generator=generator))
        sizes.append(np.sqrt((x2 - x1) * (y2 - y1)) / 2)
    assert np.mean(sizes) == pytest.approx(10, abs=0.8)


def test_spicules_reach_beyond_the_body():
    def share_of_faint_pixels(spiculated):
        shapes = [mass_shape(12, spiculated=spiculated, generator=np.random.default_rng(i)) for i in range(20)]
        return np.mean([((shape > 0.02) & (shape < 0.2)).sum() / (shape > 0.2).sum() for shape in shapes])

    assert share_of_faint_pixels(True) > 1.3 * share_of_faint_pixels(False)


def test_cluster_specks_benign_even_malignant_pleomorphic():
    def spread_of_peaks(malignant):
        spreads = []
        for seed in range(12):
            shape = cluster_shape(25, malignant=malignant, speck=0.8, generator=np.random.default_rng(seed))
            inner = shape[1:-1, 1:-1]
            neighbours = [
                shape[1 + dy : shape.shape[0] - 1 + dy, 1 + dx : shape.shape[1] - 1 + dx]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if dy or dx
            ]
            spreads.append(inner[(inner > 0.2) & (inner > np.max(neighbours, axis=0))].std())
        return np.mean(spreads)

    assert spread_of_peaks(True) > 1.5 * spread_of_peaks(False)


def test_contrast_of_a_hand_made_disc():
    y, x = np.mgrid[:60, :50] + 0.5
    image = np.where((x.astype(int) + y.astype(int)) % 2, 0.5, 0.6)  # ring mean 0.55, standard deviation 0.05
    image = np.where(np.hypot(x - 24, y - 30) < 8, image + 0.1, image)
    assert contrast_to_noise(image, np.array([16, 22, 32, 38])) == pytest.approx(2.0, abs=0.02)
    assert np.isnan(contrast_to_noise(np.zeros((60, 50)), np.array([16, 22, 32, 38])))


def test_contrast_does_not_depend_on_the_grey_scale():
    films = mammograms(8, seed=1, normal_fraction=0)
    index = next(i for i, target in enumerate(films.targets) if len(target["boxes"]))
    image, box = films.images[index, 0].numpy(), films.targets[index]["boxes"][0].numpy()
    shifted = contrast_to_noise(image * 0.5 + 0.2, box, tissue_above=0.12 * 0.5 + 0.2)
    assert shifted == pytest.approx(contrast_to_noise(image, box), rel=1e-3)


@pytest.mark.parametrize("box", [np.array([1, 2, 3]), np.array([5, 5, 5, 9]), np.array([np.nan, 5, 8, 9])])
def test_contrast_of_a_bad_box(box):
    with pytest.raises(ValueError, match="box must be"):
        contrast_to_noise(np.ones((20, 20)), box)
    with pytest.raises(ValueError, match="image must have"):
        contrast_to_noise(np.ones((1, 20, 20)), np.array([1, 1, 4, 4]))


def test_amplitude_gives_the_contrast_even_with_spicules_in_the_ring():
    generator = np.random.default_rng(0)
    background = generator.normal(1.5, 0.1, (40, 40))
    shape = generator.uniform(0, 0.3, (40, 40))
    inside, ring = np.zeros((2, 40, 40), dtype=bool)
    inside[10:30, 10:30], ring[:8] = True, True
    shape[inside] = 1
    whole = background + amplitude_for(1.7, background, shape, inside, ring) * shape
    assert (whole[inside].mean() - whole[ring].mean()) / whole[ring].std() == pytest.approx(1.7, abs=1e-6)
    assert np.isnan(amplitude_for(1.7, background, np.zeros_like(shape), inside, ring))

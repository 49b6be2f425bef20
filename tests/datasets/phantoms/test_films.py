"""Films: their form, their lesions, their texture against real ones, and splits of them."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.datasets.phantoms import Mammograms, mammograms
from labkit.datasets.phantoms import films as films_module
from labkit.datasets.phantoms.lesions import contrast_to_noise
from labkit.datasets.phantoms.texture import spectral_slope

FILMS = 110


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache of its own, so that every film here is made by the code that is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def films(own_cache):
    return mammograms(FILMS, seed=1)


@pytest.fixture(scope="module")
def measured(films):
    """Kind and measured contrast of every lesion."""
    pairs = [
        (int(kind), contrast_to_noise(image[0].numpy(), box.numpy()))
        for image, target in films
        for box, kind in zip(target["boxes"], target["kinds"], strict=True)
    ]
    return np.array(pairs)


def assert_same(first, second):
    assert torch.equal(first.images, second.images)
    for one, other in zip(first.targets, second.targets, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("boxes", "labels", "kinds"))


def test_form(films):
    image, target = films[3]
    assert len(films) == FILMS
    assert films.images.shape == (FILMS, 1, 160, 128)
    assert image.shape == (1, 160, 128)
    assert image.dtype == torch.float32
    assert 0 <= films.images.min() < films.images.max() <= 1
    assert films.pixel_mm == 1.0
    assert {name: value.dtype for name, value in target.items()} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "kinds": torch.int64,
    }
    assert films.patients.tolist() == [i // 2 for i in range(FILMS)]


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (96, 160), (240, 192)])
def test_other_sizes(size):
    dataset = mammograms(6, size=size, normal_fraction=0)
    assert dataset.images.shape == (6, 1, *size)
    assert dataset.pixel_mm == pytest.approx(160 / size[0])
    assert sum(len(target["boxes"]) for target in dataset.targets) >= 5


def test_the_same_seed_gives_the_same_films_however_many(films):
    assert_same(films.subset(range(7)), mammograms(7, seed=1))
    assert not torch.equal(films.images[:2], mammograms(2, seed=2).images)


def test_whole_numbers_of_any_library_are_whole_numbers():
    asked = mammograms(np.int64(2), size=(np.int32(80), torch.tensor(64)), seed=np.uint8(3))
    assert_same(asked, mammograms(2, size=(80, 64), seed=3))


def test_films_do_not_depend_on_the_number_of_threads(monkeypatch):
    one = mammograms(6, seed=3)
    monkeypatch.setattr(films_module, "THREADS", 5)
    assert_same(one, mammograms(6, seed=3))


def test_many_films_come_from_the_cache_the_second_time(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(films_module, "CACHED_FROM", 4)
    small = mammograms(3, size=(80, 64))
    assert list(tmp_path.iterdir()) == []
    first = mammograms(5, size=(80, 64))
    monkeypatch.setattr(films_module, "_film", None)  # making one now would fail
    second = mammograms(5, size=(80, 64))
    assert_same(first, second)
    assert_same(small, second.subset(range(3)))


def test_boxes_are_valid(films):
    for target in films.targets:
        boxes = target["boxes"]
        assert boxes.shape == (len(target["labels"]), 4)
        assert (boxes[:, 2:] - boxes[:, :2] >= 3).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= 128).all()
        assert (boxes[:, 3] <= 160).all()


def test_labels_follow_from_kinds_and_all_occur(films):
    labels = torch.cat([target["labels"] for target in films.targets])
    kinds = torch.cat([target["kinds"] for target in films.targets])
    assert set(labels[kinds == 0].tolist()) == {1}
    assert set(labels[kinds == 1].tolist()) == {2}
    assert set(labels[kinds == 2].tolist()) == {1, 2}
    assert 0.35 < (labels == 1).float().mean() < 0.65


def test_both_films_of_a_patient_share_lesion_types_but_are_two_views(films):
    for first, second in zip(films.targets[::2], films.targets[1::2], strict=True):
        shared = min(len(first["kinds"]), len(second["kinds"]))
        assert bool(len(first["kinds"])) == bool(len(second["kinds"]))
        assert torch.equal(first["kinds"][:1], second["kinds"][:1]) or shared == 0
    assert not any(torch.equal(films.images[i], films.images[i + 1]) for i in range(0, FILMS, 2))


def test_normal_films_and_films_with_several_lesions(films):
    counts = torch.tensor([len(target["boxes"]) for target in films.targets])
    assert 0.2 < (counts == 0).float().mean() < 0.47  # a third of 55 patients, two standard deviations either way
    assert (counts >= 2).any()
    assert all(len(target["boxes"]) == 0 for target in mammograms(4, normal_fraction=1).targets)


def test_both_lateralities_and_an_empty_background(films):
    left, right = films.images[:, 0, 40:120, 2].mean(1), films.images[:, 0, 40:120, -3].mean(1)
    on_left = left > right
    assert 0.3 < on_left.float().mean() < 0.7
    assert torch.equal(on_left[::2], on_left[1::2])  # one breast, two views
    nipple_side = torch.where(on_left, right, left)
    assert nipple_side.max() < 0.02


def test_radius_is_that_of_real_lesions():
    generator = np.random.default_rng(0)
    radius = np.array([films_module._draw_lesion(generator, (0.8, 2.4)).radius_mm for _ in range(2000)])
    assert 8 < np.median(radius) < 9
    assert radius.min() >= 4.5
    assert radius.max() <= 20


def test_measured_contrast_is_the_one_asked_for(measured):
    masses, clusters = measured[measured[:, 0] < 2, 1], measured[measured[:, 0] == 2, 1]
    assert len(masses) > 60
    assert 1.4 < np.median(masses) < 1.75
    inside = (masses > 0.75) & (masses < 2.45)  # 0.05 for noise, blur and the grey scale's 8 bits
    assert inside.mean() > 0.97
    assert 0.4 < np.median(clusters) < 0.65


def test_contrast_can_be_chosen():
    dataset = mammograms(30, seed=5, cnr=(1.0, 1.0), normal_fraction=0)
    masses = [
        contrast_to_noise(image[0].numpy(), box.numpy())
        for image, target in dataset
        for box, kind in zip(target["boxes"], target["kinds"], strict=True)
        if kind < 2
    ]
    assert np.median(masses) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(np.abs(np.array(masses) - 1), 90) < 0.1


def inner_region(image, side=50):
    """The region inside the breast that varies least, so without its rim or muscle; None where there is none."""
    regions = [image[y : y + side, x : x + side] for y in range(30, 110, 10) for x in range(2, 77, 6)]
    regions = [region for region in regions if region.min() > 0.3]
    return min(regions, key=np.std, default=None)


def test_texture_falls_as_that_of_real_films():
    films = mammograms(60, seed=5, normal_fraction=1)
    regions = [inner_region(image[0].numpy()) for image, _ in films]
    slopes = [spectral_slope(region, pixel_mm=1.0) for region in regions if region is not None]
    assert len(slopes) > 45
    # Burgess: 1 / f^3. 235 real films through this estimator at 1 mm: mean 2.7, standard deviation 0.5.
    assert np.mean(slopes) == pytest.approx(2.9, abs=0.25)
    assert 0.3 < np.std(slopes) < 0.65


def real_films(archive, count):
    """Name, (204, 204) film at 1 mm and circles (x, y, r in mm) of the first films of the mini-MIAS archive."""
    films, circles = {}, {}
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).stem
            if member.name.endswith("Info.txt"):
                for row in members.extractfile(member).read().decode(errors="replace").splitlines():
                    parts = row.split()
                    if len(parts) == 7 and parts[2] in ("CIRC", "SPIC") and parts[4].isdigit():
                        x, y, r = (int(part) / 5 for part in parts[4:])
                        circles.setdefault(parts[0], []).append((x, 1024 / 5 - y, r))
            elif member.name.endswith(".pgm") and len(films) < count:
                grey = np.frombuffer(members.extractfile(member).read()[-(1024**2) :], dtype=np.uint8)
                grey = grey.reshape(1024, 1024)[:1020, :1020] / 255
                films[name] = grey.reshape(204, 5, 204, 5).mean((1, 3))
            elif films and circles and len(films) >= count:
                break
    return [(films[name], circles.get(name, [])) for name in films]


def test_slope_and_contrast_of_real_films_through_the_same_estimators(real_data):
    films = real_films(real_data / "mini-mias" / "all-mias.tar.gz", 40)
    regions = [inner_region(film) for film, _ in films]
    slopes = [spectral_slope(region, pixel_mm=1.0) for region in regions if region is not None]
    assert np.mean(slopes) == pytest.approx(2.7, abs=0.3)
    contrast = [
        contrast_to_noise(film, np.array([x - r, y - r, x + r, y + r]))
        for film, circles in films
        for x, y, r in circles
    ]
    assert len(contrast) > 8
    assert 0.8 < np.median(contrast) < 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be"),
        ({"count": 2.0}, "count must be"),
        ({"count": 2, "size": (60, 128)}, "size must be"),
        ({"count": 2, "size": (128,)}, "size must be"),
        ({"count": 2, "cnr": (2.0, 1.0)}, "cnr must be"),
        ({"count": 2, "cnr": (0.0, 1.0)}, "cnr must be"),
        ({"count": 2, "cnr": (float("nan"), 1.0)}, "cnr must be"),
        ({"count": 2, "normal_fraction": 1.1}, "normal_fraction must"),
        ({"count": 2, "seed": -1}, "seed must be"),
        ({"count": 2, "seed": 0.5}, "seed must be"),
        ({"count": 2, "size": 160}, "size must be"),
        ({"count": 2, "size": (160.5, 128)}, "size must be"),
        ({"count": 2, "cnr": 1.0}, "cnr must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mammograms(**arguments)


def test_split_shares_no_patient_and_loses_no_film(films):
    parts = films.split((0.6, 0.2, 0.2), seed=4)
    patients = [set(part.patients.tolist()) for part in parts]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert sum(map(len, parts)) == FILMS
    assert_same(parts[0], films.split((0.6, 0.2, 0.2), seed=4)[0])
    assert not torch.equal(parts[0].patients, films.split((0.6, 0.2, 0.2), seed=5)[0].patients)


def test_split_that_cannot_be(films):
    with pytest.raises(ValueError, match="fractions must be"):
        films.split((0.9, 0.9))
    with pytest.raises(ValueError, match="each part needs a patient"):
        films.subset([0, 1]).split((0.5, 0.5))


def test_lengths_must_agree(films):
    with pytest.raises(ValueError, match="one target and one patient"):
        Mammograms(films.images[:2], films.targets[:1], films.patients[:2])

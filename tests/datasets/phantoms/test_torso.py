"""Torso scans: shapes and units, boxes, the field that cuts organs off, seeds, cache and split, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from labkit.datasets.phantoms import torso
from labkit.datasets.phantoms.torso import (
    KINDS,
    LABELS,
    ORGANS,
    VERTEBRAE,
    Scans,
    lung_scans,
    nodule_boxes,
    organ_boxes,
    torso_scans,
)

COARSE = {"shape": (22, 32, 42), "spacing": (12.0, 9.0, 9.0)}  # the field of a usual scan
SLAB = {"shape": (32, 70, 100), "spacing": (4.0, 3.0, 3.0)}


@pytest.fixture(scope="module")
def scans():
    return torso_scans(24, **COARSE)


@pytest.fixture(scope="module")
def slabs():
    return lung_scans(4, **SLAB, nodules=6)


def test_shapes_and_units(scans, slabs):
    for scan, shape, spacing in ((scans[1], (22, 32, 42), (12, 9, 9)), (slabs[1], (32, 70, 100), (4, 3, 3))):
        assert scan.volume.shape == scan.organs.shape == shape
        assert scan.volume.dtype == torch.float32
        assert torch.equal(scan.volume, scan.volume.round())
        assert -1024 <= float(scan.volume.min()) < -900
        assert 200 < float(scan.volume.max()) <= 3071
        assert scan.organs.dtype == torch.uint8
        assert int(scan.organs.max()) < len(ORGANS)
        assert scan.spacing == spacing
        assert len(scan.origin) == 3
        assert scan.boxes.shape == (len(scan.labels), 6)
        assert scan.boxes.dtype == torch.float32
        assert scan.labels.dtype == torch.int64
        count = len(scan.nodules.diameters)
        assert scan.nodules.centers.shape == (count, 3)
        assert scan.nodules.kinds.dtype == torch.int64
        assert scan.patient == 1
    assert ORGANS[0] == "background"
    assert all(LABELS[name] == number for number, name in enumerate(ORGANS))


def test_boxes_hold_an_organ_and_nothing_more(scans):
    for scan in scans:
        seen = set()
        for box, label in zip(scan.boxes.long().tolist(), scan.labels.tolist(), strict=True):
            z, y, x = (scan.organs == label).nonzero().T
            assert box == [
                int(x.min()),
                int(y.min()),
                int(z.min()),
                int(x.max()) + 1,
                int(y.max()) + 1,
                int(z.max()) + 1,
            ]
            seen.add(label)
        assert scan.labels.tolist() == sorted(seen)
        left_out = set(scan.organs.unique().tolist()) - seen - {0}
        assert all(int((scan.organs == label).any((1, 2)).sum()) * scan.spacing[0] < 12 for label in left_out)


def test_an_organ_of_which_a_sliver_is_seen_is_not_listed():
    labels = np.zeros((8, 6, 5), np.uint8)
    labels[:2, 1:3, 1:4] = LABELS["bladder"]
    labels[3:7, 2:4, 0:2] = LABELS["heart"]
    boxes, numbers = organ_boxes(labels, spacing=(4.0, 3.0, 3.0))
    assert numbers.tolist() == [LABELS["heart"]]
    assert boxes.tolist() == [[0, 2, 3, 2, 4, 7]]
    assert organ_boxes(labels, spacing=(6.0, 3.0, 3.0))[1].tolist() == [LABELS["heart"], LABELS["bladder"]]
    boxes, numbers = organ_boxes(np.zeros((8, 6, 5), np.uint8), spacing=(4.0, 3.0, 3.0))
    assert boxes.shape == (0, 6)
    assert numbers.shape == (0,)


def test_the_field_cuts_organs_off(scans):
    """What lies near an end of the torso is often missing, what lies in the middle is often cut."""
    listed = np.array([[label in scan.labels.tolist() for label in range(1, len(ORGANS))] for scan in scans])
    share = dict(zip(ORGANS[1:], listed.mean(axis=0), strict=True))
    assert 0.05 < share["bladder"] < 0.6
    assert 0.3 < share["heart"] < 0.9
    assert all(0.4 < share[name] < 1 for name in ("right lung", "left lung"))
    assert all(share[name] > 0.8 for name in ("liver", "spleen", "right kidney", "left kidney", "pancreas"))
    assert (~listed.all(axis=1)).mean() > 0.8
    cut = [bool((scan.boxes[:, 2] == 0).any() or (scan.boxes[:, 5] == 22).any()) for scan in scans]
    assert np.mean(cut) > 0.5


def test_vertebrae_are_those_in_the_field(scans):
    for scan in scans:
        names = [name for name in VERTEBRAE if name in scan.vertebrae]
        places = [VERTEBRAE.index(name) for name in names]
        assert places == list(range(places[0], places[-1] + 1))  # no gap
        heights = [scan.vertebrae[name][2] for name in names]
        assert all(15 < upper - lower < 42 for upper, lower in pairwise(heights))
        for x, y, z in scan.vertebrae.values():
            index = [round((v - o) / s) for v, o, s in zip((z, y, x), scan.origin, scan.spacing, strict=True)]
            assert all(0 <= i < n for i, n in zip(index, scan.volume.shape, strict=True))


def test_a_scan_depends_on_its_seed_and_number_alone(scans):
    again = torso_scans(2, **COARSE)
    for i in range(2):
        assert torch.equal(again[i].volume, scans[i].volume)
        assert torch.equal(again[i].organs, scans[i].organs)
    assert not torch.equal(again[0].volume, again[1].volume)
    assert not torch.equal(torso_scans(1, **COARSE, seed=1)[0].volume, again[0].volume)


def test_both_grids_have_the_same_patients(scans, slabs):
    for i in range(3):
        assert np.array_equal(scans.arrays[i]["vertebrae"], slabs.arrays[i]["vertebrae"])
        both = scans[i].vertebrae.keys() & slabs[i].vertebrae.keys()
        assert all(scans[i].vertebrae[name] == slabs[i].vertebrae[name] for name in both)


def test_world_coordinates_say_nothing_of_anatomy(scans):
    """The same vertebra lies elsewhere on each table."""
    places = np.array([held["vertebrae"][10] for held in scans.arrays])
    assert (places.std(axis=0) > (5, 10, 80)).all()


def test_what_comes_out_is_a_copy(scans):
    before = scans[0].volume.clone()
    scan = scans[0]
    scan.volume.zero_()
    scan.organs.zero_()
    assert torch.equal(scans[0].volume, before)
    assert int(scans[0].organs.max()) > 0


def test_patients_are_split_and_picked(scans):
    train, test = scans.split((0.75, 0.25))
    assert (len(train), len(test)) == (18, 6)
    assert not set(train.patients.tolist()) & set(test.patients.tolist())
    assert isinstance(train, Scans)
    assert scans.subset([5, -1]).patients.tolist() == [5, 23]
    assert len(list(scans.subset(scans.patients < 3))) == 3
    with pytest.raises(IndexError):
        scans[24]
    with pytest.raises(TypeError, match=r"write dataset.subset"):
        scans[1:3]


# --- nodules


def test_nodules_lie_in_the_lungs_and_their_boxes_around_them(slabs):
    kinds = set()
    for scan in slabs:
        boxes = nodule_boxes(scan)
        assert boxes.shape == (len(scan.nodules.diameters), 6)
        sides = (boxes[:, 3:] - boxes[:, :3]) * torch.tensor([3.0, 3.0, 4.0])
        torch.testing.assert_close(sides, scan.nodules.diameters[:, None].expand(-1, 3), rtol=1e-3, atol=1e-3)
        assert (boxes[:, :3] >= 0).all()
        assert (boxes[:, 3:] <= torch.tensor([100.0, 70.0, 32.0])).all()
        middles = ((boxes[:, :3] + boxes[:, 3:]) / 2).floor().long()
        for (x, y, z), diameter in zip(middles.tolist(), scan.nodules.diameters.tolist(), strict=True):
            assert int(scan.organs[z, y, x]) in (LABELS["right lung"], LABELS["left lung"])
            if diameter > 8:
                assert float(scan.volume[z, y, x]) > -800  # lung alone is darker
        kinds |= set(scan.nodules.kinds.tolist())
    assert kinds <= set(range(len(KINDS)))
    assert len(kinds) > 2


def test_the_number_of_nodules_is_asked_for():
    (scan,) = lung_scans(1, **SLAB, nodules=0)
    assert len(scan.nodules.diameters) == 0
    assert nodule_boxes(scan).shape == (0, 6)
    counts = [len(scan.nodules.diameters) for scan in lung_scans(3, **SLAB, nodules=20)]
    assert 10 < np.mean(counts) < 26


# --- cache


def test_scans_are_kept_one_by_one(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(torso, "CACHED_FROM", 1000)
    recipe = torso._recipe()
    monkeypatch.setattr(torso, "_recipe", lambda: recipe)
    small = {"shape": (12, 14, 14), "spacing": (20.0, 20.0, 20.0)}
    made = torso_scans(2, **small)
    assert len(list(tmp_path.glob("torso-seed0-*.safetensors"))) == 2
    more = torso_scans(3, **small)
    assert len(list(tmp_path.glob("torso-*"))) == 3
    monkeypatch.setattr(torso, "_make", None)  # nothing is drawn again
    kept = torso_scans(3, **small)
    for i in range(2):
        assert torch.equal(made[i].volume, kept[i].volume)
        assert torch.equal(more[i].boxes, kept[i].boxes)
        assert made[i].vertebrae == kept[i].vertebrae


def test_another_recipe_is_another_file(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(torso, "CACHED_FROM", 1000)
    small = {"shape": (12, 14, 14), "spacing": (20.0, 20.0, 20.0)}
    torso_scans(1, **small)
    monkeypatch.setattr(torso, "_recipe", lambda: 1)
    torso_scans(1, **small)
    lung_scans(1, **small)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


# --- what is refused


@pytest.mark.parametrize("make", [torso_scans, lung_scans])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"count": value}, "count must be a whole number of at least 1, got") for value in (0, 2.5, True, None)),
        *(({"seed": value}, "seed must be a whole number of at least 0, got") for value in (-1, 1.5)),
        ({"shape": (32, 32)}, r"shape must be \(Z, Y, X\), got \(32, 32\)"),
        ({"shape": (32, 32, 4)}, "each side of shape must be a whole number of at least 8, got 4"),
        ({"shape": (32, 32.5, 32)}, "each side of shape must be"),
        ({"spacing": (4.0, 3.0)}, r"spacing must be \(z, y, x\), three numbers in 0.5 to 20 mm"),
        ({"spacing": (4.0, 0.0, 3.0)}, "spacing must be"),
        ({"spacing": (4.0, float("nan"), 3.0)}, "spacing must be"),
    ],
)
def test_bad_input_is_said(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**({"count": 1} | options))


@pytest.mark.parametrize("nodules", [-1, 51, float("nan"), "3"])
def test_numbers_of_nodules_that_are_none(nodules):
    with pytest.raises(ValueError, match="nodules must be a number in 0 to 50"):
        lung_scans(1, nodules=nodules)

"""Whole torsos: every organ on its side, at its height, of its size and its HU; and what fools a single slice."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from labkit.datasets.phantoms.body import HU
from labkit.datasets.phantoms.nodules import SOLID
from labkit.datasets.phantoms.torso import LABELS, ORGANS, VERTEBRAE, lung_scans, torso_scans

WHOLE = {"shape": (70, 50, 54), "spacing": (9.0, 7.0, 7.0)}  # 630 mm high
# mL, adults; the heart with its blood
VOLUMES = {
    "right lung": (1300, 4000),
    "left lung": (1100, 3600),
    "heart": (400, 1000),
    "liver": (900, 2400),
    "spleen": (80, 400),
    "right kidney": (80, 270),
    "left kidney": (80, 270),
    "pancreas": (35, 160),
    "bladder": (30, 650),
}


@pytest.fixture(scope="module")
def whole():
    return list(torso_scans(8, **WHOLE, seed=5))


def middles(scan):
    """x y z of every organ and vertebra, mm from the middle of T12."""
    zero = np.array(scan.vertebrae["T12"])
    found = {name: np.array(place) - zero for name, place in scan.vertebrae.items()}
    for name in ORGANS[1:]:
        index = np.argwhere(scan.organs.numpy() == LABELS[name]).mean(axis=0)
        found[name] = (np.array(scan.origin) + index * scan.spacing)[::-1] - zero
    return found


def heights(scan, name):
    """Lowest and highest z of an organ, mm from the middle of T12."""
    z = np.flatnonzero((scan.organs.numpy() == LABELS[name]).any((1, 2)))
    return np.array([z[0], z[-1]]) * scan.spacing[0] + scan.origin[0] - scan.vertebrae["T12"][2]


def test_a_whole_torso_shows_everything(whole):
    for scan in whole:
        assert scan.labels.tolist() == list(range(1, len(ORGANS)))
        assert list(scan.vertebrae) == list(VERTEBRAE)


def test_left_and_right(whole):
    for scan in whole:
        at = middles(scan)
        assert all(at[name][0] < -25 for name in ("right lung", "liver", "right kidney"))
        assert all(at[name][0] > 25 for name in ("left lung", "spleen", "left kidney"))
        assert 5 < at["heart"][0] < 45
        assert abs(at["bladder"][0]) < 20
        right = scan.boxes[LABELS["right lung"] - 1]
        left = scan.boxes[LABELS["left lung"] - 1]
        assert (right[0] + right[3]) / 2 < (left[0] + left[3]) / 2  # the patient's right is on the picture's left


def test_from_head_to_feet(whole):
    for scan in whole:
        at = middles(scan)
        order = ["heart", "liver", "pancreas", "bladder"]
        assert all(at[upper][2] > at[lower][2] + 20 for upper, lower in pairwise(order))
        assert at["T9"][2] < at["heart"][2] < at["T5"][2]
        assert heights(scan, "bladder")[1] < at["L5"][2]
        assert heights(scan, "right lung")[1] > at["T3"][2]
        low, high = heights(scan, "liver")
        assert at["T10"][2] - 30 < high < at["T7"][2] + 10  # under the right dome
        assert at["L4"][2] < low < at["L1"][2]
        for name in ("right kidney", "left kidney"):
            assert at["L3"][2] < at[name][2] < at["T12"][2]
        assert at["L3"][2] < at["pancreas"][2] < at["T11"][2]
        assert at["T12"][2] - 15 < at["spleen"][2] < at["T9"][2]


def test_from_front_to_back(whole):
    for scan in whole:
        at = middles(scan)
        assert all(at[name][1] > at["liver"][1] + 15 for name in ("right kidney", "left kidney", "L1"))
        assert all(abs(at[name][1] - at["L1"][1]) < 25 for name in ("right kidney", "left kidney"))  # beside the spine
        assert at["pancreas"][1] < at["L1"][1] - 15
        assert at["heart"][1] < at["T7"][1] - 40
        assert at["bladder"][1] < at["L5"][1] - 20


def test_vertebrae_are_bone(whole):
    for scan in whole:
        for x, y, z in scan.vertebrae.values():
            index = tuple(round((v - o) / s) for v, o, s in zip((z, y, x), scan.origin, scan.spacing, strict=True))
            around = scan.volume[tuple(slice(i - 1, i + 2) for i in index)]
            assert float(around.median()) > 100
        heights = [place[2] for place in scan.vertebrae.values()]
        assert 150 < heights[12] - heights[16] + 36 < 210  # L1 to L5
        assert 240 < heights[0] - heights[11] + 25 < 330  # T1 to T12


def test_organs_have_the_volumes_of_adults(whole):
    sizes = {name: [] for name in VOLUMES}
    for scan in whole:
        for name, (least, most) in VOLUMES.items():
            volume = float((scan.organs == LABELS[name]).sum()) * np.prod(scan.spacing) / 1000
            assert least < volume < most, name
            sizes[name].append(volume)
    assert all(np.std(volumes) / np.mean(volumes) > 0.05 for volumes in sizes.values())  # patients differ


def test_hu_are_those_of_books(whole):
    """Native or in the portal venous phase, the middle of each organ; edges are partial volumes."""
    seen = set()
    for scan in whole:
        inside = {}
        for name in ORGANS[1:]:
            core = ndimage.binary_erosion(scan.organs.numpy() == LABELS[name])
            inside[name] = float(np.median(scan.volume.numpy()[core])) if core.any() else None
        contrast = inside["spleen"] > 75
        seen.add(contrast)
        assert -910 < inside["right lung"] < -780
        assert -15 < inside["bladder"] < 25
        for name, book in (("liver", "liver"), ("spleen", "spleen")):
            assert inside[name] == pytest.approx(HU[book][contrast], abs=28)
        if contrast:
            assert inside["right kidney"] > inside["liver"]
        else:
            assert inside["liver"] > inside["spleen"] - 12
    assert seen == {True, False}


# --- a section of a vessel looks like a nodule; in space it does not


@pytest.fixture(scope="module")
def sections():
    """(n, 4) of round, bright spots of 4 to 8 mm on slices with a nodule: whether it is one, mm, HU, and how far it
    goes on along z, in its own diameters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labkit.datasets.phantoms.torso.CACHED_FROM", 10**9)
        scans = lung_scans(2, shape=(56, 168, 240), seed=3, nodules=16)
    return np.concatenate([spots(scan) for scan in scans])


def spots(scan):
    volume, lungs = scan.volume.numpy(), scan.organs.numpy() > 0
    lungs &= scan.organs.numpy() <= LABELS["left lung"]
    bright, wall = (volume > -400) & lungs, ndimage.binary_dilation(~lungs, np.ones((1, 3, 3)))
    index = np.rint((scan.nodules.centers.numpy()[:, ::-1] - scan.origin) / scan.spacing).astype(int)
    solid = scan.nodules.kinds.numpy() == SOLID
    rows = []
    for z in np.unique(index[solid, 0]):
        parts, _ = ndimage.label(bright[z])
        here, near = index[:, 0] == z, abs(index[:, 0] - z) < 12
        nodules = set(parts[index[here & solid, 1], index[here & solid, 2]])
        others = set(parts[index[near, 1], index[near, 2]]) - nodules
        for number, (down, across) in enumerate(ndimage.find_objects(parts), start=1):
            spot = parts == number
            diameter = 2 * np.sqrt(spot.sum() / np.pi) * scan.spacing[1]
            longest = max(down.stop - down.start, across.stop - across.start) * scan.spacing[1]
            if 4 <= diameter <= 8 and longest < 1.6 * diameter and number not in others and not (spot & wall[z]).any():
                length = goes_on(bright, z, spot) * scan.spacing[0]
                rows.append((number in nodules, diameter, volume[z][spot].mean(), length / diameter))
    return np.array(rows, float).reshape(-1, 4)


def goes_on(bright, z, spot):
    """Slices on which a spot goes on with a third of its area or more, the largest part where it branches."""
    count = 1
    for step in (-1, 1):
        last, at = spot, z + step
        while 0 <= at < len(bright):
            parts, _ = ndimage.label(bright[at])
            touched = np.unique(parts[last & (parts > 0)])
            areas = [(parts == number).sum() for number in touched]
            if not areas or max(areas) < 0.35 * spot.sum():
                break
            last, at, count = parts == touched[int(np.argmax(areas))], at + step, count + 1
    return count


def ordered(sections, column):
    """The share of pairs, a vessel and a nodule, in which the vessel has more; one half says nothing."""
    nodules, vessels = (sections[sections[:, 0] == kind, column] for kind in (1, 0))
    return (vessels[:, None] > nodules).mean() + (vessels[:, None] == nodules).mean() / 2


def test_on_one_slice_a_vessel_looks_like_a_nodule(sections):
    assert (sections[:, 0] == 1).sum() >= 6
    assert (sections[:, 0] == 0).sum() >= 60
    assert 0.25 < ordered(sections, 1) < 0.75  # mm
    assert 0.1 < ordered(sections, 2) < 0.9  # HU
    nodules, vessels = (sections[sections[:, 0] == kind] for kind in (1, 0))
    low, high = vessels[:, 1:3].min(axis=0), vessels[:, 1:3].max(axis=0)
    assert ((nodules[:, 1:3] >= low - 0.5) & (nodules[:, 1:3] <= high + 15)).all()  # nothing that no vessel has


def test_along_z_a_vessel_goes_on_and_a_nodule_ends(sections):
    assert ordered(sections, 3) > 0.95
    nodules, vessels = (sections[sections[:, 0] == kind, 3] for kind in (1, 0))
    assert np.median(nodules) < 2
    assert np.median(vessels) > 4

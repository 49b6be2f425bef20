"""Candidates: merged, mined and cut out."""

import pytest
import torch

from labkit.datasets.phantoms.torso import lung_scans
from labkit.detection.candidates import (
    JITTER,
    PATCH,
    Patches,
    cut_patches,
    grid_of,
    hard_candidates,
    merge_slices,
    training_patches,
    window,
)
from labkit.detection.world import voxel_to_world

SMALL = {"shape": (24, 42, 60), "spacing": (4, 5, 5)}


@pytest.fixture(scope="module")
def scan():
    return lung_scans(1, seed=3, nodules=6.0, **SMALL)[0]


def marks(count=60):
    generator = torch.Generator().manual_seed(1)
    return 40 * torch.rand(count, 3, generator=generator), torch.rand(count, generator=generator) + 0.01


def test_merged_slowly_one_by_one():
    centers, scores = marks()
    left, expected = list(range(len(scores))), []
    while left:
        first = max(left, key=lambda i: float(scores[i]))
        mine = [i for i in left if float((centers[i] - centers[first]).norm()) <= 9.0]
        weights = scores[mine]
        expected.append([*((weights[:, None] * centers[mine]).sum(0) / weights.sum()).tolist(), float(scores[first])])
        left = [i for i in left if i not in mine]
    middles, best = merge_slices(centers, scores, reach=9.0)
    torch.testing.assert_close(torch.cat([middles, best[:, None]], dim=1), torch.tensor(expected))
    assert 1 < len(best) < len(scores)


def test_a_reach_of_nothing_merges_nothing_and_a_long_one_all():
    centers, scores = marks()
    middles, best = merge_slices(centers, scores, reach=0.0)
    torch.testing.assert_close(middles, centers[scores.argsort(descending=True)])
    middles, best = merge_slices(centers, scores, reach=1e3)
    torch.testing.assert_close(middles[0], (scores[:, None] * centers).sum(0) / scores.sum())
    assert best.tolist() == [scores.max()]
    assert [len(part) for part in merge_slices(torch.zeros(0, 3), torch.zeros(0))] == [0, 0]


def test_hard_ones_are_wrong_and_sure():
    centers, scores = marks()
    nodules, diameters = centers[:4] + 0.5, torch.tensor([4.0, 6, 9, 12])
    rows = hard_candidates(centers, scores, nodules, diameters, count=10, margin=3.0)
    gap = (torch.cdist(centers, nodules) - diameters / 2).amin(dim=1)
    assert (gap[rows] > 3).all()
    others = [i for i in range(len(scores)) if i not in rows.tolist() and gap[i] > 3]
    assert scores[rows].min() >= scores[others].max()
    assert (scores[rows].diff() <= 0).all()


def test_padding_beyond_the_field_is_air():
    assert window(torch.tensor([-3024.0, -2000, -1000, -300, 400, 3071])).tolist() == [0, 0, 0, 0.5, 1, 1]


def test_a_patch_has_its_candidate_in_the_middle(scan):
    voxels = torch.tensor([[9.0, 20, 33], [0.0, 0, 0], [23.0, 41, 59]])
    patches = cut_patches(scan, voxel_to_world(voxels, **grid_of(scan)))
    assert patches.shape == (3, 1, *PATCH)
    grey = window(scan.volume)
    for patch, (z, y, x) in zip(patches[:, 0], voxels.long().tolist(), strict=True):
        assert patch[8, 12, 12] == grey[z, y, x]
    assert torch.equal(patches[0, 0, 8:10, 6:20, 2:24], grey[9:11, 14:28, 23:45])
    assert patches[1, 0, :8].max() == 0  # beyond the first slice
    assert cut_patches(scan, torch.zeros(0, 3)).shape == (0, 1, *PATCH)


def test_a_turned_grid_finds_the_same_voxels(scan):
    class Turned:
        volume, spacing, origin, direction = scan.volume, scan.spacing, (10.0, 90.0, -20.0), (1.0, -1.0, -1.0)

    voxels = torch.tensor([[9.0, 20, 33]])
    here = cut_patches(scan, voxel_to_world(voxels, **grid_of(scan)))
    there = cut_patches(Turned, voxel_to_world(voxels, **grid_of(Turned)))
    assert torch.equal(here, there)


def test_a_thin_scan_and_a_candidate_outside_are_refused(scan):
    thin = lung_scans(1, shape=(12, 42, 60), spacing=(8, 5, 5))[0]
    with pytest.raises(
        ValueError, match=r"a scan must hold a patch of \(16, 24, 24\) voxels z y x, got \(12, 42, 60\)"
    ):
        cut_patches(thin, thin.nodules.centers)
    outside = voxel_to_world(torch.tensor([[9.0, 20, 33], [9.0, 20, 61]]), **grid_of(scan))
    with pytest.raises(ValueError, match=r"candidate 1 lies at voxel .* outside the scan of 24 x 42 x 60"):
        cut_patches(scan, outside)


def test_what_is_learned_from_is_labelled(scan):
    nodules = scan.nodules.centers
    far = voxel_to_world(torch.tensor([[2.0, 3, 3], [20.0, 3, 50]]), **grid_of(scan))
    found = {"centers": torch.cat([nodules[:1] + 0.5, far]), "scores": torch.tensor([0.9, 0.4, 0.8])}
    wide, labels = training_patches(scan, found, count=5)
    assert labels.tolist() == [1.0] * (len(nodules) + 1) + [0.0, 0.0]
    assert wide.shape[1:] == (1, *(side + 2 * JITTER for side in PATCH))
    torch.testing.assert_close(wide[-2:].float(), cut_patches(scan, far.flip(0), size=wide.shape[2:]).half().float())


def test_nodules_are_a_third_of_what_is_shown():
    labels = torch.tensor([1.0] * 4 + [0.0] * 40)
    data = Patches(torch.rand(44, 1, 20, 28, 28, generator=torch.Generator().manual_seed(0)), labels)
    assert len(data) == 60
    shown = torch.stack([data[i][1] for i in range(len(data))])
    assert int(shown.sum()) == 20
    torch.manual_seed(0)
    first, second = data[50][0], data[50][0]
    assert first.shape == (1, *PATCH)
    assert not torch.equal(first, second)

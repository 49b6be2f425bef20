"""Two stages: what they give, what they refuse, and what the shipped ones reach."""

import json

import pytest
import torch

from labkit.datasets.phantoms.torso import lung_scans
from labkit.detection.candidates import cut_patches, grid_of
from labkit.detection.nodules import (
    NoduleJudge,
    SliceProposals,
    find_candidates,
    hits_nodule,
    judge_candidates,
    neighbours,
    nodule_stages,
    nodule_target,
    slice_marks,
    slice_targets,
)
from labkit.detection.world import world_to_voxel
from labkit.weights import FOLDER


@pytest.fixture(scope="module")
def scan():
    return lung_scans(1, seed=3, nodules=6.0, shape=(24, 42, 60), spacing=(4, 5, 5))[0]


@pytest.mark.parametrize(("deconvolution", "stride"), [(True, 2), (False, 8)])
def test_features_lie_where_their_stride_says(deconvolution, stride):
    network = SliceProposals(deconvolution=deconvolution).eval()
    assert network.stride == stride
    features = network.finer(network.backbone(torch.zeros(1, 3, 48, 64)))
    assert features.shape[2:] == (48 // stride, 64 // stride)


def test_it_trains_on_slices_with_and_without_nodules():
    torch.manual_seed(0)
    network = SliceProposals().train()
    targets = [{"boxes": torch.tensor([[10.0, 12, 15, 17]])}, {"boxes": torch.zeros(0, 4)}]
    losses = network(torch.rand(2, 3, 48, 64), targets)
    assert sorted(losses) == ["objectness", "rpn_box"]
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"expected targets in training mode, got None; call model.eval\(\)"):
        SliceProposals().train()(torch.rand(1, 3, 48, 64))
    with pytest.raises(ValueError, match=r"multiples of 8, got \(42, 60\); pad"):
        SliceProposals().eval()(torch.rand(1, 3, 42, 60))


def test_neighbours_stand_in_at_the_ends():
    stack = neighbours(torch.arange(5.0)[:, None, None], torch.tensor([0, 2, 4]))
    assert stack[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 2, 3], [3, 4, 4]]


def test_targets_are_the_circles_that_slices_cut(scan):
    voxels = world_to_voxel(scan.nodules.centers, **grid_of(scan))
    row = round(float(voxels[0, 0]))
    (target,) = slice_targets(scan, [row])
    middle = (target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2
    assert (middle - voxels[0].flip(0)[:2] - 0.5).norm(dim=1).min() < 1e-3
    everywhere = slice_targets(scan, range(24))
    assert sum(len(t["boxes"]) for t in everywhere) >= len(voxels)
    sides = torch.cat([t["boxes"] for t in everywhere])
    widest = (sides[:, 2] - sides[:, 0]).max() * scan.spacing[1]
    assert widest <= scan.nodules.diameters.max() + 1e-3


def test_marks_lie_in_the_volume_and_in_their_slice(scan):
    torch.manual_seed(0)
    marks = slice_marks(SliceProposals(score_threshold=0.0).eval(), scan.volume)
    assert (marks["voxels"] >= -8).all()
    assert set(marks["voxels"][:, 0].tolist()) == set(range(24))


def test_a_bright_ball_in_a_slice_moves_its_mark():
    """What is 8 pixels further right is found 8 pixels further right: x and y, slices and rows stay apart."""
    torch.manual_seed(0)
    network = SliceProposals(score_threshold=0.0).eval()
    best = []
    for x in (40, 48):
        volume = torch.full((5, 64, 96), -850.0)
        volume[2, 30:34, x : x + 4] = 30.0
        with torch.no_grad():
            logits = network.rpn(network.finer(network.backbone(neighbours(volume / 1400 + 0.5, torch.tensor([2])))))[0]
        best.append(logits.reshape(32, 48, 3))
    torch.testing.assert_close(best[0][8:24, 8:36], best[1][8:24, 12:40], atol=1e-4, rtol=1e-3)


def test_candidates_and_their_judgement(scan):
    torch.manual_seed(0)
    first = find_candidates(SliceProposals(score_threshold=0.0).eval(), scan, most=9)
    inside = world_to_voxel(first["centers"], **grid_of(scan)).clamp(min=0)
    assert (inside[:, 0] <= 23.5).all()
    assert len(first["scores"]) == 9
    assert (first["scores"].diff() <= 0).all()
    second = judge_candidates(NoduleJudge().eval(), scan, {"centers": scan.nodules.centers, "scores": torch.ones(1)})
    assert (second["scores"].diff() <= 0).all()
    assert sorted(second["centers"].tolist()) == sorted(scan.nodules.centers.tolist())
    nothing = {"centers": torch.zeros(0, 3), "scores": torch.zeros(0)}
    assert judge_candidates(NoduleJudge().eval(), scan, nothing)["scores"].shape == (0,)


@pytest.mark.parametrize("turned", [(), (2,), (2, 3, 4)])
def test_a_candidate_is_seen_as_it_is_and_turned_over(scan, turned):
    torch.manual_seed(0)
    judge, centers = NoduleJudge().eval(), scan.nodules.centers
    patches = cut_patches(scan, centers)
    with torch.no_grad():
        seen = [judge(patches), *(judge(patches.flip(axis)) for axis in turned)]
    expected = (sum(seen) / len(seen)).sigmoid().sort(descending=True).values
    assert (seen[0].sigmoid() > 0.1).all()  # those that look like a nodule at all
    found = judge_candidates(judge, scan, {"centers": centers, "scores": torch.ones(len(centers))}, turned=turned)
    torch.testing.assert_close(found["scores"], expected)


def test_a_hit_is_nearer_than_the_radius(scan):
    target = nodule_target(scan)
    step = torch.tensor([[0.0, 0.0, 1.0]]) * target["diameters"][:1] / 2
    assert hits_nodule(target["centers"][:1] + 0.99 * step, target).all()
    assert not hits_nodule(target["centers"][:1] + 1.01 * step, target).all()


def test_a_scan_without_a_spacing_is_refused(scan):
    class Bare:
        volume, spacing, origin = scan.volume, None, scan.origin

    with pytest.raises(ValueError, match=r"spacing must be three positive numbers z y x in mm, got None"):
        find_candidates(SliceProposals().eval(), Bare)


def test_the_judge_takes_the_cells_over_the_candidate():
    torch.manual_seed(0)
    judge, patch = NoduleJudge().eval(), torch.rand(2, 1, 16, 24, 24)
    cells = judge.layers(patch - 0.5)
    assert cells.shape == (2, 64, 4, 6, 6)
    torch.testing.assert_close(judge(patch), judge.last(cells[:, :, 1:3, 2:4, 2:4].flatten(2).amax(2))[:, 0])


def test_the_shipped_stages_reach_the_figures_of_their_card(recipe):
    """Of the 40 held-out scans the first six, measured as the recipe measures them; half a nodule is let pass."""
    card = json.loads((FOLDER / "nodules.json").read_text(encoding="utf-8"))
    assert (FOLDER / "nodules.safetensors").stat().st_size < 3 * 2**20
    reached = recipe("nodules").figures(nodule_stages(), lung_scans(6, seed=1))
    expected = card["first 6 scans"]
    assert reached["nodules"] == expected["nodules"]
    for name in ("CPM, stage 1", "CPM, stage 1+2", "CPM, stage 1+2, one look", "recall, 1"):
        assert reached[name][0] == pytest.approx(expected[name][0], abs=0.04), name


def test_the_recipe_is_the_cards(recipe):
    making, card = recipe("nodules"), json.loads((FOLDER / "nodules.json").read_text(encoding="utf-8"))
    assert (card["seed"], card["scans"], card["epochs"]) == (making.SEED, making.SCANS, making.EPOCHS)

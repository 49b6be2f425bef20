"""Notebook 15's network: what it gives, what it refuses, and what the shipped one reaches."""

import json

import pytest
import torch
import torch.nn.functional as F

from labkit.datasets.phantoms.torso import ORGANS, torso_scans
from labkit.detection import organs as subject
from labkit.detection.anchors_3d import anchor_grid_3d
from labkit.detection.boxes_3d import box_iou_3d, encode_boxes_3d
from labkit.detection.focal_loss import focal_loss
from labkit.detection.fusion import fuse_proposals
from labkit.detection.matching import match_iou
from labkit.detection.organs import OrganRPN, coarse_network, fused, locate_organs, organ_network
from labkit.weights import FOLDER

SMALL = ((10, 12, 8), (20, 16, 12))
SIZE = (16, 32, 48)
TARGET = {"boxes": torch.tensor([[4.0, 6, 2, 15, 18, 9], [22, 8, 1, 43, 25, 14]]), "labels": torch.tensor([2, 1])}


def network(**options):
    torch.manual_seed(0)
    return OrganRPN(3, sizes=SMALL, **options)


def volume(seed=0):
    return 100 * torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


def test_the_losses_are_those_of_its_anchors():
    model = network().train()
    losses = model([volume()], [TARGET])
    with torch.no_grad():
        logits, deltas, anchors = network().train().raw([volume()])
    assert anchors.equal(anchor_grid_3d((4, 8, 12), stride=4, sizes=SMALL))
    matches = match_iou(
        box_iou_3d(TARGET["boxes"], anchors), positive_iou=0.4, negative_iou=0.3, best_of_each_truth=True
    )
    labels = torch.tensor([0 if m == -1 else -1 if m == -2 else int(TARGET["labels"][m]) for m in matches])
    torch.testing.assert_close(losses["organ"], focal_loss(logits[0], labels, gamma=2.0))
    rows = (matches >= 0).nonzero()[:, 0]
    wanted = encode_boxes_3d(TARGET["boxes"][matches[rows]], anchors[rows])
    std = torch.tensor([0.15] * 3 + [0.3] * 3)
    off = F.smooth_l1_loss(deltas[0, rows] / std, wanted / std, beta=0.25, reduction="sum") / len(rows)
    torch.testing.assert_close(losses["box"], off)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_volume_without_organs_trains():
    none = {"boxes": torch.zeros(0, 6), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = network().train()([volume(), volume(1)], [none, TARGET])
    assert all(loss.isfinite() for loss in losses.values())
    assert network().train()([volume()], [none])["box"] == 0


def test_an_untrained_network_names_nothing():
    with torch.no_grad():
        probabilities = network().eval().raw([volume()])[0].softmax(dim=2)
    assert probabilities[..., 0].min() > 0.9
    answer = network().eval()([volume()])[0]
    assert [tuple(answer[key].shape) for key in ("boxes", "labels", "scores")] == [(0, 6), (0,), (0,)]


def test_a_cell_lies_where_its_features_lie():
    """A bright block moved by 16 voxels moves the logits by 4 cells along the same axis."""
    model = network().eval()
    places = [(32, 48, 64), (48, 48, 64), (32, 64, 64), (32, 48, 80)]
    volumes = torch.zeros(4, 160, 160, 192)
    for one, (z, y, x) in zip(volumes, places, strict=True):
        one[z : z + 6, y : y + 4, x : x + 5] = 800
    with torch.no_grad():
        maps = model.classes(model.backbone(subject._batch(volumes, 16)))
    here = maps[0, :, 4:14, 8:18, 12:22]
    for row, (dz, dy, dx) in enumerate(((4, 0, 0), (0, 4, 0), (0, 0, 4)), start=1):
        there = maps[row, :, 4 + dz : 14 + dz, 8 + dy : 18 + dy, 12 + dx : 22 + dx]
        torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-3)


def test_answers_are_the_fused_proposals_organ_by_organ():
    model = network(score_threshold=0.0).eval()
    proposals, answer = model.proposals([volume()])[0], model([volume()])[0]
    assert answer["labels"].tolist() == [1, 2]
    for row, label in enumerate((1, 2)):
        mine = proposals["labels"] == label
        box = fuse_proposals(proposals["boxes"][mine], proposals["scores"][mine], share=0.1)
        limits = torch.tensor([48.0, 32, 16] * 2)
        torch.testing.assert_close(answer["boxes"][row], box[0].clamp(min=0).minimum(limits))
        assert answer["scores"][row] == proposals["scores"][mine].max()


def test_none_proposed_is_none_answered():
    none = {"boxes": torch.zeros(0, 6), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert fused(none, SIZE, share=0.1)["boxes"].shape == (0, 6)


@pytest.mark.parametrize(
    ("volumes", "targets", "message"),
    [
        ([volume()], None, "expected targets in training mode, got None"),
        ([volume()[0]], [TARGET], r"volumes must be tensors \(Z, Y, X\) of one size, got \[\(32, 48\)\]"),
        ([volume(), volume()[:8]], [TARGET] * 2, "of one size"),
        ([], [], "got none"),
        ([volume()], [TARGET] * 2, "got 1 volumes and 2 targets"),
        ([volume() / 0], [TARGET], "must be finite"),
        ([volume()], [TARGET | {"boxes": TARGET["boxes"] + 9}], "are they of another volume, or in mm"),
        ([volume()], [TARGET | {"boxes": TARGET["boxes"] - 5}], "are they of another volume, or in mm"),
        ([volume()], [TARGET | {"boxes": TARGET["boxes"][:, [3, 4, 5, 0, 1, 2]]}], "must have x1 < x2"),
        ([volume()], [TARGET | {"labels": torch.tensor([2, 3])}], r"must lie in 1 to 2, got \[2, 3\]"),
        ([volume()[:6]], [TARGET], "10 x 12 x 8 as the smallest; give smaller sizes, or a larger volume"),
    ],
)
def test_bad_input_is_named(volumes, targets, message):
    with pytest.raises(ValueError, match=message):
        network().train()(volumes, targets)


@pytest.mark.parametrize("spacing", [(0.0, 3.0, 3.0), (4.0, 3.0), None, 3.0, (4.0, float("nan"), 3.0)])
def test_a_spacing_of_zero_or_none_is_refused(spacing):
    with pytest.raises(ValueError, match=r"spacing must be three positive numbers \(z, y, x\) in mm, got"):
        locate_organs(network(), volume(), spacing=spacing)


def test_a_spacing_that_makes_a_giant_is_refused():
    with pytest.raises(ValueError, match=r"is spacing \(400.0, 300.0, 300.0\) in mm"):
        locate_organs(network(), volume(), spacing=(400.0, 300.0, 300.0))


def test_a_scan_of_another_spacing_gets_boxes_in_its_own_voxels():
    model, seen = network(score_threshold=0.0), volume()
    fine = F.interpolate(seen[None, None], scale_factor=2, mode="nearest")[0, 0]
    own = locate_organs(model, seen, spacing=subject.SPACING)
    other = locate_organs(model, fine, spacing=[step / 2 for step in subject.SPACING])
    torch.testing.assert_close(own["boxes"], model([seen])[0]["boxes"])
    torch.testing.assert_close(other["boxes"] / 2, own["boxes"], atol=0.5, rtol=0)


def test_the_coarse_network_has_anchors_of_half_the_size():
    for whole, half in zip(subject.SIZES, coarse_network().sizes, strict=True):
        assert tuple(2 * side for side in half) == whole
    assert len(ORGANS) == subject.NUM_CLASSES


def test_the_shipped_network_reaches_the_figures_of_its_card(recipe):
    """On the first scans of those held out, measured as the recipe measures them."""
    card = json.loads((FOLDER / "organs.json").read_text(encoding="utf-8"))
    assert (FOLDER / "organs.safetensors").stat().st_size < 3 * 2**20
    reached = recipe("organs").figures(organ_network(), torso_scans(6, seed=1))
    for name, value in card["first 6 scans"].items():
        assert reached[name] == pytest.approx(value, abs=0.15 if "mm" in name else 0.02), name


def test_the_recipe_is_the_cards(recipe):
    making, card = recipe("organs"), json.loads((FOLDER / "organs.json").read_text(encoding="utf-8"))
    assert (card["seed"], card["scans"], card["epochs"]) == (making.SEED, making.SCANS, making.EPOCHS)
    assert len(card["two losses, half the resolution"]["focal"]) == making.COARSE_SEEDS

"""Parts of scans for a training: boxes go where their organs go."""

import torch
from scipy import ndimage

from labkit.datasets.fields import OrganFields, collate_fields, cut_at_random
from labkit.datasets.phantoms.torso import torso_scans

GRID = {"shape": (16, 24, 32), "spacing": (16.0, 12.0, 12.0)}


def scene():
    """A volume with two blocks of their own HU, and their boxes."""
    volume = torch.zeros(20, 24, 30)
    boxes = torch.tensor([[3.0, 5, 2, 11, 9, 12], [16, 12, 9, 27, 22, 19]])
    for number, (x1, y1, z1, x2, y2, z2) in enumerate(boxes.long().tolist(), start=1):
        volume[z1:z2, y1:y2, x1:x2] = number
    return volume, {"boxes": boxes, "labels": torch.tensor([1, 2])}


def around(volume):
    """label -> the box around its voxels."""
    found = ndimage.find_objects(volume.numpy().astype(int))
    return {
        label: [s.start for s in where[::-1]] + [s.stop for s in where[::-1]]
        for label, where in enumerate(found, start=1)
        if where is not None
    }


def test_boxes_go_with_their_organs():
    volume, target = scene()
    torch.manual_seed(0)
    lost = 0
    for _ in range(60):
        part, left = cut_at_random(volume, target, (13, 15, 18))
        assert part.shape == (13, 15, 18)
        there = around(part)
        for box, label in zip(left["boxes"].tolist(), left["labels"].tolist(), strict=True):
            assert there.pop(label) == box
        assert all(box[5] - box[2] < 1 + 0.05 * 20 for box in there.values())  # what is left is thin
        lost += 2 - len(left["labels"])
    assert lost


def test_a_batch_is_cut_alike_and_keeps_half_of_its_slices():
    torch.manual_seed(0)
    heights = set()
    for _ in range(20):
        volumes, targets = collate_fields([scene(), scene()])
        assert volumes[0].shape == volumes[1].shape
        assert all(len(t["boxes"]) == len(t["labels"]) for t in targets)
        heights.add(len(volumes[0]))
    assert heights == {10, 15, 20}


def test_without_margin_nothing_changes():
    scan = torso_scans(1, **GRID)[0]
    volume, target = OrganFields([scan])[0]
    assert volume.equal(scan.volume)  # half precision keeps whole HU up to 2048
    assert target["boxes"].equal(scan.boxes)


def test_a_margin_moves_and_shades_and_leaves_the_scan_as_it_was():
    fields = OrganFields(torso_scans(1, **GRID), margin=4)
    before = fields.scans[0][0].clone()
    torch.manual_seed(0)
    first, second = fields[0][0], fields[0][0]
    assert first.shape == (16, 20, 28)
    assert not first.equal(second)
    assert fields.scans[0][0].equal(before)

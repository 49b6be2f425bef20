"""Scores of organ boxes."""

import pytest
import torch

from labkit.detection.evaluation.organs import organ_errors, spoken_and_shown

BOX = torch.tensor([[2.0, 3, 4, 12, 9, 20]])


def answer(*rows):
    """Boxes, and labels, of pairs."""
    boxes = torch.cat([box for box, _ in rows]) if rows else torch.zeros(0, 6)
    return {"boxes": boxes, "labels": torch.tensor([label for _, label in rows], dtype=torch.int64)}


def test_each_organ_is_measured_against_the_box_of_its_name():
    truths = [answer((BOX, 2), (BOX + 30, 5)), answer((BOX + 7, 2))]
    moved = BOX + torch.tensor([1.0, 0, 0, 1, 0, 0])
    errors = organ_errors([answer((BOX + 30, 5), (moved, 2)), answer()], truths, spacing=(4.0, 3.0, 2.0))
    assert errors.scans.tolist() == [0, 0, 1]
    assert errors.labels.tolist() == [2, 5, 2]
    torch.testing.assert_close(errors.ious, torch.tensor([9 / 11, 1.0, 0.0]))
    torch.testing.assert_close(errors.walls[:2], torch.tensor([2 * 2.0 / 6, 0.0]))  # two walls by one voxel of 2 mm
    torch.testing.assert_close(errors.centroids[:2], torch.tensor([2.0, 0.0]))
    assert errors.walls[2].isnan()
    assert errors.centroids[2].isnan()


def test_an_answer_without_overlap_has_distances():
    errors = organ_errors([answer((BOX + 40, 1))], [answer((BOX, 1))], spacing=(1.0, 1.0, 1.0))
    assert errors.ious.item() == 0
    assert errors.walls.item() == 40


def test_an_organ_that_no_scan_shows_is_refused():
    errors = organ_errors([answer()], [answer((BOX, 3))], spacing=(4, 3, 3))
    assert errors.of(3).ious.tolist() == [0]
    with pytest.raises(ValueError, match=r"must be an organ that a scan shows, one of \[3\], got 4; add scans with it"):
        errors.of(4)


@pytest.mark.parametrize("spacing", [(0, 3, 3), None, 3.0, (4, 3)])
def test_a_spacing_of_zero_or_none_is_refused(spacing):
    with pytest.raises(ValueError, match=r"spacing must be three positive numbers"):
        organ_errors([answer((BOX, 1))], [answer((BOX, 1))], spacing=spacing)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="one dict a scan, got 1 and 2; pair them"):
        organ_errors([answer()], [answer()] * 2, spacing=(4, 3, 3))
    with pytest.raises(ValueError, match=r"one box an organ, got \[1, 1\]; fuse the proposals"):
        organ_errors([answer((BOX, 1), (BOX, 1))], [answer((BOX, 1))], spacing=(4, 3, 3))


def test_no_scans_are_no_rows():
    assert len(organ_errors([], [], spacing=(4, 3, 3)).ious) == 0


def test_who_is_named_and_who_is_there():
    spoken, shown = spoken_and_shown([answer((BOX, 1)), answer()], [answer((BOX, 2)), answer((BOX, 1))], num_classes=3)
    assert spoken.tolist() == [[False, True, False], [False, False, False]]
    assert shown.tolist() == [[False, False, True], [False, True, False]]

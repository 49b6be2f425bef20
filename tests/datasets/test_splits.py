"""Splits: no patient in two parts, every image in one."""

import numpy as np
import pytest
import torch

from labkit.datasets.splits import chosen_rows, split_by_patient


def test_a_patient_stays_together():
    patients = torch.tensor([4, 9, 4, 2, 9, 7, 2, 7, 5, 5])
    parts = split_by_patient(patients, (0.4, 0.4, 0.2))
    persons = [set(patients[part].tolist()) for part in parts]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert set.union(*persons) == {2, 4, 5, 7, 9}
    assert sum(map(len, persons)) == 5
    assert torch.cat(parts).sort().values.tolist() == list(range(10))


def test_the_seed_decides():
    patients = torch.arange(50)
    same = [split_by_patient(patients, (0.5, 0.5), seed=3)[0] for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], split_by_patient(patients, (0.5, 0.5), seed=4)[0])


@pytest.mark.parametrize(
    ("patients", "fractions"),
    [([], (0.8, 0.2)), ([5, 5], (0.5, 0.5)), ([0, 1, 2], (0.9, 0.1)), ([1, 2], (0.4, 0.3, 0.3))],
)
def test_an_empty_part_is_refused(patients, fractions):
    with pytest.raises(ValueError, match=r"each part needs a patient, got .* take more images, or fewer"):
        split_by_patient(torch.tensor(patients, dtype=torch.int64), fractions)


def test_whole_numbers_of_any_library_are_seeds():
    patients = torch.arange(9)
    assert torch.equal(*(split_by_patient(patients, (0.5, 0.5), seed=seed)[0] for seed in (3, np.int64(3))))
    for same in (patients.numpy(), patients.tolist()):
        assert torch.equal(split_by_patient(same, (0.5, 0.5))[1], split_by_patient(patients, (0.5, 0.5))[1])
    with pytest.raises(ValueError, match=r"seed must be a whole number of at least 0, got 0.5"):
        split_by_patient(patients, (0.5, 0.5), seed=0.5)


@pytest.mark.parametrize(
    ("choice", "rows"),
    [
        (torch.tensor([True, False, True]), [0, 2]),
        (np.array([False, True, True]), [1, 2]),
        ([True, True, False], [0, 1]),
        ([2, 0, 2], [2, 0, 2]),
        (range(1, 3), [1, 2]),
        (np.array([-1, 1]), [2, 1]),
        (torch.zeros(3, dtype=torch.bool), []),
        ([], []),
    ],
)
def test_a_mask_selects_and_numbers_are_rows(choice, rows):
    assert chosen_rows(choice, 3) == rows


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (torch.tensor([True, False]), "one bool for each of the 3 rows, got 2"),
        ([0, 3], "must lie in 0 to 2"),
        ([-4], "must lie in 0 to 2"),
        ([0.0, 1.0], "whole numbers or a mask"),
        (torch.tensor([1, 0, 1], dtype=torch.uint8), r"write .long\(\) or .bool\(\)"),
        (torch.tensor(1), r"a mask of shape \(3,\), got shape \(\)"),
        (torch.ones(3, 1, dtype=torch.bool), r"got shape \(3, 1\)"),
    ],
)
def test_other_choices_are_refused(choice, words):
    with pytest.raises(ValueError, match=words):
        chosen_rows(choice, 3)


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.8, 0.3), (1.2, -0.2), (float("nan"), 0.5)])
def test_wrong_fractions(fractions):
    with pytest.raises(ValueError, match="fractions must be positive and add up to 1"):
        split_by_patient(torch.arange(4), fractions)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"patients must have shape \(n,\), got \(2, 2\)"):
        split_by_patient(torch.zeros(2, 2), (0.5, 0.5))

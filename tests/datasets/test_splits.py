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


@pytest.mark.parametrize("patients", [[1.5, 2.0], [float("nan"), float("nan"), 1.0], [float("inf"), 1.0]])
def test_patients_are_whole_numbers(patients):
    """Each nan would be a patient of its own, and the films of one woman would fall into both parts."""
    with pytest.raises(ValueError, match=r"patients must be whole numbers, got \[.*; one number an image"):
        split_by_patient(patients, (0.5, 0.5))


@pytest.mark.parametrize("patients", [["ann", "bea"], [None, 1], None, [True, False], np.zeros((2, 2)), 3])
def test_what_is_no_list_of_patients_is_refused_with_a_cure(patients):
    with pytest.raises(ValueError, match=r"for names write numpy.unique\(names, return_inverse=True\)\[1\]"):
        split_by_patient(patients, (0.5, 0.5))


def test_the_cure_for_names_works():
    names = ["bea", "ann", "bea", "cleo", "ann", "dora"]
    train, test = split_by_patient(np.unique(names, return_inverse=True)[1], (0.5, 0.5))
    assert not {names[row] for row in train} & {names[row] for row in test}
    assert len(train) + len(test) == 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float64])
def test_patients_of_any_number_type(dtype):
    patients = [7, 7, 3, 3, 5, 5]
    expected = split_by_patient(patients, (2 / 3, 1 / 3))
    assert all(map(torch.equal, split_by_patient(np.array(patients, dtype), (2 / 3, 1 / 3)), expected))


@pytest.mark.parametrize("fractions", [0.5, None, "ab", [(0.5, 0.5)], (0.5, None)])
def test_what_are_no_fractions_is_refused(fractions):
    with pytest.raises(ValueError, match=r"fractions must be positive and add up to 1, got .*; write \(0.8, 0.2\)"):
        split_by_patient([1, 2], fractions)


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


@pytest.mark.parametrize(
    "mask",
    [
        [True, False, True],
        (True, False, True),
        [np.True_, np.False_, np.True_],
        np.array([True, False, True]),
        torch.tensor([True, False, True]),
    ],
)
def test_a_mask_of_any_library_selects(mask):
    assert chosen_rows(mask, 3) == [0, 2]


@pytest.mark.parametrize(
    "numbers",
    [
        [2, 0, 2, -3],
        (2, 0, -1, 0),
        [np.int64(2), 0, 2, 0],
        [torch.tensor(2), torch.tensor(0), torch.tensor(-1), torch.tensor(0)],
        np.array([2, 0, 2, 0], np.uint16),
        np.array([2, 0, 2, 0], np.uint32),
        np.array([2, 0, 2, 0], np.uint64),
        np.array([2, 0, -1, -3], np.int8),
    ],
)
def test_numbers_of_any_library_select_and_may_repeat_and_count_from_the_end(numbers):
    assert chosen_rows(numbers, 3) == [2, 0, 2, 0]


def test_no_rows_and_a_range():
    assert chosen_rows([], 3) == chosen_rows(range(0), 3) == chosen_rows([], 0) == []
    assert chosen_rows(range(1, 3), 3) == [1, 2]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ([True, 2], "got some of each; write a mask or a list of numbers"),  # was rows 1 and 2
        ([0, False], "got some of each"),
        ("01", "got str; write a list, such as"),
        (["0", "1"], r"got \['0', '1'\]; write a list"),
        ({0, 1}, "got set; write a list"),
        (None, "got NoneType; write a list"),
        ([None], r"got \[None\]"),
        (3, r"got shape \(\); write a list, \[3\] for one row"),
        ([[True], [False], [True]], r"got shape \(3, 1\); write a list"),
        ([0.0, 1.0], "got torch.float64; write .long"),
        ([float("nan")], "got torch.float64"),
        ([3], r"got 3 to 3; rows count from 0"),
        ([-4], r"got -4 to -4; rows count from 0"),
        ([2**63], "expected|must lie"),
        (np.array([1, 0], np.uint8), r"got torch.uint8; write .long\(\) or .bool\(\)"),
    ],
)
def test_what_selects_nothing_certain_is_refused(choice, told):
    with pytest.raises(ValueError, match=told):
        chosen_rows(choice, 3)

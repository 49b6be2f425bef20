"""Splits: no patient in two parts, every image in one."""

import pytest
import torch

from labkit.datasets.splits import split_by_patient


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


def test_nothing_to_split():
    assert [len(part) for part in split_by_patient(torch.zeros(0, dtype=torch.int64), (0.8, 0.2))] == [0, 0]


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.8, 0.3), (1.2, -0.2)])
def test_wrong_fractions(fractions):
    with pytest.raises(ValueError, match="fractions must be positive and add up to 1"):
        split_by_patient(torch.arange(4), fractions)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"patients must have shape \(n,\), got \(2, 2\)"):
        split_by_patient(torch.zeros(2, 2), (0.5, 0.5))

"""Splits: training and test sets that share no patient.

Two films of one woman look alike; a network that has seen the left breast has half seen the right one. A
split by film lets that leak into the test score, so every split here is by patient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def split_by_patient(patients: Tensor, fractions: Sequence[float], *, seed: int = 0) -> list[Tensor]:
    """Indices of each part; all images of a patient fall into the same part.

    Args:
        patients: (n,) int64, the patient of each image.
        fractions: share of the patients for each part; together 1.
        seed: the same seed gives the same split on every machine.

    Returns:
        One (m,) int64 tensor of ascending indices a part; together they hold every index once.

    Raises:
        ValueError: the shape of `patients` or the fractions are wrong.

    Example:
        >>> train, test = split_by_patient(torch.tensor([7, 7, 3, 3, 5, 5]), (2 / 3, 1 / 3))
        >>> len(train), len(test)
        (4, 2)
    """
    if patients.ndim != 1:
        raise ValueError(f"patients must have shape (n,), got {tuple(patients.shape)}; one number an image")
    if min(fractions, default=0) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and add up to 1, got {tuple(fractions)}; write (0.8, 0.2)")
    persons, person_of_image = patients.unique(return_inverse=True)
    order = torch.randperm(len(persons), generator=torch.Generator().manual_seed(seed))
    ends = (torch.tensor(fractions, dtype=torch.float64).cumsum(0) * len(persons)).round().long()
    part_of_person = torch.empty_like(order)
    part_of_person[order] = torch.searchsorted(ends, torch.arange(len(persons)), right=True)
    return [(part_of_person[person_of_image] == part).nonzero()[:, 0] for part in range(len(fractions))]

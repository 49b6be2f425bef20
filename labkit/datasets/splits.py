"""Splits and choices: parts of a data set that share no patient, and the rows that a mask or a list picks.

Two films of one woman look alike; a network that has seen the left breast has half seen the right one. A
split by film lets that leak into the test score, so every split here is by patient.
"""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from labkit.datasets.arguments import whole_number

Target = dict[str, Tensor]
Choice = Sequence[int] | Sequence[bool] | ndarray | Tensor  # row numbers, or one yes or no a row


def split_by_patient(
    patients: Sequence[int] | ndarray | Tensor, fractions: Sequence[float], *, seed: int = 0
) -> list[Tensor]:
    """Indices of each part; all images of a patient fall into the same part.

    Args:
        patients: (n,) whole numbers, the patient of each image.
        fractions: share of the patients for each part; together 1.
        seed: the same seed gives the same split on every machine.

    Returns:
        One (m,) int64 tensor of ascending indices a part; together they hold every index once.

    Raises:
        ValueError: the shape of `patients` or the fractions are wrong, or a part would be empty.

    Example:
        >>> train, test = split_by_patient(torch.tensor([7, 7, 3, 3, 5, 5]), (2 / 3, 1 / 3))
        >>> len(train), len(test)
        (4, 2)
    """
    patients = _patient_numbers(patients)
    try:
        shares = [float(share) for share in fractions]
    except (TypeError, ValueError):
        raise ValueError(f"fractions must be positive and add up to 1, got {fractions!r}; write (0.8, 0.2)") from None
    if not (min(shares, default=0) > 0 and abs(sum(shares) - 1) <= 1e-6):  # so that nan is refused too
        raise ValueError(f"fractions must be positive and add up to 1, got {tuple(shares)}; write (0.8, 0.2)")
    seed = whole_number(seed, "seed", least=0, cure="take 0 or more")
    persons, person_of_image = patients.unique(return_inverse=True)
    order = torch.randperm(len(persons), generator=torch.Generator().manual_seed(seed))
    ends = (torch.tensor(shares, dtype=torch.float64).cumsum(0) * len(persons)).round().long()
    part_of_person = torch.empty_like(order)
    part_of_person[order] = torch.searchsorted(ends, torch.arange(len(persons)), right=True)
    parts = [(part_of_person[person_of_image] == part).nonzero()[:, 0] for part in range(len(shares))]
    if not all(len(part) for part in parts):
        raise ValueError(
            f"each part needs a patient, got {[len(part) for part in parts]} images of {len(persons)} patients "
            f"in the parts {tuple(shares)}; take more images, or fewer and larger parts"
        )
    return parts


def _patient_numbers(patients: Sequence[int] | ndarray | Tensor) -> Tensor:
    """(n,) int64, one an image; a nan would be another patient each time."""
    cure = "one number an image; for names write numpy.unique(names, return_inverse=True)[1]"
    try:
        numbers = patients.cpu() if isinstance(patients, Tensor) else torch.tensor(np.asarray(patients))
    except (TypeError, ValueError):
        raise ValueError(f"patients must be whole numbers (n,), got {str(patients)[:60]}; {cure}") from None
    if numbers.ndim != 1 or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"patients must have shape (n,), got {tuple(numbers.shape)} of {numbers.dtype}; {cure}")
    broken = numbers[(numbers != numbers.round()) | numbers.isinf()] if numbers.is_floating_point() else numbers[:0]
    if len(broken):
        raise ValueError(f"patients must be whole numbers, got {broken[:3].tolist()}; {cure}")
    return numbers.long()


def chosen_rows(choice: Choice, count: int) -> list[int]:
    """Row numbers, counted from 0, that a mask or a list selects from `count` rows, in the order given.

    Args:
        choice: row numbers (negative ones count from the end), or a mask: one bool a row.
        count: how many rows there are.

    Raises:
        ValueError: a mask of another length, a number that is no row, or neither form.

    Example:
        >>> chosen_rows(torch.tensor([5, 5, 9]) == 5, 3), chosen_rows([2, -3], 3)
        ([0, 1], [2, 0])
    """
    rows = _as_rows(choice)
    if rows.ndim != 1:
        raise ValueError(
            f"expected row numbers or a mask of shape ({count},), got shape {tuple(rows.shape)}; write a list, [3] for "
            "one row, or [:, 0] of a mask (n, 1)"
        )
    if rows.dtype == torch.bool:
        if len(rows) != count:
            raise ValueError(
                f"a mask must have one bool for each of the {count} rows, got {len(rows)}; compute it from this data "
                "set, not from the one it was taken from"
            )
        return [int(row) for row in rows.nonzero()[:, 0].tolist()]
    if not len(rows):
        return []
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.uint8:  # uint8 was once a mask
        raise ValueError(f"expected whole numbers or a mask of bool, got {rows.dtype}; write .long() or .bool()")
    rows = rows.long()  # torch compares no unsigned numbers of 16 bits or more
    if int(rows.min()) < -count or int(rows.max()) >= count:
        raise ValueError(
            f"row numbers must lie in 0 to {count - 1} (or -{count} to -1), got {int(rows.min())} to "
            f"{int(rows.max())}; rows count from 0, in this data set"
        )
    return [int(row) for row in (rows % count).tolist()]


def _as_rows(choice: Choice) -> Tensor:
    """The choice as a tensor on the CPU.

    Raises:
        ValueError: it holds something else than numbers or bools, or both.
    """
    if isinstance(choice, Tensor):
        return choice.cpu()
    if isinstance(choice, list | tuple) and len({isinstance(one, bool | np.bool_) for one in choice}) == 2:
        raise ValueError("expected row numbers or a mask of bool, got some of each; write a mask or a list of numbers")
    try:
        return torch.tensor(np.asarray(choice))
    except (TypeError, ValueError, OverflowError) as error:
        got = f"{type(choice).__name__}" if not isinstance(choice, list | tuple) else f"{list(choice)[:3]}"
        raise ValueError(f"expected row numbers or a mask of bool, got {got}; write a list, such as [0, 2]") from error


def one_row(index: int) -> int:
    """The index of `dataset[index]` as an int.

    Raises:
        TypeError: it is a slice, a list or a mask; the message says how to write that.
    """
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(
            f"dataset[i] takes one row number, got {type(index).__name__}; for several rows write dataset.subset(...)"
        ) from None


def clone_target(target: Target) -> Target:
    """A copy of the target: who changes it in place does not change the data set."""
    return {name: value.clone() for name, value in target.items()}

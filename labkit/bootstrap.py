"""Bootstrap: how far a figure would move with other images, or other patients (Efron 1979).

The two films of a patient are alike, so patients are drawn, not films, wherever patients are known. Taught in
notebook 04.
"""

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor


def group_rows(groups: Sequence[int] | None, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Names of the groups, sorted, and the rows of each.

    Args:
        groups: (count,) integer of each image; None makes each image a group of its own.
        count: number of images.

    Returns:
        names (G,) and a list of G arrays of rows.

    Raises:
        ValueError: groups has another length.

    Example:
        >>> names, rows = group_rows([7, 3, 7], 3)
        >>> names.tolist(), [r.tolist() for r in rows]
        ([3, 7], [[1], [0, 2]])
    """
    names = np.arange(count) if groups is None else np.asarray(groups)
    if names.shape != (count,):
        raise ValueError(f"groups must have shape {(count,)}, got {names.shape}; give one for each image")
    names, inverse = np.unique(names, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return names, np.split(order, np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1])


def bootstrap_interval(
    statistic: Callable[..., float | np.ndarray],
    *data: Sequence | np.ndarray | Tensor,
    groups: Sequence[int] | None = None,
    samples: int = 1000,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Percentile bootstrap interval of a statistic over images, or over patients.

    Give what is cheap to recompute: `froc_marks`, `match_images` and `image_scores` do the slow part once.

    Args:
        statistic: takes `data`, resampled, and returns a number or an array of fixed shape.
        data: lists, arrays or tensors with one row an image.
        groups: (n,) integer of each image, its patient say; whole groups are drawn. None draws images.
        samples: resamples with replacement.
        confidence: share of the resamples inside the interval.
        generator: of the draws, on the CPU.

    Returns:
        low, high: floats for a number, arrays for an array. Resamples where the statistic is nan (an AUC
        without a positive) are left out; nan if all are.

    Raises:
        ValueError: there is no data, lengths differ, or an option is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> low, high = bootstrap_interval(np.mean, np.arange(100.0), generator=generator)
        >>> 43 < low < 45 and 54 < high < 56
        True
    """
    if len({len(values) for values in data}) != 1 or len(data[0]) == 0:
        raise ValueError(
            f"data must have one row an image, got lengths {[len(rows) for rows in data]}; give at least one"
        )
    if not isinstance(samples, Integral) or samples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"whole samples >= 1 and 0 < confidence < 1 must hold, got {samples} and {confidence}; use 1000, 0.95"
        )
    _, members = group_rows(groups, len(data[0]))
    draws = torch.randint(len(members), (samples, len(members)), generator=generator).numpy()
    resamples = (np.concatenate([members[group] for group in draw]) for draw in draws)
    values = np.array([statistic(*(_take(rows, index) for rows in data)) for index in resamples], dtype=float)
    known = values[~np.isnan(values).reshape(samples, -1).any(axis=1)]
    known = known if len(known) else values  # all nan: the quantiles are nan too
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return (float(low), float(high)) if values.ndim == 1 else (low, high)


def _take(rows: Sequence | np.ndarray | Tensor, index: np.ndarray) -> Sequence | np.ndarray | Tensor:
    return rows[index] if isinstance(rows, np.ndarray | Tensor) else [rows[i] for i in index.tolist()]

"""Scores of organ boxes: overlap and millimetres for each organ that is there, and who speaks where none is.

Answers  one dict a scan: `boxes` (N, 6) and `labels` (N,), at most one box an organ.
Targets  the same of the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.detection.boxes_3d import box_iou_3d, centroid_distance, wall_distance

Target = dict[str, Tensor]


@dataclass(frozen=True)
class OrganErrors:
    """One row for each organ that a scan shows, T of them."""

    scans: Tensor  # (T,) int64, the row of the scan
    labels: Tensor  # (T,) int64
    ious: Tensor  # (T,) float32, 0 where the organ was missed
    walls: Tensor  # (T,) float32 mm, NaN where it was missed
    centroids: Tensor  # (T,) float32 mm, NaN where it was missed

    def of(self, label: int) -> "OrganErrors":
        """The rows of one organ.

        Raises:
            ValueError: no scan shows it.

        Example:
            >>> there = [{"boxes": torch.tensor([[0.0, 0, 0, 4, 2, 3]]), "labels": torch.tensor([4])}]
            >>> organ_errors(there, there, spacing=(4.0, 3.0, 3.0)).of(4).ious
            tensor([1.])
        """
        rows = self.labels == label
        if not rows.any():
            seen = sorted(set(self.labels.tolist()))
            raise ValueError(f"label must be an organ that a scan shows, one of {seen}, got {label}; add scans with it")
        return OrganErrors(*(value[rows] for value in vars(self).values()))


def organ_errors(answers: Sequence[Target], targets: Sequence[Target], *, spacing: Sequence[float]) -> OrganErrors:
    """How far each organ's box is from the truth. Used in notebook 15.

    Args:
        answers, targets: one dict a scan, in the same order.
        spacing: (z, y, x) mm, the same for all.

    Raises:
        ValueError: the lists differ in length, an organ is answered twice, or the spacing is not three positive
            numbers.

    Example:
        >>> truth = {"boxes": torch.tensor([[0.0, 0, 0, 4, 2, 3]]), "labels": torch.tensor([4])}
        >>> organ_errors([{"boxes": truth["boxes"] + 1, "labels": truth["labels"]}], [truth], spacing=(6, 3, 3)).walls
        tensor([4.])
    """
    if len(answers) != len(targets):
        got = f"{len(answers)} and {len(targets)}"
        raise ValueError(f"answers and targets must be one dict a scan, got {got}; pair them")
    rows = [_of_scan(*pair, spacing) for pair in zip(answers, targets, strict=True)]
    scans = [torch.full_like(truth["labels"], row) for row, truth in enumerate(targets)]
    labels = [truth["labels"] for truth in targets]
    values = torch.cat(rows) if rows else torch.zeros(0, 3)
    joined = (torch.cat(part).cpu() if part else torch.zeros(0, dtype=torch.int64) for part in (scans, labels))
    return OrganErrors(*joined, *values.cpu().T)


def _of_scan(answer: Target, truth: Target, spacing: Sequence[float]) -> Tensor:
    """(N, 3) IoU, wall and centroid distance of each organ of the truth."""
    same = truth["labels"][:, None] == answer["labels"]  # (N, M)
    if (same.sum(dim=1) > 1).any():
        raise ValueError(f"answers must have one box an organ, got {answer['labels'].tolist()}; fuse the proposals")
    found, row = same.any(dim=1), same.long().argmax(dim=1) if same.shape[1] else truth["labels"] * 0
    values = truth["boxes"].new_full((len(same), 3), torch.nan)
    values[:, 0] = 0
    wanted, given = truth["boxes"][found], answer["boxes"][row[found]] if same.shape[1] else truth["boxes"][:0]
    values[found, 0] = box_iou_3d(wanted, given).diagonal()
    values[found, 1] = wall_distance(wanted, given, spacing=spacing)
    values[found, 2] = centroid_distance(wanted, given, spacing=spacing)
    return values


def spoken_and_shown(
    answers: Sequence[Target], targets: Sequence[Target], *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """(n, num_classes) bool each: which organs an answer names, and which its scan shows; column 0 is empty.

    Example:
        >>> spoken, shown = spoken_and_shown(
        ...     [{"labels": torch.tensor([2])}], [{"labels": torch.tensor([1])}], num_classes=3
        ... )
        >>> (spoken & ~shown).tolist()
        [[False, False, True]]
    """
    tables = []
    for rows in (answers, targets):
        table = torch.zeros(len(rows), num_classes, dtype=torch.bool)
        for row, one in zip(table, rows, strict=True):
            row[one["labels"].cpu()] = True
        tables.append(table)
    return tables[0], tables[1]

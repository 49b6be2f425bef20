"""Image AUC: does the detector rank images with a lesion above images without?

n images, or groups of images: the views of a breast, the films of a patient. Taught in notebook 04.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from labkit.bootstrap import group_rows
from labkit.detection.evaluation.records import Record, check_records


class ImageScores(NamedTuple):
    """One row an image, or a group of images."""

    scores: np.ndarray  # (n,) best score of the image, mean over the images of a group
    positive: np.ndarray  # (n,) bool, some truth is there
    groups: np.ndarray  # (n,) which image, or which group


def image_scores(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    label: int | None = None,
    groups: Sequence[int] | None = None,
) -> ImageScores:
    """How suspicious each image is, and whether it should be.

    An image scores its best detection, and 0 without any: it is read as normal and stays in the count. With
    `groups`, the views of one breast say, a group scores the mean over its images (Ribli et al. 2018) and is
    positive if one of them is.

    Args:
        detections: one dict an image with `scores` (and `labels`, with `label`).
        targets: one dict an image with `labels`, of which 0 is background; `excluded` (T,) is optional.
        label: class whose detections and truths count. None takes all.
        groups: (n,) integer of each image.

    Returns:
        scores, positive and groups, one row an image or a group.

    Raises:
        ValueError: a score is negative, or a list, a key, a shape or a value is wrong; the message names the
            image.

    Example:
        >>> import torch
        >>> detections = [{"scores": torch.tensor([0.25, 0.75])}, {"scores": torch.zeros(0)}]
        >>> targets = [{"labels": torch.tensor([1])}, {"labels": torch.zeros(0, dtype=torch.long)}]
        >>> image_scores(detections, targets, groups=[7, 7])
        ImageScores(scores=array([0.375]), positive=array([ True]), groups=array([7]))
    """
    needed = ["scores"] if label is None else ["scores", "labels"]
    detections, targets = check_records(detections, targets, detection_keys=needed, target_keys=["labels"])
    if label is not None:
        detections = [{"scores": record["scores"][record["labels"] == label]} for record in detections]
    lowest = min((record["scores"].min().item() for record in detections if len(record["scores"])), default=0)
    if lowest < 0:
        raise ValueError(f"scores must not be negative, got {lowest}; no detection scores 0, so use probabilities")
    scores = np.array([max(record["scores"].tolist(), default=0.0) for record in detections])
    positive = np.array([_has_truth(target, label) for target in targets], dtype=bool)
    if groups is None:
        return ImageScores(scores, positive, np.arange(len(scores)))
    names, members = group_rows(groups, len(scores))
    return ImageScores(
        np.array([scores[rows].mean() for rows in members]),
        np.array([positive[rows].any() for rows in members]),
        names,
    )


def _has_truth(target: Record, label: int | None) -> bool:
    counts = target["labels"] != 0 if label is None else target["labels"] == label  # 0 is background
    if "excluded" in target:
        counts = counts & ~target["excluded"]
    return bool(counts.any())


def roc_auc(scores: np.ndarray | Tensor, positive: np.ndarray | Tensor) -> float:
    """Chance that a positive scores higher than a negative, ties counting half (Hanley and McNeil 1982).

    Args:
        scores: (n,) higher is more suspicious.
        positive: (n,) bool, or 0 and 1.

    Returns:
        0 to 1; nan where there are only positives or only negatives, since there is no pair to compare.

    Raises:
        ValueError: a shape is wrong, a score is nan, or positive holds something else.

    Example:
        >>> roc_auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
        0.875
    """
    from sklearn.metrics import roc_auc_score  # here, so that whoever needs no AUC does not wait for it

    scores, truth = (_array(values) for values in (scores, positive))
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise ValueError(f"scores and positive must both be (n,), got {scores.shape} and {truth.shape}; pair them")
    scores = scores.astype(float)
    if np.isnan(scores).any():
        raise ValueError("scores must not be nan, got some; look for a division by zero, or drop those images")
    if truth.dtype != bool:
        if truth.dtype.kind not in "iuf" or not np.isin(truth, (0, 1)).all():
            got = np.unique(truth)[:4].tolist()
            raise ValueError(f"positive must be bool, or 0 and 1, got {got}; write labels == 2 for a positive class 2")
        truth = truth.astype(bool)
    if truth.all() or not truth.any():
        return float("nan")
    _, ranks = np.unique(scores, return_inverse=True)  # an infinite score is a rank like any other
    return float(roc_auc_score(truth, ranks))


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def image_auc(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    label: int | None = None,
    groups: Sequence[int] | None = None,
) -> float:
    """Area under the ROC curve of images, or of groups of images, by their best detection.

    Args:
        detections: one dict an image with `scores` (and `labels`, with `label`).
        targets: one dict an image with `labels`; `excluded` (T,) is optional.
        label: class whose detections and truths count (Ribli et al.: malignant only). None takes all.
        groups: (n,) integer of each image, its breast say; a group scores the mean of its images.

    Returns:
        0 to 1; nan where all images are positive or all negative.

    Raises:
        ValueError: as `image_scores`.

    Example:
        >>> import torch
        >>> detections = [{"scores": torch.tensor([0.8])}, {"scores": torch.zeros(0)}]
        >>> targets = [{"labels": torch.tensor([1])}, {"labels": torch.zeros(0, dtype=torch.long)}]
        >>> image_auc(detections, targets)
        1.0
    """
    found = image_scores(detections, targets, label=label, groups=groups)
    return roc_auc(found.scores, found.positive)

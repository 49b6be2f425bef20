"""FROC: lesions found against false alarms an image (Bunch et al. 1977; LUNA16: Setio et al. 2017).

A *hit rule* says which marks are on which truths: `rule(detection, target) -> (D, T) bool`, from the two
dicts of one image. What follows from the hits is the same for every rule:

- a truth hit by several marks is found once, with the best score among them; the other marks on it count for
nothing,
- a truth that no mark hits is missed and stays in the denominator,
- a mark that hits nothing is a false positive; a mark on an excluded finding (`target["excluded"]`) counts
for nothing,
- every image is in the denominator, with or without detections, with or without lesions.

D marks and T truths of one image; d is 2 or 3 dimensions. Taught in notebook 04.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from labkit.detection.evaluation.records import KEYS, Record, check_records

HitRule = Callable[[Record, Record], Tensor]

CPM_FALSE_POSITIVES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # LUNA16's operating points, false positives an image


class FrocMarks(NamedTuple):
    """What one image adds to the curve."""

    lesions: np.ndarray  # (T,) score each lesion is found with, -inf for a missed one
    false_positives: np.ndarray  # (F,) scores of the marks that hit nothing


class FrocCurve(NamedTuple):
    """One point for each distinct score, the strictest threshold first; before them all stands (0, 0)."""

    false_positives: np.ndarray  # (K,) an image
    sensitivity: np.ndarray  # (K,) lesions found / all lesions, nan where there are no lesions at all
    thresholds: np.ndarray  # (K,) score from which a mark counts, inf at the first point
    lesions: int
    images: int


def hit_iou(threshold: float) -> HitRule:
    """A rule: the IoU of the two boxes is at least the threshold; 0.1 or 0.2 is usual for lesions.

    Example:
        >>> mark, truth = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[0.0, 0.0, 4.0, 8.0]])
        >>> hit_iou(0.5)({"boxes": mark}, {"boxes": truth})
        tensor([[True]])
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}; mammography uses 0.1")
    return lambda detection, target: box_iou(_need(detection, "boxes"), _need(target, "boxes")) >= threshold


def hit_center_in_box() -> HitRule:
    """A rule: the mark's centre lies in the truth's box, right and lower edge excluded (Ribli et al. 2018).

    Example:
        >>> mark, truth = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[0.0, 0.0, 4.0, 8.0]])
        >>> hit_center_in_box()({"boxes": mark}, {"boxes": truth})
        tensor([[True]])
    """

    def rule(detection: Record, target: Record) -> Tensor:
        centers, boxes = _centers(detection)[:, None], _need(target, "boxes")  # (D, 1, 2), (T, 4)
        return ((centers >= boxes[:, :2]) & (centers < boxes[:, 2:])).all(dim=-1)  # (D, T)

    return rule


def hit_center_distance(limit: float | None = None) -> HitRule:
    """A rule: the centres are closer than the limit, or than the truth's own radius (LUNA16), in 2-D or 3-D.

    Args:
        limit: in the centres' unit; None takes half of `target["diameters"]`, truth by truth.

    Returns:
        The rule. It reads `centers` (N, d) where a dict has them and the centres of `boxes` elsewhere.

    Example:
        >>> mark, truth = torch.tensor([[0.0, 0.0, 3.0]]), torch.zeros(1, 3)
        >>> hit_center_distance()({"centers": mark}, {"centers": truth, "diameters": torch.tensor([8.0])})
        tensor([[True]])
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}; None takes each truth's own radius")

    def rule(detection: Record, target: Record) -> Tensor:
        radius = _need(target, "diameters") / 2 if limit is None else limit
        marks, truths = _centers(detection), _centers(target)
        if marks.shape[1] != truths.shape[1]:
            raise ValueError(f"centers must agree in dimension, got {marks.shape[1]} and {truths.shape[1]}; use one")
        return (marks[:, None] - truths).square().sum(dim=-1).sqrt() < radius  # (D, T)

    return rule


def _need(record: Record, key: str) -> Tensor:
    if key not in record:
        raise ValueError(
            f"this hit rule needs {key!r} in both dicts, got {sorted(record)}; choose another rule or add it"
        )
    return record[key]


def _centers(record: Record) -> Tensor:
    if "centers" in record:
        return record["centers"]
    boxes = _need(record, "boxes")
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def froc_marks(
    detections: Sequence[Record], targets: Sequence[Record], *, hit: HitRule, label: int | None = None
) -> list[FrocMarks]:
    """What each image adds to the curve: the slow part of `froc`, done once and resampled afterwards.

    Args:
        detections: one dict an image with `scores` and what the rule reads (and `labels`, with `label`).
        targets: one dict an image with what the rule reads (and `labels`, with `label`); `excluded` (T,) is
            optional.
        hit: which marks are on which truths.
        label: class whose marks and truths count; excluded findings of any class stay excluded. None takes
            all; a truth labelled 0 is background and no lesion.

    Returns:
        One FrocMarks an image.

    Raises:
        ValueError: a list, a key, a shape or a value is wrong; the message names the image.

    Example:
        >>> detection = {"scores": torch.tensor([0.75, 0.25]), "centers": torch.tensor([[5.0, 5], [9, 5]])}
        >>> target = {"centers": torch.tensor([[6.0, 5.0]])}
        >>> marks = froc_marks([detection], [target], hit=hit_center_distance(2))
        >>> marks[0].lesions.tolist(), marks[0].false_positives.tolist()
        ([0.75], [0.25])
    """
    if not callable(hit) or hit in (hit_iou, hit_center_in_box, hit_center_distance):
        got = getattr(hit, "__name__", repr(hit))
        raise ValueError(f"hit must be a rule, got {got}; call what makes it: hit=hit_iou(0.1), hit_center_in_box()")
    with_labels = [] if label is None else ["labels"]
    detections, targets = check_records(
        detections, targets, detection_keys=["scores", *with_labels], target_keys=with_labels
    )
    if label is not None:
        detections = [_select(detection, detection["labels"] == label) for detection in detections]
    return [
        _image_marks(image, detection, target, hit, label)
        for image, (detection, target) in enumerate(zip(detections, targets, strict=True))
    ]


def _select(record: Record, rows: Tensor) -> Record:
    """The chosen rows of every tensor that has a row a mark; what else a hit rule of one's own reads stays."""
    has_rows = {key: isinstance(value, Tensor) and value.shape[:1] == rows.shape for key, value in record.items()}
    return {key: value[rows] if has_rows[key] else value for key, value in record.items()}


def _image_marks(image: int, detection: Record, target: Record, hit: HitRule, label: int | None) -> FrocMarks:
    try:
        hits = hit(detection, target)  # (D, T)
    except ValueError as error:
        raise ValueError(f"image {image}: {error}") from error
    if not isinstance(hits, Tensor):
        got = type(hits).__name__
        raise ValueError(f"hit must return a bool tensor for image {image}, got {got}; write torch.as_tensor(...)")
    scores = detection["scores"]
    # what only the rule reads says nothing of how many truths there are
    truths = next((len(target[key]) for key in KEYS if key in target), hits.shape[1] if hits.ndim == 2 else 0)
    if hits.shape != (len(scores), truths) or hits.dtype != torch.bool:
        raise ValueError(
            f"hit must return a bool tensor of {(len(scores), truths)} (marks, truths) for image {image}, "
            f"got {hits.dtype} of {tuple(hits.shape)}; compare marks[:, None] with truths[None]"
        )
    hits = hits.cpu()
    excluded = target.get("excluded", torch.zeros(truths, dtype=torch.bool))
    counts = ~excluded
    if label is not None:
        counts = counts & (target["labels"] == label)
    elif "labels" in target:
        counts = counts & (target["labels"] != 0)  # 0 is background: no lesion
    found = torch.where(hits[:, counts], scores[:, None], -torch.inf)  # (D, lesions)
    best = found.amax(dim=0) if len(scores) else found.new_full((int(counts.sum()),), -torch.inf)
    return FrocMarks(best.numpy(), scores[~hits[:, counts | excluded].any(dim=1)].numpy())


def froc_curve(marks: Sequence[FrocMarks]) -> FrocCurve:
    """The curve of images whose marks are known; cheap enough for a bootstrap.

    Args:
        marks: of `froc_marks`, one an image, or a resample of them.

    Returns:
        The curve.

    Raises:
        ValueError: there is no image.

    Example:
        >>> marks = [FrocMarks(np.array([0.9, -np.inf]), np.array([0.3]))]
        >>> froc_curve(marks).sensitivity.tolist()
        [0.0, 0.5, 0.5]
    """
    if len(marks) == 0:
        raise ValueError("FROC needs at least one image, got none; false positives an image have no denominator")
    lesions = np.concatenate([mark.lesions for mark in marks])
    alarms = np.concatenate([mark.false_positives for mark in marks])
    found = lesions[lesions > -np.inf]
    scores = np.concatenate([found, alarms])
    order = np.argsort(-scores)
    scores, is_found = scores[order], order < len(found)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # the last of each run of equal scores: ties enter together
    found_so_far = np.cumsum(is_found)[last]
    return FrocCurve(
        false_positives=np.r_[0, last + 1 - found_so_far] / len(marks),
        sensitivity=np.r_[0, found_so_far] / (len(lesions) or np.nan),
        thresholds=np.r_[np.inf, scores[last]],
        lesions=len(lesions),
        images=len(marks),
    )


def froc(
    detections: Sequence[Record], targets: Sequence[Record], *, hit: HitRule, label: int | None = None
) -> FrocCurve:
    """Sensitivity against false positives an image, one point for each distinct score.

    The counting rules stand at the head of this file. Built from scratch in notebook 04.

    Args:
        detections: one dict an image with `scores` and what the rule reads (and `labels`, with `label`).
        targets: one dict an image with what the rule reads (and `labels`, with `label`); `excluded` (T,) is
            optional.
        hit: which marks are on which truths: `hit_iou(0.1)`, `hit_center_in_box()`, `hit_center_distance()`.
        label: class whose marks and truths count (Ribli et al.: malignant only). None takes all.

    Returns:
        The curve; its sensitivity is nan where no image has a lesion, since there is nothing to find.

    Raises:
        ValueError: there is no image, or a key, a shape or a value is wrong; the message names the image.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 12.0, 12.0]])
        >>> detection = {"scores": torch.tensor([0.9, 0.3]), "boxes": boxes}
        >>> curve = froc([detection], [{"boxes": boxes[1:]}], hit=hit_iou(0.1))
        >>> curve.false_positives.tolist(), curve.sensitivity.tolist()
        ([0.0, 1.0, 1.0], [0.0, 0.0, 1.0])
    """
    return froc_curve(froc_marks(detections, targets, hit=hit, label=label))


def sensitivity_at(curve: FrocCurve, false_positives: float | Sequence[float]) -> float | np.ndarray:
    """Sensitivity at so many false positives an image, linear between the curve's points.

    Beyond the last point it is the highest sensitivity the detector reaches.

    Args:
        curve: of `froc`.
        false_positives: an image, one number or several.

    Returns:
        One number for one, an array for several.

    Example:
        >>> curve = froc_curve([FrocMarks(np.array([0.9]), np.array([0.9, 0.9]))])
        >>> sensitivity_at(curve, 1)
        0.5
    """
    if not np.all(np.asarray(false_positives) >= 0):
        raise ValueError(f"false_positives must not be negative, got {false_positives}; 1 / 8 to 8 an image is usual")
    values = np.interp(false_positives, curve.false_positives, curve.sensitivity)
    return float(values) if np.ndim(values) == 0 else values


def competition_metric(curve: FrocCurve) -> float:
    """The competition performance metric: mean sensitivity at 1/8 to 8 false positives an image, by doubling.

    Example:
        >>> competition_metric(froc_curve([FrocMarks(np.array([0.9]), np.array([]))]))
        1.0
    """
    return float(np.mean(sensitivity_at(curve, CPM_FALSE_POSITIVES)))

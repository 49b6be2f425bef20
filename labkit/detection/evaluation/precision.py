"""Average precision.

Detections and targets are lists with one dict an image (see `records`). Taught in notebook 04.
D detections and T truths of one image; every number is computed in float64.

Average precision follows COCO's evaluator: within an image and a class, detections are taken by falling
score, each gets the free truth it overlaps most, and it is correct when that IoU is *at least* the threshold.
Equal scores keep their order.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from labkit.detection.evaluation.records import Record, check_records

_BOX_KEYS = {"detection_keys": ("boxes", "scores", "labels"), "target_keys": ("boxes", "labels")}


class ImageMatches(NamedTuple):
    """What one image adds to average precision, best detection first; what a crowd swallowed is left out."""

    scores: np.ndarray  # (D,)
    labels: np.ndarray  # (D,)
    correct: np.ndarray  # (D,) bool
    truths: np.ndarray  # (T,) labels to be found


class PrecisionRecall(NamedTuple):
    """One row for each detection of the class, by falling score; not smoothed."""

    precision: np.ndarray  # (D,)
    recall: np.ndarray  # (D,) nan where the class has no truth
    scores: np.ndarray  # (D,)


def match_images(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> list[ImageMatches]:
    """Which detections are correct, image by image: the slow part of average precision, done once.

    Args:
        detections: one dict an image with `boxes`, `scores`, `labels`.
        targets: one dict an image with `boxes`, `labels`; `iscrowd` (T,) marks regions that may swallow any
            number of detections and count for nothing, as in COCO.
        iou_threshold: least IoU of a correct detection.
        max_detections: best detections of each class that count in an image.

    Returns:
        One ImageMatches an image.

    Raises:
        ValueError: a list, a key, a shape or a value is wrong; the message names the image.

    Example:
        >>> box, label = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([1])
        >>> detection = {"boxes": box, "scores": torch.tensor([0.9]), "labels": label}
        >>> match_images([detection], [{"boxes": box, "labels": label}])[0].correct.tolist()
        [True]
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be above 0 and at most 1, got {iou_threshold}; 0.5 is usual")
    if max_detections < 1:
        raise ValueError(f"max_detections must be at least 1, got {max_detections}; COCO uses 100")
    detections, targets = check_records(detections, targets, **_BOX_KEYS)
    return [
        _match_image(_best(detection, max_detections), target, iou_threshold)
        for detection, target in zip(detections, targets, strict=True)
    ]


def _best(detection: Record, max_detections: int) -> Record:
    order = detection["scores"].sort(descending=True, stable=True).indices
    if order.shape[0] > max_detections:
        labels = detection["labels"][order]
        rank = (labels[:, None] == labels).tril().sum(dim=1)  # 1 for the best of its class
        order = order[rank <= max_detections]
    return {key: detection[key][order] for key in ("boxes", "scores", "labels")}


def _match_image(detection: Record, target: Record, iou_threshold: float) -> ImageMatches:
    scores, labels, truths = (values.numpy() for values in (detection["scores"], detection["labels"], target["labels"]))
    crowd = target["iscrowd"].numpy() if "iscrowd" in target else np.zeros(truths.shape, dtype=bool)
    overlap = box_iou(detection["boxes"], target["boxes"]).numpy()  # (D, T)
    if crowd.any():
        overlap = np.where(crowd, _share_inside(detection["boxes"], target["boxes"]).numpy(), overlap)
    rows, columns = np.nonzero((overlap >= iou_threshold) & (labels[:, None] == truths))
    # By detection; then truths before crowds, large overlaps first, among equals the last, as in COCO.
    pairs = np.lexsort((-columns, -overlap[rows, columns], crowd[columns], rows))
    correct, swallowed = np.zeros(scores.shape, dtype=bool), np.zeros(scores.shape, dtype=bool)
    matched, taken = set(), set()
    for row, column in zip(rows[pairs].tolist(), columns[pairs].tolist(), strict=True):
        if row in matched or column in taken:
            continue
        matched.add(row)
        if crowd[column]:
            swallowed[row] = True  # and the crowd stays free for others
        else:
            correct[row] = True
            taken.add(column)
    return ImageMatches(scores[~swallowed], labels[~swallowed], correct[~swallowed], truths[~crowd])


def _share_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """How much of each box lies in each region: for a crowd that is what counts, not its own size."""
    low = torch.maximum(boxes[:, None, :2], regions[:, :2])  # (D, T, 2)
    high = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    return (high - low).clamp(min=0).prod(dim=-1) / box_area(boxes)[:, None]


def average_precision(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    iou_threshold: float = 0.5,
    interpolation: str = "coco",
    max_detections: int = 100,
) -> dict[int | str, float]:
    """Average precision of each class, and their mean: equal to COCO's evaluator at one threshold.

    Built from scratch in notebook 04. Detections on images without truths are false positives like any other.

    Args:
        detections: one dict an image with `boxes`, `scores`, `labels`.
        targets: one dict an image with `boxes`, `labels`, and `iscrowd` if there are crowds.
        iou_threshold: least IoU of a correct detection.
        interpolation: how the curve is summed up. "coco": mean of the smoothed precision at 101 recalls;
            "area": area under it (VOC from 2010); "11-point": mean at 11 recalls (VOC 2007). Matching is
            COCO's in all three.
        max_detections: best detections of each class that count in an image.

    Returns:
        {label: AP, ..., "mean": mAP}. Labels that no target has are left out, of the mean too: they have no
        recall. Where that leaves nothing the mean is nan, since 0 would say that something was missed.

    Raises:
        ValueError: a list, a key, a shape or a value is wrong; the message names the image.

    Example:
        >>> boxes, labels = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 0.0, 12.0, 4.0]]), torch.tensor([1, 1])
        >>> detection = {"boxes": boxes[:1], "scores": torch.tensor([0.9]), "labels": labels[:1]}
        >>> average_precision([detection], [{"boxes": boxes, "labels": labels}], interpolation="area")
        {1: 0.5, 'mean': 0.5}
    """
    matches = match_images(detections, targets, iou_threshold=iou_threshold, max_detections=max_detections)
    return average_precision_of(matches, interpolation=interpolation)


def average_precision_of(matches: Sequence[ImageMatches], *, interpolation: str = "coco") -> dict[int | str, float]:
    """Average precision of images that are matched already; cheap enough for a bootstrap.

    Args:
        matches: of `match_images`, one an image, or a resample of them.
        interpolation: as in `average_precision`.

    Returns:
        As `average_precision`.

    Example:
        >>> average_precision_of([])
        {'mean': nan}
    """
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be one of {[*_INTERPOLATIONS]}, got {interpolation!r}; COCO is the default"
        )
    if not matches:
        return {"mean": float("nan")}
    pooled = ImageMatches(*map(np.concatenate, zip(*matches, strict=True)))
    result: dict[int | str, float] = {}
    for label in np.unique(pooled.truths).tolist():
        curve = _precision_recall(pooled, label)
        smoothed = np.maximum.accumulate(curve.precision[::-1])[::-1]  # best precision at this recall or beyond
        result[label] = float(_INTERPOLATIONS[interpolation](curve.recall, smoothed))
    result["mean"] = float(np.mean(list(result.values()))) if result else float("nan")
    return result


def _mean_at(levels: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    def mean(recall: np.ndarray, precision: np.ndarray) -> float:
        return np.append(precision, 0.0)[np.searchsorted(recall, levels)].mean()  # 0 at recalls never reached

    return mean


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    return np.sum(np.diff(recall, prepend=0.0) * precision)


_INTERPOLATIONS = {
    "coco": _mean_at(np.linspace(0, 1, 101)),  # the evaluator's own floats: 0.29 here is not 29 / 100
    "area": _area,
    "11-point": _mean_at(np.arange(11) / 10),
}


def _precision_recall(pooled: ImageMatches, label: int) -> PrecisionRecall:
    of_class = pooled.labels == label
    scores, correct = pooled.scores[of_class], pooled.correct[of_class]
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(correct[order])
    truths = np.count_nonzero(pooled.truths == label)
    return PrecisionRecall(found / np.arange(1, len(found) + 1), found / (truths or np.nan), scores[order])


def precision_recall(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    label: int,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> PrecisionRecall:
    """Precision and recall of one class as its detections enter by falling score, for a plot.

    Args:
        detections: one dict an image with `boxes`, `scores`, `labels`.
        targets: one dict an image with `boxes`, `labels`, and `iscrowd` if there are crowds.
        label: the class.
        iou_threshold: least IoU of a correct detection.
        max_detections: best detections of each class that count in an image.

    Returns:
        precision, recall and scores, (D,) each, over all images.

    Raises:
        ValueError: a list, a key, a shape or a value is wrong; the message names the image.

    Example:
        >>> boxes, labels = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 0.0, 12.0, 4.0]]), torch.tensor([1, 1])
        >>> detection = {"boxes": boxes, "scores": torch.tensor([0.9, 0.8]), "labels": labels}
        >>> curve = precision_recall([detection], [{"boxes": boxes[1:], "labels": labels[1:]}], label=1)
        >>> curve.precision.tolist(), curve.recall.tolist()
        ([0.0, 0.5], [0.0, 1.0])
    """
    matches = match_images(detections, targets, iou_threshold=iou_threshold, max_detections=max_detections)
    if not matches:
        return PrecisionRecall(np.zeros(0), np.zeros(0), np.zeros(0))
    return _precision_recall(ImageMatches(*map(np.concatenate, zip(*matches, strict=True))), label)

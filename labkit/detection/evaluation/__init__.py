"""Scores of detectors: average precision, FROC, image AUC; and how sure they are, from `labkit.bootstrap`.

Detections and targets are lists with one dict an image (see `records`). Taught in notebook 04.

No file is called like a function that this package hands on (`froc`): the function would hide it.
"""

from labkit.bootstrap import bootstrap_interval
from labkit.detection.evaluation.free_response import (
    CPM_FALSE_POSITIVES,
    FrocCurve,
    FrocMarks,
    competition_metric,
    froc,
    froc_curve,
    froc_marks,
    hit_center_distance,
    hit_center_in_box,
    hit_iou,
    sensitivity_at,
)
from labkit.detection.evaluation.image_level import ImageScores, image_auc, image_scores, roc_auc
from labkit.detection.evaluation.precision import (
    ImageMatches,
    PrecisionRecall,
    average_precision,
    average_precision_of,
    match_images,
    precision_recall,
)

__all__ = [
    "CPM_FALSE_POSITIVES",
    "FrocCurve",
    "FrocMarks",
    "ImageMatches",
    "ImageScores",
    "PrecisionRecall",
    "average_precision",
    "average_precision_of",
    "bootstrap_interval",
    "competition_metric",
    "froc",
    "froc_curve",
    "froc_marks",
    "hit_center_distance",
    "hit_center_in_box",
    "hit_iou",
    "image_auc",
    "image_scores",
    "match_images",
    "precision_recall",
    "roc_auc",
    "sensitivity_at",
]

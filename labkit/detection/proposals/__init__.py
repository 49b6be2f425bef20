"""Region proposals: the methods under one roof, and how good what they propose is.

Every method is a function `method(image, *, count, ...) -> (boxes, scores)`, best first. Selective search stands in
`segments` and `grouping`, edge boxes in `contours`, what both must beat in `baselines`, recall in `measures`.
Taught in notebook 05.

No file is called like a function that this package hands on (`selective_search`, `edge_boxes`): the function would
hide it.
"""

from labkit.detection.proposals.baselines import gaussian_boxes, sliding_window_boxes, superpixel_boxes, uniform_boxes
from labkit.detection.proposals.contours import edge_boxes, find_contours, score_boxes
from labkit.detection.proposals.grouping import group_regions, merge_regions, merge_similarity, selective_search
from labkit.detection.proposals.measures import (
    average_best_overlap,
    average_recall,
    best_overlaps,
    proposal_recall,
    recall_by_count,
    recall_by_iou,
    repeatability,
)
from labkit.detection.proposals.segments import describe_regions, neighbouring_pairs, segment

__all__ = [
    "average_best_overlap",
    "average_recall",
    "best_overlaps",
    "describe_regions",
    "edge_boxes",
    "find_contours",
    "gaussian_boxes",
    "group_regions",
    "merge_regions",
    "merge_similarity",
    "neighbouring_pairs",
    "proposal_recall",
    "recall_by_count",
    "recall_by_iou",
    "repeatability",
    "score_boxes",
    "segment",
    "selective_search",
    "sliding_window_boxes",
    "superpixel_boxes",
    "uniform_boxes",
]

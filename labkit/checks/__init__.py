"""Checks: the cell after an exercise calls one, and goes on with the function it returns.

    box_iou = checks.box_iou(my_box_iou)

Each check lives in the file of its notebook's subject and is found here by its own name. A right answer comes back;
a wrong one is explained and the reference comes back (or `CheckFailed`, with LABKIT_STRICT=1).
"""

import importlib

from labkit.checks.engine import CheckFailed, lenient

# exercise -> the file it stands in
EXERCISES = {
    "crop": "start",
    "box_iou": "localization",
    "encode_box": "localization",
    "l2_loss": "localization",
    "smooth_l1_loss": "localization",
    "training_step": "localization",
    "sliding_window": "windows",
    "fc_to_conv": "windows",
    "nms": "suppression",
    "class_nms": "suppression",
    "average_precision": "scoring",
    "froc": "scoring",
    "merge_similarity": "proposals",
    "merge_regions": "proposals",
    "recall": "proposals",
    "crop_and_resize": "rcnn",
    "hard_negatives": "rcnn",
    "ridge": "rcnn",
    "roi_pool": "roi_pooling",
    "roi_align": "roi_pooling",
    "multi_task_loss": "roi_pooling",
    "anchors": "anchor_matching",
    "match_anchors": "anchor_matching",
    "rpn_loss": "anchor_matching",
    "anchor_sizes": "mammogram_lab",
    "breast_scores": "mammogram_lab",
}

__all__ = ["CheckFailed", "EXERCISES", "lenient", *EXERCISES]


def __getattr__(name: str):
    if name not in EXERCISES:
        raise AttributeError(f"no check called {name!r}; there are: {', '.join(sorted(EXERCISES))}")
    return getattr(importlib.import_module(f"labkit.checks.{EXERCISES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

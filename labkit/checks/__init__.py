"""Checks: the cell after an exercise calls one, and goes on with the function it returns.

    box_iou = checks.box_iou(my_box_iou)

Each check lives in the file of its notebook's subject and is found here by its own name. A right answer comes back;
a wrong one is explained and the reference comes back (or `CheckFailed`, with LABKIT_STRICT=1).
"""

import importlib
import sys
from types import ModuleType

from labkit.checks.engine import CheckFailed, lenient

# exercise -> the file it stands in
EXERCISES = {
    "crop": "start_here",
    "box_iou": "localizer_iou",
    "encode_box": "localizer",
    "decode_box": "localizer",
    "l2_loss": "localizer_training",
    "smooth_l1_loss": "localizer_training",
    "training_step": "localizer_training",
    "sliding_window": "sliding_window",
    "fc_to_conv": "sliding_window",
    "hard_windows": "sliding_window_mining",
    "nms": "non_maximum_suppression",
    "class_nms": "non_maximum_suppression",
    "average_precision": "evaluation",
    "froc": "evaluation",
    "merge_similarity": "proposals",
    "merge_regions": "proposals",
    "recall": "proposals_recall",
    "crop_and_resize": "rcnn",
    "hard_negatives": "rcnn_training",
    "ridge": "rcnn_training",
    "roi_pool": "fast_rcnn",
    "roi_align": "fast_rcnn_align",
    "multi_task_loss": "fast_rcnn_loss",
    "detections": "fast_rcnn_detections",
    "anchors": "faster_rcnn",
    "match_anchors": "faster_rcnn",
    "rpn_loss": "faster_rcnn_loss",
    "rpn_head": "faster_rcnn_head",
    "rpn_proposals": "faster_rcnn_proposals",
    "anchor_sizes": "mammogram_lab",
    "breast_scores": "mammogram_lab",
    "psnr": "metrics",
    "ssim_factors": "metrics",
    "ssim": "metrics_ssim",
    "photon_counts": "low_dose_ct",
    "line_integrals": "low_dose_ct",
    "critic_loss": "low_dose_ct_loss",
    "dncnn_block": "networks",
    "residual_target": "networks_loss",
    "denoised": "networks_loss",
    "residual_loss": "networks_loss",
    "ssim_loss": "losses",
    "ssim_gradient": "losses",
    "ms_ssim": "losses_scales",
    "zhao_loss": "losses_scales",
    "world_to_voxel": "nodules",
    "merge_slices": "nodules_merging",
    "hard_candidates": "nodules_training",
    "gaussian_heatmap": "attention",
    "heatmap_loss": "attention_loss",
    "grad_cam": "attention_cam",
    "box_iou_3d": "organs",
    "focal_loss": "organs_loss",
    "fuse_proposals": "organs_fusion",
    "apply_action": "organ_agent",
    "reward": "organ_agent_learning",
    "td_target": "organ_agent_learning",
    "slice_step": "slice_agent",
    "duelling": "slice_agent",
    "walk_end": "slice_agent_walk",
}

__all__ = ["CheckFailed", "EXERCISES", "lenient", *EXERCISES]


class _Checks(ModuleType):
    """This package: a name of an exercise is its check, also where the file it stands in is called the same."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in EXERCISES:
            return  # importing checks/sliding_window.py would put the file where the check is looked for
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Checks


def __getattr__(name: str):
    if name not in EXERCISES:
        raise AttributeError(f"no check called {name!r}; there are: {', '.join(sorted(EXERCISES))}")
    return getattr(importlib.import_module(f"labkit.checks.{EXERCISES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

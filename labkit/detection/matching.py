"""Matching: which truth each candidate box answers for, and which candidates a loss sees.

One matcher for anchors and for proposals, in two dimensions or three: it reads an IoU matrix, whatever the boxes are.

Shapes   N truths, M candidates (anchors or proposals).
Matches  (M,) int64: the row of the matched truth, -1 for background, -2 for neither, left out of the loss.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from labkit.detection.boxes import check_boxes


def match_iou(iou: Tensor, *, positive_iou: float, negative_iou: float, best_of_each_truth: bool) -> Tensor:
    """(M,) the truth each candidate is trained on.

    A candidate is matched to the truth it overlaps most, from `positive_iou` on; it is background below `negative_iou`.

    Args:
        iou: (N, M) of truths and candidates; N or M may be 0.
        positive_iou, negative_iou: thresholds, `negative_iou` the lower one.
        best_of_each_truth: also match the best candidates of each truth (all of them, if several are equally good), so
            that every truth that overlaps a candidate at all gets one. Anchors need it, since few of them fit;
            proposals do not, since they are many and good.

    Example:
        >>> iou = torch.tensor([[0.6, 0.4, 0.1], [0.0, 0.4, 0.2]])
        >>> match_iou(iou, positive_iou=0.5, negative_iou=0.3, best_of_each_truth=False)
        tensor([ 0, -2, -1])
    """
    if not iou.numel():
        return torch.full((iou.shape[1],), -1, device=iou.device)
    best_iou, best = iou.max(dim=0)  # (M,)
    matches = best.where(best_iou >= positive_iou, -2).where(best_iou >= negative_iou, -1)
    if not best_of_each_truth:
        return matches
    # Equality is meant: ties come from the same arithmetic. With an IoU of 0 nothing is won.
    is_best = ((iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)).any(dim=0)  # (M,)
    return best.where(is_best, matches)


def match_proposals(proposals: Tensor, boxes: Tensor, *, positive_iou: float, negative_iou: float) -> Tensor:
    """(R,) row of the true box each proposal is trained on, -1 for background, -2 for neither.

    As `match_anchors`, but a truth whose best proposal is poor gets none: proposals are many and good.

    Args:
        proposals: (R, 4) xyxy pixels.
        boxes: (N, 4) truths; (0, 4) makes every proposal background.
        positive_iou: foreground from here on.
        negative_iou: background below; ignored between the two.

    Raises:
        ValueError: a shape is wrong, a box has no area, or the thresholds are out of order.

    Example:
        >>> proposals = torch.tensor([[0.0, 0.0, 8.0, 6.0], [0.0, 0.0, 8.0, 3.0], [20.0, 0.0, 28.0, 6.0]])
        >>> match_proposals(proposals, proposals[:1], positive_iou=0.6, negative_iou=0.3)
        tensor([ 0, -2, -1])
    """
    check_thresholds(positive_iou, negative_iou)
    check_boxes(proposals, name="proposals")
    check_boxes(boxes)
    return match_iou(
        box_iou(boxes, proposals), positive_iou=positive_iou, negative_iou=negative_iou, best_of_each_truth=False
    )


def check_thresholds(positive_iou: float, negative_iou: float) -> None:
    """Refuse two thresholds that are not in order.

    Example:
        >>> check_thresholds(0.7, 0.3)
    """
    if not 0 <= negative_iou <= positive_iou <= 1:
        raise ValueError(
            f"0 <= negative_iou <= positive_iou <= 1 must hold, got {negative_iou} and {positive_iou}; "
            "swap or lower them"
        )


def sample(matches: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """(Positive rows, negative rows) drawn at random, `count` together where there are enough.

    Args:
        matches: (M,) int64, the matched truth, -1 background, -2 ignored.
        count: rows to draw.
        positive_fraction: at most this share is positive; background fills the rest.

    Example:
        >>> positive, negative = sample(torch.tensor([0, -1, -2, -1]), 3, 0.5)
        >>> positive, len(negative)
        (tensor([0]), 2)
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == -1).nonzero()[:, 0]
    positives = min(len(positive), int(count * positive_fraction))
    negatives = min(len(negative), count - positives)
    # in this order, so that the same seed draws what torchvision draws
    positive = positive[torch.randperm(len(positive), device=matches.device)[:positives]]
    return positive, negative[torch.randperm(len(negative), device=matches.device)[:negatives]]

"""Suppression: many boxes on one thing become one (notebook 03; OverFeat's merging, notebook 02).

Hard suppression is torchvision's `nms` and `batched_nms`. Here are two kinder ways.

Boxes    (N, 4) float, x1 y1 x2 y2 in pixels, x2 and y2 exclusive.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

from labkit.detection.box_checks import check_corners


def soft_nms(boxes: Tensor, scores: Tensor, *, sigma: float, score_threshold: float) -> tuple[Tensor, Tensor]:
    """Boxes that stay when overlap lowers scores instead of deleting boxes, best first (Bodla et al. 2017).

    Again and again the best box left is taken, and every other score is multiplied by exp(-IoU**2 / sigma).
    Among equal scores the first row is taken first. Taught in notebook 03.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,) floating point, not negative.
        sigma: how tolerant of overlap, no unit; the paper uses 0.5.
        score_threshold: boxes whose lowered score is below it are dropped.

    Returns:
        keep: (K,) int64 rows of the boxes that stay, best first.
        scores: (K,) their lowered scores, in the same order.

    Raises:
        ValueError: a shape or a type is wrong, a box or a score is not finite, a score is negative, or sigma is not
            positive.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
        >>> soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), sigma=0.5, score_threshold=0.1)
        (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.1083]))
    """
    _check_scored_boxes(boxes, scores)
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}; 0.5 is the paper's value")
    if math.isnan(score_threshold):
        raise ValueError("score_threshold must be a number, got nan; 0.001 is the paper's value")
    if not scores.is_floating_point():
        raise ValueError(f"scores must be floating point, got {scores.dtype}; write scores.float() / 100 for percent")
    if not (scores.isfinite() & (scores >= 0)).all():
        raise ValueError("scores must be finite and not negative, got others; apply sigmoid or softmax to logits first")
    check_corners(boxes)

    rows = (scores >= score_threshold).nonzero()[:, 0]  # a score only ever falls: the others cannot come back
    scores = scores[rows]
    overlap = box_iou(boxes[rows], boxes[rows]).nan_to_num(nan=0.0)  # (K, K), 0 of boxes without area
    decay = overlap.square().div(-sigma).exp().to(scores.dtype)
    taken = torch.zeros_like(scores, dtype=torch.bool)
    order: list[Tensor] = []
    taken_scores: list[Tensor] = []
    for _ in range(len(rows)):
        best = scores.masked_fill(taken, -1).argmax(keepdim=True)  # a tensor: no wait for a GPU; first of equals
        order.append(best)
        taken_scores.append(scores[best])
        taken = taken.index_fill(0, best, True)
        scores = scores * decay[best[0]]
    if not order:
        return rows, scores
    by_score, kept_scores = torch.cat(order), torch.cat(taken_scores)
    stay = (
        kept_scores >= score_threshold
    )  # the taken scores fall from step to step, so this is where the loop would end
    return rows[by_score[stay]], kept_scores[stay]


def greedy_merge(boxes: Tensor, scores: Tensor, *, max_distance: float = 1.0) -> tuple[Tensor, Tensor]:
    """Boxes merged pair by pair, the best matching first, until none match; scores add up (OverFeat, section 4.4).

    OverFeat's match score is "the sum of the distance between centers and the intersection area", without units. Here
    both count in box sizes: the distance of the centres over the mean side, plus the share of the mean area that is
    *not* common. It is 0 for equal boxes, at least 1 for boxes that do not meet. A pair is replaced by the mean of
    its two boxes, weighted by score, so that a box merged of many windows does not jump when one more joins.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,) positive.
        max_distance: pairs that match worse stay apart.

    Returns:
        boxes: (M, 4) merged boxes, the highest score first.
        scores: (M,) sums of the scores that went into them.

    Raises:
        ValueError: a shape or a type is wrong, a score is not positive, or a box is not finite.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0], [2.0, 0.0, 12.0, 20.0], [50.0, 0.0, 60.0, 20.0]])
        >>> greedy_merge(boxes, torch.tensor([1.0, 1.0, 3.0]))
        (tensor([[50.,  0., 60., 20.],
                [ 1.,  0., 11., 20.]]), tensor([3., 2.]))
    """
    _check_scored_boxes(boxes, scores)
    if not boxes.is_floating_point() or not scores.is_floating_point():
        got = f"{boxes.dtype} and {scores.dtype}"
        raise ValueError(f"boxes and scores must be floating point, got {got}; write boxes.float(), scores.float()")
    if not ((scores > 0) & scores.isfinite()).all():
        raise ValueError("scores must be positive and finite, got others; merge probabilities, not logits")
    if not max_distance >= 0:
        raise ValueError(f"max_distance must be 0 or more, got {max_distance}; 1 merges boxes that meet")
    check_corners(boxes)
    boxes, scores = boxes.clone(), scores.clone()
    match = _match(boxes, boxes).fill_diagonal_(torch.inf)  # (N, N)
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while alive.sum() > 1:
        first, second = divmod(int(match.argmin()), len(boxes))  # the loop needs the pair's numbers
        if match[first, second] > max_distance:
            break
        pair = torch.tensor([first, second], device=boxes.device)
        boxes[first] = (boxes[pair] * scores[pair, None]).sum(0) / scores[pair].sum()
        scores[first] += scores[second]
        alive[second] = False
        row = _match(boxes[first, None], boxes)[0].masked_fill(~alive, torch.inf)
        row[first] = torch.inf
        match[first], match[:, first] = row, row
        match[second], match[:, second] = torch.inf, torch.inf
    order = scores[alive].argsort(descending=True, stable=True)
    return boxes[alive][order], scores[alive][order]


def _check_scored_boxes(boxes: Tensor, scores: Tensor) -> None:
    """Refuse what is no (N, 4) and (N,)."""
    for name, value in (("boxes", boxes), ("scores", scores)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(value).__name__}; write torch.as_tensor({name})")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"boxes and scores must be (N, 4) and (N,), got {tuple(boxes.shape)} and {tuple(scores.shape)}; "
            "give one score for each box"
        )


def _match(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(N, M) how badly two boxes match; two without any area do not match at all."""
    sides1, sides2 = boxes1[:, 2:] - boxes1[:, :2], boxes2[:, 2:] - boxes2[:, :2]
    centers1, centers2 = boxes1[:, :2] + sides1 / 2, boxes2[:, :2] + sides2 / 2
    distance = (centers1[:, None] - centers2).norm(dim=2)  # (N, M)
    mean_side = (sides1.mean(1)[:, None] + sides2.mean(1)) / 2
    low = torch.maximum(boxes1[:, None, :2], boxes2[:, :2])
    common = (torch.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - low).clamp(min=0).prod(dim=2)
    mean_area = (sides1.prod(1)[:, None] + sides2.prod(1)) / 2
    return (distance / mean_side + 1 - common / mean_area).nan_to_num(nan=torch.inf)

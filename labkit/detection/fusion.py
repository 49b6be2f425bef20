"""One answer from many proposals: a mean weighted by score, where suppression would keep the best alone.

Boxes    (R, 6) x1 y1 z1 x2 y2 z2 in voxels; whatever has six columns will do.
"""

from torch import Tensor


def fuse_proposals(boxes: Tensor, scores: Tensor, *, share: float = 0.1) -> Tensor:
    """(1, 6) the mean of an organ's best proposals, weighted by their scores; (0, 6) where there are none.

    Built from scratch in notebook 15.

    Args:
        boxes: (R, 6).
        scores: (R,), positive.
        share: of the proposals that are the best, rounded down, one at least.

    Raises:
        ValueError: a shape is wrong, or the share is not in (0, 1].

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [3.0, 0, 0, 4, 4, 8], [9.0, 9, 9, 12, 12, 12]])
        >>> fuse_proposals(boxes, torch.tensor([0.8, 0.4, 0.1]), share=0.7)
        tensor([[1.0000, 0.0000, 0.0000, 4.0000, 4.0000, 5.3333]])
    """
    if boxes.ndim != 2 or boxes.shape[1] != 6 or scores.shape != boxes.shape[:1]:
        got = f"{tuple(boxes.shape)} and {tuple(scores.shape)}"
        raise ValueError(f"boxes and scores must be (R, 6) and (R,), got {got}; give one score a box")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}; 0.1 takes the best tenth")
    if not len(boxes):
        return boxes
    best = scores.topk(max(1, int(share * len(scores)))).indices
    weights = scores[best, None] / scores[best].sum()
    return (weights * boxes[best]).sum(dim=0, keepdim=True)

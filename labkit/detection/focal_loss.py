"""The focal loss: a cross entropy that is hardly impressed by what is nearly right already (Lin et al. 2017).

Shapes   A anchors, C classes with background, 0.
"""

from torch import Tensor


def focal_loss(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """The softmax focal loss (Lin et al. 2017): a scalar, the sum over the anchors by the number that hold an organ.

    Built from scratch in notebook 15. With gamma=0 it is the cross entropy.

    Args:
        logits: (A, C).
        labels: (A,) int64, 0 background, -1 for anchors that are left out.
        gamma: how strongly anchors that are nearly right are silenced; the paper has 2.

    Example:
        >>> import torch
        >>> logits, labels = torch.zeros(3, 2), torch.tensor([1, 0, -1])
        >>> round(float(focal_loss(logits, labels, gamma=2)), 4)  # 2 * (1 / 4) ln 2
        0.3466
    """
    seen = labels >= 0
    chosen = logits[seen].log_softmax(dim=1).gather(1, labels[seen, None])[:, 0]
    organs = (labels > 0).sum().clamp(min=1)
    return -((-chosen.expm1()) ** gamma * chosen).sum() / organs  # 1 - p, never below 0 by rounding

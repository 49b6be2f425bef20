"""The check of notebook 15, organs in one pass: the softmax focal loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, whole
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.focal_loss import focal_loss as package_loss


def focal_loss(student: Callable) -> Callable:
    """Check `my_focal_loss(logits (A, C), labels (A,), gamma) -> scalar` of notebook 15.

    Example:
        >>> focal_loss(lambda *args: reference_focal_loss(*args).detach()).__name__  # right, and trains nothing
        ✗ focal_loss: 9 anchors, and the gradient of the logits: the network is trained with it
        ...
          likely: no gradient flows: ...
        'reference_focal_loss'
    """
    three = noise(3, 4, seed=1)
    nine, labels = 2 * noise(9, 5, seed=2), whole(0, 0, 3, 0, -1, 1, 0, 4, 3)
    far = torch.tensor([[200.0, 0, 0], [0.0, 200, 0], [0.0, 0, 200]])
    cases = [
        Case("one anchor of an organ, nothing learned yet", (floats(0, 0)[None], whole(1), 2.0)),
        Case("one anchor of an organ, nearly right: 0.88", (floats(0, 2)[None], whole(1), 2.0)),
        Case("an anchor of an organ and one of background", (floats(0.5, 1, -1, 2).reshape(2, 2), whole(1, 0), 2.0)),
        Case("background alone: divided by 1", (floats(1, 0, 2, -1).reshape(2, 2), whole(0, 0), 2.0)),
        Case("an anchor that is left out, label -1", (three, whole(2, -1, 0), 2.0)),
        Case("two organs and background: divided by 2", (three, whole(3, 0, 1), 2.0)),
        Case("gamma 0 is the cross entropy", (three, whole(1, 2, 0), 0.0)),
        Case("gamma 3", (three, whole(1, 2, 0), 3.0)),
        Case("logits of 200, where a probability rounds to 0", (far, whole(1, 1, 0), 2.0)),
        Case("nothing but anchors that are left out", (three, whole(-1, -1, -1), 2.0)),
        GradientCase("9 anchors, and the gradient of the logits: the network is trained with it", (nine, labels, 2.0)),
        Case("9 anchors, 5 classes", (nine, labels, 2.0)),
    ]
    return run_check("focal_loss", student, reference_focal_loss, cases, mistakes=FOCAL_LOSS_MISTAKES, atol=1e-4)


def reference_focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """`labkit.detection.focal_loss.focal_loss`."""
    return package_loss(logits, labels, gamma=gamma)


def _organs(labels: Tensor) -> Tensor:
    return (labels > 0).sum().clamp(min=1)


def _loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float,
    *,
    seen: Callable = lambda labels: labels >= 0,
    read: Callable = lambda labels: labels,
    logs: Callable = lambda z: z.log_softmax(dim=1),
    weight: Callable = lambda p, gamma: (1 - p) ** gamma,
    count: Callable = _organs,
    sign: float = -1.0,
) -> Tensor:
    """The loss with room for the usual slips."""
    kept = seen(labels)
    z, wanted = logits[kept], read(labels[kept])
    log_p = logs(z)[torch.arange(len(wanted), device=z.device), wanted]
    return sign * (weight(log_p.exp(), gamma) * log_p).sum() / count(labels)


def _with(**slip) -> Callable:
    return lambda logits, labels, gamma: _loss(logits, labels, gamma, **slip)


def _mean_first(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """The focus on the mean of all anchors, not on each."""
    mean = _loss(logits, labels, 0.0)
    return (1 - (-mean).exp()) ** gamma * mean


def _sigmoids(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    seen = labels >= 0
    z, wanted = logits[seen], F.one_hot(labels[seen], logits.shape[1]).to(logits.dtype)
    right = z * (2 * wanted - 1)  # of each class by itself
    return -((1 - right.sigmoid()) ** gamma * F.logsigmoid(right)).sum() / _organs(labels)


def _by_the_best(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    seen = labels >= 0
    log_p = logits[seen].log_softmax(dim=1)
    weight = (1 - log_p.exp().amax(dim=1)) ** gamma
    return -(weight * log_p.gather(1, labels[seen, None])[:, 0]).sum() / _organs(labels)


def _by_organ(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """The weight of what is not background, whatever the label."""
    seen = labels >= 0
    log_p = logits[seen].log_softmax(dim=1)
    weight = log_p[:, 0].exp() ** gamma
    return -(weight * log_p.gather(1, labels[seen, None])[:, 0]).sum() / _organs(labels)


def _all_classes(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    log_p = logits[labels >= 0].log_softmax(dim=1)
    return -((1 - log_p.exp()) ** gamma * log_p).sum() / _organs(labels)


def _without_log(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    seen = labels >= 0
    p = logits[seen].softmax(dim=1).gather(1, labels[seen, None])[:, 0]
    return -((1 - p) ** gamma * p).sum() / _organs(labels)


def _over_anchors(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """A softmax over all anchors, before some are left out."""
    return _loss(logits.log_softmax(dim=0), labels, gamma, logs=lambda log_p: log_p)


LN10 = 2.302585


def _naive(z: Tensor) -> Tensor:
    return z.softmax(dim=1).log()


FOCAL_LOSS_MISTAKES: dict[str, Callable] = {
    "divide by the number of anchors that hold an organ": _with(count=lambda labels: 1),
    "divide by the anchors that hold an organ, not by all": _with(count=len),
    "divide by the anchors that hold an organ: those of background are not counted": (
        _with(count=lambda labels: (labels >= 0).sum().clamp(min=1))
    ),
    "the sum, divided by the anchors that hold an organ; mean() divides by those of background, too": (
        lambda logits, labels, gamma: _loss(logits, labels, gamma, count=lambda labels: (labels >= 0).sum())
    ),
    "label -1 is no organ: divide by the number of labels above 0": (
        _with(count=lambda labels: (labels != 0).sum().clamp(min=1))
    ),
    "background has a loss also where there is no organ at all: divide by 1": (
        lambda logits, labels, gamma: _loss(logits, labels, gamma) * (labels > 0).any()
    ),
    "there is no alpha in this loss": lambda logits, labels, gamma: 0.25 * _loss(logits, labels, gamma),
    "weigh each anchor by its own p, not by the mean": _with(weight=lambda p, gamma: (1 - p.mean()) ** gamma),
    "only the right class's p counts, not every class's": _all_classes,
    "the logarithm is missing: (1 - p) ** gamma times log p": _without_log,
    "the natural logarithm, not that to base 10": lambda logits, labels, gamma: _loss(logits, labels, gamma) / LN10,
    "one softmax over the classes, not the sigmoid of one logit": _with(logs=F.logsigmoid),
    "the softmax is over the classes of an anchor, dim=1, not over the anchors": _over_anchors,
    "anchors of an organ are counted one by one, not organ by organ": (
        _with(count=lambda labels: max(1, len(set(labels[labels > 0].tolist()))))
    ),
    "a field without organs: divide by at least 1": _with(count=lambda labels: (labels > 0).sum()),
    "organs are counted one too many: at least 1, not plus 1": _with(count=lambda labels: (labels > 0).sum() + 1),
    "anchors of background have a loss too: without them all would become organs": (
        _with(seen=lambda labels: labels > 0)
    ),
    "label -1 is left out; it is not background": (
        _with(seen=lambda labels: labels > -2, read=lambda labels: labels.clamp(min=0))
    ),
    "label -1 is left out; as an index it picks the last class": _with(seen=lambda labels: labels > -2),
    "the focus is missing: weigh each anchor by (1 - p) ** gamma": _with(weight=lambda p, gamma: torch.ones_like(p)),
    "gamma is written into the function: use the argument": _with(weight=lambda p, gamma: (1 - p) ** 2),
    "gamma is an exponent, not a factor": _with(weight=lambda p, gamma: gamma * (1 - p)),
    "an anchor that is wrong counts most: (1 - p) ** gamma, not p ** gamma": _with(weight=lambda p, gamma: p**gamma),
    "the weight is of the right class's p, not of the largest": _by_the_best,
    "the weight is of the right class's p, whichever that is, not of background's": _by_organ,
    "the minus is missing: logarithms of probabilities are negative": _with(sign=1.0),
    "p rounds to 0 and its logarithm is infinite: take log_softmax": _with(logs=_naive),
    "a clamped p has no gradient where the network is most wrong: log_softmax needs no clamp": (
        _with(logs=lambda z: z.softmax(dim=1).clamp(min=1e-4).log())
    ),
    **{
        f"an epsilon of {eps:g} caps the loss where the network is most wrong: log_softmax needs none": (
            _with(logs=lambda z, eps=eps: (z.softmax(dim=1) + eps).log())
        )
        for eps in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
    },
    "the softmax is over the classes of an anchor, dim=1": _with(logs=lambda z: z.log_softmax(dim=0)),
    "logits come in: take the softmax once, not twice": _with(logs=lambda z: z.softmax(dim=1).log_softmax(dim=1)),
    "one softmax over the classes, not a sigmoid for each: an anchor is one organ or none": _sigmoids,
    "focus on each anchor by itself, and then add: this is the focus on their mean": _mean_first,
    "the weight (1 - p) ** gamma belongs to the gradient, too: no detach()": (
        _with(weight=lambda p, gamma: (1 - p.detach()) ** gamma)
    ),
    NO_GRADIENT: without_gradient(reference_focal_loss),
}

"""The check of notebook 07, Fast R-CNN: the loss of classes and boxes at once."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient
from labkit.detection.roi_head import SMOOTH_L1_BETA


def multi_task_loss(student: Callable) -> Callable:
    """Check `my_multi_task_loss(class_logits (R, K), deltas (R, K, 4), labels (R,), targets (R, 4))` of notebook 07.

    It gives back two numbers, the loss of the classes and that of the boxes.

    Example:
        >>> multi_task_loss(lambda *args: tuple(part.item() for part in reference_multi_task_loss(*args))).__name__
        ✗ multi_task_loss: 5 proposals, and the gradients of logits and deltas: the network is trained with it
        ...
          likely: no gradient flows: ...
        'reference_multi_task_loss'
    """
    zeros = torch.zeros(1, 3), torch.zeros(1, 3, 4)

    def case(rows: int, seed: int, *, spread: float = 0.3):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (rows,), generator=generator)
        labels[0] = 2
        values = 2 * noise(rows, 3, seed=seed), noise(rows, 3, 4, seed=seed + 1) * spread
        return (*values, labels, noise(rows, 4, seed=seed + 2) * spread)

    logits, deltas, labels, targets = case(5, 11)
    cases = [
        Case("one proposal of class 1, nothing learned yet", (*zeros, torch.tensor([1]), torch.full((1, 4), 0.05))),
        Case("one proposal far off: the line", (*zeros, torch.tensor([2]), torch.tensor([[1.0, -2.0, 0.5, 3.0]]))),
        Case("one of background: it has no box", (*zeros, torch.tensor([0]), torch.ones(1, 4))),
        Case("one of class 2 among three of background", (*case(4, 8)[:2], torch.tensor([0, 0, 2, 0]), targets[:4])),
        Case("all background: the boxes' loss is 0", (logits, deltas, torch.zeros_like(labels), targets)),
        Case("two proposals, both of class 2", (*case(2, 9)[:2], torch.tensor([2, 2]), targets[:2])),
        GradientCase(
            "5 proposals, and the gradients of logits and deltas: the network is trained with it",
            (logits, deltas, labels, targets),
            of=(0, 1),
        ),
        Case("5 proposals", (logits, deltas, labels, targets)),
        Case("6 proposals, small differences: the parabola", case(6, 20, spread=0.03)),
        Case("40 proposals", case(40, 30, spread=1.0)),
    ]
    return run_check("multi_task_loss", student, reference_multi_task_loss, cases, mistakes=MULTI_TASK_LOSS_MISTAKES)


def reference_multi_task_loss(
    class_logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """What `RoIHead.losses` adds up."""
    return _loss(class_logits, deltas, labels, targets)


def _loss(
    class_logits: Tensor,
    deltas: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    beta: float = SMOOTH_L1_BETA,
    share: Callable = len,
    which: Callable = lambda labels: labels,
    foreground: bool = True,
    distance: Callable | None = None,
    reduction: str = "sum",
) -> tuple[Tensor, Tensor]:
    """The two losses with room for the usual slips; `share` is what the boxes' loss is divided by."""
    rows = (labels > 0).nonzero()[:, 0] if foreground else torch.arange(len(labels), device=labels.device)
    predicted, wanted = deltas[rows, which(labels[rows])], targets[rows]
    if distance is not None:
        total = distance(predicted - wanted).sum()
    else:
        total = F.smooth_l1_loss(predicted, wanted, beta=beta, reduction=reduction)
    return F.cross_entropy(class_logits, labels), total / share(labels)


def _softmax_first(class_logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(class_logits.softmax(dim=1), labels), _loss(class_logits, deltas, labels, targets)[1]


def _summed(class_logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    own = _loss(class_logits, deltas, labels, targets)[1]
    return F.cross_entropy(class_logits, labels, reduction="sum"), own


def _foreground_classes(class_logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = labels > 0
    return F.cross_entropy(class_logits[rows], labels[rows]), _loss(class_logits, deltas, labels, targets)[1]


MULTI_TASK_LOSS_MISTAKES: dict[str, Callable] = {
    "background has no box: only rows with a label above 0 count for the boxes": (
        lambda *a: _loss(*a, foreground=False)
    ),
    "the boxes' loss is divided by all proposals, not by those of the foreground": (
        lambda *a: _loss(*a, share=lambda labels: (labels > 0).sum())
    ),
    "the boxes' loss is divided by the number of the foreground, at least 1: divide by all proposals": (
        lambda *a: _loss(*a, share=lambda labels: (labels > 0).sum().clamp(min=1))
    ),
    "smooth_l1_loss takes a mean by default; sum it and divide by all proposals": (
        lambda *a: _loss(*a, reduction="mean", share=lambda labels: 1)
    ),
    "smooth_l1_loss takes a mean by default, and that is divided once more: sum it": (
        lambda *a: _loss(*a, reduction="mean")
    ),
    "the boxes' loss is divided by the four numbers of a box as well: divide by all proposals only": (
        lambda *a: _loss(*a, share=lambda labels: 4 * len(labels))
    ),
    "the boxes' loss is a sum: divide it by the number of proposals": lambda *a: _loss(*a, share=lambda labels: 1),
    "every proposal has a box a class: take that of its own label": (
        lambda *a: _loss(*a, which=lambda labels: torch.ones_like(labels))
    ),
    "the box of the predicted class is taken: take that of the true label": (
        lambda z, d, labels, t: _loss(z, d, labels, t, which=lambda _: z.argmax(dim=1)[labels > 0])
    ),
    "column 0 is background: the box of class k stands in column k": (
        lambda *a: _loss(*a, which=lambda labels: (labels - 1).clamp(min=0))
    ),
    "smooth L1 bends at 1/9, not at 1": lambda *a: _loss(*a, beta=1.0),
    "these are squares: smooth L1 is a line far off": lambda *a: _loss(*a, distance=torch.square),
    "these are absolute values: smooth L1 is a parabola near 0": lambda *a: _loss(*a, distance=torch.abs),
    "cross_entropy takes logits and applies the softmax itself": _softmax_first,
    "the classes' loss is a mean over all proposals": _summed,
    "background is a class, too: the classes' loss counts all proposals": _foreground_classes,
    "the classes' loss comes first, then that of the boxes": lambda *a: _loss(*a)[::-1],
    "the boxes' loss carries no gradient: .item(), .detach() and float() cut the graph": (
        lambda *a: (_loss(*a)[0], _loss(*a)[1].detach())
    ),
    "the classes' loss carries no gradient: .item(), .detach() and float() cut the graph": (
        lambda *a: (_loss(*a)[0].detach(), _loss(*a)[1])
    ),
    NO_GRADIENT: without_gradient(reference_multi_task_loss),
}

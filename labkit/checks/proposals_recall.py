"""The check of notebook 05, region proposals: the share of truths that they find."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import box_iou

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows
from labkit.detection import proposals as right


def recall(student: Callable) -> Callable:
    """Check `my_recall(proposals (R, 4), truths (T, 4), iou_threshold) -> number` of notebook 05.

    Example:
        >>> recall(lambda proposals, truths, iou_threshold: 1 - _recall(proposals, truths, iou_threshold)).__name__
        ✗ recall: one truth, found
        ...
          likely: this is the part that was missed
        ...
        '_recall'
    """
    truths = box_rows([2, 1, 12, 6], [30, 4, 38, 20])
    near = box_rows([2, 1, 12, 6], [3, 1, 13, 6])  # both near the first truth: IoU 1 and 9 / 11
    half = box_rows([0, 0, 12, 5], [20, 0, 32, 5], [40, 0, 52, 9])
    draw = torch.Generator().manual_seed(5)
    corner = torch.rand(40, 2, generator=draw) * torch.tensor([60.0, 25.0])
    crowd = torch.cat([corner, corner + 4 + torch.rand(40, 2, generator=draw) * torch.tensor([20.0, 12.0])], dim=1)
    shifts = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 1.0, 2.0, 3.0]])
    seven = torch.cat([crowd[:4] + shifts[0], crowd[:3] + shifts[1]])  # one proposal may find two of them
    cases = [
        Case("one truth, found", (near[:1], truths[:1], 0.5)),
        Case("one truth of two is found, twice", (near, truths, 0.5)),
        Case("five proposals, one truth found", (torch.cat([near, half + 60]), truths, 0.5)),
        Case("IoU exactly at the threshold counts", (box_rows([0, 0, 6, 5]), half, 0.5)),
        Case("IoU just below the threshold", (box_rows([0, 0, 6, 5]), half, 0.5625)),
        Case("three of three, one proposal each", (half.flip(0), half, 0.75)),
        Case("no proposals", (box_rows(), truths, 0.5)),
        Case("40 proposals, 7 truths, some side by side", (crowd, seven, 0.5)),
        Case("the same, asked for more", (crowd, seven, 0.8)),
    ]
    return run_check("recall", student, _recall, cases, mistakes=RECALL_MISTAKES, draw=_draw_recall)


def _recall(proposals: Tensor, truths: Tensor, iou_threshold: float) -> float:
    return right.proposal_recall([proposals], [{"boxes": truths}], iou_threshold=iou_threshold)


def _nearest_truths(proposals: Tensor, truths: Tensor, iou_threshold: float) -> float:
    if not len(proposals):
        return 0.0
    best, which = box_iou(proposals, truths).max(dim=1)
    return len(which[best >= iou_threshold].unique()) / len(truths)


def _part(hits: Tensor) -> float:
    return hits.float().mean().item() if hits.numel() else 0.0


RECALL_MISTAKES: dict[str, Callable] = {
    "each proposal finds its nearest truth only: it may find several, so ask each truth": _nearest_truths,
    "these are the proposals that meet a truth: count the truths that are met": (
        lambda p, t, x: _part((box_iou(p, t) >= x).any(dim=1))
    ),
    "an IoU equal to the threshold counts: >=, not >": lambda p, t, x: _part((box_iou(p, t) > x).any(dim=0)),
    "a truth met twice counts once": lambda p, t, x: (box_iou(p, t) >= x).sum().item() / len(t),
    "this is a number of truths: divide it by how many there are": (
        lambda p, t, x: float((box_iou(p, t) >= x).any(dim=0).sum()) if len(p) else 0.0
    ),
    "the number of truths met is divided by the number of proposals: divide by the truths": (
        lambda p, t, x: (box_iou(p, t) >= x).any(dim=0).sum().item() / max(1, len(p))
    ),
    "this is the mean IoU with the nearest proposal: ask who reaches the threshold first": (
        lambda p, t, x: box_iou(p, t).amax(dim=0).mean().item() if len(p) else 0.0
    ),
    "all proposals have to meet the truth here: one is enough, any": (
        lambda p, t, x: _part((box_iou(p, t) >= x).all(dim=0)) if len(p) else 0.0
    ),
    "pairs are counted: a truth is found when any proposal reaches the threshold, .any(dim=0)": (
        lambda p, t, x: (box_iou(p, t) >= x).float().mean().item()
    ),
    "all proposals have to meet the truth here, and none at all do: one is enough, any": (
        lambda p, t, x: _part((box_iou(p, t) >= x).all(dim=0))
    ),
    "the threshold is written into the function: use the argument": lambda p, t, x: _recall(p, t, 0.5),
    "without proposals there is nothing to take a maximum of: then nothing is found, 0": (
        lambda p, t, x: _part(box_iou(p, t).max(dim=0).values >= x)
    ),
    "this is the part that was missed": lambda p, t, x: 1 - _recall(p, t, x),
}


def _draw_recall(case: Case, expected: float, got):
    from labkit.checks.pictures import fit, legend, number_boxes, panels
    from labkit.plotting import PREDICTION, TRUTH, show_boxes

    title = f"{case.what}: expected {expected:.4g}, got {float(got):.4g}"
    figure, axes = panels(1, title=title, width=6, height=3.6)
    show_boxes(case.args[1], color=TRUTH, width=4, name="truths", ax=axes[0])
    show_boxes(case.args[0], color=PREDICTION, style="--", width=2, name="proposals", ax=axes[0])
    fit(axes, torch.cat(case.args[:2]))
    number_boxes(axes[0], case.args[1], color=TRUTH)
    legend(axes[0])
    return figure

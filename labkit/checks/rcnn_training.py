"""Checks of notebook 06: what R-CNN trains after the network, its SVM's negatives and its box regression."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import flags, floats, noise
from labkit.detection import rcnn

# --------------------------------------------------------------------------------------------- hard_negatives


def hard_negatives(student: Callable) -> Callable:
    """Check `my_hard_negatives(scores (N,), is_background (N,), chosen (N,), count) -> rows` of notebook 06.

    Example:
        >>> hard_negatives(_places).__name__
        ✗ hard_negatives: two rows of background, the first far on its side: row 1 is hard
        ...
          likely: these are places among the hard rows, not rows of all: index the rows with the order
        ...
        'hard_negatives'
    """
    scores = torch.tensor([0.5, -0.25, 2.0, -3.0, -0.75, 1.5])
    generator = torch.Generator().manual_seed(3)
    many = torch.randint(-30, 20, (90,), generator=generator) / 8  # many ties, many exactly at -1
    background, chosen = (torch.rand(90, generator=generator) < share for share in (0.8, 0.3))
    cases = [
        Case(
            "two rows of background, the first far on its side: row 1 is hard",
            (floats(-2, 0.5), flags("++"), flags("--"), 5),
        ),
        Case("one row of background, inside the margin", (torch.tensor([-0.5]), flags("+"), flags("-"), 5)),
        Case("one row of background, far on its side", (torch.tensor([-1.5]), flags("+"), flags("-"), 5)),
        Case("exactly at -1: that costs nothing", (torch.tensor([-1.0, 0.5]), flags("++"), flags("--"), 5)),
        Case("three rows, not sorted by score", (torch.tensor([-0.5, 1.0, 0.25]), flags("+++"), flags("---"), 5)),
        Case("rows of the class are no negatives", (scores, flags("++-++-"), flags("------"), 9)),
        Case("rows that it knows already", (scores, flags("++++++"), flags("+---+-"), 9)),
        Case("at most 2", (scores, flags("++++++"), flags("------"), 2)),
        Case("equal scores: the lower row comes first", (torch.zeros(40), flags("-" + "+" * 39), flags("-" * 40), 9)),
        Case("nothing is hard", (scores - 9, flags("++++++"), flags("------"), 9)),
        Case("no rows", (scores[:0], flags(""), flags(""), 9)),
        Case("90 rows, many equal", (many, background, chosen, 25)),
    ]
    return run_check("hard_negatives", student, rcnn.hard_negatives, cases, mistakes=HARD_NEGATIVES_MISTAKES)


def _hard(scores, is_background, chosen, count, *, margin=-1.0, over=torch.gt, falling=True):
    """The choice with room for the usual slips."""
    rows = (is_background & ~chosen & over(scores, torch.full_like(scores, margin))).nonzero()[:, 0]
    order = scores[rows].argsort(descending=True, stable=True) if falling else scores[rows].argsort(stable=True)
    return rows[order][:count]


def _unsorted(scores, is_background, chosen, count):
    return (is_background & ~chosen & (scores > -1)).nonzero()[:, 0][:count]


def _cut_first(scores, is_background, chosen, count):
    rows = _unsorted(scores, is_background, chosen, count)
    return rows[scores[rows].argsort(descending=True, stable=True)]


def _places(scores, is_background, chosen, count):
    rows = (is_background & ~chosen & (scores > -1)).nonzero()[:, 0]
    return scores[rows].argsort(descending=True, stable=True)[:count]


def _last_of_equals(scores, is_background, chosen, count):
    rows = (is_background & ~chosen & (scores > -1)).nonzero()[:, 0].flip(0)
    return rows[scores[rows].argsort(descending=True, stable=True)][:count]


HARD_NEGATIVES_MISTAKES: dict[str, Callable] = {
    "rows of the class itself are not background: look at is_background": (
        lambda s, b, c, n: _hard(s, torch.ones_like(b), c, n)
    ),
    "rows it has been trained on come again: leave out what is chosen": (
        lambda s, b, c, n: _hard(s, b, torch.zeros_like(c), n)
    ),
    "background inside the margin, between -1 and 0, is hard too: compare with -1, not with 0": (
        lambda s, b, c, n: _hard(s, b, c, n, margin=0.0)
    ),
    "a score of exactly -1 costs nothing: above -1 is hard": lambda s, b, c, n: _hard(s, b, c, n, over=torch.ge),
    "the easiest come first: sort by falling score": lambda s, b, c, n: _hard(s, b, c, n, falling=False),
    "the rows are not sorted: the highest score comes first": _unsorted,
    "sort before you cut: the first rows are not the worst rows": _cut_first,
    "these are places among the hard rows, not rows of all: index the rows with the order": _places,
    "among equal scores the lower row comes first: descending=True, stable=True; a flip turns ties round": (
        _last_of_equals
    ),
    "a mask came back: give row numbers, torch.where(mask)[0]": (lambda s, b, c, n: b & ~c & (s > -1)),
    "the scores came back: give the rows they stand in": lambda s, b, c, n: s[_hard(s, b, c, n)],
    "these are the rows that are known already: leave out what is chosen, ~chosen": lambda s, b, c, n: _hard(
        s, b, ~c, n
    ),
    "these are the rows of the class: the negatives are the background": lambda s, b, c, n: _hard(s, ~b, c, n),
    "far on the right side is easy: above -1 is hard, not below": (lambda s, b, c, n: _hard(s, b, c, n, over=torch.lt)),
    "above -1 is hard, however high: no abs(), a large positive score is the hardest": (
        lambda s, b, c, n: _hard(s, b & (s < 1), c, n)
    ),
    "there are too many: at most count": lambda s, b, c, n: _hard(s, b, c, len(s)),
}


# ------------------------------------------------------------------------------------------------------ ridge


def ridge(student: Callable) -> Callable:
    """Check `my_ridge(features (N, F), targets (N, D), penalty) -> weights (F + 1, D)` of notebook 06.

    Example:
        >>> ridge(lambda features, targets, penalty: rcnn.ridge(features, targets, penalty)[:-1]).__name__
        ✗ ridge: three points of the line 2 x, nearly no penalty
        ...
          likely: the row of the bias is missing: weights are (F + 1, D)
        ...
        'ridge'
    """
    line = torch.tensor([[0.0], [1.0], [3.0]])
    features, targets = noise(30, 3, seed=5), noise(30, 4, seed=6)
    cases = [
        Case("three points of the line 2 x, nearly no penalty", (line, 2 * line, 1e-6)),
        Case("the line 2 x + 5: the bias", (line, 2 * line + 5, 1e-6)),
        Case("the same with a penalty: the slope shrinks", (line, 2 * line + 5, 3.0)),
        Case("no slope at all, only a bias: it is not shrunk", (line, torch.full((3, 1), 7.0), 10.0)),
        Case("2 features, 1 target", (features[:7, :2], targets[:7, :1], 0.5)),
        Case("3 features, 4 targets", (features + 1, targets + 2 * features[:, :1], 4.0)),
        Case("fewer rows than features", (noise(3, 5, seed=7) + 0.5, targets[:3], 2.0)),
        Case("features far from 0: compute in double precision", (features + 300, targets + features[:, :1], 0.5)),
        Case("a heavy penalty", (3 * features - 2, targets + features[:, :1] * 3, 250.0)),
    ]
    return run_check("ridge", student, rcnn.ridge, cases, mistakes=RIDGE_MISTAKES, atol=1e-4)


def _ridge(
    features: Tensor,
    targets: Tensor,
    penalty: float,
    *,
    bias: str = "free",
    cost: Callable = lambda penalty, n: penalty,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The regression with room for the usual slips."""
    ones = features.new_ones(len(features), 0 if bias == "none" else 1)
    rows = torch.cat([ones, features] if bias == "first" else [features, ones], dim=1).to(dtype)
    costs = torch.full((rows.shape[1],), float(cost(penalty, len(rows))), dtype=dtype, device=rows.device)
    if bias in ("free", "first"):
        costs[0 if bias == "first" else -1] = 0
    if bias == "wrong row":
        costs[0] = 0
    weights = torch.linalg.solve(rows.T @ rows + costs.diag(), rows.T @ targets.to(dtype))
    return weights.to(features.dtype)


def _mean_as_bias(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    weights = _ridge(features, targets - targets.mean(0), penalty, bias="none")
    return torch.cat([weights, targets.mean(0, keepdim=True)])


RIDGE_MISTAKES: dict[str, Callable] = {
    "the bias is kept small too: it has no penalty": lambda x, y, p: _ridge(x, y, p, bias="penalised"),
    "there is no bias: append a column of ones": (
        lambda x, y, p: torch.cat([_ridge(x, y, p, bias="none"), y.new_zeros(1, y.shape[1])])
    ),
    "the row of the bias is missing: weights are (F + 1, D)": lambda x, y, p: _ridge(x, y, p)[:-1],
    "the bias is the last row, not the first": lambda x, y, p: _ridge(x, y, p, bias="first"),
    "the penalty is forgotten": lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: 1e-9),
    "the penalty stands against the sum of the squared errors: do not multiply it by the number of rows": (
        lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: penalty * n)
    ),
    "the penalty stands against the sum of the squared errors: do not divide it by the number of rows": (
        lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: penalty / n)
    ),
    "the penalty is subtracted: add it, rows.T @ rows + penalty * E": (
        lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: -penalty)
    ),
    "the penalty enters as it is, without a root": (
        lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: penalty**0.5)
    ),
    "the first feature has no penalty: the bias has none, the last row": (
        lambda x, y, p: _ridge(x, y, p, bias="wrong row")
    ),
    "the penalty enters once, not squared": lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: penalty**2),
    "single precision is too coarse for rows.T @ rows: compute with .double(), and give float32 back": (
        lambda x, y, p: _ridge(x, y, p, dtype=torch.float32)
    ),
    "the bias is not the targets' mean, unless the features have mean 0: append a column of ones": _mean_as_bias,
    "the result is turned: (F + 1, D), a row a feature": lambda x, y, p: _ridge(x, y, p).T.contiguous(),
}

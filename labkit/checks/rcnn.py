"""Checks of notebook 06, R-CNN."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from labkit.checks.engine import Case, run_check
from labkit.detection import rcnn


def _boxes(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _flags(pattern: str) -> Tensor:
    """One flag a sign: + is true."""
    return torch.tensor([sign == "+" for sign in pattern], dtype=torch.bool)


# -------------------------------------------------------------------------------------------- crop_and_resize


def crop_and_resize(student: Callable) -> Callable:
    """Check `my_crop_and_resize(image (C, H, W), boxes (R, 4), size, context) -> (R, C, size, size)` of notebook 06.

    Example:
        >>> crop_and_resize(reference_crop_and_resize) is reference_crop_and_resize
        ✓ crop_and_resize: 11 cases agree. From here on the notebook uses your function.
        True
    """
    ramp = (torch.arange(14.0)[:, None] * 10 + torch.arange(20.0))[None] / 100  # (1, 14, 20)
    noise, colour = _random(1, 17, 26, seed=0).abs(), _random(3, 15, 22, seed=1)
    several = _boxes([2, 1, 13, 9.5], [0, 0, 26, 17], [8.25, 3.5, 20, 6])
    cases = [
        Case("a box as large as the result", (ramp, _boxes([3, 2, 7, 6]), 4, 0)),
        Case("a wide box becomes a square", (ramp, _boxes([3, 2, 15, 6]), 4, 0)),
        Case("a high box, and a corner between pixels", (ramp, _boxes([4.5, 1, 8.5, 11]), 5, 0)),
        Case("an enlarged box", (noise, _boxes([5, 4, 9, 7]), 9, 0)),
        Case("context of 1 pixel on each side", (ramp, _boxes([6, 4, 12, 8]), 6, 1)),
        Case("more context, a box of another shape", (noise, _boxes([9, 5, 17, 9]), 10, 3)),
        Case("context that reaches over the edge: 0 there", (ramp + 1, _boxes([0, 1, 4, 5]), 6, 1)),
        Case("context over the far edge", (noise + 1, _boxes([20, 12, 26, 17]), 7, 2)),
        Case("3 boxes", (noise, several, 8, 2)),
        Case("no boxes", (noise, _boxes(), 8, 2)),
        Case("3 channels, 3 boxes", (colour, several * 0.8, 11, 2)),
    ]
    return run_check(
        "crop_and_resize",
        student,
        reference_crop_and_resize,
        cases,
        mistakes=CROP_AND_RESIZE_MISTAKES,
        draw=_draw_crops,
        atol=1e-4,
    )


def reference_crop_and_resize(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    """All boxes at once; the loop of the notebook gives the same."""
    return rcnn.crop_and_resize(image, boxes, size=size, context=context)


def _crop(image, boxes, size, context, *, offset=0.5, inner=None, padding="zeros", mode="bilinear", wide=None):
    """Cutting out with room for the usual slips; `wide` changes the boxes first."""
    boxes = boxes if wide is None else wide(boxes)
    steps = torch.arange(size, device=image.device) + offset - context
    inner = size - 2 * context if inner is None else inner(size, context)
    sides = boxes[:, 2:] - boxes[:, :2]
    x, y = (boxes[:, k, None] + steps * sides[:, k, None] / inner for k in (0, 1))
    height, width = image.shape[1:]
    grid = torch.stack(torch.broadcast_tensors((2 * x / width - 1)[:, None], (2 * y / height - 1)[:, :, None]), dim=-1)
    images = image.expand(len(boxes), *image.shape)
    return grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def _edge_to_edge(image, boxes, size, context):
    """The first and last samples on the edges of the box, as linspace(x1, x2, size) puts them."""
    return _crop(image, boxes, size, context, offset=0.0, inner=lambda s, c: s - 2 * c - 1)


def _square(boxes: Tensor) -> Tensor:
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centres - half, centres + half], dim=1)


def _by_pixels(image, boxes, size, context):
    grown = boxes + context * boxes.new_tensor([-1.0, -1, 1, 1])
    return _crop(image, grown, size, 0)


def _as_sizes(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


CROP_AND_RESIZE_MISTAKES = {
    "the context is missing: widen the box before you look": lambda i, b, s, c: _crop(i, b, s, 0),
    "the context counts pixels of the result, not of the image": _by_pixels,
    "the box takes size - 2 * context pixels of the result, not size": (
        lambda i, b, s, c: _crop(i, b, s, c, inner=lambda size, context: size)
    ),
    "look at the middle of each output pixel: add 0.5": lambda i, b, s, c: _crop(i, b, s, c, offset=0.0),
    "the samples stand at the middles of the output pixels, not from edge to edge of the box": _edge_to_edge,
    "rows are y and columns are x: the result is turned": (
        lambda i, b, s, c: _crop(i, b, s, c).transpose(2, 3).contiguous()
    ),
    "R-CNN warps: width and height are stretched each by its own factor": (
        lambda i, b, s, c: _crop(i, b, s, c, wide=_square)
    ),
    "between pixels the value is mixed (bilinear), not taken from the nearest": (
        lambda i, b, s, c: _crop(i, b, s, c, mode="nearest")
    ),
    "outside the image is 0, the mean; the edge is not repeated": (
        lambda i, b, s, c: _crop(i, b, s, c, padding="border")
    ),
    "boxes are x1 y1 x2 y2 here, not corner and size": lambda i, b, s, c: _crop(i, b, s, c, wide=_as_sizes),
}


def _draw_crops(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import new_figure, show_image

    figure, axes = new_figure(1, 3, width=4, height=3.6)
    image, boxes = case.args[:2]
    show_image(image[:1], boxes=boxes, value_range=None, title=f"given: {case.what}", ax=axes[0])
    show_image(expected[0, :1], value_range=None, title="expected", ax=axes[1])
    show_image(got[0, :1], value_range=None, title="got", ax=axes[2])
    return figure


# --------------------------------------------------------------------------------------------- hard_negatives


def hard_negatives(student: Callable) -> Callable:
    """Check `my_hard_negatives(scores (N,), is_background (N,), chosen (N,), count) -> rows` of notebook 06.

    Example:
        >>> hard_negatives(rcnn.hard_negatives) is rcnn.hard_negatives
        ✓ hard_negatives: 11 cases agree. From here on the notebook uses your function.
        True
    """
    scores = torch.tensor([0.5, -0.25, 2.0, -3.0, -0.75, 1.5])
    generator = torch.Generator().manual_seed(3)
    many = torch.randint(-30, 20, (90,), generator=generator) / 8  # many ties, many exactly at -1
    background, chosen = (torch.rand(90, generator=generator) < share for share in (0.8, 0.3))
    cases = [
        Case("one row of background, inside the margin", (torch.tensor([-0.5]), _flags("+"), _flags("-"), 5)),
        Case("one row of background, far on its side", (torch.tensor([-1.5]), _flags("+"), _flags("-"), 5)),
        Case("exactly at -1: that costs nothing", (torch.tensor([-1.0, 0.5]), _flags("++"), _flags("--"), 5)),
        Case("three rows, not sorted by score", (torch.tensor([-0.5, 1.0, 0.25]), _flags("+++"), _flags("---"), 5)),
        Case("rows of the class are no negatives", (scores, _flags("++-++-"), _flags("------"), 9)),
        Case("rows that it knows already", (scores, _flags("++++++"), _flags("+---+-"), 9)),
        Case("at most 2", (scores, _flags("++++++"), _flags("------"), 2)),
        Case("equal scores: the lower row comes first", (torch.zeros(40), _flags("-" + "+" * 39), _flags("-" * 40), 9)),
        Case("nothing is hard", (scores - 9, _flags("++++++"), _flags("------"), 9)),
        Case("no rows", (scores[:0], _flags(""), _flags(""), 9)),
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


HARD_NEGATIVES_MISTAKES = {
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
    "among equal scores the lower row comes first: sort with stable=True": _last_of_equals,
    "there are too many: at most count": lambda s, b, c, n: _hard(s, b, c, len(s)),
}


# ------------------------------------------------------------------------------------------------------ ridge


def ridge(student: Callable) -> Callable:
    """Check `my_ridge(features (N, F), targets (N, D), penalty) -> weights (F + 1, D)` of notebook 06.

    Example:
        >>> ridge(rcnn.ridge) is rcnn.ridge
        ✓ ridge: 8 cases agree. From here on the notebook uses your function.
        True
    """
    line = torch.tensor([[0.0], [1.0], [3.0]])
    features, targets = _random(30, 3, seed=5), _random(30, 4, seed=6)
    cases = [
        Case("three points of the line 2 x, nearly no penalty", (line, 2 * line, 1e-6)),
        Case("the line 2 x + 5: the bias", (line, 2 * line + 5, 1e-6)),
        Case("the same with a penalty: the slope shrinks", (line, 2 * line + 5, 3.0)),
        Case("no slope at all, only a bias: it is not shrunk", (line, torch.full((3, 1), 7.0), 10.0)),
        Case("2 features, 1 target", (features[:7, :2], targets[:7, :1], 0.5)),
        Case("3 features, 4 targets", (features + 1, targets + 2 * features[:, :1], 4.0)),
        Case("fewer rows than features", (_random(3, 5, seed=7) + 0.5, targets[:3], 2.0)),
        Case("a heavy penalty", (3 * features - 2, targets + features[:, :1] * 3, 250.0)),
    ]
    return run_check("ridge", student, rcnn.ridge, cases, mistakes=RIDGE_MISTAKES, atol=1e-4)


def _ridge(features, targets, penalty, *, bias="free", cost=lambda penalty, n: penalty, solve_for=1.0):
    """The regression with room for the usual slips."""
    ones = features.new_ones(len(features), 0 if bias == "none" else 1)
    rows = torch.cat([ones, features] if bias == "first" else [features, ones], dim=1).double()
    costs = torch.full((rows.shape[1],), float(cost(penalty, len(rows))), dtype=torch.float64, device=rows.device)
    if bias in ("free", "first"):
        costs[0 if bias == "first" else -1] = 0
    weights = torch.linalg.solve(rows.T @ rows + costs.diag(), rows.T @ targets.double())
    return weights.to(features.dtype)


RIDGE_MISTAKES = {
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
    "the penalty enters once, not squared": lambda x, y, p: _ridge(x, y, p, cost=lambda penalty, n: penalty**2),
    "the result is turned: (F + 1, D), a row a feature": lambda x, y, p: _ridge(x, y, p).T.contiguous(),
}

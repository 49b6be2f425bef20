"""Checks of notebook 04, scoring a detector."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check


def _scores(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _flags(pattern: str) -> Tensor:
    """One flag a sign: + is a hit, - a miss."""
    return torch.tensor([sign == "+" for sign in pattern], dtype=torch.bool)


def _rows(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _ranked(count: int, seed: int, *, levels: int = 10_000) -> tuple[Tensor, Tensor]:
    """Random scores, of few `levels` where ties are wanted, and hits that are likelier where the score is high."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(1, levels, (count,), generator=generator) / levels
    return scores, torch.rand(count, generator=generator) < 0.2 + 0.6 * scores


def _marks(count: int, seed: int, *, truths: int, levels: int = 10_000) -> tuple[Tensor, Tensor]:
    """Random scores and what each mark hits: about half nothing (-1), the others one of all truths but the last."""
    scores, hit = _ranked(count, seed, levels=levels)
    truth = torch.randint(0, truths - 1, (count,), generator=torch.Generator().manual_seed(seed + 1))
    return scores, torch.where(hit, truth, -1)


# ------------------------------------------------------------------------------------------ average_precision


def average_precision(student: Callable) -> Callable:
    """Check `my_average_precision(scores (D,), is_hit (D,) bool, num_truths) -> area` of notebook 04.

    Example:
        >>> average_precision(reference_average_precision) is reference_average_precision
        ✓ average_precision: 15 cases agree. From here on the notebook uses your function.
        True
    """
    cases = [
        Case("one hit, one truth", (_scores(0.9), _flags("+"), 1)),
        Case("one hit, two truths: the missed one stays in the denominator", (_scores(0.9), _flags("+"), 2)),
        Case("a hit, then a miss: what comes after the last hit costs nothing", (_scores(0.9, 0.8), _flags("+-"), 1)),
        Case("a miss, then a hit", (_scores(0.9, 0.8), _flags("-+"), 1)),
        Case("the same, not sorted by score", (_scores(0.8, 0.9), _flags("+-"), 1)),
        Case("only misses", (_scores(0.9, 0.8), _flags("--"), 3)),
        Case("precision falls and rises again: take the envelope", (_scores(0.9, 0.8, 0.7, 0.6), _flags("+-++"), 3)),
        Case("the five of the table", (_scores(0.9, 0.8, 0.7, 0.6, 0.5), _flags("+-+-+"), 4)),
        Case("equal scores keep their order, the miss first", (_scores(0.5, 0.5, 0.5), _flags("-++"), 2)),
        Case("equal scores keep their order, the hit first", (_scores(0.5, 0.5, 0.5), _flags("+-+"), 2)),
        Case("no detections, 3 truths", (_scores(), _flags(""), 3)),
        Case("no truths: there is nothing to recall", (_scores(0.9, 0.8), _flags("--"), 0)),
        Case("no detections and no truths", (_scores(), _flags(""), 0)),
        Case("50 detections, 41 truths", (*_ranked(50, 0), 41)),
        Case("120 detections with many equal scores, 97 truths", (*_ranked(120, 1, levels=9), 97)),
    ]
    return run_check(
        "average_precision", student, reference_average_precision, cases, mistakes=AVERAGE_PRECISION_MISTAKES
    )


def reference_average_precision(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    """Area under the envelope of precision over recall; nan without truths.

    Each hit widens the recall by 1 / num_truths, at the best precision reached there or later.
    """
    if num_truths == 0:
        return float("nan")
    hits, precision = _curve(scores, is_hit)
    return float((hits * _envelope(precision)).sum() / num_truths)


def _curve(scores: Tensor, is_hit: Tensor, *, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(D,) hits and precision, best score first."""
    order = scores.argsort(descending=True, stable=True) if order is None else order
    hits = is_hit[order].double()
    return hits, hits.cumsum(0) / torch.arange(1, len(hits) + 1, device=hits.device)


def _envelope(precision: Tensor) -> Tensor:
    """The best precision at each recall or a higher one."""
    return precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision


def _area(scores: Tensor, is_hit: Tensor, num_truths: int, *, order=None, smooth=_envelope, truths=None) -> float:
    """The area with room for the usual slips."""
    hits, precision = _curve(scores, is_hit, order=order)
    total = num_truths if truths is None else truths
    return float((hits * smooth(precision)).sum() / total) if total else float("nan")


def _zero_without_truths(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    return reference_average_precision(scores, is_hit, num_truths) if num_truths else 0.0


def _at_levels(scores: Tensor, is_hit: Tensor, num_truths: int, *, steps: int) -> float:
    if num_truths == 0:
        return float("nan")
    hits, precision = _curve(scores, is_hit)
    recall = hits.cumsum(0) / num_truths
    best = [max(precision[recall >= k / steps - 1e-9].tolist(), default=0.0) for k in range(steps + 1)]
    return sum(best) / len(best)


def _trapezoids(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    if num_truths == 0:
        return float("nan")
    hits, precision = _curve(scores, is_hit)
    recall = torch.cat([hits.new_zeros(1), hits.cumsum(0) / num_truths])
    return float(torch.trapezoid(torch.cat([hits.new_ones(1), precision]), recall))


def _mean_precision(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    if num_truths == 0:
        return float("nan")
    return float(_curve(scores, is_hit)[1].mean()) if len(scores) else 0.0


def _share_of_hits(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    if num_truths == 0:
        return float("nan")
    return float(is_hit.double().mean()) if len(scores) else 0.0


AVERAGE_PRECISION_MISTAKES = {
    "the worst detections come first: sort the scores with descending=True": (
        lambda s, h, n: _area(s, h, n, order=s.argsort(stable=True))
    ),
    "the detections are taken in the order they came, not from the best score down": (
        lambda s, h, n: _area(s, h, n, order=torch.arange(len(s), device=s.device))
    ),
    "a hit is weighted by 1 / (number of hits): missed truths must stay in the denominator, 1 / num_truths": (
        lambda s, h, n: _area(s, h, n, truths=int(h.sum())) if h.any() else (0.0 if n else float("nan"))
    ),
    "the precision is not smoothed: at each hit take the best precision there or later": (
        lambda s, h, n: _area(s, h, n, smooth=lambda precision: precision)
    ),
    "the envelope looks back: take the best precision at this recall or a HIGHER one": (
        lambda s, h, n: _area(s, h, n, smooth=lambda p: p.cummax(0).values if len(p) else p)
    ),
    "among equal scores the later detection comes first: sort with stable=True": (
        lambda s, h, n: _area(s, h, n, order=s.flip(0).argsort(descending=True, stable=True).neg() + len(s) - 1)
    ),
    "this is the 11-point mean of VOC 2007; the exercise asks for the area": lambda s, h, n: _at_levels(
        s, h, n, steps=10
    ),
    "this is COCO's mean at 101 recalls; the exercise asks for the area": lambda s, h, n: _at_levels(
        s, h, n, steps=100
    ),
    "trapezoids under the raw curve: the area is made of rectangles as high as the envelope": _trapezoids,
    "this is the mean precision over all detections: only a hit widens the area": _mean_precision,
    "this is the share of hits among the detections; it ignores the ranking": _share_of_hits,
    "without truths there is no recall: give nan, for 0 would say that something was missed": _zero_without_truths,
}


# ------------------------------------------------------------------------------------------------------- froc


def froc(student: Callable) -> Callable:
    """Check `my_froc(scores (M,), truth (M,) int64, num_truths, num_images) -> (false_positives, sensitivity)`.

    Example:
        >>> froc(reference_froc) is reference_froc
        ✓ froc: 14 cases agree. From here on the notebook uses your function.
        True
    """
    cases = [
        Case("one mark on the only truth", (_scores(0.9), _rows(0), 1, 1)),
        Case("one mark on nothing, 2 images", (_scores(0.9), _rows(-1), 1, 2)),
        Case("one truth of three found, 2 images: missed ones stay in the denominator", (_scores(0.9), _rows(2), 3, 2)),
        Case("a false mark, then a hit", (_scores(0.9, 0.4), _rows(-1, 0), 1, 4)),
        Case("the same, not sorted by score", (_scores(0.4, 0.9), _rows(0, -1), 1, 4)),
        Case("one truth hit twice: found once, and no false mark", (_scores(0.9, 0.4), _rows(1, 1), 2, 3)),
        Case("equal scores enter together", (_scores(0.5, 0.5), _rows(-1, 0), 2, 4)),
        Case("a perfect detector that knows one score", (_scores(1, 1, 1), _rows(2, 0, 1), 3, 5)),
        Case("no marks", (_scores(), _rows(), 3, 2)),
        Case("no truths: there is nothing to find", (_scores(0.9, 0.3), _rows(-1, -1), 0, 5)),
        Case(
            "hits, repeats and false marks mixed",
            (_scores(0.6, 0.9, 0.6, 0.3, 0.8, 0.2), _rows(0, 2, -1, 0, 2, -1), 4, 3),
        ),
        Case("12 marks, 5 truths, 7 images", (*_marks(12, 0, truths=5), 5, 7)),
        Case("60 marks with many equal scores", (*_marks(60, 2, truths=23, levels=12), 23, 17)),
        Case("150 marks, 61 truths, 40 images", (*_marks(150, 4, truths=61), 61, 40)),
    ]
    return run_check("froc", student, reference_froc, cases, mistakes=FROC_MISTAKES, draw=_draw_froc)


def reference_froc(scores: Tensor, truth: Tensor, num_truths: int, num_images: int) -> tuple[Tensor, Tensor]:
    """False positives an image and sensitivity, (K + 1,) each: (0, 0), then one point for each distinct score."""
    return _froc(scores, truth, num_truths, num_images)


def _froc(
    scores: Tensor,
    truth: Tensor,
    num_truths: int,
    num_images: int,
    *,
    thresholds: Tensor | None = None,
    shows=torch.ge,
    found: Callable[[Tensor], int] = lambda truth: len(truth[truth >= 0].unique()),
    alarms: Callable[[Tensor], int] = lambda truth: int((truth < 0).sum()),
    origin: bool = True,
) -> tuple[Tensor, Tensor]:
    """The curve with room for the usual slips; `found` and `alarms` count in the marks that are shown."""
    thresholds = scores.unique().flip(0) if thresholds is None else thresholds
    shown = [truth[shows(scores, threshold)] for threshold in thresholds]
    start = [truth[:0]] if origin else []
    alarm_counts = scores.new_tensor([alarms(part) for part in start + shown])
    found_counts = scores.new_tensor([found(part) for part in start + shown])
    return alarm_counts / num_images, found_counts / num_truths


def _only_found_truths(scores: Tensor, truth: Tensor, num_truths: int, num_images: int) -> tuple[Tensor, Tensor]:
    return _froc(scores, truth, len(truth[truth >= 0].unique()), num_images)


FROC_MISTAKES = {
    "a truth that is hit twice is counted twice: count distinct truths, .unique()": (
        lambda s, t, n, i: _froc(s, t, n, i, found=lambda truth: int((truth >= 0).sum()))
    ),
    "the second mark on a truth is counted as a false positive: it counts for nothing": (
        lambda s, t, n, i: _froc(s, t, n, i, alarms=lambda truth: len(truth) - len(truth[truth >= 0].unique()))
    ),
    "missed lesions are missing from the denominator: divide by num_truths, not by those that are ever hit": (
        _only_found_truths
    ),
    "these are false positives in all: divide by num_images": lambda s, t, n, i: _froc(s, t, n, 1),
    "the sensitivity is divided by the number of images: divide by num_truths": lambda s, t, n, i: _froc(s, t, i, i),
    "truth 0 is a truth: a false mark has -1, so ask for truth >= 0": (
        lambda s, t, n, i: _froc(
            s, t, n, i, found=lambda x: len(x[x > 0].unique()), alarms=lambda x: int((x <= 0).sum())
        )
    ),
    "-1 is counted as a truth that was found: leave the false marks out before .unique()": (
        lambda s, t, n, i: _froc(s, t, n, i, found=lambda truth: len(truth.unique()))
    ),
    "a mark with exactly the threshold's score is shown too: scores >= threshold": (
        lambda s, t, n, i: _froc(s, t, n, i, shows=torch.gt)
    ),
    "equal scores enter together: one point for each distinct score, not for each mark": (
        lambda s, t, n, i: _froc(s, t, n, i, thresholds=s.sort(descending=True).values)
    ),
    "the lowest score is missing: the last threshold shows all marks": (
        lambda s, t, n, i: _froc(s, t, n, i, thresholds=s.unique().flip(0)[:-1])
    ),
    "the first point is missing: with no mark shown the curve stands at (0, 0)": (
        lambda s, t, n, i: _froc(s, t, n, i, origin=False)
    ),
    "the lowest threshold comes first: begin with the strictest, .flip(0)": (
        lambda s, t, n, i: _froc(s, t, n, i, thresholds=s.unique())
    ),
    "the two are exchanged: false positives first, then the sensitivity": (
        lambda s, t, n, i: _froc(s, t, n, i)[::-1]
    ),
}  # fmt: skip


def _draw_froc(case: Case, expected: tuple[Tensor, Tensor], got: tuple[Tensor, Tensor]):
    from labkit.plotting import COLORS, new_figure

    figure, axes = new_figure(width=6, height=4)
    for (alarms, sensitivity), color, name, style in zip(
        (expected, got), (COLORS["green"], COLORS["red"]), ("expected", "got"), ("-o", "--x"), strict=True
    ):
        axes.plot(alarms.tolist(), sensitivity.tolist(), style, color=color, ms=9, label=name)
    axes.set(xlabel="false positives an image", ylabel="sensitivity", title=case.what)
    axes.legend(loc="lower right")
    return figure

"""Checks of notebook 04, scoring a detector."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import flags, floats, whole


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
        >>> average_precision(lambda scores, is_hit, num_truths: _trapezoids(scores, is_hit, num_truths)).__name__
        ✗ average_precision: a miss, then a hit
        ...
          likely: trapezoids under the raw curve: the area is made of rectangles as high as the envelope
        ...
        'reference_average_precision'
    """
    cases = [
        Case("one hit, one truth", (floats(0.9), flags("+"), 1)),
        Case("one hit, two truths: the missed one stays in the denominator", (floats(0.9), flags("+"), 2)),
        Case("a hit, then a miss: what comes after the last hit costs nothing", (floats(0.9, 0.8), flags("+-"), 1)),
        Case("a miss, then a hit", (floats(0.9, 0.8), flags("-+"), 1)),
        Case("the same, not sorted by score", (floats(0.8, 0.9), flags("+-"), 1)),
        Case("only misses", (floats(0.9, 0.8), flags("--"), 3)),
        Case("precision falls and rises again: take the envelope", (floats(0.9, 0.8, 0.7, 0.6), flags("+-++"), 3)),
        Case("the five of the table", (floats(0.9, 0.8, 0.7, 0.6, 0.5), flags("+-+-+"), 4)),
        Case("equal scores keep their order, the miss first", (floats(0.5, 0.5, 0.5), flags("-++"), 2)),
        Case("equal scores keep their order, the hit first", (floats(0.5, 0.5, 0.5), flags("+-+"), 2)),
        Case("no detections, 3 truths", (floats(), flags(""), 3)),
        Case("no truths: there is nothing to recall", (floats(0.9, 0.8), flags("--"), 0)),
        Case("no detections and no truths", (floats(), flags(""), 0)),
        Case("50 detections, 41 truths", (*_ranked(50, 0), 41)),
        Case("120 detections with many equal scores, 97 truths", (*_ranked(120, 1, levels=9), 97)),
    ]
    return run_check(
        "average_precision",
        student,
        reference_average_precision,
        cases,
        mistakes=AVERAGE_PRECISION_MISTAKES,
        draw=_draw_area,
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
    hits = is_hit[order].cpu().double()  # some devices have no float64
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


def _trapezoids(scores: Tensor, is_hit: Tensor, num_truths: int, *, smooth=None, start: bool = True) -> float:
    """The area as torch.trapezoid takes it, from recall 0 on or from the first detection on."""
    if num_truths == 0:
        return float("nan")
    hits, precision = _curve(scores, is_hit)
    recall, height = hits.cumsum(0) / num_truths, precision if smooth is None else smooth(precision)
    if start:
        recall, height = torch.cat([recall.new_zeros(1), recall]), torch.cat([height.new_ones(1), height])
    return float(torch.trapezoid(height, recall))


def _ranks_from_0(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    ranks = torch.arange(len(scores), device=scores.device)
    return _area(scores, is_hit, num_truths, smooth=lambda precision: _envelope(precision * (ranks + 1) / ranks))


def _mean_precision(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    if num_truths == 0:
        return float("nan")
    return float(_curve(scores, is_hit)[1].mean()) if len(scores) else 0.0


def _share_of_hits(scores: Tensor, is_hit: Tensor, num_truths: int) -> float:
    if num_truths == 0:
        return float("nan")
    return float(is_hit.float().mean()) if len(scores) else 0.0


AVERAGE_PRECISION_MISTAKES: dict[str, Callable] = {
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
    "among equal scores the earlier one comes first: descending=True, stable=True; a flip turns ties round": (
        lambda s, h, n: _area(s, h, n, order=s.flip(0).argsort(descending=True, stable=True).neg() + len(s) - 1)
    ),
    "the envelope stands the wrong way round: turn it back after cummax, .flip(0)": (
        lambda s, h, n: _area(s, h, n, smooth=lambda p: _envelope(p).flip(0))
    ),
    "the area is divided by the number of detections: divide by num_truths": (
        lambda s, h, n: _area(s, h, n, truths=len(s)) if n and len(s) else (0.0 if n else float("nan"))
    ),
    "this is the 11-point mean of VOC 2007; the exercise asks for the area": lambda s, h, n: _at_levels(
        s, h, n, steps=10
    ),
    "this is COCO's mean at 101 recalls; the exercise asks for the area": lambda s, h, n: _at_levels(
        s, h, n, steps=100
    ),
    "trapezoids under the raw curve: the area is made of rectangles as high as the envelope": _trapezoids,
    "trapezoids under the raw curve, and the first hit counts for nothing: add up a rectangle for each hit": (
        lambda s, h, n: _trapezoids(s, h, n, start=False)
    ),
    "trapezoids under the envelope, and the first hit counts for nothing: add up a rectangle for each hit": (
        lambda s, h, n: _trapezoids(s, h, n, smooth=_envelope, start=False)
    ),
    "ranks count from 1: the first detection has precision 1/1 or 0/1": _ranks_from_0,
    "every detection widens the recall here: only a hit does": (
        lambda s, h, n: float(_envelope(_curve(s, h)[1]).sum() / n) if n else float("nan")
    ),
    "this is the mean precision over all detections: only a hit widens the area": _mean_precision,
    "this is the share of hits among the detections; it ignores the ranking": _share_of_hits,
    "without truths there is no recall: give nan, for 0 would say that something was missed": _zero_without_truths,
}


def _draw_area(case: Case, expected: float, got):
    """The precisions, their envelope, and a flat line that has the student's area under it."""
    from labkit.checks.pictures import EXPECTED, GOT, legend, panels

    scores, is_hit, num_truths = case.args
    hits, precision = (values.cpu() for values in _curve(scores, is_hit))
    recall, top = [0.0], [1.0]
    for hit, height in zip((hits > 0).tolist(), _envelope(precision).tolist(), strict=True):
        if hit:
            recall, top = [*recall, recall[-1] + 1 / num_truths], [*top, height]
    figure, axes = panels(1, title=f"{case.what}: expected {expected:.4g}, got {float(got):.4g}", width=6.4, height=3.8)
    ax, steps = axes[0], [top[min(1, len(top) - 1)], *top[1:]]
    ax.fill_between(recall, steps, step="pre", color=EXPECTED, alpha=0.25)
    ax.step(recall, steps, where="pre", color=EXPECTED, label="the envelope; shaded: the area")
    points = (hits.cumsum(0) / num_truths).tolist()
    ax.plot(points, precision.tolist(), "o", color="black", ms=7, label="precision, detection by detection")
    ax.plot([0, 1], [float(got)] * 2, "--", color=GOT, label="your area, spread over all recalls")
    ax.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.03, max(1.05, 1.05 * float(got))))
    legend(ax)
    return figure


# ------------------------------------------------------------------------------------------------------- froc


def froc(student: Callable) -> Callable:
    """Check `my_froc(scores (M,), truth (M,) int64, num_truths, num_images) -> (false_positives, sensitivity)`.

    Example:
        >>> froc(lambda scores, truth, num_truths, num_images: reference_froc(scores, truth, num_truths, 1)).__name__
        ✗ froc: one mark on nothing, 2 images
        ...
          likely: these are false positives in all: divide by num_images
        ...
        'reference_froc'
    """
    cases = [
        Case("one mark on the only truth", (floats(0.9), whole(0), 1, 1)),
        Case("one mark on nothing, 2 images", (floats(0.9), whole(-1), 1, 2)),
        Case("one truth of three found, 2 images: missed ones stay in the denominator", (floats(0.9), whole(2), 3, 2)),
        Case("a false mark, then a hit", (floats(0.9, 0.4), whole(-1, 0), 1, 4)),
        Case("the same, not sorted by score", (floats(0.4, 0.9), whole(0, -1), 1, 4)),
        Case("one truth hit twice: found once, and no false mark", (floats(0.9, 0.4), whole(1, 1), 2, 3)),
        Case("equal scores enter together", (floats(0.5, 0.5), whole(-1, 0), 2, 4)),
        Case("a perfect detector that knows one score", (floats(1, 1, 1), whole(2, 0, 1), 3, 5)),
        Case("no marks", (floats(), whole(), 3, 2)),
        Case("no truths: there is nothing to find", (floats(0.9, 0.3), whole(-1, -1), 0, 5)),
        Case(
            "hits, repeats and false marks mixed",
            (floats(0.6, 0.9, 0.6, 0.3, 0.8, 0.2), whole(0, 2, -1, 0, 2, -1), 4, 3),
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


def _mark_by_mark(scores: Tensor, truth: Tensor, num_truths: int, num_images: int) -> tuple[Tensor, Tensor]:
    """A point for each mark of the sorted list, as if no two scores were equal."""
    places = scores.argsort(descending=True, stable=True).argsort()  # 0 is the best
    found = _froc(len(scores) - places, truth, num_truths, num_images)
    return found[0].to(scores), found[1].to(scores)


FROC_MISTAKES: dict[str, Callable] = {
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
    "the sensitivity is divided by num_images: divide by num_truths": (
        lambda s, t, n, i: _froc(s, t, i if n else n, i)
    ),
    "marks with exactly this score are shown alone: those above it are shown too, scores >= threshold": (
        lambda s, t, n, i: _froc(s, t, n, i, shows=torch.eq)
    ),
    "truth 0 is a truth: a false mark has -1, so ask for truth >= 0": (
        lambda s, t, n, i: _froc(
            s, t, n, i, found=lambda x: len(x[x > 0].unique()), alarms=lambda x: int((x <= 0).sum())
        )
    ),
    "truth 0 is a truth and can be found: ask for truth >= 0, not > 0": (
        lambda s, t, n, i: _froc(s, t, n, i, found=lambda x: len(x[x > 0].unique()))
    ),
    "truth 0 is a truth and no false positive: a false mark has -1, so ask for truth < 0": (
        lambda s, t, n, i: _froc(s, t, n, i, alarms=lambda x: int((x <= 0).sum()))
    ),
    "false positives are counted among all marks, not among those that are shown": (
        lambda s, t, n, i: _froc(s, t, n, i, alarms=lambda x: int((t < 0).sum()) if len(x) else 0)
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
    "equal scores enter together: one point for each distinct score, not for each mark in turn": _mark_by_mark,
    "without truths there is no sensitivity: give nan, for 0 would say that something was missed": (
        lambda s, t, n, i: _froc(s, t, max(n, 1), i)
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
    "the two are exchanged: false positives first, then the sensitivity": (lambda s, t, n, i: _froc(s, t, n, i)[::-1]),
}


def _draw_froc(case: Case, expected: tuple[Tensor, Tensor], got: tuple[Tensor, Tensor]):
    from labkit.checks.pictures import EXPECTED, GOT, legend, panels

    figure, axes = panels(1, title=case.what, width=6.4, height=4)
    kinds = ((expected, EXPECTED, "expected", "-o", 10), (got, GOT, "got", "--x", 9))
    for (alarms, sensitivity), color, name, style, size in kinds:
        axes[0].plot(alarms.tolist(), sensitivity.tolist(), style, color=color, ms=size, label=name)
    axes[0].set(xlabel="false positives an image", ylabel="sensitivity")
    legend(axes[0])
    return figure

"""Checks of notebook 09, the lab session on mammograms: anchors for the lesions' sizes, and one score a breast."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, floats

# ----------------------------------------------------------------------------------------------- anchor_sizes


def anchor_sizes(student: Callable) -> Callable:
    """Check `my_anchor_sizes(boxes (N, 4), count) -> (count,)` of notebook 09.

    Example:
        >>> anchor_sizes(lambda boxes, count: reference_anchor_sizes(boxes, count) ** 2).__name__
        ✗ anchor_sizes: one box, one anchor: the size of the box
        ...
        'reference_anchor_sizes'
    """
    six, twelve = [2, 3, 6, 12], [20, 5, 38, 13]  # 4 x 9 and 18 x 8 pixels
    large, three = [0, 0, 40, 90], [7, 30, 16, 31]  # 40 x 90 and 9 x 1 pixels
    cases = [
        Case("one box, one anchor: the size of the box", (box_rows(six), 1)),
        Case("two boxes, one anchor: the middle", (box_rows(six, twelve), 1)),
        Case("two boxes, two anchors: a quarter, and three quarters, of the way", (box_rows(six, twelve), 2)),
        Case("the larger box comes first", (box_rows(twelve, six), 2)),
        Case("three boxes, one of them very large", (box_rows(six, twelve, large), 3)),
        Case("four boxes, two anchors", (box_rows(large, six, three, twelve), 2)),
        Case("one box, three anchors", (box_rows(six), 3)),
        Case("37 boxes, five anchors", (_lesions(37, 0), 5)),
        Case("120 boxes, four anchors", (_lesions(120, 1), 4)),
    ]
    return run_check("anchor_sizes", student, reference_anchor_sizes, cases, mistakes=ANCHOR_SIZES_MISTAKES, atol=1e-3)


def _lesions(count: int, seed: int) -> Tensor:
    """Boxes with sides of about 17 pixels, few of them squares."""
    generator = torch.Generator().manual_seed(seed)
    corner = 90 * torch.rand(count, 2, generator=generator)
    sides = 17 * (0.4 * torch.randn(count, 2, generator=generator)).exp()
    return torch.cat([corner, corner + sides], dim=1)


def reference_anchor_sizes(boxes: Tensor, count: int) -> Tensor:
    """(count,) quantiles of the boxes' sizes sqrt(w h), at the middles of `count` equal shares; ascending."""
    return _sizes(boxes, count)


def _middles(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def _sizes(
    boxes: Tensor,
    count: int,
    *,
    size: Callable = lambda w, h: (w * h).sqrt(),
    shares: Callable = _middles,
    interpolation: str = "linear",
) -> Tensor:
    """The sizes, with room for the usual slips."""
    w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    return size(w, h).quantile(shares(count).to(boxes), interpolation=interpolation)


def _evenly(boxes: Tensor, count: int) -> Tensor:
    w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    sizes = (w * h).sqrt()
    return sizes.min() + _middles(count).to(boxes) * (sizes.max() - sizes.min())


def _in_order(boxes: Tensor, count: int) -> Tensor:
    w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    return (w * h).sqrt()[(_middles(count) * len(boxes)).long().to(boxes.device)]


def _of_each_share(boxes: Tensor, count: int, middle: Callable, *, cut: Callable = torch.tensor_split) -> Tensor:
    """The sorted sizes cut into `count` heaps, and one size for each."""
    w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    return torch.stack([middle(heap) for heap in cut((w * h).sqrt().sort().values, count)])


ANCHOR_SIZES_MISTAKES: dict[str, Callable] = {
    "the square root is missing: an anchor's size is a side, sqrt(width * height), not an area": (
        lambda b, n: _sizes(b, n, size=lambda w, h: w * h)
    ),
    "these are widths: the height counts as well, sqrt(width * height)": (
        lambda b, n: _sizes(b, n, size=lambda w, h: w)
    ),
    "these are heights: the width counts as well, sqrt(width * height)": (
        lambda b, n: _sizes(b, n, size=lambda w, h: h)
    ),
    "the longer side is taken: an anchor of size s has the area s * s, so take sqrt(width * height)": (
        lambda b, n: _sizes(b, n, size=torch.maximum)
    ),
    "width and height are averaged: an anchor of size s has the area s * s, so take sqrt(width * height)": (
        lambda b, n: _sizes(b, n, size=lambda w, h: (w + h) / 2)
    ),
    "the quantile of the areas is taken, and its root: take the root of each area first, then the quantile": (
        lambda b, n: _sizes(b, n, size=lambda w, h: w * h).sqrt()
    ),
    "widths and heights have quantiles of their own here: take the size of each box first, then the quantile": (
        lambda b, n: (_sizes(b, n, size=lambda w, h: w) * _sizes(b, n, size=lambda w, h: h)).sqrt()
    ),
    "this is the diagonal: an anchor of size s has the area s * s, so take sqrt(width * height)": (
        lambda b, n: _sizes(b, n, size=torch.hypot)
    ),
    "x2 and y2 are corners: the width is x2 - x1, the height y2 - y1": (
        lambda b, n: _sizes(torch.cat([0 * b[:, :2], b[:, 2:]], dim=1), n)
    ),
    "the smallest and the largest box get an anchor of their own: take the middle of each share, (k + 1/2) / count": (
        lambda b, n: _sizes(b, n, shares=lambda n: torch.linspace(0, 1, n))
    ),
    "the shares are (k + 1) / (count + 1): take the middle of each, (k + 1/2) / count": (
        lambda b, n: _sizes(b, n, shares=lambda n: (torch.arange(n) + 1) / (n + 1))
    ),
    "the shares are k / count: take the middle of each, (k + 1/2) / count": (
        lambda b, n: _sizes(b, n, shares=lambda n: torch.arange(n) / n)
    ),
    "the sizes are even steps from the smallest to the largest: most lesions are small, so take quantiles": _evenly,
    "the largest size comes first: give them in ascending order": lambda b, n: _sizes(b, n).flip(0),
    "between two boxes the quantile is interpolated: leave torch.quantile its default": (
        lambda b, n: _sizes(b, n, interpolation="lower")
    ),
    "this is the median of each heap of sizes: take torch.quantile(sizes, (k + 1/2) / count), which interpolates": (
        lambda b, n: _of_each_share(b, n, torch.median)
    ),
    "this is the mean of each heap of sizes: take torch.quantile(sizes, (k + 1/2) / count), which interpolates": (
        lambda b, n: _of_each_share(b, n, torch.mean)
    ),
    "this is the median of each chunk of sizes: take torch.quantile(sizes, (k + 1/2) / count), which interpolates": (
        lambda b, n: _of_each_share(b, n, torch.median, cut=torch.chunk)
    ),
    "this is the mean of each chunk of sizes: take torch.quantile(sizes, (k + 1/2) / count), which interpolates": (
        lambda b, n: _of_each_share(b, n, torch.mean, cut=torch.chunk)
    ),
    "this is the middle row of each heap of sizes: take torch.quantile(sizes, (k + 1/2) / count), which interpolates": (
        lambda b, n: _of_each_share(b, n, lambda heap: heap[len(heap) // 2])
    ),
    "the boxes are taken in the order they came: the quantiles of their sorted sizes are wanted": _in_order,
    "one size for all boxes: give `count` of them": lambda b, n: _sizes(b, 1),
}


# ---------------------------------------------------------------------------------------------- breast_scores


def breast_scores(student: Callable) -> Callable:
    """Check `my_breast_scores(detections, patients (n,), label) -> (P,)` of notebook 09.

    Example:
        >>> breast_scores(lambda detections, patients, label: reference_breast_scores(detections, patients, 2)).__name__
        ✗ breast_scores: label 1 is asked for
        ...
          likely: label 2 is written into the function: use the argument
        ...
        'reference_breast_scores'
    """
    one, none = _film([0.75], [2]), _film([], [])

    def case(what: str, films: list[dict], patients: list[int], label: int = 2) -> Case:
        return Case(what, (films, torch.tensor(patients), label))

    cases = [
        case("one film, one detection", [one], [0]),
        case("one film, two detections: the best counts", [_film([0.25, 0.75], [2, 2])], [0]),
        case("one film without a detection", [none], [0]),
        case("two films of one patient: their mean", [one, _film([0.25], [2])], [4, 4]),
        case("a film without a detection scores 0, and stays in the denominator", [one, none], [4, 4]),
        case("a detection of another class does not count", [_film([0.5, 0.875], [2, 1])], [0]),
        case("only detections of another class: 0, and it stays", [_film([0.875], [1]), one], [4, 4]),
        case("label 1 is asked for", [_film([0.5, 0.875, 0.25], [1, 2, 1])], [0], 1),
        case("three films, the patients in no order", [one, _film([0.5, 0.125], [2, 2]), none], [7, 3, 7]),
        case("one film of one patient, two of another", [one, none, _film([0.5], [2])], [1, 9, 9]),
        Case("23 films of 8 patients", (*_reading(23, 8), 2)),
    ]
    return run_check("breast_scores", student, reference_breast_scores, cases, mistakes=BREAST_SCORES_MISTAKES)


def _film(scores: list[float], labels: list[int]) -> dict[str, Tensor]:
    return {"scores": floats(*scores), "labels": torch.tensor(labels, dtype=torch.int64)}


def _reading(films: int, patients: int) -> tuple[list[dict], Tensor]:
    """Up to four detections a film, two classes, patients in no order."""
    generator = torch.Generator().manual_seed(2)
    counts = torch.randint(0, 5, (films,), generator=generator).tolist()
    detections = [
        {"scores": torch.rand(n, generator=generator), "labels": torch.randint(1, 3, (n,), generator=generator)}
        for n in counts
    ]
    return detections, torch.randperm(films, generator=generator) % patients * 3 + 2


def reference_breast_scores(detections: list[dict], patients: Tensor, label: int) -> Tensor:
    """(P,) mean over each patient's films of the best score of that label, 0 without one; patients ascending."""
    return _scores(detections, patients, label)


def _scores(
    detections: list[dict],
    patients: Tensor,
    label: int,
    *,
    best: Callable = torch.max,
    of_patient: Callable = torch.mean,
    wanted: Callable = lambda labels, label: labels == label,
    empty: str = "zero",
    order: Callable = torch.unique,
) -> Tensor:
    """The scores, with room for the usual slips; `empty` films score 0, are left out, or are looked into as others."""
    films: dict[int, list[Tensor]] = {int(patient): [] for patient in order(patients)}
    for film, owner in zip(detections, patients.tolist(), strict=True):
        scores = film["scores"][wanted(film["labels"], label)]
        if len(scores) or empty == "as others":
            films[owner].append(best(scores))
        elif empty == "zero":
            films[owner].append(film["scores"].new_zeros(()))
    nothing = torch.zeros((), device=patients.device)
    return torch.stack([of_patient(torch.stack(own)) if own else nothing for own in films.values()])


def _first_seen(patients: Tensor) -> Tensor:
    return torch.tensor(list(dict.fromkeys(patients.tolist())))


def _a_film_each(detections: list[dict], patients: Tensor, label: int) -> Tensor:
    return _scores(detections, torch.arange(len(patients)), label)


def _all_detections(detections: list[dict], patients: Tensor, label: int) -> Tensor:
    """The mean over all detections of a patient, as if the films did not exist."""
    values = []
    for patient in patients.unique():
        own = [
            film["scores"][film["labels"] == label]
            for film, owner in zip(detections, patients, strict=True)
            if owner == patient
        ]
        joined = torch.cat(own)
        values.append(joined.mean() if len(joined) else joined.new_zeros(()))
    return torch.stack(values)


BREAST_SCORES_MISTAKES: dict[str, Callable] = {
    "films without a detection are left out: they score 0 and stay in the denominator": (
        lambda d, p, n: _scores(d, p, n, empty="left out")
    ),
    "a film without a detection of that label has no maximum: it scores 0": (
        lambda d, p, n: _scores(d, p, n, empty="as others")
    ),
    "the best film speaks for the breast: take the mean over its films": (
        lambda d, p, n: _scores(d, p, n, of_patient=torch.max)
    ),
    "the films of a breast are added up: take their mean": lambda d, p, n: _scores(d, p, n, of_patient=torch.sum),
    "the mean of a film's detections is taken: a film scores its best one": (
        lambda d, p, n: _scores(d, p, n, best=torch.mean)
    ),
    "the detections of a film are added up: a film scores its best one": (
        lambda d, p, n: _scores(d, p, n, best=torch.sum)
    ),
    "all detections of a patient are averaged: first the best of each film, then the mean over films": _all_detections,
    "the first detection of a film is taken: they need not be sorted, take the best": (
        lambda d, p, n: _scores(d, p, n, best=lambda scores: scores[0])
    ),
    "every class counts: keep the detections with labels == label": (
        lambda d, p, n: _scores(d, p, n, wanted=lambda labels, label: labels > 0)
    ),
    "label 2 is written into the function: use the argument": lambda d, p, n: _scores(d, p, 2),
    "the other class is scored: keep labels == label": (
        lambda d, p, n: _scores(d, p, n, wanted=lambda labels, label: labels != label)
    ),
    "patients stand in the order of their films: give them by ascending number": (
        lambda d, p, n: _scores(d, p, n, order=_first_seen)
    ),
    "these are the films' scores: give one number a patient": _a_film_each,
}

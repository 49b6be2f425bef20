"""Checks of notebook 04."""

import math

import numpy as np
import pytest
import torch

from labkit import checks
from labkit.checks import evaluation as subject
from labkit.detection.evaluation import FrocMarks, average_precision, froc_curve


def area_with_a_list(scores, is_hit, num_truths):
    """Hit by hit, from the worst detection up: the envelope is the running maximum."""
    if num_truths == 0:
        return math.nan
    ranked = [hit for _, hit in sorted(zip(scores.tolist(), is_hit.tolist(), strict=True), key=lambda pair: -pair[0])]
    area = best = 0.0
    for end in range(len(ranked), 0, -1):
        best = max(best, sum(ranked[:end]) / end)
        area += ranked[end - 1] * best / num_truths
    return area


def area_with_numpy(scores, is_hit, num_truths):
    """As VOC's script after 2010: a curve with both ends, an envelope, a sum of steps."""
    if num_truths == 0:
        return torch.tensor(float("nan"))
    found = np.cumsum(is_hit.numpy()[np.argsort(-scores.numpy(), kind="stable")])
    recall = np.concatenate([[0], found / num_truths, [1]])
    precision = np.concatenate([[0], found / np.arange(1, len(found) + 1), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return torch.tensor(((recall[1:] - recall[:-1]) * precision[1:]).sum())


def froc_by_counting(scores, truth, num_truths, num_images):
    """Threshold by threshold, with sets."""
    marks = list(zip(scores.tolist(), truth.tolist(), strict=True))
    alarms, found = [0], [0]
    for threshold in sorted({score for score, _ in marks}, reverse=True):
        shown = [which for score, which in marks if score >= threshold]
        alarms.append(shown.count(-1))
        found.append(len(set(shown) - {-1}))
    sensitivity = [count / num_truths if num_truths else math.nan for count in found]
    return torch.tensor(alarms) / num_images, torch.tensor(sensitivity)


def froc_by_sums(scores, truth, num_truths, num_images):
    """Sorted once; a mark is new when no better one is on its truth; the last of each run of equals stays."""
    order = scores.argsort(descending=True, stable=True)
    scores, truth = scores[order], truth[order]
    new = torch.tensor([which >= 0 and which not in truth[:i] for i, which in enumerate(truth)], dtype=torch.bool)
    last = torch.ones(len(scores), dtype=torch.bool)
    last[:-1] = scores[:-1] != scores[1:]
    start = torch.zeros(1, dtype=torch.int64)
    alarms = torch.cat([start, (truth == -1).cumsum(0)[last]])
    found = torch.cat([start, new.cumsum(0)[last]])
    return [alarms / num_images, found / num_truths]


RIGHT = [
    (checks.average_precision, area_with_a_list),
    (checks.average_precision, area_with_numpy),
    (checks.froc, froc_by_counting),
    (checks.froc, froc_by_sums),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def a_curve(*args):
    return torch.ones(3)


def nothing_divided(*args):
    return float("nan")


@pytest.mark.parametrize(
    ("wrong", "told"), [(a_curve, "is a Tensor, expected a number"), (nothing_divided, "is nan, expected 1")]
)
def test_average_precision_tells_a_wrong_shape(message_of, wrong, told):
    assert told in message_of(checks.average_precision, wrong)


def whole_numbers(*args):
    return tuple(value.nan_to_num().long() for value in subject.reference_froc(*args))


def one_tensor(*args):
    return torch.stack(subject.reference_froc(*args))


def too_many_points(*args):
    return tuple(torch.cat([value, value[-1:]]) for value in subject.reference_froc(*args))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (whole_numbers, "dtype int64, expected float32"),
        (one_tensor, "is a Tensor, expected 2 values"),
        (too_many_points, "shape (3,), expected (2,)"),
    ],
)
def test_froc_tells_a_wrong_shape_or_dtype(message_of, wrong, told):
    assert told in message_of(checks.froc, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_packages(seed):
    """Detections laid on their truths, or far away, give the evaluator the same hits."""
    scores, is_hit = subject._ranked(40, seed, levels=15)
    boxes = torch.stack([torch.tensor([20.0 * i, 0, 20 * i + 8, 5]) for i in range(50)])  # far apart
    detections = {
        "boxes": boxes[:40] + torch.where(is_hit, 0, 300)[:, None] * torch.tensor([0, 1, 0, 1]),
        "scores": scores,
        "labels": torch.ones(40, dtype=torch.int64),
    }
    targets = {"boxes": boxes[is_hit.nonzero()[:, 0].tolist() + list(range(40, 50))]}
    targets["labels"] = torch.ones(len(targets["boxes"]), dtype=torch.int64)
    theirs = average_precision([detections], [targets], interpolation="area")
    mine = subject.reference_average_precision(scores, is_hit, len(targets["boxes"]))
    assert mine == pytest.approx(theirs[1], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_the_packages(seed):
    """Same points, but for those where only a repeated mark enters."""
    scores, truth = subject._marks(80, seed, truths=31, levels=40)
    best = np.full(31, -np.inf)
    hit = truth >= 0
    np.maximum.at(best, truth[hit].numpy(), scores[hit].double().numpy())
    images = [FrocMarks(best, scores[~hit].double().numpy()), *[FrocMarks(np.zeros(0), np.zeros(0))] * 18]
    curve = froc_curve(images)
    theirs = np.stack([curve.false_positives, curve.sensitivity], axis=1)
    mine = torch.stack(subject.reference_froc(scores, truth, 31, 19), dim=1).unique_consecutive(dim=0)
    np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-6)


def trapezoids(scores, is_hit, num_truths):
    """As np.trapz or sklearn's auc would do it."""
    if num_truths == 0:
        return math.nan
    hits = is_hit[scores.argsort(descending=True, stable=True)].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    recall = hits.cumsum(0) / num_truths
    return float(torch.trapezoid(precision, recall))


def froc_above_0(scores, truth, num_truths, num_images):
    alarms, found = [0], [0]
    for threshold in scores.unique().flip(0):
        shown = truth[scores >= threshold]
        alarms.append(int((shown == -1).sum()))
        found.append(len(shown[shown > 0].unique()))
    return torch.tensor(alarms) / num_images, torch.tensor(found) / num_truths


@pytest.mark.parametrize(
    ("check", "wrong", "told"),
    [
        (checks.average_precision, trapezoids, "trapezoids under the raw curve"),
        (checks.froc, froc_above_0, "truth 0 is a truth and can be found"),
    ],
)
def test_what_students_write_is_named(message_of, check, wrong, told):
    assert f"likely: {told}" in message_of(check, wrong)


def test_trapezoids_under_the_envelope_from_recall_0_on_are_the_area(strict):
    def right(*args):
        return subject._trapezoids(*args, smooth=subject._envelope)

    assert checks.average_precision(right) is right

"""Checks of notebook 09."""

import numpy as np
import pytest
import torch

from labkit import checks
from labkit.checks import mammogram_lab as subject
from labkit.detection.evaluation import image_scores


def sizes_with_numpy(boxes, count):
    sides = np.diff(boxes.cpu().numpy().reshape(-1, 2, 2), axis=1)[:, 0]  # (N, 2)
    shares = [(2 * k + 1) / (2 * count) for k in range(count)]
    return torch.tensor(np.quantile(np.sqrt(sides.prod(axis=1)), shares), dtype=torch.float32, device=boxes.device)


def sizes_by_hand(boxes, count):
    """Sorted, and interpolated between neighbours."""
    sizes = sorted(((x2 - x1) * (y2 - y1)) ** 0.5 for x1, y1, x2, y2 in boxes.tolist())
    found = []
    for k in range(count):
        place = (k + 0.5) / count * (len(sizes) - 1)
        low = int(place)
        high = min(low + 1, len(sizes) - 1)
        found.append(sizes[low] + (place - low) * (sizes[high] - sizes[low]))
    return torch.tensor(found, device=boxes.device)


def scores_with_lists(detections, patients, label):
    films = {}
    for film, patient in zip(detections, patients.tolist(), strict=True):
        pairs = zip(film["scores"].tolist(), film["labels"].tolist(), strict=True)
        films.setdefault(patient, []).append(max((score for score, mine in pairs if mine == label), default=0.0))
    return torch.tensor([sum(films[key]) / len(films[key]) for key in sorted(films)], device=patients.device)


def scores_with_sums(detections, patients, label):
    """Best of each film by masking, then sums and counts of each patient."""
    zero = torch.zeros(1, device=patients.device)
    best = torch.stack([torch.cat([zero, f["scores"] * (f["labels"] == label)]).amax() for f in detections])
    _, rows, counts = patients.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(counts), device=patients.device).index_add(0, rows, best) / counts


RIGHT = [
    (checks.anchor_sizes, sizes_with_numpy),
    (checks.anchor_sizes, sizes_by_hand),
    (checks.breast_scores, scores_with_lists),
    (checks.breast_scores, scores_with_sums),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def middles_of_heaps(boxes, count):
    """The middle of each share, taken literally: the sorted sizes in heaps, and the median of each."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.stack([heap.median() for heap in sides.prod(dim=1).sqrt().sort().values.chunk(count)])


def means_of_heaps(boxes, count):
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.stack([heap.mean() for heap in sides.prod(dim=1).sqrt().sort().values.tensor_split(count)])


@pytest.mark.parametrize(
    ("wrong", "told"), [(middles_of_heaps, "median of each chunk"), (means_of_heaps, "mean of each heap")]
)
def test_the_middle_of_each_share_taken_literally_is_named(message_of, wrong, told):
    message = message_of(checks.anchor_sizes, wrong)
    assert f"likely: this is the {told} of sizes" in message
    assert "NaN" not in message


def best_of_nothing(detections, patients, label):
    best = torch.stack([film["scores"][film["labels"] == label].max() for film in detections])
    return torch.stack([best[patients == patient].mean() for patient in patients.unique()])


def test_a_film_without_detections_is_named(message_of):
    assert "likely: a film without a detection of that label has no maximum" in message_of(
        checks.breast_scores, best_of_nothing
    )


def test_the_breast_scores_are_the_packages():
    detections, patients = subject._reading(31, 11)
    targets = [{"labels": torch.zeros(0, dtype=torch.int64)}] * len(detections)
    theirs = image_scores(detections, targets, label=2, groups=patients).scores
    mine = subject.reference_breast_scores(detections, patients, 2)
    np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-6)

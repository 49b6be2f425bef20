import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labkit.detection.evaluation import bootstrap_interval, image_auc, image_scores, roc_auc


def detected(*scores, labels=None):
    labels = [2] * len(scores) if labels is None else labels
    return {"scores": torch.tensor(scores), "labels": torch.tensor(labels, dtype=torch.int64)}


def truth(*labels, **extra):
    return {"labels": torch.tensor(labels, dtype=torch.int64), **extra}


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(80) < 0.3
    scores = np.round(rng.random(80) + 0.3 * positive, seed)  # seed 0: nothing but ties
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert roc_auc(torch.tensor(scores), torch.tensor(positive)) == roc_auc(scores, positive)
    assert roc_auc(-scores, positive) == pytest.approx(1 - roc_auc(scores, positive), abs=1e-12)


def test_images_by_hand():
    detections = [detected(0.25, 0.5), detected(0.75), detected(), detected(0.25)]
    targets = [truth(2), truth(), truth(1), truth()]
    found = image_scores(detections, targets)
    assert found.scores.tolist() == [0.5, 0.75, 0, 0.25]  # an image without detections scores 0 and stays
    assert found.positive.tolist() == [True, False, True, False]
    assert image_auc(detections, targets) == 0.25  # of four pairs only 0.5 > 0.25 is in order


def test_a_label_selects_detections_and_truths():
    detections = [detected(0.9, 0.2, labels=[1, 2]), detected(0.5)]
    found = image_scores(detections, [truth(1), truth(2, 1)], label=2)
    np.testing.assert_allclose(found.scores, [0.2, 0.5])
    assert found.positive.tolist() == [False, True]


def test_excluded_truths_make_no_image_positive():
    targets = [truth(2, excluded=torch.tensor([True])), truth(2, excluded=torch.tensor([False]))]
    assert image_scores([detected(), detected()], targets).positive.tolist() == [False, True]


def test_groups_average_their_images():
    detections = [detected(0.5), detected(0.75), detected(), detected(0.25)]
    found = image_scores(detections, [truth(), truth(), truth(2), truth()], groups=[7, 3, 7, 3])
    assert found.groups.tolist() == [3, 7]
    assert found.scores.tolist() == [0.5, 0.25]
    assert found.positive.tolist() == [False, True]
    assert image_auc(detections, [truth(), truth(), truth(2), truth()], groups=[7, 3, 7, 3]) == 0


def test_scores_bootstrap_to_an_interval_around_the_auc():
    rng = np.random.default_rng(0)
    positive = rng.random(100) < 0.4
    scores = rng.random(100) + 0.4 * positive
    low, high = bootstrap_interval(roc_auc, scores, positive, generator=torch.Generator().manual_seed(0))
    auc = roc_auc(scores, positive)
    assert auc - 0.15 < low < auc < high < auc + 0.15


def test_one_sided_and_empty_sets_are_nan():
    assert math.isnan(image_auc([detected(0.5)], [truth(1)]))
    assert math.isnan(image_auc([detected(0.5)], [truth()]))
    assert math.isnan(image_auc([], []))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"got -2.0; no detection scores 0, so use probabilities"):
        image_auc([detected(0.5, -2.0)], [truth(1)])
    with pytest.raises(ValueError, match=r"groups must have shape \(1,\), got \(2,\)"):
        image_auc([detected(0.5)], [truth(1)], groups=[1, 1])
    with pytest.raises(ValueError, match=r'targets\[0\]\["labels"\] is missing'):
        image_auc([detected(0.5)], [{}])
    with pytest.raises(ValueError, match="scores must not be nan"):
        roc_auc(np.array([np.nan, 1.0]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        roc_auc(np.zeros(2), np.zeros(1, dtype=bool))


@pytest.mark.parametrize("labels", [[1, 1, 2], [-1, 1, 1], ["normal", "normal", "malignant"], [0.2, 0.8, 1.0]])
def test_auc_wants_to_know_what_is_positive(labels):
    with pytest.raises(ValueError, match="positive must be bool, or 0 and 1, got"):
        roc_auc([0.1, 0.2, 0.9], labels)


def test_auc_takes_zeros_and_ones_of_any_type():
    for kind in (bool, int, float):
        assert roc_auc([0.1, 0.2, 0.9], np.array([0, 0, 1], dtype=kind)) == 1
    assert roc_auc(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0, 0, 1])) == 1


def test_auc_of_endless_scores_and_of_one_side():
    assert roc_auc([-np.inf, 0.2, np.inf], [False, True, True]) == 1
    assert math.isnan(roc_auc([0.1, 0.2], [1, 1]))
    assert math.isnan(roc_auc([], []))


def test_auc_names_nan_and_shapes():
    with pytest.raises(ValueError, match="scores must not be nan"):
        roc_auc([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match=r"must both be \(n,\), got \(2,\) and \(3,\)"):
        roc_auc([0.1, 0.2], [True, False, True])


def test_a_film_labelled_background_is_normal():
    detections = [detected(0.9), detected(0.2)]
    assert image_scores(detections, [truth(2), truth(0)]).positive.tolist() == [True, False]
    assert image_auc(detections, [truth(2), truth(0)]) == 1

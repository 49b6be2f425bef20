import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from labkit.datasets import luna16
from labkit.detection.evaluation import (
    CPM_FALSE_POSITIVES,
    bootstrap_interval,
    competition_metric,
    froc,
    froc_curve,
    froc_marks,
    hit_center_distance,
    hit_center_in_box,
    hit_iou,
    sensitivity_at,
)


def points(centers, scores=None, **extra):
    """Marks or truths on a line, 10 apart unless said otherwise."""
    centers = torch.tensor([[x, 0.0, 0.0] for x in centers]).reshape(-1, 3)
    result = {"centers": centers, **{key: torch.tensor(value) for key, value in extra.items()}}
    return result if scores is None else {**result, "scores": torch.tensor(scores, dtype=torch.float64)}


def near(detections, targets, **options):
    return froc(detections, targets, hit=hit_center_distance(3), **options)


def random_scans(seed, scans=30):
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(scans):
        marks, truths = rng.choice([0, 3, 25]), rng.choice([0, 1, 6])
        scores = np.round(rng.random(marks), rng.choice([1, 8])).tolist()
        labels = torch.tensor(rng.integers(1, 3, marks), dtype=torch.int64)
        detections.append(points((100 * rng.random(marks)).tolist(), scores))
        detections[-1]["labels"] = labels
        targets.append(points((100 * rng.random(truths)).tolist()))
        targets[-1]["labels"] = torch.tensor(rng.integers(1, 3, truths), dtype=torch.int64)
        targets[-1]["excluded"] = torch.tensor(rng.random(truths) < 0.3)
    return detections, targets


def slow_froc_point(detections, targets, threshold, reach):
    """False positives an image and sensitivity when marks from the threshold on count: as a person would tally."""
    found = lesions = alarms = 0
    for detection, target in zip(detections, targets, strict=True):
        scored = zip(detection["centers"].tolist(), detection["scores"].tolist(), strict=True)
        marks = [x for (x, _, _), score in scored if score >= threshold]
        places = [x for x, _, _ in target["centers"].tolist()]
        for place, excluded in zip(places, target["excluded"].tolist(), strict=True):
            if not excluded:
                lesions += 1
                found += any(abs(mark - place) < reach for mark in marks)
        alarms += sum(all(abs(mark - place) >= reach for place in places) for mark in marks)
    return alarms / len(targets), found / lesions


# --- the curve


def test_a_curve_by_hand():
    detections = [points([0, 1, 50], [0.9, 0.8, 0.7]), points([70], [0.95]), points([], [])]
    targets = [points([0, 20]), points([]), points([30])]
    curve = near(detections, targets)
    assert curve.thresholds.tolist() == [math.inf, 0.95, 0.9, 0.7]
    np.testing.assert_allclose(curve.sensitivity, [0, 0, 1 / 3, 1 / 3])  # two lesions are missed and count
    np.testing.assert_allclose(curve.false_positives, [0, 1 / 3, 1 / 3, 2 / 3])  # the second mark on a lesion does not
    assert (curve.lesions, curve.images) == (3, 3)


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_equals_a_tally_by_hand(seed):
    detections, targets = random_scans(seed)
    curve = froc(detections, targets, hit=hit_center_distance(2.5))
    for false_positives, sensitivity, threshold in zip(*curve[:3], strict=True):
        expected = slow_froc_point(detections, targets, threshold, 2.5)
        assert (false_positives, sensitivity) == pytest.approx(expected, abs=1e-12)
    every_score = torch.cat([detection["scores"] for detection in detections]).unique().flip(0)
    assert set(curve.thresholds[1:].tolist()) <= set(every_score.tolist())
    assert np.all(np.diff(curve.thresholds[1:]) < 0)
    assert np.all(np.diff(curve.false_positives) >= 0)
    assert np.all(np.diff(curve.sensitivity) >= 0)


def test_a_perfect_detector_with_one_score_finds_everything():
    curve = near([points([0, 20], [1.0, 1.0]), points([], [])], [points([0, 20]), points([])])
    assert sensitivity_at(curve, 0) == 1.0
    assert sensitivity_at(curve, CPM_FALSE_POSITIVES).tolist() == [1.0] * 7
    assert competition_metric(curve) == 1.0


def test_a_useless_detector_and_an_empty_one_find_nothing():
    for detection in (points([60], [0.9]), points([], [])):
        curve = near([detection], [points([0])])
        assert competition_metric(curve) == 0.0


def test_points_are_joined_by_lines_from_the_origin_and_level_off():
    curve = near([points([0, 50, 60], [0.5, 0.5, 0.5])], [points([0, 30])])  # (2, 1/2) is the only point
    assert sensitivity_at(curve, [0, 1, 2, 8]).tolist() == [0, 0.25, 0.5, 0.5]
    assert sensitivity_at(curve, 1) == 0.25
    assert competition_metric(curve) == pytest.approx((0.5 * (1 / 8 + 1 / 4 + 1 / 2 + 1) / 2 + 3 * 0.5) / 7)


def test_marks_on_excluded_findings_count_for_nothing():
    detections = [points([0, 20], [0.9, 0.8])]
    curve = near(detections, [points([0, 20], excluded=[False, True])])
    assert (curve.lesions, curve.false_positives[-1], curve.sensitivity[-1]) == (1, 0, 1)
    assert near(detections, [points([0])]).false_positives[-1] == 1


def test_a_label_selects_marks_and_lesions():
    detections = [points([0, 20, 20], [0.9, 0.8, 0.7], labels=[1, 1, 2])]
    targets = [points([0, 20], labels=[1, 2])]
    curve = near(detections, targets, label=2)
    assert (curve.lesions, curve.sensitivity[-1], curve.false_positives[-1]) == (1, 1, 0)
    curve = near(detections, targets, label=1)  # the mark on the other class's lesion is a false alarm
    assert (curve.lesions, curve.sensitivity[-1], curve.false_positives[-1]) == (1, 1, 1)


def test_images_without_anything_stay_in_the_denominator():
    one = near([points([50], [0.9])], [points([0])])
    four = near([points([50], [0.9]), *[points([], [])] * 3], [points([0]), *[points([])] * 3])
    assert (one.false_positives[-1], four.false_positives[-1]) == (1, 0.25)


def test_no_lesions_is_nan_and_no_images_is_refused():
    curve = near([points([50], [0.9])], [points([])])
    assert np.isnan(curve.sensitivity).all()
    assert curve.false_positives.tolist() == [0, 1]
    with pytest.raises(ValueError, match="at least one image, got none"):
        near([], [])


# --- hit rules


def boxes(*rows):
    return {"boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)}


def test_hits_by_iou():
    marks, truths = boxes([0, 0, 4, 8], [0, 0, 4, 4], [30, 0, 34, 8]), boxes([0, 0, 4, 8], [2, 0, 6, 8])
    assert hit_iou(0.5)(marks, truths).tolist() == [[True, False], [True, False], [False, False]]
    assert torch.equal(hit_iou(0.1)(marks, truths), box_iou(marks["boxes"], truths["boxes"]) >= 0.1)
    assert hit_iou(0.1)(boxes(), truths).shape == (0, 2)


def test_hits_by_centre_in_box():
    truth = boxes([10, 0, 20, 40])
    marks = boxes([9, 19, 11, 21], [19, 19, 21, 21], [0, 0, 40, 40], [0, 0, 19, 4])  # on x1; on x2; in; left of it
    assert hit_center_in_box()(marks, truth).tolist() == [[True], [False], [False], [False]]
    assert hit_center_in_box()({"centers": torch.tensor([[15.0, 39.0], [39.0, 15.0]])}, truth).tolist() == [
        [True],
        [False],
    ]


def test_hits_by_distance_are_strict_and_take_each_truths_radius():
    truths = {"centers": torch.tensor([[0.0, 0, 0], [0.0, 0, 0]]), "diameters": torch.tensor([10.0, 10.5])}
    marks = {"centers": torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 6.0]])}
    assert hit_center_distance()(marks, truths).tolist() == [[False, True], [False, False]]
    assert hit_center_distance(5.5)(marks, truths).tolist() == [[True, True], [False, False]]
    assert hit_center_distance(2)(boxes([0, 0, 4, 8]), boxes([1, 0, 5, 8], [0, 8, 4, 10])).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("hit", "detection", "target", "message"),
    [
        (
            hit_iou(0.1),
            points([0], [0.5]),
            boxes([0, 0, 4, 4]),
            "image 0: this hit rule needs 'boxes' .* got .*'centers'",
        ),
        (hit_center_distance(), points([0], [0.5]), points([0]), "image 0: this hit rule needs 'diameters'"),
        (
            hit_center_distance(3),
            points([0], [0.5]),
            boxes([0, 0, 4, 4]),
            "image 0: centers must agree in dimension, got 3 and 2",
        ),
        (lambda d, t: torch.zeros(1, 2), points([0], [0.5]), points([0, 9]), r"bool tensor of \(1, 2\) .* image 0"),
        (lambda d, t: torch.zeros(2, 1).bool(), points([0], [0.5]), points([0, 9]), r"got torch.bool of \(2, 1\)"),
        (lambda d, t: [[True]], points([0], [0.5]), points([0]), "bool tensor for image 0, got list; write torch.as_"),
        (lambda d, t: np.array([[True]]), points([0], [0.5]), points([0]), "got ndarray; write torch.as_tensor"),
        (lambda d, t: None, points([0], [0.5]), points([0]), "got NoneType"),
        (hit_iou, points([0], [0.5]), points([0]), "hit must be a rule, got hit_iou; call what makes it"),
        (0.1, points([0], [0.5]), points([0]), r"hit must be a rule, got 0.1; call what makes it: hit=hit_iou\(0.1\)"),
    ],
)
def test_rules_that_do_not_fit_name_the_image(hit, detection, target, message):
    with pytest.raises(ValueError, match=message):
        froc([detection], [target], hit=hit)


def test_options_are_checked():
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold must be above 0"):
            hit_iou(threshold)
    with pytest.raises(ValueError, match="limit must be positive, got 0"):
        hit_center_distance(0)
    with pytest.raises(ValueError, match="must not be negative"):
        sensitivity_at(near([points([0], [0.9])], [points([0])]), [1, -1])
    with pytest.raises(ValueError, match=r'detections\[0\]\["labels"\] is missing'):
        near([points([0], [0.9])], [points([0])], label=1)
    with pytest.raises(ValueError, match=r'detections\[0\]\["scores"\] must be finite'):
        near([points([0], [float("nan")])], [points([0])])


# --- the published scores


def test_luna16_scores_are_those_published(real_data):
    marks = froc_marks(*luna16.load(real_data / "luna16"), hit=hit_center_distance())
    curve = froc_curve(marks)
    assert (curve.lesions, curve.images) == (1186, 888)
    assert sum(np.isfinite(mark.lesions).sum() for mark in marks) == 1136
    assert sum(len(mark.false_positives) for mark in marks) == 48907
    published = [0.692, 0.769, 0.824, 0.865, 0.893, 0.917, 0.933]
    np.testing.assert_allclose(sensitivity_at(curve, CPM_FALSE_POSITIVES), published, rtol=0, atol=5e-4)
    assert competition_metric(curve) == pytest.approx(0.842, abs=5e-4)
    low, high = bootstrap_interval(
        lambda sample: competition_metric(froc_curve(sample)),
        marks,
        samples=100,
        generator=torch.Generator().manual_seed(0),
    )
    assert 0.80 < low < 0.842 < high < 0.88


def test_a_hit_rule_of_ones_own_sees_its_own_keys():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, :3], masks[1, 3:] = True, True
    detection = {
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([1, 2]),
        "masks": masks,
        "spacing": (0.7, 0.7),
    }
    target = {"labels": torch.tensor([1]), "masks": masks[:1], "name": "film 7"}

    def rule(marks, truths):
        assert marks["spacing"] == (0.7, 0.7)
        assert truths["name"] == "film 7"
        return (marks["masks"][:, None] & truths["masks"][None]).flatten(2).any(dim=2)

    for label in (None, 1):
        curve = froc([detection], [target], hit=rule, label=label)
        assert curve.sensitivity.tolist()[-1] == 1
        assert curve.false_positives.tolist()[-1] == (1 if label is None else 0)


def test_truths_labelled_background_are_no_lesions():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    detection = {"scores": torch.tensor([0.9]), "boxes": box}
    target = {"boxes": box, "labels": torch.tensor([0])}
    curve = froc([detection], [target], hit=hit_iou(0.5))
    assert curve.lesions == 0
    assert curve.false_positives[-1] == 1

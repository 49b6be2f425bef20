import contextlib
import io
import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from labkit.detection.evaluation import (
    average_precision,
    average_precision_of,
    bootstrap_interval,
    match_images,
    precision_recall,
)


def record(boxes, labels, scores=None, **extra):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    result = {"boxes": boxes, "labels": torch.as_tensor(labels, dtype=torch.int64), **extra}
    return result if scores is None else {**result, "scores": torch.as_tensor(scores, dtype=torch.float32)}


def random_sets(seed, *, crowd_regions=False):
    """Images with many overlapping boxes, equal scores and equal overlaps, some without truths or detections."""
    rng = np.random.default_rng(seed)

    def boxes(count, spread):  # whole numbers: IoUs of exactly 1/2 and ties between overlaps do occur
        corner = rng.integers(0, spread, (count, 2))
        return np.concatenate([corner, corner + rng.integers(2, 9, (count, 2))], axis=1)

    detections, targets = [], []
    for _ in range(40):
        truths, found, spread = rng.choice([0, 1, 4, 15]), rng.choice([0, 2, 30, 60]), rng.choice([5, 14, 40])
        true_boxes = boxes(truths, spread)
        true_labels = rng.choice([1, 2, 3, 4], truths, p=[0.6, 0.2, 0.15, 0.05])
        found_boxes, found_labels = boxes(found, spread), rng.choice([1, 2, 3, 5], found)  # 5 is never true
        scores = rng.random(found)
        if truths:  # two of three lie near a truth
            near, of = rng.random(found) < 0.67, rng.integers(0, truths, found)
            shifted = true_boxes[of] + np.tile(rng.integers(-1, 2, (found, 2)), 2)
            found_boxes = np.where(near[:, None], shifted, found_boxes)
            found_labels = np.where(near, true_labels[of], found_labels)
            scores[np.unique(of, return_index=True)[1]] += 0.5
        scores = np.round(scores, rng.choice([1, 8]))
        detections.append(record(found_boxes, found_labels, scores))
        targets.append(record(true_boxes, true_labels))
        if crowd_regions:
            targets[-1]["iscrowd"] = torch.tensor(rng.random(truths) < 0.3, dtype=torch.uint8)
    return detections, targets


def coco_average_precision(detections, targets, iou_threshold, max_detections):
    """The same figures from COCO's evaluator."""
    from faster_coco_eval import COCO, COCOeval_faster

    def rows(records):
        return [
            {
                "image_id": image,
                "category_id": int(record["labels"][row]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(record["iscrowd"][row]) if "iscrowd" in record else 0,
                "score": float(record["scores"][row]) if "scores" in record else 1.0,
            }
            for image, record in enumerate(records)
            for row, (x1, y1, x2, y2) in enumerate(record["boxes"].double().tolist())
        ]

    truth = {
        "images": [{"id": image, "height": 60, "width": 60} for image in range(len(targets))],
        "categories": [{"id": label, "name": str(label)} for label in range(1, 6)],
        "annotations": [{"id": i + 1, **row} for i, row in enumerate(rows(targets))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(truth)
        evaluator = COCOeval_faster(reference, reference.loadRes(rows(detections)), "bbox")
    evaluator.params.iouThrs = np.array([iou_threshold])
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"].reshape(101, 5)  # recalls, classes
    return {label: precision[:, label - 1].mean() for label in range(1, 6) if precision[0, label - 1] > -1}


# --- average precision


@pytest.mark.parametrize("crowd_regions", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_cocos_evaluator(seed, crowd_regions):
    detections, targets = random_sets(seed, crowd_regions=crowd_regions)
    for iou_threshold, max_detections in ((0.5, 100), (0.5, 7), (0.1, 100), (0.75, 100)):
        expected = coco_average_precision(detections, targets, iou_threshold, max_detections)
        got = average_precision(detections, targets, iou_threshold=iou_threshold, max_detections=max_detections)
        assert got.pop("mean") == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
        assert got == pytest.approx(expected, abs=1e-6)
        assert got[1] > (0.05 if iou_threshold < 0.75 else 0.01)  # the case does say something


def slow_average_precision(recall, precision, interpolation):
    """Both VOC definitions, read off as the papers word them."""
    best_beyond = [
        max([p for r, p in zip(recall, precision, strict=True) if r >= level], default=0) for level in recall
    ]
    if interpolation == "area":
        return sum((r - before) * p for r, before, p in zip(recall, [0, *recall], best_beyond, strict=False))
    levels = [max([p for r, p in zip(recall, precision, strict=True) if r >= k / 10], default=0) for k in range(11)]
    return sum(levels) / 11


@pytest.mark.parametrize("interpolation", ["area", "11-point"])
@pytest.mark.parametrize("seed", range(4))
def test_other_interpolations_equal_their_definitions(seed, interpolation):
    detections, targets = random_sets(seed)
    result = average_precision(detections, targets, interpolation=interpolation)
    for label in (1, 2, 3):
        curve = precision_recall(detections, targets, label=label)
        expected = slow_average_precision(curve.recall.tolist(), curve.precision.tolist(), interpolation)
        assert result[label] == pytest.approx(expected, abs=1e-12)


def test_interpolations_by_hand():
    truths = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(10)]
    found = [*truths[:2], [0.0, 50.0, 9.0, 60.0], truths[2]]  # right, right, wrong, right: recall 0.3 of 10
    sets = [record(found, [1] * 4, [0.9, 0.8, 0.7, 0.6])], [record(truths, [1] * 10)]
    assert average_precision(*sets, interpolation="area")[1] == pytest.approx(0.2 + 0.1 * 3 / 4)
    assert average_precision(*sets, interpolation="11-point")[1] == pytest.approx((3 + 3 / 4) / 11)  # 0.3 is reached
    assert average_precision(*sets)[1] == pytest.approx((21 + 10 * 3 / 4) / 101)


def test_perfect_detections_score_one_however_they_are_cut():
    _, targets = random_sets(3)
    detections = [{**target, "scores": torch.ones(len(target["labels"]))} for target in targets]
    for interpolation in ("coco", "area", "11-point"):
        values = average_precision(detections, targets, interpolation=interpolation, iou_threshold=1.0).values()
        assert list(values) == pytest.approx([1.0] * len(values))


def test_iou_at_the_threshold_counts_and_a_second_hit_does_not():
    target = record([[0, 0, 4, 8]], [1])
    half = record([[0, 0, 4, 4], [0, 0, 4, 8]], [1, 1], [0.9, 0.8])
    assert match_images([half], [target])[0].correct.tolist() == [True, False]
    assert match_images([half], [target], iou_threshold=0.51)[0].correct.tolist() == [False, True]


def test_a_detection_takes_the_free_truth_it_overlaps_most():
    targets = record([[0, 0, 10, 10], [0, 0, 10, 8]], [1, 1])
    detections = record([[0, 0, 10, 8], [0, 0, 10, 8], [0, 0, 10, 8]], [1, 1, 1], [0.9, 0.8, 0.7])
    assert match_images([detections], [targets])[0].correct.tolist() == [True, True, False]


def test_false_positives_on_images_without_truths_count():
    box = [[0, 0, 10, 10]]
    with_truth, without = (record(box, [1], [0.5]), record(box, [1])), (record(box, [1], [0.9]), record([], []))
    assert average_precision(*zip(with_truth, strict=True))["mean"] == 1
    assert average_precision(*zip(with_truth, without, strict=True))["mean"] == pytest.approx(0.5)


def test_classes_without_truth_are_left_out_and_classes_without_detections_score_zero():
    box = [[0, 0, 10, 10]]
    result = average_precision([record(box * 2, [1, 3], [0.5, 0.9])], [record(box * 2, [1, 2])])
    assert result == {1: 1.0, 2: 0.0, "mean": 0.5}


def test_nothing_at_all_is_nan():
    for sets in (
        ([], []),
        ([record([], [], [])], [record([], [])]),
        ([record([[0, 0, 2, 2]], [1], [0.5])], [record([], [])]),
    ):
        result = average_precision(*sets)
        assert list(result) == ["mean"]
        assert math.isnan(result["mean"])


def test_order_of_images_and_of_rows_does_not_matter_without_ties():
    detections, targets = random_sets(2)
    rng = np.random.default_rng(0)
    for detection in detections:
        detection["scores"] = torch.tensor(rng.random(len(detection["labels"])))
    expected = average_precision(detections, targets)
    detections = [{key: value.flip(0) for key, value in detection.items()} for detection in detections]
    assert average_precision(detections[::-1], targets[::-1]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_and_arguments_stay(dtype):
    detections, targets = random_sets(1)
    converted = [{**detection, "boxes": detection["boxes"].to(dtype)} for detection in detections]
    converted[0]["boxes"].requires_grad_()
    before = [detection["scores"].clone() for detection in detections]
    assert average_precision(converted, targets) == average_precision(detections, targets)
    assert all(torch.equal(a, b["scores"]) for a, b in zip(before, detections, strict=True))


def test_matches_bootstrap_to_the_same_figure():
    detections, targets = random_sets(0)
    matches = match_images(detections, targets)
    assert average_precision_of(matches) == average_precision(detections, targets)
    generator = torch.Generator().manual_seed(0)
    low, high = bootstrap_interval(
        lambda sample: average_precision_of(sample)[1], matches, samples=100, generator=generator
    )
    assert low < average_precision_of(matches)[1] < high


# --- precision and recall


def test_precision_and_recall_by_hand():
    target = record([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 1])
    detection = record([[50, 0, 60, 10], [0, 0, 10, 10], [0, 0, 9, 9]], [1, 1, 2], [0.5, 0.75, 1.0])
    curve = precision_recall([detection], [target], label=1)
    assert curve.scores.tolist() == [0.75, 0.5]
    assert curve.precision.tolist() == [1.0, 0.5]
    assert curve.recall.tolist() == [0.5, 0.5]


def test_precision_and_recall_of_nothing():
    assert [len(values) for values in precision_recall([], [], label=1)] == [0, 0, 0]
    curve = precision_recall([record([[0, 0, 2, 2]], [1], [0.5])], [record([], [])], label=1)
    assert curve.precision.tolist() == [0.0]
    assert np.isnan(curve.recall).all()


def test_matching_never_uses_a_truth_twice_and_never_below_the_threshold():
    detections, targets = random_sets(5)
    for matches, detection, target in zip(match_images(detections, targets), detections, targets, strict=True):
        for label in (1, 2, 3):
            correct = matches.correct[matches.labels == label].sum()
            best = box_iou(detection["boxes"][detection["labels"] == label], target["boxes"][target["labels"] == label])
            assert correct <= min((best >= 0.5).any(0).sum(), (best >= 0.5).any(1).sum())


# --- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "voc"}, "one of .*'coco', 'area', '11-point'.*, got 'voc'"),
        ({"iou_threshold": 0.0}, "iou_threshold must be above 0"),
        ({"iou_threshold": 50}, "iou_threshold must be above 0 and at most 1, got 50"),
        ({"max_detections": 0}, "max_detections must be at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        average_precision([], [], **options)


def test_records_are_checked():
    good, target = record([[0, 0, 10, 10]], [1], [0.5]), record([[0, 0, 10, 10]], [1])
    with pytest.raises(ValueError, match="got 1 and 2"):
        average_precision([good], [target, target])
    with pytest.raises(ValueError, match=r'detections\[1\]\["scores"\] is missing'):
        average_precision([good, target], [target, target])
    with pytest.raises(ValueError, match=r'targets\[1\]\["boxes"\] must have x1 < x2 .* in row 0'):
        average_precision([good, good], [target, record([[5, 0, 5, 10]], [1])])

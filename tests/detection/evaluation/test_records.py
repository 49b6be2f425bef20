import pytest
import torch

from labkit.detection.evaluation.records import check_records


def check(detection, target=None):
    """With a good image before it, so that the number of the bad one is seen."""
    good = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    target = {"boxes": torch.zeros(0, 4)} if target is None else target
    first = {key: torch.zeros(0, 4) if key in ("boxes", "centers") else torch.zeros(0) for key in target}
    return check_records(
        [good, detection], [first, target], detection_keys=["boxes", "scores", "labels"], target_keys=["boxes"]
    )


def image(**changed):
    box = torch.tensor([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 9.0]])
    return {"boxes": box, "scores": torch.tensor([0.5, 0.4]), "labels": torch.tensor([1, 2]), **changed}


def test_good_records_come_back_in_one_form():
    detections, targets = check(
        image(boxes=torch.ones(2, 4).half()), {"boxes": torch.zeros(0, 4), "kinds": torch.zeros(9)}
    )
    assert detections[1]["boxes"].dtype == detections[1]["scores"].dtype == torch.float64
    assert detections[1]["labels"].tolist() == [1, 2]
    assert list(targets[1]) == ["boxes", "kinds"]
    assert check_records([], [], detection_keys=["boxes"], target_keys=[]) == ([], [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": torch.zeros(4)}, r'\[1\]\["boxes"\] has the wrong shape, got \(4,\); give \(N, 4\)'),
        ({"boxes": torch.zeros(0)}, r"an image without any"),
        ({"boxes": torch.zeros(2, 5)}, r"got \(2, 5\)"),
        ({"boxes": torch.zeros(3, 4)}, r"detections\[1\] must have as many rows in each tensor, got {'boxes': 3,"),
        ({"scores": torch.zeros(2, 1)}, r'\["scores"\] has the wrong shape'),
        ({"scores": [0.5, 0.4]}, r"must be a tensor, got list"),
        ({"scores": torch.tensor([0.1, float("nan")])}, r'\[1\]\["scores"\] must be finite, got nan in row 1'),
        ({"scores": torch.tensor([float("inf"), 0.2])}, r"must be finite, got inf in row 0"),
        ({"labels": torch.tensor([1.0, 2.0])}, r'\[1\]\["labels"\] must be integers, got torch.float32'),
        ({"labels": torch.tensor([1, -1])}, r'\[1\]\["labels"\] must not be negative, got -1 in row 1'),
        (
            {"boxes": torch.tensor([[4.0, 0, 0, 2], [0, 0, 1, 1]])},
            r'\[1\]\["boxes"\] must have x1 <= x2 .* in row 0; are',
        ),
        ({"boxes": torch.full((2, 4), float("nan"))}, r'\[1\]\["boxes"\] must be finite'),
        ({"labels": torch.tensor([True, False])}, r'\[1\]\["labels"\] must be integers, got torch.bool'),
        ({"labels": [1, 2]}, r'\[1\]\["labels"\] must be a tensor, got list'),
        (
            {"labels": torch.tensor([1, 2]) + 0j},
            r'"labels"\] must be real numbers, got torch.complex64|must be integers',
        ),
        ({"boxes": torch.zeros(2, 4) + 0j}, r'"boxes"\] must be real numbers, got torch.complex64; write .real'),
    ],
)
def test_detections_that_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        check(image(**changed))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"boxes": torch.tensor([[0.0, 0.0, 4.0, 0.0]])},
            r'targets\[1\]\["boxes"\] must have x1 < x2 .* in row 0; correct',
        ),
        ({"boxes": torch.zeros(0, 4), "centers": torch.zeros(3)}, r'targets\[1\]\["centers"\] has the wrong shape'),
        (
            {"boxes": torch.ones(1, 4).cumsum(1), "diameters": torch.tensor([-1.0])},
            r"diameters.* must be positive, got -1.0",
        ),
        ({"boxes": torch.zeros(0, 4), "excluded": torch.zeros(1)}, r"targets\[1\] must have as many rows"),
        (
            {"boxes": torch.ones(1, 4).cumsum(1), "excluded": torch.tensor([2])},
            r'targets\[1\]\["excluded"\] must be bool, or 0 and 1, got 2.0 in row 0; write flags > 0',
        ),
        (
            {"boxes": torch.ones(1, 4).cumsum(1), "iscrowd": torch.tensor([float("nan")])},
            r'"iscrowd"\] must be bool, or 0 and 1, got nan',
        ),
    ],
)
def test_targets_that_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        check(image(boxes=torch.zeros(2, 4)), target)


def test_a_missing_key_is_named_with_its_image():
    with pytest.raises(ValueError, match=r'detections\[1\]\["labels"\] is missing, got \[\'boxes\', \'scores\'\]'):
        check({"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)})
    with pytest.raises(ValueError, match=r'targets\[0\]\["excluded"\] is missing'):
        check_records([{}, {}], [{}, {"excluded": torch.zeros(0)}], detection_keys=[], target_keys=[])
    with pytest.raises(ValueError, match="got 1 and 0; an image without detections"):
        check_records([{}], [], detection_keys=[], target_keys=[])


def test_centres_of_two_and_three_dimensions_do_not_mix():
    flat, deep = ({"centers": torch.zeros(2, d), "scores": torch.ones(2)} for d in (2, 3))
    with pytest.raises(
        ValueError, match=r'detections\[1\]\["centers"\] must have as many columns .* 2, got 3; give all'
    ):
        check_records([flat, deep], [{}, {}], detection_keys=["centers"], target_keys=[])
    none = {"centers": torch.zeros(0, 2), "scores": torch.ones(0)}
    with pytest.raises(ValueError, match="as many columns"):
        check_records([deep, none], [{}, {}], detection_keys=["centers"], target_keys=[])


def test_other_keys_are_handed_on_as_they_are():
    detection = {"scores": torch.ones(2), "masks": torch.zeros(2, 3, 3), "name": "a"}
    found, _ = check_records([detection], [{}], detection_keys=["scores"], target_keys=[])
    assert list(found[0]) == ["scores", "masks", "name"]
    assert found[0]["masks"] is not detection["masks"] or found[0]["masks"].equal(detection["masks"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_labels_of_any_whole_type_will_do(dtype):
    records, _ = check(image(labels=torch.tensor([1, 2]).to(dtype)))
    assert records[1]["labels"].dtype == torch.int64
    assert records[1]["labels"].tolist() == [1, 2]


@pytest.mark.parametrize("records", [[[1], [2]], [torch.zeros(1, 4)] * 2, ["boxes", "boxes"]])
def test_what_is_no_dict_is_told(records):
    with pytest.raises(ValueError, match=r"must be a dict of tensors, one an image, got (list|Tensor|str); write"):
        check_records(records, records, detection_keys=["boxes"], target_keys=["boxes"])

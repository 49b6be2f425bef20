"""The live demos: sliders are moved and the picture is looked at."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import ops

from labkit import widgets
from labkit.detection.evaluation import FrocMarks, froc_curve
from labkit.widgets import anchors_demo, detector_demo, nms_demo, operating_point_demo, roi_demo, selective_search_demo

BOXES = torch.tensor([[10.0, 10, 40, 30], [14, 10, 44, 30], [60, 20, 90, 50]])
SCORES = torch.tensor([0.9, 0.8, 0.3])
ORANGE, SKY, GREEN = (230, 159, 0), (86, 180, 233), (0, 158, 115)


def pixels(demo) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(demo.children[3].value))).astype(int)


def share(demo, color) -> float:
    """Share of the picture's pixels that are about this colour."""
    return float((abs(pixels(demo) - color).max(axis=2) < 40).mean())


def move(demo, *, iou=None, score=None) -> str:
    if iou is not None:
        demo.children[0].value = iou
    if score is not None:
        demo.children[1].value = score
    return demo.children[2].value


def test_a_demo_loads_what_it_draws_with_only_when_it_is_asked_for():
    code = "import sys; from labkit import widgets; print('torchvision' in sys.modules, len(dir(widgets)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(widgets.__all__))]
    assert all(callable(getattr(widgets, name)) for name in widgets.__all__)
    with pytest.raises(AttributeError, match="no demo called 'nms_'; there are: anchors_demo, "):
        widgets.nms_  # noqa: B018


def test_nms_demo_shows_its_first_state_without_a_slider_moved():
    demo = nms_demo(BOXES, SCORES, image=torch.zeros(1, 60, 100), iou_threshold=0.5)
    assert demo.children[2].value == "<b>2</b> kept, 1 suppressed, 0 below the score threshold"
    assert share(demo, ORANGE) > 0.01 > share(demo, SKY) > 0


def test_nms_demo_follows_both_sliders():
    demo = nms_demo(BOXES, SCORES, iou_threshold=0.5)
    before = demo.children[3].value
    assert move(demo, iou=0.9) == "<b>3</b> kept, 0 suppressed, 0 below the score threshold"
    assert share(demo, SKY) == 0
    assert move(demo, score=0.5) == "<b>2</b> kept, 0 suppressed, 1 below the score threshold"
    assert move(demo, score=1.0) == "<b>0</b> kept, 0 suppressed, 3 below the score threshold"
    assert share(demo, ORANGE) == 0
    move(demo, iou=0.5, score=0.0)
    assert demo.children[3].value == before  # nothing of the other states stays behind


def test_nms_demo_keeps_what_torchvision_keeps():
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(80, 2, generator=generator) * 60, 8 + torch.rand(80, 2, generator=generator) * 12
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.rand(80, generator=generator)
    demo = nms_demo(boxes, scores)
    for iou, score in [(0.1, 0.2), (0.35, 0.5), (0.7, 0.0)]:
        strong = scores >= score
        kept = len(ops.nms(boxes[strong], scores[strong], iou))
        assert move(demo, iou=iou, score=score).startswith(f"<b>{kept}</b> kept, {int(strong.sum()) - kept} ")


def test_nms_demo_draws_truths_and_changes_no_argument():
    boxes, scores, image = BOXES.clone(), SCORES.clone(), torch.zeros(60, 100)
    demo = nms_demo(boxes, scores, image=image, truths=BOXES[2:] + 3)
    assert share(demo, GREEN) > 0
    assert torch.equal(boxes, BOXES)
    assert torch.equal(scores, SCORES)
    assert not image.any()


def test_nms_demo_has_the_images_shape():
    height, width = pixels(nms_demo(BOXES, SCORES, image=torch.zeros(1, 60, 100))).shape[:2]
    assert width / height == pytest.approx(100 / 60, rel=0.01)
    height, width = pixels(nms_demo(BOXES, SCORES, image=torch.zeros(60, 100, 3))).shape[:2]
    assert width / height == pytest.approx(100 / 60, rel=0.01)


def test_nms_demo_without_boxes():
    demo = nms_demo(torch.zeros(0, 4), torch.zeros(0))
    assert demo.children[2].value.startswith("<b>0</b> kept")


@pytest.mark.parametrize(("boxes", "scores"), [(BOXES[0], SCORES[:1]), (BOXES, SCORES[:2]), (BOXES[:, :3], SCORES)])
def test_nms_demo_refuses_what_does_not_belong_together(boxes, scores):
    with pytest.raises(ValueError, match="give one score for each box"):
        nms_demo(boxes, scores)


FILMS = [torch.zeros(1, 40, 30), torch.zeros(1, 40, 30)]
MARKS = [torch.tensor([[4.0, 5, 14, 20], [15, 22, 28, 36]]), torch.zeros(0, 4)]
MARK_SCORES = [torch.tensor([0.9, 0.4]), torch.zeros(0)]
LESIONS = [torch.tensor([[4.0, 5, 14, 20]]), torch.tensor([[6.0, 8, 20, 18]])]
CURVE = froc_curve([FrocMarks(np.array([0.9]), np.array([0.4])), FrocMarks(np.array([-np.inf]), np.array([]))])


def operating_point(**options):
    return operating_point_demo(FILMS, MARKS, MARK_SCORES, CURVE, truths=LESIONS, **options)


def orange(demo) -> np.ndarray:
    """(H, W) which pixels are orange."""
    picture = np.asarray(Image.open(io.BytesIO(demo.children[2].value))).astype(int)
    return abs(picture - ORANGE).max(axis=2) < 40


def test_operating_point_demo_shows_its_first_state_without_a_slider_moved():
    demo = operating_point(threshold=0.5)
    words = "sensitivity <b>0.50</b> at <b>0.00</b> false positives a film; 1 mark on these films"
    assert demo.children[1].value == words
    films, chart = np.split(orange(demo), [800], axis=1)
    assert films.any()
    assert chart.any()


def test_operating_point_demo_follows_the_slider():
    demo = operating_point(threshold=0.5)
    before, marked = demo.children[2].value, orange(demo)[:, :800].sum()
    demo.children[0].value = 0.4  # exactly the score of a mark: it is shown
    words = "sensitivity <b>0.50</b> at <b>0.50</b> false positives a film; 2 marks on these films"
    assert demo.children[1].value == words
    assert orange(demo)[:, :800].sum() > 1.5 * marked
    demo.children[0].value = 1.0
    words = "sensitivity <b>0.00</b> at <b>0.00</b> false positives a film; 0 marks on these films"
    assert demo.children[1].value == words
    assert not orange(demo)[:, :800].any()
    demo.children[0].value = 0.5
    assert demo.children[2].value == before  # nothing of the other states stays behind


def test_operating_point_demo_moves_its_point_along_the_curve():
    demo = operating_point(threshold=0.4)
    rows, columns = orange(demo)[:, 800:].nonzero()
    demo.children[0].value = 1.0
    low_rows, low_columns = orange(demo)[:, 800:].nonzero()
    assert columns.mean() > low_columns.mean() + 100  # further right: more false positives
    assert rows.mean() < low_rows.mean() - 50  # higher: more sensitivity


def test_operating_point_demo_places_marks_on_their_own_film():
    demo = operating_point_demo(FILMS, MARKS[::-1], MARK_SCORES[::-1], CURVE, truths=LESIONS, threshold=0.5)
    assert orange(demo)[:, :800].nonzero()[1].min() > 384  # the second film's half of 768 pixels


@pytest.mark.parametrize("count", [0, 1])
def test_operating_point_demo_refuses_what_does_not_belong_together(count):
    with pytest.raises(ValueError, match="give at least one film"):
        operating_point_demo(FILMS[:count], MARKS[: 2 * count], MARK_SCORES, CURVE, truths=LESIONS)


BLUE = (0, 114, 178)
CELL = torch.tensor([[28.0, 20, 52, 44]])  # 24 px around (40, 32): row 4, column 5 of a stride of 8


def anchors(**options):
    image = torch.zeros(1, 64, 96)
    return anchors_demo(image, CELL, stride=8, sizes=[12, 24], aspect_ratios=[1.0, 2.0], **options)


def colour_of(picture, color) -> float:
    """Share of a picture's pixels that are about this colour."""
    pixel = np.asarray(Image.open(io.BytesIO(picture.value))).astype(int)
    return float((abs(pixel - color).max(axis=2) < 40).mean())


def test_anchors_demo_starts_at_the_best_cell():
    demo = anchors()
    words = "row 4, column 5: <b>1</b> object, 1 ignored, 2 background; best IoU 1.00. In the image: 1 object"
    assert demo.children[3].value == words
    assert colour_of(demo.children[4], ORANGE) > colour_of(demo.children[4], BLUE) > 0


def test_anchors_demo_follows_its_sliders():
    demo = anchors()
    before = demo.children[4].value
    demo.children[0].value = 0
    demo.children[1].value = 0
    assert demo.children[3].value.startswith(
        "row 0, column 0: <b>0</b> objects, 0 ignored, 4 background; best IoU 0.00"
    )
    assert colour_of(demo.children[4], BLUE) > 0.001
    demo.children[2].value = 0.3
    assert int(demo.children[3].value.split()[-2]) > 5  # a lower threshold, more objects
    demo.children[0].value, demo.children[1].value, demo.children[2].value = 4, 5, 0.7
    assert demo.children[4].value == before


def test_anchors_demo_of_an_image_without_objects():
    demo = anchors_demo(torch.zeros(32, 48), torch.zeros(0, 4), stride=16, sizes=[8], aspect_ratios=[1.0])
    assert demo.children[3].value.endswith("In the image: 0 objects")


FOUND = {
    "boxes": torch.tensor([[4.0, 5, 14, 20], [5, 5, 15, 20], [15, 22, 28, 36]]),
    "scores": torch.tensor([0.9, 0.7, 0.4]),
    "labels": torch.tensor([2, 2, 1]),
}
NOTHING = {key: value[:0] for key, value in FOUND.items()}


def detector(**options):
    return detector_demo(FILMS, [FOUND, NOTHING], truths=LESIONS, **options)


def test_detector_demo_shows_its_first_state_without_a_slider_moved():
    demo = detector()
    assert demo.children[3].value == "<b>1</b> box shown; 1 of 1 truth found (IoU 0.5), 0 false positives"
    assert colour_of(demo.children[4], ORANGE) > 0.001  # class 2
    assert colour_of(demo.children[4], SKY) == 0


def test_detector_demo_follows_its_sliders():
    demo = detector()
    before = demo.children[4].value
    demo.children[1].value = 0.4
    assert demo.children[3].value == "<b>2</b> boxes shown; 1 of 1 truth found (IoU 0.5), 1 false positive"
    assert colour_of(demo.children[4], SKY) > 0.001  # class 1
    demo.children[2].value = 0.95
    assert demo.children[3].value.startswith("<b>3</b> boxes")
    demo.children[0].value = 1
    assert demo.children[3].value == "<b>0</b> boxes shown; 0 of 1 truth found (IoU 0.5), 0 false positives"
    for slider, value in zip(demo.children, (0, 0.5, 0.5), strict=False):
        slider.value = value
    assert demo.children[4].value == before


def test_detector_demo_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="give at least one image"):
        detector_demo(FILMS, [FOUND], truths=LESIONS)
    with pytest.raises(ValueError, match="give at least one image"):
        detector_demo([], [], truths=[])


def roi(**options):
    features = torch.arange(54.0).reshape(1, 6, 9)
    return roi_demo(features, stride=8, box=torch.tensor([11.0, 13, 43, 27]), **options)


def test_roi_demo_shows_its_first_state_without_a_slider_moved():
    demo = roi()
    assert demo.children[5].value.startswith("RoIPool: the box becomes cells 1 to 5 across and 2 to 3 down")
    assert colour_of(demo.children[6], ORANGE) > 0.001 < colour_of(demo.children[6], SKY)


def test_roi_demo_follows_its_sliders_and_its_method():
    demo = roi()
    before = demo.children[6].value
    demo.children[0].value = 40
    moved = demo.children[6].value
    assert moved != before
    assert "cells 5 to 9" in demo.children[5].value
    demo.children[4].value = "RoIAlign"
    assert demo.children[5].value.startswith("RoIAlign: nothing is rounded")
    assert demo.children[6].value != moved
    assert colour_of(demo.children[6], (240, 228, 66)) > 0.0005  # the samples
    demo.children[0].value, demo.children[4].value = 11, "RoIPool"
    assert demo.children[6].value == before


def test_roi_demo_shows_what_torchvision_pools():
    demo = roi(size=2)
    pooled = ops.roi_pool(torch.arange(54.0).reshape(1, 1, 6, 9), [torch.tensor([[11.0, 13, 43, 27]])], 2, 1 / 8)
    picture = np.asarray(Image.open(io.BytesIO(demo.children[6].value))).astype(float)[..., 0]
    height, width = picture.shape
    for i, y in enumerate((0.35, 0.75)):
        for j, x in enumerate((0.7, 0.9)):
            assert picture[int(y * height), int(x * width)] == pytest.approx(
                float(pooled[0, 0, i, j]) / 53 * 255, abs=3
            )


def test_roi_demo_refuses_a_batch():
    with pytest.raises(ValueError, match="index the batch first"):
        roi_demo(torch.zeros(1, 1, 6, 9), stride=8, box=torch.tensor([1.0, 1, 9, 9]))


def search_demo():
    from labkit.detection.proposals import describe_regions, group_regions, neighbouring_pairs

    image = torch.full((1, 40, 60), 0.2)
    image[0, 10:30, 10:22] = 0.6
    image[0, 10:30, 22:40] = 0.8
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[10:30, 10:22], labels[10:30, 22:40] = 1, 2
    boxes, merges = group_regions(describe_regions(image, labels), neighbouring_pairs(labels))
    return selective_search_demo(image, labels, boxes, merges, truths=torch.tensor([[10.0, 10.0, 40.0, 30.0]]))


def picture_of(demo) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(demo.children[2].value))).astype(int)


def test_selective_search_demo_shows_its_first_state():
    demo = search_demo()
    assert demo.children[1].value == "step 0 of 2: 3 regions, <b>3</b> proposals, <b>1</b> of 1 objects met"
    shown = picture_of(demo)
    left, right = shown[:, : shown.shape[1] // 2], shown[:, shown.shape[1] // 2 :]
    assert (abs(left - 51).max(axis=2) < 3).mean() > 0.5  # the ground in its mean grey, 0.2
    assert (abs(right - GREEN).max(axis=2) < 40).any()
    assert not (abs(right - ORANGE).max(axis=2) < 40).any()  # nothing merged yet


def test_selective_search_demo_follows_the_slider():
    demo = search_demo()
    before = picture_of(demo)
    demo.children[0].value = 1
    assert demo.children[1].value == "step 1 of 2: 2 regions, <b>4</b> proposals, <b>1</b> of 1 objects met"
    after = picture_of(demo)
    assert (abs(after - ORANGE).max(axis=2) < 40).any()
    merged = round((0.6 * 12 + 0.8 * 18) / 30 * 255)  # both parts now have the mean of the two
    assert (abs(after[:, : after.shape[1] // 2] - merged).max(axis=2) < 3).sum() > 5000
    demo.children[0].value = 0
    assert np.array_equal(picture_of(demo), before)
    demo.children[0].value = 2
    assert "1 region, <b>5</b>" in demo.children[1].value


def test_selective_search_demo_refuses_another_hierarchy():
    with pytest.raises(ValueError, match="2 regions need boxes"):
        selective_search_demo(
            torch.zeros(1, 9, 9), torch.arange(2).repeat(9, 5)[:, :9], torch.zeros(5, 4), torch.zeros(2, 2)
        )

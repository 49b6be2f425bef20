"""Edge boxes: scores against a sum contour by contour, and boxes around known rectangles."""

import pytest
import torch
from torchvision.ops import box_iou

from labkit.detection.boxes import check_boxes
from labkit.detection.proposals.contours import KAPPA, edge_boxes, find_contours, score_boxes


def picture(height=60, width=90) -> torch.Tensor:
    image = torch.full((1, height, width), 0.3)
    image[0, 10:30, 15:45] = 0.8
    image[0, 35:52, 55:80] = 0.6
    return image


TRUTHS = torch.tensor([[15.0, 10.0, 45.0, 30.0], [55.0, 35.0, 80.0, 52.0]])


def test_a_rectangle_has_four_contours():
    contours, strength = find_contours(picture())
    assert contours.max() == 8
    assert bool(((contours > 0) == (strength > 0)).all())
    assert contours.dtype == torch.int64


def test_contours_do_not_depend_on_contrast():
    image = picture() + 0.1 * torch.rand(1, 60, 90, generator=torch.Generator().manual_seed(0))
    faint = find_contours(0.4 + 0.05 * image)[0]
    assert ((faint > 0) == (find_contours(image)[0] > 0)).float().mean() > 0.999


def test_scores_are_those_of_a_sum_contour_by_contour():
    draw = torch.Generator().manual_seed(0)
    contours, strength = find_contours(torch.rand(3, 40, 56, generator=draw))
    corner = (torch.rand(30, 2, generator=draw) * torch.tensor([30.0, 20.0])).round()
    boxes = torch.cat(
        [corner, corner + (4 + torch.rand(30, 2, generator=draw) * torch.tensor([22.0, 16.0])).round()], 1
    )
    y, x = torch.meshgrid(torch.arange(40), torch.arange(56), indexing="ij")
    for box, got in zip(boxes, score_boxes(boxes, contours, strength), strict=True):
        x1, y1, x2, y2 = box.tolist()
        inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        quarter_x, quarter_y = (x2 - x1) / 4, (y2 - y1) / 4
        left, top, right, bottom = torch.tensor(
            [x1 + quarter_x, y1 + quarter_y, x2 - quarter_x, y2 - quarter_y]
        ).round()
        total = -strength[(x >= left) & (x < right) & (y >= top) & (y < bottom)].sum()
        for contour in contours[inside].unique().tolist():
            if contour:
                mine = contours == contour
                whole = bool((mine & ~inside).sum() == 0)
                total += strength[mine & inside].sum() * (1 if whole else -1)
        expected = total / (2 * (x2 - x1 + y2 - y1)) ** KAPPA
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-3)


def test_a_box_around_an_object_beats_boxes_that_cut_it():
    contours, strength = find_contours(picture())
    around = torch.tensor([[13.0, 8.0, 47.0, 32.0]])
    cuts = torch.tensor([[13.0, 8.0, 40.0, 32.0], [20.0, 8.0, 47.0, 32.0], [13.0, 8.0, 47.0, 25.0]])
    scores = score_boxes(torch.cat([around, cuts]), contours, strength)
    assert scores[0] > scores[1:].max()


def test_objects_are_proposed_among_the_first():
    boxes, scores = edge_boxes(picture(), count=200)
    assert box_iou(TRUTHS, boxes[:20]).amax(1).min() > 0.7
    assert (scores[:-1] >= scores[1:]).all()
    assert len(boxes) <= 200
    assert boxes.min() >= 0
    assert (boxes.amax(0)[2:] <= torch.tensor([90.0, 60.0])).all()
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.7


def test_a_larger_picture_is_searched_small_and_its_boxes_are_carried_back():
    large = torch.nn.functional.interpolate(picture()[None], (180, 270))[0]
    boxes, _ = edge_boxes(large, count=100, working_size=90)
    assert box_iou(3 * TRUTHS, boxes[:20]).amax(1).min() > 0.7


def test_an_image_without_edges_has_proposals_without_merit():
    boxes, scores = edge_boxes(torch.full((3, 20, 30), 0.5), count=10)
    assert len(boxes) == 10
    assert not scores.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: edge_boxes(torch.zeros(20, 30)), "write image"),
        (lambda: edge_boxes(torch.zeros(1, 20, 30), count=-1), "count must be a positive whole number"),
        (lambda: find_contours(2 * torch.ones(1, 20, 30)), r"must be in \[0, 1\]"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_boxes_stay_inside_an_image_of_an_odd_size():
    image = torch.zeros(1, 320, 321)
    image[:, 60:200, 80:260], image[:, 250:] = 0.6, 0.3
    check_boxes(edge_boxes(image)[0], image_size=(320, 321))

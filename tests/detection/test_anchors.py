import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from labkit.detection.anchors import anchor_grid, check_anchors, match_anchors


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([100.0, 60.0])
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 40], dim=1)


# --- the grid


def test_a_grid_by_hand():
    grid = anchor_grid((2, 3), stride=(10, 20), sizes=[4, 8], aspect_ratios=[1.0]).reshape(2, 3, 2, 4)
    assert grid[1, 2, 0].tolist() == [38, 8, 42, 12]  # cell y=1, x=2: centre (40, 10)
    assert grid[1, 2, 1].tolist() == [36, 6, 44, 14]
    assert grid[0, 1, 0].tolist() == [18, -2, 22, 2]


def test_ratio_is_height_over_width_at_constant_area():
    tall, wide = anchor_grid((1, 1), stride=8, sizes=[32], aspect_ratios=[4.0, 0.25])
    assert tall.tolist() == [-8, -32, 8, 32]
    assert wide.tolist() == [-32, -8, 32, 8]


@pytest.mark.parametrize("image", [(64, 96), (90, 50), (33, 129)])
@pytest.mark.parametrize("cells", [(4, 6), (7, 5), (1, 1)])
def test_the_grid_equals_torchvisions(image, cells):
    sizes, ratios = (7, 15.5, 40), (0.5, 1.0, 2.3)
    generator = AnchorGenerator((sizes,), (ratios,))
    expected = generator(ImageList(torch.zeros(1, 1, *image), [image]), [torch.zeros(1, 1, *cells)])[0]
    stride = (image[0] // cells[0], image[1] // cells[1])
    grid = anchor_grid(cells, stride=stride, sizes=sizes, aspect_ratios=ratios)
    assert grid.dtype == torch.float32
    assert torch.equal(grid, expected)


def test_a_grid_without_cells():
    assert anchor_grid((0, 3), stride=8, sizes=[16], aspect_ratios=[1.0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": []}, "sizes must be a list of positive numbers, got"),
        ({"sizes": [16, -1]}, "sizes must be"),
        ({"aspect_ratios": [0.0]}, "aspect_ratios must be"),
        ({"sizes": [float("inf")]}, "sizes must be"),
        ({"sizes": [float("nan")]}, "sizes must be"),
        ({"sizes": 16}, "sizes must be a list"),
        ({"stride": 0}, "stride must be positive"),
        ({"stride": float("nan")}, "stride must be positive"),
        ({"stride": (8, 0)}, "stride must be positive"),
        ({"sizes": [16, 0.9]}, "enlarge the smallest size"),
        ({"sizes": [4], "aspect_ratios": [50.0]}, "enlarge the smallest size"),
    ],
)
def test_grids_that_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        anchor_grid((2, 3), **{"stride": 8, "sizes": [16], "aspect_ratios": [1.0], **changed})


def test_cells_are_whole():
    with pytest.raises(ValueError, match=r"got \(2.5, 3\) and 8; use whole cells, and pixels"):
        anchor_grid((2.5, 3), stride=8, sizes=[16], aspect_ratios=[1.0])
    cells = torch.zeros(1, 1, 2, 3).shape[-2:]
    assert len(anchor_grid(cells, stride=8, sizes=[16], aspect_ratios=[1.0])) == 6


# --- matching


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5), (0.4, 0.1)])
def test_matching_equals_torchvisions(seed, positive, negative):
    anchors = anchor_grid((9, 14), stride=(7, 8), sizes=[8, 20, 33], aspect_ratios=[0.5, 1.0, 2.0])
    boxes = random_boxes(1 + seed, seed)
    if seed % 2:
        boxes = boxes.round()  # aligned with the grid: anchors tie
    expected = Matcher(positive, negative, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    matches = match_anchors(anchors, boxes, positive_iou=positive, negative_iou=negative)
    assert matches.dtype == torch.int64
    assert torch.equal(matches, expected)


def test_thresholds_are_inclusive_above():
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0], [0.0, 0.0, 8.0, 2.0], [0.0, 0.0, 8.0, 1.0]])
    boxes = anchors[:1]  # IoU 1, 1/2, 1/4, 1/8
    assert match_anchors(anchors, boxes, positive_iou=0.5, negative_iou=0.25).tolist() == [0, 0, -2, -1]


def test_every_box_gets_its_best_anchor_ties_included():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [40.0, 0.0, 50.0, 10.0]])
    boxes = torch.tensor([[5.0, 4.0, 7.0, 6.0]])  # tiny, in the middle of the first two
    assert match_anchors(anchors, boxes, positive_iou=0.7, negative_iou=0.3).tolist() == [0, 0, -1]


def test_a_box_no_anchor_touches_gets_none():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    boxes = torch.tensor([[60.0, 60.0, 70.0, 80.0], [0.0, 0.0, 10.0, 10.0]])
    assert match_anchors(anchors, boxes, positive_iou=0.7, negative_iou=0.3).tolist() == [1, -1]


def test_no_boxes_is_all_background_and_no_anchors_is_nothing():
    anchors = anchor_grid((2, 3), stride=8, sizes=[16], aspect_ratios=[1.0])
    assert match_anchors(anchors, torch.zeros(0, 4), positive_iou=0.7, negative_iou=0.3).tolist() == [-1] * 6
    matches = match_anchors(torch.zeros(0, 4), random_boxes(2, 0), positive_iou=0.7, negative_iou=0.3)
    assert matches.shape == (0,)
    assert matches.dtype == torch.int64


def test_bad_matches_are_refused():
    anchors = random_boxes(3, 0)
    with pytest.raises(ValueError, match=r"got 0.7 and 0.3; swap"):
        match_anchors(anchors, anchors, positive_iou=0.3, negative_iou=0.7)
    with pytest.raises(ValueError, match=r"boxes must have x1 < x2 .* in row 1"):
        match_anchors(anchors, anchors[:2] * torch.tensor([[1.0], [0.0]]), positive_iou=0.7, negative_iou=0.3)
    with pytest.raises(ValueError, match=r"anchors must have shape"):
        match_anchors(anchors[0], anchors, positive_iou=0.7, negative_iou=0.3)


LESIONS = torch.tensor([[10.0, 10, 20, 22], [50, 40, 90, 80], [5, 5, 14, 32]])


def test_anchors_that_fit_pass():
    assert check_anchors(LESIONS, stride=8, sizes=[11, 16, 40], aspect_ratios=[1.0, 3.0]) is None
    assert check_anchors(LESIONS[:0], stride=8, sizes=[300], aspect_ratios=[1.0]) is None


def test_boxes_that_no_anchor_fits_are_named_with_the_cure():
    words = r"got 2 of 3 without, of size 11 to 16 px .* add sizes near 11 and 13 and 15 and ratios near"
    with pytest.raises(ValueError, match=words):
        check_anchors(LESIONS, stride=8, sizes=[40, 80], aspect_ratios=[1.0])
    with pytest.raises(ValueError, match=r"1 of 3 without, of size 16 .* add sizes near 16 and ratios near 3\.00"):
        check_anchors(LESIONS, stride=8, sizes=[11, 16, 40], aspect_ratios=[1.0], least_iou=0.5)


def test_boxes_too_small_for_the_grid_are_told():
    with pytest.raises(ValueError, match="enlarge the images or take a smaller stride"):
        check_anchors(torch.tensor([[3.0, 3, 6, 6]]), stride=16, sizes=[4, 8], aspect_ratios=[1.0])


def test_the_fit_is_the_iou_of_boxes_that_far_apart():
    anchor, box = torch.tensor([[-12.0, -12, 12, 12]]), torch.tensor([[-3.0, -13, 7, 17]])  # centres (0, 0) and (2, 2)
    iou = box_iou(anchor, box).item()
    check_anchors(box, stride=8, sizes=[24], aspect_ratios=[1.0], least_iou=iou - 1e-4)
    with pytest.raises(ValueError, match="add sizes"):
        check_anchors(box, stride=8, sizes=[24], aspect_ratios=[1.0], least_iou=iou + 1e-4)

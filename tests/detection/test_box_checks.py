"""What is no box: each fault by name and row, for a GPU with one look at all of them."""

import pytest
import torch
from torchvision.ops import box_iou, clip_boxes_to_image

from labkit.detection.box_checks import check_boxes, check_corners

GOOD = torch.tensor([[0.0, 0.0, 9.0, 5.0], [2.5, 1.0, 3.0, 4.5]])


FAULTS = [
    ([[0.0, 0.0, 4.0, 4.0]], r"boxes must be a tensor, got list; write torch.as_tensor\(boxes\)"),
    (torch.zeros(4), r"boxes must have shape \(N, 4\), got \(4,\); write boxes\[None\] for a single box"),
    (torch.zeros(2, 5), r"got \(2, 5\)"),
    (torch.zeros(0), r"an image without boxes has \(0, 4\)"),
    (torch.tensor([[0, 0, 4, 4]]), r"floating point, got torch.int64; write boxes.float\(\)"),
    (torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, float("nan"), 4.0, 4.0]]), "finite, got .* in row 1; look for"),
    (torch.tensor([[0.0, 0.0, float("inf"), 4.0]]), "finite, got .* in row 0"),
    (torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 0.0, 4.0]]), "x1 < x2 and y1 < y2, got .* in row 1"),
    (torch.tensor([[0.0, 0.0, 4.0, 0.0]]), "in row 0; drop it or swap its corners"),
]


@pytest.mark.parametrize(("boxes", "message"), FAULTS)
def test_each_fault_is_named(boxes, message):
    with pytest.raises(ValueError, match=message):
        check_boxes(boxes)


def test_the_message_calls_them_what_the_caller_does():
    with pytest.raises(ValueError, match=r"^proposals of image 3 must have shape .*; write proposals\[None\]"):
        check_boxes(torch.zeros(4), name="proposals of image 3")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_boxes_of_any_floating_type_pass_and_stay(dtype):
    boxes = GOOD.to(dtype)
    assert check_boxes(boxes, image_size=(5, 9)) is None
    assert torch.equal(boxes, GOOD.to(dtype))
    assert check_boxes(boxes[:0], image_size=(5, 9)) is None


def test_boxes_outside_their_image_are_refused():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 5.0]])
    check_boxes(boxes, image_size=(5, 9))
    check_boxes(torch.zeros(0, 4), image_size=(5, 9))
    with pytest.raises(ValueError, match=r"image of 9 x 5 \(H x W\), got \[0.0, 0.0, 9.0, 5.0\] in row 0"):
        check_boxes(boxes, image_size=(9, 5))
    with pytest.raises(ValueError, match="row 0"):
        check_boxes(boxes - 1, image_size=(9, 9))


@pytest.mark.parametrize("seed", range(3))
def test_what_torchvision_clips_passes_and_what_it_would_change_does_not(seed):
    corner = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([60.0, 40.0]) - 5
    boxes = torch.cat([corner, corner + 7.5], dim=1)
    clipped = clip_boxes_to_image(boxes, (40, 60))
    whole = clipped[(clipped[:, 2:] > clipped[:, :2]).all(1)]
    assert check_boxes(whole, image_size=(40, 60)) is None
    for box, same in zip(boxes, (boxes == clipped).all(1), strict=True):
        if not same:
            with pytest.raises(ValueError, match="must lie in the image of 40 x 60"):
                check_boxes(box[None], image_size=(40, 60))


def test_corners_may_meet_but_not_turn_over():
    assert check_corners(torch.tensor([[5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 1.0, 9.0]])) is None
    assert check_corners(torch.zeros(0, 4)) is None
    nan, inf = float("nan"), float("inf")
    for row in ([5.0, 5.0, 4.0, 6.0], [5.0, 5.0, 6.0, 4.0], [nan, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, inf]):
        with pytest.raises(ValueError, match=r"x1 <= x2 and y1 <= y2, got .* in row 1; are they x1 y1 x2 y2\?"):
            check_corners(torch.tensor([[0.0, 0.0, 1.0, 1.0], row]))


def test_what_passes_has_an_iou_with_itself_of_one():
    """Why the check is there: a box without area has none, and NaN goes on into every loss."""
    check_boxes(GOOD)
    assert torch.equal(box_iou(GOOD, GOOD).diagonal(), torch.ones(2))
    assert box_iou(FAULTS[-1][0], FAULTS[-1][0]).isnan().all()

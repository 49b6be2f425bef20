"""Boxes in volumes: by hand, against a count of voxels, against the flat functions, and what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from labkit.detection import boxes as flat
from labkit.detection import boxes_3d as subject
from labkit.detection.boxes_3d import (
    box_iou_3d,
    centroid_distance,
    check_boxes_3d,
    clip_boxes_3d,
    decode_boxes_3d,
    encode_boxes_3d,
    nms_3d,
    wall_distance,
)

NAN, INF = float("nan"), float("inf")


def random_boxes(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([40.0, 25.0, 12.0])
    size = 2 + torch.rand(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([30.0, 18.0, 9.0])
    return torch.cat([corner, corner + size], dim=1).to(dtype)


def volume_of(box, shape=(24, 48, 76)):
    """A mask (Z, Y, X) of a box with whole corners."""
    mask = np.zeros(shape, bool)
    x1, y1, z1, x2, y2, z2 = (int(value) for value in box)
    mask[z1:z2, y1:y2, x1:x2] = True
    return mask


# --- overlap


def test_overlap_by_hand():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 3], [10.0, 0, 0, 12, 2, 2]])
    others = torch.tensor([[2.0, 0, 0, 6, 2, 3], [0.0, 1, 1, 4, 2, 3], [4.0, 0, 0, 8, 2, 3]])  # the last one touches
    expected = torch.tensor([[12 / 36, 8 / 24, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(box_iou_3d(boxes, others), expected)


def test_overlap_is_a_count_of_voxels():
    boxes, others = random_boxes(9, 1).round(), random_boxes(7, 2).round()
    expected = [
        [(a & b).sum() / (a | b).sum() for b in (volume_of(box) for box in others)]
        for a in (volume_of(box) for box in boxes)
    ]
    torch.testing.assert_close(box_iou_3d(boxes, others), torch.tensor(np.array(expected)).float())


@pytest.mark.parametrize("axis", range(3))
def test_overlap_of_slabs_is_that_of_flat_boxes(axis):
    """Boxes that share one side overlap as their other two sides do."""
    boxes, others = random_boxes(20, 1, torch.float64), random_boxes(30, 2, torch.float64)
    for some in (boxes, others):
        some[:, axis], some[:, axis + 3] = 3, 8
    kept = [column for column in range(6) if column % 3 != axis]
    torch.testing.assert_close(box_iou_3d(boxes, others), box_iou(boxes[:, kept], others[:, kept]))


def test_overlap_with_itself_is_one_and_has_no_order():
    boxes, others = random_boxes(20, 1), random_boxes(30, 2)
    torch.testing.assert_close(box_iou_3d(boxes, boxes).diagonal(), torch.ones(20))
    assert torch.equal(box_iou_3d(boxes, others), box_iou_3d(others, boxes).T)


def test_boxes_without_volume_overlap_nothing():
    thin = torch.tensor([[1.0, 1, 1, 1, 5, 5]])
    assert box_iou_3d(thin, torch.cat([thin, torch.tensor([[0.0, 0, 0, 9, 9, 9]])])).tolist() == [[0, 0]]


@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)])
def test_overlap_of_nothing(counts):
    assert box_iou_3d(random_boxes(counts[0]), random_boxes(counts[1])).shape == counts


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_boxes_do_not_overflow(dtype):
    boxes = torch.tensor([[0.0, 0, 0, 256, 128, 128], [0.0, 0, 0, 128, 128, 128]], dtype=dtype)
    iou = box_iou_3d(boxes, boxes)
    assert iou.dtype == dtype
    assert iou.tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_gradients_of_the_overlap_and_arguments_that_stay():
    boxes = random_boxes(4, 1, torch.float64).requires_grad_()
    others = random_boxes(4, 2, torch.float64)
    before = boxes.detach().clone()
    assert torch.autograd.gradcheck(lambda b: box_iou_3d(b, others), boxes)
    assert torch.equal(boxes, before)


# --- deltas


def test_encode_by_hand():
    anchors = torch.tensor([[0.0, 0.0, 0.0, 10.0, 20.0, 4.0]])
    boxes = torch.tensor([[10.0, 10.0, 1.0, 30.0, 20.0, 5.0]])
    expected = torch.tensor([[1.5, 0.25, 0.25, math.log(2), -math.log(2), 0.0]])
    torch.testing.assert_close(encode_boxes_3d(boxes, anchors), expected)


def test_deltas_are_the_flat_ones_and_a_third():
    boxes, anchors = random_boxes(50, 1), random_boxes(50, 2)
    columns = [0, 1, 3, 4]
    expected = flat.encode_boxes(boxes[:, columns], anchors[:, columns])
    assert torch.equal(encode_boxes_3d(boxes, anchors)[:, columns], expected)
    deltas = 6 * torch.randn(50, 6, generator=torch.Generator().manual_seed(3))  # some beyond the clamp
    decoded = decode_boxes_3d(deltas, anchors)[:, columns]
    assert torch.equal(decoded, flat.decode_boxes(deltas[:, columns], anchors[:, columns]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.float16, 0.3)])
def test_decode_undoes_encode(dtype, tolerance):
    boxes, anchors = random_boxes(50, 1, dtype), random_boxes(50, 2, dtype)
    decoded = decode_boxes_3d(encode_boxes_3d(boxes, anchors), anchors)
    assert decoded.dtype == dtype
    torch.testing.assert_close(decoded, boxes, rtol=0, atol=tolerance)


def test_decode_clamps_only_growth():
    anchors = torch.tensor([[0.0, 0.0, 0.0, 16.0, 16.0, 16.0]])
    grown = decode_boxes_3d(torch.tensor([[0.0, 0.0, 0.0, 80.0, 0.0, -80.0]]), anchors)
    torch.testing.assert_close(grown[0, 3:] - grown[0, :3], torch.tensor([1000.0, 16.0, 0.0]))


def test_deltas_of_nothing():
    empty = torch.zeros(0, 6)
    assert encode_boxes_3d(empty, empty).shape == decode_boxes_3d(empty, empty).shape == (0, 6)


def test_gradients_of_the_deltas():
    anchors = random_boxes(5, 2, torch.float64)
    deltas = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode_boxes_3d(d, anchors), deltas)
    boxes = random_boxes(5, 1, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: encode_boxes_3d(b, anchors), boxes)


# --- clipping


def test_clipping_is_the_flat_one_in_every_plane():
    boxes = random_boxes(60, 1) - 8
    depth, height, width = 10, 22, 37
    clipped = clip_boxes_3d(boxes, (depth, height, width))
    for columns, plane in (([0, 1, 3, 4], (height, width)), ([0, 2, 3, 5], (depth, width))):
        assert torch.equal(clipped[:, columns], clip_boxes_to_image(boxes[:, columns], plane))
    assert clip_boxes_3d(boxes[:0], (4, 5, 6)).shape == (0, 6)


def test_a_box_outside_keeps_no_volume():
    clipped = clip_boxes_3d(torch.tensor([[20.0, 0.0, 0.0, 30.0, 4.0, 4.0]]), (6, 8, 10))
    assert (clipped[:, 3:] - clipped[:, :3]).prod() == 0


# --- suppression


def slowly_suppressed(boxes, scores, threshold):
    """The same in the plainest words."""
    left = sorted(range(len(boxes)), key=lambda row: (-float(scores[row]), row))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [row for row in left if float(box_iou_3d(boxes[[best]], boxes[[row]])) <= threshold]
    return kept


@pytest.mark.parametrize("block", [3, 16, 512])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, 1.0])
def test_suppression_equals_its_definition(block, threshold, monkeypatch):
    monkeypatch.setattr(subject, "BLOCK", block)
    boxes = random_boxes(40, 3)
    scores = torch.rand(40, generator=torch.Generator().manual_seed(4)).mul(10).round()  # many ties
    assert nms_3d(boxes, scores, iou_threshold=threshold).tolist() == slowly_suppressed(boxes, scores, threshold)


def test_suppression_of_slabs_is_torchvisions():
    boxes = random_boxes(700, 5)
    boxes[:, 2], boxes[:, 5] = 0, 1
    scores = torch.rand(700, generator=torch.Generator().manual_seed(6))
    expected = nms(boxes[:, [0, 1, 3, 4]], scores, 0.3)
    assert torch.equal(nms_3d(boxes, scores, iou_threshold=0.3), expected)


def test_the_threshold_itself_stays():
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [0.0, 0, 0, 4, 4, 2]])  # an IoU of exactly one half
    assert nms_3d(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.5).tolist() == [0, 1]
    assert nms_3d(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.49).tolist() == [0]


def test_suppression_of_nothing():
    kept = nms_3d(torch.zeros(0, 6), torch.zeros(0), iou_threshold=0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


# --- distances


def test_distances_by_hand():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 3], [0.0, 0, 0, 4, 2, 3]])
    others = boxes + torch.tensor([[1.0, 0, 0, 1, 0, 0], [-1.0, -2, -3, 1, 2, 3]])
    spacing = (5.0, 3.0, 2.0)  # z, y, x
    assert wall_distance(boxes, others, spacing=spacing).tolist() == pytest.approx([4 / 6, (4 + 12 + 30) / 6])
    assert centroid_distance(boxes, others, spacing=spacing).tolist() == [2, 0]
    shifted = boxes[:1] + torch.tensor([0.0, 0, 2, 0, 0, 2])  # along z, where a voxel has 5 mm
    assert centroid_distance(boxes[:1], shifted, spacing=spacing).tolist() == [10]


def test_distances_of_nothing():
    empty = torch.zeros(0, 6)
    assert wall_distance(empty, empty, spacing=(1, 1, 1)).shape == (0,)
    assert centroid_distance(empty, empty, spacing=(1, 1, 1)).shape == (0,)


# --- what is refused

GOOD = random_boxes(2, 1)
FAULTS = [
    ([[0.0] * 6], r"must be a tensor, got list; write torch.as_tensor\("),
    (torch.zeros(6), r"must have shape \(N, 6\), got \(6,\); write \w+\[None\] for a single box"),
    (torch.zeros(2, 4), r"got \(2, 4\); a flat box needs z1 and z2"),
    (torch.zeros(2, 7), r"got \(2, 7\); a volume without boxes has \(0, 6\)"),
    (torch.zeros(0), r"a volume without boxes has \(0, 6\)"),
    (torch.zeros(2, 6, dtype=torch.int64), r"floating point, got torch.int64; write \w+.float\(\)"),
    (torch.zeros(2, 6, dtype=torch.bool), "floating point, got torch.bool"),
    (torch.tensor([[0.0, 0, 0, 4, 4, 4], [0.0, NAN, 0, 4, 4, 4]]), "finite, got .* in row 1; look for"),
    (torch.tensor([[0.0, 0, 0, 4, INF, 4], [0.0, 0, 0, 4, 4, 4]]), "finite, got .* in row 0"),
    (torch.tensor([[5.0, 0, 0, 4, 4, 4], [0.0, 0, 0, 4, 4, 4]]), "x1 <=? x2, .* in row 0; is the order x1 y1 z1"),
    (torch.tensor([[0.0, 0, 0, 4, 4, 4], [0.0, 5, 0, 4, 4, 4]]), "y1 <=? y2 .* in row 1"),
    (torch.tensor([[0.0, 0, 0, 4, 4, 4], [0.0, 0, 5, 4, 4, 4]]), "z1 <=? z2, got .* in row 1"),
]


@pytest.mark.parametrize(("bad", "message"), FAULTS)
def test_each_fault_is_named_by_each_function(bad, message):
    scores = torch.zeros(2)
    for call in (
        lambda: check_boxes_3d(bad),
        lambda: box_iou_3d(bad, GOOD),
        lambda: box_iou_3d(GOOD, bad),
        lambda: encode_boxes_3d(bad, GOOD),
        lambda: encode_boxes_3d(GOOD, bad),
        lambda: decode_boxes_3d(torch.zeros(2, 6), bad),
        lambda: clip_boxes_3d(bad, (4, 4, 4)),
        lambda: nms_3d(bad, scores, iou_threshold=0.5),
        lambda: wall_distance(bad, GOOD, spacing=(1, 1, 1)),
        lambda: centroid_distance(GOOD, bad, spacing=(1, 1, 1)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_an_anchor_needs_volume_and_a_box_to_compare_does_not():
    thin = torch.tensor([[1.0, 1, 1, 1, 5, 5]])
    check_boxes_3d(thin, empty=True)
    for call in (check_boxes_3d, lambda b: encode_boxes_3d(b, b), lambda b: decode_boxes_3d(b, b)):
        with pytest.raises(ValueError, match="x1 < x2"):
            call(thin)


def test_rows_must_correspond():
    with pytest.raises(ValueError, match=r"boxes must have a row for each of anchors, \(2, 6\), got \(3, 6\)"):
        encode_boxes_3d(random_boxes(3), random_boxes(2))
    with pytest.raises(ValueError, match=r"deltas must have a row .* got \(3, 4\)"):
        decode_boxes_3d(torch.zeros(3, 4), random_boxes(3))
    for distance in (wall_distance, centroid_distance):
        with pytest.raises(ValueError, match=r"boxes1 must have a row for each of boxes2"):
            distance(random_boxes(3), random_boxes(2), spacing=(1, 1, 1))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, NAN, 1.0), (1.0, INF, 1.0)])
def test_spacings_that_are_none(spacing):
    with pytest.raises(ValueError, match="spacing must be three positive numbers"):
        wall_distance(GOOD, GOOD, spacing=spacing)


@pytest.mark.parametrize("size", [(4, 4), (4, 4, 0), (4, 4.5, 4), (1, 4, 4, 4)])
def test_sizes_of_volumes_that_are_none(size):
    with pytest.raises(ValueError, match=r"volume_size must be \(Z, Y, X\)"):
        clip_boxes_3d(GOOD, size)


@pytest.mark.parametrize(
    ("scores", "threshold", "message"),
    [
        ([0.1, 0.2], 0.5, "scores must be a tensor, got list"),
        (torch.zeros(3), 0.5, r"scores must have shape \(N,\), got \(3,\) for boxes \(2, 6\)"),
        (torch.zeros(2, 1), 0.5, r"scores must have shape"),
        (torch.tensor([0.1, NAN]), 0.5, "scores must be finite"),
        (torch.zeros(2), 1.5, r"iou_threshold must lie in \[0, 1\], got 1.5"),
        (torch.zeros(2), NAN, "iou_threshold must lie"),
    ],
)
def test_suppressions_that_are_refused(scores, threshold, message):
    with pytest.raises(ValueError, match=message):
        nms_3d(GOOD, scores, iou_threshold=threshold)


def test_the_names_of_the_contract():
    assert flat.box_iou_3d is box_iou_3d
    assert flat.nms_3d is nms_3d
    assert isinstance(flat.box_iou_3d(GOOD, GOOD), Tensor)

"""Heatmaps against what they are by definition, cell by cell."""

import math

import pytest
import torch

from labkit.detection.heatmaps import center_errors, gaussian_heatmap, heatmap_loss, heatmap_peaks


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def hill(box, row, column, stride):
    """The value of one cell, from the formula."""
    x1, y1, x2, y2 = box
    across = (column - math.floor((x1 + x2) / 2 / stride)) * stride / ((x2 - x1) / 6)
    down = (row - math.floor((y1 + y2) / 2 / stride)) * stride / ((y2 - y1) / 6)
    return math.exp(-(across**2 + down**2) / 2)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_cell_has_the_height_of_the_highest_hill(stride):
    two = [[3.0, 5, 30, 18], [20, 8, 33, 36]]
    heatmap = gaussian_heatmap(boxes(*two), (40, 44), stride=stride)
    assert heatmap.shape == (40 // stride, 44 // stride)
    for row in range(heatmap.shape[0]):
        for column in range(heatmap.shape[1]):
            expected = max(hill(box, row, column, stride) for box in two)
            assert float(heatmap[row, column]) == pytest.approx(expected, abs=1e-6)


def test_the_top_is_exactly_1_and_stands_on_the_cell_that_holds_the_centre():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        corner, side = torch.rand(2, generator=generator) * 60, 5 + torch.rand(2, generator=generator) * 30
        box = torch.cat([corner, corner + side])[None]
        heatmap = gaussian_heatmap(box, (112, 104), stride=4)
        ((row, column),) = (heatmap == 1).nonzero().tolist()
        x, y = ((box[0, :2] + box[0, 2:]) / 2).tolist()
        assert column * 4 <= x < column * 4 + 4
        assert row * 4 <= y < row * 4 + 4


def test_no_boxes_make_a_map_of_zeros():
    assert torch.equal(gaussian_heatmap(boxes(), (8, 12), stride=2), torch.zeros(4, 6))


@pytest.mark.parametrize(
    ("box", "size", "words"),
    [
        ([0, 0, 4, 4], (10, 12), "multiples of the stride 4, got 10 x 12; pad the film"),
        ([20, 2, 40, 6], (12, 28), "centres must lie in 12 x 28 pixels, got one outside; mind that height comes first"),
        ([4, 4, 4, 8], (12, 28), "boxes must have x1 < x2"),
    ],
)
def test_bad_boxes_and_sizes_are_named(box, size, words):
    with pytest.raises(ValueError, match=words):
        gaussian_heatmap(boxes(box), size, stride=4)


def test_the_loss_is_the_papers_sum():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, generator=generator)
    target = torch.rand(2, 3, 4, generator=generator)
    target[0, 1, 2] = target[1, 0, 0] = target[1, 2, 3] = 1.0
    total = 0.0
    for z, y in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        total += (1 - p) ** 2 * math.log(p) if y == 1 else (1 - y) ** 4 * p**2 * math.log(1 - p)
    assert float(heatmap_loss(logits, target)) == pytest.approx(-total / 3, rel=1e-5)


def test_the_loss_without_a_centre_is_divided_by_1_and_stays_finite_far_out():
    assert float(heatmap_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))) == pytest.approx(math.log(2), rel=1e-5)
    logits = torch.tensor([[[300.0, -300.0]]], requires_grad=True)
    loss = heatmap_loss(logits, torch.tensor([[[0.5, 1.0]]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_the_gradient_is_that_of_the_sum():
    target = torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target[0, 1, 1] = 1
    logits = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: heatmap_loss(z, target), logits)


def test_a_loss_of_two_shapes_is_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1, 4, 4\) and \(2, 4, 4\); take the channel"):
        heatmap_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


def test_the_peaks_of_hills_are_their_centres_best_first():
    two = boxes([10, 8, 30, 24], [40, 30, 61, 51])
    heatmap = gaussian_heatmap(two[:1], (64, 80), stride=2) * 0.6
    heatmap = torch.maximum(heatmap, gaussian_heatmap(two[1:], (64, 80), stride=2) * 0.8)
    found = heatmap_peaks(heatmap, stride=2, score_threshold=0.1)
    assert found["scores"].tolist() == pytest.approx([0.8, 0.6])
    assert found["centers"].tolist() == [[51, 41], [21, 17]]  # middles of cells, 1 pixel from the centres at most


def test_a_lower_peak_nearby_is_none_and_a_peak_at_the_edge_is_one():
    heatmap = torch.zeros(9, 12)
    heatmap[0, 0], heatmap[4, 5], heatmap[6, 8] = 0.5, 0.9, 0.8
    assert heatmap_peaks(heatmap, stride=1, neighbours=7)["centers"].tolist() == [[5.5, 4.5], [0.5, 0.5]]
    assert len(heatmap_peaks(heatmap, stride=1, neighbours=3)["scores"]) == 3
    assert len(heatmap_peaks(heatmap, stride=1, neighbours=3, most=2)["scores"]) == 2
    assert heatmap_peaks(torch.zeros(4, 5))["centers"].shape == (0, 2)


def test_an_even_neighbourhood_is_refused():
    with pytest.raises(ValueError, match="odd number of neighbours"):
        heatmap_peaks(torch.zeros(4, 5), neighbours=4)


def test_the_error_of_a_lesion_is_that_of_its_best_mark():
    marks = torch.tensor([[5.0, 6], [4, 9], [60, 60], [25, 26]])
    found = {"centers": marks, "scores": torch.tensor([0.4, 0.9, 0.8, 0.2])}
    target = {"boxes": boxes([0, 0, 8, 12], [20, 20, 30, 30], [40, 40, 44, 44])}
    assert center_errors([found], [target]).tolist() == [3, 1]
    assert center_errors([found], [target], score_threshold=0.3).tolist() == [3]
    square = {"boxes": torch.cat([marks - 2, marks + 2], dim=1), "scores": found["scores"]}
    assert center_errors([square, square], [target, target]).tolist() == [3, 1, 3, 1]
    assert center_errors([found], [{"boxes": boxes()}]).shape == (0,)
    with pytest.raises(ValueError, match="one dict a film, got 1 and 2; pair them"):
        center_errors([found], [target, target])

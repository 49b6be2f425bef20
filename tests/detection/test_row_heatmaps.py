"""The U-Net that draws a hill over rows: its shapes, its loss, its answer, and moved images."""

import math

import pytest
import torch

from labkit.detection.row_heatmaps import RowUNet, Shifted, heights_of, row_loss


def hill(height, rows=64, spacing=3.0):
    return -0.5 * ((torch.arange(float(rows)) * spacing - height) / 9) ** 2


def test_one_logit_a_row():
    assert RowUNet(widths=(4, 6))(torch.rand(3, 24, 16)).shape == (3, 24)


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match=r"images must be \(B, H, W\), H and W multiples of 16, got \(1, 190, 128\)"):
        RowUNet()(torch.zeros(1, 190, 128))


def test_the_answer_lies_between_rows():
    found = heights_of(torch.stack([hill(100.0), hill(31.5)]), spacing=3.0)
    assert found.tolist() == pytest.approx([100.0, 31.5], abs=0.3)  # 18 mm up are not as many rows as down


def test_a_second_hill_does_not_pull():
    both = torch.logaddexp(hill(60.0), hill(120.0) - 0.5)
    assert float(heights_of(both[None], spacing=3.0)) == pytest.approx(60, abs=0.5)


def test_the_loss_is_least_at_the_hill_itself():
    target = torch.tensor([90.0])
    right, wrong = (row_loss(hill(at)[None], target, spacing=3.0) for at in (90.0, 96.0))
    assert right < wrong
    assert float(row_loss(torch.zeros(1, 64), target, spacing=3.0)) == pytest.approx(math.log(64), abs=1e-4)


def test_it_learns_a_bright_row():
    torch.manual_seed(0)
    images = torch.zeros(4, 32, 16)
    heights = torch.tensor([15.0, 30, 54, 72])
    for image, height in zip(images, heights, strict=True):
        image[int(height / 3) - 1 : int(height / 3) + 2] = 1
    network = RowUNet(widths=(4, 8))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        loss = row_loss(network(images), heights, spacing=3.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (heights_of(network(images), spacing=3.0) - heights).abs().max() < 6


def test_a_moved_image_takes_its_height_along():
    image = torch.zeros(1, 60, 40)
    image[0, 30, 20] = 1
    torch.manual_seed(0)
    seen = [Shifted(image, torch.tensor([90.0]), spacing=3.0)[0] for _ in range(30)]
    for moved, height in seen:
        assert int(moved.sum(dim=1).argmax()) * 3 == float(height)
    assert len({float(height) for _, height in seen}) > 10
    assert all(0.85 <= float(moved.max()) <= 1.15 for moved, _ in seen)


def test_without_moving_it_is_the_image_itself():
    image = torch.rand(1, 60, 40)
    same, height = Shifted(image, torch.tensor([90.0]), spacing=3.0, rows=0)[0]
    assert torch.equal(same, image[0])
    assert height == 90


def test_a_slice_near_the_edge_stays_inside():
    data = Shifted(torch.rand(2, 60, 40), torch.tensor([3.0, 174.0]), spacing=3.0)
    torch.manual_seed(0)
    for _ in range(20):
        assert 0 <= float(data[0][1]) <= 177
        assert 0 <= float(data[1][1]) <= 177

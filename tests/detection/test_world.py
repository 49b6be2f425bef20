"""Millimetres and voxels: SimpleITK says the same, the way there and back, and what is refused."""

import pytest
import torch

from labkit.detection.world import check_inside, check_spacing, voxel_to_world, world_to_voxel

GRID = {"origin": (-120.5, 40.0, -200.25), "spacing": (2.5, 0.7, 0.6), "direction": (1.0, -1.0, -1.0)}


def points(count=50):
    return 100 * torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_says_what_simple_itk_says():
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.Image(11, 9, 7, sitk.sitkInt16)
    image.SetOrigin(GRID["origin"][::-1])
    image.SetSpacing(GRID["spacing"][::-1])
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    expected = [image.TransformPhysicalPointToContinuousIndex(p)[::-1] for p in points().tolist()]
    torch.testing.assert_close(world_to_voxel(points(), **GRID), torch.tensor(expected, dtype=torch.float64))


def test_there_and_back():
    voxels = world_to_voxel(points(), **GRID)
    torch.testing.assert_close(voxel_to_world(voxels, **GRID), points())
    assert world_to_voxel(points(0).float(), **GRID).shape == (0, 3)


def test_by_hand_and_the_dtype_stays():
    given = torch.tensor([[10.0, 20.0, 34.0]])
    voxels = world_to_voxel(given, origin=(30, 0, 20), spacing=(2, 1, 0.5), direction=(1, 1, -1))
    assert voxels.tolist() == [[2, 20, 20]]
    assert voxels.dtype == torch.float32


@pytest.mark.parametrize("spacing", [None, (), (2.0, 1.0), (2.0, 0.0, 1.0), (2.0, -1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_a_spacing_of_zero_or_missing_is_refused(spacing):
    with pytest.raises(ValueError, match=r"spacing must be three positive numbers z y x in mm, got .*header"):
        check_spacing(spacing)
    with pytest.raises(ValueError, match="spacing must be three positive numbers"):
        world_to_voxel(points(), origin=(0, 0, 0), spacing=spacing)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            torch.zeros(3),
            r"points must be a float tensor of shape \(N, 3\), got torch.float32 of \(3,\); write points\[",
        ),
        (torch.zeros(2, 3, dtype=torch.int64), "got torch.int64"),
        ([[1.0, 2, 3]], "got list"),
    ],
)
def test_points_of_another_form_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        world_to_voxel(given, **GRID)


def test_oblique_axes_are_refused():
    with pytest.raises(ValueError, match="direction must be 1 or -1 along z y x, got"):
        world_to_voxel(points(), **{**GRID, "direction": (0.9, 1.0, 1.0)})
    with pytest.raises(ValueError, match="origin must be three numbers"):
        world_to_voxel(points(), **{**GRID, "origin": (0.9, 1.0)})


def test_a_place_outside_is_named():
    inside = torch.tensor([[-0.5, 0.0, 5.4], [5.5, 5.5, 5.5]])
    check_inside(inside, (6, 6, 6), what="candidate")
    with pytest.raises(
        ValueError, match=r"candidate 1 lies at voxel z y x = \[3.0, 6.0, 1.0\], outside the scan of 6 x"
    ):
        check_inside(torch.tensor([[3.0, 4, 5], [3, 6, 1]]), (6, 6, 6), what="candidate")


def test_voxels_where_millimetres_are_meant_are_named():
    given = torch.tensor([[30.0, 20.0, 10.0]])  # x y z, voxels of a scan that lies far from the world's origin
    voxels = world_to_voxel(given, origin=(-300, -200, -200), spacing=(2.0, 1.25, 1.25))
    with pytest.raises(
        ValueError, match=r"x y z = \[30.0, 20.0, 10.0\] must be in mm, and would fit as voxels; convert"
    ):
        check_inside(voxels, (64, 168, 240), given, what="annotation")
    with pytest.raises(ValueError, match="must be in mm of the world; is it of another scan"):
        check_inside(voxels, (8, 168, 240), given, what="annotation")

"""LUNA16's scans: small .mhd files made here; and the submission, read by the kit's own scorer."""

import sys

import numpy as np
import pytest
import torch

from labkit.datasets import luna16
from labkit.datasets.luna16_scans import CtScan, Findings, read_scan, resample, write_submission
from labkit.detection.candidates import window
from labkit.detection.evaluation import competition_metric, froc, hit_center_distance
from labkit.detection.world import voxel_to_world, world_to_voxel

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
VALUES = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 1000


@pytest.fixture
def folder(tmp_path):
    """One scan with two axes turned over and air around its field, and annotations of it and of another."""
    sitk = pytest.importorskip("SimpleITK")
    volume = VALUES.copy()
    volume[:, 0] = -3024
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((120.0, 80.0, -300.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "1.2.840.mhd"))
    (tmp_path / "annotations.csv").write_text(
        f"{HEADER}1.2.840,119.5,77.75,-290,6.5\n9.9,1,2,3,4\n1.2.840,120,80,-300,-1\n"
    )
    return tmp_path


def by_hand(folder, **changed):
    """A header written as text, its voxels beside it."""
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-10 -20 -30",
        "ElementSpacing": "0.5 0.75 2.5",
        "DimSize": "4 5 6",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "hand.raw",
    } | changed
    (folder / "hand.raw").write_bytes(VALUES.tobytes())
    path = folder / "hand.mhd"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None))
    return path


def test_a_turned_scan_is_read_with_its_grid(folder):
    scan = read_scan(folder / "1.2.840.mhd", annotations=folder / "annotations.csv")
    assert (scan.name, tuple(scan.volume.shape)) == ("1.2.840", (6, 5, 4))
    assert scan.spacing == (2.5, 0.75, 0.5)
    assert scan.origin == (-300.0, 80.0, 120.0)
    assert scan.direction == (1.0, -1.0, -1.0)
    assert scan.nodules.diameters.tolist() == [6.5, 10.0]  # -1 is unknown: 10 mm, as in LUNA16's script
    grid = {"origin": scan.origin, "spacing": scan.spacing, "direction": scan.direction}
    torch.testing.assert_close(world_to_voxel(scan.nodules.centers, **grid), torch.tensor([[4.0, 3, 1], [0, 0, 0]]))


def test_padding_becomes_air(folder):
    scan = read_scan(folder / "1.2.840.mhd")
    assert scan.volume.min() == -3024
    assert window(scan.volume)[:, 0].max() == 0
    assert scan.nodules.centers.shape == (0, 3)


def test_a_header_by_hand(tmp_path):
    pytest.importorskip("SimpleITK")
    scan = read_scan(by_hand(tmp_path))
    assert torch.equal(scan.volume, torch.from_numpy(VALUES).float())
    assert (scan.origin, scan.direction) == ((-30.0, -20.0, -10.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("spacing", [None, "0.5 0.75 0", "0 0.75 2.5", "0.5 0.75", "0.5 wide 2.5"])
def test_a_spacing_of_zero_or_missing_is_refused(tmp_path, spacing):
    with pytest.raises(ValueError, match=r"hand\.mhd, ElementSpacing: "):
        read_scan(by_hand(tmp_path, ElementSpacing=spacing))


def test_oblique_axes_are_refused(tmp_path):
    pytest.importorskip("SimpleITK")
    with pytest.raises(ValueError, match="TransformMatrix must only flip axes, got"):
        read_scan(by_hand(tmp_path, TransformMatrix="0.8 0.6 0 -0.6 0.8 0 0 0 1"))


def test_annotations_in_voxels_are_named(folder):
    (folder / "voxels.csv").write_text(f"{HEADER}1.2.840,1,3,4,6.5\n")
    told = r"voxels\.csv: annotation 0 lies at .*x y z = \[1\.0, 3\.0, 4\.0\] must be in mm, and would fit as voxels"
    with pytest.raises(ValueError, match=told):
        read_scan(folder / "1.2.840.mhd", annotations=folder / "voxels.csv")
    (folder / "words.csv").write_text(f"{HEADER}1.2.840,1,3,here,6.5\n")
    with pytest.raises(ValueError, match=r"words\.csv must hold coordX, coordY, coordZ, diameter_mm, got"):
        read_scan(folder / "1.2.840.mhd", annotations=folder / "words.csv")


def test_a_missing_file_and_a_missing_library_are_named(folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.mhd is not there"):
        read_scan(folder / "none.mhd")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r'pip install "labkit\[medical\]"'):
        read_scan(folder / "1.2.840.mhd")


def ramp(**changed):
    """A scan whose values are the millimetres along each axis: straight lines keep them."""
    grid = {"spacing": (1.0, 0.5, 0.5), "origin": (7.0, -3.0, 2.0), "direction": (1.0, -1.0, -1.0)} | changed
    rows = torch.cartesian_prod(*(torch.arange(float(n)) for n in (16, 20, 24)))
    points = voxel_to_world(rows, **grid)
    none = Findings(torch.zeros(0, 3), torch.zeros(0))
    return CtScan("ramp", (points @ torch.tensor([1.0, 10, 100])).reshape(16, 20, 24), **grid, nodules=none)


def test_a_resampled_scan_lies_where_it_lay():
    coarse = resample(ramp(), spacing=(2.0, 1.25, 1.25))
    assert tuple(coarse.volume.shape) == (8, 8, 10)
    inner = torch.tensor([[2.0, 3, 4], [5, 5, 7]])
    grid = {"origin": coarse.origin, "spacing": coarse.spacing, "direction": coarse.direction}
    expected = voxel_to_world(inner, **grid) @ torch.tensor([1.0, 10, 100])
    got = torch.stack([coarse.volume[z, y, x] for z, y, x in inner.long().tolist()])
    torch.testing.assert_close(got, expected, atol=0.05, rtol=1e-4)
    with pytest.raises(ValueError, match="spacing must be three positive numbers"):
        resample(ramp(), spacing=(2.0, 0.0, 1.0))


def test_the_kits_scorer_reads_the_submission(tmp_path, monkeypatch):
    monkeypatch.setattr(
        luna16, "ROWS", {"newseriesuids.csv": 2, "newannotations.csv": 1, "newannotations_excluded.csv": 0}
    )
    (tmp_path / "newseriesuids.csv").write_text("1.3.6\n1.3.7\n")
    (tmp_path / "newannotations.csv").write_text(f"{HEADER}1.3.6,-10.5,20,-33.25,8\n")
    (tmp_path / "newannotations_excluded.csv").write_text(HEADER)
    found = {
        "1.3.6": {"centers": torch.tensor([[-9.5, 20.0, -33.25], [50, 50, 50]]), "scores": torch.tensor([0.75, 0.5])},
        "1.3.7": {"centers": torch.zeros(0, 3), "scores": torch.zeros(0)},
    }
    assert write_submission(tmp_path / "mine.csv", found).name == "mine.csv"
    detections, targets = luna16.load(tmp_path, submission="mine.csv")
    torch.testing.assert_close(detections[0]["centers"].float(), found["1.3.6"]["centers"])
    assert detections[0]["scores"].tolist() == [0.75, 0.5]
    assert len(detections[1]["scores"]) == 0
    assert competition_metric(froc(detections, targets, hit=hit_center_distance())) == 1.0


@pytest.mark.parametrize("scores", [[1.5], [float("nan")], [0.5, 0.5]])
def test_what_is_no_probability_is_refused(tmp_path, scores):
    with pytest.raises(ValueError, match=r"1\.3\.6: expected a probability in 0 to 1 for each of 1 marks"):
        write_submission(
            tmp_path / "mine.csv", {"1.3.6": {"centers": torch.zeros(1, 3), "scores": torch.tensor(scores)}}
        )

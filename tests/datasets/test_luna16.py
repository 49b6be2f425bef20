import pytest
import torch

from labkit.datasets import luna16


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two scans: one with a nodule, an excluded finding and two marks, one with nothing."""
    monkeypatch.setattr(
        luna16, "ROWS", {"newseriesuids.csv": 2, "newannotations.csv": 1, "newannotations_excluded.csv": 1}
    )
    header = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
    (tmp_path / "newseriesuids.csv").write_bytes(b"00010\r\n00007\r\n")
    (tmp_path / "newannotations.csv").write_text(f"{header}00007,1,2,3,6.5\n")
    (tmp_path / "newannotations_excluded.csv").write_text(f"{header}00007,4,5,6,-1\n")
    (tmp_path / "marks.csv").write_text(
        "seriesuid\tcoordX\tcoordY\tcoordZ\tprobability\n7\t-1.5\t0\t2\t0.25\n7\t1\t2\t3\t0.75\n"
    )
    return tmp_path


def test_files_become_detections_and_targets(folder):
    detections, targets = luna16.load(folder, submission="marks.csv")
    assert [len(record["scores"]) for record in detections] == [0, 2]
    assert detections[1]["centers"].tolist() == [[-1.5, 0, 2], [1, 2, 3]]
    assert detections[1]["scores"].tolist() == [0.25, 0.75]
    assert targets[0]["centers"].shape == (0, 3)
    assert targets[1]["centers"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert targets[1]["diameters"].tolist() == [6.5, 10.0]
    assert targets[1]["excluded"].tolist() == [False, True]
    assert targets[0]["excluded"].dtype == torch.bool


def test_files_that_an_editor_saved(folder, monkeypatch):
    expected = luna16.load(folder, submission="marks.csv")
    for file in folder.iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\n\n")  # a byte-order mark, empty lines
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    found = luna16.load(f"~/{folder.name}", submission="marks.csv")
    for before, after in zip(expected[0] + expected[1], found[0] + found[1], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    (folder / "marks.csv").write_bytes("7,1,2,3,0.5".encode("utf-16"))
    with pytest.raises(ValueError, match=r"marks\.csv: expected text in UTF-8"):
        luna16.load(folder, submission="marks.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("marks.csv", "7,1,2,nan,0.5\n", r"marks.csv must hold finite numbers, got .*'nan'"),
        ("newannotations.csv", "7,1,2,3,6.5\n7,1,2,3,6.5\n", r"newannotations.csv must have 1 rows, got 2; take"),
        ("newannotations.csv", "", r"newannotations.csv must have 1 rows, got 0"),
        ("marks.csv", "7,1,2,3\n", r"marks.csv must have 5 columns, got .* in row 0; is it cut short"),
        ("marks.csv", "7,1,2,3,high\n", r"marks.csv must hold numbers, got .*'high'"),
        ("marks.csv", "8,1,2,3,0.5\n", r"marks.csv must name listed scans, got '8'"),
    ],
)
def test_files_that_are_refused(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        luna16.load(folder, submission="marks.csv")


def test_a_missing_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv"):
        luna16.load(folder, submission="nowhere.csv")


def test_the_real_files_have_their_known_counts(real_data):
    detections, targets = luna16.load(real_data / "luna16")
    assert len(detections) == len(targets) == 888
    assert sum(len(record["scores"]) for record in detections) == 55677
    assert sum(int((~record["excluded"]).sum()) for record in targets) == 1186
    assert min(float(record["diameters"].min()) for record in targets if len(record["diameters"])) > 0

"""LUNA16: the nodules of 888 chest CT scans and a published detector's marks (Setio et al. 2017).

Four text files, as they come with DeepLung's evaluation script; the scans themselves are not needed.
Centres are world coordinates x y z in millimetres. Licences: LUNA16 CC BY 4.0, DeepLung Apache-2.0.
"""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

from labkit.datasets.arguments import read_words
from labkit.datasets.cache import cache_dir
from labkit.files import user_path

# Other lists of nodules with the same name circulate: the number of rows tells them apart.
ROWS = {"newseriesuids.csv": 888, "newannotations.csv": 1186, "newannotations_excluded.csv": 35192}
TAKE = "take DeepLung's file of that name"
UNKNOWN_DIAMETER = 10.0  # mm, what LUNA16's own script takes where an excluded finding has -1


def load(
    folder: str | Path | None = None, *, submission: str = "dpn26bs32.csv"
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Marks of a submission and the nodules to be found, ready for `froc` with `hit_center_distance()`.

    Used in notebook 04.

    Args:
        folder: holds newseriesuids.csv, newannotations.csv, newannotations_excluded.csv and the submission; by
            default the one that `labkit data list` names.
        submission: file name of the marks, columns seriesuid, coordX, coordY, coordZ, probability.

    Returns:
        detections: one dict a scan: `centers` (D, 3) mm, `scores` (D,).
        targets: one dict a scan: `centers` (T, 3) mm, `diameters` (T,) mm, `excluded` (T,) bool, for findings
            that count neither as nodules nor as false alarms. Scans without either are there, with no rows.

    Raises:
        ValueError: a file has another number of rows, a row is not numbers, or a scan is not listed.
        FileNotFoundError: a file is missing.
    """
    folder = cache_dir() / "luna16" if folder is None else user_path(folder)
    if not (folder / "newseriesuids.csv").is_file():
        raise FileNotFoundError(f"{folder} holds no newseriesuids.csv; labkit data list says where to get it")
    series = {_scan(row[0]): i for i, row in enumerate(_read(folder / "newseriesuids.csv", columns=1))}
    scans, values = _numbers(folder / submission, series)
    detections = [{"centers": rows[:, :3], "scores": rows[:, 3]} for rows in _by_scan(scans, values, len(series))]
    nodule_scans, nodules = _numbers(folder / "newannotations.csv", series)
    other_scans, others = _numbers(folder / "newannotations_excluded.csv", series)
    scans, values = torch.cat([nodule_scans, other_scans]), torch.cat([nodules, others])
    excluded = torch.arange(len(values)) >= len(nodules)
    diameters = torch.where(values[:, 3] < 0, UNKNOWN_DIAMETER, values[:, 3])
    values = torch.column_stack([values[:, :3], diameters, excluded])
    targets = [
        {"centers": rows[:, :3], "diameters": rows[:, 3], "excluded": rows[:, 4].bool()}
        for rows in _by_scan(scans, values, len(series))
    ]
    return detections, targets


def _read(path: Path, *, columns: int) -> list[list[str]]:
    lines = read_words(path).replace("\t", ",").splitlines()  # the submission has tabs
    rows = [row for row in csv.reader(lines) if row]
    if rows and rows[0][0] == "seriesuid":
        rows = rows[1:]
    expected = ROWS.get(path.name, len(rows))
    if len(rows) != expected:
        raise ValueError(f"{path} must have {expected} rows, got {len(rows)}; {TAKE}")
    for number, row in enumerate(rows):
        if len(row) != columns:
            raise ValueError(f"{path} must have {columns} columns, got {row} in row {number}; is it cut short? {TAKE}")
    return rows


def _scan(name: str) -> str:
    return name.lstrip("0")  # "00783" in one file is "783" in another


def _numbers(path: Path, series: dict[str, int]) -> tuple[Tensor, Tensor]:
    scans, values = [], []
    for row in _read(path, columns=5):
        if _scan(row[0]) not in series:
            raise ValueError(f"{path} must name listed scans, got {row[0]!r}; is it of another data set? {TAKE}")
        scans.append(series[_scan(row[0])])
        try:
            values.append([float(text) for text in row[1:]])
        except ValueError as error:
            raise ValueError(f"{path} must hold numbers, got {row} ({error}); {TAKE}") from error
        if not all(map(math.isfinite, values[-1])):
            raise ValueError(f"{path} must hold finite numbers, got {row}; leave such marks out")
    return torch.tensor(scans, dtype=torch.long), torch.tensor(values, dtype=torch.float64).reshape(-1, 4)


def _by_scan(scans: Tensor, values: Tensor, count: int) -> tuple[Tensor, ...]:
    order = scans.argsort(stable=True)
    return values[order].split(scans.bincount(minlength=count).tolist())

"""LUNA16's scans and its submission file: .mhd volumes in, a table of marks out.

Volume      (Z, Y, X) float32 HU; air beyond a scanner's round field is padded with -2000 or -3024.
Grid        origin, spacing in mm and direction (1 or -1), each z y x: the axes of some scans run against the world's.
Nodules     centres (K, 3) x y z in mm, world; diameters (K,) mm.

SimpleITK reads the volumes; it comes with `pip install "labkit[medical]"`. Used in notebook 14.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.datasets.arguments import read_words
from labkit.datasets.luna16 import UNKNOWN_DIAMETER
from labkit.detection.world import check_inside, check_spacing, world_to_voxel
from labkit.files import user_path, write_whole

Triple = tuple[float, float, float]
COLUMNS = ["seriesuid", "coordX", "coordY", "coordZ"]
PHANTOM_SPACING = (2.0, 1.25, 1.25)  # mm, what the networks of notebook 14 have learned


@dataclass(frozen=True)
class Findings:
    """The K nodules of a scan."""

    centers: Tensor  # (K, 3) float32 x y z, world, mm
    diameters: Tensor  # (K,) float32 mm


@dataclass(frozen=True)
class CtScan:
    """A scan from a file, and what its annotations say."""

    name: str  # the series
    volume: Tensor  # (Z, Y, X) float32 HU
    spacing: Triple  # z y x, mm
    origin: Triple  # z y x, mm, world, of the middle of voxel (0, 0, 0)
    direction: Triple  # z y x, 1 or -1
    nodules: Findings


def read_scan(path: str | Path, *, annotations: str | Path | None = None) -> CtScan:
    """A scan with its nodules.

    Args:
        path: an .mhd file, its .raw or .zraw beside it.
        annotations: a table of seriesuid, coordX, coordY, coordZ, diameter_mm; rows of other series are passed over,
            and a diameter of -1 becomes 10 mm, as in LUNA16's own script. None: no nodules.

    Raises:
        ImportError: SimpleITK is not installed.
        ValueError: the header names no spacing or one of zero, the axes are oblique, or an annotation lies outside.

    Example:
        >>> read_scan("nowhere.mhd")
        Traceback (most recent call last):
        FileNotFoundError: nowhere.mhd is not there; an .mhd file and its .raw beside it are needed
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; an .mhd file and its .raw beside it are needed")
    _check_header(path)
    image = _simple_itk().ReadImage(str(path))
    matrix = np.array(image.GetDirection()).reshape(3, 3)
    if not np.allclose(np.abs(matrix), np.eye(3), atol=1e-3):
        raise ValueError(f"{path.name}: TransformMatrix must only flip axes, got {matrix.tolist()}; resample the scan")
    scan = CtScan(
        name=path.stem,
        volume=torch.from_numpy(_simple_itk().GetArrayFromImage(image).astype(np.float32)),
        spacing=check_spacing(image.GetSpacing()[::-1]),
        origin=_triple(image.GetOrigin()),
        direction=_triple(np.sign(np.diag(matrix))),
        nodules=Findings(torch.zeros(0, 3), torch.zeros(0)),
    )
    return scan if annotations is None else replace(scan, nodules=_findings(user_path(annotations), scan))


def resample(scan: CtScan, *, spacing: Triple = PHANTOM_SPACING) -> CtScan:
    """The same scan with voxels of another size, between its voxels by straight lines.

    Its grid begins where the old one began: at the outer face of the first voxel, not in its middle.

    Raises:
        ValueError: a spacing is not positive.

    Example:
        >>> none = Findings(torch.zeros(0, 3), torch.zeros(0))
        >>> scan = CtScan("s", torch.zeros(8, 10, 12), (1.0, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), none)
        >>> coarse = resample(scan, spacing=(2.0, 1.0, 1.0))
        >>> coarse.volume.shape, coarse.origin
        (torch.Size([4, 5, 6]), (0.5, 0.25, 0.25))
    """
    old, new = check_spacing(scan.spacing), check_spacing(spacing)
    shape = [max(1, round(side * a / b)) for side, a, b in zip(scan.volume.shape, old, new, strict=True)]
    real = [side * a / wanted for side, a, wanted in zip(scan.volume.shape, old, shape, strict=True)]  # whole voxels
    volume = F.interpolate(scan.volume[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]
    origin = [o + d * (b - a) / 2 for o, d, a, b in zip(scan.origin, scan.direction, old, real, strict=True)]
    return replace(scan, volume=volume, spacing=(real[0], real[1], real[2]), origin=(origin[0], origin[1], origin[2]))


def write_submission(path: str | Path, found: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """The path of the challenge's table: seriesuid, coordX, coordY, coordZ, probability, a row a mark.

    `luna16.load` reads it again.

    Args:
        path: of the .csv file.
        found: for each series its `centers` (M, 3) x y z in mm, world, and `scores` (M,).

    Raises:
        ValueError: a score is no probability, or centres and scores differ in number.

    Example:
        >>> import tempfile
        >>> marks = {"1.3.6": {"centers": torch.tensor([[-1.5, 2.0, 3.0]]), "scores": torch.tensor([0.75])}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_submission(Path(folder) / "mine.csv", marks).read_text(encoding="utf-8"))
        seriesuid,coordX,coordY,coordZ,probability
        1.3.6,-1.5000,2.0000,3.0000,0.750000
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, "probability"])
    for name, marks in found.items():
        centers, scores = marks["centers"].tolist(), marks["scores"].tolist()
        if len(centers) != len(scores) or not all(0 <= score <= 1 for score in scores):
            raise ValueError(
                f"{name}: expected a probability in 0 to 1 for each of {len(centers)} marks, got {scores[:5]}; "
                "write logits.sigmoid()"
            )
        for center, score in zip(centers, scores, strict=True):
            rows.writerow([name, *(f"{value:.4f}" for value in center), f"{score:.6f}"])
    path = user_path(path)
    write_whole(path, text.getvalue().encode())
    return path


def _check_header(path: Path) -> None:
    """Refuse a header without a spacing: SimpleITK would take 1 mm in silence."""
    header = path.read_bytes()[:4096].decode("ascii", errors="replace")
    found = re.search(r"^\s*Element(?:Spacing|Size)\s*=\s*(.*)$", header, flags=re.MULTILINE)
    words = found[1].split() if found else []
    try:
        check_spacing([float(word) for word in words[::-1]] or None)
    except ValueError as error:
        raise ValueError(f"{path.name}, ElementSpacing: {error}") from None


def _findings(path: Path, scan: CtScan) -> Findings:
    rows = []
    for row in csv.DictReader(read_words(path).splitlines()):
        if row.get("seriesuid") == scan.name:
            try:
                rows.append([float(row[name]) for name in [*COLUMNS[1:], "diameter_mm"]])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path.name} must hold coordX, coordY, coordZ, diameter_mm, got {row} ({error}); take LUNA16's "
                    "annotations.csv"
                ) from None
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    grid = {"origin": scan.origin, "spacing": scan.spacing, "direction": scan.direction}
    voxels = world_to_voxel(values[:, :3], **grid)
    check_inside(voxels, tuple(scan.volume.shape), values[:, :3], what=f"{path.name}: annotation")
    return Findings(values[:, :3], torch.where(values[:, 3] < 0, UNKNOWN_DIAMETER, values[:, 3]))


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ImportError('.mhd files need SimpleITK; install it with: pip install "labkit[medical]"') from error
    return SimpleITK


def _triple(values: Any) -> Triple:
    """Three numbers x y z as z y x."""
    x, y, z = (float(value) for value in values)
    return z, y, x

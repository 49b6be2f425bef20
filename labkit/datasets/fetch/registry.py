"""Registry: the real sets `labkit data get` can fetch, and how each is known to be the right one.

BCCD has a published SHA-256 of its archive (in TensorFlow Datasets' list of checksums). mini-MIAS has none,
so it is known by its content: Info.txt is the official one, each film has the one possible size, and those
films whose SHA-256 was measured for this course agree with it. The same check by content serves any other
archive of either set, such as one that GitHub packed anew. What was checked is written into `manifest.json`
beside the data. LUNA16's four lists are put in place by hand, and known by their SHA-256.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from labkit.datasets.arguments import read_words
from labkit.datasets.mias_info import info_problems

# SHA-256 over lines "sha256  name\n", sorted by name. Measured on the annotations, images and lists of train
# and val, and on the 256 films of the patients who are not in _UNMEASURED.
BCCD_DIGEST = "2db63219c8692cf1b8120c70edda5ec725256f27af1681a779042e5aacd1de7e"
LUNA16_DIGEST = "a264cdf6b324237a41e26774376ab86eb39338cac6f7b3aeb3c9879329a00021"
LUNA16_FILES = ("newseriesuids.csv", "newannotations.csv", "newannotations_excluded.csv", "dpn26bs32.csv")
MIAS_DIGEST = "ad4a689a5da89f2aa74340a57889d45d03227d4474141a1d1c317c17f61a5469"
# fmt: off
_UNMEASURED = (8, 12, 13, 14, 16, 19, 23, 26, 29, 30, 41, 45, 48, 51, 61, 70, 73, 83, 84, 88, 97, 100, 104,
               105, 109, 120, 121, 123, 127, 139, 144, 147, 148)
# fmt: on
AGAIN = "move the folder away, and run labkit data get, or take the archive that the set's own page offers"
BY_HAND = "labkit data list says where they are"
FILM_BYTES = 1_048_593  # a header of 17 bytes and 1024 x 1024 pixels


class RealSet(NamedTuple):
    """What is known of a set before it is fetched; sizes in bytes."""

    title: str
    url: str
    archive_name: str
    archive_bytes: int
    unpacked_bytes: int
    sha256: str | None  # of the archive, where one is published
    marker: str  # this file is in the set's folder, wherever an archive hides that folder
    licence: str
    check: Callable[[Path], str]
    by_hand: str = ""  # how to get it, where there is no archive to download


def digest(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over the names and SHA-256s of some files of a folder."""
    lines = (f"{file_sha256(folder / name)}  {name}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_bccd(folder: Path) -> str:
    """A sentence on what was compared.

    Raises:
        ValueError: a file is missing or differs.
    """
    lists = [f"ImageSets/Main/{split}.txt" for split in ("train", "val")]
    names = [name for path in lists if (folder / path).is_file() for name in read_words(folder / path).split()]
    wanted = lists + [f"Annotations/{name}.xml" for name in names] + [f"JPEGImages/{name}.jpg" for name in names]
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        raise ValueError(
            f"{folder}: expected the blood cells of BCCD, but {len(absent)} files lack, as {absent[0]}; {AGAIN}"
        )
    if digest(folder, wanted) != BCCD_DIGEST:
        raise ValueError(
            f"{folder}: expected the train and val images of BCCD 1.0, got others (the SHA-256 differs); {AGAIN}"
        )
    return f"content: all {len(wanted)} files of train and val have the known SHA-256"


def check_mini_mias(folder: Path) -> str:
    """A sentence on what was compared, and on what could not be.

    Raises:
        ValueError: a film has an impossible size, or a known one differs.
    """
    films = sorted(path.name for path in folder.glob("mdb[0-9][0-9][0-9].pgm"))
    torn = [name for name in films if (folder / name).stat().st_size != FILM_BYTES]
    if torn or not films:
        what = f"{torn[0]} with {(folder / torn[0]).stat().st_size:,}" if torn else "no mdbNNN.pgm"
        raise ValueError(f"{folder}: expected films of {FILM_BYTES:,} bytes each, got {what}; {AGAIN}")
    patients = (patient for patient in range(1, 162) if patient not in _UNMEASURED)
    measured = [f"mdb{film:03d}.pgm" for patient in patients for film in (2 * patient - 1, 2 * patient)]
    told = "; ".join(info_problems(folder / "Info.txt")) or "Info.txt is the official one"
    if not set(measured) <= set(films):
        return f"content: {told}; {len(films)} of 322 films, sizes only, too few to compare their SHA-256"
    if digest(folder, measured) != MIAS_DIGEST:
        raise ValueError(f"{folder}: expected the films of mini-MIAS, got altered ones (the SHA-256 differs); {AGAIN}")
    return f"content: {told}; {len(films)} of 322 films, {len(measured)} of them with the known SHA-256"


def check_luna16(folder: Path) -> str:
    """A sentence on what was compared.

    Raises:
        ValueError: a file is missing or differs.
    """
    absent = [name for name in LUNA16_FILES if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{folder}: expected {', '.join(LUNA16_FILES)}, but {', '.join(absent)} lack; {BY_HAND}")
    if digest(folder, LUNA16_FILES) != LUNA16_DIGEST:
        raise ValueError(
            f"{folder}: expected the four files of DeepLung, got others of that name (the SHA-256 differs); {BY_HAND}"
        )
    return "content: all 4 files have the known SHA-256"


SETS = {
    "bccd": RealSet(
        title="BCCD: blood cells, 364 images of 640 by 480 with boxes",
        url="https://github.com/Shenggan/BCCD_Dataset/archive/v1.0.zip",
        archive_name="BCCD_Dataset-1.0.zip",
        archive_bytes=7_875_205,
        unpacked_bytes=10_000_000,
        sha256="97af5cc16d14d293fcb3c82a8f66e49b0339a8d0abd8e9508e0feeb4911caa1f",
        marker="ImageSets/Main/train.txt",
        licence="MIT licence, copyright (c) 2017 shenggan; images by cosmicad and akshaylamba.",
        check=check_bccd,
    ),
    "mini-mias": RealSet(
        title="mini-MIAS: 322 mammograms of 161 women, 1024 by 1024, with circles around lesions",
        url="http://peipa.essex.ac.uk/pix/mias/all-mias.tar.gz",
        archive_name="all-mias.tar.gz",
        archive_bytes=111_000_000,  # an estimate from 256 of the films; the server tells its own figure
        unpacked_bytes=322 * FILM_BYTES + 32_768,
        sha256=None,
        marker="Info.txt",
        licence=(
            "MIAS licence agreement, in the archive's Licence.txt: for research purposes ONLY; not to be\n"
            "rented, leased or sold; publications must cite J. Suckling et al., Excerpta Medica Int. Congr.\n"
            "Ser. 1069, 375-378, 1994. (The record of the original films at Cambridge, doi\n"
            "10.17863/CAM.105113, says CC BY; keep to the stricter text.)"
        ),
        check=check_mini_mias,
    ),
    "luna16": RealSet(
        title="LUNA16: the nodules of 888 chest CT scans and a published detector's marks, without the scans",
        url="https://github.com/wentaozhu/DeepLung",
        archive_name="",
        archive_bytes=4_511_598,
        unpacked_bytes=4_511_598,
        sha256=None,
        marker="newseriesuids.csv",
        licence=(
            "LUNA16, scans and nodules: CC BY 4.0; publications must cite A. A. A. Setio et al., Medical Image\n"
            "Analysis 42, 1-13, 2017. DeepLung, the lists in this form and the marks: Apache-2.0, W. Zhu et al.,\n"
            "WACV 2018."
        ),
        check=check_luna16,
        by_hand=f"from the folder evaluationScript/annotations there, put {', '.join(LUNA16_FILES)}",
    ),
}

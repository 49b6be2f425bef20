"""mini-MIAS's Info.txt: a page of free text, then one line a lesion or normal film.

    mdb001 G CIRC B 535 425 197     film, tissue F/G/D, class, severity B/M, x, y *from the bottom*, radius
    mdb003 D NORM                   a normal film
    mdb059 F CIRC B                 abnormal, but nobody wrote where
    mdb216 D CALC M *NOTE 3*        the same: calcifications spread too widely for a circle

An altered copy circulates: a header line instead of the text, mdb212 and mdb214 turned to NORM, no note.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

SIDE = 1024  # pixels of 0.2 mm, both ways
KINDS = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")  # the classes of abnormality
INFO_SHA256 = "78821d5ff471c27364d429424370b846a6e3fe06f470936776858103c05fbddd"  # 9,860 bytes

_ROW = re.compile(
    r"(?P<film>mdb\d{3})\s+(?P<tissue>[FGD])\s+"
    rf"(?:NORM|(?P<kind>{'|'.join(KINDS)})\s+(?P<severity>[BM])"
    r"(?:\s+(?P<circle>\d+\s+\d+\s+\d+)|\s*\*NOTE 3\*)?)\s*"
)


class Row(NamedTuple):
    """One line; `circle` is (x, y from the bottom, radius) in pixels, None where it is not given."""

    film: str
    tissue: str
    kind: str
    severity: str | None
    circle: tuple[int, int, int] | None

    @property
    def unlocated(self) -> bool:
        """Abnormal, and no circle is given."""
        return self.kind != "NORM" and self.circle is None


def read_info(path: Path) -> list[Row]:
    """Rows of the table.

    Raises:
        ValueError: there is no table, or a line has none of the known forms; the message names file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        if not line.startswith("mdb"):
            continue
        found = _ROW.fullmatch(line)
        if not found:
            raise ValueError(
                f"{path}, line {number}: expected film, tissue, class, severity and circle "
                f"('mdb001 G CIRC B 535 425 197'), got {line!r}; take Info.txt from the official archive"
            )
        circle = tuple(map(int, found["circle"].split())) if found["circle"] else None
        if circle and (circle[2] < 1 or max(circle[:2]) > SIDE):
            raise ValueError(f"{path}, line {number}: expected a circle on {SIDE} by {SIDE} pixels, got {line!r}")
        rows.append(Row(found["film"], found["tissue"], found["kind"] or "NORM", found["severity"], circle))
    if not rows:
        raise ValueError(f"{path}: expected a table of films (like 'mdb001 G CIRC B 535 425 197'), got none")
    return rows


def info_problems(path: Path) -> list[str]:
    """One sentence when Info.txt is not the official file; none when it is."""
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() == INFO_SHA256:
        return []
    if text.startswith(b"REFNUM"):
        return ["Info.txt is the altered copy in circulation, which calls mdb212 and mdb214 normal"]
    return ["Info.txt is not the official file (its SHA-256 differs)"]

"""mini-MIAS's Info.txt: a page of free text, then one line a lesion or normal film.

    mdb001 G CIRC B 535 425 197     film, tissue F/G/D, class, severity B/M, x, y *from the bottom*, radius
    mdb003 D NORM                   a normal film
    mdb059 F CIRC B                 abnormal, but nobody wrote where
    mdb216 D CALC M *NOTE 3*        the same: calcifications spread too widely for a circle

An altered copy circulates: a header line instead of the text, mdb212 and mdb214 turned to NORM, no note.
Copies that an editor saved are read too: a byte-order mark, indented rows, letters of either case.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from labkit.datasets.arguments import SAVE_AGAIN

FILMS = 322
SIDE = 1024  # pixels of 0.2 mm, both ways
KINDS = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")  # the classes of abnormality
INFO_SHA256 = "78821d5ff471c27364d429424370b846a6e3fe06f470936776858103c05fbddd"  # 9,860 bytes

OFFICIAL = "take Info.txt from the official archive"

_ROW = re.compile(
    r"(?P<film>mdb\d{3})\s+(?P<tissue>[FGD])\s+"
    rf"(?:NORM|(?P<kind>{'|'.join(KINDS)})\s+(?P<severity>[BM])"
    r"(?:\s+(?P<circle>\d+\s+\d+\s+\d+)|\s*\*NOTE 3\*)?)\s*",
    re.IGNORECASE,
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
        ValueError: there is no table, a line in it has none of the known forms, or a film is both normal and not;
            the message names file and line.
    """
    lines = _lines(path)
    table = [number for number, line in enumerate(lines) if line.lower().startswith("mdb")]
    if not table:
        raise ValueError(
            f"{path}: expected a table of films (like 'mdb001 G CIRC B 535 425 197'), got none; {OFFICIAL}"
        )
    rows: list[Row] = []
    for number in range(table[0], table[-1] + 1):
        if not lines[number]:
            continue
        try:
            row = _row(lines[number])
            if row in rows or any(row.film == other.film and "NORM" in (row.kind, other.kind) for other in rows):
                raise ValueError(f"expected a film once, or once a lesion, got again {lines[number]!r}")
        except ValueError as error:
            raise ValueError(f"{path}, line {number + 1}: {error}; {OFFICIAL}") from error
        rows.append(row)
    return rows


def _row(line: str) -> Row:
    """What one line says."""
    found = _ROW.fullmatch(line)
    if not found:
        raise ValueError(
            f"expected film, tissue, class, severity and circle ('mdb001 G CIRC B 535 425 197'), got {line!r}"
        )
    if not 1 <= int(found["film"][3:]) <= FILMS:
        raise ValueError(f"expected a film of mdb001 to mdb{FILMS}, got {line!r}")
    circle = None
    if found["circle"]:
        x, y, radius = (int(number) for number in found["circle"].split())
        if radius < 1 or max(x, y) > SIDE:
            raise ValueError(f"expected a circle on {SIDE} by {SIDE} pixels, got {line!r}")
        circle = x, y, radius
    severity = found["severity"] and found["severity"].upper()
    kind = (found["kind"] or "NORM").upper()
    return Row(found["film"].lower(), found["tissue"].upper(), kind, severity, circle)


def _lines(path: Path) -> list[str]:
    """The lines without the spaces around them; UTF-8, with or without a mark, or the older Latin-1."""
    content = path.read_bytes()
    if b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path}: expected text in UTF-8, got UTF-16; {SAVE_AGAIN}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines()]


def info_problems(path: Path) -> list[str]:
    """One sentence when Info.txt is not the official file; none when it is."""
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() == INFO_SHA256:
        return []
    if text.removeprefix(b"\xef\xbb\xbf").lstrip().upper().startswith(b"REFNUM"):
        return ["Info.txt is the altered copy in circulation, which calls mdb212 and mdb214 normal"]
    return ["Info.txt is not the official file (its SHA-256 differs)"]

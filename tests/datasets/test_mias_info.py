"""The table of mini-MIAS: every form of a row, and every slip named by file and line."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from mias_table import TABLE

from labkit.datasets import mias_info
from labkit.datasets.mias_info import Row, info_problems, read_info


@pytest.fixture
def info(tmp_path):
    """Info.txt with a given content."""

    def write(content):
        path = tmp_path / "Info.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_each_form_of_a_row(info):
    assert read_info(info(TABLE))[:6] == [
        Row("mdb001", "G", "CIRC", "B", (535, 425, 197)),
        Row("mdb002", "D", "NORM", None, None),
        Row("mdb003", "F", "SPIC", "M", (100, 1000, 30)),
        Row("mdb003", "F", "MISC", "B", (600, 300, 20)),
        Row("mdb004", "F", "CIRC", "B", None),
        Row("mdb005", "D", "CALC", "M", None),
    ]
    assert [row.film for row in read_info(info(TABLE)) if row.unlocated] == ["mdb004", "mdb005", "mdb006"]


def written(row):
    """The row as the official table would have it."""
    circle = "" if row.circle is None else " {} {} {}".format(*row.circle)
    return f"{row.film} {row.tissue} {row.kind}" + (f" {row.severity}{circle}" if row.severity else "")


def test_what_is_read_and_written_reads_the_same(info):
    rows = read_info(info(TABLE))
    assert read_info(info("\n".join(map(written, rows)))) == rows


SAVED = {
    "mark": TABLE.encode("utf-8-sig"),
    "indented": TABLE.replace("mdb", " \tmdb").encode(),
    "capitals": TABLE.upper().encode(),
    "carriage returns": TABLE.replace("\n", "\r\n").encode("utf-8-sig"),
    "old letters": ("Größe\n" + TABLE).encode("latin-1"),
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_a_table_that_an_editor_saved(info, content):
    expected = read_info(info(TABLE))
    assert read_info(info(content)) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_in_another_encoding_is_named(info, encoding):
    with pytest.raises(ValueError, match=r"Info\.txt: expected text in UTF-8, got UTF-16; save it as UTF-8"):
        read_info(info(TABLE.encode(encoding)))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mdb001 G CIRC B 535 425", "expected film, tissue, class, severity and circle"),
        ("mdb001 G CIRC", "expected film"),
        ("mdb001 X NORM", "expected film"),
        ("mdb001 G BLOB M 1 2 3", "expected film"),
        ("mdb001 G NORM 5 5 5", "expected film"),
        ("mdb001", "expected film"),
        ("mbd003 G NORM", "expected film"),
        ("mdb001 G CIRC B 2000 1 5", "expected a circle on 1024 by 1024 pixels"),
        ("mdb001 G CIRC B 5 5 0", "expected a circle on 1024 by 1024 pixels"),
        ("mdb000 G NORM", "expected a film of mdb001 to mdb322"),
        ("mdb323 G NORM", "expected a film of mdb001 to mdb322"),
        ("mdb002 D NORM", "expected a film once, or once a lesion, got again 'mdb002 D NORM'"),
        ("mdb002 D CIRC B 500 500 9", "expected a film once"),
    ],
)
def test_a_bad_line_is_named(info, line, told):
    path = info(f"text\nmdb002 D NORM\n{line}\nmdb005 D NORM\n")
    with pytest.raises(ValueError, match=rf"Info\.txt, line 3: {told}.*; take Info.txt from the official archive"):
        read_info(path)


@pytest.mark.parametrize("content", ["", "text only", "\n\n"])
def test_a_file_without_a_table_is_named(info, content):
    with pytest.raises(ValueError, match=r"Info\.txt: expected a table of films .*, got none; take Info.txt from"):
        read_info(info(content))


def test_a_table_that_is_not_the_official_one_is_told(info):
    assert info_problems(info(TABLE)) == ["Info.txt is not the official file (its SHA-256 differs)"]
    altered = ["Info.txt is the altered copy in circulation, which calls mdb212 and mdb214 normal"]
    for start in ("REFNUM BG CLASS\n", "\ufeff refnum bg\n"):
        assert info_problems(info(start + TABLE)) == altered


@pytest.fixture(scope="module")
def real_info(real_data, tmp_path_factory):
    """Info.txt of the real archive, alone."""
    path = tmp_path_factory.mktemp("real") / "Info.txt"
    with tarfile.open(real_data / "mini-mias" / "all-mias.tar.gz") as archive:
        member = next(member for member in archive if Path(member.name).name == "Info.txt")
        path.write_bytes(archive.extractfile(member).read())
    return path


def test_the_real_table(real_info):
    rows = mias_info.read_info(real_info)
    assert len(rows) == 330
    assert len({row.film for row in rows}) == 322
    assert sum(row.kind == "NORM" for row in rows) == 207
    assert sum(row.circle is not None for row in rows) == 119
    assert sorted(row.film for row in rows if row.unlocated) == ["mdb059", "mdb216", "mdb233", "mdb245"]
    kinds = [sum(row.kind == kind and row.circle is not None for row in rows) for kind in mias_info.KINDS]
    assert kinds == [27, 24, 19, 15, 19, 15]
    assert mias_info.info_problems(real_info) == []


def test_the_official_table_is_known_by_its_bytes(real_info):
    assert hashlib.md5(real_info.read_bytes()).hexdigest() == "e093f5295eed797add8f8c02e203185e"

"""Archives: whole ones come out whole, hostile ones come out not at all."""

import contextlib
import gzip
import io
import random
import stat
import tarfile
import warnings
import zipfile

import pytest

from labkit.datasets.fetch import archives

MEGABYTE = 1 << 20


def tar_with(path, *members, mode="w:gz"):
    """A tar of (name, content) or ready TarInfo objects."""
    with tarfile.open(path, mode) as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                file.addfile(info, io.BytesIO(member[1]))
    return path


def zip_with(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def special(kind, name="odd", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = (("set/a.txt", b"first"), ("set/deep/b.bin", random.Random(3).randbytes(1_500_000)), ("set/empty", b""))


@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip"])
def test_a_whole_archive(tmp_path, form):
    path = tmp_path / "archive.dat"  # told by content, not by name
    if form == "zip":
        zip_with(path, ("set/", ""), *GOOD)
    else:
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        tar_with(path, folder, *GOOD, mode="w:gz" if form == "tar.gz" else "w")
    archives.unpack(path, tmp_path / "out", max_bytes=4 * MEGABYTE)
    out = {file.relative_to(tmp_path / "out").as_posix(): file for file in (tmp_path / "out").rglob("*")}
    assert {name: file.read_bytes() for name, file in out.items() if file.is_file()} == dict(GOOD)


@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:/out.txt", "C:out.txt", "..\\out.txt"]
)
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_names_that_lead_out(tmp_path, name, form):
    path = (tar_with if form == "tar" else zip_with)(tmp_path / "evil", ("fine", b"x"), (name, b"x"))
    with pytest.raises(ValueError, match=r"evil: not unpacked: .*leads out of the folder"):
        archives.unpack(path, tmp_path / "deep" / "er" / "out", max_bytes=MEGABYTE)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["evil", "fine"]


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_and_devices_in_a_tar(tmp_path, kind):
    path = tar_with(tmp_path / "evil", special(kind))
    with pytest.raises(ValueError, match="evil"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    assert not list(tmp_path.glob("out/*"))


def test_links_and_secrets_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("odd")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = zip_with(tmp_path / "evil", (link, "/etc/passwd"))
    with pytest.raises(ValueError, match="got 'odd', a link, a device or encrypted"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    path = zip_with(tmp_path / "locked", ("plain", b"x"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="got 'plain', a link, a device or encrypted"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_name_twice(tmp_path, form):
    with pytest.warns(UserWarning, match="Duplicate name") if form == "zip" else _nothing():
        path = (tar_with if form == "tar" else zip_with)(tmp_path / "evil", ("a", b"1"), ("a", b"2"))
    with pytest.raises(ValueError, match="is in it twice"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_bombs(tmp_path, form):
    make = tar_with if form == "tar" else zip_with
    noise = random.Random(0).randbytes(MEGABYTE)
    big = make(tmp_path / "big", ("a", noise), ("b", noise))
    with pytest.raises(ValueError, match="a bomb"):
        archives.unpack(big, tmp_path / "1", max_bytes=2 * MEGABYTE - 1)
    archives.unpack(big, tmp_path / "2", max_bytes=2 * MEGABYTE)
    many = make(tmp_path / "many", *[(f"{index}", b"") for index in range(12)])
    with pytest.raises(ValueError, match="expected at most 11 files and folders"):
        archives.unpack(many, tmp_path / "3", max_bytes=MEGABYTE, max_files=11)
    dense = make(tmp_path / "dense", ("zeros", bytes(30 * MEGABYTE)))
    with pytest.raises(ValueError, match="a bomb"):
        archives.unpack(dense, tmp_path / "4", max_bytes=1000 * MEGABYTE)
    assert not list(tmp_path.glob("4/*"))


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_a_packing_without_a_bound_of_memory(tmp_path, monkeypatch, method, name):
    with zipfile.ZipFile(tmp_path / "small", "w", method) as file:
        file.writestr("zeros", bytes(30 * MEGABYTE))  # one read would inflate all of it, whatever the caller asks for
    monkeypatch.setattr(zipfile.ZipExtFile, "read", None)  # it must not come to reading
    expected = rf"small: not unpacked: expected files stored or deflated, got 'zeros' packed by {name}; take the"
    with pytest.raises(ValueError, match=expected):
        archives.unpack(tmp_path / "small", tmp_path / "out", max_bytes=1000 * MEGABYTE)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_folders_count(tmp_path, form):
    make = tar_with if form == "tar" else zip_with
    deep = make(tmp_path / "deep", ("/".join("abcdefgh") + "/file", b"x"), ("a/b/other", b"x"))  # 8 folders, 2 files
    archives.unpack(deep, tmp_path / "1", max_bytes=MEGABYTE, max_files=10)
    with pytest.raises(ValueError, match="expected at most 9 files and folders"):
        archives.unpack(deep, tmp_path / "2", max_bytes=MEGABYTE, max_files=9)
    if form == "zip":
        empty = make(tmp_path / "empty", *[(f"{index}/", b"") for index in range(12)])
        with pytest.raises(ValueError, match="expected at most 11 files and folders"):
            archives.unpack(empty, tmp_path / "3", max_bytes=MEGABYTE, max_files=11)


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("names", [("x" * 300,), ("a", "a/b/c"), ("a", "a/b")])
def test_names_no_disk_can_hold(tmp_path, form, names):
    path = (tar_with if form == "tar" else zip_with)(tmp_path / "evil", *[(name, b"x") for name in names])
    with pytest.raises(ValueError, match="evil: "):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)


def test_a_zip_that_lies_about_a_size(tmp_path):
    path = zip_with(tmp_path / "liar", ("zeros", bytes(100_000)))
    content = path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="liar"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    assert sum(file.stat().st_size for file in tmp_path.glob("out/*")) <= 10


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_unpacks_to_a_gigabyte(tmp_path, kind):
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 1 << 30
    noise = random.Random(4).randbytes(MEGABYTE)  # so that not the ratio gives it away
    (tmp_path / "evil").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(40 * MEGABYTE) + noise))
    with pytest.raises(ValueError, match=r"evil: not unpacked: a header .* a bomb"):
        archives.unpack(tmp_path / "evil", tmp_path / "out", max_bytes=1 << 31)


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_torn_archive(tmp_path, form, share):
    noise = random.Random(1).randbytes(300_000)
    path = (tar_with if form == "tar" else zip_with)(tmp_path / "torn", ("a", noise), ("b", noise))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"torn: (torn, or no archive|not unpacked)"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)


def test_a_flipped_bit_is_seen(tmp_path):
    noise = random.Random(2).randbytes(300_000)
    for make in (tar_with, zip_with):
        path = make(tmp_path / "bits", ("a", noise))
        content = bytearray(path.read_bytes())
        content[150_000] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="bits: torn, or no archive"):
            archives.unpack(path, tmp_path / make.__name__, max_bytes=MEGABYTE)


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("form", "name"), [("tar", ""), *((form, name) for form in ("tar", "zip") for name in (".", "./", "a/.."))]
)
def test_a_member_without_a_name_of_its_own_writes_nothing(tmp_path, name, form):
    path = (tar_with if form == "tar" else zip_with)(tmp_path / "evil", ("fine", b"x"), (name, b"x"))
    with contextlib.suppress(ValueError):  # refused, or taken for the folder itself
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["evil", "fine"]


@pytest.mark.parametrize(
    ("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a", "./a"), ("a//b", "a/b"), ("a/b", "a/./b")]
)
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_two_members_in_one_place_are_refused(tmp_path, first, second, form):
    with warnings.catch_warnings(action="ignore"):  # zipfile warns of two members of one name
        path = (tar_with if form == "tar" else zip_with)(tmp_path / "evil", (first, b"one"), (second, b"two"))
    with pytest.raises(ValueError, match=r"evil: (.* is in it twice|not unpacked: expected names of files)"):
        archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    written = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert written == [b"one"]


def test_a_zip_behind_a_program_is_read_as_a_zip(tmp_path):
    path = zip_with(tmp_path / "self", ("a", b"one"))
    path.write_bytes(b"MZ" * 50 + path.read_bytes())
    archives.unpack(path, tmp_path / "out", max_bytes=MEGABYTE)
    assert (tmp_path / "out" / "a").read_bytes() == b"one"

"""Archives: unpack a .tar, .tar.gz or .zip from a source that is not trusted.

Only plain files and folders are written, with names that stay inside the target folder, and never more bytes,
files or folders than announced. Anything else (an absolute name, `..`, a link, a device, a name twice, a bomb,
a packing that unpacks without a bound of memory) ends it with a ValueError that names the archive and the member. Data
is copied member by member; modes, owners and dates are not taken over.
"""

import errno
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, cast

CHUNK = 1 << 20  # bytes read at a time
MAX_RATIO = 200  # bytes unpacked per byte packed; images reach 10, text 20, a bomb 1000
OTHER_METHODS = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # in a zip; Python's bzip2 unpacks 575 MB in one read of 350 bytes
BAD_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)  # no disk could hold them
CURE = "take the archive that the set's own page offers"
MAX_HEADER = 16 << 20  # bytes; no single read needs more, a tar header that asks for more is a bomb


class Member(NamedTuple):
    """One file or folder of an archive; `content` is None for a folder."""

    name: str
    size: int
    content: IO[bytes] | None


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int = 10_000) -> None:
    """Writes the files of an archive into a folder, which is made if it is not there.

    Args:
        archive: a .tar, .tar.gz or .zip; told by its content, not its name.
        folder: nothing is written outside it.
        max_bytes: unpacked bytes to stop at.
        max_files: files and folders to stop at, those counted that a name like `a/b/c` makes on its way.

    Raises:
        ValueError: the archive is torn, no archive, or hostile. What was unpacked so far stays: unpack into a
            folder that is thrown away then.
    """
    archive = Path(archive)
    limit = min(max_bytes, MAX_RATIO * archive.stat().st_size)
    written, files, folders = 0, 0, set[PurePosixPath]()
    try:
        for member in _members(archive, limit):
            name = _safe(member.name)
            folders |= {name, *name.parents} if member.content is None else set(name.parents)
            files += member.content is not None
            if files + len(folders) > max_files + 1 or written + member.size > limit:  # one is the folder itself
                raise ValueError(
                    f"expected at most {max_files} files and folders and {limit:,} bytes, got more out of it, a bomb"
                )
            target = folder / name
            if member.content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(member.content, file, CHUNK)  # gives no more than member.size
            written += member.size
    except FileExistsError as error:
        raise ValueError(f"{archive}: {error.filename} is in it twice; fetch it again") from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
    ) as error:
        raise ValueError(f"{archive}: torn, or no archive ({error}); fetch it again") from error
    except (ValueError, NotImplementedError) as error:  # NotImplementedError: a form of zip Python does not know
        raise ValueError(f"{archive}: not unpacked: {error}; {CURE}") from error
    except OSError as error:
        if error.errno not in BAD_NAMES:
            raise
        raise ValueError(
            f"{archive}: not unpacked: expected names of files, got one that cannot be ({error.strerror}); {CURE}"
        ) from error


def _members(archive: Path, limit: int) -> Iterator[Member]:
    return _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive, limit)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Member(info.filename, 0, None)
            elif mode not in (0, stat.S_IFREG) or info.flag_bits & 1:
                raise ValueError(f"expected plain files, got {info.filename!r}, a link, a device or encrypted")
            elif info.compress_type not in METHODS:
                packed_by = OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
                raise ValueError(f"expected files stored or deflated, got {info.filename!r} packed by {packed_by}")
            else:
                with file.open(info) as content:
                    yield Member(info.filename, info.file_size, content)


def _tar_members(archive: Path, limit: int) -> Iterator[Member]:
    with archive.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Limited(gzip.GzipFile(fileobj=raw) if packed else raw, limit)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as file:  # tarfile needs no more than it has
            for info in file:
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise ValueError(f"expected plain files, got {info.name!r}, a link, a device or the like")
                yield Member(info.name, info.size, file.extractfile(info) if info.isreg() else None)
        while stream.read(CHUNK):  # to the very end, where gzip keeps its checksum and tarfile does not look
            pass


def _safe(name: str) -> PurePosixPath:
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts or "\0" in name or "\\" in name:
        raise ValueError(f"expected names inside the folder, got {name!r}, which leads out of the folder")
    return path


class _Limited:
    """A stream for tarfile that refuses to inflate gigabytes into one header."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, limit: int):
        self.stream, self.limit = stream, limit + MAX_HEADER  # headers and padding come on top of the files

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER or self.stream.tell() > self.limit:
            raise ValueError("a header or the whole unpacks to more than it may, a bomb")
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        if position > self.limit:
            raise ValueError("a header or the whole unpacks to more than it may, a bomb")
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

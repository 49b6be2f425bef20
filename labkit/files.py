"""Files that are never half there, and sealed files of arrays, which also tell when they were altered.

Whole     A file is written under a name of its own and renamed, so a reader meets the old file or the new one.
Sealed    A whole file in the form of safetensors (nothing is ever unpickled). Its header carries what the writer
          notes, such as the key of a recipe, and a SHA-256 over the names, types, shapes and values of all arrays.
          Training's checkpoint, the cache of the data sets and the features of R-CNN are such files.
"""

import contextlib
import hashlib
import importlib
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

ENDING = ".unfinished"
LEFTOVER = re.compile(r".+\.[0-9a-f]{16}\.unfinished", re.DOTALL)
OLD = 24 * 60 * 60  # seconds: no file of the course takes a day to write, so whoever wrote it was ended
NO_DIGEST = "0" * 64  # stands in the header while the digest is computed
# of a safetensors header, as NumPy calls them; types that NumPy lacks keep their name
NUMPY_NAMES = {"BOOL": "|b1", "I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4"}
NUMPY_NAMES |= {"I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}

Arrays = dict[str, Any]  # NumPy arrays or tensors, by name


def user_path(path: str | os.PathLike) -> Path:
    """The path as its user means it, with `~` or `~name` at its beginning written out.

    Raises:
        ValueError: there is no such user, no home folder, or it is no path.

    Example:
        >>> user_path("films/~old").as_posix()
        'films/~old'
    """
    try:
        if "\0" in os.fspath(path):
            raise ValueError(f"{path!r}: expected the path of a file or folder, got a zero byte in it; leave it out")
        return Path(path).expanduser()
    except TypeError:
        raise ValueError(f"expected the path of a file or folder, got {path!r}; write it between quotes") from None
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}; write the folder in full, without ~") from error


def write_whole(path: Path, *pieces: bytes | memoryview) -> None:
    """Put data into a file in one move: readers see the old one or the new one, whole. A failure leaves no trace.

    Until it is whole the data lies beside, under a name that no other writer has. What writers that were killed left
    in that folder more than a day ago is removed.

    Args:
        path: of the file; its folder is made.
        pieces: its content, one after the other.

    Raises:
        OSError: it cannot be written, the disk is full for example; the old file stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "new" / "words.txt", b"one ", b"two")
        ...     [(file.name, file.read_text()) for file in (Path(folder) / "new").iterdir()]
        [('words.txt', 'one two')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    unfinished = path.with_name(f"{path.name[:50]}.{secrets.token_hex(8)}{ENDING}")  # names end at 255 bytes
    try:
        with open(unfinished, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> list[str]:
    """The names of the unfinished files older than a day that were removed from the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     remove_leftovers(Path(folder))
        []
    """
    removed = []
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if LEFTOVER.fullmatch(entry.name)]
    for entry in found:
        with contextlib.suppress(OSError):  # another process removed it, or it is not ours to remove
            if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > OLD:
                os.unlink(entry.path)
                removed.append(entry.name)
    return removed


# Arrays in a sealed file


def write_sealed(path: Path, arrays: Arrays, **notes: str) -> int:
    """The size of the file in bytes, once the arrays are in it, sealed and whole.

    Args:
        path: of the file; its folder is made.
        arrays: by name; NumPy arrays, or tensors.
        notes: what tells this file from others: the key of a recipe, the names of a network.

    Raises:
        OSError: it cannot be written; the old file stays.

    Example:
        >>> import tempfile, numpy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = write_sealed(Path(folder) / "a", {"squares": numpy.arange(4) ** 2}, key="of 4")
        ...     read_sealed(Path(folder) / "a")
        ({'squares': array([0, 1, 4, 9])}, {'key': 'of 4'})
    """
    pieces = seal(arrays, **notes)
    write_whole(path, *pieces)
    return sum(map(len, pieces))


def read_sealed(path: Path, *, tensors: bool = False) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a sealed file, and its notes.

    Args:
        path: of the file.
        tensors: as tensors, instead of as NumPy arrays.

    Raises:
        OSError: it cannot be read.
        ValueError: what is wrong with it: torn, written by others, altered.
    """
    return unseal(path.read_bytes(), tensors=tensors)


def seal(arrays: Arrays, **notes: str) -> tuple[bytes | memoryview, ...]:
    """A safetensors file, in pieces, whose header carries the notes and a SHA-256 of the arrays.

    Raises:
        ValueError: an array holds no numbers.
    """
    from numpy import ndarray
    from safetensors import SafetensorError

    tensors = not all(isinstance(array, ndarray) for array in arrays.values())
    try:
        data = _safetensors(tensors).save(arrays, metadata=notes | {"sha256": NO_DIGEST})
    except SafetensorError as error:
        raise ValueError(f"arrays must hold numbers or bools, got others ({error}); number the words first") from None
    start = data.index(f'"sha256":"{NO_DIGEST}"'.encode()) + len('"sha256":"')
    digest = _digest(data, _header(data)).encode()
    return data[:start], digest, memoryview(data)[start + len(digest) :]


def unseal(data: bytes, *, tensors: bool = False) -> tuple[Arrays, dict[str, str]]:
    """The arrays and the notes of a file's content; see `read_sealed`."""
    from safetensors import SafetensorError

    try:
        arrays, header = _safetensors(tensors).load(data), _header(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"it is torn or not a safetensors file ({error})") from None
    notes = header.get("__metadata__") or {}
    if "sha256" not in notes:
        raise ValueError("it was not written by labkit")
    if notes.pop("sha256") != _digest(data, header):
        raise ValueError("its content does not match its checksum")
    return arrays, notes


def _safetensors(tensors: bool) -> Any:
    """What writes and reads the form, for tensors or for NumPy arrays; torch is loaded for tensors alone."""
    return importlib.import_module("safetensors.torch" if tensors else "safetensors.numpy")


def _header(data: bytes) -> dict[str, dict]:
    """What a safetensors file opens with: the length of a JSON text, and that text."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _digest(data: bytes, header: dict[str, dict]) -> str:
    """SHA-256 over names, types, shapes and values, in hexadecimal."""
    start = 8 + int.from_bytes(data[:8], "little")
    total = hashlib.sha256()
    for name in sorted(header.keys() - {"__metadata__"}):
        kind, (first, last) = header[name]["dtype"], header[name]["data_offsets"]
        total.update(f"{name} {NUMPY_NAMES.get(kind, kind)} {tuple(header[name]['shape'])};".encode())
        total.update(memoryview(data)[start + first : start + last])
    return total.hexdigest()

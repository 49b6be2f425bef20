"""Arrays kept on disk between runs, so that what takes long is made once.

A file is safetensors (nothing is ever unpickled) whose header carries the recipe's key and a SHA-256 over
every array. It is written under a temporary name and renamed, so a reader meets a whole file or none, also
while two processes write.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from numpy import ascontiguousarray, ndarray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from labkit.datasets.arguments import user_path
from labkit.files import write_whole

Arrays = dict[str, ndarray]


def cache_dir() -> Path:
    """The folder for cached files; it may not exist yet.

    LABKIT_CACHE where it is set; else data/cache of the checkout this package runs from, if that can be
    written to; else the operating system's cache folder of the user.

    Raises:
        ValueError: LABKIT_CACHE begins with `~` and names no user, or there is no home folder.

    Example:
        >>> cache_dir().is_absolute()
        True
    """
    chosen = os.environ.get("LABKIT_CACHE")
    if chosen:
        try:
            return user_path(chosen).absolute()
        except ValueError as error:
            raise ValueError(f"LABKIT_CACHE names no folder: {error}") from error
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and os.access(root, os.W_OK):
        return root / "data" / "cache"
    import pooch  # only an installed package gets here

    try:
        return user_path(pooch.os_cache("labkit"))
    except ValueError as error:
        raise ValueError(f"there is no home folder for the cache ({error}); set LABKIT_CACHE to a folder") from error


def cached_arrays(name: str, make: Callable[[], Arrays], *, key: str) -> Arrays:
    """The arrays stored under this name, or those that `make` gives, stored for the next time.

    A file that is torn, altered, foreign or made by another recipe is named in a warning and made again.
    Where nothing can be written (disk full, folder read-only) the arrays are still returned, with a warning.

    Args:
        name: file name without its ending; letters, digits, `.`, `_` and `-`.
        make: makes the arrays, by name.
        key: the recipe: all that the arrays depend on. A file with another key is stale.

    Raises:
        ValueError: the name would not be a plain file name.

    Example:
        >>> import numpy
        >>> arrays = cached_arrays("doctest-squares", lambda: {"squares": numpy.arange(4) ** 2}, key="of 4")
        >>> arrays["squares"].tolist()
        [0, 1, 4, 9]
    """
    if not name or name.startswith(".") or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise ValueError(f"name must be letters, digits, '.', '_' or '-', got {name!r}; leave folders and spaces out")
    path = cache_dir() / f"{name}.safetensors"
    try:
        return _read(path, key)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is made again: {error}. To be rid of it for good, delete the file.", stacklevel=2)
    arrays = {part: ascontiguousarray(array) for part, array in make().items()}
    try:
        _write(path, arrays, key)
    except OSError as error:
        warnings.warn(
            f"nothing could be kept in {path.parent} ({error.strerror or error}), so it is made anew each time; "
            "make room there, or set LABKIT_CACHE to a folder you can write to",
            stacklevel=2,
        )
    return arrays


def _read(path: Path, key: str) -> Arrays:
    """The arrays of a file; ValueError says what is wrong with it."""
    raw = path.read_bytes()
    try:
        arrays = load(raw)
        length = int.from_bytes(raw[:8], "little")  # a safetensors file opens with its header: length, then JSON
        notes = json.loads(raw[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"it is torn or not a safetensors file ({error})") from None
    if "sha256" not in notes:
        raise ValueError("it was not written by labkit")
    if notes.get("key") != key:
        raise ValueError(f"it holds another recipe (expected {key!r}, got {notes.get('key')!r})")
    if notes["sha256"] != _digest(arrays):
        raise ValueError("its content does not match its checksum")
    return {name: array.copy() for name, array in arrays.items()}  # writable, and free of `raw`


def _write(path: Path, arrays: Arrays, key: str) -> None:
    """The arrays with their key and checksum."""
    write_whole(path, save(arrays, metadata={"key": key, "sha256": _digest(arrays)}))


def _digest(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()

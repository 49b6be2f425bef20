"""Arrays kept on disk between runs, so that what takes long is made once; and where real data sets lie.

A file is sealed (`labkit.files`) and carries the recipe's key. A reader meets a whole file or none, also while
two processes write.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from numpy import ascontiguousarray, ndarray

from labkit.files import read_sealed, user_path, write_sealed

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


def set_folder(name: str, *, needs: str) -> Path | None:
    """The folder of a real data set on this machine; None where it is not here.

    It is looked for in the folder that LABKIT_DATA_TEST names, where the tests have their sets, and then in the cache,
    where `labkit data get` puts it.

    Args:
        name: of the set, as `labkit data list` has it: "mini-mias", "bccd", "luna16".
        needs: a file that the set must hold, relative to its folder.

    Example:
        >>> set_folder("no-such-set", needs="list.txt") is None
        True
    """
    chosen = os.environ.get("LABKIT_DATA_TEST")
    folders = [parent / name for parent in ([user_path(chosen)] if chosen else []) + [cache_dir()]]
    return next((folder for folder in folders if (folder / needs).is_file()), None)


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
        write_sealed(path, arrays, key=key)
    except OSError as error:
        warnings.warn(
            f"nothing could be kept in {path.parent} ({error.strerror or error}), so it is made anew each time; "
            "make room there, or set LABKIT_CACHE to a folder you can write to",
            stacklevel=2,
        )
    return arrays


def _read(path: Path, key: str) -> Arrays:
    """The arrays of a file; ValueError says what is wrong with it."""
    arrays, notes = read_sealed(path)
    if notes.get("key") != key:
        raise ValueError(f"it holds another recipe (expected {key!r}, got {notes.get('key')!r})")
    return {name: array.copy() for name, array in arrays.items()}  # writable, and free of the file's bytes

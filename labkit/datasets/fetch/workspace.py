"""Workspace: the folder that sets are fetched into, its room, its lock, and what killed calls left in it.

Of two calls at once the second waits for the first. What a call that was killed left is removed when it is old:
its working folder after a day, its part of a download after a month.
"""

import errno
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labkit.datasets.fetch.registry import SETS, RealSet
from labkit.datasets.fetch.transfer import tag_path

DAY = 24 * 60 * 60  # seconds
OLD_FOLDER, OLD_PART = DAY, 30 * DAY  # no unpacking takes a day; who has not gone on in a month will not
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the user's share of it


def part_path(known: RealSet, folder: Path) -> Path:
    """Where a download grows."""
    return folder / f".{known.archive_name}.part"  # hidden: a user's own copy under the plain name is never touched


def forget_part(known: RealSet, folder: Path) -> None:
    """Removes whatever part of a download is there."""
    part = part_path(known, folder)
    for path in (part, tag_path(part)):
        path.unlink(missing_ok=True)


@contextmanager
def alone(name: str, folder: Path) -> Iterator[None]:
    """One call at a time, also among processes; the others wait here, and say so."""
    from filelock import FileLock, Timeout  # here: only a download needs it

    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"labkit data: {name} is being fetched by another process; waiting for it", file=sys.stderr)
        lock.acquire()
    except OSError:  # a network disk without locks: the user sees to it that only one call is at work
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open; an empty one stays there
            Path(lock.lock_file).unlink()
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Removes the working folders and parts of calls that were killed long ago."""
    for name, known in SETS.items():
        part = part_path(known, folder)
        for path in (*folder.glob(f".{name}-*"), part, tag_path(part)):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > (OLD_FOLDER if path.is_dir() else OLD_PART):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_writable(known: RealSet, folder: Path, *, download: bool) -> None:
    """Makes the folder where it lacks; OSError, with the cure, where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, space_sentence(known, folder, download=download)) from error
        raise OSError(
            error.errno,
            f"nothing can be written in {folder} ({error.strerror}); "
            "make it writable, or set LABKIT_CACHE to a folder you can write to",
        ) from error


def check_space(known: RealSet, folder: Path, *, download: bool) -> None:
    """OSError where the disk has no room for the set, and for its archive if that is to be downloaded."""
    need = known.unpacked_bytes + download * known.archive_bytes
    if shutil.disk_usage(folder).free < need:
        raise OSError(errno.ENOSPC, space_sentence(known, folder, download=download))


def space_sentence(known: RealSet, folder: Path, *, download: bool) -> str:
    """What a user reads when the disk is full: needed, free, cure."""
    need = known.unpacked_bytes + download * known.archive_bytes
    free = shutil.disk_usage(folder).free
    return (
        f"the disk is full: {megabytes(need)} are needed in {folder}, {megabytes(free)} are free; "
        "make room, or set LABKIT_CACHE to a folder on another disk. Nothing was left behind."
    )


def megabytes(count: int) -> str:
    """A number of bytes, in words.

    Example:
        >>> megabytes(7_875_205)
        '8 MB'
    """
    return f"{count / 1e6:,.0f} MB"

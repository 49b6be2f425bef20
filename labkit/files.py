"""Files that are never half there."""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

ENDING = ".unfinished"
LEFTOVER = re.compile(r".+\.[0-9a-f]{16}\.unfinished", re.DOTALL)
OLD = 24 * 60 * 60  # seconds: no file of the course takes a day to write, so whoever wrote it was ended


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

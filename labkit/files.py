"""Files that are never half there."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Put data into a file in one move: readers see the old one or the new one, whole. A failure leaves no trace.

    Args:
        path: of the file; its folder is made.
        data: its content.

    Raises:
        OSError: it cannot be written, the disk is full for example; the old file stays.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "new" / "words.txt", b"one")
        ...     [file.name for file in (Path(folder) / "new").iterdir()]
        ['words.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise

"""Transfer: download one file over HTTP, going on where an earlier try broke off.

What has come so far lies in a file of its own, the part, and beside it the server's entity tag, so that two
versions of a file are never joined. A server that cannot resume, or has another version by now, sends the
file whole.
"""

import time
from pathlib import Path

ATTEMPTS = 5  # in a row without a new byte, before a download is given up
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 16  # bytes


class TooLargeError(ValueError):
    """The server sends, or says it will send, more than the file can have."""


def resume_download(url: str, target: str | Path, *, part: Path, max_bytes: int | None = None) -> None:
    """Downloads a file; the target appears when it is complete.

    Args:
        url: of the file.
        target: where it goes; on the same disk as the part.
        part: where it grows; under this name the next call finds it.
        max_bytes: more is refused, as soon as it is announced or comes, and the part is removed; by default
            there is no limit.

    Raises:
        requests.RequestException, urllib3.exceptions.HTTPError: not reached, refused, or broken off too
            often. What has come so far stays for the next call.
        TooLargeError: the file has more than `max_bytes`.
        OSError: the disk is full.
    """
    import requests  # here: slow to import, and only a download needs it
    import urllib3

    failures, furthest = 0, _size(part)
    while True:
        try:
            _receive(url, part, max_bytes)
            break
        except TooLargeError:
            part.unlink(missing_ok=True)
            tag_path(part).unlink(missing_ok=True)
            raise
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError):
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= ATTEMPTS:
                raise
            time.sleep(0.1 * 2**failures)
    part.replace(target)
    tag_path(part).unlink(missing_ok=True)


def tag_path(part: Path) -> Path:
    """Where the entity tag of a part is kept."""
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, max_bytes: int | None) -> None:
    """One request, for what the part lacks; what comes is added to it."""
    import requests
    import urllib3
    from tqdm import tqdm

    tag = tag_path(part)
    start = _size(part) if tag.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the stored bytes, so that sizes and ranges mean them
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing lies beyond the part: it is as long as the file, or longer
            part.unlink()
            raise requests.ConnectionError("the part on disk does not fit the file on the server")
        answer.raise_for_status()
        start = start if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        _limit(total or start, max_bytes, url)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "W/"
        if version.startswith("W/"):  # a weak tag does not promise the same bytes
            tag.unlink(missing_ok=True)
        else:
            tag.write_text(version)
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar,
        ):
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                _limit(file.tell() + len(chunk), max_bytes, url)
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise urllib3.exceptions.ProtocolError(f"expected {total} bytes, got {part.stat().st_size}")


def _limit(size: int, max_bytes: int | None, url: str) -> None:
    if max_bytes is not None and size > max_bytes:
        raise TooLargeError(f"{url}: expected at most {max_bytes:,} bytes, got {size:,}")

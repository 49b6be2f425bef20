"""Downloads: fetch a real set, check it, unpack it, all or nothing. The command `labkit data`.

    labkit data list                        what there is, and what is here
    labkit data get bccd                    size and licence first, then the download
    labkit data get bccd --from FILE        the archive is here already

A download that broke off goes on where it stopped. The set appears in its folder in one step, with
`manifest.json` beside it: where it came from, how it was checked, and size and SHA-256 of every file, by
which a later tear is seen.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from labkit.datasets.cache import cache_dir
from labkit.datasets.fetch.archives import unpack
from labkit.datasets.fetch.registry import SETS, RealSet, file_sha256
from labkit.datasets.fetch.transfer import TooLargeError, resume_download
from labkit.datasets.fetch.workspace import (
    FULL,
    alone,
    check_space,
    check_writable,
    forget_part,
    megabytes,
    part_path,
    remove_leftovers,
    space_sentence,
)
from labkit.files import user_path

MANIFEST = "manifest.json"
ROOM = 2  # times the known size, which may be an estimate: more than that is another file


def fetch(name: str, *, archive: str | Path | None = None, folder: str | Path | None = None) -> Path:
    """Folder of a set, fetched if it is not there; a damaged one is made again.

    Args:
        name: a key of `labkit.datasets.fetch.registry.SETS`.
        archive: take this file instead of the download; it is left as it is.
        folder: where the set goes; by default the cache.

    Raises:
        ConnectionError: no network, with the way to do it by hand.
        FileExistsError: the folder is there and was not made by this function.
        OSError: the disk is full, with the space that is needed, or the folder cannot be written; nothing is
            left behind.
        ValueError: the archive is not the right one, torn or hostile.
    """
    if name not in SETS:
        raise ValueError(f"expected one of {', '.join(SETS)}, got {name!r}; labkit data list describes them")
    known = SETS[name]
    folder = cache_dir() / name if folder is None else user_path(folder)
    archive = None if archive is None else user_path(archive)
    if known.by_hand:
        return _by_hand(known, folder, archive)
    if folder.exists() and not damage(folder, thorough=True):
        return folder
    check_writable(known, folder.parent, download=archive is None)
    with alone(name, folder.parent):
        remove_leftovers(folder.parent)
        if folder.exists() and not damage(folder, thorough=True):  # another call made it meanwhile
            return folder
        return _fetch_alone(name, archive, folder)


def _fetch_alone(name: str, archive: Path | None, folder: Path) -> Path:
    known = SETS[name]
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise FileExistsError(
            f"{folder} is there, but labkit did not make it (no {MANIFEST}); it can be used as it is, "
            "or move it away and fetch again"
        )
    check_space(known, folder.parent, download=archive is None)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        try:
            source = _download(name, known, folder.parent, Path(scratch)) if archive is None else archive
            if not source.is_file():
                raise FileNotFoundError(f"{source}: expected the archive of {name}, got no file; check the path")
            ready = _unpack_checked(known, source, Path(scratch), fetched=archive is None)
            if folder.exists():
                folder.rename(Path(scratch) / "damaged")
            ready.rename(folder)
        except ConnectionError:
            raise  # what came so far stays, the next call goes on from there
        except (OSError, ValueError) as error:
            if archive is None:
                forget_part(known, folder.parent)
            if not isinstance(error, OSError) or error.errno not in FULL:
                raise
            raise OSError(error.errno, space_sentence(known, folder.parent, download=archive is None)) from error
    if archive is None:
        forget_part(known, folder.parent)
    return folder


def damage(folder: Path, *, thorough: bool = False) -> list[str]:
    """Names of the files that are not as they were fetched: missing, or of another size.

    Args:
        folder: of a set.
        thorough: compare the SHA-256 of every file as well.

    Returns:
        Names, empty when all is well; `[MANIFEST]` when there is no record to compare with.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        if not files:
            return [MANIFEST]
        return [
            name
            for name, (size, sha256) in files.items()
            if not (folder / name).is_file()
            or (folder / name).stat().st_size != size
            or (thorough and file_sha256(folder / name) != sha256)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # [[[[... nests too deep
        return [MANIFEST]


def main(argv: list[str] | None = None) -> int:
    """The command `labkit data`; returns its exit status."""
    parser = argparse.ArgumentParser(prog="labkit data", description="Real data sets: which there are, and get one.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the sets, their size, and whether they are here")
    get = commands.add_parser("get", help="fetch a set, check and unpack it")
    get.add_argument("name", choices=list(SETS))
    get.add_argument("--from", dest="archive", metavar="FILE", help="use this archive instead of downloading")
    get.add_argument("--yes", action="store_true", help="agree to the licence without being asked")
    options = parser.parse_args(argv)
    try:
        if options.command == "get":
            return _get(options.name, options.archive, agreed=options.yes)
        print("\n".join(_line(name) for name in SETS))
        return 0
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) and error.filename is None else None
        print(f"labkit data: {told or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlabkit data: stopped; the same command goes on with what has come so far", file=sys.stderr)
        return 130


def _get(name: str, archive: str | None, *, agreed: bool) -> int:
    known, folder = SETS[name], cache_dir() / name
    print(f"{known.title}\nLicence: {known.licence}")
    if known.by_hand:
        print(f"Ready in {fetch(name, archive=archive)}\nChecked by {known.check(folder)}")
        return 0
    if archive is None and (not folder.exists() or damage(folder, thorough=True)):
        print(f"From {known.url}")
        print(f"Download {megabytes(known.archive_bytes)}, on disk {megabytes(known.unpacked_bytes)}")
        if not agreed and not sys.stdin.isatty():
            print("labkit data: to agree to the licence and start the download, add --yes", file=sys.stderr)
            return 2
        if not agreed and not _says_yes("Agree to the licence and download? [y/N] "):
            print("Nothing was downloaded.")
            return 2
    fetch(name, archive=archive)
    record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    print(f"Ready in {folder}\nChecked by {record['checked']}")
    return 0


def _says_yes(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # the input ended without an answer
        return False


def _by_hand(known: RealSet, folder: Path, archive: Path | None) -> Path:
    """The folder of a set that has no archive, if its files were put there.

    Raises:
        FileNotFoundError: it was not; says from where and how.
        ValueError: other files were, or there is an archive all the same.
    """
    if archive is not None:
        raise ValueError(f"{known.title}: expected files, got an archive. By hand: {_way_by_hand(known, folder)}")
    if not (folder / known.marker).is_file():
        raise FileNotFoundError(
            f"{known.title}: there is no archive to download. By hand: {_way_by_hand(known, folder)}"
        )
    known.check(folder)
    return folder


def _way_by_hand(known: RealSet, folder: Path) -> str:
    return f"{known.url}, {known.by_hand} into {folder}"


def _line(name: str) -> str:
    folder = cache_dir() / name
    torn = damage(folder) if folder.exists() else []
    if SETS[name].by_hand and not (folder / SETS[name].marker).is_file():
        state = f"not here; by hand: {_way_by_hand(SETS[name], folder)}"
    elif not folder.exists():
        state = f"not here; labkit data get {name} ({megabytes(SETS[name].archive_bytes)})"
    elif torn == [MANIFEST]:
        state = f"in {folder}, put there by hand"
    elif torn:
        state = f"damaged ({len(torn)} files, as {torn[0]}); labkit data get {name} makes it again"
    else:
        state = f"in {folder}"
    known = SETS[name]
    lines = f"{known.title}, {megabytes(known.unpacked_bytes)}", state, *f"Licence: {known.licence}".splitlines()
    return f"{name:10s} " + "\n           ".join(lines)


def _unpack_checked(known: RealSet, source: Path, scratch: Path, *, fetched: bool) -> Path:
    """Folder inside scratch with the checked set and its manifest."""
    sha256 = file_sha256(source)  # before anything in it is believed
    unpack(source, scratch / "unpacked", max_bytes=ROOM * known.unpacked_bytes)
    found = sorted((scratch / "unpacked").rglob(known.marker), key=lambda path: len(path.parts))
    if not found:
        raise ValueError(f"{source}: expected {known.title}, but there is no {known.marker} in it; take {known.url}")
    folder = found[0].parents[known.marker.count("/")]
    try:
        how = "the published SHA-256 of its archive" if sha256 == known.sha256 else known.check(folder)
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), str(source))) from error
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, file_sha256(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    record = {
        "source": known.url if fetched else source.name,
        "licence": known.licence,
        "archive_sha256": sha256,
        "checked": how,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(record, indent=1), encoding="utf-8")
    return folder


def _download(name: str, known: RealSet, folder: Path, scratch: Path) -> Path:
    """Path of the downloaded archive in scratch, its SHA-256 checked by pooch where one is published."""
    import pooch  # here: slow to import, and only a download needs it
    import requests
    import urllib3

    pooch.get_logger().setLevel("WARNING")  # the caller tells what happens
    by_hand = (
        f"To do it by hand: download {known.url} with a browser, then run\n"
        f"  labkit data get {name} --from {known.archive_name}"
    )
    try:
        path = pooch.retrieve(
            known.url,
            known_hash=known.sha256 and f"sha256:{known.sha256}",
            fname=known.archive_name,
            path=scratch,
            downloader=lambda url, target, _: resume_download(
                url, target, part=part_path(known, folder), max_bytes=ROOM * known.archive_bytes
            ),
        )
    except TooLargeError as error:
        raise ValueError(f"{error}; this is not the archive. {by_hand}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ConnectionError(f"{known.url} cannot be reached ({type(error).__name__}).\n{by_hand}") from error
    except ValueError as error:
        raise ValueError(f"{known.url} no longer has the published SHA-256. {by_hand}\n({error})") from error
    return Path(path)

"""The folder that sets are fetched into: full, locked, littered, not to be written."""

import errno
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from http_server import serve
from tiny_set import all_files

from labkit.datasets.fetch import download


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("moment", ["before", "downloading", "unpacking", "recording"])
def test_a_full_disk_leaves_nothing_and_says_what_is_needed(tiny, archive, cache, monkeypatch, moment):
    cache.mkdir()
    if moment == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100_000, 90_000, 10_000))
    elif moment == "downloading":
        (cache / ".tiny.zip.part").symlink_to("/dev/full")
    elif moment == "unpacking":
        monkeypatch.setattr("labkit.datasets.fetch.archives.shutil.copyfileobj", full_disk)
    else:
        monkeypatch.setattr(download.json, "dumps", full_disk)
    with serve(archive.read_bytes()) as server:
        tiny(url=server.url, archive_bytes=11_000_000, unpacked_bytes=20_000_000)
        with pytest.raises(OSError, match=r"the disk is full: 31 MB are needed in .*cache") as caught:
            download.fetch("tiny")
    assert caught.value.errno == errno.ENOSPC
    assert not list(cache.iterdir())


def test_two_calls_at_once_make_one_set(tiny, archive, cache, monkeypatch, capsys):
    waiting, unpack = threading.Event(), download.unpack

    def unpack_when_the_other_waits(*arguments, **options):
        assert waiting.wait(30)
        unpack(*arguments, **options)

    monkeypatch.setattr(download, "unpack", unpack_when_the_other_waits)
    monkeypatch.setattr("builtins.print", lambda *words, **_: waiting.set())  # the second says that it waits
    with serve(archive.read_bytes()) as server, ThreadPoolExecutor(2) as pool:
        tiny(url=server.url)
        calls = [pool.submit(download.fetch, "tiny") for _ in range(2)]
        assert [call.result() for call in calls] == [cache / "tiny"] * 2
    assert server.requests == [None]
    assert all_files(cache) == ["tiny/deep/a.bin", "tiny/list.txt", "tiny/manifest.json"]


def test_a_disk_without_locks(tiny, archive, cache, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    tiny()
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert download.fetch("tiny", archive=archive) == cache / "tiny"


def test_what_killed_calls_left_is_removed_when_it_is_old(tiny, archive, cache):
    tiny()
    (cache / ".tiny-killed" / "unpacked").mkdir(parents=True)
    (cache / ".tiny-running").mkdir()
    for name, days in ((".tiny-killed", 2), (".tiny.zip.part", 31), (".tiny.zip.part.tag", 31), ("mine.txt", 99)):
        if not (cache / name).exists():
            (cache / name).write_text("left")
        os.utime(cache / name, (time.time() - days * 86400,) * 2)
    (cache / ".all-mias.tar.gz.part").write_text("goes on tomorrow")
    download.fetch("tiny", archive=archive)
    left = sorted(path.name for path in cache.iterdir())
    assert left == [".all-mias.tar.gz.part", ".tiny-running", "mine.txt", "tiny"]


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_cache_that_cannot_be_written(tiny, archive, tmp_path, monkeypatch, capsys, kind):
    tiny()
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "taken" / ("" if kind == "file" else "cache")))
    assert download.main(["get", "tiny", "--from", str(archive)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("labkit data: nothing can be written in ")
    assert told.endswith("set LABKIT_CACHE to a folder you can write to\n")


def test_a_cache_of_nobody(tiny, archive, monkeypatch, capsys):
    tiny()
    monkeypatch.setenv("LABKIT_CACHE", "~nosuchuser/x")
    for command in (["list"], ["get", "tiny", "--from", str(archive)]):
        assert download.main(command) == 1
        assert "labkit data: LABKIT_CACHE names no folder: ~nosuchuser/x: " in capsys.readouterr().err

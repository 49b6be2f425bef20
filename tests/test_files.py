"""The one writer of whole files: nothing half there, no leftovers, no two writers in one another's way."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.files import OLD, remove_leftovers, write_whole


def test_a_file_is_replaced_in_one_move(tmp_path, monkeypatch):
    path, seen, replace = tmp_path / "deep" / "words.txt", [], Path.replace

    def look(self, target):
        seen.append((path.read_bytes() if path.exists() else None, self.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    write_whole(path, b"one")
    write_whole(path, b"two ", memoryview(b"three"))
    assert seen == [(None, b"one"), (b"one", b"two three")]
    assert path.read_bytes() == b"two three"
    assert os.listdir(path.parent) == ["words.txt"]


def test_a_failure_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "words.txt"
    write_whole(path, b"one")
    with pytest.raises(TypeError):
        write_whole(path, b"two", "not bytes")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["words.txt"]


def test_two_writers_of_one_file_have_names_of_their_own(tmp_path, monkeypatch):
    path, replace, others = tmp_path / "words.txt", Path.replace, []

    def meet(self, target):
        if not others:
            others.append(self.name)
            write_whole(path, b"second")
            assert path.read_bytes() == b"second"
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", meet)
    write_whole(path, b"first")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["words.txt"]


def test_others_may_read_what_is_written(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "words.txt", b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "words.txt").stat().st_mode) == 0o644


def test_the_longest_name_a_disk_takes_can_be_written(tmp_path):
    path = tmp_path / ("é" * 127)  # 254 bytes
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"


def test_what_killed_writers_left_is_removed_when_it_is_old(tmp_path):
    code = (
        "import os, sys, signal; from pathlib import Path; from labkit import files\n"
        "files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_whole(Path(sys.argv[1]), b'half')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for name in ("first.txt", "second.txt"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], env=environment)
        assert done.returncode == -9
    first, second = sorted(path.name for path in tmp_path.iterdir())
    assert first.startswith("first.txt.")
    assert first.endswith(".unfinished")
    mine = tmp_path / "notes.unfinished"
    mine.write_text("a student's own")
    for path in (tmp_path / first, mine):
        os.utime(path, (time.time() - OLD - 60,) * 2)
    write_whole(tmp_path / "third.txt", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["notes.unfinished", second, "third.txt"]
    assert remove_leftovers(tmp_path) == []

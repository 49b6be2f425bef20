"""The one writer of whole files: nothing half there, no leftovers, no two in one another's way; and their seal."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from labkit import weights
from labkit.course import copies
from labkit.datasets import bccd, luna16, mini_mias
from labkit.datasets.fetch import download
from labkit.detection import feature_cache
from labkit.files import OLD, read_sealed, remove_leftovers, seal, unseal, user_path, write_sealed, write_whole
from labkit.training import fit


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


# Paths as users write them


def test_a_path_from_the_home_folder_and_back(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~/films") == tmp_path / "films"
    assert user_path("~") == tmp_path
    assert user_path(user_path("~/films")) == tmp_path / "films"
    assert user_path("films/~old") == Path("films/~old")
    assert user_path(Path("a") / "b") == Path("a/b")


def test_the_home_folder_of_nobody_is_one_sentence():
    with pytest.raises(ValueError, match=r"^~nosuchuser/films: .*; write the folder in full, without ~"):
        user_path("~nosuchuser/films")


@pytest.mark.parametrize(
    ("path", "told"),
    [(3, "got 3; write it between quotes"), (None, "got None"), (["a"], "got"), ("a\0b", "got a zero byte in it")],
)
def test_what_is_no_path_is_one_sentence(path, told):
    with pytest.raises(ValueError, match=f"expected the path of a file or folder, {told}"):
        user_path(path)


NOBODY = {
    "load_weights": lambda path: weights.load_weights(nn.Linear(1, 1), "line", folder=path),
    "save_weights": lambda path: weights.save_weights(nn.Linear(1, 1), "line", folder=path),
    "save_features": lambda path: feature_cache.save_features(path, FEATURES, network=nn.Linear(1, 1), proposals=BOXES),
    "load_features": lambda path: feature_cache.load_features(path, network=nn.Linear(1, 1), proposals=BOXES),
    "bccd": bccd.load,
    "mini_mias": mini_mias.load,
    "luna16": luna16.load,
    "read_pgm": mini_mias.read_pgm,
    "fetch": lambda path: download.fetch("bccd", archive=path),
    "copies": copies.update_copies,
    "fit": lambda path: fit(nn.Linear(1, 1), [1], epochs=1, loss=None, checkpoint=path),
}
FEATURES, BOXES = [torch.ones(1, 2)], [torch.ones(1, 4)]


@pytest.mark.parametrize("name", NOBODY)
def test_wherever_a_path_is_taken_the_home_of_nobody_is_one_sentence(name):
    with pytest.raises(ValueError, match=r"~nosuchuser/x: .*; write the folder in full, without ~"):
        NOBODY[name]("~nosuchuser/x")


# Sealed


ARRAYS = {"squares": np.arange(6) ** 2, "grid": np.ones((3, 2), np.float32), "none": np.zeros((0, 4)), "": np.array(2)}
TENSORS = {"half": torch.rand(2, 3).half(), "brain": torch.rand(4).bfloat16(), "mask": torch.tensor([True, False])}


def sealed(arrays, **notes):
    return b"".join(seal(arrays, **notes))


def test_arrays_and_notes_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    size = write_sealed(path, ARRAYS, key='of "6"', owner="é")
    assert size == path.stat().st_size
    arrays, notes = read_sealed(path)
    assert notes == {"key": 'of "6"', "owner": "é"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_tensors_that_numpy_lacks_come_back_too(tmp_path):
    write_sealed(tmp_path / "a", TENSORS)
    tensors, notes = read_sealed(tmp_path / "a", tensors=True)
    assert notes == {}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert all(tensors[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_other_programs_read_a_sealed_file():
    arrays = safetensors.numpy.load(sealed(ARRAYS, key="v1"))
    np.testing.assert_array_equal(arrays["grid"], ARRAYS["grid"])


def test_arrays_and_tensors_have_one_seal():
    """Also the one of caches from before this function, which hashed what NumPy calls types and shapes."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    digests = []
    for value in (array, torch.from_numpy(array)):
        data = sealed({"a": value})
        digests.append(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["sha256"])
    assert digests == [hashlib.sha256(b"a <f4 (2, 3);" + array.tobytes()).hexdigest()] * 2


@pytest.mark.parametrize("trap", ["0" * 64, f'"sha256":"{"0" * 64}"'])
def test_notes_and_names_that_look_like_the_seal_do_no_harm(trap):
    arrays, notes = unseal(sealed({trap: np.arange(3), "sha256": np.arange(2)}, key=trap))
    assert notes == {"key": trap}
    assert arrays[trap].tolist() == [0, 1, 2]


def test_every_change_of_what_is_in_it_is_seen():
    """One bit of every byte: what still opens, opens with the same arrays; another note is the reader's to refuse."""
    data = sealed({"a": np.arange(3), "b": np.ones((2, 1), np.float32)}, key="v1")
    opened = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            arrays, notes = unseal(bytes(changed))
        except ValueError:
            continue
        opened += 1
        assert notes != {"key": "v1"}
        assert arrays["a"].tolist() == [0, 1, 2]
        assert arrays["b"].tolist() == [[1], [1]]
    assert opened < 10  # letters of the note "key" and of its value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "torn"),
        (b"<html>404 not found</html>", "torn"),
        (sealed(ARRAYS)[:-1], "torn"),
        (sealed(ARRAYS)[:20], "torn"),
        (safetensors.numpy.save(ARRAYS), "not written by labkit"),
        (safetensors.numpy.save(ARRAYS, {"sha256": "1" * 64}), "does not match its checksum"),
    ],
)
@pytest.mark.parametrize("tensors", [False, True])
def test_what_is_wrong_with_a_file_is_said(data, reason, tensors):
    with pytest.raises(ValueError, match=reason):
        unseal(data, tensors=tensors)


@pytest.mark.parametrize("array", [np.array(["mdb001"]), np.array(["a", None], object)])
def test_words_are_no_numbers(array):
    with pytest.raises(ValueError, match=r"arrays must hold numbers or bools, got others .*; number the words first"):
        seal({"names": array})


def test_a_note_is_text():
    with pytest.raises(TypeError):
        seal(ARRAYS, version=3)

import errno
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from labkit.datasets import cache
from labkit.datasets.cache import cache_dir, cached_arrays, set_folder
from labkit.files import write_sealed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_squares():
    return {"squares": np.arange(6, dtype=np.int64) ** 2, "grid": np.ones((3, 2), dtype=np.float32)[:, ::-1]}


def must_not_make():
    raise AssertionError("the stored arrays were not used")


def assert_squares(arrays):
    assert sorted(arrays) == ["grid", "squares"]
    np.testing.assert_array_equal(arrays["squares"], [0, 1, 4, 9, 16, 25])
    assert arrays["grid"].shape == (3, 2)
    assert arrays["grid"].dtype == np.float32


def test_made_once_then_read(folder):
    assert_squares(cached_arrays("squares", make_squares, key="v1"))
    again = cached_arrays("squares", must_not_make, key="v1")
    assert_squares(again)
    again["squares"][0] = 7  # writable, and not the stored copy
    assert_squares(cached_arrays("squares", must_not_make, key="v1"))
    assert [path.name for path in folder.iterdir()] == ["squares.safetensors"]  # no temporary file is left


def test_file_is_plain_safetensors(folder):
    cached_arrays("squares", make_squares, key="v1")
    np.testing.assert_array_equal(load_file(folder / "squares.safetensors")["squares"], make_squares()["squares"])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


def flip_a_value(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def flip_in_the_header(path):
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"squares", b"sguares", 1))


def not_safetensors(path):
    path.write_text("<html>404 not found</html>")


def someone_elses(path):
    save_file({"squares": np.zeros(6)}, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "torn"),
        (empty, "torn"),
        (flip_a_value, "checksum"),
        (flip_in_the_header, "checksum|torn"),
        (not_safetensors, "torn"),
        (someone_elses, "not written by labkit"),
    ],
)
def test_a_bad_file_is_named_and_made_again(folder, damage, reason):
    cached_arrays("squares", make_squares, key="v1")
    damage(folder / "squares.safetensors")
    with pytest.warns(UserWarning, match=rf"squares\.safetensors is made again.*({reason})"):
        assert_squares(cached_arrays("squares", make_squares, key="v1"))
    assert_squares(cached_arrays("squares", must_not_make, key="v1"))  # healed


def test_a_stale_file_is_named_and_made_again(folder):
    cached_arrays("squares", lambda: {"squares": np.zeros(1)}, key="v1")
    with pytest.warns(UserWarning, match="another recipe.*'v2'.*'v1'"):
        assert_squares(cached_arrays("squares", make_squares, key="v2"))
    assert_squares(cached_arrays("squares", must_not_make, key="v2"))


def test_full_disk_still_gives_the_arrays(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left.*LABKIT_CACHE") as caught:
        assert_squares(cached_arrays("squares", make_squares, key="v1"))
    assert str(folder) in str(caught[0].message)
    assert list(folder.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="LABKIT_CACHE"):
        assert_squares(cached_arrays("squares", make_squares, key="v1"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_read_only_folder(folder):
    folder.mkdir(mode=0o500)
    with pytest.warns(UserWarning, match="Permission denied.*LABKIT_CACHE"):
        assert_squares(cached_arrays("squares", make_squares, key="v1"))


def test_read_only_folder_as_reported_by_the_system(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache, "write_sealed", refuse)
    with pytest.warns(UserWarning, match="Permission denied.*LABKIT_CACHE"):
        assert_squares(cached_arrays("squares", make_squares, key="v1"))


def test_writers_at_the_same_time_leave_a_whole_file(folder):
    big = {"big": np.arange(200_000)}
    wrong = []

    def write_and_read():
        for _ in range(5):
            write_sealed(folder / "big.safetensors", big, key="v1")
            if not np.array_equal(cache._read(folder / "big.safetensors", "v1")["big"], big["big"]):
                wrong.append(1)

    threads = [threading.Thread(target=write_and_read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [path.name for path in folder.iterdir()] == ["big.safetensors"]


def test_an_error_while_making_is_passed_on(folder):
    with pytest.raises(AssertionError, match="not used"):
        cached_arrays("squares", must_not_make, key="v1")
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "a\\b"])
def test_name_must_be_a_plain_file_name(folder, name):
    with pytest.raises(ValueError, match="name must be"):
        cached_arrays(name, make_squares, key="v1")


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("LABKIT_CACHE")
    checkout = Path(cache.__file__).resolve().parents[2]
    monkeypatch.setattr(cache.os, "access", lambda *_: True)
    assert cache_dir() == checkout / "data" / "cache"
    monkeypatch.setattr(cache.os, "access", lambda *_: False)  # a checkout that may not be written to
    assert checkout not in cache_dir().parents
    assert "labkit" in str(cache_dir()).lower()


def test_a_cache_of_nobody_is_one_sentence(monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", "~nosuchuser/x")
    with pytest.raises(ValueError, match=r"^LABKIT_CACHE names no folder: ~nosuchuser/x: .*; write the folder in full"):
        cached_arrays("squares", make_squares, key="v1")
    monkeypatch.delenv("LABKIT_CACHE")
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    monkeypatch.setattr("pooch.os_cache", lambda name: f"~nosuchuser/{name}")  # what it gives where there is no home
    with pytest.raises(ValueError, match=r"there is no home folder for the cache .*; set LABKIT_CACHE to a folder"):
        cache_dir()


def test_a_good_run_warns_of_nothing(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_arrays("squares", make_squares, key="v1")
        cached_arrays("squares", must_not_make, key="v1")


def put(folder):
    (folder / "some-set" / "deep").mkdir(parents=True)
    (folder / "some-set" / "deep" / "list.txt").write_text("a b")
    return folder / "some-set"


def test_a_set_is_looked_for_among_the_tests_sets_first(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("LABKIT_DATA_TEST", raising=False)
    assert set_folder("some-set", needs="deep/list.txt") is None
    cached = put(folder)
    assert set_folder("some-set", needs="deep/list.txt") == cached
    monkeypatch.setenv("LABKIT_DATA_TEST", str(tmp_path / "sets"))
    assert set_folder("some-set", needs="deep/list.txt") == cached  # where the tests' sets lack it
    given = put(tmp_path / "sets")
    assert set_folder("some-set", needs="deep/list.txt") == given
    assert set_folder("some-set", needs="other.txt") is None
    assert set_folder("another", needs="deep/list.txt") is None

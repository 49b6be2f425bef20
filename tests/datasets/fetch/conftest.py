"""A cache of its own for each test, and a set of three files to fetch into it."""

import hashlib

import pytest
from tiny_set import pack

from labkit.datasets.fetch import registry, transfer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    folder = tmp_path / "cache"
    monkeypatch.setenv("LABKIT_CACHE", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path):
    return pack(tmp_path / "tiny.zip")


def check_tiny(folder):
    if (folder / "list.txt").read_bytes() != b"a b":
        raise ValueError(f"{folder}: expected another list.txt")
    return "content: list.txt"


@pytest.fixture
def tiny(archive, monkeypatch):
    """A set of three files, its URL to be set by the test that serves it."""
    known = registry.RealSet(
        title="Tiny set",
        url="http://127.0.0.1:9/files/set.zip",
        archive_name="tiny.zip",
        archive_bytes=11_000,
        unpacked_bytes=20_000,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        marker="list.txt",
        licence="Tiny licence: look, do not touch.",
        check=check_tiny,
    )
    return lambda **changes: monkeypatch.setitem(registry.SETS, "tiny", known._replace(**changes))

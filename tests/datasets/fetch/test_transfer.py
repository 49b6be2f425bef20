"""Transfer: against a server on this machine that breaks off."""

import gzip
import random

import pytest
import requests
import urllib3
from http_server import serve

from labkit.datasets.fetch import transfer

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "set.zip", tmp_path / "set.part"


def left(paths):
    return sorted(path.name for path in paths[0].parent.iterdir())


def test_in_one_go(paths):
    with serve(CONTENT) as server:
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT
    assert server.requests == [None]
    assert left(paths) == ["set.zip"]


def test_it_goes_on_where_it_broke_off(paths):
    with serve(CONTENT, breaks=[100_000, 50_000]) as server:
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_goes_on(paths):
    with serve(CONTENT, breaks=[120_000] + [0] * 20) as server:
        with pytest.raises((requests.RequestException, urllib3.exceptions.HTTPError)):
            transfer.resume_download(server.url, paths[0], part=paths[1])
        assert len(server.requests) == 1 + transfer.ATTEMPTS
        assert left(paths) == ["set.part", "set.part.tag"]
        server.breaks.clear()
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=120000-"


@pytest.mark.parametrize(("tag", "ranges"), [('"one"', False), (None, True), (None, False), ('W/"weak"', True)])
def test_a_server_that_cannot_resume_sends_it_whole(paths, tag, ranges):
    with serve(CONTENT, ranges=ranges, tag=tag, breaks=[100_000]) as server:
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-" if tag == '"one"' else None]


def test_two_versions_are_never_joined(paths):
    with serve(CONTENT, breaks=[100_000] + [0] * 20) as server:
        with pytest.raises((requests.RequestException, urllib3.exceptions.HTTPError)):
            transfer.resume_download(server.url, paths[0], part=paths[1])
        server.breaks.clear()
        server.content, server.tag = CONTENT[::-1], '"two"'
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT[::-1]


def test_a_part_that_is_too_long_is_begun_anew(paths):
    paths[1].write_bytes(CONTENT + b"more")
    transfer.tag_path(paths[1]).write_text('"one"')
    with serve(CONTENT) as server:
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("says_length", [True, False])
def test_more_than_the_file_can_have_is_refused(paths, says_length):
    with serve(CONTENT, says_length=says_length) as server:
        with pytest.raises(transfer.TooLargeError, match="expected at most 299,999 bytes, got"):
            transfer.resume_download(server.url, paths[0], part=paths[1], max_bytes=299_999)
        assert not left(paths)
        transfer.resume_download(server.url, paths[0], part=paths[1], max_bytes=300_000)
    assert paths[0].read_bytes() == CONTENT
    assert len(server.requests) == 2  # no second try at what is refused


def test_a_part_beyond_the_limit_is_not_kept(paths):
    paths[1].write_bytes(CONTENT[:200_000])
    transfer.tag_path(paths[1]).write_text('"one"')
    with serve(CONTENT) as server, pytest.raises(transfer.TooLargeError):
        transfer.resume_download(server.url, paths[0], part=paths[1], max_bytes=100_000)
    assert not left(paths)


def test_a_file_that_is_served_as_encoded_stays_as_stored(paths):
    packed = gzip.compress(CONTENT)
    with serve(packed, encoding="gzip", breaks=[1000]) as server:
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert paths[0].read_bytes() == packed


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal(paths, status):
    with serve(CONTENT, status=status) as server, pytest.raises(requests.HTTPError, match=str(status)):
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert not left(paths)


def test_nobody_there(paths):
    with serve(b"") as server:
        url = server.url
    with pytest.raises(requests.ConnectionError):
        transfer.resume_download(url, paths[0], part=paths[1])
    assert not left(paths)


def test_a_full_disk(paths):
    paths[1].symlink_to("/dev/full")
    with serve(CONTENT) as server, pytest.raises(OSError, match="No space left"):
        transfer.resume_download(server.url, paths[0], part=paths[1])
    assert not paths[0].exists()

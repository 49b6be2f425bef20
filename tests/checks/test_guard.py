"""The guard: whatever a call does, it ends, also off the main thread, and nothing rings after it."""

import asyncio
import contextlib
import io
import signal
import sys
import threading
import time

import pytest

from labkit.checks import guard
from labkit.checks.guard import TimeUp, guarded


class Silent(Exception):
    def __str__(self):
        raise SystemExit


def raises(error):
    def call():
        raise error

    return call


ERRORS = [SystemExit(), SystemExit("text"), GeneratorExit(), asyncio.CancelledError(), StopIteration(), Silent()]


@pytest.mark.parametrize("error", [*ERRORS, BaseException(), MemoryError()], ids=lambda error: type(error).__name__)
def test_every_error_is_caught(error):
    outcome = guarded(raises(error), seconds=5)
    assert outcome.error is error
    assert outcome.value is None


def test_the_user_who_stops_it_is_obeyed():
    with pytest.raises(KeyboardInterrupt):
        guarded(raises(KeyboardInterrupt()), seconds=5)


def endless():
    while True:
        pass


def sleepy():
    time.sleep(60)


def careful():
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def bare():
    while True:
        try:
            time.sleep(0.01)
        except:  # noqa: E722
            continue


def bare_sum():
    total = 0
    while True:
        try:
            total += sum(range(100))
        except:  # noqa: E722
            total = 0


def suppressing():
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


def swallows():
    try:
        endless()
    except:  # noqa: E722
        return "as if nothing had happened"


def translates():
    try:
        endless()
    except BaseException:
        raise ValueError from None


@pytest.fixture(params=["main thread", "another thread"])
def guarded_there(request, monkeypatch):
    """`guarded`, called here or on another thread; attempts come quickly."""
    monkeypatch.setattr(guard, "AGAIN", 0.05)
    if request.param == "main thread":
        return guarded

    def elsewhere(call, **options):
        results = []
        thread = threading.Thread(target=lambda: results.append(guarded(call, **options)))
        thread.start()
        thread.join(60)
        return results[0]

    return elsewhere


@pytest.mark.parametrize("call", [endless, careful, bare_sum, swallows, translates])
def test_what_never_ends_is_ended(guarded_there, call):
    assert isinstance(guarded_there(call, seconds=0.1).error, TimeUp)


@pytest.mark.parametrize("call", [sleepy, bare, suppressing])
def test_also_one_that_sleeps_is_ended_on_the_main_thread(call):
    assert isinstance(guarded(call, seconds=0.1).error, TimeUp)


def test_one_that_catches_everything_is_told_what_to_do(guarded_there, monkeypatch, capsys):
    monkeypatch.setattr(guard, "BURST", 1)

    def deaf():
        for _ in range(5):
            try:
                time.sleep(0.2)
            except:  # noqa: E722
                continue

    assert isinstance(guarded_there(deaf, seconds=0.05).error, TimeUp)
    assert "restart the kernel" in capsys.readouterr().out


def test_nothing_rings_after_a_call_that_ends_just_in_time(guarded_there):
    """Calls that last about as long as their limit: an exception on its way must not arrive later."""
    outcomes = set()
    for step in range(120):
        until = time.perf_counter() + 0.002 + (step - 60) * 1e-5

        def call(until=until):
            while time.perf_counter() < until:
                pass
            return "in time"

        outcomes.add(str(guarded_there(call, seconds=0.002).value))
    for _ in range(200_000):  # what would be hit
        pass
    assert outcomes <= {"in time", "None"}


def test_an_alarm_set_before_goes_on():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        guarded(endless, seconds=0.05)
        for _ in range(100):
            time.sleep(0.02)
            if rung:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [1]


def test_output_is_cut_and_the_streams_come_back(capsys):
    def talks():
        while True:
            print("again")
            print("and again", file=sys.stderr)

    streams = sys.stdout, sys.stderr
    assert isinstance(guarded(talks, seconds=0.2, most_printed=1000).error, TimeUp)
    assert (sys.stdout, sys.stderr) == streams
    told = capsys.readouterr()
    assert all(1000 <= len(text) < 1100 for text in told)
    assert "it printed more, which is left out" in told.out


def test_a_closed_or_removed_output_is_put_back(capsys):
    def shuts():
        sys.stdout.close()
        sys.stdout = io.StringIO()
        sys.stderr = None

    guarded(shuts, seconds=5)
    print("still here")
    assert capsys.readouterr().out == "still here\n"


def late(seconds):
    """Right, and slow by the clock: it waits for its turn."""
    end = time.monotonic() + seconds

    def call():
        while time.monotonic() < end:
            pass
        return "done"

    return call


def off_the_main_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


HERE = [lambda call: call(), off_the_main_thread]


@pytest.mark.parametrize("where", HERE)
def test_a_call_that_waits_for_a_busy_machine_is_given_its_time(monkeypatch, where):
    monkeypatch.setattr(guard, "process_time", lambda: 0.2 * time.monotonic())  # others have four fifths of it
    assert where(lambda: guarded(late(0.6), seconds=0.2)).value == "done"


@pytest.mark.parametrize("where", HERE)
@pytest.mark.parametrize(("share", "least"), [(0.2, 0.9), (0.03, 2.3)])
def test_an_endless_one_ends_all_the_same(monkeypatch, where, share, least):
    monkeypatch.setattr(guard, "process_time", lambda: share * time.monotonic())
    start = time.monotonic()
    assert isinstance(where(lambda: guarded(endless, seconds=0.2)).error, TimeUp)
    assert least < time.monotonic() - start


def test_a_call_that_sleeps_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(guard, "process_time", lambda: 0.001 * time.monotonic())
    monkeypatch.setattr(guard, "STARVED", 10_000)  # were it taken for one that waits, it would sleep to its end
    assert isinstance(guarded(lambda: time.sleep(5), seconds=0.2).error, TimeUp)

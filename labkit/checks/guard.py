"""A call that cannot stop the notebook: it ends, its error is caught, and the process is left as it was.

A time limit is an exception raised inside the running code, once that has had so many seconds of the clock *and* of the
processor: on a busy machine a call that is right may wait long for its turn. By a signal where there is one (it also
ends a sleep); elsewhere, or off the main thread, as an exception that Python delivers at the next bytecode. Code that
catches every exception catches that one too. So it comes again every second, in a burst: one of them meets the loop
between two `try`, where nothing catches it. Where none does, the user is told what to do.
"""

import ctypes
import io
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, process_time
from typing import Any, TextIO

from labkit.checks.process import kept_as_it_is

AGAIN = 1.0  # seconds from one burst of attempts to stop a call to the next
BURST = 2000  # attempts, about 0.2 s: a loop that sleeps is outside its `try` for some 1 % of the time
STARVED = 12  # times the limit may pass by the clock while other programs have the processor
ASLEEP = 0.02  # a call with a smaller share of the processor does not wait for its turn: it sleeps
MOST_PRINTED = 10_000  # letters of one call's own output that are shown: a few screens
DEAF = (
    "The function does not end, and it catches what would stop it. Write `except Exception:` in place of `except:`; "
    "now restart the kernel (menu Kernel > Restart), since the stop button is caught as well."
)


class TimeUp(BaseException):
    """Raised inside a call that runs past its limit; not an Exception, so `except Exception` lets it by."""


@dataclass(frozen=True)
class Outcome:
    """What came of a call: its value, or the error that ended it."""

    value: Any = None
    error: BaseException | None = None


def guarded(call: Callable[[], Any], *, seconds: float, most_printed: int = MOST_PRINTED) -> Outcome:
    """Call it, with a time limit; whatever it raises is caught, and what it changed in the process is put back.

    Only KeyboardInterrupt goes through: the user wants to stop.

    Args:
        call: takes nothing.
        seconds: after them `TimeUp` is the error; of the processor, as long as other programs have it meanwhile.
        most_printed: letters of its output that are shown.

    Example:
        >>> guarded(lambda: 6 * 7, seconds=1.0).value
        42
        >>> guarded(sys.exit, seconds=1.0).error
        SystemExit()
    """
    with kept_as_it_is():
        try:
            return Outcome(_within(seconds, call, most_printed))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Outcome(error=error)


def _within(seconds: float, call: Callable[[], Any], most_printed: int) -> Any:
    """The value of a call; TimeUp where it ran past its limit, also when it has caught that itself."""
    alarm = (_SignalAlarm if _signals_work_here() else _ThreadAlarm)(seconds, sys.stdout)
    sys.stdout, sys.stderr = _Capped(sys.stdout, most_printed), _Capped(sys.stderr, most_printed)
    try:
        try:
            alarm.start()
            value = call()
        finally:
            alarm.over = True  # nothing rings from here on; what is on the way arrives in stop() at the latest
            alarm.stop()
    except BaseException as error:
        alarm.stop()  # once more, where the first was cut short
        if not alarm.rings or issubclass(type(error), KeyboardInterrupt):
            raise
    if alarm.rings:
        raise TimeUp(alarm.rings)
    return value


def _signals_work_here() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


class _Alarm:
    """Rings after some seconds and then again and again until it is stopped."""

    def __init__(self, seconds: float, output: TextIO) -> None:
        self.seconds, self.output = seconds, output
        self.over, self.rings = False, 0
        self.begun, self.used_before = monotonic(), process_time()

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def patience(self) -> float:
        """Seconds to wait on for a call that had too little of the processor so far; 0 when its time is up."""
        passed, used = monotonic() - self.begun, process_time() - self.used_before
        if self.rings or used >= self.seconds or used < ASLEEP * passed or passed >= STARVED * self.seconds:
            return 0
        return max(self.seconds - used, 0.01)

    def ring(self) -> float:
        """Count one attempt; the seconds to the next."""
        self.rings += 1
        if self.rings == 1:
            return AGAIN
        if (self.rings - 1) % BURST:
            return (7 * self.rings % 100 + 10) * 1e-6  # another moment each time
        if self.rings - 1 == BURST:
            with suppress(RuntimeError):  # the call was writing to it just now
                print(DEAF, file=self.output, flush=True)
        return AGAIN


class _SignalAlarm(_Alarm):
    """By SIGALRM, on the main thread; an alarm set before goes on afterwards."""

    def start(self) -> None:
        self.handler = signal.signal(signal.SIGALRM, self._handle)
        self.timer = signal.setitimer(signal.ITIMER_REAL, self.seconds, AGAIN)

    def stop(self) -> None:
        if not hasattr(self, "timer"):
            return
        signal.setitimer(signal.ITIMER_REAL, *self.timer)
        signal.signal(signal.SIGALRM, self.handler)

    def _handle(self, *_: Any) -> None:
        if self.over:
            return
        wait = self.patience()
        signal.setitimer(signal.ITIMER_REAL, wait or self.ring(), AGAIN)
        if not wait:
            raise TimeUp


class _ThreadAlarm(_Alarm):
    """By a second thread that plants the exception in this one."""

    def start(self) -> None:
        self.target, self.lock, self.done = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def stop(self) -> None:
        with self.lock:  # no ring is half done
            ctypes.pythonapi.PyThreadState_SetAsyncExc(self.target, None)  # one not yet delivered is taken back
        self.done.set()
        self.watcher.join()

    def _watch(self) -> None:
        wait = self.seconds
        while not self.done.wait(wait):
            wait = self.patience()
            if wait:
                continue
            with self.lock:
                if not self.over:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self.target, ctypes.py_object(TimeUp))
                    wait = self.ring()


class _Capped(io.TextIOBase):
    """What stands for an output stream during a call: it passes on so many letters and drops the rest."""

    def __init__(self, stream: TextIO, most: int) -> None:
        self.stream, self.left = stream, most

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.left > 0:
            self.stream.write(text[: self.left])
            if len(text) > self.left:
                self.stream.write("\n… (it printed more, which is left out)\n")
        self.left -= len(text)
        return len(text)

    def flush(self) -> None:
        if not self.closed:
            self.stream.flush()

"""What stands behind every check: run a student's function, compare it with the reference, explain.

A check is a `Case` list (smallest first), a reference, and the usual mistakes as wrong functions. A student's answer
that agrees on every case comes back. Any other is met with the smallest case that shows the trouble, and with the
sentence of the mistake that gives the very same wrong result; then the reference comes back, so the notebook runs on.
With LABKIT_STRICT=1 in the environment a wrong answer raises `CheckFailed` instead.
"""

import copy
import ctypes
import html
import io
import math
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.checks.causes import likely_cause

TIME_LIMIT = 5.0  # seconds for one call; the reference needs milliseconds


class CheckFailed(AssertionError):
    """A student's answer is wrong and LABKIT_STRICT=1 asks for an error."""


class TimeUp(BaseException):
    """Raised inside a function that runs past its limit; not an Exception, so `except Exception` lets it by."""


@dataclass(frozen=True)
class Case:
    """One call to try: what it is about, in words, and its arguments (copied before each call)."""

    what: str
    args: tuple
    options: Mapping[str, Any] | None = None

    def call(self, function: Callable) -> tuple[Any, tuple, dict]:
        """The result of `function` on fresh copies, and the copies as the function left them."""
        args, options = copy.deepcopy((self.args, dict(self.options or {})))
        return function(*args, **options), args, options


@contextmanager
def lenient():
    """Inside, a wrong answer is explained and never raises: for answers that are wrong on purpose."""
    before = os.environ.pop("LABKIT_STRICT", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["LABKIT_STRICT"] = before


def run_check(
    name: str,
    student: Callable,
    reference: Callable,
    cases: Sequence[Case],
    *,
    mistakes: Mapping[str, Callable] | None = None,
    atol: float = 1e-5,
    draw: Callable | None = None,
    compare: Callable[[Any, Any], str | None] | None = None,
    time_limit: float | None = None,
) -> Callable:
    """The student's function when it agrees with the reference on every case, else the reference.

    Args:
        name: what the exercise is called in messages.
        student: the function to try.
        reference: the function that is right.
        cases: calls to try, the smallest first: the first that fails is the one shown.
        mistakes: a sentence of likely cause for each wrong function; the one that gives the student's results is named.
        atol: largest absolute difference of floating-point results that still agrees.
        draw: `draw(case, expected, got) -> Figure` for the failing case; skipped where `got` cannot be drawn.
        compare: `compare(got, expected) -> None or what differs`, in place of shapes, dtypes and values.
        time_limit: seconds one call may take, `TIME_LIMIT` by default.

    Raises:
        CheckFailed: the answer is wrong and LABKIT_STRICT=1.
        TypeError: `student` is not a function.
    """
    if not callable(student):
        raise TypeError(
            f"expected the function you wrote, got {type(student).__name__}; hand it over without calling it"
        )
    time_limit = TIME_LIMIT if time_limit is None else time_limit
    compare = compare or (lambda got, expected: difference(got, expected, atol=atol))
    with torch.random.fork_rng():  # what follows in the notebook draws the same numbers, whatever was tried here
        return _run(name, student, reference, cases, mistakes, draw, compare, time_limit)


def _run(name, student, reference, cases, mistakes, draw, compare, time_limit) -> Callable:
    cases = _with_accelerator(cases)
    for number, case in enumerate(cases):
        expected = case.call(reference)[0]
        trouble, got = _trouble(student, case, expected, compare, time_limit)
        if trouble:
            tell = got is not None or trouble.startswith("stopped with")  # an error has a usual cause too
            cause = _likely_cause(student, cases, number, mistakes or {}, compare, time_limit) if tell else ""
            return _refuse(name, case, trouble, cause, expected, got, draw, reference)
    many = f"{len(cases)} cases agree" if len(cases) > 1 else "the case agrees"
    print(f"✓ {name}: {many}. From here on the notebook uses your function.")
    return student


def difference(got: Any, expected: Any, *, atol: float = 1e-5, where: str = "the result") -> str | None:
    """What differs between a result and the expected one, in a sentence; None when they agree.

    Example:
        >>> difference(torch.zeros(2), torch.zeros(3))
        'the result has shape (2,), expected (3,)'
    """
    if isinstance(expected, Tensor):
        if not isinstance(got, Tensor):
            if expected.ndim or isinstance(got, bool) or not isinstance(got, int | float | np.number):
                return f"{where} is {_a_type(got)}, expected a tensor of shape {tuple(expected.shape)}"
            got = torch.tensor(got, dtype=expected.dtype, device=expected.device)  # a bare number for a scalar will do
        return _tensor_difference(got, expected, atol, where)
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            size = f" of {len(got)}" if isinstance(got, tuple | list) else ""
            return f"{where} is {_a_type(got)}{size}, expected {len(expected)} values"
        parts = (
            difference(g, e, atol=atol, where=f"value {i} of {where}")
            for i, (g, e) in enumerate(zip(got, expected, strict=True))
        )
        return next((p for p in parts if p), None)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            keys = sorted(map(str, got)) if isinstance(got, Mapping) else _a_type(got)
            return f"{where} has {keys}, expected the keys {sorted(map(str, expected))}"
        parts = (difference(got[k], e, atol=atol, where=f"{k!r} of {where}") for k, e in expected.items())
        return next((p for p in parts if p), None)
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        if isinstance(got, Tensor) and got.numel() == 1:
            got = got.item()
        if not isinstance(got, float | int | np.number):
            return f"{where} is {_a_type(got)}, expected a number"
        if math.isnan(got) != math.isnan(expected) or abs(got - expected) > atol:
            return f"{where} is {got:.6g}, expected {expected:.6g}"
        return None
    return None if got == expected else f"{where} is {got!r}, expected {expected!r}"


def _tensor_difference(got: Tensor, expected: Tensor, atol: float, where: str) -> str | None:
    if got.shape != expected.shape:
        return f"{where} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.device.type != expected.device.type:
        return f"{where} is on {got.device.type}, expected {expected.device.type}: make new tensors with device=…"
    kind = "whole numbers" if not expected.is_floating_point() else "floating point"
    if got.dtype != expected.dtype:
        right = torch.allclose(got.double(), expected.double(), atol=atol, rtol=1e-5, equal_nan=True)
        only = "; the numbers are right, only the dtype is not" if right else ""
        return f"{where} has dtype {_short(got.dtype)}, expected {_short(expected.dtype)} ({kind}){only}"
    if not expected.is_floating_point():
        if torch.equal(got, expected):
            return None
    else:
        bad = got.isnan() & ~expected.isnan()
        if bad.any():
            return f"{where} has {int(bad.sum())} NaN (a division by zero?)"
        if torch.allclose(got, expected, atol=atol, rtol=1e-5, equal_nan=True):
            return None
    if got.numel() == 1:
        return f"{where} is {_number(got)}, expected {_number(expected)}"
    far = (
        (got != expected)
        if not expected.is_floating_point()
        else ~torch.isclose(got, expected, atol=atol, rtol=1e-5, equal_nan=True)
    )
    at = tuple(int(i) for i in far.nonzero()[0])
    at_text = f"[{', '.join(map(str, at))}]"
    return (
        f"{where} differs in {int(far.sum())} of {far.numel()} numbers; "
        f"at {at_text} it is {_number(got[at])}, expected {_number(expected[at])}"
    )


def _with_accelerator(cases: Sequence[Case]) -> list[Case]:
    """The cases, and the last of them once more on the GPU where there is one."""
    if not torch.cuda.is_available():
        return list(cases)
    last = cases[-1]
    return [
        *cases,
        replace(
            last,
            what=f"{last.what}, on the GPU",
            args=_to_device(last.args, "cuda"),
            options=_to_device(last.options, "cuda"),
        ),
    ]


def _to_device(value: Any, device: str) -> Any:
    if isinstance(value, Tensor | torch.nn.Module):
        return copy.deepcopy(value).to(device)
    if isinstance(value, tuple | list):
        return type(value)(_to_device(v, device) for v in value)
    if isinstance(value, Mapping):
        return {k: _to_device(v, device) for k, v in value.items()}
    return value


def _trouble(student, case, expected, compare, time_limit) -> tuple[str | None, Any]:
    """(What is wrong with the student's answer to a case, the answer); (None, answer) when all is well."""
    try:
        with _time_limit(time_limit):
            got, args, options = case.call(student)
    except NotImplementedError as error:
        return f"is not written yet{f' ({error})' if str(error) else ''}", None
    except TimeUp:
        return f"did not finish within {time_limit:g} s: does a loop ever end?", None
    except Exception as error:
        return f"stopped with {type(error).__name__}: {error}{_line_of(error)}", None
    if got is None:
        return "gave None back: is the `return` missing?", None
    before = (case.args, dict(case.options or {}))
    if not _unchanged(before, (args, options)):
        return (
            "changed its arguments in place: work on a copy (`x.clone()`), the caller still needs them",
            None,
        )
    try:
        return compare(got, expected), got
    except Exception as error:  # a result too strange to compare is a wrong result
        return f"gave back {_a_type(got)} that cannot be compared ({type(error).__name__}: {error})", None


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
    if isinstance(before, np.ndarray):
        return before.shape == after.shape and np.array_equal(before, after)
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(_unchanged, before, after))
    if isinstance(before, Mapping):
        return before.keys() == after.keys() and all(_unchanged(v, after[k]) for k, v in before.items())
    return True  # modules, optimizers and generators are there to be used


def _likely_cause(student, cases, failing, mistakes, compare, time_limit) -> str:
    """The sentence of the mistake that gives the student's results on every case that both can answer."""

    def answer(function, number):
        try:
            with _time_limit(time_limit):
                return cases[number].call(function)[0]
        except Exception as error:
            return type(error).__name__
        except TimeUp:
            return "time up"

    if not mistakes:
        return ""
    theirs = [answer(student, number) for number in range(len(cases))]
    return likely_cause(theirs, failing, {s: partial(answer, wrong) for s, wrong in mistakes.items()}, compare)


def _refuse(name, case, trouble, cause, expected, got, draw, reference):
    lines = [f"✗ {name}: {case.what}", f"  your function {trouble}" if got is None else f"  {trouble}"]
    if got is not None:
        lines += [
            f"  given     {_show_call(case)}",
            f"  expected  {_show(expected)}",
            f"  got       {_show(got)}",
        ]
    if cause:
        lines.append(f"  likely: {cause}")
    message = "\n".join(lines)
    if os.environ.get("LABKIT_STRICT") == "1":
        raise CheckFailed(message)
    hint = "Until it agrees, the notebook goes on with the reference. Mend the cell above and run both again."
    _explain(f"{message}\n  {hint}")
    if draw is not None and got is not None:
        # an answer too strange to draw still has its numbers above, and matplotlib's worries are not the student's
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _show_figure(draw(case, expected, got))
    return reference


def _show_call(case: Case) -> str:
    parts = [_show(a) for a in case.args] + [f"{k}={_show(v)}" for k, v in (case.options or {}).items()]
    return ", ".join(parts)


def _show(value: Any, width: int = 300) -> str:
    """A value as a student would write it down: rounded, on one line, large ones by shape."""
    if isinstance(value, Tensor):
        if value.numel() > 24:
            return f"tensor of shape {tuple(value.shape)}"
        rounded = (
            [round(v, 4) for v in value.flatten().tolist()] if value.is_floating_point() else value.flatten().tolist()
        )
        if value.ndim == 0:
            return str(rounded[0])
        return (
            str(np.array(rounded, dtype=object).reshape(value.shape).tolist())
            if value.numel()
            else f"empty, shape {tuple(value.shape)}"
        )
    if isinstance(value, tuple | list):
        text = ", ".join(_show(v, width) for v in value)
        return f"({text})" if isinstance(value, tuple) else f"[{text}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_show(v, width)}" for k, v in value.items()) + "}"
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}" if value.size > 24 else str(value.tolist())
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= width else f"{text[:width]} …"


def _number(value: Tensor) -> str:
    return f"{value.item():.6g}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _a_type(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _line_of(error: Exception) -> str:
    """Where in the student's own cell an error arose: its last frame outside labkit and the libraries."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in f.filename and f.filename != __file__
    ]
    return f"  (line {frames[-1].lineno}: {frames[-1].line})" if frames and frames[-1].line else ""


def _explain(message: str) -> None:
    """The message, set off by colour in a notebook, as plain text elsewhere."""
    if not _in_notebook():
        print(message)
        return
    from IPython.display import display

    style = (
        "border-left:6px solid #D55E00;background:#fdf3ec;color:#1a1a1a;"
        "padding:.5em 1em;white-space:pre-wrap;font-size:1.05em"
    )
    page = f'<pre style="{style}">{html.escape(message)}</pre>'
    display({"text/plain": message, "text/html": page}, raw=True)


def _show_figure(figure) -> None:
    if not _in_notebook():
        return
    import matplotlib.pyplot as plt
    from IPython.display import Image, display

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)  # or the notebook shows it a second time at the end of the cell
    display(Image(png.getvalue()))


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


@contextmanager
def _time_limit(seconds: float):
    """Raise `TimeUp` in the running code after some seconds, and again every second until it is out.

    A signal where there is one (it also ends a sleep); elsewhere, or off the main thread, an exception that Python
    delivers at the next bytecode.
    """
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():

        def ring(*_):
            raise TimeUp

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return

    done, target = threading.Event(), ctypes.c_ulong(threading.get_ident())

    def watch():
        wait = seconds
        while not done.wait(wait):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(target, ctypes.py_object(TimeUp))
            wait = 1.0

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()

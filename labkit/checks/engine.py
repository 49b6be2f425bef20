"""What stands behind every check: run a student's function, compare it with the reference, explain.

A check is a `Case` list (smallest first), a reference, and the usual mistakes as wrong functions. A student's answer
that agrees on every case comes back. Any other is met with the smallest case that shows the trouble, and with the
sentence of the mistake that gives the very same wrong result; then the reference comes back, so the notebook runs on.
With LABKIT_STRICT=1 in the environment a wrong answer raises `CheckFailed` instead.
"""

import os
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from labkit.checks.cases import Case, a_type, difference, with_accelerator
from labkit.checks.causes import likely_cause, never_changes
from labkit.checks.explain import (
    LONGEST_SENTENCE,
    name_and_text,
    say,
    shortened,
    show,
    show_call,
    show_figure,
    text_of,
    told,
)
from labkit.checks.guard import TimeUp, guarded

__all__ = ["Case", "CheckFailed", "TimeUp", "difference", "lenient", "run_check"]

TIME_LIMIT = 5.0  # seconds for one call; the reference needs milliseconds
DRAWING_LIMIT = 20.0  # seconds for a picture; the first one loads matplotlib
LONGEST_MESSAGE = 5000  # letters, a screen

Compare = Callable[[Any, Any], str | None]


class CheckFailed(AssertionError):
    """A student's answer is wrong and LABKIT_STRICT=1 asks for an error."""


@contextmanager
def lenient() -> Iterator[None]:
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
    compare: Compare | None = None,
    time_limit: float | None = None,
) -> Callable:
    """The student's function when it agrees with the reference on every case, else the reference.

    Whatever the student's function does, this explains and comes back: its errors are caught (also `sys.exit()`), its
    time and its output are limited, and what it changed in the process is put back.

    Args:
        name: what the exercise is called in messages.
        student: the function to try.
        reference: the function that is right.
        cases: calls to try, the smallest first: the first that fails is the one shown.
        mistakes: a sentence of likely cause for each wrong function; the one that gives the student's results is named.
        atol: largest absolute difference of floating-point results that still agrees.
        draw: `draw(case, expected, got) -> Figure` for the failing case, where `got` is of the expected kind.
        compare: `compare(got, expected) -> None or what differs`, in place of shapes, dtypes and values.
        time_limit: seconds one call may take, `TIME_LIMIT` by default.

    Raises:
        CheckFailed: the answer is wrong and LABKIT_STRICT=1.
    """
    limit = TIME_LIMIT if time_limit is None else time_limit
    compare = compare or (lambda got, expected: difference(got, expected, atol=atol))
    check = _Check(name, student, reference, with_accelerator(list(cases)), compare, limit, mistakes or {}, draw)
    if not callable(student):
        return check.refuse(
            [f"expected the function you wrote, got {a_type(student)}; hand it over without calling it"]
        )
    for case in check.cases:
        trouble = check.trouble(case)
        if trouble:
            return check.refuse_case(case, trouble)
    many = f"{len(check.cases)} cases agree" if len(check.cases) > 1 else "the case agrees"
    print(f"✓ {name}: {many}. From here on the notebook uses your function.")
    return student


@dataclass(frozen=True)
class _Trouble:
    """What is wrong with the answer to a case; without a result where the function gave none."""

    sentence: str
    expected: Any = None
    got: Any = None
    raised: bool = False  # an error, which may have a usual cause too


@dataclass(frozen=True)
class _Check:
    """One exercise's check and the function it tries."""

    name: str
    student: Callable
    reference: Callable
    cases: list[Case]
    compare: Compare
    limit: float
    mistakes: Mapping[str, Callable] = field(default_factory=dict)
    draw: Callable | None = None

    def trouble(self, case: Case) -> _Trouble | None:
        """What is wrong with the student's answer to a case; None when all is well."""
        expected = case.call(self.reference)[0]
        outcome = guarded(lambda: case.call(self.student), seconds=self.limit)
        if outcome.error is not None:
            kind = type(outcome.error)  # not isinstance, which asks the error itself
            raised = issubclass(kind, Exception) and not _is_blank(outcome.error)
            return _Trouble(f"your function {self._error(outcome.error)}", raised=raised)
        got, args, options = outcome.value
        if got is None:
            return _Trouble("your function gave None back: is the `return` missing?")
        if type(got) is types.CoroutineType:
            got.close()  # or Python warns that nobody waits for it
            return _Trouble("your function gave a coroutine back: write `def`, not `async def`")
        if not guarded(lambda: case.unchanged(args, options), seconds=self.limit).value:
            return _Trouble(
                "your function changed its arguments in place: work on a copy (`x.clone()`, `list(x)`), "
                "the caller still needs them"
            )
        compared = guarded(lambda: self.compare(got, expected), seconds=self.limit)
        if compared.error is not None:  # a result too strange to compare is a wrong result
            why = name_and_text(compared.error)
            return _Trouble(f"your function gave back {a_type(got)} that cannot be compared ({why})", expected, got)
        return _Trouble(str(compared.value), expected, got) if compared.value else None

    def _error(self, error: BaseException) -> str:
        if _is_blank(error):
            text = text_of(error)
            return f"is not written yet{f' ({text})' if text else ''}"
        if issubclass(type(error), TimeUp):
            caught = (
                ", and catches what would stop it (`except:`, write `except Exception:`)" if error.args[0] > 1 else ""
            )
            return f"did not finish within {self.limit:g} s{caught}: does a loop ever end?"
        return told(error)

    def refuse_case(self, case: Case, trouble: _Trouble) -> Callable:
        """Explain the trouble with one case; the reference."""
        lines = [f"{case.what}", f"  {shortened(trouble.sentence, LONGEST_SENTENCE)}"]
        if trouble.got is None:
            return self.refuse(lines + (self._likely(case) if trouble.raised else []))
        lines += [
            f"  given     {show_call(case)}",
            f"  expected  {show(trouble.expected)}",
            f"  got       {show(trouble.got)}",
        ]
        lines += self._likely(case)
        if self.draw is None or not issubclass(type(trouble.got), type(trouble.expected)):
            return self.refuse(lines)
        return self.refuse(lines, partial(self.draw, case, trouble.expected, trouble.got))

    def refuse(self, lines: list[str], picture: Callable[[], Any] | None = None) -> Callable:
        """Say what is wrong, or raise it with LABKIT_STRICT=1; the reference."""
        message = shortened(f"✗ {self.name}: " + "\n".join(lines), LONGEST_MESSAGE)
        if os.environ.get("LABKIT_STRICT") == "1":
            raise CheckFailed(message)
        hint = "Until it agrees, the notebook goes on with the reference. Mend the cell above and run both again."
        say(f"{message}\n  {hint}")
        if picture is not None:
            show_figure(picture, seconds=DRAWING_LIMIT)
        return self.reference

    def _likely(self, case: Case) -> list[str]:
        """A line with the usual mistake that gives the student's results, if there is one."""
        if not self.mistakes:
            return []
        theirs = [self._answer(self.student, number) for number in range(len(self.cases))]
        answers = {sentence: partial(self._answer, wrong) for sentence, wrong in self.mistakes.items()}
        cause = likely_cause(theirs, self.cases.index(case), answers, self._compared)
        if not cause and self._never_changes(theirs):
            cause = "the answer is the same in every case: compute it from the arguments"
        return [f"  likely: {cause}"] if cause else []

    def _never_changes(self, theirs: Sequence[Any]) -> bool:
        """Whether the student's results never change; cases of a kind of their own, of a gradient say, are left out."""
        plain = [number for number, case in enumerate(self.cases) if type(case) is Case]
        expected = [self._answer(self.reference, number) for number in plain]
        return never_changes([theirs[number] for number in plain], expected, self._compared)

    def _answer(self, function: Callable, number: int) -> Any:
        """The result of a function for one case; where it raised an error its name and text, numbers left out."""
        outcome = guarded(partial(self.cases[number].call, function), seconds=self.limit, most_printed=0)
        if outcome.error is None:
            return outcome.value[0]
        return re.sub(r"\d+", "#", name_and_text(outcome.error))

    def _compared(self, got: Any, expected: Any) -> str | None:
        """`compare`, where two results that cannot be compared differ."""
        outcome = guarded(lambda: self.compare(got, expected), seconds=self.limit)
        return "differs" if outcome.error is not None else outcome.value


def _is_blank(error: BaseException) -> bool:
    """Whether it is the line of an exercise that nobody has written; torch raises NotImplementedError, too."""
    if not issubclass(type(error), NotImplementedError):
        return False
    text = text_of(error)
    return not text or text.startswith("Exercise")

"""The likely cause of a wrong answer: the usual mistake that gives the very same wrong results."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any


def likely_cause(
    theirs: Sequence[Any], failing: int, mistakes: Mapping[str, Callable[[int], Any]], compare: Callable
) -> str:
    """The sentence of the mistake whose results agree with a student's, "" without one.

    They must agree on the case that is shown, and must not differ on any case that both answer; where only one of
    them raises (a student who forgot about empty input besides), the case says nothing. An error agrees with one of
    its kind that says the same. Of several mistakes the one that agrees most often is named.

    Args:
        theirs: the student's result for each case; where it raised an error its name, a colon, and what it says.
        failing: which case is shown.
        mistakes: for each sentence a function from a case's number to its result, in the same form.
        compare: `compare(got, expected)` is None where two results agree.

    Example:
        >>> mistakes = {"doubled": lambda i: 2 * (i + 1), "squared": lambda i: (i + 1) ** 2}
        >>> likely_cause([2, 4, 6], 2, mistakes, lambda got, expected: None if got == expected else "differs")
        'doubled'
    """
    best, most = "", 0
    for sentence, answer in mistakes.items():
        if not _agree(theirs[failing], answer(failing), compare):  # the others need not be asked
            continue
        same = [_agree(mine, answer(number), compare) for number, mine in enumerate(theirs)]
        if False not in same and same.count(True) > most:
            best, most = sentence, same.count(True)
    return best


def never_changes(theirs: Sequence[Any], expected: Sequence[Any], compare: Callable) -> bool:
    """Whether a student's results are one and the same where those expected are not; errors say nothing.

    Example:
        >>> never_changes([0, 0, "IndexError"], [0, 3, 5], lambda got, right: None if got == right else "differs")
        True
    """
    pairs = [(mine, right) for mine, right in zip(theirs, expected, strict=True) if not issubclass(type(mine), str)]
    if len(pairs) < 2 or any(_is_another_sequence(mine, right) for mine, right in pairs):
        return False  # its form is what is wrong, and two lists of many numbers take seconds to compare
    (first, wanted), *rest = pairs
    return all(_agree(mine, first, compare) for mine, _ in rest) and not all(
        _agree(right, wanted, compare) for _, right in rest
    )


def _is_another_sequence(mine: Any, right: Any) -> bool:
    """Whether a result is a list or a tuple where none, or one of another length, is expected."""
    kinds = (list, tuple)
    return type(mine) in kinds and (type(right) not in kinds or len(mine) != len(right))


def _agree(a: Any, b: Any, compare: Callable) -> bool | None:
    """Whether two results agree; None where one is an error and the other is not, or says something else."""
    told = [issubclass(type(result), str) for result in (a, b)]  # not isinstance, which asks the result itself
    if all(told):
        return True if a == b else (None if a.partition(":")[0] == b.partition(":")[0] else False)
    if any(told):
        return None
    with suppress(Exception):
        return compare(a, b) is None
    return False

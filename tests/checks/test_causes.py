"""Which usual mistake is named."""

import pytest

from labkit.checks.causes import likely_cause, never_changes


def differs(got, expected):
    return None if got == expected else "differs"


def cause(theirs, failing=0, **mistakes):
    return likely_cause(theirs, failing, {name: results.__getitem__ for name, results in mistakes.items()}, differs)


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        ([1, 2, 3], "same"),
        ([1, 2, 4], ""),
        ([1, 2, "IndexError"], "same"),  # it fails besides where the mistake does not
        (["IndexError", 2, 3], ""),  # the case that is shown has to agree
    ],
)
def test_a_mistake_is_named_when_no_case_speaks_against_it(theirs, named):
    assert cause(theirs, same=[1, 2, 3]) == named


def test_errors_agree_with_errors_of_their_kind():
    assert cause(["IndexError", 2], a=["ValueError", 2], b=["IndexError", 2]) == "b"


def test_the_mistake_that_agrees_most_often_is_named():
    assert cause([1, 2, 3], less=[1, "ValueError", 3], more=[1, 2, 3]) == "more"


def test_results_that_cannot_be_compared_do_not_agree():
    def broken(got, expected):
        raise TypeError

    assert likely_cause([1], 0, {"a": lambda number: 1}, broken) == ""


@pytest.mark.parametrize(
    ("theirs", "expected", "told"),
    [
        ([0, 0, 0], [0, 3, 5], True),
        ([0, "IndexError", 0], [0, 3, 5], True),  # where it fails besides
        ([0, 0, 1], [0, 3, 5], False),
        ([4, 4, 4], [5, 5, 5], False),  # so is what is expected
        (["4", "4"], [1, 2], False),  # errors of one kind are no answers
        ([4, "IndexError"], [1, 2], False),  # a single answer shows nothing
        ([], [], False),
    ],
)
def test_an_answer_that_never_changes(theirs, expected, told):
    assert never_changes(theirs, expected, differs) is told

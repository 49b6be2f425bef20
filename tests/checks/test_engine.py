"""The machinery behind the checks: whatever a student's function does, the notebook runs on and the message helps."""

import contextlib
import threading
import time

import numpy as np
import pytest
import torch

from labkit.checks.engine import Case, CheckFailed, difference, run_check

CASES = [
    Case("two numbers", (torch.tensor([1.0, 2.0]),)),
    Case("none", (torch.zeros(0),)),
    Case("NaN", (torch.tensor([float("nan")]),)),
]


def double(x):
    return 2 * x


def check(student, **options):
    return run_check("double", student, double, CASES, time_limit=0.3, **options)


def raises(x):
    return x[10]


def changes(x):
    return x.mul_(2)


def endless(x):
    while True:
        pass


def endless_and_stubborn(x):
    for _ in range(10**9):
        with contextlib.suppress(Exception):
            time.sleep(0.01)


WRONG = {
    "stopped with IndexError": raises,
    "changed its arguments in place": changes,
    "did not finish within 0.3 s": endless,
    "did not finish": endless_and_stubborn,
    "gave None back": lambda x: None,
    "has shape (1,), expected (2,)": lambda x: 2 * x[:1],
    "has dtype float64, expected float32": lambda x: 2 * x.double(),
    "has dtype int64": lambda x: (2 * x).nan_to_num().long(),
    "is a list, expected a tensor": lambda x: (2 * x).tolist(),
    "it is 4, expected 2": lambda x: 4 * x,
    "has 2 NaN": lambda x: x / 0 * 0,
    "is a ndarray": lambda x: 2 * x.numpy(),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_answer_is_explained_and_the_reference_comes_back(lenient, capsys, words):
    assert check(WRONG[words]) is double
    told = capsys.readouterr().out
    assert words in told
    assert "goes on with the reference" in told


def test_strict_raises(strict):
    with pytest.raises(CheckFailed, match="expected 2"):
        check(lambda x: 3 * x)


def test_the_right_answer_comes_back_itself(strict, capsys):
    def mine(x):
        return x + x

    assert check(mine) is mine
    assert "3 cases agree" in capsys.readouterr().out


def test_the_smallest_failing_case_is_shown(lenient, capsys):
    check(lambda x: 2 * x if len(x) else torch.zeros(1))
    assert "✗ double: none" in capsys.readouterr().out


def test_the_cause_is_the_mistake_with_the_same_results(message_of):
    mistakes = {"squared, not doubled": lambda x: x**2, "halved": lambda x: x / 2}
    assert "likely: halved" in message_of(lambda f: check(f, mistakes=mistakes), lambda x: 0.5 * x)
    assert "likely" not in message_of(lambda f: check(f, mistakes=mistakes), lambda x: 7 * x)


def test_the_time_limit_works_off_the_main_thread(lenient, capsys):
    results = []
    thread = threading.Thread(target=lambda: results.append(check(endless)))
    thread.start()
    thread.join(timeout=20)
    assert results == [double]


def test_a_call_and_not_a_function_is_told(lenient):
    with pytest.raises(TypeError, match="without calling it"):
        check(double(torch.ones(1)))


def test_a_broken_drawing_does_not_hide_the_message(lenient, capsys):
    assert check(lambda x: 3 * x, draw=lambda *_: 1 / 0) is double
    assert "expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (0.5, 0.25, "the result is 0.5, expected 0.25"),
        (np.float64(0.25), 0.25, None),
        (torch.tensor(0.25), 0.25, None),
        (0.25, torch.tensor(0.25), None),
        ("a", 0.25, "is a str, expected a number"),
        ((1.0, 2.0), (1.0, 3.0), "value 1 of the result is 2, expected 3"),
        ((1.0,), (1.0, 3.0), "is a tuple of 1, expected 2 values"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "expected the keys ['a', 'b']"),
        ({"a": 1.0}, {"a": 2.0}, "'a' of the result is 1, expected 2"),
        (torch.tensor([1, 2]), torch.tensor([2, 1]), "differs in 2 of 2 numbers; at [0] it is 1, expected 2"),
        (True, False, "True, expected False"),
    ],
)
def test_difference(got, expected, words):
    told = difference(got, expected)
    assert told is None if words is None else words in told

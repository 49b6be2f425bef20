"""The machinery behind the checks: whatever a student's function does, the notebook runs on and the message helps."""

import contextlib
import sys
import time

import pytest
import torch

from labkit.checks import explain
from labkit.checks.engine import Case, CheckFailed, run_check

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
    "stopped with NotImplementedError: Subtraction": lambda x: x * (1 - (x > 0)),  # torch's own, no blank exercise
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


def test_a_call_and_not_a_function_is_told(lenient, capsys):
    assert check(double(torch.ones(1))) is double
    assert "got a Tensor; hand it over without calling it" in capsys.readouterr().out


def test_a_coroutine_is_told(lenient, capsys):
    async def waits(x):
        return 2 * x

    assert check(waits) is double
    assert "write `def`, not `async def`" in capsys.readouterr().out


def test_what_a_right_function_changes_in_the_process_is_put_back(strict):
    def right(x):
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(3)
        return 2 * x

    before = torch.get_rng_state()
    assert check(right) is right
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before)


def test_the_user_can_stop_a_check(lenient):
    def stopped(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(stopped)


def test_output_without_end_is_cut_and_a_wrong_answer_prints_once(lenient, capsys):
    def talks(x):
        print("x" * 50_000)
        return x

    check(talks, mistakes={"halved": lambda x: x / 2})
    told = capsys.readouterr().out
    assert "it printed more, which is left out" in told
    assert 10_000 < len(told) < 12_000


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: one entry a picture; the message goes to the output."""
    from IPython import display as ipython

    pictures = []
    monkeypatch.setattr(explain, "_in_notebook", lambda: True)
    monkeypatch.setattr(ipython, "display", lambda shown, **_: pictures.append(shown))
    return pictures


def a_figure(*_):
    from matplotlib.figure import Figure

    return Figure()


@pytest.mark.parametrize(
    ("draw", "student", "pictures"),
    [
        (a_figure, lambda x: 3 * x, 1),
        (lambda *_: sys.exit(), lambda x: 3 * x, 0),
        (lambda *_: 1 / 0, lambda x: 3 * x, 0),
        (a_figure, lambda x: list(range(300_000)), 0),  # of another kind: told in words
    ],
)
def test_a_wrong_answer_is_drawn_where_it_can_be(lenient, shown, draw, student, pictures):
    assert check(student, draw=draw) is double
    message, *drawn = shown
    assert "expected" in message["text/plain"]
    assert ['<img alt="the case that fails"' in picture["text/html"] for picture in drawn] == [True] * pictures

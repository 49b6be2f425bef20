"""What a check says: values in a student's own words, errors with their line, and never more than can be read."""

import math

import numpy as np
import pytest
import torch

from labkit.checks import explain
from labkit.checks.cases import Case
from labkit.checks.explain import name_and_text, say, shortened, show, show_call, show_figure, text_of, told


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (torch.tensor([[1 / 3, 2.0]]), "[[0.3333, 2.0]]"),
        (torch.tensor(2.5), "2.5"),
        (torch.tensor([1, 2]), "[1, 2]"),
        (torch.tensor([True, False]), "[True, False]"),
        (torch.tensor([math.nan, math.inf]), "[nan, inf]"),
        (torch.zeros(0, 4), "empty, shape (0, 4)"),
        (torch.zeros(5, 5), "tensor of shape (5, 5)"),
        (np.arange(3), "[0, 1, 2]"),
        (np.zeros((5, 6)), "array of shape (5, 6)"),
        (1 / 3, "0.333333"),
        (3, "3"),
        ("text", "'text'"),
        (None, "None"),
        ((1, 0.5), "(1, 0.5)"),
        ([torch.zeros(2)], "[[0.0, 0.0]]"),
        ({"boxes": torch.zeros(1, 4)}, "{'boxes': [[0.0, 0.0, 0.0, 0.0]]}"),
    ],
)
def test_values_as_a_student_writes_them(value, written):
    assert show(value) == written


@pytest.mark.parametrize("value", [list(range(300_000)), "x" * 10**6, {i: i for i in range(10**5)}, [[0] * 24] * 24])
def test_no_value_is_longer_than_three_lines(value):
    assert len(show(value)) <= explain.LONGEST_VALUE + 2
    assert len(show(value, 50)) <= 52


def test_a_value_that_cannot_be_written_is_told_by_its_type():
    class Shy:
        def __repr__(self):
            raise RuntimeError("no")

    assert show(Shy()) == "a Shy that cannot be shown (RuntimeError)"
    assert show([Shy()]) == "a list that cannot be shown (RuntimeError)"
    assert show(10**6000) == "an int that cannot be shown (ValueError)"  # Python refuses so many digits


def test_only_what_is_too_long_is_cut():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc …"


def test_a_call_is_shown_with_the_names_of_its_options():
    case = Case("one", (torch.tensor([1.0]), [2, 3]), {"iou_threshold": 0.5})
    assert show_call(case) == "[1.0], [2, 3], iou_threshold=0.5"


def fails():
    raise KeyError("boxes")  # the line that is shown


def caught(function):
    try:
        function()
    except BaseException as error:
        return error


def test_an_error_is_told_with_the_line_where_it_arose():
    sentence = told(caught(fails))
    assert sentence.startswith("stopped with KeyError: 'boxes'  (line ")
    assert 'raise KeyError("boxes")  # the line that is shown)' in sentence


def test_an_error_inside_a_library_is_told_with_the_students_own_line():
    sentence = told(caught(lambda: torch.zeros(2) @ torch.zeros(3)))
    assert "torch.zeros(2) @ torch.zeros(3)" in sentence
    assert len(sentence) < 2 * explain.LONGEST_SENTENCE


def test_an_exit_is_told_with_what_to_write_instead():
    assert "leave a function with `return`" in told(SystemExit(1))


def test_errors_that_say_nothing_or_do_not_let_themselves_be_asked():
    class Shy(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert name_and_text(AssertionError()) == "AssertionError"
    assert text_of(Shy()) == "it cannot be shown"
    assert name_and_text(Shy()) == "Shy: it cannot be shown"
    assert len(text_of(ValueError("x" * 10**6))) == explain.LONGEST_VALUE + 2


@pytest.fixture
def shown(monkeypatch):
    """What a notebook is given to display."""
    from IPython import display

    found = []
    monkeypatch.setattr(explain, "_in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda thing, **options: found.append((thing, options)))
    return found


def test_outside_a_notebook_a_message_is_plain_text(capsys):
    say("expected <b>, got & nothing")
    assert capsys.readouterr().out == "expected <b>, got & nothing\n"


def test_in_a_notebook_a_message_is_set_off_and_its_signs_stay_signs(shown):
    say("expected <b>, got & nothing")
    ((page, options),) = shown
    assert options == {"raw": True}
    assert page["text/plain"] == "expected <b>, got & nothing"
    assert "expected &lt;b&gt;, got &amp; nothing</pre>" in page["text/html"]


def test_a_figure_is_shown_once_and_one_that_cannot_be_drawn_is_not(shown):
    from matplotlib import pyplot

    def draw():
        figure = pyplot.figure(figsize=(1, 1))
        figure.suptitle("expected < got")
        return figure

    show_figure(draw, seconds=30)
    ((picture, options),) = shown
    assert options == {"raw": True}
    assert picture["text/plain"] == "expected < got"
    assert picture["text/html"].startswith('<img alt="expected &lt; got" src="data:image/png;base64,')
    assert pyplot.get_fignums() == []
    show_figure(lambda: 1 / 0, seconds=30)
    assert len(shown) == 1


def test_no_figure_is_drawn_where_nobody_sees_it():
    show_figure(lambda: pytest.fail("drawn"), seconds=1)

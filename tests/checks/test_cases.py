"""Cases: what counts as a changed argument, and how a difference is told."""

import numpy as np
import pytest
import torch

from labkit.checks.cases import Case, difference


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
        pytest.param(10**6000, 0.25, "is a whole number of 19932 bits, expected 0.25", id="huge"),
    ],
)
def test_difference(got, expected, words):
    told = difference(got, expected)
    assert told is None if words is None else words in told


def other_numbers(x):
    x.data = x.double()


@pytest.mark.parametrize(
    "change",
    [
        lambda x, n: x.mul_(2),
        lambda x, n: x.resize_(1),
        lambda x, n: other_numbers(x),
        lambda x, n: n.append(1),
        lambda x, n: n.clear(),
        lambda x, n: n.__setitem__(0, {}),
    ],
)
def test_a_changed_argument_is_seen(change):
    case = Case("two", (torch.tensor([1.0, 2.0]), [{"boxes": torch.zeros(0, 4)}]))
    _, args, options = case.call(change)
    assert not case.unchanged(args, options)
    assert case.args[0].dtype == torch.float32
    assert case.args[0].tolist() == [1.0, 2.0]


def test_an_argument_only_looked_at_is_unchanged():
    case = Case("two", (torch.tensor([1.0, float("nan")]), np.arange(3)), {"mode": "a"})
    _, args, options = case.call(lambda x, n, *, mode: None)
    assert case.unchanged(args, options)

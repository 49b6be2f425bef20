"""A check never blocks: every exercise's check meets every strange function, explains, and hands the reference back."""

import asyncio
import os
import random
import sys

import numpy as np
import pytest
import torch

from labkit import checks

# A call is stopped wherever it is, in the callback of a weak reference too; Python then says "Exception ignored in".
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Closed:
    def __getattribute__(self, name):
        raise RuntimeError("no attributes")


class ClosedError(Exception):
    def __getattribute__(self, name):
        raise RuntimeError("no attributes")


class Sulky:
    """Cannot be shown, compared, counted or copied."""

    def refuse(self, *_):
        raise SystemExit("no")

    __repr__ = __str__ = __eq__ = __len__ = __iter__ = __bool__ = __float__ = __deepcopy__ = refuse
    __hash__ = None


class SulkyError(Exception):
    __str__ = __repr__ = Sulky.refuse


class SulkyTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *_, **__):
        raise GeneratorExit


class Endless(list):
    def __len__(self):
        return 10**9

    def __iter__(self):
        raise asyncio.CancelledError


def raises(error):
    def strange(*_, **__):
        raise error

    return strange


def gives(make):
    return lambda *_, **__: make()


def calls_itself(*_, **__):
    return calls_itself()


def holds_itself():
    values = []
    values.append(values)
    return values


def gives_one_by_one(*_, **__):
    yield 1


def changes_the_process(*_, **__):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(3)
    os.chdir("/")
    os.environ["LABKIT_STRICT"] = "1"
    sys.stdout = None
    sys.exit()


def changes_its_arguments(*args, **__):
    for argument in args:
        if isinstance(argument, torch.Tensor):
            argument.data = torch.zeros(3, 3, dtype=torch.complex64)
        elif isinstance(argument, list):
            argument[:] = [Sulky()]
    return Sulky()


STRANGE = {
    "leaves": raises(SystemExit()),
    "leaves with a text": lambda *_, **__: sys.exit("bye"),
    "closes": raises(GeneratorExit()),
    "cancels": raises(asyncio.CancelledError()),
    "stops an iteration": raises(StopIteration()),
    "raises the base of all": raises(BaseException()),
    "raises without a text": raises(ValueError()),
    "raises a text without end": raises(ValueError("x" * 10**6)),
    "raises what cannot be shown": raises(SulkyError()),
    "is not written and cannot say so": raises(type("Blank", (NotImplementedError, SulkyError), {})()),
    "calls itself": calls_itself,
    "gives what cannot be shown": gives(Sulky),
    "gives what has no attributes": gives(Closed),
    "raises what has no attributes": raises(ClosedError()),
    "gives a tuple of them": gives(lambda: (Sulky(), Sulky())),
    "gives a dict of them": gives(lambda: {"boxes": Sulky()}),
    "gives a tensor that refuses": gives(lambda: torch.ones(2, 4).as_subclass(SulkyTensor)),
    "gives a huge number": gives(lambda: 10**6000),
    "gives very many numbers": gives(lambda: list(range(300_000))),
    "gives a list that holds itself": gives(holds_itself),
    "gives a list without end": gives(Endless),
    "gives a tensor without numbers": gives(lambda: torch.ones(2, 4, device="meta")),
    "gives a sparse tensor": gives(lambda: torch.ones(2, 4).to_sparse()),
    "gives complex numbers": gives(lambda: torch.ones(2, 4, dtype=torch.complex64)),
    "gives words": gives(lambda: np.array(["a", None], dtype=object)),
    "gives a class": gives(lambda: Sulky),
    "gives one by one": gives_one_by_one,
    "changes its arguments": changes_its_arguments,
    "changes the process": changes_the_process,
}


def process():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        os.getcwd(),
        dict(os.environ),
        sys.stdout,
        sys.gettrace(),
    )


@pytest.fixture(scope="module")
def references():
    """Each exercise's reference, as its check hands it back."""
    return {}


@pytest.mark.parametrize("exercise", checks.EXERCISES)
def test_what_comes_back_is_right(monkeypatch, exercise):
    check = getattr(checks, exercise)
    with checks.lenient():
        reference = check(STRANGE["leaves"])
    monkeypatch.setenv("LABKIT_STRICT", "1")
    assert check(reference) is reference


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("exercise", checks.EXERCISES)
def test_a_strange_function_is_explained(lenient, capsys, references, exercise, what):
    check = getattr(checks, exercise)
    before = process()
    reference = check(STRANGE[what])
    assert process() == before
    assert references.setdefault(exercise, reference) is reference
    assert reference is not STRANGE[what]
    told = capsys.readouterr().out
    assert told.startswith("✗ ")
    assert "goes on with the reference" in told
    assert len(told) < 6000


@pytest.mark.parametrize("exercise", checks.EXERCISES)
def test_with_strict_it_is_one_error(strict, exercise):
    with pytest.raises(checks.CheckFailed):
        getattr(checks, exercise)(STRANGE["leaves"])

"""The process as a function finds it is the process it leaves."""

import gc
import os
import random
import sys
import tempfile
import warnings

import numpy as np
import pytest
import torch

from labkit.checks.process import kept_as_it_is

CHANGES = {
    "torch's generator": (lambda: torch.manual_seed(1), torch.get_rng_state),
    "Python's generator": (lambda: random.seed(1), random.getstate),
    "NumPy's generator": (lambda: np.random.seed(1), lambda: np.random.get_state()),  # noqa: NPY002
    "numbers drawn": (
        lambda: (torch.rand(1), random.random(), np.random.rand()),  # noqa: NPY002
        lambda: (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[2]),  # noqa: NPY002
    ),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "anomaly mode": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "matmul precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "NumPy's errors": (lambda: np.seterr(all="ignore"), np.geterr),
    "NumPy's printing": (lambda: np.set_printoptions(precision=1), np.get_printoptions),
    "torch's printing": (
        lambda: torch.set_printoptions(precision=1),
        lambda: dict(vars(torch._tensor_str.PRINT_OPTS)),
    ),
    "folder": (lambda: os.chdir(tempfile.gettempdir()), os.getcwd),
    "environment": (lambda: os.environ.update(LABKIT_STRICT="perhaps", NEW="1"), lambda: dict(os.environ)),
    "environment emptied": (os.environ.clear, lambda: dict(os.environ)),
    "output": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
    "import path": (lambda: sys.path.insert(0, "/"), lambda: list(sys.path)),
    "recursion limit": (lambda: sys.setrecursionlimit(5000), sys.getrecursionlimit),
    "garbage collector": (gc.disable, gc.isenabled),
    "warnings": (lambda: warnings.simplefilter("ignore"), lambda: list(warnings.filters)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_put_back(what):
    change, look = CHANGES[what]
    before = look()
    with kept_as_it_is():
        change()
    assert repr(look()) == repr(before)


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_one(what):
    """Without the guard the same change stays: the test above could fail."""
    change, look = CHANGES[what]
    before = repr(look())
    with kept_as_it_is():
        change()
        after = repr(look())
        if what == "output":
            sys.stdout = sys.__stdout__
    assert after != before


def test_a_folder_that_is_gone_does_not_keep_the_rest(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with kept_as_it_is():
        torch.set_default_dtype(torch.float64)
        os.chdir(tmp_path)
        os.rmdir(tmp_path / "gone")
    assert torch.get_default_dtype() == torch.float32


def test_an_error_goes_through_and_the_process_is_put_back():
    def stopped():
        with kept_as_it_is():
            torch.set_grad_enabled(False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert torch.is_grad_enabled()

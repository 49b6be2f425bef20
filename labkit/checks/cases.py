"""Cases: the calls a check tries, and what differs between two results."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


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

    def unchanged(self, args: tuple, options: dict) -> bool:
        """Whether these, left by a function, are still what was given."""
        return _unchanged((self.args, dict(self.options or {})), (args, options))


@dataclass(frozen=True)
class HintCase(Case):
    """A case that says more about an error with certain words; where `keeps`, a tensor keeps its `requires_grad`."""

    hints: Mapping[str, str] = field(default_factory=dict)
    keeps: bool = False

    def call(self, function: Callable) -> tuple[Any, tuple, dict]:
        """As of a case; an error of torch whose text has the words of a hint says the hint besides."""
        try:
            return super().call(function)
        except RuntimeError as error:
            text = str(error)
            for words, hint in self.hints.items():
                if words in text:
                    raise RuntimeError(f"{text}; {hint}").with_traceback(error.__traceback__) from error
            raise

    def unchanged(self, args: tuple, options: dict) -> bool:
        """Whether values are what was given and, where that is asked, each tensor's `requires_grad` as well."""
        pairs = [(a, b) for a, b in zip(self.args, args, strict=True) if isinstance(a, Tensor)]
        same = all(a.requires_grad == b.requires_grad for a, b in pairs)
        return (same or not self.keeps) and super().unchanged(args, options)


def with_accelerator(cases: list[Case]) -> list[Case]:
    """The cases, and the last of them once more on the GPU where there is one."""
    if not torch.cuda.is_available():
        return cases
    last = cases[-1]
    args, options = _to_device(last.args, "cuda"), _to_device(last.options, "cuda")
    return [*cases, replace(last, what=f"{last.what}, on the GPU", args=args, options=options)]


def _to_device(value: Any, device: str) -> Any:
    if isinstance(value, Tensor | torch.nn.Module):
        return copy.deepcopy(value).to(device)
    if isinstance(value, tuple | list):
        return type(value)(_to_device(v, device) for v in value)
    if isinstance(value, Mapping):
        return {k: _to_device(v, device) for k, v in value.items()}
    return value


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        if type(after) is not type(before) or after.dtype != before.dtype or after.shape != before.shape:
            return False
        return torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
    if isinstance(before, np.ndarray):
        return before.shape == after.shape and np.array_equal(before, after)
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(_unchanged, before, after))
    if isinstance(before, Mapping):
        return before.keys() == after.keys() and all(_unchanged(v, after[k]) for k, v in before.items())
    return True  # modules, optimizers and generators are there to be used


def difference(got: Any, expected: Any, *, atol: float = 1e-5, where: str = "the result") -> str | None:
    """What differs between a result and the expected one, in a sentence; None when they agree.

    Example:
        >>> difference(torch.zeros(2), torch.zeros(3))
        'the result has shape (2,), expected (3,)'
    """
    if isinstance(expected, Tensor):
        if not isinstance(got, Tensor):
            if expected.ndim or isinstance(got, bool) or not isinstance(got, int | float | np.number):
                return f"{where} is {a_type(got)}, expected a tensor of shape {tuple(expected.shape)}"
            got = torch.tensor(got, dtype=expected.dtype, device=expected.device)  # a bare number for a scalar will do
        return _tensor_difference(got, expected, atol, where)
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            size = f" of {len(got)}" if isinstance(got, tuple | list) else ""
            return f"{where} is {a_type(got)}{size}, expected {len(expected)} values"
        parts = (
            difference(g, e, atol=atol, where=f"value {i} of {where}")
            for i, (g, e) in enumerate(zip(got, expected, strict=True))
        )
        return next((p for p in parts if p), None)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            keys = sorted(map(str, got)) if isinstance(got, Mapping) else a_type(got)
            return f"{where} has {keys}, expected the keys {sorted(map(str, expected))}"
        parts = (difference(got[k], e, atol=atol, where=f"{k!r} of {where}") for k, e in expected.items())
        return next((p for p in parts if p), None)
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        return _number_difference(got, expected, atol, where)
    return None if got == expected else f"{where} is {got!r}, expected {expected!r}"


def _number_difference(got: Any, expected: float, atol: float, where: str) -> str | None:
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if not isinstance(got, float | int | np.number):
        return f"{where} is {a_type(got)}, expected a number"
    if isinstance(got, int) and abs(got) > 10**300:  # more than a float holds
        return f"{where} is a whole number of {got.bit_length()} bits, expected {expected:.6g}"
    if math.isnan(got) != math.isnan(expected) or abs(got - expected) > atol:
        return f"{where} is {got:.6g}, expected {expected:.6g}"
    return None


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
        far = got != expected
    else:
        bad = got.isnan() & ~expected.isnan()
        if bad.any():
            return f"{where} has {int(bad.sum())} NaN (a division by zero?)"
        far = ~torch.isclose(got, expected, atol=atol, rtol=1e-5, equal_nan=True)
    if not far.any():
        return None
    if got.numel() == 1:
        return f"{where} is {_number(got)}, expected {_number(expected)}"
    at = tuple(int(i) for i in far.nonzero()[0])
    return (
        f"{where} differs in {int(far.sum())} of {far.numel()} numbers; "
        f"at [{', '.join(map(str, at))}] it is {_number(got[at])}, expected {_number(expected[at])}"
    )


def a_type(value: Any) -> str:
    """The kind of a value, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _number(value: Tensor) -> str:
    return f"{value.item():.6g}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""What a function may change in the process besides its result, and how each of these is put back.

The generators of Python, NumPy and torch; torch's defaults and modes; the working folder, the environment, where
output goes. What follows in a notebook then draws the same numbers, whatever was tried before.
"""

import gc
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch


@contextmanager
def kept_as_it_is() -> Iterator[None]:
    """Inside, the process may be changed; afterwards it is as before.

    Example:
        >>> with kept_as_it_is():
        ...     torch.set_default_dtype(torch.float64)
        >>> torch.get_default_dtype()
        torch.float32
    """
    before = [(look(), look, put_back) for look, put_back in _PARTS]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for state, look, put_back in before:
            with suppress(Exception):  # a folder that has gone since; the other parts are put back all the same
                if not _same(look(), state):
                    put_back(state)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _accelerators() -> list[Any]:
    """torch's modules for the kinds of GPU that this process has used so far."""
    kinds = (torch.get_device_module(kind) for kind in ("cuda", "xpu"))
    return [module for module in kinds if module.is_initialized()]


def _gpu_generators() -> list[list[torch.Tensor]]:
    states = [module.get_rng_state_all() for module in _accelerators()]
    return [*states, [torch.mps.get_rng_state()]] if torch.backends.mps.is_available() else states


def _set_gpu_generators(states: list[list[torch.Tensor]]) -> None:
    for module, state in zip(_accelerators(), states, strict=False):
        module.set_rng_state_all(state)
    if torch.backends.mps.is_available():
        torch.mps.set_rng_state(states[-1][0])


def _numpy_generator() -> list[Any]:
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what is looked after
    inner = state["state"]
    return [state["bit_generator"], inner["key"].tobytes(), inner["pos"], state["has_gauss"], state["gauss"]]


def _set_numpy_generator(state: list[Any]) -> None:
    kind, key, *rest = state
    np.random.set_state((kind, np.frombuffer(key, dtype=np.uint32), *rest))  # noqa: NPY002


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _folder() -> str | None:
    with suppress(OSError):  # removed while the process stood in it
        return os.getcwd()
    return None


def _set_environment(names: dict[str, str]) -> None:
    for name in set(os.environ) - set(names):
        del os.environ[name]
    os.environ.update(names)


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr, sys.stdin, sys.displayhook, sys.excepthook = streams


# How to look at a part, and how to put it back.
_PARTS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (lambda: (sys.stdout, sys.stderr, sys.stdin, sys.displayhook, sys.excepthook), _set_streams),
    (torch.get_rng_state, torch.set_rng_state),
    (_gpu_generators, _set_gpu_generators),
    (random.getstate, random.setstate),
    (_numpy_generator, _set_numpy_generator),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (np.geterr, lambda state: np.seterr(**state)),
    (lambda: dict(vars(torch._tensor_str.PRINT_OPTS)), lambda state: vars(torch._tensor_str.PRINT_OPTS).update(state)),
    (np.get_printoptions, lambda state: np.set_printoptions(**state)),
    (_folder, os.chdir),
    (lambda: dict(os.environ), _set_environment),
    (lambda: list(sys.path), lambda state: sys.path.__setitem__(slice(None), state)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (gc.isenabled, lambda state: gc.enable() if state else gc.disable()),
)

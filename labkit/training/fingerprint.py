"""Fingerprints: whether two values hold the same, and two functions do the same, as one SHA-256.

A fingerprint goes through tensors, arrays, containers and plain objects down to their bytes, and through functions and
classes down to their bytecode, constants, defaults, closures and the globals they read. What comes from an installed
library is named with the library's version. What cannot be followed surely raises `UnsureError`.
"""

import builtins
import collections
import contextlib
import dis
import enum
import functools
import hashlib
import os
import random
import re
import stat
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from labkit.training.origin import full_name, is_own, origin, own_source

MAX_BYTES = 4 * 2**30  # read in a few seconds; more is a set that lies on the disk, mapped
MAX_VALUES = 500_000  # about a second; a figure or a notebook's whole state would not end
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
# of a class, what is no part of what it does
FORMAL = {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__abstractmethods__", "_abc_impl"}
FORMAL |= {"__static_attributes__", "__firstlineno__", "__parameters__", "__orig_bases__", "__annotate_func__"}
FORMAL |= {"__annotations_cache__", "__dataclass_params__", "__dataclass_fields__", "__match_args__"}


PLAINEST = type("Plain", (), {})  # as small as instances get: those of types written in C hold more than their dict

LAZY = {"MultiScaleRoIAlign": ("scales", "map_levels")}  # of torchvision: read off the first images it sees


class UnsureError(Exception):
    """There is a value that cannot be followed surely."""


def fingerprint(*values, code: bool = False, strict: bool = False, known: Iterable[object] = ()) -> str:
    """SHA-256 of the values, in hexadecimal.

    Args:
        values: of any kind.
        code: also of what functions and classes do; else of their names alone.
        strict: whatever the result of a run hangs on: labkit's own functions count with all of labkit's source, and
            files that are named with their size and time.
        known: objects whose content does not count, such as generators of random numbers that will move.

    Raises:
        UnsureError: a value is of a kind that cannot be followed.

    Example:
        >>> fingerprint({"a": [1, 2]}) == fingerprint({"a": [1, 2]}), fingerprint(1) == fingerprint(True)
        (True, False)
    """
    walk = Walk(code=code, strict=strict, known=known)
    try:
        for value in values:
            walk.add(value)
    except UnsureError:
        raise
    except Exception as error:  # nested too deep; or an object of the user's that raises whatever it likes
        raise UnsureError(f"{type(error).__name__}: {error}") from error
    return walk.digest.hexdigest()


class Walk:
    """The way through some values: the digest so far, and what has been met."""

    def __init__(self, *, code: bool, strict: bool, known: Iterable[object]):
        self.code, self.strict = code, strict
        self.digest = hashlib.sha256()
        self.bytes = self.values = 0
        self.met: dict[int, tuple[int, object]] = {}  # the object too, so that its id is not given anew
        self.known = {id(value): place for place, value in enumerate(known)}

    def write(self, *parts: str | bytes | memoryview) -> None:
        """Add to the digest, each part with its length."""
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self.bytes += len(data)
            if self.bytes > MAX_BYTES:
                raise UnsureError("too much data")
            self.digest.update(f"{len(data)}:".encode())
            self.digest.update(data)

    def add(self, value) -> None:
        """Go through one value."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise UnsureError("too many values")
        if type(value) in PLAIN:
            self.write(type(value).__name__, value if isinstance(value, str | bytes) else repr(value))
            if self.strict and isinstance(value, str) and os.sep in value:
                _file(self, value)
        elif id(value) in self.known:
            self.write("known", str(self.known[id(value)]))
        elif id(value) in self.met:
            self.write("met", str(self.met[id(value)][0]))
        else:
            if not isinstance(value, tuple | types.CodeType | Tensor | np.ndarray):  # their content says all
                self.met[id(value)] = (len(self.met), value)
            kind, follow = next((kind, how) for kind, how in KINDS if isinstance(value, kind))
            self.write(kind.__name__ if self.strict or kind not in (list, tuple) else "sequence")
            follow(self, value)

    def add_all(self, values: Iterable) -> None:
        """Go through several values, and how many they are."""
        values = list(values)
        self.write(str(len(values)))
        for value in values:
            self.add(value)


# Numbers


def _tensor(walk: Walk, value: Tensor) -> None:
    if value.layout is not torch.strided or value._backward_hooks or value.is_quantized or value.is_meta:
        raise UnsureError(f"a tensor in {value.layout}, with hooks, quantised or without data")
    walk.write(str(value.dtype), str(tuple(value.shape)))
    if walk.strict:
        walk.write(full_name(type(value)), f"{value.stride()} {value.requires_grad}")
        walk.add(vars(value))
    flat = value.detach().cpu().reshape(-1)
    if flat.stride() != (1,):  # a single number may keep the stride of where it lay
        flat = flat.clone(memory_format=torch.contiguous_format)
    walk.write(memoryview(flat.view(torch.uint8).numpy()))


def _array(walk: Walk, value: np.ndarray | np.generic) -> None:
    value = np.asarray(value)
    walk.write(str(value.dtype), str(value.shape))
    if value.dtype.hasobject:
        walk.add(value.tolist())
    else:
        walk.write(memoryview(np.ascontiguousarray(value).reshape(-1).view(np.uint8)))


def _written(walk: Walk, value) -> None:
    walk.write(repr(value))


# Containers


def _dict(walk: Walk, value) -> None:
    if type(value) not in (dict, collections.OrderedDict, collections.Counter, types.MappingProxyType):
        raise UnsureError(f"a {full_name(type(value))}")
    walk.write(type(value).__name__)
    walk.add_all(value.keys())
    walk.add_all(value.values())


def _sequence(walk: Walk, value) -> None:
    if not isinstance(value, tuple) and type(value) not in (list, collections.deque):
        raise UnsureError(f"a {full_name(type(value))}")
    walk.write(full_name(type(value)) if walk.strict else "")  # a named tuple too
    walk.add_all(value)


def _set(walk: Walk, value) -> None:
    if type(value) not in (set, frozenset):
        raise UnsureError(f"a {full_name(type(value))}")
    options: dict[str, Any] = {"code": walk.code, "strict": walk.strict}
    walk.write(*sorted(fingerprint(item, **options) for item in value))


def _path(walk: Walk, value: Path) -> None:
    walk.write(value.name)
    if walk.strict:
        _file(walk, str(value))


def _file(walk: Walk, name: str) -> None:
    """The place, time and size of what text may be the name of; a folder's content is not known."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise UnsureError(f"the folder {name}")
        walk.write(name, f"{status.st_size} {status.st_mtime_ns}")


# Code


def _module(walk: Walk, value: types.ModuleType) -> None:
    where = _origin(walk, value.__name__) or (value.__name__ if is_own(value.__name__) else None)
    if where is None:
        raise UnsureError(f"the module {value.__name__}")
    walk.write(where)


def _origin(walk: Walk, module: str | None) -> str | None:
    """What stands for the code of a module; None where it is to be followed."""
    return f"{module} {own_source()}" if walk.strict and is_own(module) else origin(module)


def _function(walk: Walk, value: types.FunctionType) -> None:
    walk.write(full_name(value))
    if not walk.code:
        return
    walk.add_all(cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType())
    walk.add((value.__defaults__, value.__kwdefaults__, vars(value)))
    if where := _origin(walk, value.__module__):
        return walk.write(where)
    walk.add(value.__code__)
    for name in sorted(_globals_of(walk, value.__code__)):
        found = value.__globals__.get(name, getattr(builtins, name, NotImplemented))
        walk.write(name)
        walk.add(found)


def _globals_of(walk: Walk, code: types.CodeType) -> set[str]:
    """The global names that a piece of code, and those within it, read."""
    names = set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            names.add(step.argval)
        elif step.opname == "IMPORT_NAME" and not (origin(step.argval) or is_own(step.argval)):
            raise UnsureError(f"an import of {step.argval}")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_of(walk, constant)
    return names


def _code(walk: Walk, value: types.CodeType) -> None:
    walk.write(value.co_code, value.co_exceptiontable)
    walk.add((value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_flags))
    walk.add((value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_consts))


def _method(walk: Walk, value: types.MethodType) -> None:
    walk.add(value.__self__)
    walk.add(value.__func__)


def _builtin(walk: Walk, value) -> None:
    """A function written in C, bound to a module or a type; else what it is bound to is an object of its own."""
    owner = getattr(value, "__self__", None)
    walk.write(full_name(value))
    if owner is not None and not isinstance(owner, types.ModuleType | type):
        walk.add(owner)


def _wrapped(walk: Walk, value) -> None:
    walk.add(value.__func__ if isinstance(value, classmethod | staticmethod) else value.__wrapped__)


def _property(walk: Walk, value: property | functools.cached_property) -> None:
    walk.add((value.fget, value.fset, value.fdel) if isinstance(value, property) else value.func)


def _class(walk: Walk, value: type) -> None:
    walk.write(full_name(value))
    if not walk.code:
        return
    if where := _origin(walk, value.__module__):
        return walk.write(where)
    walk.add_all(value.__bases__)
    walk.add({name: part for name, part in vars(value).items() if name not in FORMAL})


# Objects


def _nn_module(walk: Walk, value: nn.Module) -> None:
    """Not its mode, which training sets."""
    walk.add(type(value))
    parts = {name: content for name, content in vars(value).items() if name not in LAZY.get(type(value).__name__, ())}
    if any("hook" in name and content for name, content in parts.items()):
        raise UnsureError("a module with hooks")
    for name in ("_parameters", "_buffers", "_modules"):
        walk.add(dict(parts.pop(name)))
    walk.add({name: content for name, content in parts.items() if name != "training" and "hook" not in name})


def _loader(walk: Walk, value: DataLoader) -> None:
    if type(value) is not DataLoader or value.persistent_workers or value.multiprocessing_context is not None:
        raise UnsureError("a loader of its own kind, or with workers of its own")
    walk.add((value.dataset, value.batch_size, value.drop_last, value.sampler, value.batch_sampler, value.collate_fn))
    walk.add((value.num_workers, value.worker_init_fn, value.pin_memory, value.generator))


def _scheduler(walk: Walk, value: LRScheduler) -> None:
    walk.add(type(value))
    walk.add({name: part for name, part in vars(value).items() if name != "optimizer"})


def _generator(walk: Walk, value) -> None:
    if isinstance(value, torch.Generator):
        walk.add(value.get_state())
    elif isinstance(value, np.random.Generator):
        walk.add(value.bit_generator.state)
    else:
        walk.add(value.getstate() if isinstance(value, random.Random) else value.get_state(legacy=False))


def _object(walk: Walk, value) -> None:
    """An instance of a class written in Python, which is what its dict holds."""
    kind = type(value)
    if kind.__basicsize__ != PLAINEST.__basicsize__ or not hasattr(value, "__dict__"):
        raise UnsureError(f"a {full_name(kind)}")
    walk.add(kind)
    walk.add(vars(value))


Follow = Callable[[Walk, Any], None]
KINDS: list[tuple[type, Follow]] = [
    (Tensor, _tensor),
    (np.ndarray, _array),
    (np.generic, _array),
    *((kind, _written) for kind in (np.dtype, torch.dtype, torch.device, torch.memory_format, range, slice)),
    (re.Pattern, _written),
    *((kind, _dict) for kind in (dict, types.MappingProxyType)),
    *((kind, _sequence) for kind in (list, tuple, collections.deque)),
    *((kind, _set) for kind in (set, frozenset)),
    (Path, _path),
    (enum.Enum, _written),
    (types.ModuleType, _module),
    (types.FunctionType, _function),
    (types.CodeType, _code),
    (types.MethodType, _method),
    *((kind, _builtin) for kind in (types.BuiltinFunctionType, types.MethodWrapperType)),
    *((kind, _builtin) for kind in (types.WrapperDescriptorType, types.MethodDescriptorType, np.ufunc)),
    (functools.partial, lambda walk, value: walk.add((value.func, value.args, value.keywords, vars(value)))),
    *((kind, _wrapped) for kind in (classmethod, staticmethod, functools._lru_cache_wrapper)),
    *((kind, _property) for kind in (property, functools.cached_property)),
    (type, _class),
    (nn.Module, _nn_module),
    (DataLoader, _loader),
    (LRScheduler, _scheduler),
    *((kind, _generator) for kind in (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)),
    (object, _object),
]

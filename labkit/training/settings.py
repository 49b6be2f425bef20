"""What a checkpoint must have in common with the call that goes on from it, in JSON's types.

Some entries cannot always be known: the seed where nobody chose one, the content of data or the code of a loss that
changes while it is used. They are None then, and are not compared.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from labkit.training.arguments import Data
from labkit.training.fingerprint import UnsureError, fingerprint
from labkit.training.random_state import generators, seeds

CONTENT = ("code of the loss", "training data", "validation data")  # digests
# attributes of a schedule, and options of a parameter group, that move on during training
MOVING = {"optimizer", "last_epoch", "_step_count", "_last_lr", "T_cur", "T_i", "_is_initial", "_initial_step"}
SCHEDULED = {"params", "lr", "betas", "momentum"}


def settings(
    model: nn.Module,
    data: Data,
    loss: Callable | None,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    monitor: list[str | None],
    processes: int,
) -> dict[str, Any]:
    """The settings of one call of `fit`."""
    weights = {name: f"{tuple(value.shape)} {value.dtype}" for name, value in model.state_dict().items()}
    moving = SCHEDULED if scheduler is not None else {"params"}
    groups = {
        f"group {number}": {name: repr(value) for name, value in group.items() if name not in moving}
        for number, group in enumerate(optimizer.param_groups)
    }
    return {
        "model": type(model).__name__,
        "weights": weights,
        "loss": None if loss is None else getattr(loss, "__name__", type(loss).__name__),
        "optimizer": type(optimizer).__name__,
        "option": {name: repr(value) for name, value in optimizer.defaults.items()},
        "parameter": groups,
        "scheduler": None if scheduler is None else type(scheduler).__name__,
        "schedule": {} if scheduler is None else _schedule(scheduler),
        "number of batches": data.batches,
        "batch size": getattr(data.train, "batch_size", None),
        "monitor": monitor,
        "number of processes": processes,
        "seed": seeds(data.train, data.validation),
        "language": f"Python {platform.python_version()}, torch {torch.__version__}",
    } | contents(data, loss)


def contents(data: Data, loss: Callable | None) -> dict[str, str | None]:
    """Digests of the data and of the loss's code; None where there is no sure one."""
    known = generators(data.train, data.validation)
    train, validation = (getattr(batches, "dataset", batches) for batches in (data.train, data.validation))
    return {
        "code of the loss": _digest(loss, code=True),
        "training data": _digest(train, known=known),
        "validation data": _digest(validation, known=known),
    }


def settle(settings: dict[str, Any], now: dict[str, str | None]) -> dict[str, Any]:
    """The settings without the digests that have changed by now: a cache that fills, a counter that counts."""
    return settings | {name: value if settings[name] == value else None for name, value in now.items()}


def _digest(value, **options) -> str | None:
    try:
        return fingerprint(value, **options)
    except UnsureError:
        return None


def _schedule(scheduler: LRScheduler) -> dict[str, Any]:
    """What the schedule was made with."""
    return {name: _plainly(value) for name, value in vars(scheduler).items() if name not in MOVING}


def _plainly(value) -> Any:
    """Plain numbers and text as they are written, schedules as their own dict, and of functions the digest."""
    if isinstance(value, LRScheduler):
        return _schedule(value)
    if isinstance(value, list | tuple) and any(isinstance(item, LRScheduler) for item in value):
        return {str(place): _plainly(item) for place, item in enumerate(value)}
    if _is_plain(value):
        return repr(value)
    return _digest(value, code=True)


def _is_plain(value) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for part in [*value, *value.values()])
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def difference(then: dict, now: dict) -> str:
    """The first setting that differs, in words; empty where none does."""
    unsure = {"language", *(CONTENT if then.get("language") != now.get("language") else ())}
    unsure |= {name for name in ("seed", *CONTENT) if then.get(name) is None or now.get(name) is None}
    for name in then | now:
        before, after = then.get(name), now.get(name)
        if before == after or name in unsure:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            return f"{name} {difference(before, after)}"
        if name in CONTENT:
            return f"the {name} of then, got another"
        return f"{name} {before!r}, got {after!r}"
    return ""

"""What `fit` checks before the first step."""

import operator
import os
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import IterableDataset

from labkit.files import user_path
from labkit.training.losses import BatchLoss


@dataclass(frozen=True)
class Data:
    """What is trained on and what is validated on, both with a length."""

    train: Any
    batches: int
    validation: Any


@dataclass(frozen=True)
class Run:
    """What one call of `fit` trains with, once it is checked."""

    model: nn.Module
    data: Data
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    batch_loss: BatchLoss
    validate: Callable | None
    epochs: int
    monitor: str | None
    mode: str | None

    def state(self) -> dict:
        """The state of every part there is."""
        parts = self._parts().items()
        return {name: part.state_dict() for name, part in parts if part is not None}

    def load_state(self, saved: dict) -> None:
        """Put every part back to its state; a scaler that was off has none."""
        for name, part in self._parts().items():
            if part is not None and saved.get(name):
                part.load_state_dict(saved[name])

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}


def check_data(loader: Iterable, validation_loader: Iterable | None) -> Data:
    """Both loaders, once they have batches and know how many."""
    if validation_loader is not None:
        _count_batches("validation_loader", validation_loader)
    return Data(loader, _count_batches("loader", loader), validation_loader)


def _count_batches(name: str, batches: Iterable) -> int:
    """How many batches there are."""
    if isinstance(getattr(batches, "dataset", None), IterableDataset):
        got = type(batches.dataset).__name__  # type: ignore[attr-defined]
        raise ValueError(
            f"{name} must have a dataset with a length, got the IterableDataset {got}; give it __len__ and "
            f"__getitem__, or pass list({name})"
        )
    try:
        count = len(batches) if isinstance(batches, Sized) and not isinstance(batches, Tensor) else None
    except TypeError:  # a DataLoader has a length only if its sampler has
        count = None
    if count is None:
        got = type(batches).__name__
        raise ValueError(
            f"{name} must be a DataLoader or a list of batches, got {got} without a length; wrap it in list(...)"
        )
    if count == 0:
        raise ValueError(f"{name} must have a batch, got none; is the dataset empty, or drop_last with few images?")
    return count


def check_epochs(epochs: int) -> int:
    """The number of epochs as Python's int."""
    try:
        count = 0 if isinstance(epochs, bool) else operator.index(epochs)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"epochs must be a whole number from 1, got {epochs!r}; 1 goes once through the loader")
    return count


def check_functions(model: nn.Module, loss: Callable | None, validate: Callable | None, monitor: str | None) -> None:
    """Refuse what is no module, no function or no name, a class in place of its object for one."""
    for name, value in (("model", model), ("loss", loss), ("validate", validate)):
        fits = isinstance(value, nn.Module) if name == "model" else value is None or callable(value)
        if not fits or isinstance(value, type):
            wanted = "an nn.Module" if name == "model" else "a function, or None"
            got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)[:60]
            cure = f"write {value.__name__}()" if isinstance(value, type) else "write a function's name, without quotes"
            raise ValueError(f"{name} must be {wanted}, got {got}; {cure}")
    if monitor is not None and not isinstance(monitor, str):
        raise ValueError(f"monitor must be the name of a figure, got {monitor!r}; write it between quotes")


def check_mode(mode: str | None) -> None:
    """Refuse another direction than the two there are."""
    if mode not in (None, "min", "max"):
        raise ValueError(f"mode must be 'min', 'max' or None, got {mode!r}; 'min' keeps the lowest")


def check_steps(steps: dict | None) -> None:
    """Refuse what cannot take the losses of this call alone."""
    if steps is not None and (not isinstance(steps, dict) or steps):
        raise ValueError("steps must be an empty dict, got something else; give a new {} to every call")


def check_path(checkpoint) -> Path | None:
    """The checkpoint's path, with ~ as the home folder."""
    if checkpoint is None:
        return None
    try:
        path = user_path(checkpoint)
    except ValueError as error:
        raise ValueError(f"checkpoint must be a file in a folder there is, got {checkpoint!r}: {error}") from None
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, got the folder {path}; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint {path} must be in a folder, got none ({error}); name another place") from None
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"checkpoint {path} must be in a folder that can be written, got another; name another place")
    return path


def find_optimizer(model: nn.Module, optimizer: Optimizer | None, scheduler: LRScheduler | None) -> Optimizer:
    """The optimizer to use, once it fits the model and the scheduler."""
    _check_scheduler(scheduler)
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        got = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__
        raise ValueError(f"optimizer must be one of torch.optim, got {got}; write SGD(model.parameters(), lr=...)")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("model must have a parameter to train, got none; set requires_grad_(True) on a part of it")
    if optimizer is None and scheduler is not None:
        optimizer = scheduler.optimizer
    if optimizer is None:
        return AdamW(trainable, lr=1e-3)
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("scheduler must be made with this optimizer, got another's; make both anew")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if held.isdisjoint(map(id, trainable)):
        raise ValueError("optimizer must hold parameters of this model, got none of them; make it after the model")
    return optimizer


def _check_scheduler(scheduler: LRScheduler | None) -> None:
    """Refuse one that cannot be stepped after every batch."""
    for one in (scheduler, *getattr(scheduler, "_schedulers", ())):
        if isinstance(one, ReduceLROnPlateau):
            raise ValueError(
                "scheduler must move on after every batch, got ReduceLROnPlateau, which waits for a figure; take "
                "OneCycleLR, CosineAnnealingLR or StepLR"
            )
        if one is not None and not isinstance(one, LRScheduler):
            got = type(one).__name__
            raise ValueError(
                f"scheduler must be one of torch.optim.lr_scheduler, got {got}; derive it from LRScheduler"
            )


def check_room(scheduler: LRScheduler | None, batches: int) -> None:
    """Refuse a schedule that ends before the training does.

    Args:
        scheduler: where it stands now.
        batches: still to come.
    """
    if isinstance(scheduler, OneCycleLR) and scheduler.last_epoch + batches > scheduler.total_steps:
        done, needed = scheduler.last_epoch, scheduler.last_epoch + batches
        raise ValueError(
            f"OneCycleLR must have a step for every batch, got total_steps={scheduler.total_steps}, of which {done} "
            f"are made, for {batches} more batches; make it with total_steps={needed} from the start. {ENDLESS}"
        )


ENDLESS = "A one-cycle schedule cannot go on for more epochs than it was made for; StepLR or ConstantLR can"

"""Several processes that train one model together, by accelerate; most trainings are a team of one.

Each process takes its share of the batches, and gradients are averaged. Rank 0 decides, reads and writes.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Team:
    """The processes of one training.

    Without a launcher accelerate's state is not even made: it would outlive the call, and `notebook_launcher`, which
    forks, would hand it to every process as "you are alone".
    """

    def __init__(self, device: torch.device):
        self.rank, self.size, self.device = 0, 1, device
        self.precision: str | None = None
        if not _launched():
            return
        # "no" in training itself: the loop chooses the precision of every step
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        asked = os.environ.get("ACCELERATE_MIXED_PRECISION")  # of `accelerate launch --mixed_precision`
        self.precision = asked if asked in ("bf16", "fp16") else None

    def prepare(self, model: nn.Module, loader: Iterable) -> tuple[nn.Module, Any]:
        """The model as this process trains it, and its share of the batches."""
        if self.size == 1:
            return model, loader
        check_share(loader)
        return self.accelerator.prepare(model, loader)

    def share(self, value):
        """Rank 0's value, in every process."""
        return broadcast_object_list([value])[0] if self.size > 1 else value

    def gather(self, value) -> list:
        """Every process's value, in the order of ranks."""
        return gather_object([value]) if self.size > 1 else [value]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, in every one."""
        return reduce(value, "sum") if self.size > 1 else value

    def align_buffers(self, model: nn.Module) -> None:
        """Give every process rank 0's buffers: the running means of each saw other batches."""
        if self.size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)


def check_share(loader: Iterable) -> None:
    """Refuse a loader whose batches cannot be dealt out.

    Raises:
        ValueError: it is no DataLoader.
    """
    if not isinstance(loader, DataLoader):
        got = type(loader).__name__
        raise ValueError(
            f"in several processes loader must be a DataLoader, got {got}, on all of which each would train; make a "
            "Dataset of it, and write DataLoader(dataset, batch_size=...)"
        )


def first_process() -> bool:
    """Whether this is the process that writes files: rank 0 of several, or the only one.

    Example:
        >>> first_process()
        True
    """
    return int(os.environ.get("RANK", "0")) == 0


def _launched() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or torch.distributed.is_initialized()

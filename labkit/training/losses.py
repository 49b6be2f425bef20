"""The loss of a batch, and the means of an epoch over its samples.

Losses   {"loss": scalar} and, where the model returns a dict of losses, each of these; tensors on the device.
Samples  images of a batch: their mean counts a small last batch for as little as it holds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from accelerate.utils import convert_to_fp32, send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer

from labkit import device as machine
from labkit.training.team import Team

Losses = dict[str, Tensor]
AFRESH = (
    "make the model anew for the next fit, with a new checkpoint file: the old one holds the last epoch that was "
    "whole, and the same call would end the same way from there"
)


@dataclass(frozen=True)
class BatchLoss:
    """How the loss of a batch is computed: called with the network and the batch."""

    loss: Callable | None
    device: torch.device
    precision: str

    def __call__(self, network: nn.Module, batch) -> tuple[Losses, int]:
        """The losses of a batch, and how many samples it has."""
        if not isinstance(batch, tuple | list) or (self.loss is not None and len(batch) != 2):
            form = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
            raise ValueError(f"loader must yield (inputs, targets), got {form}; change the dataset or the collate_fn")
        batch = send_to_device(batch, self.device, non_blocking=self.device.type == "cuda")
        with machine.autocast(self.device, precision=self.precision):
            outputs = network(*batch) if self.loss is None else network(batch[0])
        if self.loss is not None:
            return _scalars({"loss": self.loss(convert_to_fp32(outputs), batch[1])}), count_samples(batch)
        if not isinstance(outputs, dict) or not outputs:
            got = type(outputs).__name__
            raise ValueError(f"with loss=None the model must return a dict of losses, got {got}; give loss= instead")
        if "loss" in outputs:
            raise ValueError("the model must not call one of its losses 'loss', which fit gives: their sum; rename it")
        return _scalars({"loss": sum(outputs.values()), **outputs}), count_samples(batch, detector=True)


def _scalars(losses: dict) -> Losses:
    """The losses, once each is a scalar tensor."""
    for name, value in losses.items():
        if not isinstance(value, Tensor) or value.ndim:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must be a scalar tensor, got {got}; take its mean()")
    return losses


def check_gradient(loss: Tensor) -> None:
    """Refuse a loss that says nothing of the weights.

    Example:
        >>> check_gradient(torch.ones((), requires_grad=True) * 2)
        >>> check_gradient(torch.tensor(1.0))
        Traceback (most recent call last):
        ValueError: the loss must depend on the weights, got a number without a gradient; compute it from the outputs
            with torch alone: no detach(), item(), argmax() or NumPy, no torch.no_grad()
    """
    if not loss.requires_grad:
        raise ValueError(
            "the loss must depend on the weights, got a number without a gradient; compute it from the outputs with "
            "torch alone: no detach(), item(), argmax() or NumPy, no torch.no_grad()"
        )


def count_samples(batch, *, detector: bool = False) -> int:
    """How many samples are in a batch.

    Args:
        batch: (inputs, targets), or what a detector is called with, a list of images first.
        detector: it is the latter.

    Example:
        >>> count_samples((torch.zeros(5, 3), torch.zeros(5)))
        5
        >>> count_samples(([torch.zeros(1, 8, 10), torch.zeros(1, 6, 12)], [{}, {}]), detector=True)
        2
    """
    if detector:
        return len(batch[0]) if isinstance(batch[0], list | tuple | Tensor) else 1
    for part in batch:
        if isinstance(part, Tensor) and part.ndim:
            return len(part)
    for part in batch:
        if isinstance(part, dict) and part:
            return count_samples(list(part.values()))
    lists = [part for part in batch if isinstance(part, list | tuple) and part]
    items = [item for part in lists for item in part]
    lengths = {len(item) if isinstance(item, Tensor) and item.ndim else None for item in items}
    if len(lengths) == 1 and None not in lengths:  # several inputs, each a tensor of the whole batch
        return lengths.pop() or 1
    return len(lists[0]) if lists else 1  # an item a sample


@dataclass
class Tally:
    """Sums over the steps of an epoch, kept on the device: no step waits for it."""

    device: torch.device
    record: bool = False  # also keep the losses of every step
    steps: int = 0
    samples: int = 0
    sums: Losses = field(default_factory=dict)
    each: list[Losses] = field(default_factory=list)
    finite: Tensor = field(init=False)  # how many steps the sum stayed finite

    def __post_init__(self):
        self.finite = torch.zeros((), device=self.device)

    def add(self, losses: Losses, samples: int) -> None:
        """Count one batch in."""
        losses = {name: value.detach().float() for name, value in losses.items()}
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value * samples
        self.finite += self.sums["loss"].isfinite()
        self.steps += 1
        self.samples += samples
        if self.record:
            self.each.append(losses)

    def mean(self, epoch: int) -> float:
        """The mean loss of this process's samples so far; waits for the device."""
        total, finite = torch.stack([self.sums["loss"], self.finite]).tolist()
        _check_finite(total, int(finite), epoch)
        return total / max(self.samples, 1)

    def means(self, epoch: int, team: Team) -> dict[str, float]:
        """The mean of each loss over the samples of all processes; waits for the device.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        names = list(dict.fromkeys(name for names in team.gather(list(self.sums)) for name in names))
        zero = torch.zeros((), device=self.device)
        sums = [self.sums.get(name, zero) for name in names]
        *totals, samples, finite = team.sum(torch.stack([*sums, zero + self.samples, self.finite])).tolist()
        _check_finite(totals[0], int(finite) // team.size, epoch)
        return {name: total / max(samples, 1) for name, total in zip(names, totals, strict=True)}

    def write_steps(self, steps: dict[str, list[float]]) -> None:
        """Append the losses of every step, one list a name; nan where a batch has none of that name."""
        nan = torch.full((), math.nan, device=self.device)
        for name in self.sums:
            values = torch.stack([losses.get(name, nan) for losses in self.each]).tolist()
            steps.setdefault(name, []).extend(values)


def _check_finite(total: float, finite_steps: int, epoch: int) -> None:
    """Stop where the sum of the losses is not finite."""
    if not math.isfinite(total):
        raise FloatingPointError(
            f"the loss must stay finite, got {total} in epoch {epoch}, step {finite_steps + 1}; try a lower learning "
            f"rate, look for NaN in that batch, or precision='fp32'; {AFRESH}"
        )


def check_weights(model: nn.Module, optimizer: Optimizer, usable: Tensor, epoch: int) -> None:
    """Stop where an epoch left weights that are no numbers, though every loss was finite; waits for the device.

    Args:
        model: trained.
        optimizer: its running means can be lost alone, and the weights then never move again.
        usable: `finite_weights` before training: a mask of -inf is meant so.
        epoch: that ended.

    Raises:
        FloatingPointError: a weight, a buffer or the optimizer's state is no longer finite.
    """
    states = [value for state in optimizer.state.values() for value in state.values() if _is_float(value)]
    names = [name for name, value in model.state_dict().items() if _is_float(value)]
    names += ["the optimizer's state"] * len(states)
    before = torch.cat([usable, torch.ones(len(states), dtype=torch.bool, device=usable.device)])
    lost = before & ~torch.cat([finite_weights(model), _finite(states, usable.device)])
    gone = [name for name, is_lost in zip(names, lost.tolist(), strict=True) if is_lost]
    if gone:
        raise FloatingPointError(
            f"the weights must stay finite, got inf or nan in {gone[0]} after epoch {epoch}: the loss was finite, a "
            "gradient was not; try a lower learning rate, or a loss whose slope is finite (a root has none at 0); "
            + AFRESH
        )


def finite_weights(model: nn.Module) -> Tensor:
    """(N,) bool: which of the model's N weights and buffers hold finite numbers alone; does not wait."""
    values = [value for value in model.state_dict().values() if _is_float(value)]
    return _finite(values, values[0].device)


def _finite(values: list[Tensor], device: torch.device) -> Tensor:
    """(N,) bool, one for each tensor."""
    flags = [value.isfinite().all().to(device) for value in values]
    return torch.stack(flags) if flags else torch.zeros(0, dtype=torch.bool, device=device)


def _is_float(value) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

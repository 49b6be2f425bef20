"""Training: one loop for every network of the course, with checkpoints that resume to the same result.

Batch        (inputs, targets), each a tensor or nested lists and dicts of tensors; they are moved to the device.
History      {"loss": [mean of each epoch], and one list for every validation figure}, floats.
Checkpoint   one safetensors file: "model/…" holds the last weights, "best/weights/…" the best, "record" all that is
             no tensor, as JSON; its header a SHA-256 of the whole. Nothing is ever pickled.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import random
import time
import warnings
from collections.abc import Callable, Iterable, Sized
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list, convert_to_fp32, gather_object, reduce, send_to_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from labkit import device as machine

FORMAT = "labkit fit 1, sha256"  # the one key of the header's metadata; its value is the file's digest
DIGEST_KEY = f'"{FORMAT}":"'.encode()
NO_DIGEST = b"0" * 64  # stands there while the digest is computed
FIRST_SCALE = 2.0**10  # of fp16 gradients: with torch's 2**16 the first steps overflow, and short trainings miss them
LOOK_EVERY = 0.5  # seconds between looks at the loss: each makes a GPU finish what it was given

History = dict[str, list[float]]


def fit(
    model: nn.Module,
    loader: Iterable,
    *,
    epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor] | None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    validation_loader: Iterable | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> History:
    """The history of a training that leaves `model` on the device, in eval mode, with its best weights.

    Best are the weights of the epoch with the best `monitor`: "val_loss" where there is a `validation_loader`, else the
    first figure that `validate` returns. Lowest is best for names that hold "loss" or "error", highest for others.
    Without validation the last weights stay.

    The same call runs in several processes under torchrun, `accelerate launch` or `notebook_launcher`: each takes its
    share of the batches, gradients are averaged, and a scheduler moves on as if one process had seen every batch.

    Args:
        model: called as `model(inputs)`; with loss=None as `model(*batch)`, torchvision's form for detectors.
        loader: a DataLoader, or any sized collection of batches.
        epochs: how often to go through the loader, those of the checkpoint included.
        loss: `loss(outputs, targets)` -> scalar; None sums the dict of losses that the model returns in train mode.
        optimizer: over the model's parameters; None means the scheduler's, or AdamW with lr=1e-3.
        scheduler: stepped after every batch.
        device: None takes the one from `pick_device`.
        precision: "bf16", "fp16" or "fp32"; None takes the checkpoint's, else that of `labkit.device.precision`.
        validate: called with the model after every epoch, in eval mode and without gradients; returns figures.
        validation_loader: batches for the "val_loss" of every epoch.
        monitor: the figure that says which weights are best.
        mode: "min" or "max", where the name of `monitor` does not tell.
        checkpoint: a file, written after every epoch. The same call after an interruption goes on from it and, on a
            CPU, ends with the same weights to the bit; a finished training returns at once. What random
            augmentation draws from torch, NumPy or Python, or from a `generator` of the loader, its sampler
            or its dataset, resumes too; generators elsewhere and persistent workers start anew.
        progress: show the bar.

    Raises:
        ValueError: an argument, a batch or the loss has the wrong form; the checkpoint is of another training.
        FloatingPointError: the loss is not finite. The checkpoint keeps the last whole epoch.
        OSError: the checkpoint cannot be written. The one before is whole.

    Example:
        >>> batches = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [6.0]]))]
        >>> model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> history = fit(
        ...     model, batches, epochs=20, loss=nn.functional.mse_loss, optimizer=optimizer, progress=False
        ... )
        >>> len(history["loss"]), round(model.weight.item(), 1)
        (20, 3.0)
    """
    batches = _check(model, loader, epochs, mode, validation_loader)
    rank, processes, device = _team(machine.pick_device(device))
    model.to(device)
    if isinstance(loss, nn.Module):
        loss.to(device)  # the weights of its classes, for example
    optimizer = _find_optimizer(model, optimizer, scheduler)
    settings = _settings(model, loader, loss, optimizer, scheduler, [monitor, mode], processes)

    path = None if checkpoint is None else Path(checkpoint)
    saved = _share(_read(path, settings) if path and rank == 0 else None, processes)
    if precision is None and saved and saved["device"] == device.type:
        precision = saved["precision"]
    precision = _share(precision or machine.precision(device), processes)
    scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=precision == "fp16")

    network, own_batches = model, loader
    if processes > 1:
        network = DistributedDataParallel(model, device_ids=None if device.type == "cpu" else [device.index])
        own_batches = _own_batches(loader, rank, processes)
    batch_loss = functools.partial(_batch_loss, loss=loss, device=device, precision=precision)

    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    history, best = {}, {"value": None, "weights": None}
    if saved:
        _restore(parts, saved)
        history, best = saved["history"], saved["best"]
        _set_random_state(saved["random"][rank], device, loader, validation_loader)

    done, steps = len(history.get("loss", ())), len(own_batches)
    with tqdm(
        total=max(epochs, done) * steps,
        initial=done * steps,
        unit="batch",
        disable=not progress or rank > 0,
    ) as bar:
        for epoch in range(done + 1, epochs + 1):
            bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
            network.train()
            tally = torch.zeros(2, device=device)  # the sum of the losses; how many steps it stayed finite
            looked = time.monotonic()
            for step, batch in enumerate(own_batches, start=1):
                optimizer.zero_grad()
                value = batch_loss(network, batch)
                scaler.scale(value).backward()  # with bf16 and fp32 the scaler passes everything through
                _step(optimizer, scaler, scheduler, min(processes, batches - (step - 1) * processes))
                tally[0] += value.detach()
                tally[1] += tally[0].isfinite()
                bar.update()
                if time.monotonic() - looked > LOOK_EVERY:
                    bar.set_postfix(loss=f"{_mean_loss(tally, step, epoch):.4g}")
                    looked = time.monotonic()
            if processes > 1:
                tally = reduce(tally, "mean")
                _align_buffers(model)
            figures = {"loss": _mean_loss(tally, step, epoch)}
            figures |= _share(_validation(model, validate, validation_loader, batch_loss), processes)
            bar.set_postfix({name: f"{figure:.4g}" for name, figure in figures.items()})
            history = _extended(history, figures)
            best = _better(best, model, figures, monitor, mode)
            if path:
                record = {"settings": settings, "device": device.type, "precision": precision}
                record |= {"history": history, "best": best} | _states(parts)
                record["random"] = _gather(_random_state(device, loader, validation_loader), processes)
                if rank == 0:
                    _write(path, record, epoch)
    if best["weights"] is not None:
        model.load_state_dict(best["weights"])
    model.eval()
    return history


# The pieces of the loop


def _batch_loss(network: nn.Module, batch, *, loss: Callable | None, device: torch.device, precision: str) -> Tensor:
    """The loss of one batch, a scalar on the device."""
    if not isinstance(batch, tuple | list) or (loss is not None and len(batch) != 2):
        form = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"loader must yield (inputs, targets), got {form}; change the dataset or the collate_fn")
    batch = send_to_device(batch, device, non_blocking=device.type == "cuda")
    with machine.autocast(device, precision=precision):
        outputs = network(*batch) if loss is None else network(batch[0])
    if loss is not None:
        value = loss(convert_to_fp32(outputs), batch[1])
    elif isinstance(outputs, dict) and outputs:
        value = sum(outputs.values())
    else:
        got = type(outputs).__name__
        raise ValueError(f"with loss=None the model must return a dict of losses, got {got}; give loss= instead")
    if not isinstance(value, Tensor) or value.ndim:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss must be a scalar tensor, got {got}; take its mean()")
    return value


def _step(optimizer: Optimizer, scaler: torch.amp.GradScaler, scheduler: LRScheduler | None, batches: int) -> None:
    """One step of the optimizer; the scheduler moves on by the batches that all processes took together."""
    scaler.step(optimizer)
    scale = scaler.get_scale()
    scaler.update()
    if scheduler is not None and scaler.get_scale() >= scale:  # a smaller scale: fp16 overflowed, no step was made
        for _ in range(batches):
            scheduler.step()


def _mean_loss(tally: Tensor, steps: int, epoch: int) -> float:
    """The mean loss of the steps so far; waits for the device.

    Raises:
        FloatingPointError: it is not finite.
    """
    total, finite_steps = tally.tolist()
    if not math.isfinite(total):
        raise FloatingPointError(
            f"the loss must stay finite, got {total} in epoch {epoch}, step {int(finite_steps) + 1}; try a lower "
            "learning rate, look for NaN in that batch, or precision='fp32'; make the model anew before the next "
            "fit, or go on from the checkpoint, which holds the epoch before"
        )
    return total / steps


def _validation(
    model: nn.Module, validate: Callable | None, loader: Iterable | None, batch_loss: Callable
) -> dict[str, float]:
    """The figures of one epoch on data that is not trained on."""
    figures = {}
    with torch.no_grad():
        if loader is not None:
            _set_mode_for_validation(model, detector=batch_loss.keywords["loss"] is None)
            figures["val_loss"] = torch.stack([batch_loss(model, batch) for batch in loader]).mean().item()
        model.eval()
        more = {} if validate is None else validate(model)
    try:
        more = {str(name): float(figure) for name, figure in more.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"validate must return a dict of figures, got {more!r}; return {{'name': number}}") from None
    if taken := more.keys() & (figures.keys() | {"loss"}):
        raise ValueError(f"validate must name its own figures, got {taken.pop()!r}, which fit gives; rename it")
    return figures | more


def _set_mode_for_validation(model: nn.Module, *, detector: bool) -> None:
    """Eval mode; a detector gives losses in train mode alone, so of it only normalisation and dropout are set."""
    model.train(detector)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()


def _extended(history: History, figures: dict[str, float]) -> History:
    """The history with one more epoch."""
    if history and history.keys() != figures.keys():
        raise ValueError(
            f"validation must give the same figures every epoch, first {sorted(history)}, got {sorted(figures)}; "
            "nan stands for one that has no value"
        )
    return {name: [*history.get(name, ()), figure] for name, figure in figures.items()}


def _better(best: dict, model: nn.Module, figures: dict[str, float], monitor: str | None, mode: str | None) -> dict:
    """What is best after this epoch: the monitored value and a copy of the weights."""
    names = [name for name in figures if name != "loss"]
    if monitor is None and not names:
        return best
    monitor = names[0] if monitor is None else monitor
    if monitor not in figures:
        raise ValueError(f"monitor must be one of {', '.join(figures)}, got {monitor!r}; or leave it out")
    value = figures[monitor]
    sign = 1 if (mode or ("min" if "loss" in monitor or "error" in monitor else "max")) == "min" else -1
    if math.isnan(value) or (best["value"] is not None and sign * value >= sign * best["value"]):
        return best
    return {"value": value, "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()}}


# What is checked before the first step


def _check(model: nn.Module, loader: Iterable, epochs: int, mode: str | None, validation_loader) -> int:
    """How many batches the loader has, once the arguments make sense."""
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be a whole number from 1, got {epochs!r}; 1 goes once through the loader")
    if mode not in (None, "min", "max"):
        raise ValueError(f"mode must be 'min', 'max' or None, got {mode!r}; 'min' keeps the lowest")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have a parameter to train, got none; set requires_grad_(True) on a part of it")
    for name, batches in {"loader": loader, "validation_loader": validation_loader}.items():
        if batches is None and name == "validation_loader":
            continue
        if not isinstance(batches, Sized) or isinstance(batches, Tensor):
            got = type(batches).__name__
            raise ValueError(f"{name} must be a DataLoader or a list of batches, got {got}; wrap it in list(...)")
        if len(batches) == 0:
            raise ValueError(f"{name} must have a batch, got none; is the dataset empty, or drop_last with few images?")
    return len(loader)


def _find_optimizer(model: nn.Module, optimizer: Optimizer | None, scheduler: LRScheduler | None) -> Optimizer:
    """The optimizer to use, once it fits the model and the scheduler."""
    if optimizer is None and scheduler is not None:
        optimizer = scheduler.optimizer
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if optimizer is None:
        return AdamW(trainable, lr=1e-3)
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("scheduler must be made with this optimizer, got another's; make both anew")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if held.isdisjoint(map(id, trainable)):
        raise ValueError("optimizer must hold parameters of this model, got none of them; make it after the model")
    return optimizer


def _settings(
    model: nn.Module,
    loader: Iterable,
    loss: Callable | None,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    monitor: list,
    processes: int,
) -> dict:
    """What a checkpoint must have in common with the call that goes on from it, in JSON's types."""
    weights = {name: f"{tuple(value.shape)} {value.dtype}" for name, value in model.state_dict().items()}
    return {
        "model": type(model).__name__,
        "weights": weights,
        "loss": None if loss is None else getattr(loss, "__name__", type(loss).__name__),
        "optimizer": type(optimizer).__name__,
        "option": {name: repr(value) for name, value in optimizer.defaults.items()},
        "scheduler": None if scheduler is None else type(scheduler).__name__,
        "number of batches": len(loader),
        "batch size": getattr(loader, "batch_size", None),
        "monitor": monitor,
        "number of processes": processes,
    }


def _difference(then: dict, now: dict) -> str:
    """The first setting that differs, in words; empty where none does."""
    for name in then | now:
        before, after = then.get(name), now.get(name)
        if before != after and isinstance(before, dict) and isinstance(after, dict):
            return f"{name} {_difference(before, after)}"
        if before != after:
            return f"{name} {before!r}, got {after!r}"
    return ""


# Several processes: one has rank 0 and a team of one needs nothing of this


def _team(device: torch.device) -> tuple[int, int, torch.device]:
    """This process's rank, how many there are, and the device of this one.

    Without a launcher accelerate's state is not even made: it would outlive the call, and `notebook_launcher`, which
    forks, would hand it to every process as "you are alone".
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not torch.distributed.is_initialized():
        return 0, 1, device
    team = Accelerator(cpu=device.type == "cpu")
    return team.process_index, team.num_processes, team.device


def _own_batches(loader: Iterable, rank: int, processes: int) -> DataLoader:
    """This process's share of the loader's batches."""
    if not isinstance(loader, DataLoader):
        got = type(loader).__name__
        raise ValueError(f"in several processes loader must be a DataLoader, got {got}; else each trains on everything")
    return prepare_data_loader(
        loader, num_processes=processes, process_index=rank, put_on_device=False, rng_types=["generator"]
    )


def _share(value, processes: int):
    """Rank 0's value, in every process."""
    return broadcast_object_list([value])[0] if processes > 1 else value


def _gather(value, processes: int) -> list:
    """Every process's value, in the order of ranks."""
    return gather_object([value]) if processes > 1 else [value]


def _align_buffers(model: nn.Module) -> None:
    """Give every process rank 0's buffers: the running means of each saw other batches."""
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, src=0)


# What else must resume: random numbers and the states of the parts


def _generators(*loaders) -> list[torch.Generator]:
    """The random generators that the loaders keep, each once."""
    found = {}
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        owners = (loader, batch_sampler, getattr(batch_sampler, "sampler", None))
        for owner in (*owners, getattr(loader, "sampler", None), getattr(loader, "dataset", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def _random_state(device: torch.device, *loaders) -> dict:
    """Where every generator of random numbers stands in this process."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what augmentation draws from
    key = numpy_state["state"]["key"].tolist()
    gpu = {}
    if device.type != "cpu":
        which = () if device.type == "mps" else (device,)  # there is but one mps device
        gpu = {device.type: torch.get_device_module(device).get_rng_state(*which)}
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": key}},
        "gpu": gpu,
        "generators": [generator.get_state() for generator in _generators(*loaders)],
    }


def _set_random_state(state: dict, device: torch.device, *loaders) -> None:
    """Put every generator back to where it stood."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state(state["numpy"] | {"state": state["numpy"]["state"] | {"key": key}})  # noqa: NPY002
    if device.type in state["gpu"]:
        which = () if device.type == "mps" else (device,)
        torch.get_device_module(device).set_rng_state(state["gpu"][device.type], *which)
    for generator, own in zip(_generators(*loaders), state["generators"], strict=False):
        generator.set_state(own)


def _states(parts: dict) -> dict:
    """The state of every part there is."""
    return {name: part.state_dict() for name, part in parts.items() if part is not None}


def _restore(parts: dict, saved: dict) -> None:
    """Load every part's state; a scaler that was off has none."""
    for name, part in parts.items():
        if part is not None and saved.get(name):
            part.load_state_dict(saved[name])


# The file


def _write(path: Path, record: dict, epoch: int) -> None:
    """Put the record into the file in one move: whoever reads sees the old file or the new one, whole.

    Raises:
        OSError: it cannot be written, the disk is full for example; the old file stays.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(record, tensors, ""))
    tensors["record"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    data = safetensors.torch.save(tensors, {FORMAT: NO_DIGEST.decode()})
    start = data.index(DIGEST_KEY) + len(DIGEST_KEY)
    unfinished = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            _write_pieces(file, data[:start], _digest(data, start), memoryview(data)[start + len(NO_DIGEST) :])
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        kept = f"{path} still holds epoch {epoch - 1}" if path.exists() else "no earlier epoch is kept"
        raise OSError(
            error.errno,
            f"checkpoint {path} of epoch {epoch} could not be written ({error.strerror or error}), {kept}; make "
            f"{len(data) / 2**20:.1f} MiB free there or name another place, then call fit again to go on",
        ) from error


def _write_pieces(file, *pieces) -> None:
    """Write the pieces and wait until the disk has them."""
    for piece in pieces:
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path, settings: dict) -> dict | None:
    """The record in the file, or None where training starts anew: no file, or a damaged one, which is moved aside.

    Raises:
        ValueError: the file is something else, or the checkpoint of another training.
    """
    if not path.exists():
        return None
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, got the folder {path}; name a file in it")
    data = path.read_bytes()
    if data and DIGEST_KEY not in data[:100]:
        raise ValueError(f"checkpoint {path} must be a file that fit wrote, got another; choose another name")
    start = data.find(DIGEST_KEY) + len(DIGEST_KEY)
    if not data or data[start : start + len(NO_DIGEST)] != _digest(data, start):
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        warnings.warn(f"checkpoint {path} is damaged: moved to {aside}, training starts anew", stacklevel=3)
        return None
    tensors = safetensors.torch.load(data)
    saved = _unpack(json.loads(tensors["record"].numpy().tobytes()), tensors)
    if difference := _difference(saved["settings"], settings):
        raise ValueError(
            f"checkpoint {path} is of another training: expected {difference}; name another file, or remove this one"
        )
    return saved


def _digest(data: bytes, start: int) -> bytes:
    """SHA-256 of the file, in hexadecimal, with the digest that stands at `start` counted as zeros."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(NO_DIGEST)
    digest.update(view[start + len(NO_DIGEST) :])
    return digest.hexdigest().encode()


def _pack(value, tensors: dict[str, Tensor], name: str):
    """The value in JSON's types; its tensors go to `tensors` under their path, and leave that path behind."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()  # a copy: safetensors refuses shared memory
        return {"tensor": name}
    if isinstance(value, dict):
        keys = [key if isinstance(key, str | int) else _refuse(key, name) for key in value]
        return {"dict": [[key, _pack(value[key], tensors, f"{name}/{key}".lstrip("/"))] for key in keys]}
    if isinstance(value, tuple | list):
        items = [_pack(item, tensors, f"{name}/{place}") for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _refuse(value, name)


def _refuse(value, name: str):
    """Say which part of a state cannot be stored."""
    raise ValueError(
        f"{name} must hold numbers, text, tensors, lists or dicts for a checkpoint, got {type(value).__name__}; train "
        "without checkpoint="
    )


def _unpack(value, tensors: dict[str, Tensor]):
    """The inverse of `_pack`."""
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in content)
    return {key: _unpack(item, tensors) for key, item in content}

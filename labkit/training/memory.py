"""Trainings that need not be repeated: for the project's own tests, which run the same ones again and again.

Where the environment variable LABKIT_FIT_MEMORY names a folder, a finished `fit` without a checkpoint is remembered
there, and the very same call, whenever it comes again, takes its result from the file: weights, buffers, the states of
optimizer and schedule, history, and where the generators of random numbers then stand, all to the bit.

The same call has the same SHA-256 of everything its result hangs on: the state it starts from, data, code, generators,
libraries, machine. Where one of these cannot be told surely, or training changed more than what is remembered (a
counter of `validate`, say), the call trains as ever and is not remembered. What `validate` prints is not printed again.
"""

import contextlib
import os
import platform
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules import module as nn_module

from labkit.files import write_whole
from labkit.training.arguments import Run
from labkit.training.checkpoint import seal, unseal
from labkit.training.fingerprint import LAZY, UnsureError, fingerprint
from labkit.training.random_state import generators, random_state, set_random_state

VARIABLE = "LABKIT_FIT_MEMORY"
Record = dict[str, list[float]]


class Memory:
    """What is remembered of one call: asked before it trains, told afterwards. Without the variable it does nothing."""

    def __init__(self, run: Run, *, record_steps: bool):
        self.run, self.path = run, None
        folder = os.environ.get(VARIABLE)
        if not folder:
            return
        with contextlib.suppress(UnsureError):
            self.surroundings = _surroundings(run)
            key = fingerprint(self.surroundings, _start(run), record_steps, strict=True)
            self.path = Path(folder) / f"{key}.safetensors"

    path: Path | None

    def recall(self) -> tuple[Record, Record] | None:
        """The history and the losses of every step, once all is as training would leave it; None: it must train."""
        data = self.path.read_bytes() if self.path and self.path.is_file() else b""
        saved = unseal(data)
        if saved is None:
            return None
        with torch.no_grad():
            for name, value in _tensors(self.run).items():
                value.copy_(saved["tensors"][name])
        self.run.load_state({name: saved[name] for name in ("optimizer", "scheduler", "scaler") if name in saved})
        set_random_state(saved["random"], self.run.batch_loss.device, self.run.data.train, self.run.data.validation)
        return saved["history"], saved["steps"]

    def remember(self, history: Record, steps: Record) -> None:
        """Write down what training has led to, unless it has changed more than that."""
        if self.path is None:
            return
        with contextlib.suppress(UnsureError, ValueError, OSError):  # a state that cannot be stored, a full disk
            if _surroundings(self.run) != self.surroundings:
                return
            state = self.run.state() | {"model": None, "tensors": _tensors(self.run)}
            write_whole(self.path, *seal(state | {"history": history, "steps": steps, "random": _random(self.run)}))


def _tensors(run: Run) -> dict[str, Tensor]:
    """Every weight and buffer, those that a state_dict leaves out too."""
    return dict(run.model.named_parameters()) | dict(run.model.named_buffers())


def _random(run: Run) -> dict:
    return random_state(run.batch_loss.device, run.data.train, run.data.validation)


def _start(run: Run) -> str:
    """A digest of what training will change."""
    state = run.state() | {"model": None}
    lazy = [vars(part).get(name) for part in run.model.modules() for names in LAZY.values() for name in names]
    return fingerprint(_tensors(run), state, run.scheduler, _random(run), lazy, code=True, strict=True)


def _surroundings(run: Run) -> str:
    """A digest of what training only reads: data, code, libraries, machine.

    Raises:
        UnsureError: not all of it can be told.
    """
    if any(vars(nn_module)[name] for name in vars(nn_module) if name.startswith("_global_") and "hooks" in name):
        raise UnsureError("hooks on every module")
    optimizer, loss = run.optimizer, run.batch_loss
    names = {id(value): name for name, value in run.model.named_parameters()}
    groups = [[names.get(id(value)) for value in group["params"]] for group in optimizer.param_groups]
    if any(None in group for group in groups):
        raise UnsureError("a weight that is not the model's")
    step = vars(optimizer).get("step")  # a scheduler of torch puts a counter around it
    if any("hook" in name and content for name, content in vars(optimizer).items()) or not (
        step is None or hasattr(step, "_wrapped_by_lr_sched")
    ):
        raise UnsureError("an optimizer with hooks")
    known = [*_tensors(run).values(), *generators(run.data.train, run.data.validation)]
    read = [run.model, run.data.train, run.data.validation, loss.loss, run.validate, type(optimizer)]
    numbers = [groups, run.epochs, run.monitor, run.mode, str(loss.device), loss.precision, _machine()]
    return fingerprint(*read, *numbers, code=True, strict=True, known=known)


def _machine() -> list:
    """What decides how numbers are rounded."""
    return [
        f"{platform.platform()} {platform.processor()} {os.cpu_count()} {platform.python_version()}",
        f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()} {os.environ.get('ONEDNN_MAX_CPU_ISA')}",
        f"{torch.get_num_threads()} threads, {torch.get_default_dtype()}, {torch.is_inference_mode_enabled()}",
        f"{torch.are_deterministic_algorithms_enabled()} {torch.backends.mkldnn.enabled}",
        f"{torch.get_float32_matmul_precision()} {torch.is_autocast_enabled('cpu')}",
    ]

"""The doctor: what the lab finds on this machine, and what is wrong with it, each with its cure."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from labkit import device as machine

ENOUGH_SPACE = 2 * 2**30  # bytes: the largest archive of the course unpacked, and room for checkpoints


def main() -> int:
    """Print the report; 0 where nothing is wrong, else 1."""
    text, troubles = _examine()
    print(text)
    return 1 if troubles else 0


def report() -> str:
    """The machine, its measured speed, where the data is, and last what is wrong, if anything.

    Example:
        >>> print(report())
        machine ...
    """
    return _examine()[0]


def conv_throughput(device: torch.device, *, precision: str, seconds: float = 0.3) -> float:
    """GFLOP/s of a 3x3 convolution on this device, a multiplication and its addition counted as two operations.

    It maps 64 to 64 channels on 8 images of 64x64; the fastest of the runs that fit into the time counts.

    Args:
        device: where to compute.
        precision: "bf16", "fp16" or "fp32".
        seconds: how long to measure.

    Example:
        >>> conv_throughput(torch.device("cpu"), precision="fp32", seconds=0.05) > 0
        True
    """
    images = torch.ones(8, 64, 64, 64, device=device)
    weights = torch.ones(64, 64, 3, 3, device=device)
    operations = 2 * images.numel() * weights[0].numel()
    wait = torch.get_device_module(device).synchronize
    taken: list[float] = []
    with torch.no_grad(), machine.autocast(device, precision=precision):
        while len(taken) < 4 or sum(taken) < seconds:  # the first run warms up and is not the fastest
            start = time.perf_counter()
            torch.nn.functional.conv2d(images, weights, padding=1)
            wait()
            taken.append(time.perf_counter() - start)
    return operations / min(taken) / 1e9


def _examine() -> tuple[str, list[str]]:
    """The report, and the sentences in it that say what is wrong."""
    lines, troubles = [], []
    for name, look in _LOOKS.items():
        try:
            found = look()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            found = "wrong, see below"
            troubles.append(f"{name}: {error}")
        lines.append(found if name == "machine" else f"{name:<12} {found}")
    lines += ["", *(["what is wrong", *(f"- {trouble}" for trouble in troubles)] if troubles else ["nothing is wrong"])]
    return "\n".join(lines), troubles


def _pair() -> str:
    """Whether torch and torchvision belong together."""
    machine.check_torchvision()
    return "fits torch"


def _speed() -> str:
    """Convolutions in fp32 and in the precision the lab trains in, and how to choose another."""
    device = machine.pick_device()
    names = dict.fromkeys(["fp32", machine.precision(device)])
    measured = ", ".join(f"{conv_throughput(device, precision=name):,.0f} GFLOP/s in {name}" for name in names)
    return f"{measured}; training uses {[*names][-1]}, LABKIT_PRECISION overrides"


def _data() -> str:
    """Where downloaded data is kept, and the space left there."""
    from labkit.datasets.cache import cache_dir

    folder = cache_dir()
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            f"{folder} must be a folder that can be written, and {there} is not ({error.strerror}), so data is made "
            "anew or fetched again each time; free the place, or set LABKIT_CACHE to a folder you can write to"
        ) from None
    free = shutil.disk_usage(there).free
    if free < ENOUGH_SPACE:
        raise OSError(
            f"{folder} must have {ENOUGH_SPACE / 2**30:.0f} GiB free for data and checkpoints, got "
            f"{free / 2**30:.1f} GiB; empty some of it, or set LABKIT_CACHE to a folder on a larger disk"
        )
    return f"{folder}, {free / 2**30:.0f} GiB free"


def _jupyterlab() -> str:
    """JupyterLab's version."""
    try:
        return importlib.metadata.version("jupyterlab")
    except importlib.metadata.PackageNotFoundError:
        command = f'"{sys.executable}" -m pip install -e ".[lab]"'
        raise ImportError(f"not installed, so notebooks cannot be opened; run: {command}") from None


_LOOKS: dict[str, Callable[[], str]] = {
    "machine": machine.describe,
    "torchvision": _pair,
    "speed": _speed,
    "data": _data,
    "jupyterlab": _jupyterlab,
}

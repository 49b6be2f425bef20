"""Which device, which precision, which seed: what the lab asks of the machine it runs on.

Precision   one word: "bf16", "fp16" or "fp32". Matrix products and convolutions are computed in it;
            weights, losses and everything else stay fp32. It follows from what the device is, never from a
            stopwatch, so that the same machine gives the same numbers every day. LABKIT_PRECISION overrides it.
"""

import contextlib
import functools
import importlib.metadata
import os
import platform
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch

DEVICES = ("cuda", "xpu", "mps", "cpu")  # in the order they are tried
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# A CPU's units for bf16, the faster first: convolutions train 2.8 to 3.6 and 1.7 to 1.9 times as fast as in fp32.
BF16_UNITS = ("amx_bf16", "avx512_bf16")


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device to work on: the one named, or the one in LABKIT_DEVICE, or the fastest there is.

    Args:
        name: such as "cpu" or "cuda:1"; None asks the environment variable LABKIT_DEVICE, then tries cuda,
            xpu, mps, cpu.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    source = "device" if name is not None else "LABKIT_DEVICE"
    name = name if name is not None else os.environ.get("LABKIT_DEVICE") or None
    if name is None:
        return torch.device(next(kind for kind in DEVICES if _count(kind)))
    here = [kind for kind in DEVICES if _count(kind)]
    cure = f"this machine has {', '.join(here)}; name one of these or leave {source} out"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"{source} must be one of {', '.join(DEVICES)}, got {name!r}; {cure}") from None
    if device.type not in here or (device.index or 0) >= _count(device.type):
        raise ValueError(f"{source} must be a device that is present, got {str(device)!r}; {cure}")
    return device


def precision(device: str | torch.device) -> str:
    """The precision to train in on this device: "bf16", "fp16" or "fp32".

    That in LABKIT_PRECISION, where it is set. Else bf16 on GPUs and CPUs that compute in it (AMX, AVX-512 BF16);
    fp16, which needs a gradient scaler, on older GPUs with tensor cores; fp32 on everything else.

    Raises:
        ValueError: LABKIT_PRECISION holds another word.

    Example:
        >>> precision("cpu") in ("bf16", "fp16", "fp32")
        True
    """
    return _choose(torch.device(device))[0]


def autocast(device: str | torch.device, *, precision: str | None = None) -> contextlib.AbstractContextManager:
    """A context in which convolutions and matrix products run in `precision`; with fp32 it does nothing.

    Args:
        device: where the tensors are.
        precision: "bf16", "fp16" or "fp32"; None takes what `precision(device)` says.

    Raises:
        ValueError: the precision is unknown.

    Example:
        >>> a = torch.ones(2, 2)
        >>> with autocast("cpu", precision="bf16"):
        ...     (a @ a).dtype
        torch.bfloat16
    """
    device = torch.device(device)
    name = _choose(device)[0] if precision is None else precision
    if name not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {name!r}; None takes the device's own")
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[name])


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """A context in which torch computes on one core: for batches that are done before a second core has woken up.

    In the lab a core without work sleeps instead of spinning, so that a busy machine stays usable. To wake it costs
    more than it helps where a step is short: one of a small U-Net on 8 patches of 32 x 32 took 16 ms on one core and
    35 ms on two (benchmarks/waiting.py --work denoiser). What a GPU computes is not touched.

    Example:
        >>> with one_core():
        ...     torch.get_num_threads()
        1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_everything(seed: int) -> None:
    """Start the random numbers of Python, NumPy and torch (on every device) from one seed.

    Raises:
        ValueError: the seed is not a whole number from 0 to 2**32 - 1, which is what NumPy takes.

    Example:
        >>> seed_everything(0)
        >>> first = torch.rand(1)
        >>> seed_everything(0)
        >>> torch.equal(first, torch.rand(1))
        True
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}; take 0")
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - code that draws from NumPy's global generator is what this is for
    torch.manual_seed(seed)


def describe() -> str:
    """The machine and what the lab makes of it, one fact a line.

    Example:
        >>> print(describe())  # doctest: +ELLIPSIS
        machine      ...
        precision    ...
    """
    device = pick_device()
    name, why = _choose(device)
    cores = f"{os.cpu_count()} cores ({torch.get_num_threads()} used)"
    facts = {
        "machine": f"{platform.machine()}, {cores}, {_memory()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {_version('torchvision')}",
        "device": f"{device}{_device_name(device)}",
        "precision": f"{name}: {why}; LABKIT_PRECISION=fp32 (bf16, fp16) overrides it",
    }
    return "\n".join(f"{fact:<12} {value}" for fact, value in facts.items())


def check_torchvision() -> None:
    """Refuse torch and torchvision of different builds: only of one build does torchvision's compiled code answer.

    Raises:
        RuntimeError: they do not, or torchvision is missing; the message holds the cure.

    Example:
        >>> check_torchvision()
    """
    try:
        import torchvision.ops

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        pair = f"torch {torch.__version__} and torchvision {_version('torchvision')}"
        command = f'"{sys.executable}" -m pip install --force-reinstall -c constraints.txt torch torchvision'
        raise RuntimeError(
            f"{pair} are not from one build ({error}); install both in one command: {command}"
        ) from error


def _count(kind: str) -> int:
    """How many devices of this kind there are."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return torch.get_device_module(kind).device_count()


def _choose(device: torch.device) -> tuple[str, str]:
    """The precision and the reason for it."""
    wanted = os.environ.get("LABKIT_PRECISION")
    if not wanted:
        return _own_precision(device)
    if wanted not in DTYPES:
        raise ValueError(
            f"LABKIT_PRECISION must be one of {', '.join(DTYPES)}, got {wanted!r}; or leave it out for the device's own"
        )
    return wanted, "LABKIT_PRECISION says so"


@functools.cache
def _own_precision(device: torch.device) -> tuple[str, str]:
    """The precision that fits what the device is, and the reason."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):  # Ampere, the first with bf16 tensor cores
            return "bf16", "this GPU computes in it"
        if capability >= (7, 0):  # Volta and Turing: tensor cores for fp16 alone
            return "fp16", "this GPU has no bf16; gradients are scaled"
        return "fp32", "this GPU has no tensor cores"
    if device.type == "xpu":
        return "bf16", "this GPU computes in it"
    if device.type == "mps":
        return "fp32", "the safe choice on Apple GPUs"
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older torch: then fp32
    unit = next((unit for unit in BF16_UNITS if capabilities.get(unit, False)), None)
    if unit is None:  # it would compute in fp32 and convert: slower
        return "fp32", "this CPU does not compute in bf16"
    return "bf16", f"this CPU computes in it ({unit})"


def _version(package: str) -> str:
    """The installed version, without importing the package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _memory() -> str:
    """The machine's memory, where the system tells it."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):
        return "memory unknown"


def _device_name(device: torch.device) -> str:
    """The name and memory of a GPU, in brackets; nothing for others."""
    if device.type not in ("cuda", "xpu"):
        return ""
    properties = torch.get_device_module(device.type).get_device_properties(device)
    return f" ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"

"""The checkpoint: one sealed file (`labkit.files`) that is whole or is told to be damaged.

Content   "model/…" holds the last weights, "best/weights/…" the best, "record" all that is no tensor, as JSON.
          Nothing is ever pickled.
"""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labkit import files
from labkit.training.arguments import ENDLESS
from labkit.training.settings import difference

FORMAT = "labkit fit 3"  # a note of the file, at the head of its header
MARK = f'"{FORMAT}"'.encode()

Pieces = tuple[bytes | memoryview, ...]


def write(path: Path, record: dict, epoch: int) -> None:
    """Put the record into the file in one move: whoever reads sees the old file or the new one, whole.

    Raises:
        OSError: it cannot be written, the disk is full for example; the old file stays.
    """
    pieces = seal(record)
    try:
        files.write_whole(path, *pieces)
    except OSError as error:
        kept = f"{path} still holds epoch {epoch - 1}" if path.exists() else "no earlier epoch is kept"
        raise OSError(
            error.errno,
            f"checkpoint {path} of epoch {epoch} could not be written ({error.strerror or error}), {kept}; make "
            f"{sum(map(len, pieces)) / 2**20:.1f} MiB free there or name another place, then call fit again to go on",
        ) from error


def read(path: Path, settings: dict) -> dict | None:
    """The record in the file, or None where training starts anew: no file, or a damaged one, which is moved aside.

    Raises:
        ValueError: the file is something else, or the checkpoint of another training.
    """
    if not path.exists():
        return None
    data = path.read_bytes()
    if data and MARK not in data[:200]:
        raise ValueError(
            f"checkpoint {path} must be a file that fit wrote, of this version, got another; choose another name"
        )
    saved = unseal(data)
    if saved is None:
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        warnings.warn(f"checkpoint {path} is damaged: moved to {aside}, training starts anew", stacklevel=3)
        return None
    if different := difference(saved["settings"], settings):
        hint = f". {ENDLESS}" if different.startswith("schedule total_steps") else ""
        raise ValueError(
            f"checkpoint {path} is of another training: expected {different}; name another file, or remove this "
            f"one{hint}"
        )
    return saved


# One record as bytes


def seal(record: dict) -> Pieces:
    """The record as a sealed file, in pieces."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(record, tensors, ""))
    tensors["record"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return files.seal(tensors, writer=FORMAT)


def unseal(data: bytes) -> dict | None:
    """The record, or None where it is not as it was written."""
    try:
        tensors, notes = files.unseal(data, tensors=True)
    except ValueError:
        return None
    if notes.get("writer") != FORMAT:
        return None
    return unpack(json.loads(tensors["record"].numpy().tobytes()), tensors)


def pack(value, tensors: dict[str, Tensor], name: str):
    """The value in JSON's types; its tensors go to `tensors` under their path, and leave that path behind."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()  # a copy: safetensors refuses shared memory
        return {"tensor": name}
    if isinstance(value, dict):
        keys = [key if isinstance(key, str | int) else _refuse(key, name) for key in value]
        return {"dict": [[key, pack(value[key], tensors, f"{name}/{key}".lstrip("/"))] for key in keys]}
    if isinstance(value, tuple | list):
        items = [pack(item, tensors, f"{name}/{place}") for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _refuse(value, name)


def _refuse(value, name: str):
    """Say which part of a state cannot be stored."""
    raise ValueError(
        f"{name} must hold numbers, text, tensors, lists or dicts for a checkpoint, got {type(value).__name__}; train "
        "without checkpoint="
    )


def unpack(value, tensors: dict[str, Tensor]):
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    return {key: unpack(item, tensors) for key, item in content}

"""Where every generator of random numbers stands, and how it is put back there.

State   dict: torch, python, numpy, gpu, and "generators", one for each that the loaders keep.
"""

import random
from collections.abc import Iterable

import numpy as np
import torch

CHOSEN = 2**32  # seeds below are somebody's choice; torch seeds itself with up to 53 random bits


def generators(*loaders: Iterable | None) -> list[torch.Generator]:
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


def seeds(*loaders: Iterable | None) -> list[int] | None:
    """The seeds that torch and the loaders' generators started from; None where nobody chose them all."""
    found = [torch.initial_seed(), *(generator.initial_seed() for generator in generators(*loaders))]
    return found if all(seed < CHOSEN for seed in found) else None


def random_state(device: torch.device, *loaders: Iterable | None) -> dict:
    """Where every generator of random numbers stands in this process."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what augmentation draws from
    assert isinstance(numpy_state, dict)
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
        "generators": [generator.get_state() for generator in generators(*loaders)],
    }


def set_random_state(state: dict, device: torch.device, *loaders: Iterable | None) -> None:
    """Put every generator back to where it stood."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state(state["numpy"] | {"state": state["numpy"]["state"] | {"key": key}})  # noqa: NPY002
    if device.type in state["gpu"]:
        which = () if device.type == "mps" else (device,)
        torch.get_device_module(device).set_rng_state(state["gpu"][device.type], *which)
    for generator, own in zip(generators(*loaders), state["generators"], strict=False):
        generator.set_state(own)

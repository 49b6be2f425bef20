"""Where generators of random numbers stand: all of them are put back, and who chose their seeds is known."""

import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from labkit.training import checkpoint
from labkit.training.random_state import generators, random_state, seeds, set_random_state

CPU = torch.device("cpu")
DATA = TensorDataset(torch.arange(6.0))


def draws(*own):
    """Three numbers from each generator."""
    drawn = [torch.rand(3).tolist(), [random.random() for _ in range(3)], np.random.rand(3).tolist()]  # noqa: NPY002
    return drawn + [torch.rand(3, generator=generator).tolist() for generator in own]


def test_every_generator_is_put_back():
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(DATA, shuffle=True, generator=own)
    draws(own)
    state = random_state(CPU, loader)
    expected = draws(own)
    assert draws(own) != expected
    set_random_state(state, CPU, loader)
    assert draws(own) == expected


def test_a_normal_number_kept_in_reserve_is_part_of_the_state():
    """Python and NumPy draw normal numbers in pairs, and keep the second."""
    random.gauss(0, 1)
    np.random.randn()  # noqa: NPY002
    state = random_state(CPU)
    expected = random.gauss(0, 1), np.random.randn()  # noqa: NPY002
    random.seed(1), np.random.seed(1)  # noqa: NPY002
    set_random_state(state, CPU)
    assert (random.gauss(0, 1), np.random.randn()) == expected  # noqa: NPY002


def test_the_state_goes_through_a_checkpoint_and_back():
    loader = DataLoader(DATA, shuffle=True, generator=torch.Generator().manual_seed(2))
    tensors = {}
    text = json.dumps(checkpoint.pack(random_state(CPU, loader), tensors, ""))
    expected = draws(loader.generator)
    set_random_state(checkpoint.unpack(json.loads(text), tensors), CPU, loader)
    assert draws(loader.generator) == expected


def test_the_order_of_a_loader_comes_back():
    loader = DataLoader(DATA, shuffle=True, generator=torch.Generator().manual_seed(2))
    state = random_state(CPU, loader)
    first = [batch[0].item() for batch in loader]
    assert [batch[0].item() for batch in loader] != first
    set_random_state(state, CPU, loader)
    assert [batch[0].item() for batch in loader] == first


def test_generators_are_found_wherever_a_loader_keeps_them_and_each_once():
    own = [torch.Generator().manual_seed(seed) for seed in range(4)]
    data = TensorDataset(torch.arange(6.0))
    data.generator = own[0]
    sampler = RandomSampler(data, generator=own[1])
    batches = BatchSampler(RandomSampler(data, generator=own[2]), 2, drop_last=False)
    found = generators(
        DataLoader(data, sampler=sampler, generator=own[3]),
        DataLoader(data, batch_sampler=batches, generator=own[3]),
        [1, 2],
        None,
    )
    assert sorted(map(id, found)) == sorted(map(id, own))


def test_seeds_are_known_where_somebody_chose_them():
    torch.manual_seed(7)
    loader = DataLoader(DATA, shuffle=True, generator=torch.Generator().manual_seed(11))
    assert seeds(loader, None) == [7, 11]
    assert seeds() == [7]
    torch.seed()  # of its own choice
    chosen = torch.initial_seed() < 2**32
    assert (seeds() is not None) == chosen


@pytest.mark.parametrize("loaders", [(), ([1, 2],), (None, DataLoader(DATA))])
def test_without_generators_of_their_own_there_are_none(loaders):
    assert generators(*loaders) == []
    assert random_state(CPU, *loaders)["generators"] == []

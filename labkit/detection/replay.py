"""The replay memory of a learning agent, and states as networks take them.

State    an array, or a dict of arrays: uint8 or float, of one shape and dtype for ever. A network gets a batch of
         them as tensors of that dtype, and scales them itself: a state of bytes takes a quarter of the memory.
Shapes   B transitions of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

State = ndarray | Mapping[str, ndarray]
States = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """B transitions."""

    states: States
    actions: Tensor  # (B,) int64
    rewards: Tensor  # (B,) float32
    next_states: States
    ended: Tensor  # (B,) bool: no value comes after this


class Replay:
    """The last `capacity` transitions. One walk's steps are alike; a batch drawn from many walks is not.

    Example:
        >>> replay = Replay(100, np.zeros(3, np.uint8))
        >>> replay.add(np.zeros(3, np.uint8), 2, 1.0, np.ones(3, np.uint8), ended=False)
        >>> batch = replay.sample(4, np.random.default_rng(0))
        >>> len(replay), batch.next_states.shape, batch.actions
        (1, torch.Size([4, 3]), tensor([2, 2, 2, 2]))
    """

    def __init__(self, capacity: int, state: State):
        """Make room.

        Args:
            capacity: transitions, 1 or more.
            state: any state; its shape and its dtype are those of all.
        """
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more, got {capacity}; 10,000 states of a kilobyte are 20 MB")
        self.capacity, self.added = capacity, 0
        self.states, self.next_states = _room(capacity, state), _room(capacity, state)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.ended = np.zeros(capacity, bool)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, state: State, action: int, reward: float, next_state: State, *, ended: bool) -> None:
        """Remember a step, in the place of the oldest where there is no room."""
        row = self.added % self.capacity
        for held, new in ((self.states, state), (self.next_states, next_state)):
            for name, part in _parts(new).items():
                held[name][row] = part
        self.actions[row], self.rewards[row], self.ended[row] = action, reward, ended
        self.added += 1

    def sample(self, count: int, generator: np.random.Generator, *, device: torch.device | str = "cpu") -> Batch:
        """So many steps, any one as likely as another."""
        if not len(self):
            raise ValueError("the replay memory must hold a step, got none; add steps before you sample")
        rows = generator.integers(0, len(self), count)
        values = (self.actions[rows], self.rewards[rows], self.ended[rows])
        actions, rewards, ended = (torch.from_numpy(value).to(device) for value in values)
        states, after = (
            _tensors({name: part[rows] for name, part in held.items()}, device)
            for held in (self.states, self.next_states)
        )
        return Batch(states, actions, rewards, after, ended)


def stacked(states: Sequence[State], *, device: torch.device | str = "cpu") -> States:
    """A batch of states as the network takes it.

    Example:
        >>> stacked([np.zeros((2, 3), np.uint8)] * 4).shape
        torch.Size([4, 2, 3])
    """
    parts = [_parts(state) for state in states]
    return _tensors({name: np.stack([part[name] for part in parts]) for name in parts[0]}, device)


def _parts(state: State) -> dict[str, ndarray]:
    return dict(state) if isinstance(state, Mapping) else {"": state}


def _room(capacity: int, state: State) -> dict[str, ndarray]:
    parts = {name: np.asarray(part) for name, part in _parts(state).items()}
    return {name: np.zeros((capacity, *part.shape), part.dtype) for name, part in parts.items()}


def _tensors(parts: dict[str, ndarray], device: torch.device | str) -> States:
    tensors = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}
    return tensors.get("", tensors)

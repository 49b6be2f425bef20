"""Deep Q-learning from scratch: a network says what each action is worth, and learns it by trial and error.

    act        the action with the largest value, or, with probability epsilon, any action
    remember   (state, action, reward, next state, ended) goes to the replay memory (`replay`)
    learn      a batch drawn from the memory; Q(state, action) is pulled towards its target,
               reward + discount * the value of the best action after it, or the reward alone where the walk ended
    target     values after it come from a copy of the network that is renewed now and then, so that the target
               does not run away from the network that follows it

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015; the double form is van Hasselt et
al., AAAI 2016. Taught in notebook 17, used in 17 and 18. It plays in any environment in gymnasium's form.

Shapes   B transitions of a batch, A actions.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from labkit.detection.replay import Batch, Replay, State, stacked

History = dict[str, list[float]]
CLIP = 10.0  # largest norm of a step's gradient: a batch of surprises must not throw the network away


class Environment(Protocol):
    """What is asked of an environment; every `gymnasium.Env` with discrete actions has it."""

    action_space: Any

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """The first state of a walk, and what is known of it."""
        ...

    def step(self, action: Any, /) -> tuple[Any, Any, bool, bool, dict]:
        """The next state, the reward, has the task ended (its value is 0), has time run out, what is known."""
        ...


def td_target(
    rewards: Tensor, ended: Tensor, next_q: Tensor, *, discount: float, choosing_q: Tensor | None = None
) -> Tensor:
    """(B,) what Q(state, action) should be: the reward and the discounted value of the best action after it.

    It is a number to aim at, so no gradient flows through it.

    Args:
        rewards: (B,).
        ended: (B,) bool; after an end there is no value.
        next_q: (B, A) the target network's values of the actions in the next states.
        discount: 0 to 1, what a reward is worth that comes a step later.
        choosing_q: (B, A) the learning network's values of the same. With them the best action is theirs and its value
            that of `next_q`, double Q-learning: the largest of noisy values is not taken at its word.

    Example:
        >>> rewards, ended = torch.tensor([1.0, -1.0]), torch.tensor([False, True])
        >>> td_target(rewards, ended, torch.tensor([[0.5, 2.0], [3.0, 0.0]]), discount=0.5)
        tensor([ 2., -1.])
    """
    best = (next_q if choosing_q is None else choosing_q).argmax(dim=1, keepdim=True)  # (B, 1)
    values = next_q.gather(1, best)[:, 0].masked_fill(ended, 0.0)  # (B,)
    return (rewards + discount * values).detach()


def epsilon_at(step: int, steps: int, *, first: float = 1.0, last: float = 0.05, fraction: float = 0.5) -> float:
    """The share of random actions: it falls in a line from first to last in this fraction of all steps, then stays.

    Example:
        >>> [round(epsilon_at(step, 100), 3) for step in (0, 25, 50, 99)]
        [1.0, 0.525, 0.05, 0.05]
    """
    done = min(step / max(fraction * steps, 1e-9), 1.0)
    return first + (last - first) * done


@torch.no_grad()
def greedy_actions(network: nn.Module, states: Sequence[State], *, device: torch.device | str = "cpu") -> list[int]:
    """The action of the largest value in each state.

    Example:
        >>> greedy_actions(nn.Identity(), [np.array([0.1, 0.9]), np.array([2.0, 1.0])])
        [1, 0]
    """
    return network(stacked(states, device=device)).argmax(dim=1).tolist()


def learn(
    environments: Environment | Sequence[Environment],
    network: nn.Module,
    steps: int,
    *,
    discount: float = 0.9,
    rate: float = 1e-3,
    batch_size: int = 64,
    every: int = 4,
    warm_up: int = 500,
    capacity: int = 20_000,
    renew: int = 500,
    epsilon: tuple[float, float] = (1.0, 0.05),
    explore: float = 0.5,
    double: bool = False,
    target: Callable[..., Tensor] = td_target,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> History:
    """Train a network in place; the history has a row for each walk that came to its end.

    With the same seed, network and environments the result is the same. Optimizer: Adam, with a rate that falls in a
    line to a twentieth; loss: Huber's, which follows a surprise no faster than a small error.

    Args:
        environments: one, or several of one kind that take turns: the network is then asked for all of them at once.
        network: states -> (B, A) values, without batch normalisation or dropout.
        steps: in all environments together.
        discount: what a reward is worth that comes a step later.
        rate: of Adam, at the start.
        batch_size: transitions of an update.
        every: steps between two updates.
        warm_up: steps before the first update.
        capacity: transitions in the replay memory.
        renew: updates after which the target network becomes a copy of the network again.
        epsilon: the share of random actions at the start and at the end.
        explore: the fraction of the steps in which epsilon falls.
        double: double Q-learning.
        target: as `td_target`.
        seed: of exploring, of drawing batches, and of the environments.
        device: where the network is.
        progress: show a bar.

    Returns:
        `step`, `return` (the sum of rewards), `length`, `epsilon` and `loss` (the mean since the walk before), and each
        number that the environment's info holds at the end of a walk.
    """
    players = list(environments) if isinstance(environments, Sequence) else [environments]
    _check(players, steps, discount=discount, batch_size=batch_size, every=every, renew=renew)
    generator = np.random.default_rng(seed)
    states = [player.reset(seed=seed + i)[0] for i, player in enumerate(players)]
    replay, diary = Replay(capacity, states[0]), Diary(len(players))
    learner = _Learner(network, rate, discount, double, target)
    owed = 0.0
    with tqdm(total=steps, desc="learn", disable=not progress, leave=False, mininterval=1.0) as bar:
        for step in range(0, steps, len(players)):
            share = epsilon_at(step, steps, first=epsilon[0], last=epsilon[1], fraction=explore)
            actions = _explored(network, states, players, share, generator, device)
            for i, (player, action) in enumerate(zip(players, actions, strict=True)):
                state, reward, ended, stopped, info = player.step(action)
                replay.add(states[i], action, float(reward), state, ended=bool(ended))
                diary.step(i, float(reward))
                if ended or stopped:
                    diary.close(i, step, share, info)
                    state = player.reset()[0]
                states[i] = state
            owed += len(players) / every if step >= warm_up else 0.0
            for _ in range(int(owed)):
                learner.set_rate(rate * (1 - 0.95 * step / steps))
                diary.losses.append(learner.update(replay.sample(batch_size, generator, device=device)))
                if learner.updates % renew == 0:
                    learner.renew()
            owed %= 1
            bar.update(len(players))
    return diary.history


def play(
    environments: Sequence[Environment],
    network: nn.Module | None,
    *,
    options: Sequence[dict | None] | None = None,
    epsilon: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[list[dict]]:
    """One walk in each environment: what it told at the start and after each step, its `info`s.

    The walks go side by side, so that the network is asked for all of them at once.

    Args:
        environments: each walks until it ends.
        network: states -> (B, A) values; without one each action is random.
        options: for each environment's reset.
        epsilon: the share of random actions.
        seed: of random actions and of the environments.
        device: where the network is.
    """
    generator = np.random.default_rng(seed)
    wanted = list(options) if options is not None else [None] * len(environments)
    first = [e.reset(seed=seed + i, options=o) for i, (e, o) in enumerate(zip(environments, wanted, strict=True))]
    states, walks = [state for state, _ in first], [[info] for _, info in first]
    going = list(range(len(environments)))
    while going:
        players, now = [environments[i] for i in going], [states[i] for i in going]
        actions = _explored(network, now, players, 1.0 if network is None else epsilon, generator, device)
        still = []
        for i, action in zip(going, actions, strict=True):
            states[i], _, ended, stopped, info = environments[i].step(action)
            walks[i].append(info)
            if not (ended or stopped):
                still.append(i)
        going = still
    return walks


class Diary:
    """Of each walk that ended: when, how long, how good."""

    def __init__(self, players: int):
        self.history: History = {}
        self.losses: list[float] = []
        self.loss = float("nan")  # before the first update
        self.returns, self.lengths = [0.0] * players, [0] * players

    def step(self, player: int, reward: float) -> None:
        """A reward came."""
        self.returns[player] += reward
        self.lengths[player] += 1

    def close(self, player: int, step: int, epsilon: float, info: Mapping) -> None:
        """The walk came to its end."""
        self.loss = float(np.mean(self.losses)) if self.losses else self.loss
        row = {
            "step": step,
            "return": self.returns[player],
            "length": self.lengths[player],
            "epsilon": epsilon,
            "loss": self.loss,
        }
        told = {name: float(value) for name, value in info.items() if isinstance(value, int | float | np.number)}
        for name, value in (row | told).items():
            self.history.setdefault(name, []).append(value)
        self.returns[player], self.lengths[player] = 0.0, 0
        self.losses.clear()


class _Learner:
    """The network, its copy, and the step of gradient descent."""

    def __init__(self, network: nn.Module, rate: float, discount: float, double: bool, target: Callable[..., Tensor]):
        self.network, self.discount, self.double, self.target = network, discount, double, target
        self.frozen = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        self.updates = 0

    def update(self, batch: Batch) -> float:
        """The loss of a batch, once the network has made a step against it."""
        q = self.network(batch.states)  # (B, A)
        with torch.no_grad():
            chooser = {"choosing_q": self.network(batch.next_states)} if self.double else {}
            aim = self.target(
                batch.rewards, batch.ended, self.frozen(batch.next_states), discount=self.discount, **chooser
            )
        loss = F.smooth_l1_loss(q.gather(1, batch.actions[:, None])[:, 0], aim)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.updates += 1
        return float(loss.detach())

    def renew(self) -> None:
        """The copy becomes the network again."""
        self.frozen.load_state_dict(self.network.state_dict())

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def _explored(
    network: nn.Module | None,
    states: Sequence[State],
    players: Sequence[Environment],
    epsilon: float,
    generator: np.random.Generator,
    device: torch.device | str,
) -> list[int]:
    """The best action of each state, or with probability epsilon any."""
    count = int(players[0].action_space.n)
    chance, any_action = generator.random(len(states)), generator.integers(0, count, len(states))
    if network is None or (chance < epsilon).all():
        return any_action.tolist()
    best = greedy_actions(network, states, device=device)
    return [int(a) if p < epsilon else b for p, a, b in zip(chance, any_action, best, strict=True)]


def _check(players: Sequence[Environment], steps: int, *, discount: float, **counts: int) -> None:
    if not players:
        raise ValueError("environments must be one or more, got none; make one and pass it")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be 0 to 1, got {discount}; 0.9 looks some ten steps ahead")
    for name, value in (counts | {"steps": steps}).items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}; see the defaults of `learn`")

"""Deep Q-learning: its target, its memory, and that it learns what a table of values would."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from labkit.detection.q_learning import epsilon_at, greedy_actions, learn, play, td_target
from labkit.detection.replay import Replay, stacked


class Line(gymnasium.Env):
    """Six places in a row; the walk ends at the last one, with reward 1, or is stopped after 12 steps."""

    def __init__(self, *, parts=False):
        self.action_space = gymnasium.spaces.Discrete(2)
        self.observation_space = gymnasium.spaces.Box(0, 1, (6,), np.float32)
        self.parts = parts

    def state(self):
        place = np.eye(6, dtype=np.float32)[self.place]
        return {"left": place[:3], "right": place[3:]} if self.parts else place

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(5)), 0
        return self.state(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        self.steps += 1
        ended = self.place == 5
        return self.state(), float(ended), ended, not ended and self.steps >= 12, {"place": self.place}


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(6, 2)

    def forward(self, states):
        return self.line(torch.cat([states["left"], states["right"]], dim=1))


def taught(network, *, seed=0, worlds=1, steps=2400, parts=False, **options):
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    given = {"rate": 0.02, "batch_size": 32, "warm_up": 100, "renew": 20, "discount": 0.8, "progress": False} | options
    many = [Line(parts=parts) for _ in range(worlds)]
    history = learn(many if worlds > 1 else many[0], network, steps, seed=seed, **given)
    return network, history


@pytest.mark.parametrize("double", [False, True])
def test_it_learns_the_values_that_can_be_worked_out_by_hand(double):
    network, history = taught(nn.Linear(6, 2), double=double, explore=1.0, epsilon=(1.0, 0.5))
    with torch.no_grad():
        values = network(torch.eye(6))[:5]
    right = 0.8 ** torch.arange(4.0, -1, -1)  # to the right, and then always to the right
    left = 0.8 * torch.tensor([right[0], right[0], right[1], right[2], right[3]])
    torch.testing.assert_close(values, torch.stack([left, right], dim=1), atol=0.08, rtol=0)
    assert set(history) == {"step", "return", "length", "epsilon", "loss", "place"}
    assert max(history["length"]) == 12


def test_states_of_several_parts_and_several_worlds_learn_too():
    network, _ = taught(Halves(), worlds=3, parts=True)
    assert [w[-1]["place"] for w in play([Line(parts=True) for _ in range(5)], network)] == [5] * 5


def test_the_same_seed_learns_the_same_and_another_does_not():
    (one, first), (two, second) = taught(nn.Linear(6, 2), steps=600), taught(nn.Linear(6, 2), steps=600)
    assert torch.equal(one.weight, two.weight)
    assert first["return"] == second["return"]
    other, _ = taught(nn.Linear(6, 2), steps=600, seed=1)
    assert not torch.equal(one.weight, other.weight)


def test_it_draws_nothing_from_torchs_generator():
    network = nn.Linear(6, 2)
    before = torch.get_rng_state()
    learn(Line(), network, 200, warm_up=50, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_target_of_the_students_is_used():
    asked = []

    def nothing(rewards, ended, next_q, discount):
        asked.append((rewards.shape, ended.dtype, next_q.shape, discount, next_q.requires_grad))
        return torch.zeros_like(rewards)

    network, _ = taught(nn.Linear(6, 2), steps=800, target=nothing)
    assert asked[0] == ((32,), torch.bool, (32, 2), 0.8, False)
    with torch.no_grad():
        assert network(torch.eye(6))[:4].abs().max() < 0.1


def test_double_q_learning_takes_the_action_of_the_learning_network():
    rewards, ended = torch.tensor([1.0, 0.0]), torch.tensor([False, True])
    next_q, choosing = torch.tensor([[1.0, 5.0], [2.0, 3.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert td_target(rewards, ended, next_q, discount=0.5).tolist() == [3.5, 0.0]
    assert td_target(rewards, ended, next_q, discount=0.5, choosing_q=choosing).tolist() == [1.5, 0.0]
    assert not td_target(rewards, ended, next_q.requires_grad_(), discount=0.5).requires_grad


def test_the_memory_forgets_the_oldest():
    replay = Replay(3, {"a": np.zeros(2, np.uint8), "b": np.float32(0)})
    for i in range(5):
        replay.add({"a": np.full(2, i), "b": i / 2}, i, -float(i), {"a": np.full(2, i + 1), "b": 0}, ended=i == 4)
    batch = replay.sample(200, np.random.default_rng(0))
    assert len(replay) == 3
    assert set(batch.actions.tolist()) == {2, 3, 4}
    assert batch.states["a"].dtype == torch.uint8
    assert torch.equal(batch.states["a"][:, 0].long(), batch.actions)
    assert torch.equal(batch.next_states["a"][:, 1].long(), batch.actions + 1)
    assert torch.equal(batch.states["b"], batch.actions / 2)
    assert torch.equal(batch.rewards, -batch.actions.float())
    assert torch.equal(batch.ended, batch.actions == 4)


def test_greedy_actions_are_those_of_the_largest_value():
    states = [np.array([0.0, 3.0], np.float32), np.array([1.0, -1.0], np.float32)]
    assert greedy_actions(nn.Identity(), states) == [1, 0]
    assert stacked(states).tolist() == [[0, 3], [1, -1]]


def test_random_walks_need_no_network_and_epsilon_mixes_them():
    class Left(nn.Module):
        def forward(self, states):
            return torch.tensor([[1.0, 0.0]]).repeat(len(states), 1)

    worlds = [Line() for _ in range(20)]
    at_random = [len(walk) for walk in play(worlds, None, seed=3)]
    assert len(set(at_random)) > 3
    assert {walk[-1]["place"] for walk in play(worlds, Left())} == {0}
    assert any(walk[-1]["place"] > 0 for walk in play(worlds, Left(), epsilon=0.9))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"discount must be 0 to 1, got 1\.5; 0\.9 looks"):
        learn(Line(), nn.Linear(6, 2), 10, discount=1.5)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0; see"):
        learn(Line(), nn.Linear(6, 2), 10, batch_size=0)
    with pytest.raises(ValueError, match="environments must be one or more, got none"):
        learn([], nn.Linear(6, 2), 10)
    with pytest.raises(ValueError, match="capacity must be 1 or more, got 0"):
        Replay(0, np.zeros(1))
    with pytest.raises(ValueError, match="must hold a step, got none; add steps"):
        Replay(4, np.zeros(1)).sample(2, np.random.default_rng(0))


def test_epsilon_falls_in_a_line_and_stays():
    assert [round(epsilon_at(s, 100, fraction=0.2), 3) for s in (0, 10, 20, 80)] == [1.0, 0.525, 0.05, 0.05]
    assert epsilon_at(0, 10, fraction=0.0) == 1.0

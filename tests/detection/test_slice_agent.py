"""The agent that looks for a slice: its views, its steps, its environment, its walks; and the shipped networks."""

import json

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

from labkit.datasets.phantoms.spine import spine_projections
from labkit.detection.q_learning import learn
from labkit.detection.slice_agent import (
    SliceEnv,
    SliceNetwork,
    duelling_values,
    find_slices,
    move,
    slice_networks,
    walk_end,
)
from labkit.detection.slice_views import Views
from labkit.weights import FOLDER

HEIGHTS = torch.tensor([30.0, 61.5])


def images():
    """Two images that say where they are: row r has the grey value r / 255."""
    return (torch.arange(60.0)[:, None] / 255).expand(2, 60, 128).clone()


def world(**options):
    return SliceEnv(images(), HEIGHTS, spacing=3.0, **options)


class TowardsRow(nn.Module):
    """Knows the row from the middle of the near view and goes to row 20; what is left to be won is the way."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, views):
        row = views[:, 0, 16, 16].float()
        return torch.stack([row - 20.3, 20.3 - row], dim=1) + self.weight


def test_the_middle_of_both_views_is_the_row():
    seen = Views(images()).at([0, 1, 0], [0, 25, 59])
    assert seen[:, 0, 16, 0].tolist() == [0, 25, 59]
    assert seen[1, 1, 16, 5] == 26  # the mean of rows 25 to 28, cut off
    assert seen[0, 0, :16].max() == 0 == seen[2, 0, 17:].max()  # beyond the image
    assert seen[2, 1, 17:].max() == 0


def test_a_narrow_image_is_seen_in_the_middle():
    seen = Views(torch.ones(1, 40, 64)).at([0], [5])
    assert seen[0, 0].min() == 0
    assert seen[0, 1, 16].tolist() == [0] * 8 + [255] * 16 + [0] * 8


@pytest.mark.parametrize("shape", [(60, 128), (0, 60, 128), (1, 60, 31), (1, 60, 129)])
def test_images_of_another_form_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must be \(n, H, W\) with W from 32 to 128, got"):
        Views(torch.zeros(shape))


def test_a_step_is_a_row_and_nearer_earns_one():
    rows, rewards = move(torch.tensor([5, 5, 0, 8]), torch.tensor([0, 1, 0, 1]), torch.tensor([3.0, 3, 3, 9]), 9)
    assert (rows.tolist(), rewards.tolist()) == ([4, 6, 0, 8], [1, -1, -1, -1])


def test_gymnasiums_inspector_is_content():
    check_env(world(), skip_render_check=True)
    check_env(world(stop_at_turn=True, steps=5), skip_render_check=True)


def test_a_walk_begins_where_it_is_asked_to_and_tells_its_error():
    env = world()
    state, info = env.reset(options={"image": 1, "row": 30})
    assert info == {"image": 1, "row": 30, "height": 90.0, "error": 28.5}
    assert state[0, 16, 16] == 30
    _, reward, ended, stopped, info = env.step(0)
    assert (reward, ended, stopped, info["error"]) == (1.0, False, False, 25.5)


def test_the_same_seed_begins_the_same_walk():
    assert world().reset(seed=3)[1] == world().reset(seed=3)[1]


def test_time_runs_out_and_a_turn_ends_it_where_that_is_asked_for():
    env = world(steps=3)
    env.reset(options={"image": 0, "row": 20})
    assert [env.step(action)[2:4] for action in (0, 1, 0)] == [(False, False), (False, False), (False, True)]
    env = world(stop_at_turn=True)
    env.reset(options={"image": 0, "row": 20})
    assert [env.step(action)[2:4] for action in (0, 0, 1)] == [(False, False), (False, False), (True, False)]


def test_the_rule_is_the_one_it_is_given():
    env = world(rule=lambda rows, actions, targets, height: (rows * 0 + 7, targets * 0 + 0.5))
    env.reset(seed=0)
    assert env.step(1)[1] == 0.5
    assert env.path[-1] == 7


@pytest.mark.parametrize("action", [2, -1, 0.5, "up", None])
def test_an_action_outside_the_space_is_refused(action):
    env = world()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be 0 \(up\) or 1 \(down\), got .*; see env.action_space"):
        env.step(action)


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.array])
def test_an_action_may_be_of_any_whole_kind(kind):
    env = world()
    env.reset(options={"image": 0, "row": 20})
    env.step(kind(1))
    assert env.path == [20, 21]


def test_a_step_outside_of_a_walk_is_refused():
    env = world(steps=1)
    with pytest.raises(ValueError, match=r"a walk must have begun and not ended, .*; call reset\(\) first"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ValueError, match="a walk must have begun and not ended"):
        env.step(0)


@pytest.mark.parametrize("spacing", [0, -3.0, None, float("nan"), float("inf"), "3 mm", True])
def test_a_spacing_of_zero_or_none_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be mm from one row to the next, above 0, got"):
        SliceEnv(images(), HEIGHTS, spacing=spacing)


def test_a_missing_spacing_is_an_error():
    with pytest.raises(TypeError, match="spacing"):
        SliceEnv(images(), HEIGHTS)


@pytest.mark.parametrize("height", [float("nan"), -1.0, 177.1])
def test_an_image_without_l3_is_refused(height):
    with pytest.raises(
        ValueError, match=r"the slice must lie in its image, 0 to 177 mm, got .* mm on image 1; leave out"
    ):
        SliceEnv(images(), torch.tensor([30.0, height]), spacing=3.0)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match=r"heights must be \(n,\), one for 2 images, got \(3,\)"):
        SliceEnv(images(), torch.zeros(3), spacing=3.0)
    with pytest.raises(ValueError, match="steps must be 1 or more, got 0"):
        world(steps=0)
    for options in ({"image": 2}, {"row": 60}, {"row": -1}):
        with pytest.raises(ValueError, match="a walk must begin on an image below 2 and a row below 60"):
            world().reset(options=options)


def test_the_end_of_a_walk():
    assert walk_end([4], [1.0]) == (False, 4)
    assert walk_end([4, 3, 4], [1.0, 2.0, 1.0]) == (True, 4)
    assert walk_end([4, 3, 4], [2.0, 1.0, 2.0]) == (True, 3)
    assert walk_end([1, 0, 0], [2.0, 3.0, 3.0]) == (True, 0)


def test_walks_end_at_the_row_that_the_network_goes_to():
    walks = find_slices(TowardsRow(), images(), [5, 40])
    assert [walk.row for walk in walks] == [20, 20]
    assert walks[0].path[:3] == [5, 6, 7]
    assert walks[1].path[-3:] == [21, 20, 21] or walks[1].path[-3:] == [20, 21, 20]
    assert all(len(walk.path) == len(walk.values) for walk in walks)


def test_a_walk_that_is_cut_off_answers_with_its_last_row():
    assert find_slices(TowardsRow(), images(), [5, 40], most=3)[0].row == 8


def test_duelling_pins_the_value_down():
    value, advantage = torch.randn(4, 1), torch.randn(4, 3)
    joined = duelling_values(value, advantage)
    torch.testing.assert_close(joined.mean(dim=1, keepdim=True), value)
    torch.testing.assert_close(joined, duelling_values(value, advantage + 5))


@pytest.mark.parametrize("duelling", [False, True])
def test_it_learns_on_bright_and_dark(duelling):
    """Above row 30 all is dark, below it is bright: 1,500 steps of wandering must be enough."""
    steps = (torch.arange(60) >= 30).float()[:, None].expand(1, 60, 32).clone()
    torch.manual_seed(0)
    network = SliceNetwork(duelling=duelling, widths=(4, 4, 4), hidden=16)
    env = SliceEnv(steps, torch.tensor([90.0]), spacing=3.0, steps=20)
    learn(env, network, 1500, discount=0.5, batch_size=16, warm_up=100, renew=50, progress=False)
    assert abs(find_slices(network, steps, [5])[0].row - 30) <= 2
    assert abs(find_slices(network, steps, [55])[0].row - 30) <= 2


def test_the_shipped_networks_reach_what_their_card_says():
    """Of the 200 held-out images the first 40, to a tenth of a mm: a walk may end one row off on another machine."""
    networks, card = slice_networks()
    test = spine_projections(40, seed=card["held out"]["seed"])
    walks = find_slices(networks["agent_900"], test.images, test.scanned // 2)
    errors = (torch.tensor([walk.row * test.spacing for walk in walks]) - test.heights).abs()
    assert float(errors.mean()) == pytest.approx(card["shipped"]["agent_900"]["first 40 images"], abs=0.3)


def test_the_recipe_is_the_cards(recipe):
    making, card = recipe("slice_agent"), json.loads((FOLDER / "slice_agent.json").read_text(encoding="utf-8"))
    assert card["seed"] == making.SEEDS[0] == 0
    assert card["steps"] == making.STEPS
    assert card["held out"]["images"] == making.HELD_OUT
    assert list(card["held out"]["mm"]) == list(making.KINDS)
    assert card["CPU minutes"] <= 40


def test_a_training_of_the_recipe_runs(recipe):
    making, few = recipe("slice_agent"), spine_projections(2, seed=4)
    for kind in ("duelling", "unet"):
        network = making.train(kind, few, 0, steps=16 if kind == "duelling" else 2)
        errors = making.errors(network, few)
        assert errors.shape == (2,)
        assert making.figures(errors)["max"] >= making.figures(errors)["mean"]

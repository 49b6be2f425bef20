"""The agent that moves a box: its world, what it refuses, and what the shipped agent reaches."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from labkit.datasets.phantoms.torso import LABELS, ORGANS, torso_scans
from labkit.detection import organ_agent as subject
from labkit.detection.box_views import box_scores, check_box, coarse_grey, near, overlap, view, whole
from labkit.detection.boxes_3d import box_iou_3d
from labkit.detection.organ_agent import (
    ACTIONS,
    OrganBoxEnv,
    OrganNetwork,
    answers,
    apply_action,
    mean_boxes,
    organ_agent,
    organ_cases,
    overlap_reward,
)
from labkit.weights import FOLDER

COARSE = {"shape": (16, 24, 32), "spacing": (16, 12, 12)}


@pytest.fixture(scope="module")
def scans():
    return torso_scans(6, **COARSE)


@pytest.fixture(scope="module")
def cases(scans):
    return organ_cases(scans)


def test_gymnasium_finds_nothing_to_complain_of(cases):
    check_env(OrganBoxEnv(cases), skip_render_check=True)  # it draws nothing
    check_env(OrganBoxEnv(cases, training=False), skip_render_check=True)


def test_every_move_has_an_inverse_where_there_is_room():
    box = torch.tensor([40.0, 30, 20, 70, 52, 36], dtype=torch.float64)
    for there, back in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4), (6, 7), (7, 6)):
        moved = apply_action(box, there, (64, 96, 128))
        assert not torch.allclose(moved, box)
        torch.testing.assert_close(apply_action(moved, back, (64, 96, 128)), box)


def test_a_long_random_walk_stays_in_the_volume():
    generator, box = np.random.default_rng(0), whole((16, 24, 32))
    for _ in range(2000):
        box = apply_action(box, int(generator.integers(len(ACTIONS))), (16, 24, 32))
        check_box(box, (16, 24, 32))
        assert float((box[3:] - box[:3]).min()) >= subject.LEAST_SIDE * 0.999


def test_overlap_is_the_iou_of_the_package():
    generator = torch.Generator().manual_seed(0)
    low, side = 20 * torch.rand(50, 3, generator=generator), 1 + 20 * torch.rand(50, 3, generator=generator)
    boxes = torch.cat([low, low + side], dim=1).double()
    table = box_iou_3d(boxes, boxes)
    for i in range(0, 50, 7):
        for j in range(50):
            assert overlap(boxes[i], boxes[j]) == pytest.approx(float(table[i, j]), abs=1e-9)


def test_a_view_is_the_mean_of_what_each_cell_covers():
    """Against the same cells, each cut finely and looked up point by point."""
    volume = np.random.default_rng(0).integers(0, 256, (9, 12, 15)).astype(np.uint8)
    box = torch.tensor([3.3, -1.0 + 1.2, 5.5, 21.1, 17.7, 16.9])
    seen = view(volume, box, margin=1.5, grid=4)
    fine, expected = 60, np.zeros((4, 4, 4))
    middle, reach = (box[:3] + box[3:]).numpy() / 4, 1.5 * (box[3:] - box[:3]).numpy() / 4
    points = [m - r + 2 * r * (np.arange(4 * fine) + 0.5) / (4 * fine) for m, r in zip(middle, reach, strict=True)]
    inside = [(p >= 0) & (p < n) for p, n in zip(points, volume.shape[::-1], strict=True)]
    x, y, z = (np.where(i, np.floor(p), 0).astype(int) for p, i in zip(points, inside, strict=True))
    looked = volume[np.ix_(z, y, x)] * (inside[2][:, None, None] & inside[1][:, None] & inside[0])
    expected = looked.reshape(4, fine, 4, fine, 4, fine).mean(axis=(1, 3, 5))
    assert np.abs(seen - expected).max() < 3


def test_grey_values_are_means_in_the_window():
    volume = torch.full((4, 4, 4), -160.0)
    volume[:2] = 240
    assert coarse_grey(volume)[:, 0, 0].tolist() == [255, 0]
    assert coarse_grey(volume + 1e4).min() == 255


def test_cases_are_organs_that_are_shown_whole_or_over_half_of_the_height(scans, cases):
    assert {case.size for case in cases} == {(16, 24, 32)}
    for case in cases:
        low, high = float(case.truth[2]), float(case.truth[5])
        assert (low > 0 and high < 16) or high - low >= 8
    kept = {(case.scan, case.organ) for case in cases}
    cut = [(i, int(label)) for i, scan in enumerate(scans) for label in scan.labels if (i, int(label)) not in kept]
    assert kept
    assert cut


def test_the_walk_in_training_ends_on_the_organ(cases):
    world = OrganBoxEnv(cases, reward=overlap_reward)
    case = cases[0]
    _, info = world.reset(options={"case": 0, "box": case.truth})
    assert info["iou"] == pytest.approx(1)
    _, reward, ended, stopped, info = world.step(ACTIONS.index("zoom in"))
    assert (reward, ended, stopped) == (-1.0, info["iou"] > 0.85, False)
    test_world = OrganBoxEnv(cases, training=False)
    test_world.reset(options={"case": 0, "box": case.truth})
    assert test_world.step(ACTIONS.index("zoom out"))[2] is False


def test_oscillation_ends_a_walk_and_the_answer_is_the_middle_of_the_swing(cases):
    world = OrganBoxEnv(cases, training=False)
    box = torch.tensor([8.0, 6, 4, 28, 18, 12])
    world.reset(options={"case": 0, "box": box})
    ends = [world.step(ACTIONS.index(name))[2:4] for name in ("x +", "x -", "x +", "x -")]
    assert ends == [(False, False)] * 3 + [(False, True)]
    torch.testing.assert_close(world.answer(), box.double() + torch.tensor([1.0, 0, 0, 1, 0, 0]).double())


def test_a_walk_without_end_is_stopped(cases):
    world = OrganBoxEnv(cases, training=False, move=lambda box, action, size, step: box + 1e-3 * len(world.path))
    world.visits = {}
    world.reset(options={"case": 0, "box": torch.tensor([1.0, 1, 1, 9, 9, 9])})
    steps = 0
    while world.going:
        world.visits.clear()
        world.step(0)
        steps += 1
    assert steps == subject.MOST_STEPS


def test_each_organ_is_drawn_as_often_as_another(cases):
    world = OrganBoxEnv(cases)
    world.reset(seed=0)
    drawn = np.bincount([world.reset()[1]["organ"] for _ in range(600)], minlength=len(ORGANS))
    there = drawn[sorted({case.organ for case in cases})]
    assert there.min() > 0.5 * there.max()


def test_boxes_near_an_organ_overlap_it_and_stay_inside():
    truth, generator = torch.tensor([10.0, 4, 2, 24, 12, 9]), np.random.default_rng(0)
    boxes = [near(truth, (12, 24, 32), generator) for _ in range(300)]
    for box in boxes:
        check_box(box, (12, 24, 32))
    overlaps = np.array([overlap(box, truth) for box in boxes])
    assert overlaps.min() > 0
    assert overlaps.std() > 0.1


def test_a_network_has_an_output_for_each_organ():
    torch.manual_seed(0)
    network = OrganNetwork()
    state = {"view": torch.randint(0, 256, (1, 2, 12, 12, 12), dtype=torch.uint8), "place": torch.rand(1, 6)}
    values = [network(state | {"organ": torch.tensor([organ])}) for organ in (4, 5)]
    assert values[0].shape == (1, 11)
    assert not torch.allclose(*values)
    both = {name: part.repeat(2, *[1] * (part.ndim - 1)) for name, part in state.items()}
    together = network(both | {"organ": torch.tensor([4, 5])})
    torch.testing.assert_close(together, torch.cat(values), atol=1e-5, rtol=1e-4)


def test_mean_boxes_are_means_by_organ(cases):
    means = mean_boxes(cases)
    organ = cases[0].organ
    same = [case.truth for case in cases if case.organ == organ]
    torch.testing.assert_close(means[organ], sum(same) / len(same))
    other = dataclasses.replace(cases[0], size=(8, 8, 8))
    with pytest.raises(ValueError, match="scans must be of one size for a mean box"):
        mean_boxes([cases[0], other])


def test_scores_are_in_millimetres_and_in_voxels():
    truth = torch.tensor([[4.0, 4, 4, 8, 10, 12]])
    scores = box_scores(truth + torch.tensor([0.0, 0, 3, 0, 0, 3]), truth, spacing=(4, 3, 3))
    assert [round(float(scores[name]), 4) for name in ("iou", "wall", "centroid", "wall in voxels")] == [
        round(5 / 11, 4),
        4.0,
        12.0,
        1.0,
    ]


def test_bad_input_is_named(scans, cases):
    world = OrganBoxEnv(cases, training=False)
    with pytest.raises(ValueError, match="a step after its end or before its start; call reset"):
        world.step(0)
    world.reset(options={"case": 0})
    for action in (11, -1, 2.5):
        with pytest.raises(ValueError, match="action must be 0 to 10, got"):
            world.step(action)
    for _ in range(2):
        world.step(0)  # against the border: the same place for the third time
    with pytest.raises(ValueError, match="the walk must be going on"):
        world.step(0)
    with pytest.raises(ValueError, match="case must be 0 to"):
        world.reset(options={"case": len(cases)})
    with pytest.raises(ValueError, match=r"must lie in its volume of 32 x 24 x 16 voxels .* of another volume"):
        world.reset(options={"case": 0, "box": [0, 0, 0, 128, 96, 64]})
    with pytest.raises(ValueError, match="cases must be one or more, got none"):
        OrganBoxEnv([])


def test_an_organ_that_no_scan_has_and_boxes_of_another_volume_are_named(scans):
    with pytest.raises(ValueError, match=r"organs must be of right lung, .*, got 'gallbladder'; look for"):
        organ_cases(scans, ["gallbladder"])
    without = [dataclasses.replace(scan, boxes=torch.zeros(0, 6), labels=torch.zeros(0).long()) for scan in scans]
    with pytest.raises(ValueError, match="each organ must be in a scan, got no heart in 6 scans; take more scans"):
        organ_cases(without, ["heart"])
    finer = dataclasses.replace(scans[0], boxes=4 * scans[0].boxes)
    with pytest.raises(ValueError, match="of another volume, or of another resolution"):
        organ_cases([finer])


def numbers_of(state):
    """A state as one row of small numbers, for a plain network."""
    return np.concatenate([2 * state["place"] - 1, state["view"].ravel() / 255 - 0.5]).astype(np.float32)


def test_an_agent_of_a_library_learns_in_it(scans):
    """Stable-baselines3's DQN, on one lung of a tiny scan: some seconds."""
    library = pytest.importorskip("stable_baselines3", reason="stable-baselines3 comes with the extra `test`")
    lungs = organ_cases(scans, ["right lung"])[:1]
    space = gymnasium.spaces.Box(-1, 1, (6 + 2 * 12**3,), np.float32)
    world = gymnasium.wrappers.TransformObservation(OrganBoxEnv(lungs), numbers_of, space)
    agent = library.DQN(
        "MlpPolicy",
        world,
        learning_rate=5e-4,
        gamma=0.5,
        buffer_size=2500,
        learning_starts=200,
        train_freq=4,
        target_update_interval=200,
        exploration_fraction=0.6,
        policy_kwargs={"net_arch": [64]},
        seed=0,
        device="cpu",
    )
    agent.learn(2000)

    def reached(choose):
        state, _ = world.reset(options={"case": 0, "box": whole(lungs[0].size)})
        while True:
            state, _, ended, stopped, info = world.step(choose(state))
            if ended or stopped:
                return info["iou"]

    by_chance = np.mean([reached(lambda state: int(world.action_space.sample())) for _ in range(10)])
    assert reached(lambda state: int(agent.predict(state, deterministic=True)[0])) > by_chance + 0.2


def card():
    return json.loads((FOLDER / "organ_agent.json").read_text(encoding="utf-8"))


def test_the_shipped_agent_reaches_the_figures_of_its_card(recipe):
    """Of the 40 held-out scans the first 8, measured as the recipe measures them."""
    assert (FOLDER / "organ_agent.safetensors").stat().st_size < 3 * 2**20
    few = organ_cases(torso_scans(8, seed=1))
    means = torch.tensor(card()["mean boxes"]).double()
    reached = recipe("organ_agent").figures(answers(organ_agent(), few, starts=means), few)
    for name, value in card()["first 8 scans"].items():
        assert reached[name] == pytest.approx(value, abs=0.03 if "IoU" in name else 0.15 * value), name


def test_the_recipe_is_the_cards(recipe):
    making, held = recipe("organ_agent"), card()
    assert (held["seed"], held["scans"], held["steps"]) == (making.SEED, making.SCANS, making.STEPS)
    assert held["learning"] == making.LEARNING
    assert len(held["mean boxes"]) == len(ORGANS)
    assert held["mean boxes"][LABELS["liver"]][0] > 0

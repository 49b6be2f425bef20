"""Trees: every end is reached once, nothing hangs loose, and radii follow Murray's law."""

import numpy as np
import pytest

from labkit.datasets.phantoms.trees import grow_tree


def grown(count=80, seed=0):
    generator = np.random.default_rng(seed)
    ends = generator.uniform(10, 60, (count, 3))
    return grow_tree(np.zeros(3), ends, radius=5.0, generator=generator), ends


def test_every_end_is_reached_once():
    tree, ends = grown()
    assert tree.shape == (2 * len(ends) - 1, 8)
    reached = {tuple(row) for row in tree[:, 3:6].round(6)}
    assert {tuple(end) for end in ends.round(6)} <= reached
    assert len(reached) == len(tree)


def test_a_branch_begins_where_another_ended():
    tree, _ = grown()
    ends = {tuple(row) for row in tree[:, 3:6]}
    assert tuple(tree[0, :3]) == (0, 0, 0)
    assert all(tuple(row) in ends for row in tree[1:, :3])


def test_cubes_of_radii_add_up():
    tree, _ = grown()
    for row in tree:
        children = tree[(tree[:, :3] == row[3:6]).all(1)]
        if len(children):
            assert len(children) == 2
            assert (children[:, 6] ** 3).sum() == pytest.approx(row[6] ** 3)
    assert tree[:, 6].max() == 5
    assert tree[:, 6].min() == pytest.approx(5 / 80 ** (1 / 3))


def test_branches_fill_the_room_and_run_short():
    """No end is fed from far away: the last branches are about as long as ends are apart."""
    tree, _ = grown(400)
    last = tree[tree[:, 6] <= tree[:, 6].min() + 1e-9]
    assert len(last) == 400
    lengths = np.linalg.norm(last[:, 3:6] - last[:, :3], axis=1)
    assert np.median(lengths) < 50 / 400 ** (1 / 3) * 1.5


def test_one_end_is_one_segment_and_a_seed_decides():
    assert grown(1)[0].shape == (1, 8)
    assert np.array_equal(grown()[0], grown()[0])
    assert not np.array_equal(grown()[0], grown(seed=1)[0])

import math

import numpy as np
import pytest
import torch

from labkit.bootstrap import bootstrap_interval, group_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(np.mean, values, samples=4000, generator=seeded())
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_more_confidence_is_wider_and_a_seed_repeats():
    values = np.random.default_rng(0).random(50)
    narrow = bootstrap_interval(np.mean, values, confidence=0.5, generator=seeded())
    wide = bootstrap_interval(np.mean, values, confidence=0.99, generator=seeded())
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow == bootstrap_interval(np.mean, values, confidence=0.5, generator=seeded())
    assert narrow != bootstrap_interval(np.mean, values, confidence=0.5, generator=seeded(1))


def test_rows_stay_together_in_lists_arrays_and_tensors():
    numbers = list(range(20))

    def same(a, b, c):
        assert a == b.tolist() == c.tolist()
        assert len(a) == 20
        return 0.0

    assert bootstrap_interval(same, numbers, np.arange(20), torch.arange(20), samples=20) == (0.0, 0.0)


def test_groups_are_drawn_whole_and_widen_the_interval():
    patients = np.repeat(np.arange(20), 4)[::-1]
    values = np.random.default_rng(0).random(20)[patients]  # the films of a patient are alike

    def whole(rows, names):
        assert all(count % 4 == 0 for count in np.bincount(names))
        return rows.mean()

    low, high = bootstrap_interval(whole, values, patients, groups=patients, generator=seeded())
    film_low, film_high = bootstrap_interval(np.mean, values, generator=seeded())
    assert 1.6 < (high - low) / (film_high - film_low) < 2.4  # sqrt(4)


def test_an_array_gets_an_interval_for_each_entry():
    values = np.random.default_rng(0).random((40, 3))
    low, high = bootstrap_interval(lambda rows: rows.mean(axis=0), values, generator=seeded())
    assert low.shape == high.shape == (3,)
    assert np.all((low < values.mean(axis=0)) & (values.mean(axis=0) < high))


def test_resamples_without_a_value_are_left_out():
    def first_or_nan(rows):
        return rows.mean() if rows.max() > 0 else float("nan")

    low, high = bootstrap_interval(first_or_nan, np.array([0.0, 0.0, 1.0]), generator=seeded())
    assert low == pytest.approx(1 / 3)
    assert high == 1.0
    assert all(math.isnan(end) for end in bootstrap_interval(lambda rows: float("nan"), [1, 2], samples=5))


def test_group_rows_by_hand():
    names, rows = group_rows(["b", "a", "b"], 3)
    assert names.tolist() == ["a", "b"]
    assert [row.tolist() for row in rows] == [[1], [0, 2]]
    assert [row.tolist() for row in group_rows(None, 2)[1]] == [[0], [1]]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (([],), {}, r"lengths \[0\]; give at least one"),
        ((), {}, r"lengths \[\]"),
        (([1, 2], [1]), {}, r"lengths \[2, 1\]"),
        (([1, 2],), {"groups": [1]}, r"groups must have shape \(2,\), got \(1,\)"),
        (([1, 2],), {"samples": 0}, "samples >= 1"),
        (([1, 2],), {"samples": 10.0}, "whole samples >= 1 and .* must hold, got 10.0 and 0.95"),
        (([1, 2],), {"samples": "10"}, "whole samples >= 1"),
        (([1, 2],), {"confidence": float("nan")}, "0 < confidence < 1 must hold"),
        (([1, 2],), {"confidence": 95}, "0 < confidence < 1 must hold, got 1000 and 95"),
    ],
)
def test_bad_input_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, *data, **options)

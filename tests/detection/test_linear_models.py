"""R-CNN's linear SVM with its hard negatives, and its ridge regression; against scikit-learn, normal equations."""

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from labkit.detection.linear_models import fit_svm, hard_negatives, ridge


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_clouds(count=400, features=6, seed=0):
    """Mostly background; the class lies two to the right."""
    signs = torch.where(torch.arange(count) % 8 == 0, 1, -1)
    rows = normal(count, features, seed=seed) + 3
    rows[:, 0] += (signs > 0) * 3.0
    return rows, signs


def test_hard_negatives_by_hand():
    scores = torch.tensor([-1.0, -0.9, 0.3, 2.0, -5.0, 0.3])
    background, chosen = torch.tensor([1, 1, 1, 0, 1, 1]).bool(), torch.tensor([0, 0, 0, 0, 0, 0]).bool()
    assert hard_negatives(scores, background, chosen, 9).tolist() == [2, 5, 1]
    assert hard_negatives(scores, background, chosen, 2).tolist() == [2, 5]
    chosen[2] = True
    assert hard_negatives(scores, background, chosen, 9).tolist() == [5, 1]


def test_with_all_background_at_once_it_is_scikit_learns_svm():
    features, signs = two_clouds()
    weight, bias, added = fit_svm(features, signs, start=1000, penalty=0.01)
    scale = 20 / features.norm(dim=1).mean()
    theirs = LinearSVC(C=0.01, dual=False, intercept_scaling=10.0).fit((features * scale).numpy(), signs.numpy())
    assert added == []
    expected = torch.from_numpy(theirs.decision_function((features * scale).numpy())).float()
    torch.testing.assert_close(features @ weight + bias, expected, atol=1e-4, rtol=1e-4)


def test_mining_leaves_no_background_that_is_hard_and_unknown():
    features, signs = two_clouds(2000)
    generator = torch.Generator().manual_seed(0)
    weight, bias, added = fit_svm(features, signs, start=20, added=100, rounds=30, penalty=0.01, generator=generator)
    everything = fit_svm(features, signs, start=2000, penalty=0.01)
    assert len(added) > 1
    assert sum(added) + 20 < 1750
    agree = ((features @ weight + bias > 0) == (features @ everything[0] + everything[1] > 0)).float().mean()
    assert agree > 0.97


def test_rows_of_neither_side_do_not_count():
    features, signs = two_clouds()
    extra = torch.full((50, 6), 50.0)
    both = torch.cat([features, extra]), torch.cat([signs, torch.zeros(50, dtype=torch.int64)])
    first, second = fit_svm(features, signs)[0], fit_svm(*both)[0]
    torch.testing.assert_close(first / first.norm(), second / second.norm(), atol=0.1, rtol=0)  # only the scale differs


@pytest.mark.parametrize("sign", [1, -1])
def test_an_svm_needs_both_sides(sign):
    with pytest.raises(ValueError, match="rows of the class and of background"):
        fit_svm(torch.rand(5, 3), torch.full((5,), sign))


def test_nothing_is_added_after_the_last_training():
    features, signs = torch.cat([normal(30, 4), normal(300, 4, seed=1)]), torch.tensor([1] * 30 + [-1] * 300)
    one, two = (fit_svm(features, signs, start=10, added=5, rounds=rounds)[2] for rounds in (1, 2))
    assert (one, two) == ([], [5])


@pytest.mark.parametrize("options", [{"start": 0}, {"rounds": 0}])
def test_an_svm_begins_with_something(options):
    with pytest.raises(ValueError, match="start and rounds must be at least 1"):
        fit_svm(torch.rand(4, 3), torch.tensor([1, 1, -1, -1]), **options)


@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_ridge_solves_the_normal_equations(penalty):
    features, targets = normal(40, 5, seed=2) + 1, normal(40, 4, seed=3)
    rows = torch.cat([features, torch.ones(40, 1)], dim=1).double()
    cost = torch.diag(torch.tensor([penalty] * 5 + [0.0]).double())  # the bias is free
    expected = torch.linalg.solve(rows.T @ rows + cost, rows.T @ targets.double())
    torch.testing.assert_close(ridge(features, targets, penalty), expected.float(), atol=1e-5, rtol=0)


def test_ridge_stands_features_that_never_fire():
    features = normal(10, 3, seed=4)
    features[:, 1] = 0
    weights = ridge(features, normal(10, 4, seed=5), 1.0)
    assert weights.isfinite().all()
    assert not weights[1].any()


@pytest.mark.parametrize(
    ("features", "targets", "penalty"),
    [
        (torch.zeros(0, 3), torch.zeros(0, 4), 1.0),
        (torch.ones(3, 3), torch.ones(2, 4), 1.0),
        (torch.ones(3, 3), torch.ones(3, 4), 0.0),
        (torch.ones(3, 3), torch.ones(3, 4), float("nan")),
    ],
)
def test_ridge_names_bad_input(features, targets, penalty):
    with pytest.raises(ValueError, match="at least one, and penalty > 0"):
        ridge(features, targets, penalty)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ridge_is_scikit_learns_in_whatever_precision_the_features_have(dtype):
    features, targets = normal(30, 4, seed=6).to(dtype), normal(30, 2, seed=7).to(dtype)
    weights = ridge(features, targets, 2.0)
    theirs = Ridge(alpha=2.0).fit(features.numpy(), targets.numpy())
    assert weights.dtype == dtype
    torch.testing.assert_close(weights[:-1].T, torch.from_numpy(theirs.coef_).to(dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights[-1], torch.from_numpy(theirs.intercept_).to(dtype), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_the_networks_fault(value):
    features, signs = two_clouds(40)
    features[3, 1] = value
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity; look for them in the network"):
        fit_svm(features, signs)
    with pytest.raises(ValueError, match="features must be finite"):
        ridge(features, signs[:, None].float(), 1.0)
    with pytest.raises(ValueError, match="targets must be finite"):
        ridge(features[4:], features[:-4], 1.0)

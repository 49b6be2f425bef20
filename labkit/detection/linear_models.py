"""The linear models of R-CNN: a support vector machine a class, and a ridge regression that moves boxes.

Both are scikit-learn's; what is ours is the mining of hard background (Girshick et al. 2014, section 2.3 and
appendix C).
Taught in notebook 06.

Shapes   N rows of all images, F features.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import Tensor

MARGIN = -1.0  # a background row at or below it costs the SVM nothing
FEATURE_LENGTH = 20.0  # features are scaled to this mean length, so that one penalty suits every network (the paper's)


def hard_negatives(scores: Tensor, is_background: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Rows of background that the SVM gets wrong or nearly so and has not been trained on, the worst first.

    Built from scratch in notebook 06.

    Args:
        scores: (N,) of the SVM; background ought to be at -1 or below.
        is_background: (N,) bool.
        chosen: (N,) bool, rows it has been trained on.
        count: at most so many.

    Returns:
        (M,) int64 rows.

    Example:
        >>> scores = torch.tensor([0.5, -0.2, 2.0, -3.0])
        >>> hard_negatives(scores, torch.tensor([True, True, False, True]), torch.zeros(4, dtype=torch.bool), 10)
        tensor([0, 1])
    """
    rows = (is_background & ~chosen & (scores > MARGIN)).nonzero()[:, 0]
    return rows[scores[rows].argsort(descending=True, stable=True)][:count]


def fit_svm(
    features: Tensor,
    signs: Tensor,
    *,
    penalty: float = 1e-3,
    start: int = 1000,
    added: int = 1000,
    rounds: int = 5,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, list[int]]:
    """A linear SVM of one class against background, trained on the hard part of the background (section 2.3).

    It begins with random background and adds in each round what the SVM so far gets wrong, until nothing is left.

    Args:
        features: (N, F).
        signs: (N,) 1 the class, -1 background, 0 neither.
        penalty: weight of the errors, the C of scikit-learn.
        start: background rows to begin with.
        added: at most so many in each round.
        rounds: at most so many trainings; after the last one nothing is added.
        generator: of the first draw.

    Returns:
        weight (F,), bias (), and how many background rows were added before each training but the first.

    Raises:
        ValueError: the class or the background has no row, or there is nothing to begin with.
        ConvergenceWarning: scikit-learn's, raised: a training did not come to its end. Take a smaller penalty.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [0.2, 1.0], [3.0, 1.0], [2.8, 1.0]])
        >>> weight, bias, _ = fit_svm(features, torch.tensor([-1, -1, 1, 1]), penalty=1.0)
        >>> (features @ weight + bias > 0).tolist()
        [False, False, True, True]
    """
    is_background = signs < 0
    if not (signs > 0).any() or not is_background.any():
        raise ValueError(
            f"expected rows of the class and of background, got {int((signs > 0).sum())} and "
            f"{int(is_background.sum())}; give an image that has some"
        )
    _check_finite(features=features)
    if start < 1 or rounds < 1:
        raise ValueError(f"start and rounds must be at least 1, got {start} and {rounds}; leave them out")
    device = features.device
    scale = FEATURE_LENGTH / features.norm(dim=1).mean().clamp(min=1e-12)
    scaled = features * scale
    background = is_background.nonzero()[:, 0]
    chosen = signs > 0
    chosen[background[torch.randperm(len(background), generator=generator)[:start].to(device)]] = True
    history = []
    for turn in range(rounds):
        svm = LinearSVC(C=penalty, dual=False, intercept_scaling=10.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)  # an SVM that did not finish is a wrong one
            svm.fit(scaled[chosen].cpu().numpy(), signs[chosen].cpu().numpy())
        weight = torch.from_numpy(svm.coef_[0]).to(scaled)
        bias = torch.tensor(svm.intercept_[0]).to(scaled)
        if turn == rounds - 1:
            break
        hard = hard_negatives(scaled @ weight + bias, is_background, chosen, added)
        if not len(hard):
            break
        history.append(len(hard))
        chosen[hard] = True
    return weight * scale, bias, history


def ridge(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """(F + 1, D) weights of a linear regression whose weights are kept small; the last row is the bias, kept free.

    Built from scratch in notebook 06 (appendix C of the paper).

    Args:
        features: (N, F).
        targets: (N, D).
        penalty: positive; how much a squared weight costs against a squared error.

    Raises:
        ValueError: there is no row, rows differ, or the penalty is not positive.

    Example:
        >>> ridge(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]]), 2.0)  # without penalty: 2 x + 1
        tensor([[1.],
                [2.]])
    """
    if len(features) != len(targets) or not len(features) or not penalty > 0:
        raise ValueError(
            f"expected as many features as targets, at least one, and penalty > 0, got {len(features)}, "
            f"{len(targets)} and {penalty}; take rows near a truth"
        )
    _check_finite(features=features, targets=targets)
    # in float64 and on the CPU: normal equations square errors, and not every GPU knows float64
    rows, wanted = (values.detach().cpu().double().numpy() for values in (features, targets))
    found = Ridge(alpha=penalty, solver="cholesky").fit(rows, wanted)  # its intercept costs nothing
    weights = np.column_stack([np.atleast_2d(found.coef_), np.atleast_1d(found.intercept_)]).T  # (F + 1, D)
    return torch.from_numpy(weights).to(features.dtype).to(features.device)


def _check_finite(**values: Tensor) -> None:
    """Refuse NaN and infinity, by name."""
    for name, value in values.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity; look for them in the network's weights")

"""Figures of every epoch: what may be monitored, which way is better, and that validation changes nothing."""

import pytest
import torch
from torch import nn
from trainings import BATCHES, Detector, detector_batches, quick

from labkit.training.losses import BatchLoss
from labkit.training.validation import direction, validation


def best_epoch(*figures, **options):
    """Which epoch's weights stay, given the figures of each."""
    seen, model = [], nn.Linear(3, 1)

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.detach().clone())
        return figures[len(seen) - 1]

    history = quick(model=model, epochs=len(figures), validate=validate, **options)
    return next(number for number, weight in enumerate(seen) if torch.equal(weight, model.weight)), history


NAN = float("nan")
ROWS = [(0.1, 3.0, 0.3), (0.9, 2.0, 0.2), (NAN, 1.0, 0.1), (0.5, NAN, 0.3)]


@pytest.mark.parametrize(
    ("options", "best"),
    [({}, 1), ({"mode": "min"}, 0), ({"monitor": "error rate"}, 2), ({"monitor": "val_loss"}, 2), ({"mode": "max"}, 1)],
)
def test_the_best_weights_are_kept(options, best):
    figures = [dict(zip(("auc", "error rate", "val_loss"), row, strict=True)) for row in ROWS]
    epoch, history = best_epoch(*figures, **options)
    assert epoch == best
    assert history["error rate"][:3] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("name", ["mse", "rmse", "MAE", "Loss", "nll", "Error", "valLoss", "test RMSE", "loss_box_reg"])
def test_names_of_errors_are_best_where_lowest(name):
    epoch, _ = best_epoch({name: 3.0}, {name: 1.0}, {name: 2.0})
    assert epoch == 1
    assert direction(name) == "min"


@pytest.mark.parametrize(
    "name", ["AUC", "accuracy", "mean IoU", "AP50", "mAP", "Dice", "psnr", "sensitivity at 1", "F1"]
)
def test_names_of_scores_are_best_where_highest(name):
    assert direction(name) == "max"


@pytest.mark.parametrize(
    "name", ["score", "figure", "0", "mean", "neg_mse", "-loss", "1 - AUC", "negative log AUC", "AUC loss"]
)
def test_a_name_that_does_not_tell_the_direction_is_asked_about(name):
    with pytest.raises(ValueError, match="mode must say whether the lowest or the highest"):
        quick(validate=lambda model: {name: 1.0})
    assert len(quick(validate=lambda model: {name: 1.0}, mode="min")[name]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"monitor": "score", "validate": lambda model: {}},
            "mode must say whether the lowest or the highest 'score' is best",
        ),
        ({"monitor": "mean", "validate": lambda model: {}}, "mode must say"),
        (
            {"monitor": "count", "validate": lambda model: {}, "loss": None},
            "mode must say",
        ),  # of the model's or of validate's
        ({"monitor": "auc"}, "monitor must be one of loss, got 'auc'; or leave it out"),
        ({"monitor": "auc", "validation_loader": BATCHES}, "monitor must be one of loss, val_loss, got 'auc'"),
        ({"monitor": "val_loss"}, "monitor must be one of loss, got 'val_loss'"),
    ],
)
def test_what_is_monitored_is_asked_about_before_the_first_step(options, message):
    class Untouched(list):
        def __iter__(self):
            raise AssertionError("a step was made")

    with pytest.raises(ValueError, match=message):
        quick(loader=Untouched(BATCHES), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"monitor": "score", "mode": "max"},
        {"monitor": "score AUC"},
        {"monitor": "loss"},
        {"monitor": "val_loss", "validation_loader": BATCHES},
    ],
)
def test_what_is_told_trains(options):
    history = quick(validate=lambda model: {"score": 1.0, "score AUC": 0.5}, **options)
    assert history["score"] == [1.0]


def test_of_the_figures_by_class_their_mean_is_watched():
    """`average_precision` gives {label: AP, …, "mean": mAP}: class 1 is best in epoch 0, the mean in epoch 1."""
    figures = [{1: 0.9, 2: 0.1, "mean": 0.5}, {1: 0.8, 2: 0.8, "mean": 0.8}, {1: 0.7, 2: 0.5, "mean": 0.6}]
    epoch, history = best_epoch(*figures)
    assert epoch == 1
    assert history["1"] == [0.9, 0.8, 0.7]
    assert best_epoch(*figures, monitor="1", mode="max")[0] == 0
    with pytest.raises(ValueError, match="mode must say"):
        best_epoch({1: 0.9, 2: 0.1})


def test_a_loss_that_the_model_names_can_be_monitored():
    history = quick(model=Detector(), loss=None, loader=detector_batches(), epochs=2, monitor="count")
    assert history.keys() == {"loss", "count", "size"}


def test_detectors_validate_without_touching_their_statistics():
    model, batches = Detector(), detector_batches()
    quick(model=model, loss=None, loader=batches, epochs=2)
    statistics = model.norm.running_mean.clone()
    batch_loss = BatchLoss(None, torch.device("cpu"), "fp32")
    figures = validation(model, lambda model: {"found": len(model(batches[0][0]))}, batches, batch_loss, taken=())
    assert figures["found"] == 2
    assert figures["val_loss"] > 0
    assert torch.equal(model.norm.running_mean, statistics)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "auc"}, "monitor must be one of loss, got 'auc'"),
        ({"monitor": "recall", "validate": lambda model: {"auc": 1}}, "monitor must be one of loss, auc, got 'recall'"),
        ({"validate": lambda model: 0.5}, "validate must return a dict of figures, got 0.5"),
        ({"validate": lambda model: {"auc": "high"}}, "validate must return a dict of figures"),
        ({"validate": lambda model: {"loss": 1.0}}, "validate must name its own figures, got 'loss'"),
    ],
)
def test_wrong_figures_are_told_with_a_cure(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options)


def test_figures_that_change_from_epoch_to_epoch_are_refused():
    names = iter(["auc", "auc", "recall"])
    with pytest.raises(ValueError, match="the same losses and figures"):
        quick(epochs=3, validate=lambda model: {next(names): 1.0}, monitor="loss")

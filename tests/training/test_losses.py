"""The loss of a batch: its form, and how many samples it speaks for."""

import pytest
import torch
from torch import nn
from trainings import BATCHES, Detector, detector_batches, quick

from labkit.training.losses import count_samples


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        ((torch.zeros(5, 3), torch.zeros(5)), 5),
        (([torch.zeros(5, 3), torch.zeros(5, 1)], [torch.zeros(5), torch.zeros(5, 2)]), 5),  # two inputs, two targets
        (({"image": torch.zeros(5, 3)}, torch.zeros(5)), 5),
        (([torch.zeros(1, 8), torch.zeros(1, 9)], torch.zeros(2)), 2),  # images of their own sizes, a target each
        (([torch.zeros(3, 8), torch.zeros(3, 9)], [{"boxes": torch.zeros(3, 4)}, {"boxes": torch.zeros(3, 4)}]), 2),
        ((torch.zeros(()), torch.zeros(())), 1),
    ],
)
def test_the_samples_of_a_batch_are_counted(batch, count):
    assert count_samples(batch) == count


def test_a_detectors_samples_are_its_images():
    images, targets = detector_batches()[0]
    assert count_samples((images, targets), detector=True) == 2
    assert count_samples((images, [torch.zeros(7, 4)] * 2, targets), detector=True) == 2
    assert count_samples((torch.zeros(4, 1, 8, 10), [{}] * 4), detector=True) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": [torch.ones(2, 3)]}, r"must yield \(inputs, targets\), got Tensor"),
        ({"loader": [(torch.ones(2, 3),)]}, r"must yield \(inputs, targets\), got 1 parts"),
        (
            {"loss": lambda outputs, targets: (outputs - targets).square()},
            r"scalar tensor, got \(2, 1\); take its mean",
        ),
        ({"loss": lambda outputs, targets: 0.5}, "loss must be a scalar tensor, got float"),
        ({"loss": None, "loader": [(torch.ones(2, 3),)]}, "must return a dict of losses, got Tensor"),
    ],
)
def test_a_loss_of_the_wrong_form_is_told_with_a_cure(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"loss": torch.ones(())}, "must not call one of its losses 'loss'"),
        ({"box": torch.ones(()), "size": torch.ones(3)}, r"loss must be a scalar tensor, got \(3,\)"),
    ],
)
def test_the_losses_of_a_detector_have_names_of_their_own_and_are_scalars(losses, message):
    class Odd(Detector):
        def forward(self, images, targets=None):
            return {name: value * self.scale for name, value in losses.items()}

    with pytest.raises(ValueError, match=message):
        quick(model=Odd(), loss=None, loader=detector_batches())


def test_batches_may_be_lists_as_well():
    assert len(quick(loader=[list(batch) for batch in BATCHES])["loss"]) == 1


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, targets: nn.functional.mse_loss(outputs, targets).detach(),
        lambda outputs, targets: torch.tensor(nn.functional.mse_loss(outputs, targets).item()),
        lambda outputs, targets: (outputs.argmax(1) != 0).float().mean(),
        lambda outputs, targets: torch.tensor(1),
    ],
)
def test_a_loss_that_says_nothing_of_the_weights_is_refused(loss):
    with pytest.raises(ValueError, match="the loss must depend on the weights, got a number without a gradient; "):
        quick(loss=loss)

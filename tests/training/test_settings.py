"""Of another training a checkpoint is refused, by the name of what differs; of the same one never."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, SequentialLR, StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset
from trainings import BATCHES, quick


def adam(**options):
    model = nn.Linear(3, 1)
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), **options)}


def groups(rate):
    model = nn.Linear(3, 1)
    return {
        "model": model,
        "optimizer": torch.optim.SGD([{"params": model.weight}, {"params": model.bias, "lr": rate}]),
    }


def scheduled(make, *options):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"model": model, "scheduler": make(optimizer, *options)}


def warmed_up(gamma):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = [StepLR(optimizer, 1, 0.9), StepLR(optimizer, 1, gamma)]
    return {"model": model, "scheduler": SequentialLR(optimizer, parts, [2])}


def loss(outputs, targets):
    return nn.functional.mse_loss(outputs, targets)


def other_body():
    def loss(outputs, targets):
        return nn.functional.l1_loss(outputs, targets)

    return loss


def weighed(weight):
    def loss(outputs, targets):
        return (weight * (outputs - targets)).square().mean()

    return {"loss": loss}


def loader(level, **options):
    data = TensorDataset(torch.full((4, 3), float(level)), torch.ones(4, 1))
    return {"loader": DataLoader(data, batch_size=2, **options)}


def shuffled(seed):
    return loader(1, shuffle=True, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (dict, lambda: {"model": nn.Sequential(nn.Linear(3, 1))}, "model 'Linear', got 'Sequential'"),
        (dict, lambda: {"model": nn.Linear(3, 1, bias=False)}, "weights bias"),
        (dict, lambda: {"loss": nn.functional.l1_loss}, "loss 'mse_loss', got 'l1_loss'"),
        (dict, lambda: {"loader": BATCHES[:1]}, "number of batches 2, got 1"),
        (dict, lambda: adam(lr=0.5), "option lr '0.001', got '0.5'"),
        (dict, lambda: {"monitor": "loss"}, "monitor"),
        (lambda: groups(0.1), lambda: groups(0.2), "parameter group 1 lr '0.1', got '0.2'"),
        (lambda: scheduled(StepLR, 1000, 0.1), lambda: scheduled(StepLR, 1, 0.5), "schedule step_size '1000', got '1'"),
        (lambda: scheduled(StepLR, 9, 0.1), lambda: scheduled(StepLR, 9, 0.5), "schedule gamma '0.1', got '0.5'"),
        (
            lambda: scheduled(StepLR, 9),
            lambda: scheduled(CosineAnnealingLR, 9),
            "scheduler 'StepLR', got 'CosineAnneal",
        ),
        (lambda: warmed_up(0.5), lambda: warmed_up(0.4), "schedule _schedulers 1 gamma '0.5', got '0.4'"),
        (
            lambda: scheduled(LambdaLR, lambda step: 0.5**step),
            lambda: scheduled(LambdaLR, lambda step: 0.25**step),
            "schedule lr_lambdas",
        ),
        (lambda: {"loss": loss}, lambda: {"loss": other_body()}, "the code of the loss of then, got another"),
        (lambda: weighed(1.0), lambda: weighed(2.0), "the code of the loss of then, got another"),
        (
            lambda: {"loss": nn.MSELoss()},
            lambda: {"loss": nn.MSELoss(reduction="sum")},
            "the code of the loss of then, got another",
        ),
        (lambda: loader(1), lambda: loader(2), "the training data of then, got another"),
        (
            dict,
            lambda: {"loader": [(torch.ones(2, 3), torch.zeros(2, 1)), BATCHES[1]]},
            "the training data of then, got another",
        ),
        (
            lambda: {"validation_loader": BATCHES},
            lambda: {"validation_loader": BATCHES[::-1]},
            "the validation data of then, got another",
        ),
        (lambda: shuffled(1), lambda: shuffled(2), "seed [0, 1], got [0, 2]"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_by_name(tmp_path, first, second, named):
    path = tmp_path / "training.safetensors"
    torch.manual_seed(0)
    quick(checkpoint=path, **first())
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="is of another training: expected") as refusal:
        quick(checkpoint=path, **second())
    assert named in str(refusal.value)
    assert str(path) in str(refusal.value)
    torch.manual_seed(0)
    history = quick(checkpoint=path, **first())  # made anew alike, it is the same training
    assert len(history["loss"]) == 1


def test_another_seed_is_another_training(tmp_path):
    for seed in (1, 1):
        torch.manual_seed(seed)
        quick(checkpoint=tmp_path / "a.safetensors")
    torch.manual_seed(2)
    with pytest.raises(ValueError, match=r"seed \[1\], got \[2\]"):
        quick(checkpoint=tmp_path / "a.safetensors")


def test_without_a_seed_of_ones_own_an_interrupted_training_goes_on(tmp_path):
    torch.seed()
    quick(checkpoint=tmp_path / "a.safetensors")
    torch.seed()
    assert len(quick(checkpoint=tmp_path / "a.safetensors", epochs=2)["loss"]) == 2


def one_cycle(epochs):
    return {"epochs": epochs, **scheduled(OneCycleLR, 0.1, epochs * len(BATCHES))}


def test_more_epochs_of_a_one_cycle_schedule_say_which_schedule_can(tmp_path):
    path = tmp_path / "training.safetensors"
    quick(checkpoint=path, **one_cycle(2))
    with pytest.raises(ValueError, match=r"schedule total_steps '4', got '6'.*cannot go on for more epochs.*StepLR or"):
        quick(checkpoint=path, **one_cycle(3))
    with pytest.raises(
        ValueError, match=r"total_steps=4, of which 4 are made, for 2 more batches.*StepLR or ConstantLR"
    ):
        quick(checkpoint=path, **one_cycle(2) | {"epochs": 3})
    assert len(quick(checkpoint=path, **one_cycle(2))["loss"]) == 2


class Cached(Dataset):
    """It reads an image when it is asked for, and keeps it."""

    def __init__(self):
        self.cache, self.reads = {}, 0

    def __len__(self):
        return 4

    def __getitem__(self, place):
        self.reads += 1
        return self.cache.setdefault(place, (torch.full((3,), float(place)), torch.ones(1)))


def test_data_that_change_while_they_are_read_are_not_compared(tmp_path):
    path, data = tmp_path / "training.safetensors", Cached()
    quick(checkpoint=path, loader=DataLoader(data, batch_size=2))
    assert data.cache
    assert len(quick(checkpoint=path, loader=DataLoader(data, batch_size=2), epochs=2)["loss"]) == 2
    assert len(quick(checkpoint=path, loader=DataLoader(Cached(), batch_size=2), epochs=3)["loss"]) == 3

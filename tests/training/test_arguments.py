"""What is wrong with a call is said before its first step, with the cure."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from trainings import BATCHES, quick


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(3), torch.ones(1))] * 4)


class Counted(Stream):
    def __len__(self):
        return 4


class Endless(torch.utils.data.Sampler):
    def __iter__(self):
        yield [0]


ENDLESS = DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 3), torch.ones(4, 1)), batch_sampler=Endless())


def never(outputs, targets):
    raise AssertionError("a step was made")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": []}, "loader must have a batch, got none"),
        ({"loader": iter(BATCHES)}, "loader must be a DataLoader or a list of batches, got tuple_iterator"),
        ({"loader": DataLoader(Stream())}, "loader must have a dataset with a length, got the IterableDataset Stream"),
        (
            {"loader": DataLoader(Counted())},
            r"IterableDataset Counted; give it __len__ and __getitem__, or pass list\(",
        ),
        ({"loader": ENDLESS}, "got DataLoader without a length"),
        ({"validation_loader": DataLoader(Stream())}, "validation_loader must have a dataset with a length"),
        ({"validation_loader": []}, "validation_loader must have a batch"),
        ({"epochs": 0}, "epochs must be a whole number from 1, got 0"),
        ({"epochs": 2.0}, "epochs must be a whole number from 1, got 2.0"),
        ({"epochs": True}, "epochs must be a whole number from 1, got True"),
        ({"model": nn.ReLU()}, "model must have a parameter to train, got none"),
        ({"optimizer": torch.optim.SGD(nn.Linear(3, 1).parameters())}, "optimizer must hold parameters of this model"),
        ({"precision": "half"}, "precision must be one of"),
        ({"device": "tpu"}, "device must be one of"),
        ({"mode": "best"}, "mode must be 'min', 'max' or None, got 'best'"),
        ({"steps": []}, "steps must be an empty dict"),
        ({"model": nn.Linear}, r"model must be an nn.Module, got the class Linear; write Linear\(\)"),
        ({"model": never}, "model must be an nn.Module, got <function"),
        ({"loss": nn.MSELoss}, r"loss must be a function, or None, got the class MSELoss; write MSELoss\(\)"),
        ({"loss": "mse"}, "loss must be a function, or None, got 'mse'; write a function's name, without quotes"),
        ({"validate": {"auc": 1}}, "validate must be a function, or None, got {'auc': 1}"),
        ({"monitor": 3}, "monitor must be the name of a figure, got 3; write it between quotes"),
        ({"optimizer": torch.optim.SGD}, r"optimizer must be one of torch.optim, got the class SGD; write SGD\(model"),
        ({"optimizer": "adam"}, "optimizer must be one of torch.optim, got str"),
        (
            {"checkpoint": "~nobody-of-that-name/a"},
            "checkpoint must be a file in a folder there is, got '~nobody-of-that-name/a': .* without ~",
        ),
        ({"checkpoint": 3}, "checkpoint must be a file in a folder there is, got 3: .* write it between quotes"),
        ({"checkpoint": "a\0b"}, "a zero byte in it"),
        ({"checkpoint": ""}, "checkpoint must be a file, got the folder ."),
        ({"checkpoint": f"{__file__}/a"}, "checkpoint .* must be in a folder, got none .*; name another place"),
    ],
)
def test_wrong_arguments_are_told_with_a_cure(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**{"loss": never} | options)


@pytest.mark.parametrize("epochs", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_other_libraries_are_whole(epochs):
    assert len(quick(epochs=epochs)["loss"]) == 3


def scheduled(make):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"model": model, "scheduler": make(optimizer), "loss": never}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            torch.optim.lr_scheduler.ReduceLROnPlateau,
            "got ReduceLROnPlateau, which waits for a figure; take OneCycleLR",
        ),
        (
            lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5),
            "got total_steps=5, of which 0 are made, for 6 more batches; make it with total_steps=6 from.*StepLR",
        ),
        (lambda optimizer: type("Mine", (), {"optimizer": optimizer})(), "one of torch.optim.lr_scheduler, got Mine"),
    ],
)
def test_a_schedule_that_cannot_go_to_the_end_is_refused_before_the_first_step(make, message):
    with pytest.raises(ValueError, match=message):
        quick(epochs=3, **scheduled(make))


def test_a_scheduler_of_another_optimizer_is_refused():
    model = nn.Linear(3, 1)
    optimizer, another = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.ConstantLR(another)
    with pytest.raises(ValueError, match="scheduler must be made with this optimizer"):
        quick(model=model, optimizer=optimizer, scheduler=scheduler)


def test_a_folder_for_reading_only_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.training.arguments.os.access", lambda *_: False)
    with pytest.raises(ValueError, match="must be in a folder that can be written, got another; name another place"):
        quick(loss=never, checkpoint=tmp_path / "deep" / "a.safetensors")

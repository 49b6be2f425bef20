"""The checkpoint: whole at any moment, resumed to the same result, and never taken for another training's."""

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import BATCHES, line_training, quick, same, squares_training

from labkit import files
from labkit.training import checkpoint, fit


@pytest.fixture(scope="module")
def uninterrupted():
    return squares_training()


# It resumes


@pytest.mark.parametrize("moment", ["epoch", "write"])
def test_killed_at_any_moment_it_resumes_to_the_same_result(forked, uninterrupted, moment):
    path = forked / moment / "training.safetensors"
    assert (forked / f"{moment}.status").read_text() == str(-signal.SIGKILL)
    assert len(list(path.parent.glob("*.unfinished"))) == (moment == "write")
    model, history = squares_training(path, drawn=9)  # other weights, other random numbers: all come from the file
    assert history == uninterrupted[1]
    assert same(model, uninterrupted[0])


class Interrupted(Exception):
    pass


def interrupted_after(epochs):
    """A `validate` that stops the training in the epoch after these."""
    left = iter(range(epochs))

    def validate(model):
        if next(left, None) is None:
            raise Interrupted
        return {}

    return validate


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_call_takes_nothing_from_its_own_start(tmp_path, uninterrupted, epochs):
    path = tmp_path / "deep" / "training.safetensors"
    with pytest.raises(Interrupted):
        squares_training(path, validate=interrupted_after(epochs))
    model, history = squares_training(path, drawn=9)
    assert history == uninterrupted[1]
    assert same(model, uninterrupted[0])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("make", [torch.optim.lr_scheduler.CosineAnnealingLR, torch.optim.lr_scheduler.OneCycleLR])
def test_the_same_objects_go_on_after_an_interruption(tmp_path, make):
    """As in a notebook, where the cell is run again: model, optimizer, schedule and data have moved on."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer, **({"T_max": 6} if "Cosine" in make.__name__ else {"max_lr": 0.1, "total_steps": 8}))
    seen = []  # a loss that counts: its content changes, so that it cannot be compared

    def loss(outputs, targets):
        seen.append(1)
        return nn.functional.mse_loss(outputs, targets)

    call = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loss": loss, "epochs": 4}
    with pytest.raises(Interrupted):
        quick(**call, checkpoint=tmp_path / "a.safetensors", validate=interrupted_after(2))
    history = quick(**call, checkpoint=tmp_path / "a.safetensors")
    assert len(history["loss"]) == 4
    assert scheduler.last_epoch == 8


def test_a_finished_training_returns_at_once_and_can_go_on(tmp_path):
    path = tmp_path / "training.safetensors"
    first, history = line_training(checkpoint=path)
    written = path.stat().st_mtime_ns
    second, again = line_training(checkpoint=path)
    assert again == history
    assert same(first, second)
    assert path.stat().st_mtime_ns == written
    longer, more = line_training(checkpoint=path, epochs=5)
    whole, expected = line_training(epochs=5)
    assert more == expected
    assert same(longer, whole)


def test_the_checkpoint_is_plain_safetensors_and_its_precision_goes_on(tmp_path):
    path = tmp_path / "training.safetensors"
    line_training(checkpoint=path, epochs=1, precision="bf16")
    weights = safetensors.torch.load_file(path)
    assert weights["model/0.weight"].shape == (7, 5)
    resumed, _ = line_training(checkpoint=path, precision=None)
    whole, _ = line_training(precision="bf16")
    exact, _ = line_training(precision="fp32")
    assert same(resumed, whole)
    assert not same(resumed, exact)


# The file


@pytest.mark.parametrize("damage", ["cut", "emptied", "first byte of the weights", "last byte", "a byte of the header"])
def test_a_damaged_checkpoint_is_named_moved_aside_and_made_again(tmp_path, damage):
    path = tmp_path / "training.safetensors"
    expected, _ = line_training(checkpoint=path)
    data = bytearray(path.read_bytes())
    header = int.from_bytes(data[:8], "little")
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "emptied":
        data.clear()
    else:
        place = {"first byte of the weights": 8 + header, "last byte": len(data) - 1}.get(damage, header // 2)
        data[place] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"checkpoint .*training.safetensors is damaged: moved to .*damaged"):
        model, _ = line_training(checkpoint=path)
    assert same(model, expected)
    assert (tmp_path / "training.safetensors.damaged").read_bytes() == data
    assert line_training(checkpoint=path)[1].keys() == {"loss"}  # whole again


@pytest.mark.parametrize("kind", ["text", "weights"])
def test_a_foreign_file_is_refused_and_untouched(tmp_path, kind):
    path = tmp_path / "mine.safetensors"
    if kind == "text":
        path.write_text("my notes")
    else:
        safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint .*mine.safetensors must be a file that fit wrote.*another name"):
        quick(checkpoint=path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="got the folder"):
        quick(checkpoint=tmp_path)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    quick(checkpoint="~/runs/a.safetensors")
    assert (tmp_path / "home" / "runs" / "a.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_a_full_disk_stops_clearly_and_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    syncs = []

    def disk_full(handle):
        syncs.append(handle)
        if len(syncs) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", disk_full)
        with pytest.raises(
            OSError, match=r"of epoch 2 could not be written \(No space left.*still holds epoch 1; make 0.0 MiB"
        ) as error:
            line_training(checkpoint=path)
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [path.name]
    model, history = line_training(checkpoint=path)
    expected, expected_history = line_training()
    assert history == expected_history
    assert same(model, expected)


def test_two_trainings_on_one_file_do_not_disturb_one_another(tmp_path, monkeypatch):
    """The second comes to write while the first has written and not yet renamed."""
    path = tmp_path / "training.safetensors"
    replace, others = Path.replace, []

    def meet(self, target):
        if not others:
            others.append(1)
            others.append(line_training(checkpoint=path, epochs=2)[1])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", meet)
    model, history = line_training(checkpoint=path)
    expected, whole = line_training()
    assert history == whole
    assert others[1] == {"loss": whole["loss"][:2]}
    assert same(model, expected)
    assert os.listdir(tmp_path) == [path.name]


def test_states_that_json_cannot_hold_are_named():
    with pytest.raises(ValueError, match=r"optimizer/state must hold numbers.*got set"):
        checkpoint.pack({"optimizer": {"state": {1, 2}}}, {}, "")


def test_packing_is_undone_by_unpacking():
    value = {"a": [1, 2.5, None, True, "x"], 3: (torch.arange(4), {"tensor": (), "inf": float("inf")}), "none": {}}
    tensors = {}
    again = checkpoint.unpack(checkpoint.pack(value | {"numpy": np.int64(7)}, tensors, ""), tensors)
    assert torch.equal(again[3][0], value[3][0])
    assert repr(again) == repr(value | {"numpy": 7})


# It keeps no epoch that has gone


def test_a_run_that_has_gone_leaves_the_last_epoch_of_numbers_and_says_to_lower_the_rate(tmp_path):
    path, x = tmp_path / "training.safetensors", torch.full((4, 2), 1e3)
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with pytest.raises(
            FloatingPointError, match=r"lower learning rate.*with a new checkpoint file.*same call"
        ) as got:
            quick(model=model, loader=[(x, x[:, :1])], epochs=50, optimizer=optimizer, checkpoint=path)
        assert str(got.value).startswith("the loss must stay finite")
        weights = safetensors.torch.load_file(path)
        assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.startswith("model/"))


def test_weights_that_have_gone_under_a_finite_loss_are_not_kept(tmp_path):
    path = tmp_path / "training.safetensors"
    torch.manual_seed(0)
    model, calls = nn.Linear(3, 1), []

    def loss(outputs, targets):
        calls.append(1)
        error = (outputs - targets).square().sum()
        return error * 0 + (error * 0).sqrt() if len(calls) == 4 else error  # the slope of a root at 0

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with pytest.raises(FloatingPointError, match="weights must stay finite, got inf or nan in weight after epoch 2"):
        quick(model=model, epochs=3, loss=loss, optimizer=optimizer, checkpoint=path)
    weights = safetensors.torch.load_file(path)
    assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.startswith("model/"))


# In other forms


@pytest.mark.gpu
def test_on_a_gpu_pinned_loaders_train_and_resume(tmp_path):
    data = TensorDataset(torch.rand(32, 3, 16, 20), torch.randint(2, (32,)))
    loader = DataLoader(data, batch_size=8, pin_memory=True, num_workers=1)

    def train(epochs, path):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 18, 2))
        loss = nn.CrossEntropyLoss(weight=torch.ones(2))
        return fit(model, loader, epochs=epochs, loss=loss, checkpoint=path, device="cuda", progress=False)

    train(3, tmp_path / "a.safetensors")
    resumed, whole = train(5, tmp_path / "a.safetensors"), train(5, tmp_path / "b.safetensors")
    assert resumed["loss"] == pytest.approx(whole["loss"], rel=0.02)  # a GPU adds in another order each time


def test_a_list_of_batches_resumes_too(tmp_path):
    history = quick(checkpoint=tmp_path / "a.safetensors", epochs=2)
    copies = [[part.clone() for part in batch] for batch in BATCHES]
    assert quick(checkpoint=tmp_path / "a.safetensors", epochs=2, loader=copies) == history

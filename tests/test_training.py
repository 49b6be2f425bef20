"""Training: it learns, resumes to the same result after a kill, and says clearly what is wrong.

Run as a script, this file is the training that the tests kill or start in several processes.
"""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from labkit import training
from labkit.training import fit


class NoisySquares(Dataset):
    """32 images (1, 8, 10) with a bright left or right half; noise from three generators; may kill its process."""

    def __init__(self, *, killed_at=None):
        self.killed_at = killed_at
        self.served = 0

    def __len__(self):
        return 32

    def __getitem__(self, place):
        self.served += 1
        if self.served == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        image = torch.rand(1, 8, 10) + random.random() + float(np.random.rand())  # noqa: NPY002
        side = place % 2
        image[..., 5 * side : 5 * side + 5] += 1
        return image, torch.tensor(side)


def squares_training(checkpoint=None, *, epochs=4, seed=0, killed_at=None, **options):
    """A training with all that must resume: shuffling, augmentation, dropout, schedule, validation, best weights."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4 * 6 * 8, 2),
    )
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(NoisySquares(killed_at=killed_at), batch_size=8, shuffle=True, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * len(loader))
    history = fit(
        model,
        loader,
        epochs=epochs,
        loss=nn.functional.cross_entropy,
        optimizer=optimizer,
        scheduler=scheduler,
        validation_loader=DataLoader(NoisySquares(), batch_size=16),
        checkpoint=checkpoint,
        device="cpu",
        precision="fp32",
        progress=False,
        **options,
    )
    return model, history


def line_training(*, epochs=3, batch_size=4, shuffle=False, checkpoint=None, precision="fp32"):
    """A training without dropout or normalisation, so that how batches fall on processes makes no difference."""
    torch.manual_seed(3)
    inputs = torch.randn(24, 5)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(inputs, inputs[:, :2] * 2 - 1), batch_size=batch_size, shuffle=shuffle)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=32 // batch_size, gamma=0.5)
    history = fit(
        model,
        loader,
        epochs=epochs,
        loss=nn.functional.mse_loss,
        optimizer=optimizer,
        scheduler=scheduler,
        checkpoint=checkpoint,
        device="cpu",
        precision=precision,
        progress=False,
    )
    return model, history


def in_processes(folder):
    """What each of several processes runs: plain, and shuffled with an interruption between epochs."""
    model, history = line_training()
    whole, _ = line_training(shuffle=True)
    line_training(epochs=1, shuffle=True, checkpoint=folder / "shuffled.safetensors")
    resumed, _ = line_training(shuffle=True, checkpoint=folder / "shuffled.safetensors")
    weights = {"plain": model, "whole": whole, "resumed": resumed}
    tensors = {f"{name}.{key}": value for name, one in weights.items() for key, value in one.state_dict().items()}
    tensors["loss"] = torch.tensor(history["loss"])
    safetensors.torch.save_file(tensors, folder / f"{os.environ['RANK']}.safetensors")


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def run_script(*arguments, launcher=()):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, __file__, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


BATCHES = ((torch.ones(2, 3), torch.ones(2, 1)), (torch.zeros(1, 3), torch.ones(1, 1)))


def quick(**options):
    """One epoch on two hand-made batches."""
    settings = {"epochs": 1, "loss": nn.functional.mse_loss, "device": "cpu", "precision": "fp32", "progress": False}
    settings |= options
    model = settings.pop("model", None) or nn.Linear(3, 1)
    return fit(model, settings.pop("loader", BATCHES), **settings)


# It learns


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the forks: another number of threads adds in another order, and the last digits differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted():
    return squares_training()


def test_it_learns_what_the_images_hold(uninterrupted):
    model, history = uninterrupted
    torch.manual_seed(99)
    images, sides = next(iter(DataLoader(NoisySquares(), batch_size=32)))
    assert (model(images).argmax(1) == sides).float().mean() >= 0.9  # 0.5 by guessing
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history.keys() == {"loss", "val_loss"}
    assert [len(values) for values in history.values()] == [4, 4]
    assert not model.training


def test_one_step_is_the_optimizers_own():
    model = nn.Linear(3, 1, bias=False)
    start = model.weight.detach().clone()
    history = quick(model=model, loader=BATCHES[:1], optimizer=torch.optim.SGD(model.parameters(), lr=0.25))
    error = start.sum() - 1  # inputs and targets are ones
    assert history["loss"] == pytest.approx([error.item() ** 2], rel=1e-6)
    assert torch.allclose(model.weight.detach(), start - 0.25 * 2 * error, atol=1e-6)


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches():
    model = nn.Linear(3, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    history = quick(model=model, epochs=2, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    assert history == {"loss": [1.0, 1.0]}


def test_the_scheduler_moves_every_batch():
    model = nn.Linear(3, 1)
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(model.parameters(), lr=1e-2), step_size=1, gamma=0.5)
    quick(model=model, epochs=2, scheduler=scheduler)
    assert scheduler.get_last_lr() == [1e-2 * 0.5**4]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_learn_the_same(precision):
    _, exact = line_training()
    model, history = line_training(precision=precision)
    assert history["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.ones(1, 5)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "best"),
    [({}, 1), ({"mode": "min"}, 0), ({"monitor": "error rate"}, 2), ({"monitor": "val_loss"}, 2), ({"mode": "max"}, 1)],
)
def test_the_best_weights_are_kept(options, best):
    seen, model = [], nn.Linear(3, 1)
    figures = [(0.1, 3.0, 0.3), (0.9, 2.0, 0.2), (float("nan"), 1.0, 0.1), (0.5, float("nan"), 0.3)]

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.detach().clone())
        return dict(zip(("auc", "error rate", "val_loss"), figures[len(seen) - 1], strict=True))

    history = quick(model=model, epochs=4, validate=validate, **options)
    assert history["error rate"][:3] == [3.0, 2.0, 1.0]
    assert torch.equal(model.weight, seen[best])


def test_without_validation_the_last_weights_stay_and_loss_can_be_monitored():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.9)  # too high: every epoch is worse
    history = quick(model=model, epochs=5, optimizer=optimizer, monitor="loss")
    assert min(history["loss"]) == history["loss"][0]
    again = nn.Linear(3, 1)
    assert quick(model=again, epochs=1).keys() == {"loss"}


class Detector(nn.Module):
    """torchvision's contract: losses in train mode, detections in eval mode."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images, targets=None):
        means = torch.stack([self.norm(image[None]).mean() + image.mean() * self.scale for image in images])
        if not self.training:
            return [{"scores": mean[None]} for mean in means]
        counts = torch.tensor([float(len(target["boxes"])) for target in targets])
        return {"count": (means - counts).square().mean(), "size": self.scale.square()}


def detector_batches():
    images = [torch.rand(1, 8, 10), torch.rand(1, 6, 12)]
    boxes = [torch.tensor([[1.0, 1.0, 4.0, 5.0]]), torch.zeros(0, 4)]
    return [(images, [{"boxes": box, "labels": torch.ones(len(box), dtype=torch.int64)} for box in boxes])]


def test_detectors_sum_their_losses_and_validate_without_touching_their_statistics():
    model, batches = Detector(), detector_batches()
    alone = quick(model=model, loss=None, loader=batches, epochs=2)
    statistics = model.norm.running_mean.clone()
    figures = training._validation(
        model,
        lambda model: {"detections": len(model(batches[0][0]))},
        batches,
        training.functools.partial(training._batch_loss, loss=None, device=torch.device("cpu"), precision="fp32"),
    )
    assert figures["detections"] == 2
    assert figures["val_loss"] > 0
    assert torch.equal(model.norm.running_mean, statistics)
    assert len(alone["loss"]) == 2


def test_torchvisions_own_detector_trains():
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU())
    backbone.out_channels = 8
    anchors = AnchorGenerator(((8, 16),), ((1.0,),))
    model = FasterRCNN(backbone, 2, rpn_anchor_generator=anchors, min_size=32, max_size=48)
    images = [torch.rand(3, 32, 40), torch.rand(3, 32, 36)]
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 14.0, 12.0]]), "labels": torch.tensor([1])}]
    targets.append({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)})
    batches = [(images, targets)]
    history = quick(model=model, loss=None, loader=batches, epochs=3, validation_loader=batches)
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["val_loss"]) == 3


def test_nothing_waits_for_the_device_inside_an_epoch(monkeypatch):
    """A look at the loss makes a GPU finish its queue: one an epoch, and one now and then for the bar."""
    looks = []
    monkeypatch.setattr(training, "_mean_loss", lambda tally, step, epoch: looks.append(step) or 0.5)
    monkeypatch.setattr(training, "LOOK_EVERY", 1e9)
    quick(epochs=3)
    assert looks == [2, 2, 2]


def test_the_bar_counts_all_epochs_and_can_be_turned_off(capfd):
    quick(epochs=3, progress=True)
    shown = capfd.readouterr()
    assert "epoch 3/3" in shown.err
    assert "6/6" in shown.err
    assert "loss=" in shown.err
    quick(epochs=3)
    silent = capfd.readouterr()
    assert shown.out == silent.out == silent.err == ""


# It resumes


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """A folder in which processes of their own have trained: see `in_forks`."""
    folder = tmp_path_factory.mktemp("forked")
    done = run_script("forks", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("moment", ["epoch", "write"])
def test_killed_at_any_moment_it_resumes_to_the_same_result(forked, uninterrupted, moment):
    path = forked / f"{moment}.safetensors"
    assert (forked / f"{moment}.status").read_text() == str(-signal.SIGKILL)
    assert path.with_name(path.name + ".tmp").exists() == (moment == "write")
    model, history = squares_training(path, seed=5)  # other weights, other random numbers: all come from the file
    assert history == uninterrupted[1]
    assert same(model, uninterrupted[0])


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_call_takes_nothing_from_its_own_start(tmp_path, uninterrupted, epochs):
    path = tmp_path / "deep" / "training.safetensors"

    class Interrupted(Exception):
        pass

    def stop(model):
        stop.left -= 1
        if stop.left < 0:
            raise Interrupted
        return {}

    stop.left = epochs
    with pytest.raises(Interrupted):
        squares_training(path, validate=stop)
    model, history = squares_training(path, seed=5)
    assert history == uninterrupted[1]
    assert same(model, uninterrupted[0])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


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
    assert same(resumed, whole)


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


def other_optimizer():
    model = nn.Linear(3, 1)
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), lr=0.5)}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": nn.Sequential(nn.Linear(3, 1))}, "model 'Linear', got 'Sequential'"),
        ({"model": nn.Linear(3, 1, bias=False)}, "weights bias"),
        ({"loss": nn.functional.l1_loss}, "loss 'mse_loss', got 'l1_loss'"),
        ({"loader": BATCHES[:1]}, "number of batches 2, got 1"),
        (other_optimizer(), "option lr '0.001', got '0.5'"),
        ({"monitor": "loss"}, "monitor"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_by_name(tmp_path, options, named):
    path = tmp_path / "training.safetensors"
    quick(checkpoint=path)
    with pytest.raises(ValueError, match="is of another training: expected") as refusal:
        quick(checkpoint=path, **options)
    assert named in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_full_disk_stops_clearly_and_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    writes = []

    def disk_full(file, *pieces):
        writes.append(path)
        if len(writes) == 2:
            file.write(pieces[0][:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *pieces)

    write = training._write_pieces
    monkeypatch.setattr(training, "_write_pieces", disk_full)
    with pytest.raises(OSError, match=r"of epoch 2 could not be written \(No space left.*still holds epoch 1") as error:
        line_training(checkpoint=path)
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [path.name]
    model, history = line_training(checkpoint=path)
    expected, expected_history = line_training()
    assert history == expected_history
    assert same(model, expected)


def test_states_that_json_cannot_hold_are_named():
    with pytest.raises(ValueError, match=r"optimizer/state must hold numbers.*got set"):
        training._pack({"optimizer": {"state": {1, 2}}}, {}, "")


def test_packing_is_undone_by_unpacking():
    value = {"a": [1, 2.5, None, True, "x"], 3: (torch.arange(4), {"tensor": (), "inf": float("inf")}), "none": {}}
    tensors = {}
    again = training._unpack(training._pack(value, tensors, ""), tensors)
    assert torch.equal(again[3][0], value[3][0])
    assert repr(again) == repr(value)


# It says what is wrong


@pytest.mark.parametrize("look_every", [-1.0, 1e9])
def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(tmp_path, monkeypatch, look_every):
    monkeypatch.setattr(training, "LOOK_EVERY", look_every)  # every step, or at the end of the epoch alone
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return nn.functional.mse_loss(outputs, targets) * (float("nan") if len(calls) == 4 else 1)

    path = tmp_path / "training.safetensors"
    with pytest.raises(FloatingPointError, match=r"got nan in epoch 2, step 2; try a lower learning rate"):
        quick(epochs=3, loss=loss, checkpoint=path)
    weights = safetensors.torch.load_file(path)
    assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.startswith("model/"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": []}, "loader must have a batch, got none"),
        ({"loader": iter(BATCHES)}, "loader must be a DataLoader or a list of batches, got tuple_iterator"),
        ({"validation_loader": []}, "validation_loader must have a batch"),
        ({"epochs": 0}, "epochs must be a whole number from 1, got 0"),
        ({"epochs": 2.0}, "epochs must be a whole number from 1, got 2.0"),
        ({"loader": [torch.ones(2, 3)]}, r"must yield \(inputs, targets\), got Tensor"),
        ({"loader": [(torch.ones(2, 3),)]}, r"must yield \(inputs, targets\), got 1 parts"),
        (
            {"loss": lambda outputs, targets: (outputs - targets).square()},
            r"scalar tensor, got \(2, 1\); take its mean",
        ),
        ({"loss": lambda outputs, targets: 0.5}, "scalar tensor, got float"),
        ({"loss": None, "loader": [(torch.ones(2, 3),)]}, "must return a dict of losses, got Tensor"),
        ({"model": nn.ReLU()}, "model must have a parameter to train, got none"),
        ({"optimizer": torch.optim.SGD(nn.Linear(3, 1).parameters())}, "optimizer must hold parameters of this model"),
        ({"precision": "half"}, "precision must be one of"),
        ({"device": "tpu"}, "device must be one of"),
        ({"mode": "best"}, "mode must be 'min', 'max' or None, got 'best'"),
        ({"monitor": "auc"}, "monitor must be one of loss, got 'auc'"),
        ({"validate": lambda model: 0.5}, "validate must return a dict of figures, got 0.5"),
        ({"validate": lambda model: {"auc": "high"}}, "validate must return a dict of figures"),
        ({"validate": lambda model: {"loss": 1.0}}, "validate must name its own figures, got 'loss'"),
    ],
)
def test_wrong_arguments_are_told_with_a_cure(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options)


def test_a_scheduler_of_another_optimizer_is_refused():
    model = nn.Linear(3, 1)
    optimizer, another = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.ConstantLR(another)
    with pytest.raises(ValueError, match="scheduler must be made with this optimizer"):
        quick(model=model, optimizer=optimizer, scheduler=scheduler)


def test_figures_that_change_from_epoch_to_epoch_are_refused():
    names = iter(["auc", "auc", "recall"])
    with pytest.raises(ValueError, match="the same figures every epoch"):
        quick(epochs=3, validate=lambda model: {next(names): 1.0})


# In several processes


def check_processes(folder):
    """Both ranks hold the same weights, and those of one process with batches twice as large."""
    first, second = (safetensors.torch.load_file(folder / f"{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(first[name.replace("whole", "resumed")], first[name]) for name in first)
    model, history = line_training(batch_size=8)
    for name, expected in model.state_dict().items():
        assert torch.allclose(first[f"plain.{name}"], expected, atol=1e-6), name
    assert first["loss"].tolist() == pytest.approx(history["loss"], abs=1e-6)


def test_two_processes_under_torchrun_train_in_step(tmp_path):
    done = run_script(
        "processes", tmp_path, launcher=["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    )
    assert done.returncode == 0, done.stderr
    check_processes(tmp_path)


def test_two_processes_from_a_notebook_train_in_step_after_a_fit_there(forked):
    assert (forked / "notebook.status").read_text() == "0"
    check_processes(forked)


def test_in_several_processes_a_list_of_batches_is_refused():
    with pytest.raises(ValueError, match="in several processes loader must be a DataLoader, got list"):
        training._own_batches([1], 0, 2)


@pytest.mark.gpu
def test_on_a_gpu_pinned_loaders_train_and_resume(tmp_path):
    data = TensorDataset(torch.rand(32, 3, 16, 20), torch.randint(2, (32,)))
    loader = DataLoader(data, batch_size=8, pin_memory=True, num_workers=1)

    def train(epochs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 18, 2))
        path = tmp_path / "training.safetensors"
        loss = nn.CrossEntropyLoss(weight=torch.ones(2))
        return fit(model, loader, epochs=epochs, loss=loss, checkpoint=path, device="cuda", progress=False)

    assert train(3)["loss"][:1] == train(3)["loss"][:1]
    assert len(train(5)["loss"]) == 5


def in_forks(folder):
    """Three trainings, each in a fork that torch has not computed in before: two are killed, one launches others."""
    import torch._dynamo  # the optimizers load it: once here, not in every fork

    assert torch._dynamo
    torch.set_num_threads(1)  # a fork of a process that has used several would wait for them
    for name, train in {"epoch": killed_in_an_epoch, "write": killed_in_a_write, "notebook": from_a_notebook}.items():
        child = os.fork()
        if child == 0:
            train(folder / f"{name}.safetensors")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        (folder / f"{name}.status").write_text(str(status))


def killed_in_an_epoch(path):
    """Die while the third epoch reads an image."""
    squares_training(path, killed_at=2 * 32 + 11)


def killed_in_a_write(path):
    """Die when half of the second checkpoint is on the disk."""
    write, writes = training._write_pieces, []

    def half_written(file, *pieces):
        writes.append(1)
        if len(writes) == 2:
            file.write(pieces[-1][: len(pieces[-1]) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        write(file, *pieces)

    training._write_pieces = half_written
    squares_training(path)


def from_a_notebook(path):
    """What a notebook does: train alone first, then launch two processes."""
    from accelerate import notebook_launcher

    os.environ["OMP_NUM_THREADS"] = "1"
    line_training(epochs=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(in_processes, (path.parent,), num_processes=2, use_port=port)


if __name__ == "__main__":
    {"forks": in_forks, "processes": in_processes}[sys.argv[1]](Path(sys.argv[2]))

"""Trainings that the tests of `fit` share.

Run as a script, this file is the training that the tests kill or start in several processes.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

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


def squares_training(checkpoint=None, *, epochs=4, seed=0, drawn=0, killed_at=None, **options):
    """A training with all that must resume: shuffling, augmentation, dropout, schedule, validation, best weights.

    With `drawn` numbers taken from each generator first, it starts from other weights and other random numbers.
    """
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    generator = torch.Generator().manual_seed(seed)
    torch.rand(drawn), torch.rand(drawn, generator=generator), np.random.rand(drawn), random.randbytes(drawn)  # noqa: NPY002
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4 * 6 * 8, 2),
    )
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


def check_processes(folder):
    """Both ranks hold the same weights, and those of one process with batches twice as large."""
    first, second = (safetensors.torch.load_file(folder / f"{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    shuffled = [name.removeprefix("whole.") for name in first if name.startswith("whole.")]
    assert len(shuffled) == 4
    assert all(torch.equal(first[f"resumed.{name}"], first[f"whole.{name}"]) for name in shuffled)
    model, history = line_training(batch_size=8)
    for name, expected in model.state_dict().items():
        assert torch.allclose(first[f"plain.{name}"], expected, atol=1e-6), name
    assert abs(first["loss"] - torch.tensor(history["loss"])).max() <= 1e-6


def same(model, other):
    """Whether two models hold the same weights and buffers to the bit."""
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


BATCHES = ((torch.ones(2, 3), torch.ones(2, 1)), (torch.zeros(1, 3), torch.ones(1, 1)))


def quick(**options):
    """One epoch on two hand-made batches."""
    settings = {"epochs": 1, "loss": nn.functional.mse_loss, "device": "cpu", "precision": "fp32", "progress": False}
    settings |= options
    model = settings.pop("model", None) or nn.Linear(3, 1)
    return fit(model, settings.pop("loader", BATCHES), **settings)


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
    """One batch of two films of different sizes, one of them without a box."""
    images = [torch.rand(1, 8, 10), torch.rand(1, 6, 12)]
    boxes = [torch.tensor([[1.0, 1.0, 4.0, 5.0]]), torch.zeros(0, 4)]
    return [(images, [{"boxes": box, "labels": torch.ones(len(box), dtype=torch.int64)} for box in boxes])]


# Processes of their own


def run_script(*arguments, script=__file__, launcher=()):
    """The script, done, started by Python with the launcher's words before it."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, *launcher, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def in_forks(folder):
    """Three trainings, each in a fork that torch has not computed in before: two are killed, one launches others."""
    import torch._dynamo  # the optimizers load it: once here, not in every fork

    assert torch._dynamo
    torch.set_num_threads(1)  # a fork of a process that has used several would wait for them
    for name, train in {"epoch": killed_in_an_epoch, "write": killed_in_a_write, "notebook": from_a_notebook}.items():
        child = os.fork()
        if child == 0:
            train(folder / name / "training.safetensors")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        (folder / f"{name}.status").write_text(str(status))


def killed_in_an_epoch(path):
    """Die while the third epoch reads an image."""
    squares_training(path, killed_at=2 * 32 + 11)


def killed_in_a_write(path):
    """Die when the second checkpoint is on the disk, and not yet in its place."""
    replace, writes = Path.replace, []

    def killed(self, target):
        writes.append(1)
        if len(writes) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = killed
    squares_training(path)


def from_a_notebook(path):
    """What a notebook does: train alone first, then launch two processes."""
    from accelerate import notebook_launcher

    os.environ["OMP_NUM_THREADS"] = "1"
    path.parent.mkdir()
    line_training(epochs=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    notebook_launcher(in_processes, (path.parent,), num_processes=2, use_port=port)


if __name__ == "__main__":
    {"forks": in_forks, "processes": in_processes}[sys.argv[1]](Path(sys.argv[2]))

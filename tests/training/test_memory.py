"""Remembered trainings: the same to the bit where everything is the same, and trained where anything is not."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler
from trainings import Detector, NoisySquares, detector_batches, quick, same

from labkit.training import fit, memory


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_FIT_MEMORY", str(tmp_path / "memory"))
    return tmp_path / "memory"


@pytest.fixture(autouse=True)
def steps_made(monkeypatch):
    """How many steps were made, in the only entry of a list."""
    from labkit.training import loop

    count, step = [0], loop._step

    def counted(*arguments):
        count[0] += 1
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", counted)
    return count


class Still(Dataset):
    """Images (1, 8, 10) that augmentation brightens."""

    def __init__(self, seed=0, count=24):
        self.images = torch.rand(count, 1, 8, 10, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        noise = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.images[place] + noise, torch.tensor(place % 2)


def squared(outputs, targets):
    return (outputs.softmax(1)[:, 0] - targets).square().mean()


def score(model):
    return {"accuracy": float(model(torch.ones(1, 1, 8, 10)).softmax(1)[0, 0])}


def network(width=4):
    layers = [nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.2), nn.Flatten(), nn.Linear(48 * width, 2)]
    return nn.Sequential(*layers)


def train(seed=0, change=None, **options):
    """One training, and what it leaves behind: weights, states, history, generators."""
    torch.manual_seed(seed)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    generator = torch.Generator().manual_seed(7)
    model = options.pop("model", None) or network()
    data = options.pop("data", None) or Still()
    how = {"batch_size": 8, "shuffle": True, "generator": generator} | options.pop("how", {})
    loader = DataLoader(data, **how)
    optimizer = options.pop("optimizer", torch.optim.AdamW)(model.parameters(), lr=options.pop("rate", 1e-2))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=options.pop("step_size", 4), gamma=0.5)
    call = {
        "epochs": 2,
        "loss": squared,
        "validate": score,
        "device": "cpu",
        "precision": "fp32",
        "steps": {},
    } | options
    if change:
        change(model, optimizer, loader)
    history = fit(model, loader, optimizer=optimizer, scheduler=scheduler, progress=False, **call)
    left = {"history": history, "steps": call["steps"], "schedule": scheduler.state_dict()}
    left |= {"optimizer": optimizer.state_dict(), "training": model.training}
    left |= {"draws": [torch.rand(3), random.random(), np.random.rand(), torch.rand(3, generator=generator)]}  # noqa: NPY002
    return model, copy.deepcopy(left)


def alike(one, other):
    """Whether two nested structures are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    return one == other


def test_what_is_remembered_is_the_same_to_the_bit(monkeypatch, folder, steps_made):
    with monkeypatch.context() as without:
        without.delenv("LABKIT_FIT_MEMORY")
        model, expected = train()
    assert not folder.exists()
    trained, first = train()
    assert steps_made == [12]  # 2 · 2 · 3
    assert len(list(folder.iterdir())) == 1
    recalled, second = train()
    assert steps_made == [12]
    assert same(model, trained)
    assert same(model, recalled)
    assert alike(expected, first)
    assert alike(expected, second)
    assert all(parameter.grad is None for parameter in recalled.parameters())


def test_without_the_variable_nothing_is_remembered(monkeypatch, tmp_path, steps_made):
    monkeypatch.delenv("LABKIT_FIT_MEMORY", raising=False)
    monkeypatch.chdir(tmp_path)
    train()
    train()
    assert steps_made == [12]
    assert list(tmp_path.iterdir()) == []


def other_weights(model, optimizer, loader):
    with torch.no_grad():
        model[0].bias[0] += 1e-6


def frozen(model, optimizer, loader):
    model[0].requires_grad_(False)


def other_options(model, optimizer, loader):
    optimizer.param_groups[0]["weight_decay"] = 0.5


def moved_generator(model, optimizer, loader):
    torch.rand(1, generator=loader.generator)


def drawn(kind):
    draws = {"torch": lambda: torch.rand(1), "python": random.random, "numpy": lambda: np.random.rand()}  # noqa: NPY002
    return lambda *_: draws[kind]()


def collate(rows):
    images, labels = zip(*rows, strict=True)
    return torch.stack(images) * 2, torch.stack(labels)


def other_loss(outputs, targets):
    return (outputs.softmax(1)[:, 0] - targets).abs().mean()


class Wider(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2


WEIGHTS = WeightedRandomSampler([1.0] * 23 + [2.0], 24, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"change": other_weights},
        {"change": frozen},
        {"change": other_options},
        {"change": moved_generator},
        *({"change": drawn(kind)} for kind in ("torch", "python", "numpy")),
        {"rate": 2e-2},
        {"step_size": 5},
        {"optimizer": torch.optim.Adam},
        {"data": Still(seed=1)},
        {"how": {"batch_size": 6}},
        {"how": {"drop_last": True}},
        {"how": {"shuffle": False}},
        {"how": {"shuffle": False, "sampler": WEIGHTS}},
        {"how": {"collate_fn": collate}},
        {"epochs": 3},
        {"loss": other_loss},
        {"loss": lambda outputs, targets: squared(outputs, targets) * 2},
        {"validate": None},
        {"mode": "min"},
        {"monitor": "loss"},
        {"precision": "bf16"},
        {"steps": None},
        {"validation_loader": DataLoader(Still(seed=2), batch_size=8)},
    ],
    ids=lambda options: "-".join(f"{name}={getattr(value, '__name__', value)}" for name, value in options.items())[:40],
)
def test_each_changed_ingredient_is_trained(folder, steps_made, options):
    train()
    before = steps_made[0]
    train(**options)
    assert steps_made[0] > before
    assert len(list(folder.iterdir())) == 2


def test_the_code_of_the_model_counts(folder, steps_made):
    for kind in (nn.Sequential, Wider):
        torch.manual_seed(0)
        train(model=kind(*network()))
    assert steps_made == [12]


def test_the_number_of_threads_counts(folder, steps_made):
    train()
    torch.set_num_threads(2)
    try:
        train()
    finally:
        torch.set_num_threads(1)
    assert steps_made == [12]


@pytest.mark.parametrize("damage", ["torn", "altered", "emptied"])
def test_a_file_that_is_not_whole_is_trained_again(folder, steps_made, damage):
    _, expected = train()
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"torn": data[: len(data) // 2], "altered": data, "emptied": b""}[damage])
    _, left = train()
    assert steps_made == [12]
    assert alike(left, expected)
    train()
    assert steps_made == [12]  # whole again


def hook(model, optimizer, loader):
    model[0].register_forward_hook(lambda *_: None)


def optimizer_hook(model, optimizer, loader):
    optimizer.register_step_post_hook(lambda *_: None)


def counting_score(seen):
    def validate(model):
        seen.append(1)
        return {"accuracy": 0.5}

    return validate


def drawing_score(generator):
    return lambda model: {"accuracy": torch.rand((), generator=generator)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"change": hook},
        lambda: {"change": optimizer_hook},
        lambda: {"how": {"num_workers": 1, "persistent_workers": True}},
        lambda: {"validate": counting_score([])},  # a hit would not append
        lambda: {"validate": drawing_score(torch.Generator().manual_seed(0))},  # nor move this generator
        lambda: {"data": NoisySquares(), "validate": None},  # counts what it has served
    ],
    ids=["hook", "optimizer hook", "workers", "validate appends", "validate draws", "data count"],
)
def test_what_cannot_be_told_surely_trains_and_is_not_remembered(folder, steps_made, make):
    train(**make())
    once = steps_made[0]
    train(**make())
    assert steps_made[0] == 2 * once
    assert not folder.exists()


def test_a_checkpoint_has_its_own_memory(folder, tmp_path):
    train(checkpoint=tmp_path / "a.safetensors")
    assert not folder.exists()


def test_detectors_and_buffers_outside_the_state_are_remembered(folder, steps_made):
    def once():
        torch.manual_seed(0)
        model = Detector()
        model.register_buffer("seen", torch.zeros(()), persistent=False)
        model.norm.momentum = 0.3
        history = quick(model=model, loss=None, loader=detector_batches(), epochs=2, steps={})
        return model, history

    first, second = once(), once()
    assert steps_made == [2]
    assert same(first[0], second[0])
    assert first[1] == second[1]
    assert first[1].keys() == {"loss", "count", "size"}
    assert memory.VARIABLE == "LABKIT_FIT_MEMORY"


def test_torchvisions_own_detector_is_remembered(folder, steps_made):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    batches = detector_batches()

    def once(scales=None):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4, padding=1), nn.ReLU())
        backbone.out_channels = 4
        options = {"image_mean": [0.5], "image_std": [0.2], "min_size": 32, "max_size": 48}
        model = FasterRCNN(backbone, 2, rpn_anchor_generator=AnchorGenerator(((8,),), ((1.0,),)), **options)
        model.roi_heads.box_roi_pool.scales = scales
        return model, quick(model=model, loss=None, loader=batches)

    first, second = once(), once()
    assert steps_made == [1]
    assert same(first[0], second[0])
    assert first[1] == second[1]
    once(scales=[0.5])
    assert steps_made == [2]


def test_a_one_cycle_schedule_and_validation_data_are_remembered(folder, steps_made):
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        data = DataLoader(TensorDataset(torch.ones(8, 3), torch.ones(8, 1)), batch_size=4, shuffle=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=4)
        quick(model=model, loader=data, scheduler=scheduler, epochs=2, validation_loader=data)
    assert steps_made == [4]
    assert scheduler.last_epoch == 4

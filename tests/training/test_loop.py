"""The loop: it learns, keeps the best weights, writes its history down, and waits for no step."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from trainings import BATCHES, Detector, NoisySquares, detector_batches, line_training, quick, squares_training

from labkit.training import loop


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
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_step_is_the_optimizers_own():
    model = nn.Linear(3, 1, bias=False)
    start = model.weight.detach().clone()
    history = quick(model=model, loader=BATCHES[:1], optimizer=torch.optim.SGD(model.parameters(), lr=0.25))
    error = start.sum() - 1  # inputs and targets are ones
    assert history["loss"] == pytest.approx([error.item() ** 2], rel=1e-6)
    assert torch.allclose(model.weight.detach(), start - 0.25 * 2 * error, atol=1e-6)


def test_losses_are_means_of_samples_not_of_batches():
    """Four samples of loss 1 and one of 81: 17. The mean of the batches would be 41."""
    inputs = torch.tensor([[1.0], [1.0], [1.0], [1.0], [9.0]])
    batches = [(inputs[:4], inputs[:4]), (inputs[4:], inputs[4:])]
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    history = quick(model=model, loader=batches, epochs=2, optimizer=optimizer, validation_loader=batches[::-1])
    assert history == {"loss": [17.0, 17.0], "val_loss": [17.0, 17.0]}


def test_a_detectors_losses_are_means_of_images_each_under_its_name():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, images, targets):
            level = images[0].mean() * self.weight
            return {"objectness": level, "box": 2 * level}

    def batch(count, level):
        return [torch.full((3, 4, 6), float(level))] * count, [{}] * count

    model, steps = Constant(), {}
    history = quick(
        model=model,
        loss=None,
        loader=[batch(4, 1), batch(1, 6)],
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        steps=steps,
    )
    assert history == {"loss": [6.0], "objectness": [2.0], "box": [4.0]}
    assert steps == {"loss": [3.0, 18.0], "objectness": [1.0, 6.0], "box": [2.0, 12.0]}


def test_the_losses_of_every_step_can_be_had():
    steps = {}
    history = quick(epochs=3, steps=steps)
    assert list(steps) == ["loss"]
    assert len(steps["loss"]) == 6
    means = [(2 * first + second) / 3 for first, second in zip(steps["loss"][::2], steps["loss"][1::2], strict=True)]
    assert history["loss"] == pytest.approx(means, rel=1e-6)
    with pytest.raises(ValueError, match="steps must be an empty dict"):
        quick(steps=steps)


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


def test_without_validation_the_last_weights_stay():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)  # too high: w -> w - 2 · 2w = -3w, every epoch is worse
    history = quick(model=model, epochs=3, optimizer=optimizer, loader=[(torch.ones(2, 1), torch.zeros(2, 1))])
    assert history == {"loss": [1.0, 9.0, 81.0]}
    assert model.weight.item() == -27


def test_the_loss_itself_can_be_monitored():
    model, seen = nn.Linear(3, 1), []

    def validate(model):
        seen.append(model.weight.detach().clone())
        return {}

    optimizer = torch.optim.SGD(model.parameters(), lr=0.9)
    history = quick(model=model, epochs=5, optimizer=optimizer, monitor="loss", validate=validate)
    assert min(history["loss"]) == history["loss"][0]
    assert torch.equal(model.weight, seen[0])
    assert not torch.equal(model.weight, seen[-1])


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
    parts = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert history.keys() == {"loss", "val_loss"} | parts
    assert sum(history[name][0] for name in parts) == pytest.approx(history["loss"][0], rel=1e-6)


class Waits(TorchDispatchMode):
    """Counts how often a number leaves its device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Waits.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def waits(monkeypatch, **options):
    """How often a training waits for the device: `item`, `bool` and `float`, which torch sees, and `tolist`."""
    Waits.count, tolist = 0, torch.Tensor.tolist

    def counted(self):
        Waits.count += 1
        return tolist(self)

    with monkeypatch.context() as patch, Waits():
        patch.setattr(loop, "LOOK_EVERY", 1e9)
        patch.setattr(torch.Tensor, "tolist", counted)
        quick(**options)
    return Waits.count


@pytest.mark.parametrize("detector", [False, True])
def test_nothing_waits_for_the_device_inside_an_epoch(monkeypatch, detector):
    """A look at the loss makes a GPU finish its queue: so many an epoch, however many batches there are."""
    batches, options = (detector_batches(), {"loss": None}) if detector else (list(BATCHES), {})

    def count(loader, **more):
        model = Detector() if detector else nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        return waits(monkeypatch, model=model, optimizer=optimizer, loader=loader, **options, **more)

    assert count(batches * 9) == count(batches)
    assert 0 < count(batches, epochs=1) == count(batches, epochs=2) / 2
    assert count(batches * 9, steps={}) == count(batches, steps={})


@pytest.mark.parametrize(("parts", "said"), [(2, ["loss", "part 0", "part 1"]), (4, ["loss", "mAP"])])
def test_the_bar_leaves_out_parts_of_the_loss_that_would_be_cut_off(parts, said):
    losses = {"loss": 3.0} | {f"part {i}": 1.0 for i in range(parts)}
    figures = {"mAP": 0.5} if "mAP" in said else {}
    assert list(loop._for_the_bar(losses, figures)) == said


def test_the_bar_counts_all_epochs_and_can_be_turned_off(capfd):
    quick(epochs=3, progress=True)
    shown = capfd.readouterr()
    assert "epoch 3/3" in shown.err
    assert "6/6" in shown.err
    assert "loss=" in shown.err
    quick(epochs=3)
    silent = capfd.readouterr()
    assert shown.out == silent.out == silent.err == ""


# It stops where numbers end


@pytest.mark.parametrize("look_every", [-1.0, 1e9])
def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(tmp_path, monkeypatch, look_every):
    monkeypatch.setattr(loop, "LOOK_EVERY", look_every)  # every step, or at the end of the epoch alone
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return nn.functional.mse_loss(outputs, targets) * (float("nan") if len(calls) == 4 else 1)

    with pytest.raises(FloatingPointError, match=r"got nan in epoch 2, step 2; try a lower learning rate"):
        quick(epochs=3, loss=loss)


def test_a_gradient_without_end_stops_though_the_loss_is_finite(tmp_path):
    """The slope of a root is infinite at 0: the loss of the last batch is 0, and its step writes NaN."""
    batches = [(torch.ones(4, 1), torch.zeros(4, 1)), (torch.zeros(4, 1), torch.zeros(4, 1))]
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.75)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.raises(FloatingPointError, match=r"got inf or nan in weight after epoch 1.*lower learning rate"):
        quick(model=model, loader=batches, optimizer=optimizer, loss=lambda o, t: ((o - t) ** 2).sum().sqrt())


def test_an_optimizer_that_has_lost_its_state_stops():
    """Adam's mean of squares is infinite from a gradient of 1e22 on: the weights are finite and never move again."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with pytest.raises(FloatingPointError, match="the optimizer's state after epoch 1"):
        quick(model=model, optimizer=optimizer, loss=lambda outputs, targets: (outputs * 1e22).mean())


def test_a_mask_that_is_meant_to_be_infinite_is_no_reason_to_stop():
    model = nn.Linear(3, 1)
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    assert len(quick(model=model, epochs=2)["loss"]) == 2


def test_losses_that_change_their_names_are_refused():
    class Fickle(Detector):
        epoch = 0

        def forward(self, images, targets=None):
            self.epoch += 1
            return {f"part {self.epoch}": self.scale.square()}

    with pytest.raises(ValueError, match=r"same losses and figures, first \['loss', 'part 1'\]"):
        quick(model=Fickle(), loss=None, loader=detector_batches(), epochs=2)

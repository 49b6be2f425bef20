"""The loop: epochs, steps, and what is kept of each.

Batch        (inputs, targets), each a tensor or nested lists and dicts of tensors; they are moved to the device.
History      {"loss": [mean of each epoch], and one list for every other loss and figure}, floats.
"""

import os
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from labkit import device as machine
from labkit.training import checkpoint as file
from labkit.training.arguments import (
    Run,
    check_data,
    check_epochs,
    check_functions,
    check_mode,
    check_path,
    check_room,
    check_steps,
    find_optimizer,
)
from labkit.training.losses import BatchLoss, Tally, check_gradient, check_weights, finite_weights
from labkit.training.memory import Memory
from labkit.training.random_state import random_state, set_random_state
from labkit.training.settings import contents, settings, settle
from labkit.training.team import Team
from labkit.training.validation import Best, better, check_monitor, validation

FIRST_SCALE = 2.0**10  # of fp16 gradients: with torch's 2**16 the first steps overflow, and short trainings miss them
MOST_IN_THE_BAR = 3  # figures; more would be cut off on a projector
LOOK_EVERY = 0.5  # seconds between looks at the loss: each makes a GPU finish what it was given

History = dict[str, list[float]]


def fit(
    model: nn.Module,
    loader: Iterable,
    *,
    epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor] | None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    validation_loader: Iterable | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    steps: dict[str, list[float]] | None = None,
    progress: bool = True,
) -> History:
    """The history of a training that leaves `model` on the device, in eval mode, with its best weights.

    Best are the weights of the epoch with the best `monitor`: "val_loss" where there is a `validation_loader`, else the
    first figure that `validate` returns, or the "mean" of those by class. Without validation the last weights stay.

    The history holds the mean of "loss" over the samples of each epoch; with loss=None also that of each loss that the
    model names, "val_loss", and what `validate` returns.

    The same call runs in several processes under torchrun, `accelerate launch` or `notebook_launcher`: each takes its
    share of the batches, gradients are averaged, and a scheduler moves on as if one process had seen every batch.

    Args:
        model: called as `model(inputs)`; with loss=None as `model(*batch)`, torchvision's form for detectors.
        loader: a DataLoader, or any sized collection of batches.
        epochs: how often to go through the loader, those of the checkpoint included.
        loss: `loss(outputs, targets)` -> scalar; None sums the dict of losses that the model returns in train mode.
        optimizer: over the model's parameters; None means the scheduler's, or AdamW with lr=1e-3.
        scheduler: stepped after every batch.
        device: None takes the one from `pick_device`.
        precision: "bf16", "fp16" or "fp32"; None takes the checkpoint's, else that of `labkit.device.precision`.
        validate: called with the model after every epoch, in eval mode and without gradients; returns figures.
        validation_loader: batches for the "val_loss" of every epoch.
        monitor: the figure that says which weights are best. Named here it is checked before the first step; the name
            of the first figure is known after the first epoch.
        mode: "min" or "max", where the name of `monitor` does not tell: "val_loss", "rmse" and "mean IoU" do.
        checkpoint: a file, written after every epoch. The same call after an interruption goes on from it and, on a
            CPU, ends with the same weights to the bit; a finished training returns at once. A call with other
            settings, seed, data or loss is refused. What random augmentation draws from torch, NumPy or Python, or
            from a `generator` of the loader, its sampler or its dataset, resumes too; generators elsewhere and
            persistent workers start anew.
        steps: an empty dict, which is given the losses of every step of this call: one list a name, "loss" first.
        progress: show the bar.

    Raises:
        ValueError: an argument, a batch or the loss has the wrong form; the checkpoint is of another training.
        FloatingPointError: the loss or a weight is not finite. The checkpoint keeps the last epoch that was whole.
        OSError: the checkpoint cannot be written. The one before is whole.

    Example:
        >>> batches = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [6.0]]))]
        >>> model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> history = fit(
        ...     model, batches, epochs=20, loss=nn.functional.mse_loss, optimizer=optimizer, progress=False
        ... )
        >>> len(history["loss"]), round(model.weight.item(), 1)
        (20, 3.0)
    """
    epochs, path = check_epochs(epochs), check_path(checkpoint)
    check_functions(model, loss, validate, monitor)
    check_mode(mode)
    given = [] if loss is None else ["loss", "val_loss"][: 1 if validation_loader is None else 2]
    check_monitor(monitor, mode, named=validate is not None, given=given)
    check_steps(steps)
    data = check_data(loader, validation_loader)
    optimizer = find_optimizer(model, optimizer, scheduler)
    team = Team(machine.pick_device(device))
    model.to(team.device)
    if isinstance(loss, nn.Module):
        loss.to(team.device)  # the weights of its classes, for example

    saved, shared = None, {}
    if path:
        shared = settings(model, data, loss, optimizer, scheduler, [monitor, mode], team.size)
        saved = team.share(file.read(path, shared) if team.rank == 0 else None)
    network, batches = team.prepare(model, loader)  # before the random state comes back: it may draw a seed
    precision = team.share(_precision(precision, saved, team))
    scaler = torch.amp.GradScaler(team.device.type, init_scale=FIRST_SCALE, enabled=precision == "fp16")
    batch_loss = BatchLoss(loss, team.device, precision)
    run = Run(model, data, optimizer, scheduler, scaler, batch_loss, validate, epochs, monitor, mode)
    history, best = _go_on(run, saved, team)
    done = len(history.get("loss", ()))
    check_room(scheduler, (epochs - done) * data.batches)

    memory = Memory(run, record_steps=steps is not None) if path is None and team.size == 1 else None
    if memory and (found := memory.recall()):
        history, taken = found
        done = epochs
        if steps is not None:
            steps.update(taken)

    usable = finite_weights(model)
    with _bar(max(epochs, done), done, data.batches, team, progress) as bar:
        for epoch in range(done + 1, epochs + 1):
            tally = Tally(team.device, record=steps is not None)
            bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
            _train(run, network, batches, tally, bar, team, epoch)
            losses = tally.means(epoch, team)
            team.align_buffers(model)
            check_weights(model, optimizer, usable, epoch)
            figures = team.share(validation(model, validate, validation_loader, batch_loss, taken=losses))
            bar.set_postfix(_for_the_bar(losses, figures))
            history = _extended(history, losses | figures)
            best = better(best, model, losses, figures, monitor=monitor, mode=mode)
            if steps is not None:
                tally.write_steps(steps)
            if path:
                shared = settle(shared, contents(data, loss)) if epoch == done + 1 else shared
                kept = {"settings": shared, "device": team.device.type, "precision": precision, "history": history}
                kept |= {"best": vars(best), "random": team.gather(_random(run))} | run.state()
                if team.rank == 0:
                    file.write(path, kept, epoch)
    if best.weights is not None:
        model.load_state_dict(best.weights)
    model.zero_grad()
    model.eval()
    if memory and not found:
        memory.remember(history, steps or {})
    return history


def _precision(asked: str | None, saved: dict | None, team: Team) -> str:
    """What to compute in: what the call, the checkpoint or the launcher asks for, else what suits the device."""
    before = saved["precision"] if saved and saved["device"] == team.device.type else None
    return asked or before or team.precision or machine.precision(team.device)


def _go_on(run: Run, saved: dict | None, team: Team) -> tuple[History, Best]:
    """The history and what was best so far, once everything stands as the checkpoint left it."""
    if not saved:
        return {}, Best()
    run.load_state(saved)
    set_random_state(saved["random"][team.rank], team.device, run.data.train, run.data.validation)
    return saved["history"], Best(**saved["best"])


def _random(run: Run) -> dict:
    return random_state(run.batch_loss.device, run.data.train, run.data.validation)


def _bar(epochs: int, done: int, batches: int, team: Team, progress: bool) -> tqdm:
    """The progress bar, of this process's batches; the first process shows it."""
    own = -(-batches // team.size)
    return tqdm(total=epochs * own, initial=done * own, unit="batch", disable=not progress or team.rank > 0)


def _train(run: Run, network: nn.Module, batches: Iterable, tally: Tally, bar: tqdm, team: Team, epoch: int) -> None:
    """One time through the batches; now and then the bar waits for the device."""
    network.train()
    looked = time.monotonic()
    for step, batch in enumerate(batches):
        run.optimizer.zero_grad()
        losses, samples = run.batch_loss(network, batch)
        check_gradient(losses["loss"])
        run.scaler.scale(losses["loss"]).backward()  # with bf16 and fp32 the scaler passes everything through
        _step(run, min(team.size, run.data.batches - step * team.size))
        tally.add(losses, samples)
        bar.update()
        if time.monotonic() - looked > LOOK_EVERY:
            bar.set_postfix(loss=f"{tally.mean(epoch):.4g}")
            looked = time.monotonic()


def _for_the_bar(losses: dict[str, float], figures: dict[str, float]) -> dict[str, str]:
    """What the bar says at the end of an epoch: without the parts of the loss where they would be cut off."""
    shown = losses | figures
    if len(shown) > MOST_IN_THE_BAR:
        shown = {"loss": losses["loss"]} | figures
    return {name: f"{figure:.4g}" for name, figure in shown.items()}


def _step(run: Run, batches: int) -> None:
    """One step of the optimizer; the schedule moves on by the batches that all processes took together."""
    run.scaler.step(run.optimizer)
    scale = run.scaler.get_scale()
    run.scaler.update()
    if run.scheduler is not None and run.scaler.get_scale() >= scale:  # smaller: fp16 overflowed, no step was made
        for _ in range(batches):
            run.scheduler.step()


def _extended(history: History, figures: dict[str, float]) -> History:
    """The history with one more epoch."""
    if history and history.keys() != figures.keys():
        raise ValueError(
            f"every epoch must give the same losses and figures, first {sorted(history)}, got {sorted(figures)}; "
            "nan stands for one that has no value"
        )
    return {name: [*history.get(name, ()), figure] for name, figure in figures.items()}

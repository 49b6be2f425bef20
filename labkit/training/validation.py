"""Figures of every epoch on data that is not trained on, and which weights are best by them."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.training.losses import BatchLoss

LOWER = {"mse", "mae", "rmse", "rmsd", "mape", "nll", "nrmse", "bce", "perplexity"}
HIGHER = {"accuracy", "acc", "auc", "auroc", "ap", "map", "iou", "dice", "jaccard", "recall", "precision"}
HIGHER |= {"sensitivity", "specificity", "psnr", "ssim", "snr", "froc", "cpm", "kappa", "f1"}
TURNED = re.compile(
    r"neg|minus|inverse|(^|[^a-z0-9])-\s*[a-z]|(^|[^a-z0-9])1\s*-"
)  # "neg_mse", "-loss", "1 - auc": the other way round

Figures = dict[str, float]


@dataclass
class Best:
    """What is best so far: the monitored value and a copy of the weights; both None before there is one."""

    value: float | None = None
    weights: dict[str, Tensor] | None = None


def validation(
    model: nn.Module, validate: Callable | None, loader: Iterable | None, batch_loss: BatchLoss, taken: Iterable[str]
) -> Figures:
    """The figures of one epoch on data that is not trained on.

    Args:
        model: in either mode; it is left in eval mode.
        validate: gives figures of the model, or None.
        loader: batches for "val_loss", or None.
        batch_loss: as in training.
        taken: names that `validate` must not use.
    """
    figures = {}
    with torch.no_grad():
        if loader is not None:
            _set_mode_for_validation(model, detector=batch_loss.loss is None)
            figures["val_loss"] = _mean_loss(model, loader, batch_loss)
        model.eval()
        more = {} if validate is None else validate(model)
    try:
        if _by_class(more):
            more = {"mean": more["mean"]} | more  # first, so that it is what is monitored
        more = {str(name): float(figure) for name, figure in more.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"validate must return a dict of figures, got {more!r}; return {{'name': number}}") from None
    if clash := more.keys() & {"loss", *taken, *figures}:
        raise ValueError(f"validate must name its own figures, got {clash.pop()!r}, which fit gives; rename it")
    return figures | more


def _mean_loss(model: nn.Module, loader: Iterable, batch_loss: BatchLoss) -> float:
    """The mean loss of the loader's samples; waits for the device once."""
    total, samples = torch.zeros((), device=batch_loss.device), 0
    for batch in loader:
        losses, count = batch_loss(model, batch)
        total += losses["loss"].float() * count
        samples += count
    return total.item() / max(samples, 1)


def _set_mode_for_validation(model: nn.Module, *, detector: bool) -> None:
    """Eval mode; a detector gives losses in train mode alone, so of it only normalisation and dropout are set."""
    model.train(detector)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()


def better(
    best: Best, model: nn.Module, losses: Figures, figures: Figures, *, monitor: str | None, mode: str | None
) -> Best:
    """What is best after this epoch.

    Args:
        best: before.
        model: after the epoch.
        losses: the means of training, which can be monitored too.
        figures: those of `validation`; the first is monitored where nothing else is asked for.
        monitor: the name of one, or None.
        mode: "min", "max", or None where the name tells.
    """
    monitor = next(iter(figures), None) if monitor is None else monitor
    if monitor is None:
        return best
    if monitor not in losses | figures:
        raise ValueError(f"monitor must be one of {', '.join(losses | figures)}, got {monitor!r}; or leave it out")
    value = (losses | figures)[monitor]
    if mode is None and monitor in losses:
        mode = "min"
    elif mode is None:
        mode = "max" if monitor == "mean" and _by_class(figures) else direction(monitor)
    sign = 1 if mode == "min" else -1
    if math.isnan(value) or (best.value is not None and sign * value >= sign * best.value):
        return best
    return Best(value, {name: tensor.clone() for name, tensor in model.state_dict().items()})


def check_monitor(monitor: str | None, mode: str | None, *, named: bool, given: Iterable[str]) -> None:
    """Refuse, before the first step, a figure that cannot come, or whose direction its name does not tell.

    Args:
        monitor: the figure, or None: then the names are known after the first epoch.
        mode: "min", "max", or None.
        named: whether `validate` gives figures, whose names are not known yet.
        given: the names that are known; empty where the model names losses of its own.

    Raises:
        ValueError: it cannot come, or mode is needed.

    Example:
        >>> check_monitor("auc", None, named=True, given=["loss"])
        >>> check_monitor("auc", None, named=False, given=["loss"])
        Traceback (most recent call last):
        ValueError: monitor must be one of loss, got 'auc'; or leave it out
    """
    given = list(given)
    if monitor is None or monitor in given:
        return
    if given and not named:
        raise ValueError(f"monitor must be one of {', '.join(given)}, got {monitor!r}; or leave it out")
    if mode is None and named:
        direction(monitor)


def direction(name: str) -> str:
    """Whether a figure of this name is best where it is lowest, "min", or highest, "max".

    Raises:
        ValueError: the name does not tell for certain.

    Example:
        >>> direction("val_loss"), direction("RMSE"), direction("mean IoU"), direction("AP50")
        ('min', 'min', 'max', 'max')
    """
    low = name.lower()
    words = set(re.findall(r"[a-z0-9]+", low))
    words |= {word.rstrip("0123456789") for word in words}  # AP50
    is_lower = "loss" in low or "error" in low or bool(words & LOWER)
    is_higher = bool(words & HIGHER)
    if is_lower == is_higher or TURNED.search(low):
        raise ValueError(
            f"mode must say whether the lowest or the highest {name!r} is best, which its name does not tell; give "
            "mode='min' or mode='max' (and monitor= where another figure is meant)"
        )
    return "min" if is_lower else "max"


def _by_class(figures) -> bool:
    """Whether it is what `average_precision` gives: a figure for each label, a whole number, and their mean."""
    others = [str(name) for name in figures if name not in ("mean", "val_loss")]
    return "mean" in figures and bool(others) and all(name.isdecimal() for name in others)

"""Curves and bars: how a training went, how methods compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from labkit.plotting.style import CYCLE, STYLE, new_figure, plain


def plot_history(
    history: Mapping[str, Sequence[float]], *, keys: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """What `fit` gave back, as curves over the epochs.

    Args:
        history: name -> one value an epoch.
        keys: which of them; those with "loss" in their name by default.

    Example:
        >>> ax = plot_history({"loss": [3.0, 2.0, 1.5]})
    """
    ax = ax or new_figure()[1]
    for i, key in enumerate(keys or [k for k in history if "loss" in k]):
        ax.plot(
            range(1, len(history[key]) + 1),
            history[key],
            marker="o",
            ms=4,
            **_look(i),
            label=key.replace("_", " "),
        )
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss" if not keys else "")
    ax.legend(frameon=False, fontsize=STYLE["legend.fontsize"])
    return ax


def plot_curves(
    curves: Mapping[str, tuple],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    log_x: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Named curves on one pair of axes, with labels and a legend.

    Args:
        curves: name -> (x values, y values).
        log_x: a logarithmic x axis.

    Example:
        >>> ax = plot_curves({"a": ([0, 1], [2, 3])}, xlabel="time (s)", ylabel="loss")
    """
    ax = ax or new_figure()[1]
    for i, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(plain(x), plain(y), **_look(i), label=name)
    if log_x:
        ax.set_xscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize=STYLE["axes.titlesize"])
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize=STYLE["legend.fontsize"])
    ax.grid(alpha=0.25)
    return ax


def plot_bars(
    values: Mapping[str, float],
    *,
    ylabel: str,
    title: str | None = None,
    form: str = "{:.2f}",
    ax: Axes | None = None,
) -> Axes:
    """Named values as bars, each with its number on top.

    Example:
        >>> ax = plot_bars({"R-CNN": 3.1, "Fast R-CNN": 0.4}, ylabel="seconds an image")
    """
    ax = ax or new_figure()[1]
    colors = [CYCLE[i % len(CYCLE)] for i in range(len(values))]
    bars = ax.bar(list(values), list(values.values()), color=colors, width=0.65)
    ax.bar_label(bars, labels=[form.format(v) for v in values.values()], padding=3)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize=STYLE["axes.titlesize"])
    ax.margins(y=0.15)
    return ax


def _look(i: int) -> dict[str, Any]:
    """Colour and line of the curve number i: neighbours differ in both, and no two of the first 28 are alike."""
    return {"color": CYCLE[i % len(CYCLE)], "linestyle": ("-", "--", "-.", ":")[i % 4]}

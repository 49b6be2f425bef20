"""Pictures: images with boxes, curves, before and after.

Every function that draws on one pair of axes takes `ax` and returns it; none shows or saves. Sizes are chosen to be
read from the back of a lecture hall, colours to be told apart by everyone (Okabe and Ito, 2008).
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
}
TRUTH, PREDICTION = COLORS["green"], COLORS["orange"]
CYCLE = [COLORS[c] for c in ("blue", "red", "green", "purple", "orange", "sky", "black")]

STYLE = {
    "font.size": 14,
    "axes.titlesize": 15,
    "axes.labelsize": 14,
    "legend.fontsize": 12,
    "lines.linewidth": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "image.cmap": "gray",
}


def use_style() -> None:
    """The course's style for every figure from here on; notebooks call it once, in their setup cell."""
    plt.rcParams.update(STYLE)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 6, height: float = 4, **options
) -> tuple[Figure, Axes]:
    """A figure whose parts do not overlap, and its axes (an array of them when there are several).

    Args:
        rows, columns: the grid.
        width, height: of one pair of axes, in inches.
        options: handed to `plt.subplots`, `sharey=True` for one.

    Example:
        >>> figure, axes = new_figure(1, 2)
        >>> axes.shape
        (2,)
    """
    plt.get_backend()  # a notebook's backend turns interactive as it loads; inside rc_context that would be undone
    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), layout="constrained", **options)


def as_image(image) -> np.ndarray:
    """(H, W) or (H, W, 3) array of an image given as (H, W), (1, H, W), (3, H, W) or (H, W, 3), tensor or array.

    Example:
        >>> as_image(torch.zeros(1, 4, 6)).shape
        (4, 6)
    """
    array = image.detach().float().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3):
        raise ValueError(
            f"expected one image (H, W), (C, H, W) or (H, W, 3), got shape {array.shape}; index the batch first"
        )
    return array


def show_image(
    image,
    *,
    boxes: Tensor | None = None,
    labels: Sequence | None = None,
    scores: Sequence | None = None,
    color: str = TRUTH,
    title: str | None = None,
    value_range: tuple[float, float] | None = (0, 1),
    ax: Axes | None = None,
) -> Axes:
    """An image, with boxes over it.

    Args:
        image: (H, W), (C, H, W) or (H, W, 3), tensor or array.
        boxes: (N, 4) xyxy pixels.
        labels: N words or numbers written at the boxes.
        scores: N numbers written at the boxes.
        color: of the boxes; green is the truth by habit, orange a prediction.
        value_range: intensities shown as black and white; None takes the image's own.
        ax: where to draw; a new figure without it.

    Example:
        >>> ax = show_image(torch.zeros(20, 30), boxes=torch.tensor([[2.0, 3.0, 8.0, 9.0]]))
        >>> len(ax.patches)
        1
    """
    ax = ax or new_figure()[1]
    array = as_image(image)
    low, high = value_range or (float(array.min()), float(array.max()))
    height, width = array.shape[:2]
    # a pixel covers [i, i + 1), as in the boxes: pixel centres lie at .5
    ax.imshow(
        np.clip(array, low, high),
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    ax.set_axis_off()
    if boxes is not None:
        show_boxes(boxes, color=color, labels=labels, scores=scores, ax=ax)
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
    if title:
        ax.set_title(title, fontsize=STYLE["axes.titlesize"])
    return ax


def show_boxes(
    boxes,
    *,
    color: str = TRUTH,
    labels: Sequence | None = None,
    scores: Sequence | None = None,
    name: str | None = None,
    width: float = 2.5,
    style: str = "-",
    ax: Axes | None = None,
) -> Axes:
    """Boxes drawn on axes; on empty ones the view is fitted with y downwards.

    Args:
        boxes: (N, 4) xyxy pixels.
        labels, scores: N values written above each box.
        name: the entry for a legend.
        width, style: of the line.

    Example:
        >>> ax = show_boxes([[2, 3, 8, 9]], name="truth")
    """
    ax = ax or new_figure()[1]
    boxes = np.asarray(boxes.detach().float().cpu() if isinstance(boxes, Tensor) else boxes, dtype=float).reshape(-1, 4)
    empty = not (ax.images or ax.patches)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                color=color,
                lw=width,
                ls=style,
                label=name if i == 0 else None,
            )
        )
        words = [] if labels is None else [str(_plain(labels[i]))]
        words += [] if scores is None else [f"{float(scores[i]):.2f}"]
        if words:
            ax.text(
                x1, y1, " ".join(words), color="white", fontsize=11, va="bottom", clip_on=True,
                bbox={"facecolor": color, "edgecolor": color, "pad": 1.5},
            )  # fmt: skip
    if not ax.images:  # no image sets the frame: fit all boxes drawn so far, y downwards
        ax.set_aspect("equal")
        ax.relim()
        ax.autoscale_view()
        if empty:
            ax.invert_yaxis()
    return ax


def show_images(
    images: Sequence,
    *,
    titles: Sequence[str] | None = None,
    boxes: Sequence | None = None,
    columns: int = 4,
    size: float = 3.2,
    color: str = TRUTH,
    value_range: tuple[float, float] | None = (0, 1),
) -> Figure:
    """Images side by side, row by row.

    Args:
        images: n images as `show_image` takes them.
        titles: n titles.
        boxes: n tensors (N, 4), one an image.
        columns: images in a row.
        size: height of one, in inches.

    Example:
        >>> figure = show_images([torch.rand(8, 6)] * 5, columns=3)
        >>> len(figure.axes)
        6
    """
    if not len(images):
        raise ValueError("expected at least one image, got none")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = as_image(images[0]).shape[:2]
    figure, axes = new_figure(
        rows, columns, width=size * width / height, height=size + (0.35 if titles else 0), squeeze=False
    )
    for i, ax in enumerate(axes.flat):
        if i >= len(images):
            ax.set_axis_off()
            continue
        show_image(
            images[i],
            boxes=None if boxes is None else boxes[i],
            color=color,
            title=None if titles is None else titles[i],
            value_range=value_range,
            ax=ax,
        )
    return figure


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
    for color, key in zip(CYCLE, keys or [k for k in history if "loss" in k], strict=False):
        ax.plot(
            range(1, len(history[key]) + 1),
            history[key],
            "-o",
            ms=4,
            color=color,
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
    for color, (name, (x, y)) in zip(CYCLE * (1 + len(curves) // len(CYCLE)), curves.items(), strict=False):
        ax.plot(_plain(x), _plain(y), color=color, label=name)
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


def _plain(value):
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value.numpy()
    return value.item() if isinstance(value, torch.Tensor | np.generic) else value

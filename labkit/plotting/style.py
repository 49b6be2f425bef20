"""The look of every figure: sizes to be read from the back of a lecture hall, colours to be told apart by everyone.

The colours are those of Okabe and Ito, 2008.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from labkit.plotting.alternative import DescribedFigure

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

STYLE: dict[str, Any] = {
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
    plt.style.use(STYLE)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 6, height: float = 4, **options
) -> tuple[Figure, Any]:
    """A figure whose parts do not overlap, with alternative text; and its axes (an array where there are several).

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
    options |= {"layout": "constrained", "FigureClass": DescribedFigure}
    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), **options)


def plain(value):
    """A number or an array that matplotlib takes, of a tensor wherever it lies, or of a number of NumPy."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value.numpy()
    return value.item() if isinstance(value, torch.Tensor | np.generic) else value

"""The walk of an agent that looks for a slice, step by step; notebook 18."""

import ipywidgets
import numpy as np
from torch import Tensor

from labkit.detection.slice_agent import Walk
from labkit.detection.slice_views import Views
from labkit.plotting import COLORS, PREDICTION, TRUTH
from labkit.widgets.canvas import Canvas, legend, new_figure, whole_slider_of, words_and_picture


def slice_walk_demo(image: Tensor, walk: Walk, *, height: float, spacing: float) -> ipywidgets.VBox:
    """A slider for the step: where the agent stands, what it sees at its two scales, and what up and down are worth.

    Args:
        image: (H, W), 0 to 1.
        walk: of `find_slices`, on this image.
        height: mm from the first row to the slice that is looked for.
        spacing: mm a row.

    Returns:
        A box of four widgets: the slider, a line of words, the picture, what the colours mean.

    Raises:
        ValueError: the walk has no step, or leaves the image.

    Example:
        >>> import torch
        >>> walk = Walk([20, 21, 20], [(0.0, 1.0), (0.4, 0.1), (0.0, 1.0)], 21)
        >>> slice_walk_demo(torch.rand(48, 128), walk, height=63.0, spacing=3.0).children[1].value
        'row <b>20</b>, 3 mm above the slice; up is worth 0.00, down <b>1.00</b>'
    """
    if not walk.values or not all(0 <= row < len(image) for row in walk.path):
        raise ValueError(f"walk must have steps on rows below {len(image)}, got {walk.path[:4]}; walk on this image")
    figure = new_figure(10, 4.6)
    body, fine, coarse, bars = _axes(figure, image, height / spacing)
    (here,) = body.plot([0, image.shape[1]], [0, 0], "--", color=PREDICTION, lw=3)  # dashed, as all that is predicted
    views = Views(image[None])
    pictures = [ax.imshow(np.zeros((32, 32)), cmap="gray", vmin=0, vmax=255) for ax in (fine, coarse)]
    high = max(0.1, *(abs(value) for pair in walk.values for value in pair))
    bars.set(xlim=(-1.15 * high, 1.15 * high))
    worth = bars.barh([0, 1], [1, 1], color=COLORS["sky"])
    for artist in (here, *pictures, *worth):
        artist.set_animated(True)
    canvas = Canvas(figure)
    slider = whole_slider_of("step", 0, len(walk.values) - 1)
    words, picture = words_and_picture("the projection with the agent's row, what it sees, and two bars of values")

    def redraw(_=None) -> None:
        row, pair = walk.path[slider.value], walk.values[slider.value]
        here.set_ydata([row + 0.5, row + 0.5])
        for shown, seen in zip(pictures, views.at([0], [row])[0], strict=True):
            shown.set_data(seen)
        for bar, value in zip(worth, pair, strict=True):
            bar.set_width(value)
            bar.set_color(PREDICTION if value == max(pair) else COLORS["sky"])
        words.value = _told(row, pair, height - row * spacing)
        picture.value = canvas.png((here, *pictures, *worth))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"the slice": (TRUTH, "solid"), "the agent, and the action it takes": (PREDICTION, "dashed")}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])


def _axes(figure, image: Tensor, row: float):
    """Four axes: the image with the slice, two views, the bars."""
    body = figure.add_axes((0.01, 0.02, 0.3, 0.88))
    body.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, image.shape[1], image.shape[0], 0))
    body.axhline(row + 0.5, color=TRUTH, lw=3)
    body.set_title("the projection")
    fine, coarse = figure.add_axes((0.33, 0.2, 0.22, 0.6)), figure.add_axes((0.57, 0.2, 0.22, 0.6))
    for ax, title in ((body, "the projection"), (fine, "seen: near"), (coarse, "seen: all around")):
        ax.set_title(title, fontsize=13)
        ax.set_axis_off()
    bars = figure.add_axes((0.88, 0.25, 0.11, 0.5))
    bars.set(yticks=[0, 1], yticklabels=["up", "down"], ylim=(1.6, -0.6))
    bars.set_title("worth", fontsize=13)
    bars.axvline(0, color="0.5", lw=1)
    return body, fine, coarse, bars


def _told(row: int, pair: tuple[float, float], below: float) -> str:
    """The line of words; `below` is how many mm the slice lies below the agent."""
    where = "above" if below > 0 else "below"
    up, down = (f"<b>{value:.2f}</b>" if value == max(pair) else f"{value:.2f}" for value in pair)
    return f"row <b>{row}</b>, {abs(below):.0f} mm {where} the slice; up is worth {up}, down {down}"

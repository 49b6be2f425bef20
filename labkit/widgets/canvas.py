"""The canvas of a live demo: a background drawn once, and over it what a slider moves.

A slider only draws what changes, so the answer comes within a tenth of a second. The figure never passes through
pyplot, and the picture is an ordinary PNG in an `ipywidgets.Image`: it works in JupyterLab and in notebooks run by a
machine, without any extension.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import torch
import traitlets
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from labkit.plotting import PREDICTION, show_image
from labkit.plotting.images import CASING

DOTS_PER_INCH = 100
PICTURE_HEIGHT = 4.8  # inches: with both sliders it fits on a projector


class Canvas:
    """A figure whose background is drawn; what moves is drawn over it, as often as wanted."""

    def __init__(self, figure: Figure) -> None:
        self.figure, self.agg = figure, FigureCanvasAgg(figure)
        self.agg.draw()
        self.background = self.agg.copy_from_bbox(figure.bbox)

    def png(self, artists: Sequence[Artist]) -> bytes:
        """The background with the artists over it."""
        self.agg.restore_region(self.background)
        for artist in artists:
            self.figure.draw_artist(artist)
        stream = io.BytesIO()
        # a slider waits for it: little compression is several times as fast, for a few kilobytes more
        Image.fromarray(np.asarray(self.agg.buffer_rgba())[..., :3]).save(stream, "png", compress_level=1)
        return stream.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, with no layout to work out at each redraw."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("none")
    return figure


def bare_figure(image: Tensor) -> tuple[Figure, Axes]:
    """A figure filled by the image alone, and its axes."""
    height, width = image.shape[:2] if image.shape[-1] == 3 else image.shape[-2:]
    figure = new_figure(PICTURE_HEIGHT * width / height, PICTURE_HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    show_image(image, ax=axes)
    return figure, axes


def new_boxes(axes: Axes, color: str, *, width: float, style: str | None = None) -> PolyCollection:
    """Outlines of boxes, none so far; `set_verts(outlines_of(boxes))` puts them there. Predictions are dashed."""
    style = style or ("--" if color == PREDICTION else "-")
    casing = [withStroke(linewidth=width + CASING, foreground="black")]  # as in `labkit.plotting.show_boxes`
    boxes = PolyCollection(
        [], facecolors="none", edgecolors=color, linewidths=width, linestyles=style, path_effects=casing
    )
    axes.add_collection(boxes)
    return boxes


def outlines_of(boxes: Tensor) -> list[np.ndarray]:
    """For each box (4, 2) its corners, in turn."""
    return [*boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).numpy()]


def frame(boxes: Tensor) -> Tensor:
    """A black image that holds all boxes."""
    far = boxes[:, 2:].amax(0) if len(boxes) else torch.ones(2)
    width, height = (int(side) + 1 for side in far.clamp(min=1).tolist())
    return torch.zeros(height, width)


class Picture(ipywidgets.Image):
    """An `ipywidgets.Image` with a place for words: its tooltip, the `title` of the `<img>`, which a reader says.

    The browser's side looks at the description of whatever has a tooltip; an Image as it comes has none.
    """

    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode(None, allow_none=True).tag(sync=True)


def new_picture() -> Picture:
    """A picture in its own size, so that it fits a screen together with its sliders; a box would stretch it."""
    return Picture(format="png", layout=ipywidgets.Layout(align_self="flex-start", max_width="100%"))


def words_and_picture(shows: str) -> tuple[ipywidgets.HTML, Picture]:
    """A line of words, and a picture under it; what it shows and the words are its alternative text.

    Args:
        shows: what the picture shows in every state of the demo.

    Example:
        >>> words, picture = words_and_picture("a film and its boxes")
        >>> words.value = "<b>2</b> kept"
        >>> picture.tooltip
        'a film and its boxes: 2 kept'
    """
    words, picture = ipywidgets.HTML(), new_picture()
    picture.tooltip = shows

    def describe(change: dict) -> None:
        picture.tooltip = f"{shows}: {html.unescape(re.sub('<[^>]*>', '', change['new']))}"

    words.observe(describe, names="value")
    return words, picture


def legend(entries: Mapping[str, tuple[str, str]]) -> ipywidgets.HTML:
    """A line that says what the kinds of lines mean: word -> (colour, "solid", "dashed" or "dotted").

    Example:
        >>> "#a6a6a6" in legend({"ignored": ("0.65", "solid")}).value  # a browser knows no "0.65"
        True
    """
    marks = (
        f'<span style="display:inline-block;width:2.5em;border-top:4px {style} {to_hex(color)};vertical-align:middle">'
        f"</span>&nbsp;{word}"
        for word, (color, style) in entries.items()
    )
    return ipywidgets.HTML("&emsp;".join(marks))


def slider_of(name: str, value: float, *, low: float = 0) -> ipywidgets.FloatSlider:
    """A slider from `low` to 1."""
    return ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=1,
        step=0.05,
        description=name,
        style={"description_width": "9em"},
        layout={"width": "32em"},
    )


def whole_slider_of(name: str, value: int, last: int, *, low: int = 0) -> ipywidgets.IntSlider:
    """A slider over `low`, ... `last`."""
    return ipywidgets.IntSlider(
        value=value,
        min=low,
        max=last,
        description=name,
        style={"description_width": "9em"},
        layout={"width": "32em"},
    )


def choice_of(name: str, options: Sequence[str]) -> ipywidgets.ToggleButtons:
    """Buttons of which one is pressed, with a name before them as a slider has it."""
    row = ipywidgets.Layout(display="flex", flex_flow="row wrap", width="auto")  # by itself the name stands above
    style = {"description_width": "9em", "button_width": "auto"}
    return ipywidgets.ToggleButtons(options=options, description=name, style=style, layout=row)

"""Alternative text: what a figure shows, in words, for those who do not see it.

In a notebook every figure of `new_figure` becomes an `<img>` whose `alt` says it. (The plain PNG that IPython sends has
no place for words in JupyterLab.) The words are those already in the figure: titles, labels, the entries of a legend.
"""

import base64
import html
import io
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

LONGEST = 600  # characters; a screen reader says them all


def alternative_text(figure: Figure) -> str:
    """What the figure shows: its title, then picture by picture and chart by chart.

    Example:
        >>> from labkit.plotting import new_figure
        >>> figure, ax = new_figure()
        >>> _ = ax.plot([0, 1], [1, 0], label="held out")
        >>> _ = ax.set(title="training", xlabel="epoch", ylabel="loss")
        >>> _ = ax.legend()
        >>> alternative_text(figure)
        'chart: training; loss over epoch: held out'
    """
    parts = [_one_line(part) for part in (figure.get_suptitle(), *map(_words_of, figure.axes)) if part]
    counted = [(part, len(list(alike))) for part, alike in groupby(parts)]
    text = ". ".join(part if count == 1 else f"{count} × {part}" for part, count in counted)
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _words_of(ax: Axes) -> str:
    """What one pair of axes shows; nothing where it shows nothing."""
    if not ax.has_data() or ax.get_label() == "<colorbar>":
        return ""
    boxes = sum(isinstance(patch, Rectangle) for patch in ax.patches)
    kind = "image" if ax.images else "chart"
    if ax.images and boxes:
        kind += f" with {boxes} box{'' if boxes == 1 else 'es'}"
    across, up = ax.get_xlabel(), ax.get_ylabel()
    said = [ax.get_title(), f"{up} over {across}" if up and across else up or across]
    words = "; ".join(word for word in said if word)
    legend = ax.get_legend()
    names = ", ".join(entry.get_text() for entry in legend.get_texts()) if legend else ""
    return ": ".join(word for word in (kind, words, names) if word)


def _one_line(words: str) -> str:
    return " ".join(words.split()).rstrip(".")


def as_image_tag(png: bytes, words: str) -> str:
    """The HTML of a picture with its alternative text.

    Example:
        >>> as_image_tag(b"", 'a "tight" box')
        '<img alt="a &quot;tight&quot; box" src="data:image/png;base64,">'
    """
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


class DescribedFigure(Figure):
    """A figure that a notebook shows with its alternative text."""

    def _ipython_display_(self) -> None:
        """As IPython draws a figure, cut to what is drawn; an empty one is not shown."""
        from IPython.display import display

        if not self.axes:
            return
        png, words = io.BytesIO(), alternative_text(self)
        self.savefig(png, format="png", bbox_inches="tight", facecolor=self.get_facecolor())
        display({"text/plain": words, "text/html": as_image_tag(png.getvalue(), words)}, raw=True)

"""What a check says: values as a student would write them, errors with their line, messages of bounded length."""

import html
import io
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from labkit.checks.cases import Case, a_type
from labkit.checks.guard import guarded

PACKAGE = str(Path(__file__).resolve().parents[1])
STDLIB = sysconfig.get_path("stdlib")
LONGEST_VALUE = 300  # letters, three lines
LONGEST_SENTENCE = 600
MOST_SHOWN = 24  # numbers of a tensor, entries of a list
SECONDS = 1.0  # to write a value down


def show(value: Any, width: int = LONGEST_VALUE) -> str:
    """A value as a student would write it down: rounded, on one line, large ones by shape.

    Example:
        >>> import torch
        >>> show(torch.tensor([[1 / 3, 2.0]]))
        '[[0.3333, 2.0]]'
        >>> show(list(range(1000)))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, … 1000 in all]'
    """
    outcome = guarded(lambda: str(_written(value)), seconds=SECONDS, most_printed=0)
    if outcome.error is not None:
        return f"{a_type(value)} that cannot be shown ({type(outcome.error).__name__})"
    return shortened(outcome.value, width)


def shortened(text: str, width: int) -> str:
    """The text, cut where it is longer than `width` letters."""
    return text if len(text) <= width else f"{text[:width]} …"


def show_call(case: Case) -> str:
    """The arguments of a case."""
    parts = [show(argument) for argument in case.args]
    parts += [f"{name}={show(value)}" for name, value in (case.options or {}).items()]
    return ", ".join(parts)


def _written(value: Any) -> str:
    if isinstance(value, Tensor):
        return _written_tensor(value)
    if isinstance(value, tuple | list):
        text = _joined((_written(entry) for entry in value), len(value))
        return f"({text})" if isinstance(value, tuple) else f"[{text}]"
    if isinstance(value, Mapping):
        entries = (f"{key!r}: {_written(entry)}" for key, entry in value.items())
        return "{" + _joined(entries, len(value)) + "}"
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}" if value.size > MOST_SHOWN else str(value.tolist())
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _joined(entries: Iterable[str], count: int) -> str:
    text = ", ".join(islice(entries, MOST_SHOWN))
    return text if count <= MOST_SHOWN else f"{text}, … {count} in all"


def _written_tensor(value: Tensor) -> str:
    if value.numel() > MOST_SHOWN:
        return f"tensor of shape {tuple(value.shape)}"
    if not value.numel():
        return f"empty, shape {tuple(value.shape)}"
    numbers = value.flatten().tolist()
    if value.is_floating_point():
        numbers = [round(number, 4) for number in numbers]
    if value.ndim == 0:
        return str(numbers[0])
    return str(np.array(numbers, dtype=object).reshape(value.shape).tolist())


def told(error: BaseException) -> str:
    """An error in a sentence: its name, its text, and the line of the student's cell where it arose."""
    if issubclass(type(error), SystemExit):
        return f"stopped with {name_and_text(error)}: it ends the whole program; leave a function with `return`"
    return f"stopped with {name_and_text(error)}{_line_of(error)}"


def name_and_text(error: BaseException) -> str:
    """The kind of an error, and what it says if it says anything."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """What an error says; some say nothing, some do not let themselves be asked."""
    outcome = guarded(lambda: str(error), seconds=SECONDS, most_printed=0)
    return shortened(outcome.value, LONGEST_VALUE) if outcome.error is None else "it cannot be shown"


def _line_of(error: BaseException) -> str:
    """Where in the student's own cell an error arose: its last frame outside labkit and the libraries."""
    outcome = guarded(lambda: traceback.extract_tb(error.__traceback__), seconds=SECONDS, most_printed=0)
    frames = [
        frame
        for frame in outcome.value or ()
        if "site-packages" not in frame.filename and not frame.filename.startswith((PACKAGE, STDLIB))
    ]
    if not frames or not frames[-1].line:
        return ""
    return f"  (line {frames[-1].lineno}: {shortened(frames[-1].line, LONGEST_VALUE)})"


def say(message: str) -> None:
    """The message, set off by colour in a notebook, as plain text elsewhere."""
    if not _in_notebook():
        print(message)
        return
    from IPython.display import display

    style = (
        "border-left:6px solid #D55E00;background:#fdf3ec;color:#1a1a1a;"
        "padding:.5em 1em;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;font-size:1.05em"
    )
    page = f'<pre style="{style}">{html.escape(message)}</pre>'
    display({"text/plain": message, "text/html": page}, raw=True)


def show_figure(draw: Callable[[], Any], *, seconds: float) -> None:
    """The figure that `draw` makes, in a notebook; an answer too strange to draw still has its numbers above."""

    def drawn() -> Any:
        warnings.simplefilter("ignore")  # matplotlib's worries are not the student's
        return draw()

    figure = guarded(drawn, seconds=seconds).value if _in_notebook() else None
    if figure is None:
        return
    import matplotlib.pyplot as plt
    from IPython.display import display

    from labkit.plotting import alternative_text, as_image_tag

    png = io.BytesIO()
    saved = guarded(lambda: figure.savefig(png, format="png", dpi=100, bbox_inches="tight"), seconds=seconds)
    words = guarded(lambda: alternative_text(figure), seconds=seconds).value or "the case that fails"
    plt.close(figure)  # or the notebook shows it a second time at the end of the cell
    if saved.error is None:
        display({"text/plain": words, "text/html": as_image_tag(png.getvalue(), words)}, raw=True)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None

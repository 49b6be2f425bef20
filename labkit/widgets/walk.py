"""An agent's walk through a volume, step by step, live; notebook 17."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
from torch import Tensor

from labkit.detection.box_views import overlap
from labkit.plotting import COLORS, PREDICTION, TRUTH
from labkit.plotting.planes import PLANES, show_planes
from labkit.widgets.canvas import Canvas, legend, new_boxes, new_figure, outlines_of, whole_slider_of, words_and_picture

WIDTH, HEIGHT = 11.0, 4.2  # inches


def walk_demo(
    volume: Tensor,
    boxes: Tensor,
    values: Tensor,
    *,
    truth: Tensor,
    spacing: Sequence[float],
    actions: Sequence[str],
    step: int = 0,
) -> ipywidgets.VBox:
    """A slider for the step: the box in three planes, and what the network says of each move from there.

    Args:
        volume: (Z, Y, X) HU; the planes go through the middle of the truth.
        boxes: (T, 6) the box at the start and after each step.
        values: (T, A) of the moves at each of these boxes; the largest is the move that follows.
        truth: (6,).
        spacing: (z, y, x) mm.
        actions: A names.
        step: where the slider stands at first.

    Returns:
        A box of four widgets: the slider, a line of words, the picture, what the colours mean.

    Raises:
        ValueError: shapes do not fit each other.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0, 0, 8, 6, 4], [1, 1, 1, 7, 5, 3]])
        >>> demo = walk_demo(torch.zeros(4, 6, 8), boxes, torch.tensor([[0.1, 0.5], [0.2, 0.1]]), truth=boxes[1],
        ...                  spacing=(4, 3, 3), actions=["x +", "zoom in"])
        >>> demo.children[1].value
        'IoU <b>0.25</b>; the move that follows: <b>zoom in</b>'
    """
    boxes, values, truth = (each.detach().cpu().float() for each in (boxes, values, truth))
    _check(boxes, values, truth, actions)
    figure = new_figure(WIDTH, HEIGHT)
    axes = [figure.add_axes((0.01 + 0.23 * i, 0.02, 0.215, 0.86)) for i in range(3)]
    show_planes(
        volume.detach().cpu(), {TRUTH: truth}, at=((truth[:3] + truth[3:]) / 2).tolist(), spacing=spacing, axes=axes
    )
    outlines = [new_boxes(ax, PREDICTION, width=2.5) for ax in axes]
    bars = figure.add_axes((0.82, 0.13, 0.17, 0.75))
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    bars.set(xlim=(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-6), xlabel="value", title="moves")
    pieces = bars.barh(range(len(actions)), np.zeros(len(actions)), color=COLORS["sky"])
    bars.set_yticks(range(len(actions)), actions)
    bars.invert_yaxis()
    bars.axvline(0, color="0.6", lw=1)
    canvas = Canvas(figure)
    overlaps = [overlap(box, truth) for box in boxes]
    slider = whole_slider_of("step", step, len(boxes) - 1)
    words, picture = words_and_picture("the box of an agent in three planes of a scan, beside the values of its moves")

    def redraw(_=None) -> None:
        now = slider.value
        for outline, (_title, _cut, across, down) in zip(outlines, PLANES, strict=True):
            outline.set_verts(outlines_of(boxes[now : now + 1, [across, down, across + 3, down + 3]]))
        best = int(values[now].argmax())
        for i, (piece, value) in enumerate(zip(pieces, values[now].tolist(), strict=True)):
            piece.set_width(value)
            piece.set_facecolor(PREDICTION if i == best else COLORS["sky"])
        following = "the walk ends here" if now == len(boxes) - 1 else f"the move that follows: <b>{actions[best]}</b>"
        words.value = f"IoU <b>{overlaps[now]:.2f}</b>; {following}"
        picture.value = canvas.png((*outlines, *pieces))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"organ": (TRUTH, "solid"), "box, best move": (PREDICTION, "dashed")}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])


def _check(boxes: Tensor, values: Tensor, truth: Tensor, actions: Sequence[str]) -> None:
    if boxes.ndim != 2 or boxes.shape[1:] != (6,) or not len(boxes) or truth.shape != (6,):
        raise ValueError(
            f"boxes must be (T, 6) and truth (6,), got {tuple(boxes.shape)} and {tuple(truth.shape)}; "
            "stack the boxes of a walk"
        )
    if values.shape != (len(boxes), len(actions)):
        raise ValueError(
            f"values must hold {len(boxes)} rows of {len(actions)} actions, got {tuple(values.shape)}; "
            "ask the network at each box"
        )

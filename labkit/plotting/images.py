"""Pictures: an image with boxes over it, and several side by side."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from labkit.plotting.style import PREDICTION, STYLE, TRUTH, new_figure, plain

UNIT = (0, 1)  # intensities of an image, unless another range is named
ROOM = (0.2, 0.07)  # of an image's width and height, that the words at a box take
CASING = 2.0  # points of black around a line on an image: green on mid-grey has a contrast of 1.15 without it


def as_image(image) -> np.ndarray:
    """(H, W) or (H, W, 3) array of an image given as (H, W), (1, H, W), (3, H, W) or (H, W, 3), tensor or array.

    Where an image could be read both ways, as (3, 20, 3), channels come first. Values stay as they are.

    Raises:
        ValueError: this is no image.

    Example:
        >>> as_image(np.zeros((1, 4, 6))).shape
        (4, 6)
    """
    array = image.detach().cpu() if isinstance(image, Tensor) else np.asarray(image)
    array = array.float().numpy() if isinstance(array, Tensor) and array.dtype == torch.bfloat16 else np.asarray(array)
    if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"expected one image (H, W), (C, H, W) or (H, W, 3), got {array.dtype} of shape {array.shape}; "
            "index the batch first"
        )
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] not in (1, 3):
        raise ValueError(
            f"expected 1 or 3 channels, got shape {np.shape(image)}; choose some: image[:3], image[..., :3]"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return array.astype(np.float32) if array.dtype.kind == "b" else array


def _range_of(array: np.ndarray, value_range: tuple[float, float] | None) -> tuple[float, float]:
    """What is shown as black and as white; a picture that would be one of them all over is refused."""
    if value_range is not None:
        if len(value_range) != 2 or not value_range[0] <= value_range[1]:
            raise ValueError(f"value_range must be (black, white), black first, got {value_range}; write (0, 1)")
        value_range = (value_range[0], value_range[1])  # a list too
    if value_range not in (None, UNIT):
        return value_range  # a window that somebody chose, of a CT for one: what lies outside is meant to be cut off
    if value_range == UNIT and array.dtype == np.uint8:
        return 0, 255
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else UNIT
    if value_range is None:
        return low, high
    if low < -1 or high > 2:  # noise may leave [0, 1] by as much as it is wide
        raise ValueError(
            f"values must lie in value_range, 0 to 1, got {low:.4g} to {high:.4g}; "
            "name the range, value_range=(0, 255) for one, or value_range=None for the image's own"
        )
    return UNIT


def show_image(
    image,
    *,
    boxes: Tensor | None = None,
    labels: Sequence | None = None,
    scores: Sequence | None = None,
    color: str = TRUTH,
    title: str | None = None,
    value_range: tuple[float, float] | None = UNIT,
    ax: Axes | None = None,
) -> Axes:
    """An image, with boxes over it.

    Args:
        image: (H, W), (C, H, W) or (H, W, 3), tensor or array.
        boxes: (N, 4) xyxy pixels.
        labels: N words or numbers written at the boxes.
        scores: N numbers written at the boxes.
        color: of the boxes; green is the truth by habit, orange a prediction.
        value_range: intensities shown as black and white, for bytes 0 and 255; None takes the image's own.
        ax: where to draw; a new figure without it.

    Raises:
        ValueError: this is no image, its values lie far outside the range, or boxes are not (N, 4).

    Example:
        >>> ax = show_image(np.zeros((20, 30)), boxes=np.array([[2.0, 3.0, 8.0, 9.0]]))
        >>> len(ax.patches)
        1
    """
    ax = ax or new_figure()[1]
    array = as_image(image)
    low, high = _range_of(array, value_range)
    height, width = array.shape[:2]
    # a pixel covers [i, i + 1), as in the boxes: pixel centres lie at .5
    ax.imshow(
        np.clip(array, low, high) if array.ndim == 2 else _as_color(array, low, high),
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


def _as_color(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W, 3) in [0, 1], which is how matplotlib takes colours, whatever the range."""
    return ((array - low) / (high - low or 1)).clip(0, 1)


def _as_boxes(boxes) -> np.ndarray:
    array = np.asarray(boxes.detach().float().cpu() if isinstance(boxes, Tensor) else boxes, dtype=float)
    if array.size == 0:
        return array.reshape(-1, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        cure = (
            "write boxes[None] for a single box"
            if array.shape == (4,)
            else "take the columns x1 y1 x2 y2: boxes[:, :4]"
        )
        raise ValueError(f"boxes must have shape (N, 4), got {array.shape}; {cure}")
    return array


def show_boxes(
    boxes,
    *,
    color: str = TRUTH,
    labels: Sequence | None = None,
    scores: Sequence | None = None,
    name: str | None = None,
    width: float = 2.5,
    style: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Boxes drawn on axes, with a black casing over an image; on empty axes the view is fitted with y downwards.

    Args:
        boxes: (N, 4) xyxy pixels.
        labels, scores: N values written above each box.
        name: the entry for a legend.
        width: of the line in points.
        style: of the line; without one, predictions (orange) are dashed and all else is solid, so that they can be
            told apart without their colours.

    Example:
        >>> ax = show_boxes([[2, 3, 8, 9]], name="truth")
    """
    ax = ax or new_figure()[1]
    boxes = _as_boxes(boxes)
    for name_of, values in (("labels", labels), ("scores", scores)):
        if values is not None and len(values) != len(boxes):
            raise ValueError(
                f"expected one of {name_of} a box, got {len(values)} for {len(boxes)}; index them together"
            )
    empty = not (ax.images or ax.patches)
    style = style or ("--" if color == PREDICTION else "-")
    casing = [withStroke(linewidth=width + CASING, foreground="black")] if ax.images else []
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
                path_effects=casing,
                label=name if i == 0 else None,
            )
        )
        words = [] if labels is None else [str(plain(labels[i]))]
        words += [] if scores is None else [f"{float(scores[i]):.2f}"]
        if words:
            _write(ax, (x1, y1, x2, y2), " ".join(words), color)
    if not ax.images:  # no image sets the frame: fit all boxes drawn so far, y downwards
        ax.set_aspect("equal")
        ax.relim()
        ax.autoscale_view()
        if empty:
            ax.invert_yaxis()
    return ax


def _write(ax: Axes, box: tuple[float, float, float, float], words: str, color: str) -> None:
    """Words at a box that stay in the image: in its right half they end where the box ends, and do not begin there.

    They stand above the box; below it where the image ends above, or where other words stand already.
    """
    x1, y1, x2, y2 = box
    x, y, across, down = x1, y1, "left", "bottom"
    if ax.images:
        left, right, bottom, top = ax.images[0].get_extent()
        line, wide = ROOM[1] * abs(bottom - top), ROOM[0] * abs(right - left)
        if x1 + x2 > left + right:
            x, across = min(x2, right), "right"
        places = [text.get_position() for text in ax.texts]
        crowded = any(abs(x - a) < wide and abs(y1 - b) < line for a, b in places)
        if crowded or y1 - line < top:
            y, down = min(y2, bottom - line), "top"
    ax.text(
        x, y, words, color="white", fontsize=13, ha=across, va=down, clip_on=True,
        bbox={"facecolor": color, "edgecolor": color, "pad": 1.5},
    )  # fmt: skip


def show_images(
    images: Sequence,
    *,
    titles: Sequence[str] | None = None,
    boxes: Sequence | None = None,
    columns: int = 4,
    size: float = 3.2,
    color: str = TRUTH,
    value_range: tuple[float, float] | None = UNIT,
) -> Figure:
    """Images side by side, row by row.

    Args:
        images: n images as `show_image` takes them.
        titles: n titles.
        boxes: n tensors (N, 4), one an image.
        columns: images in a row.
        size: height of one, in inches.

    Example:
        >>> figure = show_images([np.zeros((8, 6))] * 5, columns=3)
        >>> len(figure.axes)
        6
    """
    if not len(images):
        raise ValueError("expected at least one image, got none; look for a filter that kept nothing")
    for name, values in (("titles", titles), ("boxes", boxes)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"expected one of {name} an image, got {len(values)} for {len(images)}; pair them")
    if columns < 1:
        raise ValueError(f"columns must be 1 or more, got {columns}; leave it out for 4")
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

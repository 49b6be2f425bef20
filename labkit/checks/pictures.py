"""Pictures of a failing case: expected beside got on one scale, y down, a difference, numbers where order counts."""

import textwrap

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from labkit.checks.cases import Case
from labkit.plotting import COLORS, new_figure, show_boxes, show_image

EXPECTED, GOT = COLORS["green"], COLORS["red"]
MANY = 9  # above this many boxes numbers would hide them
LETTERS_AN_INCH = 8.5  # of a title


def panels(count: int, *, title: str, width: float = 3.4, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side under a title that is folded where it would be cut off.

    Example:
        >>> figure, axes = panels(2, title="a bright spot")
        >>> len(axes)
        2
    """
    figure, _ = new_figure(1, count, width=width, height=height)
    figure.suptitle(textwrap.fill(title, int(LETTERS_AN_INCH * width * count)), fontsize=14)
    return figure, list(figure.axes)


def draw_maps(what: str, given: Tensor, expected: Tensor, got: Tensor, *, boxes: Tensor | None = None) -> Figure:
    """What was given, expected and got on one grey scale, and the difference: one plane, where they differ most.

    Args:
        what: the case in words.
        given: (H, W) or (C, H, W).
        expected, got: (..., h, w); the axes before the last two count boxes and channels, or channels.
        boxes: (R, 4) drawn on what was given, in its pixels.
    """
    if not (expected.numel() and got.numel() and got.ndim > 1):
        raise ValueError("expected images with a pixel to draw, got none; show the numbers alone")
    place = _worst(expected, got)
    planes = [_plane(value, place) for value in (given, expected, got)]
    known = torch.cat([plane[plane.isfinite()] for plane in planes])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    same = planes[1].shape == planes[2].shape
    figure, axes = panels(3 + same, title=what + _where(place, expected))
    for ax, plane, name, color in zip(
        axes, planes, ("given", "expected", "got"), ("black", EXPECTED, GOT), strict=False
    ):
        size = "" if same or name == "given" else f": {plane.shape[0]} × {plane.shape[1]}"
        show_image(plane, value_range=(low, max(high, low + 1e-6)), title=name + size, ax=ax)
        ax.title.set_color(color)
    if boxes is not None:
        _mark(axes[0], boxes.cpu(), place[0] if expected.ndim == 4 else None, planes[0].shape)
    if same:
        _show_difference(axes[3], planes[2] - planes[1])
    return figure


def draw_batch(case: Case, expected: Tensor, got: Tensor) -> Figure:
    """The maps of the image of a batch (B, C, H, W) in which two results differ most; given is the first argument."""
    if not isinstance(expected, Tensor) or got.ndim != 4 or not got.numel():
        raise ValueError("expected images (B, C, H, W) to draw, got another result; give one back for each image")
    row = 0
    if got.shape == expected.shape:
        row = int((got.double() - expected.double()).abs().nan_to_num(nan=torch.inf).flatten(1).amax(1).argmax())
    which = f", image {row}" if len(expected) > 1 else ""
    return draw_maps(case.what + which, case.args[0][row], expected[row], got[min(row, len(got) - 1)])


def _worst(expected: Tensor, got: Tensor) -> tuple[int, ...]:
    """Where, on the axes before the last two, two results differ most."""
    lead = expected.shape[:-2]
    if got.shape != expected.shape or not lead:
        return (0,) * len(lead)
    far = (got.double() - expected.double()).abs().nan_to_num(nan=torch.inf).flatten(-2).amax(-1)
    return tuple(int(i) for i in torch.unravel_index(far.argmax(), lead))


def _plane(value: Tensor, place: tuple[int, ...]) -> Tensor:
    """(h, w) of a value at a place; of a value with fewer axes the last of the place's numbers count."""
    value = value.detach().float().cpu()
    lead = value.ndim - 2
    index = ((0,) * lead + place)[len(place) :] if lead else ()
    return value[tuple(min(i, size - 1) for i, size in zip(index, value.shape[:lead], strict=True))]


def _where(place: tuple[int, ...], expected: Tensor) -> str:
    names = ("box", "channel") if len(place) > 1 else ("channel",)
    words = [f"{name} {i}" for name, i, size in zip(names, place, expected.shape, strict=False) if size > 1]
    return f" ({', '.join(words)})" if words else ""


def _mark(ax: Axes, boxes: Tensor, which: int | None, shape: torch.Size) -> None:
    """All boxes, the one that is shown thick; the frame takes in what of them lies outside the image."""
    show_boxes(boxes, color=COLORS["sky"], width=1.5, ax=ax)
    if len(boxes):
        show_boxes(boxes[which or 0][None], color=COLORS["sky"], width=3.5, ax=ax)
    height, width = shape
    fit([ax], torch.cat([boxes, boxes.new_tensor([[0, 0, width, height]])]))


def _show_difference(ax: Axes, difference: Tensor) -> None:
    size = float(difference.abs().nan_to_num(nan=0, posinf=0, neginf=0).max())
    height, width = difference.shape
    extent = (0.0, float(width), float(height), 0.0)
    ax.imshow(difference.numpy(), cmap="PuOr", vmin=-size or -1, vmax=size or 1, extent=extent, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(f"got − expected\norange −{size:.3g}, purple +{size:.3g}", fontsize=12)


def fit(axes: list[Axes], boxes: Tensor) -> None:
    """One frame around all boxes for all axes, in equal units, y downwards as in an image."""
    boxes = boxes[boxes.isfinite().all(dim=1)].float().cpu()
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    margin = 0.06 * (high - low).max().clamp(min=1)
    for ax in axes:
        ax.set_xlim(float(low[0] - margin), float(high[0] + margin))
        ax.set_ylim(float(high[1] + margin), float(low[1] - margin))
        ax.set_aspect("equal")
        ax.tick_params(labelsize=11)


def legend(ax: Axes) -> None:
    """What the named lines are, beside the axes; nothing where none was drawn."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def number_boxes(ax: Axes, boxes: Tensor, *, color: str, words: list[str] | None = None) -> None:
    """1, 2, 3, … on boxes in their order, each at another corner, so that boxes at one place can be told apart."""
    if len(boxes) > MANY:
        return
    for i, (x1, y1, x2, y2) in enumerate(boxes.float().cpu().tolist()):
        x, y = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))[i % 4]
        word = str(i + 1) if words is None else words[i]
        style = {"facecolor": color, "edgecolor": "white", "boxstyle": "round,pad=0.2"}
        ax.text(x, y, word, color="white", fontsize=12, ha="center", va="center", clip_on=True, bbox=style)


def draw_choice(
    what: str, boxes: Tensor, chosen: dict[str, Tensor], *, shown: int = 10_000, everything: bool = True
) -> Figure:
    """Rows of boxes, chosen and numbered in their order, "expected" beside "got".

    Args:
        boxes: (N, 4).
        chosen: title -> rows (K,) int64.
        shown: at most so many of each.
        everything: whether the boxes that are not chosen are drawn too, in grey.
    """
    figure, axes = panels(len(chosen), title=f"{what}: numbered in order", width=4.4, height=3.8)
    for ax, (name, rows), color in zip(axes, chosen.items(), (EXPECTED, GOT), strict=True):
        if everything:
            show_boxes(boxes, color="0.75", width=1.5, ax=ax)
        show_boxes(boxes[rows[:shown]], color=color, ax=ax)
        number_boxes(ax, boxes[rows[:shown]], color=color)
        ax.set_title(f"{name}: {len(rows)}", color=color)
    fit(axes, boxes)
    return figure

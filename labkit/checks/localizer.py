"""Checks of notebook 01, localization as regression: deltas and back.

Overlap: localizer_iou.py; losses: localizer_training.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats
from labkit.detection.boxes import decode_boxes, encode_boxes

# ------------------------------------------------------------------------------------------------- encode_box


def encode_box(student: Callable) -> Callable:
    """Check `my_encode_box(box (4,), anchor (4,)) -> (4,)` of notebook 01.

    Example:
        >>> encode_box(lambda box, anchor: box - anchor).__name__
        ✗ encode_box: the anchor, moved to the right by half its width
        ...
        'reference_encode_box'
    """
    anchor = floats(10, 20, 50, 40)
    cases = [
        Case("the box is the anchor", (anchor, anchor)),
        Case("the anchor, moved to the right by half its width", (anchor + floats(20, 0, 20, 0), anchor)),
        Case("the anchor, moved down by half its height", (anchor + floats(0, 10, 0, 10), anchor)),
        Case("same centre, twice as wide", (floats(-10, 20, 70, 40), anchor)),
        Case("same centre, half as high", (floats(10, 25, 50, 35), anchor)),
        Case("a box in a region of 64 x 48", (floats(12, 30, 31, 41), floats(0, 0, 64, 48))),
        Case("another box and anchor", (floats(3, 5, 10, 25), floats(6, 1, 18, 9))),
    ]
    return run_check(
        "encode_box", student, reference_encode_box, cases, mistakes=ENCODE_BOX_MISTAKES, draw=_draw_deltas
    )


def reference_encode_box(box: Tensor, anchor: Tensor) -> Tensor:
    """Deltas (4,) from an anchor (4,) to a box (4,)."""
    return encode_boxes(box[None], anchor[None])[0]


def _deltas(
    box: Tensor,
    anchor: Tensor,
    *,
    unit: Callable = lambda size, anchor_size: anchor_size,
    ratio: Callable = lambda size, anchor_size: (size / anchor_size).log(),
    at: Callable = lambda box, size: box[:2] + size / 2,
    order: tuple[int, ...] = (0, 1, 2, 3),
) -> Tensor:
    """Deltas with room for the usual slips."""
    size, anchor_size = box[2:] - box[:2], anchor[2:] - anchor[:2]
    move = (at(box, size) - at(anchor, anchor_size)) / unit(size, anchor_size)
    return torch.cat([move, ratio(size, anchor_size)])[list(order)]


def _corner_and_size(box: Tensor, anchor: Tensor) -> Tensor:
    """Deltas when the last two numbers are read as a size."""
    shift = (box[:2] + box[2:] / 2 - anchor[:2] - anchor[2:] / 2) / anchor[2:]
    return torch.cat([shift, (box[2:] / anchor[2:]).log()])


ENCODE_BOX_MISTAKES: dict[str, Callable] = {
    "dx and dy are in anchor sizes: divide the shift by the anchor's width and height": (
        lambda b, a: _deltas(b, a, unit=lambda size, anchor: 1)
    ),
    "the ratio of sizes needs a logarithm, so that no change is 0": (
        lambda b, a: _deltas(b, a, ratio=lambda size, anchor: size / anchor)
    ),
    "the ratio is upside down: box over anchor": lambda b, a: _deltas(b, a, ratio=lambda s, t: (t / s).log()),
    "sizes are compared by log(size / anchor size), which is near size / anchor size - 1 for small changes only": (
        lambda b, a: _deltas(b, a, ratio=lambda size, anchor: size / anchor - 1)
    ),
    "sizes are compared by their ratio, not by their difference": (
        lambda b, a: _deltas(b, a, ratio=lambda size, anchor: size - anchor)
    ),
    "the natural logarithm is wanted: torch.log, not log2": (
        lambda b, a: _deltas(b, a, ratio=lambda size, anchor: (size / anchor).log2())
    ),
    "the natural logarithm is wanted: torch.log, not log10": (
        lambda b, a: _deltas(b, a, ratio=lambda size, anchor: (size / anchor).log10())
    ),
    "compare the centres, not the upper left corners": lambda b, a: _deltas(b, a, at=lambda box, size: box[:2]),
    "the centre is (x1 + x2) / 2, not (x2 - x1) / 2": lambda b, a: _deltas(b, a, at=lambda box, size: size / 2),
    "the centre is half of x1 + x2: the half is missing": (
        lambda b, a: _deltas(b, a, at=lambda box, size: box[:2] + box[2:])
    ),
    "divide by the anchor's size, not by the box's": lambda b, a: _deltas(b, a, unit=lambda size, anchor: size),
    "dx goes with the width and dy with the height": (
        lambda b, a: _deltas(b, a, unit=lambda size, anchor: anchor.flip(0))
    ),
    "dy is divided by the anchor's width: divide it by the height": (
        lambda b, a: _deltas(b, a, unit=lambda size, anchor: anchor[0])
    ),
    "dx is divided by the anchor's height: divide it by the width": (
        lambda b, a: _deltas(b, a, unit=lambda size, anchor: anchor[1])
    ),
    "the order is dx dy dw dh: shifts first": lambda b, a: _deltas(b, a, order=(2, 3, 0, 1)),
    "the order is dx dy dw dh: both shifts, then both sizes": lambda b, a: _deltas(b, a, order=(0, 2, 1, 3)),
    "x comes before y: dx dy dw dh": lambda b, a: _deltas(b, a, order=(1, 0, 3, 2)),
    "the shift is turned round: the box's centre minus the anchor's": (
        lambda b, a: _deltas(b, a, unit=lambda size, anchor: -anchor)
    ),
    "box and anchor are exchanged": lambda b, a: _deltas(a, b),
    "box and anchor hold two corners, x1 y1 x2 y2, not a corner and a size": _corner_and_size,
}


def _draw_deltas(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, fit, legend, panels
    from labkit.plotting import COLORS, show_boxes

    anchor = case.args[1][None]
    there, here = (decode_boxes(deltas[None], anchor) for deltas in (expected, got))
    figure, axes = panels(1, title=case.what, width=7, height=3.8)
    show_boxes(anchor, color=COLORS["black"], style=":", width=5, name="anchor", ax=axes[0])
    show_boxes(there, color=EXPECTED, width=3.5, name="where your deltas should lead", ax=axes[0])
    show_boxes(here, color=GOT, style="--", name="where they lead", ax=axes[0])
    fit(axes, torch.cat([anchor, there, here]))
    legend(axes[0])
    return figure


# ------------------------------------------------------------------------------------------------- decode_box


def decode_box(student: Callable) -> Callable:
    """Check `my_decode_box(deltas (4,), anchor (4,)) -> (4,)` of notebook 01.

    Example:
        >>> decode_box(lambda deltas, anchor: anchor + deltas).__name__
        ✗ decode_box: half an anchor to the right
        ...
          likely: deltas are no pixels: ...
        ...
        'reference_decode_box'
    """
    anchor = floats(10, 20, 50, 40)
    cases = [
        Case("deltas of 0: the anchor itself", (floats(0, 0, 0, 0), anchor)),
        Case("half an anchor to the right", (floats(0.5, 0, 0, 0), anchor)),
        Case("half an anchor up", (floats(0, -0.5, 0, 0), anchor)),
        Case("twice as wide, about the same centre", (floats(0, 0, 0.6931472, 0), anchor)),
        Case("half as high, about the same centre", (floats(0, 0, 0, -0.6931472), anchor)),
        Case("moved and stretched, in a region of 64 x 48", (floats(-0.3, 0.2, -1.1, -0.6), floats(0, 0, 64, 48))),
        Case("a box that leaves the frame on the left and above", (floats(-1, -0.75, 0.3, 0.9), anchor)),
        Case("another anchor", (floats(0.25, 1.5, 0.4, -0.2), floats(6, 1, 18, 9))),
    ]
    return run_check(
        "decode_box", student, reference_decode_box, cases, mistakes=DECODE_BOX_MISTAKES, draw=_draw_decoded
    )


def reference_decode_box(deltas: Tensor, anchor: Tensor) -> Tensor:
    """The box (4,) that deltas (4,) make of an anchor (4,)."""
    return decode_boxes(deltas[None], anchor[None])[0]


def _decoded(
    deltas: Tensor,
    anchor: Tensor,
    *,
    unit: Callable = lambda anchor_size, size: anchor_size,
    factor: Callable = torch.exp,
    at: Callable = lambda anchor, anchor_size: anchor[:2] + anchor_size / 2,
    corners: Callable = lambda center, size: torch.cat([center - size / 2, center + size / 2]),
) -> Tensor:
    """A decoded box with room for the usual slips."""
    anchor_size = anchor[2:] - anchor[:2]
    size = anchor_size * factor(deltas[2:])
    return corners(at(anchor, anchor_size) + deltas[:2] * unit(anchor_size, size), size)


def _size_for_corner(deltas: Tensor, anchor: Tensor) -> Tensor:
    """The box when the anchor's last two numbers are read as a size."""
    return reference_decode_box(deltas, torch.cat([anchor[:2], anchor[:2] + anchor[2:]]))


DECODE_BOX_MISTAKES: dict[str, Callable] = {
    "deltas are no pixels: shifts are in anchor sizes, sizes are factors under a logarithm": lambda d, a: a + d,
    "dx and dy are in anchor sizes: multiply them by the anchor's width and height": (
        lambda d, a: _decoded(d, a, unit=lambda anchor_size, size: 1)
    ),
    "dx and dy are in anchor sizes: multiply by the anchor's, not by the new box's": (
        lambda d, a: _decoded(d, a, unit=lambda anchor_size, size: size)
    ),
    "dx goes with the width and dy with the height": (
        lambda d, a: _decoded(d, a, unit=lambda anchor_size, size: anchor_size.flip(0))
    ),
    "dy is multiplied by the anchor's width: multiply it by the height": (
        lambda d, a: _decoded(d, a, unit=lambda anchor_size, size: anchor_size[0])
    ),
    "the shift goes the wrong way: the centre is the anchor's plus the shift": (
        lambda d, a: _decoded(d, a, unit=lambda anchor_size, size: -anchor_size)
    ),
    "nothing is rounded: a box may lie between pixels": lambda d, a: _decoded(d, a).round(),
    "from the new centre x1 and y1 are half the NEW size away, not half the anchor's": (
        lambda d, a: _decoded(d, a, corners=lambda c, size: torch.cat([c - (a[2:] - a[:2]) / 2, c + size / 2]))
    ),
    "from the new centre x2 and y2 are half the NEW size away, not half the anchor's": (
        lambda d, a: _decoded(d, a, corners=lambda c, size: torch.cat([c - size / 2, c + (a[2:] - a[:2]) / 2]))
    ),
    "dw and dh are logarithms: multiply the anchor's size by exp(dw)": (
        lambda d, a: _decoded(d, a, factor=lambda ratio: ratio)
    ),
    "dw and dh are logarithms: exp(dw), which is near 1 + dw for small ones only": (
        lambda d, a: _decoded(d, a, factor=lambda ratio: 1 + ratio)
    ),
    "the natural logarithm was taken: exp, not 2 to the power": lambda d, a: _decoded(d, a, factor=torch.exp2),
    "the ratio is upside down: exp(dw), not exp(-dw)": lambda d, a: _decoded(d, a, factor=lambda r: (-r).exp()),
    "the size is not changed: multiply it by exp(dw) and exp(dh)": (
        lambda d, a: _decoded(d, a, factor=torch.ones_like)
    ),
    "the shift starts from the anchor's centre, not from its upper left corner": (
        lambda d, a: _decoded(d, a, at=lambda anchor, size: anchor[:2])
    ),
    "the anchor's centre is (x1 + x2) / 2, not (x2 - x1) / 2": (
        lambda d, a: _decoded(d, a, at=lambda anchor, size: size / 2)
    ),
    "the corners lie half a width from the centre: the half is missing": (
        lambda d, a: _decoded(d, a, corners=lambda center, size: torch.cat([center - size, center + size]))
    ),
    "these are centre and size: give back the corners x1 y1 x2 y2": (
        lambda d, a: _decoded(d, a, corners=lambda center, size: torch.cat([center, size]))
    ),
    "these are corner and size: give back both corners, x1 y1 x2 y2": (
        lambda d, a: _decoded(d, a, corners=lambda center, size: torch.cat([center - size / 2, size]))
    ),
    "the centre is taken for the upper left corner: x1 lies half a width before it": (
        lambda d, a: _decoded(d, a, corners=lambda center, size: torch.cat([center, center + size]))
    ),
    "the box is clipped: it may leave the frame": lambda d, a: reference_decode_box(d, a).clamp(min=0),
    "deltas and anchor are exchanged": lambda d, a: reference_decode_box(a, d),
    "this encodes; decoding goes the other way": lambda d, a: encode_boxes(d[None], a[None])[0],
    "the anchor holds two corners, x1 y1 x2 y2, not a corner and a size": _size_for_corner,
}


def _draw_decoded(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, fit, legend, panels
    from labkit.plotting import COLORS, show_boxes

    anchor = case.args[1][None]
    figure, axes = panels(1, title=case.what, width=7, height=3.8)
    show_boxes(anchor, color=COLORS["black"], style=":", width=5, name="anchor", ax=axes[0])
    show_boxes(expected[None], color=EXPECTED, width=3.5, name="expected", ax=axes[0])
    show_boxes(got[None], color=GOT, style="--", name="got", ax=axes[0])
    fit(axes, torch.cat([anchor, expected[None], got[None]]))
    legend(axes[0])
    return figure

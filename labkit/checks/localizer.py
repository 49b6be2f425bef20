"""Checks of notebook 01, localization as regression: overlap, deltas and back. Its losses: localizer_training.py."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import ops

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, floats, scattered_boxes
from labkit.detection.boxes import decode_boxes, encode_boxes

# ---------------------------------------------------------------------------------------------------- box_iou


def box_iou(student: Callable) -> Callable:
    """Check `my_box_iou(boxes1 (N, 4), boxes2 (M, 4)) -> (N, M)` of notebook 01.

    Example:
        >>> box_iou(lambda boxes1, boxes2: 1 - ops.box_iou(boxes1, boxes2)).__name__  # a distance
        ✗ box_iou: a box with itself
        ...
          likely: this is 1 - IoU, a distance; 1 must mean equal boxes
        ...
        'box_iou'
    """
    one = box_rows([2, 1, 12, 6])
    cases = [
        Case("a box with itself", (one, one)),
        Case("two boxes that share a part", (one, box_rows([7, 3, 17, 9]))),
        Case("a box inside a larger one", (box_rows([4, 2, 8, 5]), one)),
        Case("boxes that only touch at an edge", (one, box_rows([12, 1, 20, 6]))),
        Case("boxes apart in x and in y", (one, box_rows([30, 20, 45, 22]))),
        Case("boxes apart in x only", (one, box_rows([20, 2, 30, 5]))),
        Case("boxes apart in y only", (one, box_rows([3, 20, 9, 25]))),
        Case("boxes left of and above 0", (box_rows([-12, -9, -2, -4]), box_rows([-7, -7, 3, 1]))),
        Case("3 boxes against 2", (scattered_boxes(3, 0), scattered_boxes(2, 2))),
        Case("no boxes against 2", (box_rows(), scattered_boxes(2, 4))),
        Case("60 boxes against 41", (scattered_boxes(60, 6), scattered_boxes(41, 8))),
    ]
    return run_check("box_iou", student, ops.box_iou, cases, mistakes=BOX_IOU_MISTAKES, draw=_draw_iou)


def _iou(boxes1: Tensor, boxes2: Tensor, *, clamp="sides", plus=0.0, union="both", swapped=False) -> Tensor:
    """IoU with room for the usual slips."""
    inner, outer = (torch.minimum, torch.maximum) if swapped else (torch.maximum, torch.minimum)
    low = inner(boxes1[:, None, :2], boxes2[None, :, :2])
    high = outer(boxes1[:, None, 2:], boxes2[None, :, 2:])
    sides = high - low + plus
    inter = (sides.clamp(min=0) if clamp == "sides" else sides).prod(dim=2)
    inter = inter.clamp(min=0) if clamp == "product" else inter
    area1 = (boxes1[:, 2:] - boxes1[:, :2] + plus).prod(dim=1)[:, None]
    area2 = (boxes2[:, 2:] - boxes2[:, :2] + plus).prod(dim=1)[None, :]
    smaller, one = torch.minimum(area1, area2), torch.ones_like(inter)
    total = {"both": area1 + area2 - inter, "twice": area1 + area2, "first": area1, "smaller": smaller, "none": one}
    return inter / total[union]


def _read_as(form: str) -> Callable:
    return lambda a, b: ops.box_iou(ops.box_convert(a, form, "xyxy"), ops.box_convert(b, form, "xyxy"))


BOX_IOU_MISTAKES: dict[str, Callable] = {
    "boxes that do not meet have negative sides; clamp each side at 0 before you multiply": (
        lambda a, b: _iou(a, b, clamp="no")
    ),
    "clamp each side at 0, not their product: two negative sides make a positive area": (
        lambda a, b: _iou(a, b, clamp="product")
    ),
    "minimum and maximum are exchanged: what is shared begins at the larger x1 y1 and ends at the smaller x2 y2": (
        lambda a, b: _iou(a, b, swapped=True)
    ),
    "x2 and y2 are exclusive here: the width is x2 - x1, without + 1": lambda a, b: _iou(a, b, plus=1.0),
    "the union counts the shared part twice: subtract the intersection once": lambda a, b: _iou(a, b, union="twice"),
    "the intersection is divided by the area of the first box, not by the union": (
        lambda a, b: _iou(a, b, union="first")
    ),
    "this is the intersection in pixels: divide it by the union": lambda a, b: _iou(a, b, union="none"),
    "the result is turned: rows are boxes1, columns are boxes2": lambda a, b: ops.box_iou(b, a),
    "boxes are x1 y1 x2 y2 here, not centre and size": _read_as("cxcywh"),
    "boxes are x1 y1 x2 y2 here, not corner and size (x y w h)": _read_as("xywh"),
    "the intersection is divided by the smaller box, not by the union": lambda a, b: _iou(a, b, union="smaller"),
    "this is 1 - IoU, a distance; 1 must mean equal boxes": lambda a, b: 1 - ops.box_iou(a, b),
    "every box of boxes1 meets every box of boxes2, (N, M); these are the pairs row by row": (
        lambda a, b: torch.stack([ops.box_iou(p[None], q[None])[0, 0] for p, q in zip(a, b, strict=False)])
    ),
}


def _draw_iou(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import fit, legend, panels
    from labkit.plotting import COLORS, show_boxes

    far = (got.double() - expected.double()).abs().nan_to_num(nan=torch.inf)  # the pair that is furthest off
    i, j = (int(k) for k in torch.unravel_index(far.argmax(), far.shape))
    pair = case.args[0][i][None], case.args[1][j][None]
    numbers = f"expected {float(expected[i, j]):.4g}, got {float(got[i, j]):.4g}"
    figure, axes = panels(1, title=f"{case.what}: {numbers}", width=5.6, height=3.6)
    for box, color, style, name in zip(pair, ("green", "orange"), ("-", "--"), ("boxes1", "boxes2"), strict=True):
        which = f"{name}[{(i, j)[name == 'boxes2']}]"
        show_boxes(box, color=COLORS[color], style=style, width=3.5, name=which, ax=axes[0])
    fit(axes, torch.cat(pair))
    legend(axes[0])
    return figure


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

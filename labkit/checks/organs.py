"""The check of notebook 15, organs in one pass: overlap in volumes. Others: organs_loss.py, organs_fusion.py."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform
from labkit.detection.boxes_3d import box_iou_3d as package_iou


def rows_3d(*rows) -> Tensor:
    """(N, 6) float32 boxes; (0, 6) of nothing."""
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def scattered_boxes_3d(count: int, seed: int) -> Tensor:
    """Boxes in 90 x 50 x 30 voxels, of another size along each axis, so that no two axes can be exchanged unseen."""
    corner = uniform(count, 3, seed=seed) * floats(90, 50, 30)
    size = floats(12, 6, 4) + uniform(count, 3, seed=seed + 1) * floats(50, 30, 18)
    return torch.cat([corner, corner + size], dim=1)


def box_iou_3d(student: Callable) -> Callable:
    """Check `my_box_iou_3d(boxes1 (N, 6), boxes2 (M, 6)) -> (N, M)` of notebook 15.

    Example:
        >>> box_iou_3d(lambda boxes1, boxes2: 1 - package_iou(boxes1, boxes2)).__name__  # a distance
        ✗ box_iou_3d: a box with itself
        ...
          likely: this is 1 - IoU, a distance; 1 must mean equal boxes
        ...
        'box_iou_3d'
    """
    one = rows_3d([2, 1, 3, 12, 6, 11])
    cases = [
        Case("a box with itself", (one, one)),
        Case("a cube of side 2 and one of its corners, of side 1: an eighth", (TWO, rows_3d([0, 0, 0, 1, 1, 1]))),
        Case("two boxes that share a part", (one, rows_3d([7, 3, 5, 17, 9, 12]))),
        Case("the same from above, at other heights in part", (one, rows_3d([2, 1, 9, 12, 6, 15]))),
        Case("a box inside a larger one", (rows_3d([4, 2, 5, 8, 5, 10]), one)),
        Case("boxes that only touch at a face", (one, rows_3d([12, 1, 3, 20, 6, 11]))),
        Case("boxes apart along x only", (one, rows_3d([20, 2, 4, 30, 5, 9]))),
        Case("boxes apart along y only", (one, rows_3d([3, 20, 4, 9, 25, 9]))),
        Case("boxes apart along z only", (one, rows_3d([3, 2, 20, 9, 5, 26]))),
        Case("boxes apart along x and z: two negative sides", (one, rows_3d([20, 2, 30, 26, 5, 33]))),
        Case("boxes smaller than a voxel", (rows_3d([0, 0, 0, 0.5, 0.25, 0.5]), rows_3d([0.25, 0, 0, 0.75, 0.5, 0.5]))),
        Case("boxes that begin below 0", (rows_3d([-12, -9, -7, -2, -4, 1]), rows_3d([-7, -7, -3, 3, 1, 4]))),
        Case("3 boxes against 2", (scattered_boxes_3d(3, 0), scattered_boxes_3d(2, 2))),
        Case("no boxes against 2", (rows_3d(), scattered_boxes_3d(2, 4))),
        Case("50 boxes against 31", (scattered_boxes_3d(50, 6), scattered_boxes_3d(31, 8))),
    ]
    return run_check("box_iou_3d", student, package_iou, cases, mistakes=BOX_IOU_3D_MISTAKES, draw=_draw_iou)


TWO = rows_3d([0, 0, 0, 2, 2, 2])


def _volume(sides: Tensor) -> Tensor:
    return sides.prod(dim=-1)


def _iou(
    boxes1: Tensor,
    boxes2: Tensor,
    *,
    clamp: str = "sides",
    plus: float = 0.0,
    union: str = "both",
    swapped: bool = False,
    axes: int = 3,
    volume: Callable = _volume,
) -> Tensor:
    """IoU with room for the usual slips."""
    inner, outer = (torch.minimum, torch.maximum) if swapped else (torch.maximum, torch.minimum)
    low = inner(boxes1[:, None, :axes], boxes2[None, :, :axes])
    high = outer(boxes1[:, None, 3 : 3 + axes], boxes2[None, :, 3 : 3 + axes])
    sides = high - low + plus
    common = volume({"sides": sides.clamp(min=0), "one": sides.clamp(0, 1), "abs": sides.abs()}.get(clamp, sides))
    common = common.clamp(min=0) if clamp == "product" else common
    volumes1 = volume(boxes1[:, 3 : 3 + axes] - boxes1[:, :axes] + plus)[:, None]
    volumes2 = volume(boxes2[:, 3 : 3 + axes] - boxes2[:, :axes] + plus)[None]
    smaller, unit = torch.minimum(volumes1, volumes2), torch.ones_like(common)
    total = {
        "both": volumes1 + volumes2 - common,
        "twice": volumes1 + volumes2,
        "first": volumes1 + 0 * common,
        "smaller": smaller,
        "none": unit,
        "first twice": 2 * volumes1 - common,
        "and one": volumes1 + volumes2 - common + 1,
        "at least one": (volumes1 + volumes2 - common).clamp(min=1),
    }
    return common / total[union]


def _one_axis(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(N, M, 3) IoU of the sides, axis by axis."""
    parts = [
        _iou(boxes1[:, [axis, 3, 4, axis + 3, 3, 4]], boxes2[:, [axis, 3, 4, axis + 3, 3, 4]], axes=1)
        for axis in range(3)
    ]
    return torch.stack(parts, dim=-1)


def _in_pairs(boxes: Tensor) -> Tensor:
    """What a reader of x1 x2 y1 y2 z1 z2 sees."""
    return boxes[:, [0, 2, 4, 1, 3, 5]]


def _with_size(boxes: Tensor) -> Tensor:
    """What a reader of corner and size sees."""
    return torch.cat([boxes[:, :3], boxes[:, :3] + boxes[:, 3:]], dim=1)


BOX_IOU_3D_MISTAKES: dict[str, Callable] = {
    "boxes that do not meet have negative sides; clamp each side at 0 before you multiply": (
        lambda a, b: _iou(a, b, clamp="no")
    ),
    "clamp each side at 0, not their product: two negative sides make a positive volume": (
        lambda a, b: _iou(a, b, clamp="product")
    ),
    "minimum and maximum are exchanged: what is shared begins at the larger start and ends at the smaller end": (
        lambda a, b: _iou(a, b, swapped=True)
    ),
    "ends are exclusive here: a side is x2 - x1, without + 1": lambda a, b: _iou(a, b, plus=1.0),
    "the union counts the shared part twice: subtract the intersection once": lambda a, b: _iou(a, b, union="twice"),
    "the intersection is divided by the volume of the first box, not by the union": (
        lambda a, b: _iou(a, b, union="first")
    ),
    "the intersection is divided by the smaller box, not by the union": lambda a, b: _iou(a, b, union="smaller"),
    "this is the intersection in voxels: divide it by the union": lambda a, b: _iou(a, b, union="none"),
    "z is missing: this is the overlap from above, of x and y alone": lambda a, b: _iou(a, b, axes=2),
    "a volume is the product of three sides, not their sum": lambda a, b: _iou(a, b, volume=lambda s: s.sum(dim=-1)),
    "boxes that do not meet have negative sides; clamp(min=0), not abs(), which makes them positive": (
        lambda a, b: _iou(a, b, clamp="abs")
    ),
    "a shared side may be longer than one voxel: clamp(min=0), without an upper end": lambda a, b: _iou(
        a, b, clamp="one"
    ),
    "this is Dice, twice the intersection by the sum of the volumes: divide by the union": (
        lambda a, b: 2 * _iou(a, b, union="twice")
    ),
    "the second box has a volume of its own: V1 + V2 - intersection": lambda a, b: _iou(a, b, union="first twice"),
    "nothing is added to the union": lambda a, b: _iou(a, b, union="and one"),
    "the union may be smaller than one voxel: no clamp there": lambda a, b: _iou(a, b, union="at least one"),
    "a ratio between 0 and 1: divide with /, not //": lambda a, b: _iou(a, b).floor(),
    "divide by the union: neither by the box around both nor axis by axis, which comes to the same": (
        lambda a, b: _one_axis(a, b).prod(dim=-1)
    ),
    "multiply sides: the mean of three overlaps along one axis is another number": (
        lambda a, b: _one_axis(a, b).mean(dim=-1)
    ),
    "the cube root of the IoU: the ratio of the two volumes is the answer, without a root": (
        lambda a, b: _iou(a, b) ** (1 / 3)
    ),
    "the square root of the IoU: the ratio of the two volumes is the answer, without a root": (
        lambda a, b: _iou(a, b).sqrt()
    ),
    "the IoU to the power 2/3, as if of areas: the ratio of the two volumes is the answer": (
        lambda a, b: _iou(a, b) ** (2 / 3)
    ),
    "the IoU to the power 3: the ratio of the two volumes is the answer": lambda a, b: _iou(a, b) ** 3,
    "the cube root of a volume is a side: the volumes themselves are compared": (
        lambda a, b: _iou(a, b, volume=lambda s: _volume(s) ** (1 / 3))
    ),
    "the result is turned: rows are boxes1, columns are boxes2": lambda a, b: _iou(b, a),
    "boxes are x1 y1 z1 x2 y2 z2 here, three starts and then three ends": lambda a, b: _iou(_in_pairs(a), _in_pairs(b)),
    "boxes are x1 y1 z1 x2 y2 z2 here, not corner and size": lambda a, b: _iou(_with_size(a), _with_size(b)),
    "this is 1 - IoU, a distance; 1 must mean equal boxes": lambda a, b: 1 - _iou(a, b),
    "every box of boxes1 meets every box of boxes2, (N, M); these are the pairs row by row": (
        lambda a, b: torch.stack([_iou(p[None], q[None])[0, 0] for p, q in zip(a, b, strict=False)])
    ),
}


def _draw_iou(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS

    far = (got.double() - expected.double()).abs().nan_to_num(nan=torch.inf)  # the pair that is furthest off
    i, j = (int(k) for k in torch.unravel_index(far.argmax(), far.shape))
    numbers = f"expected {float(expected[i, j]):.4g}, got {float(got[i, j]):.4g}"
    shown = {f"boxes1[{i}]": case.args[0][i][None], f"boxes2[{j}]": case.args[1][j][None]}
    return two_views(f"{case.what}: {numbers}", shown, (COLORS["green"], COLORS["orange"]))


def two_views(title: str, shown: dict[str, Tensor], colors: tuple[str, ...]):
    """Boxes from above (x and y) and from the front (x and z), the last kind dashed."""
    from labkit.checks.pictures import fit, legend, panels
    from labkit.plotting import show_boxes

    figure, axes = panels(2, title=title, width=4.4, height=3.6)
    for ax, name, sides in zip(axes, ("x and y", "x and z"), ([0, 1, 3, 4], [0, 2, 3, 5]), strict=True):
        for (word, boxes), color in zip(shown.items(), colors, strict=True):
            style = "--" if word == list(shown)[-1] else "-"
            show_boxes(boxes[:, sides], color=color, style=style, width=3, name=word, ax=ax)
        fit([ax], torch.cat(list(shown.values()))[:, sides])
        ax.set_title(name, fontsize=12)
    legend(axes[-1])
    return figure

"""Checks of notebook 15, organs in one pass: overlap in volumes, and the mean of the best. Its loss: organs_loss.py."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform
from labkit.detection.boxes_3d import box_iou_3d as package_iou
from labkit.detection.fusion import fuse_proposals as package_fuse


def rows_3d(*rows) -> Tensor:
    """(N, 6) float32 boxes; (0, 6) of nothing."""
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def scattered_boxes_3d(count: int, seed: int) -> Tensor:
    """Boxes in 90 x 50 x 30 voxels, of another size along each axis, so that no two axes can be exchanged unseen."""
    corner = uniform(count, 3, seed=seed) * floats(90, 50, 30)
    size = floats(12, 6, 4) + uniform(count, 3, seed=seed + 1) * floats(50, 30, 18)
    return torch.cat([corner, corner + size], dim=1)


# ------------------------------------------------------------------------------------------------- box_iou_3d


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
    common = volume(sides.clamp(min=0) if clamp == "sides" else sides)
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
    "multiply sides, not ratios: the product of three overlaps along one axis is another number": (
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
    return _two_views(f"{case.what}: {numbers}", shown, (COLORS["green"], COLORS["orange"]))


def _two_views(title: str, shown: dict[str, Tensor], colors: tuple[str, ...]):
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


# --------------------------------------------------------------------------------------------- fuse_proposals


def fuse_proposals(student: Callable) -> Callable:
    """Check `my_fuse_proposals(boxes (R, 6), scores (R,), share) -> (1, 6), or (0, 6) of none` of notebook 15.

    Example:
        >>> fuse_proposals(lambda boxes, scores, share: boxes[scores.argmax()][None]).__name__
        ✗ fuse_proposals: two boxes of the same score, all of them: their middle
        ...
          likely: the best alone is another method: ...
        ...
        'reference_fuse_proposals'
    """
    pair = rows_3d([2, 4, 6, 12, 9, 20], [4, 4, 8, 16, 13, 22])
    few = scattered_boxes_3d(5, 20)
    many, scores = scattered_boxes_3d(47, 30), 0.5 + 0.5 * uniform(47, seed=33)
    cases = [
        Case("two boxes of the same score, all of them: their middle", (pair, floats(0.5, 0.5), 1.0)),
        Case("two boxes of scores 0.9 and 0.3, all of them", (pair, floats(0.9, 0.3), 1.0)),
        Case("two boxes, the better one second, half of them", (pair, floats(0.6, 0.9), 0.5)),
        Case("a tenth of two boxes: one at least", (pair, floats(0.8, 0.6), 0.1)),
        Case("five boxes, half of them: two", (few, floats(0.6, 0.95, 0.7, 0.9, 0.52), 0.5)),
        Case("five boxes, three fifths, scores as small as 0.01", (few, floats(0.05, 0.01, 0.02, 0.04, 0.03), 0.6)),
        Case("one box", (pair[:1], floats(0.7), 0.1)),
        Case("47 boxes, a tenth of them: four", (many, scores, 0.1)),
        Case("no proposals: there is no answer", (rows_3d(), floats(), 0.1)),
        Case("47 boxes, a quarter of them: eleven", (many, scores, 0.25)),
    ]
    return run_check(
        "fuse_proposals",
        student,
        reference_fuse_proposals,
        cases,
        mistakes=FUSE_PROPOSALS_MISTAKES,
        draw=_draw_fused,
        atol=1e-3,
    )


def reference_fuse_proposals(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    """`labkit.detection.fusion.fuse_proposals`."""
    return package_fuse(boxes, scores, share=share)


def _at_least_one(count: int, share: float) -> int:
    return max(1, int(share * count))


def _fuse(
    boxes: Tensor,
    scores: Tensor,
    share: float,
    *,
    count: Callable = _at_least_one,
    order: Callable = lambda scores: scores.argsort(descending=True),
    weights: Callable = lambda chosen: chosen / chosen.sum(),
    empty: bool = True,
) -> Tensor:
    """The mean with room for the usual slips."""
    if empty and not len(boxes):
        return boxes
    best = order(scores)[: count(len(boxes), share)]
    return (weights(scores[best])[:, None] * boxes[best]).sum(dim=0, keepdim=True)


def _with(**slip) -> Callable:
    return lambda boxes, scores, share: _fuse(boxes, scores, share, **slip)


def _first_scores(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    count = _at_least_one(len(boxes), share)
    chosen, weights = boxes[scores.argsort(descending=True)[:count]], scores[:count, None]
    return (weights * chosen).sum(dim=0, keepdim=True) / weights.sum()


def _near_the_best(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    near = scores >= (1 - share) * scores.max()
    return (scores[near, None] * boxes[near]).sum(dim=0, keepdim=True) / scores[near].sum()


def _median(boxes: Tensor, scores: Tensor, share: float) -> Tensor:
    if not len(boxes):
        return boxes
    best = scores.topk(_at_least_one(len(boxes), share)).indices
    return boxes[best].median(dim=0, keepdim=True).values


FUSE_PROPOSALS_MISTAKES: dict[str, Callable] = {
    "the best alone is another method: take the mean of the best share of the proposals": _with(count=lambda n, s: 1),
    "the share is missing: only the best of the proposals count": _with(count=lambda n, s: n),
    "the share is written into the function: use the argument": _with(count=lambda n, s: max(1, n // 10)),
    "the share is rounded down: int(share * R)": _with(count=lambda n, s: max(1, -int(-s * n // 1))),
    "a tenth of few proposals is none: take one at least": _with(count=lambda n, s: int(s * n)),
    "one at least, not one more": _with(count=lambda n, s: 1 + int(s * n)),
    "a better proposal counts more: weigh by score": (
        _with(weights=lambda chosen: torch.full_like(chosen, 1 / len(chosen)))
    ),
    "the weights must add up to 1: divide by the sum of the scores": _with(weights=lambda chosen: chosen),
    "divide by the sum of the scores, not by the number of boxes": _with(weights=lambda chosen: chosen / len(chosen)),
    "divide by the sum of the chosen scores, not of all": (
        lambda b, s, share: _fuse(b, s, share, weights=lambda chosen: chosen / s.sum())
    ),
    "the scores themselves are the weights: no softmax": _with(weights=lambda chosen: chosen.softmax(dim=0)),
    "the scores themselves are the weights: no squares": (_with(weights=lambda chosen: chosen**2 / (chosen**2).sum())),
    "these are the worst proposals: sort by falling score": _with(order=lambda scores: scores.argsort()),
    "these are the first proposals: sort by falling score": _with(order=lambda scores: torch.arange(len(scores))),
    "the boxes are sorted and the scores are not: index both by the same rows": _first_scores,
    "the best share is a number of proposals, not a distance from the best score": _near_the_best,
    "this is a median: the mean of the boxes is wanted, weighted by score": _median,
    "without proposals there is no answer: give boxes (0, 6) back": _with(empty=False),
    "one row a box: (1, 6), not (6,)": (lambda b, s, share: reference_fuse_proposals(b, s, share)[0] if len(b) else b),
}


def _draw_fused(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.explain import shortened
    from labkit.plotting import COLORS

    boxes, got = case.args[0], got.reshape(-1, 6)
    shown = {"proposals": boxes, "expected": expected, "got": got}
    title = shortened(case.what, 200)
    return _two_views(title, shown, ("0.7", COLORS["green"], COLORS["orange"]))

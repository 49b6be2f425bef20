"""Checks of notebook 05, region proposals."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.detection import proposals as right

Region = dict[str, Tensor]


def _region(size, box, colour, texture) -> Region:
    values = {"size": size, "box": box, "colour": colour, "texture": texture}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def _random_region(seed: int) -> Region:
    """A region with the histograms of a colour image, in a frame wider than high."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, generator=draw, dtype=torch.float64) * torch.tensor([50.0, 20.0])
    sides = 5 + torch.rand(2, generator=draw, dtype=torch.float64) * torch.tensor([25.0, 10.0])
    colour, texture = (torch.rand(bins, generator=draw, dtype=torch.float64) ** 3 for bins in (75, 240))
    region = {"size": 0.7 * sides.prod(), "box": torch.cat([corner, corner + sides])}
    return region | {"colour": colour / colour.sum(), "texture": texture / texture.sum()}


DARK, BRIGHT, MIXED = [1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [0.5, 0.125, 0.375]
FLAT, ROUGH = [0.875, 0.125], [0.375, 0.625]
LEFT = _region(40.0, [10.0, 5.0, 20.0, 9.0], DARK, FLAT)  # a full box of 10 by 4
RIGHT = _region(24.0, [20.0, 5.0, 26.0, 9.0], DARK, FLAT)  # touches it, as high, full too
UPPER = _region(40.0, [0.0, 0.0, 8.0, 5.0], [1.0, 0.0], [1.0, 0.0])  # two halves of an image of 8 by 10
LOWER = _region(40.0, [0.0, 5.0, 8.0, 10.0], [0.0, 1.0], [0.0, 1.0])
SPARSE = UPPER | {"size": torch.tensor(20.0, dtype=torch.float64)}  # fills half of its box
APART = LOWER | {"box": torch.tensor([0.0, 7.0, 8.0, 12.0], dtype=torch.float64)}
HALF_DARK = torch.tensor([0.5, 0.5], dtype=torch.float64)
BIT_FLAT = torch.tensor([0.25, 0.75], dtype=torch.float64)
HIGHER = _region(20.0, [20.0, 1.0, 24.0, 7.0], MIXED, ROUGH)  # reaches higher, has a corner missing
INNER = _region(6.0, [13.0, 6.0, 16.0, 8.0], BRIGHT, ROUGH)  # inside the box of LEFT
CORNER = _region(15.0, [20.0, 9.0, 25.0, 12.0], MIXED, FLAT)  # meets LEFT at a corner


# ------------------------------------------------------------------------------------------- merge_similarity


def merge_similarity(student: Callable) -> Callable:
    """Check `my_merge_similarity(first, second, image_size) -> a number up to 4` of notebook 05.

    Example:
        >>> merge_similarity(lambda *args: right.merge_similarity(*args) / 4).__name__
        ✗ merge_similarity: nothing in common, and together the whole image: only the fill counts, 1
        ...
          likely: the four are averaged: add them up
        ...
        'merge_similarity'
    """
    cases = [
        # one term after the other: each case but the first changes one thing, so its name says which term is off
        Case("nothing in common, and together the whole image: only the fill counts, 1", (UPPER, LOWER, 80.0)),
        Case("the colour: half of it is shared, all else as before", (UPPER, LOWER | {"colour": HALF_DARK}, 80.0)),
        Case("the texture: a quarter is shared, all else as before", (UPPER, LOWER | {"texture": BIT_FLAT}, 80.0)),
        Case("the size: both are a quarter of the image, all else as before", (UPPER, LOWER, 320.0)),
        Case("the fill: a gap of 16 pixels in the joint box, all else as before", (UPPER, APART, 80.0)),
        Case("the first region fills half of its box: its pixels count, 20, not the box, 40", (SPARSE, LOWER, 80.0)),
        Case("the lower region comes first: the joint box is the same", (LOWER, UPPER, 80.0)),
        Case("two full boxes side by side that look alike", (LEFT, RIGHT, 640.0)),
        Case("the same two in a smaller image", (LEFT, RIGHT, 160.0)),
        Case("a neighbour that looks otherwise and reaches higher", (LEFT, HIGHER, 640.0)),
        Case("the same, the other way round", (HIGHER, LEFT, 640.0)),
        Case("a small region inside the box of a large one", (LEFT, INNER, 640.0)),
        Case("two that meet at a corner: half the joint box is empty", (CORNER, LEFT, 300.0)),
        Case("one the size of half the image", (_region(320.0, [0, 0, 32, 16], MIXED, FLAT), HIGHER, 640.0)),
        Case("histograms of a colour image", (_random_region(0), _random_region(1), 4800.0)),
    ]
    return run_check(
        "merge_similarity",
        student,
        right.merge_similarity,
        cases,
        mistakes=MERGE_SIMILARITY_MISTAKES,
        draw=_draw_similarity,
    )


def _similarity(
    a: Region,
    b: Region,
    image_size,
    *,
    share=lambda x, y: torch.minimum(x, y).sum(),
    size=lambda a, b, box, whole: 1 - (a + b) / whole,
    fill=lambda a, b, box, whole: 1 - (box - a - b) / whole,
    low=torch.minimum,
    high=torch.maximum,
    parts=("colour", "texture"),
    area=torch.prod,
) -> Tensor:
    """The sum of four with room for the usual slips."""
    joint = area(high(a["box"][2:], b["box"][2:]) - low(a["box"][:2], b["box"][:2]))
    sizes = (a["size"], b["size"], joint, image_size)
    return sum(share(a[name], b[name]) for name in parts) + size(*sizes) + fill(*sizes)


def _area(region: Region) -> Tensor:
    return (region["box"][2:] - region["box"][:2]).prod()


MERGE_SIMILARITY_MISTAKES: dict[str, Callable] = {
    "take the smaller of the two histograms in each bin, torch.minimum, not the larger": (
        lambda a, b, n: _similarity(a, b, n, share=lambda x, y: torch.maximum(x, y).sum())
    ),
    "add the shared parts of the bins up: sum, not mean": (
        lambda a, b, n: _similarity(a, b, n, share=lambda x, y: torch.minimum(x, y).mean())
    ),
    "the histograms are multiplied: take the smaller of the two in each bin": (
        lambda a, b, n: _similarity(a, b, n, share=lambda x, y: (x * y).sum())
    ),
    "the histograms' difference says how unlike they are: take the smaller of the two in each bin": (
        lambda a, b, n: _similarity(a, b, n, share=lambda x, y: (x - y).abs().sum())
    ),
    "the texture is missing: it is compared as the colour is": (
        lambda a, b, n: _similarity(a, b, n, parts=("colour",))
    ),
    "the colour is missing: it is compared as the texture is": (
        lambda a, b, n: _similarity(a, b, n, parts=("texture",))
    ),
    "large regions are favoured: the size similarity is 1 - (size + size) / image_size": (
        lambda a, b, n: _similarity(a, b, n, size=lambda a, b, box, whole: (a + b) / whole)
    ),
    "the size similarity is about how small both are together, not about how equal their sizes are": (
        lambda a, b, n: _similarity(a, b, n, size=lambda a, b, box, whole: 1 - (a - b).abs() / whole)
    ),
    "the fill is 1 - (joint box - both sizes) / image_size: the sizes are not taken off": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda a, b, box, whole: 1 - box / whole)
    ),
    "the fill takes the areas of the two boxes off the joint box: take the pixels of the regions off, `size`": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda _, __, box, whole: 1 - (box - _area(a) - _area(b)) / whole)
    ),
    "the joint box goes from the first's x1 y1 to the second's x2 y2: the first need not lie upper left": (
        lambda a, b, n: _similarity(a, b, n, low=lambda x, y: x, high=lambda x, y: y)
    ),
    "the smaller of all four numbers is no joint box: x2 and y2 take the larger": (
        lambda a, b, n: _similarity(a, b, n, high=torch.minimum)
    ),
    "the sizes are added to the joint box: the fill takes them off, 1 - (joint box - both sizes) / image_size": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda a, b, box, whole: 1 - (box + a + b) / whole)
    ),
    "the colour counts twice, and the texture not at all": (
        lambda a, b, n: _similarity(a, b, n, parts=("colour", "colour"))
    ),
    "gaps are favoured: the fill is 1 - the empty part of the joint box": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda a, b, box, whole: (box - a - b) / whole)
    ),
    "the empty part is divided by the joint box: divide it by image_size": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda a, b, box, whole: 1 - (box - a - b) / box)
    ),
    "the joint box reaches from the smaller x1 y1 to the larger x2 y2; this is what the boxes share": (
        lambda a, b, n: _similarity(a, b, n, low=torch.maximum, high=torch.minimum)
    ),
    "the size is missing: 1 - (size + size) / image_size": (
        lambda a, b, n: _similarity(a, b, n, size=lambda a, b, box, whole: 0.0)
    ),
    "the fill is missing: 1 - (joint box - both sizes) / image_size": (
        lambda a, b, n: _similarity(a, b, n, fill=lambda a, b, box, whole: 0.0)
    ),
    "the area of the joint box is the product of its sides, not their sum": (
        lambda a, b, n: _similarity(a, b, n, area=torch.sum)
    ),
    "the size similarity counts the sizes of both regions, not the first alone": (
        lambda a, b, n: _similarity(a, b, n, size=lambda a, b, box, whole: 1 - a / whole)
    ),
    "the size similarity counts pixels of the regions, `size`, not the area of the joint box": (
        lambda a, b, n: _similarity(a, b, n, size=lambda a, b, box, whole: 1 - box / whole)
    ),
    "the bins of all four histograms are compared at once: colour with colour, texture with texture": (
        lambda a, b, n: _similarity(a, b | {"colour": b["texture"], "texture": b["colour"]}, n)
    ),
    "the four are averaged: add them up": lambda a, b, n: _similarity(a, b, n) / 4,
}


def _draw_similarity(case: Case, expected: Tensor, got):
    from labkit.checks.pictures import fit, legend, panels
    from labkit.plotting import COLORS, show_boxes

    first, second = (region["box"][None] for region in case.args[:2])
    joint = torch.cat([torch.minimum(first, second)[:, :2], torch.maximum(first, second)[:, 2:]], dim=1)
    title = f"{case.what}: expected {float(expected):.4g}, got {float(got):.4g}"
    figure, axes = panels(1, title=title, width=6, height=3.4)
    show_boxes(joint, color=COLORS["black"], style=":", width=5, name="joint box", ax=axes[0])
    show_boxes(first, color=COLORS["blue"], width=3.5, name="first", ax=axes[0])
    show_boxes(second, color=COLORS["orange"], style="--", name="second", ax=axes[0])
    fit(axes, joint)
    legend(axes[0])
    return figure


# ---------------------------------------------------------------------------------------------- merge_regions


def merge_regions(student: Callable) -> Callable:
    """Check `my_merge_regions(first, second) -> region` of notebook 05.

    Example:
        >>> merge_regions(lambda first, second: right.merge_regions(first, second) | {"box": first["box"]}).__name__
        ✗ merge_regions: two neighbours that look alike
        ...
          likely: the box is that of the first region: unite both
        ...
        'merge_regions'
    """
    cases = [
        Case("two neighbours that look alike", (LEFT, RIGHT)),
        Case("a large dark one and a small bright one", (LEFT, INNER)),
        Case("a small one first, and higher up", (HIGHER, LEFT)),
        Case("two that meet at a corner", (CORNER, LEFT)),
        Case("histograms of a colour image", (_random_region(2), _random_region(3))),
    ]
    return run_check("merge_regions", student, right.merge_regions, cases, mistakes=MERGE_REGIONS_MISTAKES)


def _merged(a: Region, b: Region, *, weights=lambda a, b: (a, b), by=torch.add, low=torch.minimum, high=torch.maximum):
    """The union with room for the usual slips."""
    first, second = weights(a["size"], b["size"])
    box = torch.cat([low(a["box"][:2], b["box"][:2]), high(a["box"][2:], b["box"][2:])])
    merged = {"size": a["size"] + b["size"], "box": box}
    return merged | {name: (first * a[name] + second * b[name]) / by(first, second) for name in ("colour", "texture")}


def _one(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(a), torch.ones_like(b)


MERGE_REGIONS_MISTAKES: dict[str, Callable] = {
    "both histograms count alike: weigh each with the size of its region": lambda a, b: _merged(a, b, weights=_one),
    "the weights are exchanged: the larger region counts more": (
        lambda a, b: _merged(a, b, weights=lambda first, second: (second, first))
    ),
    "both histograms are weighed with the size of the first region: each has its own size": (
        lambda a, b: (
            _merged(a, b) | {k: a["size"] * (a[k] + b[k]) / (a["size"] + b["size"]) for k in ("colour", "texture")}
        )
    ),
    "the weighted histograms are not divided by the joint size: each must sum to 1": (
        lambda a, b: _merged(a, b, by=lambda first, second: torch.ones_like(first))
    ),
    "the histograms are added up: average them, weighted by size": (
        lambda a, b: _merged(a, b, weights=_one, by=lambda first, second: torch.ones_like(first))
    ),
    "the joint box reaches from the smaller x1 y1 to the larger x2 y2; this is what the boxes share": (
        lambda a, b: _merged(a, b, low=torch.maximum, high=torch.minimum)
    ),
    "the smaller of all four numbers is no joint box: x2 and y2 take the larger": (
        lambda a, b: _merged(a, b, high=torch.minimum)
    ),
    "the box is that of the first region: unite both": lambda a, b: _merged(a, b) | {"box": a["box"]},
    "the size is the area of the joint box: add the two sizes": (
        lambda a, b: (m := _merged(a, b)) | {"size": (m["box"][2:] - m["box"][:2]).prod()}
    ),
    "the boxes are averaged: the joint box reaches from the smaller x1 y1 to the larger x2 y2": (
        lambda a, b: _merged(a, b) | {"box": (a["box"] + b["box"]) / 2}
    ),
    "the texture's histograms count alike: weigh each with the size of its region, as the colour's": (
        lambda a, b: _merged(a, b) | {"texture": (a["texture"] + b["texture"]) / 2}
    ),
    "the colour's histograms count alike: weigh each with the size of its region, as the texture's": (
        lambda a, b: _merged(a, b) | {"colour": (a["colour"] + b["colour"]) / 2}
    ),
    "the size is that of the first region: add both": lambda a, b: _merged(a, b) | {"size": a["size"]},
    "the texture is merged as the colour is; this is the colour again": (
        lambda a, b: (m := _merged(a, b)) | {"texture": m["colour"]}
    ),
}

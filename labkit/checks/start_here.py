"""The check of notebook 00, start here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.checks.engine import Case, difference, run_check
from labkit.checks.fixtures import floats, uniform


def crop(student: Callable) -> Callable:
    """Check `my_crop(image (H, W), box (4,)) -> (h, w)` of notebook 00.

    Example:
        >>> crop(lambda image, box: image[: int(box[3]), : int(box[2])]).__name__  # the corner x1 y1 is not used
        ✗ crop: columns 1 and 2 of row 0, in an image of 3 rows and 4 columns
          the result has shape (1, 3), expected (1, 2)
        ...
        'reference_crop'
    """
    small = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    image = uniform(30, 50, seed=0)
    blob = torch.exp(-((torch.arange(50) - 33) ** 2 / 60 + (torch.arange(30)[:, None] - 12) ** 2 / 20))
    cases = [
        Case("columns 1 and 2 of row 0, in an image of 3 rows and 4 columns", (small, floats(1, 0, 3, 1))),
        Case("the whole of an image of 3 rows and 4 columns", (small, floats(0, 0, 4, 3))),
        Case("a bright spot in an image of 30 rows and 50 columns", (0.2 * image + 0.8 * blob, floats(22, 4, 44, 20))),
        Case("a box that leaves the image on the left", (image, floats(-6, 4, 9, 11))),
        Case("a box that leaves the image above", (image, floats(31, -4, 45, 11))),
        Case("a box that leaves the image on the right", (image, floats(41, 4, 70, 11))),
        Case("a box that leaves the image below", (image, floats(31, 24, 45, 38))),
        Case("a box larger than the image", (small, floats(-2, -3, 9, 8))),
        Case("a box wholly left of the image: nothing is in it", (image, floats(-12, 5, -3, 14))),
        Case("a box wholly above the image: nothing is in it", (image, floats(8, -15, 20, -4))),
        Case("a box wholly right of the image: nothing is in it", (image, floats(55, 5, 60, 14))),
        Case("a box wholly below the image: nothing is in it", (image, floats(8, 33, 20, 40))),
        Case("a box of one pixel", (image, floats(49, 29, 50, 30))),
    ]
    return run_check("crop", student, reference_crop, cases, mistakes=CROP_MISTAKES, draw=_draw_crop, compare=_compare)


def reference_crop(image: Tensor, box: Tensor) -> Tensor:
    """The pixels (h, w) of an image (H, W) under a box (4,) xyxy of whole numbers; what lies outside is left out."""
    x1, y1, x2, y2 = box.clamp(min=0).long().tolist()
    return image[y1:y2, x1:x2]


def _compare(got: Any, expected: Tensor) -> str | None:
    """What differs; a crop without pixels may have any sides."""
    if isinstance(got, Tensor) and got.ndim == 2 and not got.numel() and not expected.numel():
        return None
    return difference(got, expected)


def _slice(image: Tensor, box: Tensor, *, plus: int = 0) -> Tensor:
    """What Python makes of the numbers as they are."""
    x1, y1, x2, y2 = box.long().tolist()
    return image[y1 : y2 + plus, x1 : x2 + plus]


def _swapped(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = box.clamp(min=0).long().tolist()
    return image[x1:x2, y1:y2]


def _swapped_within(image: Tensor, box: Tensor) -> Tensor:
    height, width = image.shape
    x1, y1, x2, y2 = torch.minimum(box.clamp(min=0), box.new_tensor([width, height] * 2)).long().tolist()
    return image[x1:x2, y1:y2]


def _corner_and_size(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, width, height = box.clamp(min=0).long().tolist()
    return image[y1 : y1 + height, x1 : x1 + width]


def _ends_may_be_negative(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = box.long().tolist()
    return image[max(y1, 0) : y2, max(x1, 0) : x2]


def _up_to(image: Tensor, box: Tensor, width: int, height: int) -> Tensor:
    x1, y1, x2, y2 = box.clamp(min=0).long().tolist()
    return image[min(y1, height) : min(y2, height), min(x1, width) : min(x2, width)]


def _filled(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = box.long().tolist()
    full = image.new_zeros(y2 - y1, x2 - x1)
    inside = reference_crop(image, box)
    if inside.numel():
        top, left = max(-y1, 0), max(-x1, 0)
        full[top : top + len(inside), left : left + inside.shape[1]] = inside
    return full


def _moved_in(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = (box - torch.minimum(box[:2], torch.zeros(2)).repeat(2)).long().tolist()
    return image[y1:y2, x1:x2]


CROP_MISTAKES: dict[str, Callable] = {
    "x and y are exchanged: an image is indexed [row, column], which is [y, x]": _swapped,
    "x and y are exchanged, though clamped well: an image is indexed [row, column], which is [y, x]": (_swapped_within),
    "the crop is turned on its side: rows come first": lambda i, b: reference_crop(i, b).T,
    "x2 and y2 are exclusive, as in a Python slice: no + 1": lambda i, b: _slice(i, b.clamp(min=0), plus=1),
    "x2 and y2 are exclusive already, as in a Python slice: no - 1": lambda i, b: _slice(i, b.clamp(min=0), plus=-1),
    "a negative start counts from the far end in Python: clamp the box at 0 first": _slice,
    "a negative end counts from the far end too: clamp x2 and y2 at 0 as well": _ends_may_be_negative,
    "the box holds two corners, x1 y1 x2 y2, not a corner and a size": _corner_and_size,
    "x ends at the width, image.shape[1], and y at the height, image.shape[0]; they are exchanged": (
        lambda i, b: _up_to(i, b, *i.shape)
    ),
    "the last row and column are lost: x2 may be the width itself and y2 the height": (
        lambda i, b: _up_to(i, b, i.shape[1] - 1, i.shape[0] - 1)
    ),
    "what lies outside the image is left out, not filled with 0": _filled,
    "a box that starts outside is cut off at 0, not moved into the image": _moved_in,
    "a negative number is no distance: clamp it at 0, abs() turns it round": lambda i, b: _slice(i, b.abs()),
}


def _draw_crop(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    image, box = case.args
    return draw_maps(case.what, image, expected, got, boxes=box[None])

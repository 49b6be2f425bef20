"""The check of notebook 00, start here."""

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check


def crop(student: Callable) -> Callable:
    """Check `my_crop(image (H, W), box (4,)) -> (h, w)` of notebook 00.

    Example:
        >>> crop(reference_crop) is reference_crop
        ✓ crop: 7 cases agree. From here on the notebook uses your function.
        True
    """
    small = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    image = torch.rand(30, 50, generator=torch.Generator().manual_seed(0))
    blob = torch.exp(-((torch.arange(50) - 33) ** 2 / 60 + (torch.arange(30)[:, None] - 12) ** 2 / 20))

    def box(*values) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    cases = [
        Case("columns 1 and 2 of row 0, in an image of 3 rows and 4 columns", (small, box(1, 0, 3, 1))),
        Case("the whole of an image of 3 rows and 4 columns", (small, box(0, 0, 4, 3))),
        Case("a bright spot in an image of 30 rows and 50 columns", (0.2 * image + 0.8 * blob, box(22, 4, 44, 20))),
        Case("a box that leaves the image on the left and above", (image, box(-6, -4, 9, 11))),
        Case("a box that leaves the image on the right and below", (image, box(41, 24, 70, 38))),
        Case("a box of one pixel", (image, box(49, 29, 50, 30))),
        Case("a box outside the image", (image, box(60, 35, 70, 45))),
    ]
    return run_check("crop", student, reference_crop, cases, mistakes=CROP_MISTAKES, draw=_draw_crop)


def reference_crop(image: Tensor, box: Tensor) -> Tensor:
    """The pixels (h, w) of an image (H, W) under a box (4,) xyxy of whole numbers; what lies outside is left out."""
    x1, y1, x2, y2 = box.clamp(min=0).long().tolist()
    return image[y1:y2, x1:x2]


def _slices(box: Tensor) -> list[int]:
    return box.long().tolist()


def _swapped(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = _slices(box.clamp(min=0))
    return image[x1:x2, y1:y2]


def _turned(image: Tensor, box: Tensor) -> Tensor:
    return reference_crop(image, box).T


def _inclusive(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = _slices(box.clamp(min=0))
    return image[y1 : y2 + 1, x1 : x2 + 1]


def _not_clamped(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, x2, y2 = _slices(box)
    return image[y1:y2, x1:x2]


def _corner_and_size(image: Tensor, box: Tensor) -> Tensor:
    x1, y1, width, height = _slices(box.clamp(min=0))
    return image[y1 : y1 + height, x1 : x1 + width]


CROP_MISTAKES = {
    "x and y are exchanged: an image is indexed [row, column], which is [y, x]": _swapped,
    "the crop is turned on its side: rows come first": _turned,
    "x2 and y2 are exclusive, as in a Python slice: no + 1": _inclusive,
    "a negative start counts from the far end in Python: clamp the box at 0 first": _not_clamped,
    "the box holds two corners, x1 y1 x2 y2, not a corner and a size": _corner_and_size,
}


def _draw_crop(case: Case, expected: Tensor, got: Tensor):
    from labkit.plotting import COLORS, new_figure, show_image

    image, box = case.args
    figure, axes = new_figure(1, 3, width=3.4, height=2.8)
    show_image(image, boxes=box[None], title="given", value_range=None, ax=axes[0])
    pairs = ((axes[1], expected, "expected", COLORS["green"]), (axes[2], got, "got", COLORS["red"]))
    for ax, crop, title, color in pairs:
        show_image(crop, title=title, value_range=(float(image.min()), float(image.max())), ax=ax)
        ax.title.set_color(color)
    return figure

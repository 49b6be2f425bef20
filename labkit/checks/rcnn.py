"""Checks of notebook 06, R-CNN."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, noise
from labkit.detection import rcnn

# -------------------------------------------------------------------------------------------- crop_and_resize


def crop_and_resize(student: Callable) -> Callable:
    """Check `my_crop_and_resize(image (C, H, W), boxes (R, 4), size, context) -> (R, C, size, size)` of notebook 06.

    Example:
        >>> turned = lambda *args: reference_crop_and_resize(*args).transpose(2, 3)
        >>> crop_and_resize(turned).__name__
        ✗ crop_and_resize: an image whose value is x, a box as large as the result
        ...
          likely: rows are y and columns are x: the result is turned
        ...
        'reference_crop_and_resize'
    """
    across, down = torch.arange(20.0).expand(1, 14, 20) / 20, torch.arange(14.0)[:, None].expand(1, 14, 20) / 20
    ramp = (torch.arange(14.0)[:, None] * 10 + torch.arange(20.0))[None] / 100  # (1, 14, 20)
    grey, colour = noise(1, 17, 26, seed=0).abs(), noise(3, 15, 22, seed=1)
    several = box_rows([2, 1, 13, 9.5], [0, 0, 26, 17], [8.25, 3.5, 20, 6])
    cases = [
        Case("an image whose value is x, a box as large as the result", (across, box_rows([3, 2, 7, 6]), 4, 0)),
        Case("an image whose value is y, a box as large as the result", (down, box_rows([3, 2, 7, 6]), 4, 0)),
        Case("an image whose value is x, a wide box", (across, box_rows([3, 2, 15, 8]), 3, 0)),
        Case("an image whose value is y, a wide box", (down, box_rows([3, 2, 15, 8]), 3, 0)),
        Case("an image whose value is x, context of 1 pixel", (across, box_rows([6, 4, 12, 8]), 6, 1)),
        Case("a box as large as the result", (ramp, box_rows([3, 2, 7, 6]), 4, 0)),
        Case("a wide box becomes a square", (ramp, box_rows([3, 2, 15, 6]), 4, 0)),
        Case("a high box, and a corner between pixels", (ramp, box_rows([4.5, 1, 8.5, 11]), 5, 0)),
        Case("an enlarged box", (grey, box_rows([5, 4, 9, 7]), 9, 0)),
        Case("context of 1 pixel on each side", (ramp, box_rows([6, 4, 12, 8]), 6, 1)),
        Case("more context, a box of another shape", (grey, box_rows([9, 5, 17, 9]), 10, 3)),
        Case("context that reaches over the edge: 0 there", (ramp + 1, box_rows([0, 1, 4, 5]), 6, 1)),
        Case("context over the far edge", (grey + 1, box_rows([20, 12, 26, 17]), 7, 2)),
        Case("a box that begins left of the image", (grey + 1, box_rows([-3, 4, 5, 9]), 6, 0)),
        Case("a box that begins above the image", (grey + 1, box_rows([4, -3, 13, 5]), 6, 0)),
        Case("a box that ends right of the image", (grey + 1, box_rows([20, 4, 30, 9]), 6, 0)),
        Case("a box that ends below the image", (grey + 1, box_rows([4, 11, 13, 20]), 6, 0)),
        Case("3 boxes", (grey, several, 8, 2)),
        Case("no boxes", (grey, box_rows(), 8, 2)),
        Case("3 channels, 3 boxes", (colour, several * 0.8, 11, 2)),
    ]
    return run_check(
        "crop_and_resize",
        student,
        reference_crop_and_resize,
        cases,
        mistakes=CROP_AND_RESIZE_MISTAKES,
        draw=_draw_crops,
        atol=1e-4,
    )


def reference_crop_and_resize(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    """All boxes at once; the loop of the notebook gives the same."""
    return rcnn.crop_and_resize(image, boxes, size=size, context=context)


def _crop(
    image: Tensor,
    boxes: Tensor,
    size: int,
    context: int,
    *,
    offset: float = 0.5,
    inner: Callable = lambda size, context: size - 2 * context,
    padding: str = "zeros",
    mode: str = "bilinear",
    corners: bool = False,
    wide: Callable = lambda boxes: boxes,
    scale: Callable = lambda height, width: (height, width),
    xy: bool = True,
) -> Tensor:
    """Cutting out with room for the usual slips; `wide` changes the boxes first."""
    boxes = wide(boxes)
    steps = torch.arange(size, device=image.device) + offset - context
    sides = boxes[:, 2:] - boxes[:, :2]
    x, y = (boxes[:, k, None] + steps * sides[:, k, None] / inner(size, context) for k in (0, 1))
    height, width = scale(*image.shape[1:])
    pair = torch.broadcast_tensors((2 * x / width - 1)[:, None], (2 * y / height - 1)[:, :, None])
    grid = torch.stack(pair if xy else pair[::-1], dim=-1)
    images = image.expand(len(boxes), *image.shape)
    return grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=corners)


def _edge_to_edge(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    """The first and last samples on the edges of the box, as linspace(x1, x2, size) puts them."""
    return _crop(image, boxes, size, context, offset=0.0, inner=lambda s, c: s - 2 * c - 1)


def _square(boxes: Tensor) -> Tensor:
    centers, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centers - half, centers + half], dim=1)


def _by_pixels(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    return _crop(image, boxes + context * boxes.new_tensor([-1.0, -1, 1, 1]), size, 0)


def _as_sizes(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _slice_and_resize(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    """Whole pixels cut out, then resized: what lies beside the box, or outside the image, is not looked at."""
    sides = boxes[:, 2:] - boxes[:, :2]
    around = sides * context / (size - 2 * context)
    wide = torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], dim=1).clamp(min=0).round().long()
    crops = [image[None, :, y1:y2, x1:x2] for x1, y1, x2, y2 in wide.tolist()]
    return torch.cat([image.new_zeros(0, len(image), size, size), *(interpolate(c, (size, size)) for c in crops)])


def _slice_and_mix(image: Tensor, boxes: Tensor, size: int, context: int) -> Tensor:
    crops = [image[None, :, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.clamp(min=0).round().long().tolist()]
    resized = [interpolate(crop, (size, size), mode="bilinear", align_corners=False) for crop in crops]
    return torch.cat([image.new_zeros(0, len(image), size, size), *resized])


CROP_AND_RESIZE_MISTAKES: dict[str, Callable] = {
    "the context is missing: widen the box before you look": lambda i, b, s, c: _crop(i, b, s, 0),
    "the context counts pixels of the result, not of the image": _by_pixels,
    "the box takes size - 2 * context pixels of the result, not size": (
        lambda i, b, s, c: _crop(i, b, s, c, inner=lambda size, context: size)
    ),
    "look at the middle of each output pixel: add 0.5": lambda i, b, s, c: _crop(i, b, s, c, offset=0.0),
    "the samples stand at the middles of the output pixels, not from edge to edge of the box": _edge_to_edge,
    "rows are y and columns are x: the result is turned": (
        lambda i, b, s, c: _crop(i, b, s, c).transpose(2, 3).contiguous()
    ),
    "R-CNN warps: width and height are stretched each by its own factor": (
        lambda i, b, s, c: _crop(i, b, s, c, wide=_square)
    ),
    "between pixels the value is mixed (bilinear), not taken from the nearest": (
        lambda i, b, s, c: _crop(i, b, s, c, mode="nearest")
    ),
    "outside the image is 0, the mean; the edge is not repeated": (
        lambda i, b, s, c: _crop(i, b, s, c, padding="border")
    ),
    "boxes are x1 y1 x2 y2 here, not corner and size": lambda i, b, s, c: _crop(i, b, s, c, wide=_as_sizes),
    "grid_sample wants x before y in the last axis: torch.stack([x, y], dim=-1)": (
        lambda i, b, s, c: _crop(i, b, s, c, xy=False)
    ),
    "x is divided by the height and y by the width: image.shape is (C, H, W)": (
        lambda i, b, s, c: _crop(i, b, s, c, scale=lambda height, width: (width, height))
    ),
    "x counts in widths, 2 x / W - 1: divide by W, not by W - 1, with align_corners=False": (
        lambda i, b, s, c: _crop(i, b, s, c, scale=lambda height, width: (height - 1, width - 1))
    ),
    "align_corners=False: -1 and 1 are the edges of the image, not the middles of its first and last pixel": (
        lambda i, b, s, c: _crop(i, b, s, c, corners=True)
    ),
    "align_corners=False, and W in place of W - 1: a pixel's middle lies at + 0.5": (
        lambda i, b, s, c: _crop(i, b, s, c, corners=True, scale=lambda height, width: (height - 1, width - 1))
    ),
    "-1 is missing: grid_sample counts from -1 to 1, 2 * x / W - 1": (
        lambda i, b, s, c: _crop(i, b + b.new_tensor([i.shape[2], i.shape[1]] * 2) / 2, s, c)
    ),
    "the context stands on both sides: the box takes size - 2 * context pixels, not size - context": (
        lambda i, b, s, c: _crop(i, b, s, c, inner=lambda size, context: size - context)
    ),
    "the context is added: subtract it, for the first samples lie outside the box": (
        lambda i, b, s, c: _crop(i, b, s, c, offset=0.5 + 2 * c)
    ),
    "corners may lie between pixels: do not round the box": lambda i, b, s, c: _crop(i, b, s, c, wide=torch.round),
    "whole pixels are cut out and the nearest is taken: sample the image itself, bilinear": _slice_and_resize,
    "whole pixels are cut out before they are resized: sample the image itself, beside the box as well": _slice_and_mix,
}


def _draw_crops(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    image, boxes = case.args[:2]
    return draw_maps(case.what, image, expected, got, boxes=boxes)

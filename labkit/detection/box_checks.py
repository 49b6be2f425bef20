"""Checks of boxes, each with one look at the numbers: on a GPU a look is a wait.

Boxes    (N, 4) float, x1 y1 x2 y2 in pixels, x2 and y2 exclusive (width is x2 - x1).
"""

import torch
from torch import Tensor


def check_boxes(boxes: Tensor, *, name: str = "boxes", image_size: tuple[int, int] | None = None) -> None:
    """Refuse boxes that are not fit for use; the message names the first bad row.

    Args:
        boxes: (N, 4) float xyxy pixels.
        name: what the message calls them.
        image_size: (H, W) in pixels; boxes must lie inside it when it is given.

    Raises:
        ValueError: the shape is not (N, 4), the dtype is not floating, a value is not finite, a box has no
            area, or it leaves the image.

    Example:
        >>> check_boxes(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), image_size=(2, 4))
        >>> check_boxes(torch.tensor([[0.0, 0.0, 4.0, 0.0]]))
        Traceback (most recent call last):
        ValueError: boxes must have x1 < x2 and y1 < y2, got [0.0, 0.0, 4.0, 0.0] in row 0; drop it or swap
            its corners
    """
    check_form(boxes, 4, name=name, cure="an image without boxes has (0, 4)")
    infinite, empty = ~boxes.isfinite().all(1), (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = torch.zeros_like(empty)
    if image_size is not None:
        height, width = image_size
        outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    if not (infinite | empty | outside).any():  # one look for all three: on a GPU it is a wait
        return
    refuse(infinite, boxes, f"{name} must be finite", "look for a division by zero or a log of zero")
    refuse(empty, boxes, f"{name} must have x1 < x2 and y1 < y2", "drop it or swap its corners")
    refuse(
        outside,
        boxes,
        f"{name} must lie in the image of {image_size and ' x '.join(map(str, image_size))} (H x W)",
        "clip it, or resize boxes with images",
    )


def check_form(boxes: Tensor, columns: int, *, name: str, cure: str) -> None:
    """Refuse what is not a floating tensor of so many columns.

    Args:
        boxes: to be (N, columns).
        columns: 4 for flat boxes, 6 in volumes.
        name: what the message calls them.
        cure: what it says of a wrong shape, where it is not that of a single box.

    Raises:
        ValueError: the type, the shape or the dtype is another.

    Example:
        >>> check_form(torch.zeros(6), 6, name="boxes", cure="")
        Traceback (most recent call last):
        ValueError: boxes must have shape (N, 6), got (6,); write boxes[None] for a single box
    """
    if not isinstance(boxes, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(boxes).__name__}; write torch.as_tensor({name})")
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        if boxes.shape == (columns,):
            cure = f"write {name.split()[0]}[None] for a single box"
        raise ValueError(f"{name} must have shape (N, {columns}), got {tuple(boxes.shape)}; {cure}")
    if not boxes.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {boxes.dtype}; write {name}.float()")


def check_corners(boxes: Tensor) -> None:
    """Refuse boxes that are not finite or turned over; unlike for `check_boxes`, they may have no area.

    Example:
        >>> check_corners(torch.tensor([[5.0, 5.0, 5.0, 5.0]]))
        >>> check_corners(torch.tensor([[5.0, 5.0, 4.0, 6.0]]))
        Traceback (most recent call last):
        ValueError: boxes must be finite with x1 <= x2 and y1 <= y2, got [5.0, 5.0, 4.0, 6.0] in row 0; are they x1 y1
            x2 y2?
    """
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1))
    refuse(bad, boxes, "boxes must be finite with x1 <= x2 and y1 <= y2", "are they x1 y1 x2 y2?")


def refuse(bad: Tensor, boxes: Tensor, expected: str, cure: str) -> None:
    """Raise for the first row that is bad, if there is one.

    Example:
        >>> refuse(torch.tensor([False]), torch.zeros(1, 4), "boxes must be finite", "look at them")
    """
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{expected}, got {boxes[row].tolist()} in row {row}; {cure}")

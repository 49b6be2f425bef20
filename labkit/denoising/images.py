"""What the functions of this package take as an image, and the errors that name what is no image.

Images    (H, W), (B, H, W) or (B, 1, H, W), grey, one intensity unit; integers become float32, halves too.
"""

import math
from numbers import Real

import torch
from torch import Tensor

COLOUR = (3, 4)  # channels of a coloured image, last in the arrays that most readers of files give


def as_images(images: Tensor, *, name: str = "images", finite: bool = True) -> Tensor:
    """The images in float32 or float64, in their own shape.

    Args:
        images: (H, W), (B, H, W) or (B, 1, H, W) grey.
        name: what the message calls them.
        finite: whether NaN and infinite pixels are looked for, which waits for a GPU.

    Raises:
        ValueError: they are no tensor of numbers, have another shape, are coloured, empty, or not finite.

    Example:
        >>> as_images(torch.zeros(2, 3, 16, 16))
        Traceback (most recent call last):
        ValueError: images must be grey, (H, W), (B, H, W) or (B, 1, H, W), got (2, 3, 16, 16); average the channels
            with images.mean(dim=1)
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(images).__name__}; write torch.as_tensor(...)")
    if images.dtype == torch.bool or images.is_complex():
        raise ValueError(f"{name} must hold grey values, got {images.dtype}; write .float() or .abs()")
    _check_shape(images, name)
    if images.dtype not in (torch.float32, torch.float64):
        images = images.float()
    if finite and not bool(images.detach().sum().isfinite()) and not bool(images.isfinite().all()):  # one pass is usual
        count = int((~torch.isfinite(images)).sum())
        raise ValueError(f"{name} must be finite, got {count} NaN or infinite pixels; torch.isfinite shows where")
    return images


def _check_shape(images: Tensor, name: str) -> None:
    """Refuse what is no grey image; the message says which shapes are."""
    shape = tuple(images.shape)
    allowed = f"{name} must be grey, (H, W), (B, H, W) or (B, 1, H, W), got {shape}"
    if images.ndim not in (2, 3, 4):
        raise ValueError(f"{allowed}; reshape them")
    if images.ndim >= 3 and shape[-1] in COLOUR and min(shape[-3:-1]) >= 16:
        raise ValueError(f"{allowed}, channels last; average the channels with {name}.mean(dim=-1)")
    if images.ndim == 4 and shape[1] != 1:
        raise ValueError(f"{allowed}; average the channels with {name}.mean(dim=1)")
    if images.numel() == 0 and 0 in shape[-2:]:
        raise ValueError(f"{allowed}; an image has at least one pixel")


def as_pair(pred: Tensor, target: Tensor, *, finite: bool = True) -> tuple[Tensor, Tensor]:
    """Both as (B, H, W) of one floating type.

    Raises:
        ValueError: their shapes or devices differ, or one is no image.

    Example:
        >>> pred, target = as_pair(torch.zeros(8, 6, dtype=torch.uint8), torch.zeros(8, 6).double())
        >>> pred.shape, pred.dtype == target.dtype
        (torch.Size([1, 8, 6]), True)
    """
    pred, target = as_images(pred, name="pred", finite=finite), as_images(target, name="target", finite=finite)
    if pred.shape != target.shape:
        raise ValueError(
            f"pred and target must have one shape, got {tuple(pred.shape)} and {tuple(target.shape)}; "
            "nothing is stretched over a batch: write target.expand_as(pred) where that is meant"
        )
    if pred.device != target.device:
        raise ValueError(f"pred and target must be on one device, got {pred.device} and {target.device}; use .to")
    kind = torch.promote_types(pred.dtype, target.dtype)
    size = pred.shape[-2:]
    return pred.to(kind).reshape(-1, *size), target.to(kind).reshape(-1, *size)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """values (B,), one an image, in the shape of the batch: () for a single (H, W) image, else (B,)."""
    return values.reshape(images.shape[:1] if images.ndim > 2 else ())


def check_data_range(data_range: float) -> float:
    """data_range as a float.

    Raises:
        ValueError: it is not a positive number. It is never guessed.

    Example:
        >>> check_data_range(None)
        Traceback (most recent call last):
        ValueError: data_range must be a positive number, got None; give the largest less the smallest possible value: 1
            for [0, 1], 255 for bytes, the width of the window for CT
    """
    if isinstance(data_range, Tensor) and data_range.numel() == 1:
        data_range = data_range.item()
    if isinstance(data_range, bool) or not isinstance(data_range, Real) or not 0 < data_range < math.inf:
        raise ValueError(
            f"data_range must be a positive number, got {data_range!r}; give the largest less the smallest possible "
            "value: 1 for [0, 1], 255 for bytes, the width of the window for CT"
        )
    return float(data_range)


def level(value: float | Tensor, images: Tensor, *, name: str, positive: bool = False) -> Tensor:
    """value as a tensor that multiplies images: one number, or one an image.

    Args:
        value: a number, or (B,) one an image.
        images: (H, W), (B, H, W) or (B, 1, H, W).
        name: what the message calls it.
        positive: whether 0 is refused.

    Raises:
        ValueError: it is negative, not finite, zero where positive is asked for, or not one an image.

    Example:
        >>> level(torch.tensor([1.0, 2.0]), torch.zeros(2, 8, 6), name="sigma").shape
        torch.Size([2, 1, 1])
    """
    given = torch.as_tensor(value, dtype=images.dtype, device=images.device)
    if given.ndim > 1 or (given.ndim == 1 and (images.ndim == 2 or len(given) not in (1, len(images)))):
        raise ValueError(
            f"{name} must be one number, or one an image, got shape {tuple(given.shape)} "
            f"for images {tuple(images.shape)}; take its mean, or index it"
        )
    low = float(given.detach().min()) if given.numel() else 1.0
    high = float(given.detach().max()) if given.numel() else 1.0
    if not (low > 0 if positive else low >= 0) or not high < math.inf:
        wanted = "positive" if positive else "0 or more"
        got = high if low > 0 else low  # one of them is at fault
        raise ValueError(f"{name} must be {wanted} and finite, got {got:g}; look at its sign and its unit")
    return given.reshape(-1, *[1] * (images.ndim - 1)) if given.ndim else given

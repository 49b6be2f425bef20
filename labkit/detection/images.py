"""Images and targets on their way into a detector: checked, normalised, and padded into one batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.detection.boxes import check_boxes


def check_batch(images: list[Tensor], targets: list[dict] | None, *, stride: int, num_classes: int) -> None:
    """Nothing, or the error that names the image and what is wrong with it.

    Args:
        images: B tensors (C, H, W).
        targets: B dicts with `boxes` (N, 4) and `labels` (N,); None at test time.
        stride: the smallest side that leaves a feature cell.
        num_classes: labels must lie in 1 … num_classes - 1.

    Raises:
        ValueError: an image is too small or not (C, H, W), boxes leave their image or have no area, a label is
            outside the classes, or the lists differ in length.

    Example:
        >>> check_batch([torch.zeros(1, 4, 20)], None, stride=8, num_classes=3)
        Traceback (most recent call last):
        ValueError: image 0 must be at least 8 x 8 pixels, the stride of the features, got 4 x 20; enlarge it
    """
    if targets is not None and len(images) != len(targets):
        raise ValueError(f"expected one target an image, got {len(images)} images and {len(targets)} targets")
    for i, image in enumerate(images):
        if image.ndim != 3 or not image.is_floating_point():
            got = f"shape {tuple(image.shape)}, {image.dtype}"
            raise ValueError(
                f"image {i} must be floating point (C, H, W), got {got}; write image[None] or image.float()"
            )
        height, width = image.shape[1:]
        if min(height, width) < stride:
            raise ValueError(
                f"image {i} must be at least {stride} x {stride} pixels, the stride of the features, "
                f"got {height} x {width}; enlarge it"
            )
        if targets is None:
            continue
        boxes, labels = targets[i]["boxes"], targets[i]["labels"]
        check_boxes(boxes, name=f"boxes of image {i}", image_size=(height, width))
        if labels.shape != boxes.shape[:1]:
            raise ValueError(f"image {i} must have one label a box, got {len(labels)} labels and {len(boxes)} boxes")
        if len(labels) and not (int(labels.min()) >= 1 and int(labels.max()) < num_classes):
            raise ValueError(
                f"labels of image {i} must lie in 1 to {num_classes - 1}, got {sorted(set(labels.tolist()))}; "
                "0 is background, and num_classes counts it"
            )


def batch_images(images: list[Tensor], *, mean: Tensor, std: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W): the images less the mean, by the spread, padded below and right with zeros to one size.

    Args:
        images: B tensors (C, H_i, W_i).
        mean, std: (C,) of the training images.
        multiple: H and W become multiples of it, the stride of the features.

    Example:
        >>> images = [torch.ones(1, 9, 16), torch.ones(1, 8, 12)]
        >>> batch_images(images, mean=torch.zeros(1), std=torch.ones(1), multiple=8).shape
        torch.Size([2, 1, 16, 16])
    """
    height, width = (-(-max(image.shape[side] for image in images) // multiple) * multiple for side in (1, 2))
    normalised = [(image - mean[:, None, None]) / std[:, None, None] for image in images]
    return torch.stack([F.pad(n, (0, width - n.shape[2], 0, height - n.shape[1])) for n in normalised])

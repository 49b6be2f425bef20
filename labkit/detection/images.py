"""Images and targets on their way into a detector: checked, normalised, and padded into one batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.detection.boxes import check_boxes

BRIGHTEST = 2.0  # an image in [0, 1] may overshoot a little, from noise or a lamp; bytes do not


def check_batch(
    images: list[Tensor], targets: list[dict] | None, *, stride: int, num_classes: int, channels: int
) -> None:
    """Nothing, or the error that names the image and what is wrong with it.

    Args:
        images: B tensors (C, H, W).
        targets: B dicts with `boxes` (N, 4) and `labels` (N,); None at test time.
        stride: the smallest side that leaves a feature cell.
        num_classes: labels must lie in 1 … num_classes - 1.
        channels: of every image.

    Raises:
        ValueError: there is no image; one is too small, has other channels, is not (C, H, W) or not in [0, 1]; boxes
            leave their image or have no area; a label is no class; or the lists differ in length.

    Example:
        >>> check_batch([torch.zeros(1, 4, 20)], None, stride=8, num_classes=3, channels=1)
        Traceback (most recent call last):
        ValueError: image 0 must be at least 8 x 8 pixels, the stride of the features, got 4 x 20; enlarge it
    """
    if not len(images):
        raise ValueError("expected at least one image, got an empty list; skip empty batches")
    if targets is not None and len(images) != len(targets):
        raise ValueError(f"expected one target an image, got {len(images)} images and {len(targets)} targets")
    for i, image in enumerate(images):
        if image.ndim != 3 or image.dtype != torch.float32:
            got = f"shape {tuple(image.shape)}, {image.dtype}"
            raise ValueError(f"image {i} must be float32 (C, H, W), got {got}; write image[None] or image.float()")
        if len(image) != channels:
            raise ValueError(
                f"image {i} must have {channels} channel(s), got {len(image)}; "
                "write image.expand(3, -1, -1) to make a grey one coloured, image.mean(0, keepdim=True) the other way"
            )
        height, width = image.shape[1:]
        if min(height, width) < stride:
            raise ValueError(
                f"image {i} must be at least {stride} x {stride} pixels, the stride of the features, "
                f"got {height} x {width}; enlarge it"
            )
        if targets is None:
            continue
        if not {"boxes", "labels"} <= targets[i].keys():
            raise ValueError(f'target {i} must have "boxes" and "labels", got {sorted(targets[i])}; mind the spelling')
        boxes, labels = targets[i]["boxes"], targets[i]["labels"]
        check_boxes(boxes, name=f"boxes of image {i}", image_size=(height, width))
        if boxes.dtype != torch.float32 or labels.dtype != torch.int64:
            raise ValueError(
                f"target {i} must have float32 boxes and int64 labels, got {boxes.dtype} and {labels.dtype}; "
                "write boxes.float() and labels.long()"
            )
        if labels.shape != boxes.shape[:1]:
            raise ValueError(f"image {i} must have one label a box, got {len(labels)} labels and {len(boxes)} boxes")
        check_labels(labels, name=f"labels of image {i}", num_classes=num_classes)
    brightest = torch.stack([image.amax() for image in images]).amax()
    if brightest > BRIGHTEST:  # one look for all of them: on a GPU it is a wait
        raise ValueError(f"images must be in [0, 1], got a value of {brightest:g}; divide bytes by 255")


def check_labels(labels: Tensor, *, name: str = "labels", num_classes: int) -> None:
    """Nothing, or the error that names the labels that are no class.

    Args:
        labels: (N,) int64.
        name: what the message calls them.
        num_classes: with background.

    Raises:
        ValueError: a label is outside 1 … num_classes - 1.

    Example:
        >>> check_labels(torch.tensor([1, 3]), num_classes=3)
        Traceback (most recent call last):
        ValueError: labels must lie in 1 to 2, got [1, 3]; 0 is background, and num_classes counts it
    """
    if len(labels) and not (int(labels.min()) >= 1 and int(labels.max()) < num_classes):
        raise ValueError(
            f"{name} must lie in 1 to {num_classes - 1}, got {sorted(set(labels.tolist()))}; "
            "0 is background, and num_classes counts it"
        )


def check_proposals(proposals: list[Tensor], images: list[Tensor]) -> None:
    """Nothing, or the error that names the image whose proposals are wrong.

    Args:
        proposals: B tensors (R, 4); R may be 0.
        images: B tensors (C, H, W).

    Raises:
        ValueError: the lists differ in length, or a proposal has no area, leaves its image or is no box at all.

    Example:
        >>> check_proposals([torch.tensor([[3.0, 4.0, 3.0, 9.0]])], [torch.zeros(1, 16, 24)])
        Traceback (most recent call last):
        ValueError: proposals of image 0 must have x1 < x2 and y1 < y2, got [3.0, 4.0, 3.0, 9.0] in row 0; drop it or
            swap its corners
    """
    if len(proposals) != len(images):
        raise ValueError(
            f"expected proposals for each image, got {len(proposals)} for {len(images)} images; none is (0, 4)"
        )
    for i, (boxes, image) in enumerate(zip(proposals, images, strict=True)):
        check_boxes(boxes, name=f"proposals of image {i}", image_size=tuple(image.shape[1:]))
        if boxes.dtype != torch.float32:
            raise ValueError(f"proposals of image {i} must be float32, got {boxes.dtype}; write proposals.float()")


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

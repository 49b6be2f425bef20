"""Images with boxes on their way into training: flipped at random with their boxes, and collated into batches.

Boxes    xyxy pixels, x2 and y2 exclusive, so a flip sends x to W - x: torchvision's `transforms.v2` does the same.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import BoundingBoxes

from labkit.datasets.splits import Target

PLACES = {"centers", "keypoints", "masks"}  # what targets hold elsewhere in the course and in torchvision


class LabelledImages(Protocol):
    """A data set of images with their targets."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...


def flip(image: Tensor, target: Target, *, axis: str) -> tuple[Tensor, Target]:
    """The image and its target, mirrored.

    Args:
        image: (C, H, W).
        target: dict with `boxes` (N, 4); what else it holds stays, so nothing in it may be a place on the image.
        axis: "x" swaps left and right, "y" top and bottom.

    Raises:
        ValueError: axis is neither, the image has another form, or the target holds places besides its boxes.

    Example:
        >>> image, target = flip(torch.zeros(1, 5, 9), {"boxes": torch.tensor([[1.0, 2, 3, 4]])}, axis="x")
        >>> target["boxes"]
        tensor([[6., 2., 8., 4.]])
    """
    if axis not in ("x", "y"):
        raise ValueError(f'axis must be "x" or "y", got {axis!r}; "x" swaps left and right')
    if image.ndim != 3:
        raise ValueError(f"image must have shape (C, H, W), got {tuple(image.shape)}; write image[None] for (H, W)")
    if PLACES & target.keys():
        raise ValueError(
            f"target must hold no places but its boxes, got {', '.join(sorted(PLACES & target.keys()))}, which would "
            "stay where they were; flip with torchvision.transforms.v2"
        )
    mirrored = functional.horizontal_flip if axis == "x" else functional.vertical_flip
    boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(image.shape[1], image.shape[2]))
    return mirrored(image), target | {"boxes": mirrored(boxes).as_subclass(Tensor)}


class Flipped(Dataset):
    """The same images, each flipped at random: left and right, top and bottom, both or neither.

    Example:
        >>> from labkit.datasets.phantoms import mammograms
        >>> image, target = Flipped(mammograms(2, size=(80, 64)))[0]
        >>> image.shape
        torch.Size([1, 80, 64])
    """

    def __init__(self, dataset: LabelledImages):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, target = self.dataset[index]
        for axis, draw in zip("xy", torch.rand(2).tolist(), strict=True):
            if draw < 0.5:
                image, target = flip(image, target, axis=axis)
        return image, target


def collate_fn(pairs: list[tuple]) -> tuple[list, list]:
    """(images, targets), two lists: the `collate_fn=` of a DataLoader for detectors, whose images differ in boxes.

    Example:
        >>> collate_fn([("image 0", "target 0"), ("image 1", "target 1")])
        (['image 0', 'image 1'], ['target 0', 'target 1'])
    """
    images, targets = zip(*pairs, strict=True)
    return list(images), list(targets)

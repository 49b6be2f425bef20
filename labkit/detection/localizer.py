"""Localization as regression: a classifier that knows lesions, and a head that says where (notebook 01).

    region (1, 64, 64) -> backbone -> features (96, 8, 8) -> max -> FC -> 128 numbers -> class logits
                                            |                                |
                                    attach="conv": box head          attach="fc": box head

The classifier is trained first and then frozen; only the box head learns, as in the lecture's four steps.

Shapes   n regions of one side S, C classes.
Boxes    (n, 4) xyxy pixels of the region.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from labkit.detection.backbone import Backbone
from labkit.detection.boxes import decode_boxes, encode_boxes

HIDDEN = 128
MEAN, STD = 0.5, 0.25  # of grey values, about those of phantom tissue


class LesionClassifier(nn.Module):
    """Lesion or none: the backbone, one fully connected layer, two logits.

    Example:
        >>> import torch
        >>> LesionClassifier()(torch.zeros(3, 1, 64, 64)).shape
        torch.Size([3, 2])
    """

    def __init__(self, *, size: int = 64) -> None:
        """Build it for square regions of one size.

        Args:
            size: side of the regions in pixels; larger ones are averaged down to its map, ceil(size / 8) cells a side.
        """
        super().__init__()
        self.backbone = Backbone()
        self.cells = -(-size // self.backbone.stride)
        # the strongest answer of each channel, wherever it is: each cell has to know a lesion when it sees one
        self.fc = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(self.backbone.out_channels, HIDDEN), nn.ReLU()
        )
        self.logits = nn.Linear(HIDDEN, 2)

    def features(self, images: Tensor, *, attach: str) -> Tensor:
        """What a box head sees of images (n, 1, S, S): the map after the last convolution, or the FC layer.

        Returns:
            (n, 96, cells, cells) for attach="conv", averaged down to the map's size for larger images;
            (n, 128) for attach="fc".
        """
        if attach not in ("conv", "fc"):
            raise ValueError(f'attach must be "conv" or "fc", got {attach!r}; it says where the box head is attached')
        features = F.adaptive_avg_pool2d(self.backbone((images - MEAN) / STD), self.cells)
        return features if attach == "conv" else self.fc(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 2), no lesion and lesion, of images (n, 1, S, S) in [0, 1]."""
        return self.logits(self.features(images, attach="fc"))


class BoxHead(nn.Sequential):
    """Features in, (n, classes, 4) numbers out: a box for each class.

    Example:
        >>> import torch
        >>> BoxHead("fc", classes=2)(torch.zeros(3, 128)).shape
        torch.Size([3, 2, 4])
        >>> BoxHead("conv")(torch.zeros(3, 96, 8, 8)).shape
        torch.Size([3, 1, 4])
    """

    def __init__(self, attach: str, *, classes: int = 1, size: int = 64) -> None:
        """Build it.

        Args:
            attach: "conv" for the map after the last convolution, "fc" for the fully connected layer.
            classes: 1 for a class-agnostic box (4 numbers), C for a box a class (4 C numbers).
            size: side of the regions that the classifier was built for.
        """
        cells = -(-size // Backbone.stride)
        # the map keeps where things are; 16 channels of it say enough and train fast
        see = {
            "conv": (nn.Conv2d(96, 16, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * cells**2, HIDDEN)),
            "fc": (nn.Linear(HIDDEN, HIDDEN),),
        }
        if attach not in see:
            raise ValueError(
                f"attach must be one of {', '.join(see)}, got {attach!r}; it says where the box head is attached"
            )
        super().__init__(
            *see[attach], nn.ReLU(), nn.Dropout(0.1), nn.Linear(HIDDEN, 4 * classes), nn.Unflatten(1, (classes, 4))
        )


def to_targets(boxes: Tensor, *, size: int) -> Tensor:
    """Normalised regression targets (n, 4) of boxes (n, 4): deltas from the whole region to the box.

    Example:
        >>> import torch
        >>> to_targets(torch.tensor([[0.0, 0.0, 32.0, 64.0]]), size=64)
        tensor([[-0.2500,  0.0000, -0.6931,  0.0000]])
    """
    return encode_boxes(boxes, _whole(boxes, size))


def to_boxes(targets: Tensor, *, size: int) -> Tensor:
    """Boxes (n, 4) of normalised targets (n, 4), clipped to the region; the inverse of `to_targets`.

    Example:
        >>> import torch
        >>> to_boxes(torch.tensor([[-0.25, 0.0, -0.6931, 0.0]]), size=64).round()
        tensor([[ 0.,  0., 32., 64.]])
    """
    return decode_boxes(targets, _whole(targets, size)).clamp(0, size)


def _whole(rows: Tensor, size: int) -> Tensor:
    """The whole region as a box, once for each row."""
    return rows.new_tensor([0.0, 0.0, size, size]).expand(len(rows), 4)

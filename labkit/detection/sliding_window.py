"""Sliding windows: a classifier of windows, moved over an image, finds things; OverFeat does it in one pass.

Shapes    N windows or boxes, C channels, H W image, h w map of scores (one cell a window), K classes with background.
Boxes     (N, 4) float, x1 y1 x2 y2 in pixels, x2 and y2 exclusive; windows row by row, x fastest.
Window    (height, width) in pixels; stride in pixels, the same in y and in x.

Sermanet et al., OverFeat: integrated recognition, localization and detection using convolutional networks, ICLR 2014.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from labkit.detection.images import check_answers, check_image, check_images

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)  # the same at every position of a larger image
PER_POSITION = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Identity, nn.Dropout, nn.BatchNorm2d)


def sliding_windows(image_size: tuple[int, int], *, window: tuple[int, int], stride: int) -> Tensor:
    """Boxes of all windows that lie in an image, row by row.

    Built from scratch in notebook 02.

    Args:
        image_size: (H, W) in pixels.
        window: (height, width) in pixels.
        stride: step in pixels, down and to the right.

    Returns:
        (N, 4) float xyxy pixels; (0, 4) where the image is smaller than the window.

    Raises:
        ValueError: the window or the stride is not positive.

    Example:
        >>> sliding_windows((4, 7), window=(3, 5), stride=2)
        tensor([[0., 0., 5., 3.],
                [2., 0., 7., 3.]])
    """
    height, width = window
    if min(height, width, stride) < 1:
        raise ValueError(
            f"window and stride must be at least 1 pixel, got window {tuple(window)} and stride {stride}; try stride=1"
        )
    tops = torch.tensor(range(0, image_size[0] - height + 1, stride), dtype=torch.float32)
    lefts = torch.tensor(range(0, image_size[1] - width + 1, stride), dtype=torch.float32)
    y, x = torch.meshgrid(tops, lefts, indexing="ij")  # (h, w) each
    return torch.stack([x, y, x + width, y + height], dim=-1).reshape(-1, 4)


def fc_to_conv(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    """The convolution that does at every position what a linear layer does to one flattened (C, h, w) block.

    Built from scratch in notebook 02. A layer that follows another linear one has height = width = 1.

    Args:
        linear: a layer whose inputs are C * h * w features, flattened in the order C, h, w.
        channels, height, width: of that block.

    Returns:
        A convolution with an h x w kernel and a copy of the same weights; (B, C, h, w) gives (B, out, 1, 1).

    Raises:
        ValueError: the layer does not take channels * height * width inputs.

    Example:
        >>> linear, block = nn.Linear(24, 5), torch.rand(1, 2, 3, 4)
        >>> conv = fc_to_conv(linear, 2, 3, 4)
        >>> torch.allclose(conv(block).flatten(), linear(block.flatten()), atol=1e-6)
        True
    """
    if linear.in_features != channels * height * width:
        raise ValueError(
            f"expected a linear layer with {channels} * {height} * {width} = {channels * height * width} inputs, "
            f"got {linear.in_features}; give the size of the block before it was flattened"
        )
    weight = linear.weight.detach().clone().reshape(-1, channels, height, width)
    conv = nn.Conv2d(
        channels, len(weight), (height, width), bias=linear.bias is not None, device=weight.device, dtype=weight.dtype
    )
    conv.weight = nn.Parameter(weight)
    if linear.bias is not None:
        conv.bias = nn.Parameter(linear.bias.detach().clone())
    return conv


def convolutionalize(classifier: nn.Sequential, *, window: tuple[int, int]) -> nn.Sequential:
    """The classifier with its linear layers turned into convolutions: a larger image gives a map of its outputs.

    Without padding anywhere, each cell of the map is what the classifier says of that window.

    Args:
        classifier: convolutions and pools, `nn.Flatten`, then linear layers; (B, C, height, width) -> (B, K).
        window: (height, width) that it was trained on.

    Returns:
        A new network in eval mode with copies of the weights; (B, C, H, W) -> (B, K, h, w).

    Raises:
        ValueError: the first layer is no convolution, there is not exactly one `nn.Flatten`, or a layer does not act at
            every position alike.

    Example:
        >>> classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 5, 2))
        >>> convolutionalize(classifier, window=(8, 12))(torch.zeros(1, 1, 20, 20)).shape
        torch.Size([1, 2, 7, 5])
    """
    flat = [i for i, layer in enumerate(classifier) if isinstance(layer, nn.Flatten)]
    if len(flat) != 1 or not isinstance(classifier[0], nn.Conv2d):
        raise ValueError(
            "expected an nn.Sequential that begins with a convolution and has one nn.Flatten, "
            f"got {len(flat)} nn.Flatten; write nn.Sequential(nn.Conv2d(…), …, nn.Flatten(), nn.Linear(…), …)"
        )
    body, head = copy.deepcopy(classifier[: flat[0]]).eval(), classifier[flat[0] + 1 :]
    for layers, allowed in ((body, SLIDING + PER_POSITION), (head, (nn.Linear, *PER_POSITION))):
        for layer in layers:
            if not isinstance(layer, allowed):
                raise ValueError(
                    f"expected layers that act at every position alike, got {type(layer).__name__}; "
                    "use convolutions, pools and activations before nn.Flatten, linear layers after it"
                )
    first = classifier[0]
    with torch.no_grad():
        channels, height, width = body(first.weight.new_zeros(1, first.in_channels, *window)).shape[1:]
    block = (channels, height, width)
    dense: list[nn.Module] = []
    for layer in head:
        if isinstance(layer, nn.Linear):
            dense.append(fc_to_conv(layer, *block))
            block = (layer.out_features, 1, 1)
        else:
            dense.append(copy.deepcopy(layer))
    return nn.Sequential(*body, *dense).eval()


class ReceptiveField(NamedTuple):
    """What one cell of a layer's output looks at."""

    layer: str
    kernel: int  # cells of the layer's input
    stride: int  # cells of the layer's input
    total_stride: int  # pixels from one cell to the next: the product of all strides so far
    field: int  # pixels a cell sees, along one side


def receptive_fields(network: nn.Sequential) -> list[ReceptiveField]:
    """One row for each convolution and pool of a network, in order; the last total stride is the windows' stride.

    A kernel of k cells adds (k - 1) * (pixels from cell to cell) to the field. Taught in notebook 02.

    Args:
        network: layers with square kernels; linear layers are left out.

    Example:
        >>> for row in receptive_fields(nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))):
        ...     print(row.layer, row.total_stride, row.field)
        Conv2d 1 3
        MaxPool2d 2 4
        Conv2d 2 8
    """
    rows, jump, field = [], 1, 1
    for layer in network:
        if isinstance(layer, SLIDING):
            kernel, stride = _side(layer.kernel_size), _side(layer.stride)
            field += (kernel - 1) * _side(getattr(layer, "dilation", 1)) * jump
            jump *= stride
            rows.append(ReceptiveField(type(layer).__name__, kernel, stride, jump, field))
    return rows


def _side(size: int | tuple[int, ...]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError(f"expected square kernels and equal strides, got {(height, width)}; use one number a layer")
    return height


class SlidingWindowDetector(nn.Module):
    """A window classifier turned detector: dense scores on every level of a pyramid, then NMS.

    Args:
        classifier: as `convolutionalize` takes it; (B, C, height, width) -> (B, K) logits, class 0 is background.
        window: (height, width) of the classifier in pixels.
        scales: factors the image is resized by; one of 1/2 finds things twice the size of the window.
        score_threshold: windows below it are dropped.
        iou_threshold: NMS within a class drops boxes that overlap a better one more than this.

    Example:
        >>> classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
        >>> detector = SlidingWindowDetector(classifier, window=(8, 8), scales=(1.0, 0.5))
        >>> found = detector(torch.rand(2, 1, 20, 30))
        >>> len(found), sorted(found[0])
        (2, ['boxes', 'labels', 'scores'])
    """

    def __init__(
        self,
        classifier: nn.Sequential,
        *,
        window: tuple[int, int],
        scales: Sequence[float] = (1.0,),
        score_threshold: float = 0.5,
        iou_threshold: float = 0.3,
    ):
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(
                f"scales must be positive and at least one, got {tuple(scales)}; (1.0,) is the image as it is"
            )
        self.network = convolutionalize(classifier, window=window)
        first = classifier[0]
        self.channels = first.in_channels if isinstance(first, nn.Conv2d) else 0  # `convolutionalize` saw to it
        self.stride = receptive_fields(classifier)[-1].total_stride
        self.window, self.scales = (window[0], window[1]), tuple(scales)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold

    def forward(self, images: Tensor | Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detections, one dict an image: boxes (N, 4), scores (N,), labels (N,), best first.

        Args:
            images: (B, C, H, W), or a list of (C, H, W), in [0, 1].

        Raises:
            ValueError: an image is none, or smaller than the window at every scale; or the classifier's weights are
                broken.
        """
        check_images(images, channels=(self.channels,))
        return [self._detect(image) for image in images]

    @torch.no_grad()
    def windows(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Every window of every level: boxes (N, 4) in pixels of the image, and their logits (N, K).

        Args:
            image: (C, H, W) in [0, 1].

        Raises:
            ValueError: this is no image (C, H, W), or it is smaller than the window at every scale.
        """
        check_image(image, channels=(self.channels,))
        return self._windows(image)

    def _windows(self, image: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = [], []
        for scale in self.scales:
            level = resize(image, scale)  # (C, H', W')
            if level.shape[1] < self.window[0] or level.shape[2] < self.window[1]:
                continue
            ratio = torch.tensor(
                [image.shape[2] / level.shape[2], image.shape[1] / level.shape[1]] * 2, device=image.device
            )  # not 1 / scale: sides are whole pixels
            at = sliding_windows((level.shape[1], level.shape[2]), window=self.window, stride=self.stride).to(
                image.device
            )
            boxes.append(at * ratio)
            rows, columns = ((level.shape[1 + i] - self.window[i]) // self.stride + 1 for i in (0, 1))
            found = self.network(level[None])[0, :, :rows, :columns]  # a pool that leaves a rest has a row too many
            logits.append(found.flatten(1).T)  # (h * w, K)
        if not boxes:
            raise ValueError(
                f"expected an image of at least {self.window} (height, width) at one scale of {self.scales}, "
                f"got {tuple(image.shape[1:])}; use larger scales"
            )
        return torch.cat(boxes), torch.cat(logits)

    @torch.no_grad()
    def _detect(self, image: Tensor) -> dict[str, Tensor]:
        boxes, logits = self._windows(image)
        check_answers(logits)
        scores = logits.softmax(dim=1)[:, 1:]  # (N, K - 1), without the background
        rows, classes = (scores >= self.score_threshold).nonzero(as_tuple=True)
        boxes, scores, labels = boxes[rows], scores[rows, classes], classes + 1
        keep = ops.batched_nms(boxes, scores, labels, self.iou_threshold)
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}


def resize(image: Tensor, scale: float) -> Tensor:
    """One level of a pyramid: the image (C, H, W) made smaller or larger, smoothed against aliasing.

    Args:
        image: (C, H, W).
        scale: factor of both sides; they are rounded to whole pixels, at least 1.

    Example:
        >>> resize(torch.rand(1, 30, 50), 0.5).shape
        torch.Size([1, 15, 25])
    """
    size = [max(1, round(side * scale)) for side in image.shape[1:]]
    if size == list(image.shape[1:]):
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]

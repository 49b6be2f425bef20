"""The backbones of the course: a few convolutions, one feature map, trained on a laptop in minutes.

`Backbone` is the plain one, stride 8, of regions of interest and of blood cells. `FilmBackbone` looks at whole films,
where lesions are faint and small: it sees local contrast first, and its map has stride 4. One and the same lies under
R-CNN, Fast R-CNN and Faster R-CNN, so that what is compared is the method.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureExtractor(Protocol):
    """What a detector asks of a backbone; one that also has `channels`, of its images, gets them checked."""

    stride: int  # pixels a feature cell
    out_channels: int  # of the features

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, out_channels, h, w) of images (B, C, H, W)."""
        ...


class ConvLayers(nn.Sequential):
    """The layers one after the other; in eval mode each normalisation is folded into the convolution before it.

    What is left of a normalisation that no longer learns is a factor and an offset for each channel, which the
    convolution takes along: the same numbers to rounding, one pass over the images less. Layers that somebody listens
    to by a hook are run one by one.

    Example:
        >>> layers = ConvLayers(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> layers(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 4, 6, 6])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Whatever the layers make of the images."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            norm = layers[0] if layers else None
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _folds(layer, norm):
                images = _convolve_and_normalise(layer, norm, images)
                layers.pop(0)
            else:
                images = layer(images)
        return images


def _folds(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether the normalisation no longer learns from its batch, and nobody listens to the two."""
    return not norm.training and not any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))


def _convolve_and_normalise(conv: nn.Conv2d, norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018 - as `_conv` makes them
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (C,)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    weight, bias = conv.weight * factor[:, None, None, None], norm.bias - mean * factor
    return conv._conv_forward(_channels_last(images), weight, bias)  # whatever its stride and padding


class Backbone(nn.Module):
    """Features (B, 96, ceil(H / 8), ceil(W / 8)) of images (B, channels, H, W).

    Attributes:
        channels: of the images.
        out_channels: 96.
        stride: 8 pixels per cell.

    Example:
        >>> import torch
        >>> Backbone()(torch.zeros(2, 1, 64, 48)).shape
        torch.Size([2, 96, 8, 6])
    """

    stride = 8

    def __init__(self, channels: int = 1, *, width: int = 24) -> None:
        """Build the seven convolutions.

        Args:
            channels: of the images, 1 for grey and 3 for colour.
            width: channels after the first convolution; they double twice.
        """
        super().__init__()
        self.channels, self.out_channels = channels, 4 * width
        self.layers = ConvLayers(
            *_conv(channels, width, stride=2),
            *_conv(width, width),
            *_conv(width, 2 * width, stride=2),
            *_conv(2 * width, 2 * width),
            *_conv(2 * width, 4 * width, stride=2),
            *_conv(4 * width, 4 * width),
            *_conv(4 * width, 4 * width),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, out_channels, h, w) of images (B, channels, H, W)."""
        return self.layers(_channels_last(images))


class LocalContrast(nn.Module):
    """The images, and each once more for every window: less the local mean, by the local spread.

    A lesion is as bright as tissue elsewhere; what makes it one is how it stands out from what is around it. Without
    this step a network spends most of a short training on finding that out. Local contrast normalisation, as in
    Jarrett, Kavukcuoglu, Ranzato and LeCun, "What is the best multi-stage architecture for object recognition?",
    ICCV 2009, section 3; square windows instead of Gaussian ones.

    Example:
        >>> LocalContrast((2, 6))(torch.rand(3, 1, 20, 30)).shape
        torch.Size([3, 3, 20, 30])
    """

    floor = 0.03  # in units of the normalised grey value, about the noise: flat film stays flat

    def __init__(self, windows: tuple[int, ...]) -> None:
        """Set the windows.

        Args:
            windows: how far each reaches to every side, pixels.
        """
        super().__init__()
        self.windows = windows

    def forward(self, images: Tensor) -> Tensor:
        """(B, C * (1 + windows), H, W) of images (B, C, H, W)."""
        images = images.float()  # a spread is a small difference of large numbers
        views = [images]
        for reach in self.windows:
            mean = _local_mean(images, reach)
            spread = (_local_mean(images.square(), reach) - mean.square()).clamp(min=0).sqrt()
            views.append((images - mean) / (spread + self.floor))
        return _channels_last(torch.cat(views, dim=1))


class FilmBackbone(nn.Module):
    """Features (B, 64, ceil(H / 4), ceil(W / 4)) of films (B, 1, H, W).

    Local contrast first, then eight convolutions down to stride 8. The first keeps the full resolution: spicules and
    specks are a pixel wide. Last, what the coarse map knows is added to the fine one at stride 4, because a cluster of
    specks is 5 to 16 pixels wide: the top-down path of Lin et al., "Feature pyramid networks for object detection",
    CVPR 2017, with one level.

    Attributes:
        channels: 1, of the films.
        out_channels: 64.
        stride: 4 pixels per cell.
        frozen: whether training leaves `fine` as it is, see `freeze_fine`.

    Example:
        >>> FilmBackbone()(torch.zeros(2, 1, 64, 48)).shape
        torch.Size([2, 64, 16, 12])
    """

    stride = 4
    channels, out_channels = 1, 64
    frozen = False

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.fine = ConvLayers(
            LocalContrast((2, 6)),  # pixels: about a spicule, and about a lesion
            *_conv(3, 16),
            *_conv(16, 32, stride=2),
            *_conv(32, 32),
            *_conv(32, 64, stride=2),
            *_conv(64, 64),
        )
        self.coarse = ConvLayers(*_conv(64, 96, stride=2), *_conv(96, 96), *_conv(96, 96))
        self.lateral, self.top_down = nn.Conv2d(64, 64, 1), nn.Conv2d(96, 64, 1)
        self.merge = ConvLayers(*_conv(64, 64))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 64, h, w) of films (B, 1, H, W)."""
        fine = self.fine(images)
        above = self.top_down(self.coarse(fine))
        return self.merge(self.lateral(fine) + F.interpolate(above, size=fine.shape[2:]))  # nearest neighbours

    def freeze_fine(self) -> "FilmBackbone":
        """Itself; from now on training leaves the fine half as it is, its normalisation too.

        What a spicule looks like is better learned from thousands of patches than from a few hundred films, and a step
        takes less time. torchvision's detectors freeze the first stages of their backbones for the same reasons.

        Example:
            >>> FilmBackbone().freeze_fine().train().fine.training
            False
        """
        self.frozen = True
        self.fine.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "FilmBackbone":
        """Itself in training mode, or in eval mode; a frozen half stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.fine.eval()
        return self


def _channels_last(images: Tensor) -> Tensor:
    """The same images, a pixel's channels side by side in memory: convolutions are faster so, on CPUs and on GPUs."""
    return images.contiguous(memory_format=torch.channels_last)


def _local_mean(images: Tensor, reach: int) -> Tensor:
    """Mean over a square of 2 reach + 1 pixels around each; at the border the edge's value goes on."""
    side = 2 * reach + 1
    sums = _running_sum(F.pad(images, (reach,) * 4, mode="replicate"), side, dim=2)
    return _running_sum(sums, side, dim=3) / side**2


def _running_sum(values: Tensor, side: int, *, dim: int) -> Tensor:
    """Sums over `side` neighbours along one axis: of 1, 2, 4 … by doubling, as the binary digits of side ask."""
    length = values.shape[dim] - side + 1
    total, start, width = torch.zeros((), device=values.device), 0, 1
    while True:
        if side & width:
            total = total + values.narrow(dim, start, length)
            start += width
        if 2 * width > side:
            return total
        rest = values.shape[dim] - width
        values = values.narrow(dim, 0, rest) + values.narrow(dim, width, rest)  # now of 2 width neighbours
        width *= 2


def _conv(channels_in: int, channels_out: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)

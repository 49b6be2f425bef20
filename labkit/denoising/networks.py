"""Networks that take noise away: an autoencoder, a U-Net, and DnCNN, which predicts the noise instead of the image.

Images    noisy and denoised (B, C, H, W), any H and W: each is padded by reflection to what the network halves, and
          cut back. Intensities should be of order 1, as with images in [0, 1]; the networks scale nothing.

Built in notebook 11. DnCNN: Zhang, Zuo, Chen, Meng and Zhang, IEEE TIP 26:3142, 2017; for X-rays Sori, 2017.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, *, bias: bool = True) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


def start_orthogonal(network: nn.Module) -> None:
    """Give each convolution orthogonal weights of gain sqrt(2) and no bias, in place.

    A ReLU halves the power of what passes; this gain keeps it through any number of layers. torch's own start does not:
    after 150 steps a U-Net is 5 dB behind (notebook 11's networks and patches, sigma 15 and 25).

    Example:
        >>> layer = conv(4, 8)
        >>> start_orthogonal(layer)
        >>> rows = layer.weight.detach().flatten(1)
        >>> torch.allclose(rows @ rows.T, 2 * torch.eye(8), atol=1e-5)
        True
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.orthogonal_(module.weight, gain=2**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class DnCNN(nn.Module):
    """Convolutions of one width without down-sampling; the last one gives the residual, noisy - denoised.

    Without batch norm its state is (weight, bias) of each convolution in order, so a published plain list of
    tensors loads with `load_pairs`. With it, convolutions 2 to depth - 1 have no bias and a batch norm behind.

    Args:
        depth: number of convolutions, 2 or more; 17 for a known noise level, as published.
        width: channels inside.
        channels: 1 for grey.
        batch_norm: whether the inner convolutions are normalised.
        residual: False predicts the image itself: to compare, it learns slower.
        scale: what 1 of the last layer stands for in the residual: with about the sigma of the noise it has to give
            numbers of order 1, and learns faster. It is no weight: load weights into a network of the same scale.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> network = DnCNN(depth=3, width=8, batch_norm=False)
        >>> network(torch.zeros(1, 1, 9, 14)).shape, len(list(network.parameters()))
        (torch.Size([1, 1, 9, 14]), 6)
    """

    def __init__(
        self,
        depth: int = 17,
        width: int = 64,
        channels: int = 1,
        batch_norm: bool = True,
        *,
        residual: bool = True,
        scale: float = 1.0,
    ):
        super().__init__()
        if depth < 2 or width < 1 or channels < 1:
            raise ValueError(
                f"depth must be 2 or more, width and channels 1 or more, got {depth}, {width} and {channels}; 17, 64 "
                "and 1 are the paper's"
            )
        layers: list[nn.Module] = [conv(channels, width), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(conv(width, width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
        last = conv(width, channels)
        layers.append(last)
        self.layers = nn.Sequential(*layers)
        self.residual, self.channels, self.scale = residual, channels, scale
        start_orthogonal(self)
        if residual:
            nn.init.zeros_(last.weight)  # starts as "nothing is noise"

    def noise(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) what the network takes for noise: noisy - denoised."""
        return self.scale * self.layers(channels_last(noisy)) if self.residual else noisy - self(noisy)

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) the denoised images."""
        check_noisy(noisy, self.channels)
        output = self.layers(channels_last(noisy))
        return noisy - self.scale * output if self.residual else output

    @torch.no_grad()
    def load_pairs(self, tensors: list[Tensor]) -> None:
        """Take over weight, bias, weight, bias, … of a DnCNN without batch norm.

        Raises:
            ValueError: the number or a shape does not fit; nothing has changed then.

        Example:
            >>> small = DnCNN(depth=2, width=4, batch_norm=False)
            >>> small.load_pairs([torch.zeros(4, 1, 3, 3), torch.zeros(4), torch.zeros(1, 4, 3, 3), torch.zeros(1)])
        """
        own = list(self.parameters())
        if any(isinstance(module, nn.BatchNorm2d) for module in self.modules()):
            raise ValueError(
                "plain (weight, bias) pairs must go into a DnCNN without batch norm, got one with it; write "
                "batch_norm=False"
            )
        expected, got = [tuple(p.shape) for p in own], [tuple(t.shape) for t in tensors]
        if expected != got:
            where = next((i for i, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
            what = (
                f"{len(expected)} tensors, got {len(got)}"
                if where is None
                else f"shape {expected[where]} as tensor {where} of {len(expected)}, got {got[where]} of {len(got)}"
            )
            raise ValueError(f"expected {what}; depth, width and channels must be those of the weights")
        for parameter, tensor in zip(own, tensors, strict=True):
            parameter.copy_(tensor)


class DenoisingAutoencoder(nn.Module):
    """Down, through a narrow middle, and up again, without a way around: what does not fit through is lost.

    Args:
        width: channels at full size; they double at each halving.
        levels: how often the size is halved.
        channels: 1 for grey.

    Raises:
        ValueError: an argument is below 1.

    Example:
        >>> DenoisingAutoencoder(width=8)(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
    """

    def __init__(self, width: int = 32, levels: int = 2, channels: int = 1):
        super().__init__()
        _check_positive(width=width, levels=levels, channels=channels)
        widths = [width * 2**level for level in range(levels + 1)]
        down: list[nn.Module] = [conv(channels, width), nn.ReLU(inplace=True)]
        up: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            down += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
            up = [nn.ConvTranspose2d(wide, narrow, 2, stride=2), nn.ReLU(inplace=True), *up]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, conv(width, channels))
        start_orthogonal(self)
        self.multiple, self.channels = 2**levels, channels

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) the denoised images."""
        check_noisy(noisy, self.channels)
        height, width = noisy.shape[-2:]
        padded = channels_last(pad_to_multiple(noisy, self.multiple))
        return self.decoder(self.encoder(padded))[..., :height, :width]


class UNet(nn.Module):
    """An autoencoder with a way around each halving, so that fine detail need not pass the middle; gives the residual.

    It halves by averages: the maximum of noisy numbers lies above their mean, and the more so the more noise there is.

    Args:
        width: channels at full size; they double at each halving.
        levels: how often the size is halved.
        channels: 1 for grey.
        residual: False predicts the image itself.
        scale: as of `DnCNN`.

    Raises:
        ValueError: an argument is below 1.

    Example:
        >>> UNet(width=8, levels=2)(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
    """

    def __init__(
        self, width: int = 16, levels: int = 3, channels: int = 1, *, residual: bool = True, scale: float = 1.0
    ):
        super().__init__()
        _check_positive(width=width, levels=levels, channels=channels)
        widths = [width * 2**level for level in range(levels + 1)]
        self.first = _two_convs(channels, width)
        self.down = nn.ModuleList(_two_convs(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(_two_convs(2 * a, a) for a in widths[:-1])
        self.last = conv(width, channels)
        start_orthogonal(self)
        if residual:
            nn.init.zeros_(self.last.weight)  # starts as "nothing is noise"
        self.multiple, self.channels, self.residual, self.scale = 2**levels, channels, residual, scale

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) the denoised images."""
        check_noisy(noisy, self.channels)
        height, width = noisy.shape[-2:]
        features = self.first(channels_last(pad_to_multiple(noisy, self.multiple)))
        around = []
        for block in self.down:
            around.append(features)
            features = block(F.avg_pool2d(features, 2))
        for up, merge, kept in zip(reversed(self.up), reversed(self.merge), reversed(around), strict=True):
            features = merge(torch.cat([up(features), kept], dim=1))
        output = self.last(features)[..., :height, :width]
        return noisy - self.scale * output if self.residual else output


def _two_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions, each with a ReLU."""
    return nn.Sequential(
        conv(in_channels, out_channels),
        nn.ReLU(inplace=True),
        conv(out_channels, out_channels),
        nn.ReLU(inplace=True),
    )


def channels_last(images: Tensor) -> Tensor:
    """The same (B, C, H, W) with the channels last in memory, where convolutions are faster by a sixth or more.

    `contiguous` would leave images of one channel as they are, and with them the channels of all that follows.

    Example:
        >>> channels_last(torch.zeros(2, 1, 8, 8)).stride()
        (64, 1, 8, 1)
    """
    return images.to(memory_format=torch.channels_last)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """(B, C, H', W') images, continued below and right until both sides are multiples: mirrored, or repeated if tiny.

    Example:
        >>> pad_to_multiple(torch.zeros(1, 1, 5, 8), 4).shape
        torch.Size([1, 1, 8, 8])
    """
    below, right = -images.shape[-2] % multiple, -images.shape[-1] % multiple
    if not below and not right:
        return images
    mirrored = below < images.shape[-2] and right < images.shape[-1]
    return F.pad(images, (0, right, 0, below), mode="reflect" if mirrored else "replicate")


def check_noisy(noisy: Tensor, channels: int) -> None:
    """Refuse images that a network of this many channels does not take.

    Raises:
        ValueError: noisy is not floating (B, channels, H, W) with at least one pixel.

    Example:
        >>> check_noisy(torch.zeros(2, 3, 8, 8), 1)
        Traceback (most recent call last):
        ValueError: noisy must be floating (B, 1, H, W), got torch.float32 (2, 3, 8, 8); average colours with
            noisy.mean(dim=1, keepdim=True)
    """
    if noisy.ndim == 4 and noisy.shape[1] == channels and noisy.is_floating_point() and 0 not in noisy.shape[2:]:
        return
    cure = "write noisy[None, None] for one image"
    if noisy.ndim == 4 and channels == 1 and noisy.shape[1] > 1:
        cure = "average colours with noisy.mean(dim=1, keepdim=True)"
    elif not noisy.is_floating_point():
        cure = "divide bytes by 255"
    elif noisy.ndim == 3:
        cure = "write noisy[:, None]"
    shape = tuple(noisy.shape)
    raise ValueError(f"noisy must be floating (B, {channels}, H, W), got {noisy.dtype} {shape}; {cure}")


def _check_positive(**numbers: int) -> None:
    """Refuse an argument below 1, by name."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be 1 or more, got {number}; leave it out for the usual one")

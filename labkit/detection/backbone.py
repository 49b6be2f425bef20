"""The backbone that every detector of the course shares: seven convolutions, one feature map at stride 8.

Small enough to train on a laptop in minutes, and one and the same under R-CNN, Fast R-CNN and Faster R-CNN, so that
what is compared is the method. Shipped weights come from a lesion / no-lesion task on phantom patches.
"""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Features (B, 96, ceil(H / 8), ceil(W / 8)) of images (B, channels, H, W).

    Attributes:
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
        self.out_channels = 4 * width
        self.layers = nn.Sequential(
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
        return self.layers(images)


def _conv(channels_in: int, channels_out: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)

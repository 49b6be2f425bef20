"""Which row? A small U-Net that reads an image and draws a hill over its rows: the agent's rival in notebook 18.

    image (H, W) -> half size -> three halvings, in two dimensions
                                 |     the maximum over the width of each size
                                 +---> and back up, in one dimension -> a logit for each row

Kanavati et al., "Automatic L3 slice detection in 3D CT images using fully-convolutional networks", 2018, made such a
network for this very task (L3UNet-1D). The hill is a Gaussian around the row that is looked for, the answer the mean
row under the highest hill, so it may lie between two rows.

Shapes   B images, H W pixels, of one spacing in mm.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

SIGMA_MM = 9.0  # of the hill; a lumbar vertebra with its disc is 36 mm high
REACH_MM = 18.0  # the answer is the mean row so far around the highest: half a vertebra


class RowUNet(nn.Module):
    """Logits (B, H) of images (B, H, W), one a row.

    Example:
        >>> RowUNet()(torch.zeros(2, 192, 128)).shape
        torch.Size([2, 192])
    """

    def __init__(self, widths: tuple[int, ...] = (8, 16, 24, 32)):
        """Build it.

        Args:
            widths: channels at each size, the largest first.
        """
        super().__init__()
        self.first = _conv(1, widths[0])
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv1d(a + b, a, 3, padding=1) for a, b in pairwise(widths))
        self.last = nn.Conv1d(widths[0], 1, 3, padding=1)
        self.multiple = 2 ** len(widths)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H) before the softmax."""
        if images.ndim != 3 or images.shape[1] % self.multiple or images.shape[2] % self.multiple:
            raise ValueError(
                f"images must be (B, H, W), H and W multiples of {self.multiple}, got {tuple(images.shape)}; "
                "pad them with zeros"
            )
        features = self.first(F.avg_pool2d(images[:, None], 2) - 0.2)  # (B, C, H / 2, W / 2)
        rows = [features.amax(dim=3)]
        for block in self.down:
            features = block(F.max_pool2d(features, 2))
            rows.append(features.amax(dim=3))
        answer = rows.pop()
        for up, kept in zip(reversed(self.up), reversed(rows), strict=True):
            answer = up(torch.cat([kept, F.interpolate(answer, scale_factor=2)], dim=1)).relu()
        return F.interpolate(self.last(answer).float(), scale_factor=2, mode="linear")[:, 0]


def _conv(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


def row_loss(logits: Tensor, heights: Tensor, *, spacing: float) -> Tensor:
    """The cross entropy between a softmax over the rows and a hill around the right one: a scalar, the mean of B.

    Args:
        logits: (B, H).
        heights: (B,) mm below the first row.
        spacing: mm a row.

    Example:
        >>> flat = row_loss(torch.zeros(1, 100), torch.tensor([150.0]), spacing=3.0)
        >>> round(float(flat), 3)  # ln 100: it says nothing yet
        4.605
    """
    rows = torch.arange(logits.shape[1], device=logits.device) * spacing  # (H,) mm
    hill = torch.exp(-0.5 * ((rows - heights[:, None]) / SIGMA_MM) ** 2)  # (B, H)
    return -(hill / hill.sum(dim=1, keepdim=True) * logits.log_softmax(dim=1)).sum(dim=1).mean()


def heights_of(logits: Tensor, *, spacing: float) -> Tensor:
    """(B,) mm below the first row: the mean of the rows around the highest logit, weighed by their softmax.

    Example:
        >>> heights_of(torch.tensor([[0.0, 0, 50, 50, 0, 0]]), spacing=10.0)
        tensor([25.])
    """
    rows = torch.arange(logits.shape[1], device=logits.device) * spacing
    away = (rows - rows[logits.argmax(dim=1)][:, None]).abs()
    shares = logits.masked_fill(away > REACH_MM, -torch.inf).softmax(dim=1)
    return (shares * rows).sum(dim=1)


class Shifted(Dataset):
    """Images moved up or down, and a little to the side, brighter or darker: (image, height) pairs to train on.

    A network that has seen ten images from one height each learns the height. Moved, they are as many as there are
    rows. What a walking agent sees while it explores is much the same. Random numbers are torch's.

    Args:
        images: (n, H, W).
        heights: (n,) mm; the slice stays in the image.
        spacing: mm a row.
        rows: most rows up or down; 0 leaves the images as they are.

    Example:
        >>> image, height = Shifted(torch.ones(1, 40, 16), torch.tensor([60.0]), spacing=3.0)[0]
        >>> image.shape, 3 <= height <= 114
        (torch.Size([40, 16]), tensor(True))
    """

    SIDE, LIGHT = 6, 0.15  # columns, and the share by which an image is brighter or darker

    def __init__(self, images: Tensor, heights: Tensor, *, spacing: float, rows: int = 40):
        self.images, self.heights, self.spacing, self.rows = images, heights, spacing, rows

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One image, (H, W), and its height."""
        image, height = self.images[index], self.heights[index]
        if not self.rows:
            return image, height
        row, last = int(height / self.spacing), image.shape[0] - 2
        down = int(torch.randint(max(-self.rows, 1 - row), min(self.rows, last - row) + 1, ()))
        side = int(torch.randint(-self.SIDE, self.SIDE + 1, ()))
        light = 1 + self.LIGHT * (2 * float(torch.rand(())) - 1)
        return light * _moved(_moved(image, down, 0), side, 1), height + down * self.spacing


def _moved(image: Tensor, by: int, axis: int) -> Tensor:
    """The image moved along an axis, zeros where it was."""
    wide = [abs(by) if axis == 1 else 0] * 2 + [abs(by) if axis == 0 else 0] * 2
    return F.pad(image, wide).narrow(axis, abs(by) - by, image.shape[axis])

"""Scans on their way into a training: each time another field of the same patient, with the boxes that it shows.

Shapes   volumes (Z, Y, X) in HU, boxes (N, 6) x1 y1 z1 x2 y2 z2 in voxels, ends exclusive.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from labkit.datasets.splits import Target

AIR = -1000.0  # HU
GAIN, OFFSET = 0.04, 10.0  # deviations of scale, and of HU: scanners and contrast agent differ
HEIGHTS = (0.5, 0.75, 1.0)  # of the slices that a batch keeps (Xu et al. 2019 cut along z in training, too)
LEAST = 0.05  # of the slices: where a field shows less of an organ, it is not asked for


class Organs(Protocol):
    """What of a scan is looked at."""

    volume: Tensor
    boxes: Tensor
    labels: Tensor


class OrganFields(Dataset):
    """(volume, target) of each scan; target holds `boxes` and `labels`.

    Example:
        >>> from labkit.datasets.phantoms.torso import torso_scans
        >>> scans = torso_scans(1, shape=(16, 24, 32), spacing=(16, 12, 12))
        >>> volume, target = OrganFields(scans, margin=4)[0]
        >>> volume.shape, sorted(target)
        (torch.Size([16, 20, 28]), ['boxes', 'labels'])
    """

    def __init__(self, scans: Iterable[Organs], *, margin: int = 0):
        """Hold the scans, in half precision: HU are whole numbers, which it keeps up to 2048.

        Args:
            scans: whose `volume`, `boxes` and `labels` are taken.
            margin: voxels that each volume loses along y and x, at random on either side, as if the patient lay
                elsewhere; it is also made a little lighter or darker. 0 leaves volumes as they are.
        """
        self.scans = [(s.volume.half(), {"boxes": s.boxes, "labels": s.labels}) for s in scans]
        self.margin = margin

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        volume, target = self.scans[index]
        if not self.margin:
            return volume.float(), dict(target)
        size = [len(volume), *(side - self.margin for side in volume.shape[1:])]
        volume, target = cut_at_random(volume.float(), target, size)
        gain, offset = torch.randn(2).tolist()
        return (volume - AIR) * (1 + GAIN * gain) + AIR + OFFSET * offset, target


def cut_at_random(volume: Tensor, target: Target, size: Iterable[int]) -> tuple[Tensor, Target]:
    """A part of the volume, at a random place, with what it shows of the boxes.

    Args:
        volume: (Z, Y, X).
        target: dict with `boxes` (N, 6) and `labels` (N,).
        size: (Z, Y, X) voxels of the part, no more than the volume has.

    Example:
        >>> target = {"boxes": torch.tensor([[1.0, 2.0, 0.0, 9.0, 9.0, 8.0]]), "labels": torch.tensor([4])}
        >>> part, left = cut_at_random(torch.zeros(8, 12, 14), target, (8, 12, 5))
        >>> part.shape, left["boxes"][0, 5]
        (torch.Size([8, 12, 5]), tensor(8.))
    """
    sides = list(size)
    first = [int(torch.randint(whole - side + 1, ())) for whole, side in zip(volume.shape, sides, strict=True)]
    z, y, x = (slice(start, start + side) for start, side in zip(first, sides, strict=True))
    boxes = target["boxes"] - target["boxes"].new_tensor(first[::-1] * 2)
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor(sides[::-1] * 2))
    shown = (boxes[:, 3:] > boxes[:, :3]).all(dim=1) & (boxes[:, 5] - boxes[:, 2] >= LEAST * len(volume))
    return volume[z, y, x], {"boxes": boxes[shown], "labels": target["labels"][shown]}


def collate_fields(pairs: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """(volumes, targets), two lists, all cut to the same share of their slices, half of them at least.

    The `collate_fn=` of a DataLoader. Organs that leave the field are not asked for.

    Example:
        >>> none = {"boxes": torch.zeros(0, 6), "labels": torch.zeros(0, dtype=torch.int64)}
        >>> volumes, targets = collate_fields([(torch.zeros(16, 8, 8), none), (torch.zeros(16, 8, 8), none)])
        >>> len(volumes[0]) == len(volumes[1]) >= 8
        True
    """
    share = HEIGHTS[int(torch.randint(len(HEIGHTS), ()))]
    volumes, targets = [], []
    for volume, target in pairs:
        part, left = cut_at_random(volume, target, (int(share * len(volume)), *volume.shape[1:]))
        volumes.append(part)
        targets.append(left)
    return volumes, targets

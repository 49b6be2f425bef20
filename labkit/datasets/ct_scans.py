"""The scans of notebook 13: bodies drawn once, scanned at normal and at a quarter of the dose, kept in the cache.

Slices      (n, 1, 256, 256) HU of 1.4 mm, chest and abdomen in turn; drawn twice as fine, so that edges cross pixels.
Dose        4e5 photons a ray is normal and 1e5 a quarter: on a body of 30 cm the noise of the lecture's table.
Pairs       The quarter's photons are among those of the normal dose. So both share a part of their noise, as in the
            Mayo Clinic's set, where the low dose is the normal one with noise added. Two separate scans of one
            body would not: then a network could learn to give no noise at all.
"""

import inspect
import zlib
from typing import NamedTuple

import torch
from numpy import ndarray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from labkit.datasets.arguments import whole_number
from labkit.datasets.cache import cached_arrays
from labkit.datasets.phantoms import ct, texture
from labkit.denoising import ct_scan, tomography
from labkit.denoising.draws import poisson

NORMAL, LOW = 4e5, 1e5  # photons a ray
VIEWS = 360
PARTS = {"train": (48, 13), "test": (24, 14)}  # slices, seed: no body is in both
KEPT_MASKS = ("lungs", "organs", "bones", "vessels", "nodules")
REACH = 0.26  # share of the slice's side, from its middle: bodies are 270 to 320 mm wide and 190 to 230 mm deep
RADIUS = 6  # pixels, of the disc in which mean and deviation are read: 8 mm


class Scans(NamedTuple):
    """Slices of the same bodies at two doses and without noise, and what is in them."""

    low: Tensor  # (n, 1, H, W) HU, a quarter of the dose
    normal: Tensor  # (n, 1, H, W) HU, what a denoiser is trained towards
    noise_free: Tensor  # (n, 1, H, W) HU, the reconstruction of a scan without noise
    masks: dict[str, Tensor]  # of KEPT_MASKS, (n, H, W) bool
    discs: Tensor  # (n, H, W) bool, a flat piece: blood in the heart (even slices), liver (odd ones)
    pixel_mm: float


def ct_scans(part: str, *, count: int | None = None) -> Scans:
    """The scans of a part; the first call takes half a minute, the next none. Used in notebook 13.

    Args:
        part: "train" or "test".
        count: only the first so many slices; they are the same as in the whole part.

    Raises:
        ValueError: there is no such part, or count is not from 1 to its number of slices.

    Example:
        >>> ct_scans("val")
        Traceback (most recent call last):
        ValueError: part must be one of train, test, got 'val'; mind the spelling
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}; mind the spelling")
    total, seed = PARTS[part]
    count = total if count is None else whole_number(count, "count", least=1, cure="leave it out for all slices")
    if count > total:
        raise ValueError(f"count must be at most {total}, got {count}; leave it out for all slices")
    arrays = cached_arrays(f"ct-scans-{part}-{count}", lambda: _make(count, seed), key=_recipe(count, seed))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    masks = {name: tensors.pop(name) for name in KEPT_MASKS}
    return Scans(**tensors, masks=masks, pixel_mm=ct.FIELD_MM / tensors["low"].shape[-1])


def two_doses(line_integrals: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Line integrals as counted at a quarter of the dose and at the whole of it, the quarter's photons among them.

    Args:
        line_integrals: (..., views, detectors) without noise.
        generator: of the counts.

    Example:
        >>> low, normal = two_doses(torch.zeros(90, 64), generator=torch.Generator().manual_seed(0))
        >>> round(float(low.std() / normal.std()), 1)
        2.0
    """
    passing = torch.exp(-line_integrals)
    quarter = poisson(LOW * passing, generator)
    whole = quarter + poisson((NORMAL - LOW) * passing, generator)  # sums of Poisson counts are Poisson counts
    return -torch.log(quarter.clamp(min=1) / LOW), -torch.log(whole.clamp(min=1) / NORMAL)


class Patches(Dataset):
    """Squares cut at random places of the body from several images of one slice, mirrored and turned together.

    Every call draws anew from torch's generator. Places are such that the middle lies in the body.

    Args:
        images: tensors (n, C, H, W), all of one size; a slice's row is the same in each.
        count: of patches an epoch.
        size: pixels a side.

    Example:
        >>> patches = Patches(torch.zeros(3, 1, 256, 256), torch.ones(3, 1, 256, 256), count=10)
        >>> low, normal = patches[0]
        >>> len(patches), low.shape, normal.shape
        (10, torch.Size([1, 64, 64]), torch.Size([1, 64, 64]))
    """

    def __init__(self, *images: Tensor, count: int, size: int = 64):
        self.images, self.count, self.size = images, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        if not 0 <= row < self.count:
            raise IndexError(row)  # so that a loop over the patches ends
        count, _, height, width = self.images[0].shape
        which, turns, mirrored = (int(torch.randint(n, ())) for n in (count, 4, 2))
        down, across = (REACH * (2 * torch.rand(2) - 1)).tolist()  # of the middle, as a share of the side
        top, left = (
            round(side * (0.5 + share) - self.size / 2) for side, share in ((height, down), (width, 1.25 * across))
        )
        cut = (image[which, :, top : top + self.size, left : left + self.size] for image in self.images)
        turned = (torch.rot90(patch, turns, (1, 2)) for patch in cut)
        return tuple((patch.flip(2) if mirrored else patch).contiguous() for patch in turned)


def _make(count: int, seed: int) -> dict[str, ndarray]:
    """Every array of so many slices; each slice has random numbers of its own."""
    bodies = ct.ct_slices(count, seed=seed)
    exact = ct_scan.project(bodies.images, pixel_mm=bodies.pixel_mm, views=VIEWS, binning=2)[:, 0]  # (n, views, 256)
    counted = [
        two_doses(rays, generator=torch.Generator().manual_seed(1000 * seed + i)) for i, rays in enumerate(exact)
    ]
    low, normal = (torch.stack(rays) for rays in zip(*counted, strict=True))
    pixel = 2 * bodies.pixel_mm
    images = {
        name: ct_scan.reconstruct(rays, pixel_mm=pixel)[:, None].numpy()
        for name, rays in (("low", low), ("normal", normal), ("noise_free", exact))
    }
    masks = {name: bodies.masks[name][:, ::2, ::2].numpy() for name in KEPT_MASKS}  # centred on every second ray
    flat = masks["organs"] & ~masks["vessels"] & ~masks["nodules"]
    flat[:, :, flat.shape[-1] // 2 :] = False  # the liver lies on the left of the slice
    flat[::2] = masks["vessels"][::2]  # of a chest, the chambers of the heart
    return images | masks | {"discs": flat_discs(torch.from_numpy(flat), radius=RADIUS).numpy()}


def flat_discs(masks: Tensor, *, radius: int) -> Tensor:
    """(n, H, W) bool, in each mask the disc of this radius around its deepest point, less what lies outside.

    Example:
        >>> mask = torch.zeros(1, 20, 30, dtype=torch.bool)
        >>> mask[0, 5:16, 8:27] = True
        >>> int(flat_discs(mask, radius=3).sum())
        29
    """
    height, width = masks.shape[1:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    discs = []
    for mask in masks:
        depth = torch.from_numpy(ndimage.distance_transform_edt(mask.numpy()))
        row, column = divmod(int(depth.argmax()), width)
        discs.append(((rows - row) ** 2 + (columns - column) ** 2 <= radius**2) & mask)
    return torch.stack(discs)


def _recipe(count: int, seed: int) -> str:
    """All that the arrays depend on: with another text of these modules old scans are stale."""
    text = "".join(inspect.getsource(module) for module in (ct, texture, ct_scan, tomography))
    text += inspect.getsource(_make) + inspect.getsource(two_doses) + inspect.getsource(flat_discs)
    return f"{count} slices, seed {seed}, {LOW:g} of {NORMAL:g} photons, {VIEWS} views, {zlib.crc32(text.encode()):08x}"

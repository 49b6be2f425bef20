"""Patches at random places of random images: what a denoiser is trained on.

A denoiser looks at a neighbourhood of a few dozen pixels, so one image holds thousands of lessons. A patch teaches as
much a pixel as the whole image does, and a batch of patches from many images varies more than a batch of few images.

Images    (n, 1, H, W), any H and W, one intensity unit.
Patches   (count, 1, size, size), in the images' type and on their device.

Used in notebooks 11 and 12.
"""

import torch
from torch import Tensor


def random_patches(
    images: Tensor,
    *,
    count: int,
    size: int,
    flips: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(count, 1, size, size) squares cut at random places of random images, mirrored and turned at random.

    Every image and every place in it is equally likely; so is each of the eight ways to lay a square down. What must
    stay together (a clean image and its noisy one) is cut clean first and made noisy after. The places are drawn
    before the turns: with and without flips a seed gives the same squares.

    Args:
        images: (n, 1, H, W).
        count: number of patches, 0 or more.
        size: pixels a side, at most the smaller side of the images.
        flips: whether patches are mirrored and turned by quarter turns; False where up and down must stay.
        generator: where the random numbers come from; it draws on its own device.

    Raises:
        ValueError: there is no image, a patch is larger than the images, or an argument is out of its range.

    Example:
        >>> images = torch.arange(48.0).reshape(1, 1, 6, 8)
        >>> patches = random_patches(images, count=5, size=4, generator=torch.Generator().manual_seed(0))
        >>> patches.shape, bool(torch.isin(patches, images).all())
        (torch.Size([5, 1, 4, 4]), True)
    """
    _check(images, count, size)
    device = images.device if generator is None else generator.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator, device=device).to(images.device)

    height, width = images.shape[2:]
    which, top, left = draw(len(images)), draw(height - size + 1), draw(width - size + 1)
    down = right = torch.arange(size, device=images.device).expand(count, size)  # (count, size)
    turn = None
    if flips:
        turn, upside, mirror = (draw(2).bool() for _ in range(3))
        down = torch.where(upside[:, None], size - 1 - down, down)
        right = torch.where(mirror[:, None], size - 1 - right, right)
    rows, columns = (top[:, None] + down)[:, :, None], (left[:, None] + right)[:, None]
    patches = images[which[:, None, None], 0, rows, columns]  # (count, size, size)
    if turn is not None:
        patches = torch.where(turn[:, None, None], patches.mT, patches)  # with a mirror image: a quarter turn
    return patches[:, None]


def _check(images: Tensor, count: int, size: int) -> None:
    """Refuse what no patch can be cut from; the message says what to write."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor, got {type(images).__name__}; stack them with torch.stack")
    shape = tuple(images.shape)
    if images.ndim != 4 or images.shape[1] != 1:
        cures = {2: "write images[None, None] for one image", 3: "write images[:, None]"}
        cure = cures.get(images.ndim, "average colours with images.mean(dim=1, keepdim=True)")
        raise ValueError(f"images must have shape (n, 1, H, W), got {shape}; {cure}")
    if not len(images):
        raise ValueError(f"images must hold at least one image, got {shape}; look at what was loaded")
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count}; ask for some patches")
    if size < 1 or size > min(shape[2:]):
        raise ValueError(
            f"size must be between 1 and the smaller side of the images, {min(shape[2:])}, got {size}; "
            "take smaller patches or larger images"
        )

"""Square patches of breast tissue, half of them with a mass: what a lesion classifier learns from.

Images    (n, 1, S, S) float32 grey values in [0, 1] on the films' scale; a pixel is 0.8 mm.
Labels    0 tissue, 1 a mass.
"""

import numpy as np
import torch
from torch import Tensor

from labkit.datasets.phantoms.regions import BENIGN, MALIGNANT, checked_arguments, make_regions


def lesion_patches(
    count: int, *, size: int = 64, seed: int = 0, cnr: tuple[float, float] = (0.8, 2.4)
) -> tuple[Tensor, Tensor]:
    """Square patches of breast tissue, every other one with a mass: to pretrain a lesion classifier on.

    Args:
        count: number of patches.
        size: side of a patch in pixels of 0.8 mm, 48 or more.
        seed: another seed, other patches; other regions than `lesion_regions` makes of it.
        cnr: range of the contrast to noise, as for the films.

    Returns:
        Images (n, 1, size, size) float32 in [0, 1]; has_lesion (n,) int64, 0 1 0 1 in turn.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> images, has_lesion = lesion_patches(4)
        >>> images.shape, has_lesion.tolist()
        (torch.Size([4, 1, 64, 64]), [0, 1, 0, 1])
    """
    count, size, seed, cnr = checked_arguments(count, size, seed, cnr, smallest=48)
    labels = np.array([0, BENIGN, 0, MALIGNANT])[np.arange(count) % 4]
    images, _ = make_regions(labels, size, seed, (12, 40), cnr, stream=2)
    return images, torch.arange(count) % 2

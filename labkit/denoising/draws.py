"""Random images whose numbers depend on the generator alone, not on the device of the images."""

import torch
from torch import Tensor


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers in the shape, type and place of `like`, drawn where the generator is.

    Example:
        >>> normal(torch.zeros(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def poisson(expected: Tensor, generator: torch.Generator | None) -> Tensor:
    """Counts with these expectations, in the shape, type and place of `expected`; no gradient.

    Example:
        >>> poisson(torch.zeros(2), torch.Generator().manual_seed(0))
        tensor([0., 0.])
    """
    device = expected.device if generator is None else generator.device
    return torch.poisson(expected.detach().to(device), generator=generator).to(expected.device)

"""What the checks' cases are made of: small tensors, the same on every run and on every machine."""

import torch
from torch import Tensor


def box_rows(*rows) -> Tensor:
    """(N, 4) float32 boxes; (0, 4) of nothing.

    Example:
        >>> box_rows([2, 1, 12, 6]).shape, box_rows().shape
        (torch.Size([1, 4]), torch.Size([0, 4]))
    """
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def floats(*values: float) -> Tensor:
    """(N,) float32."""
    return torch.tensor(values, dtype=torch.float32)


def whole(*values: int) -> Tensor:
    """(N,) int64."""
    return torch.tensor(values, dtype=torch.int64)


def flags(pattern: str) -> Tensor:
    """(N,) bool, one a sign: + is true.

    Example:
        >>> flags("+-+")
        tensor([ True, False,  True])
    """
    return torch.tensor([sign == "+" for sign in pattern], dtype=torch.bool)


def noise(*shape: int, seed: int) -> Tensor:
    """Normal noise from a generator of its own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int) -> Tensor:
    """Numbers in [0, 1) from a generator of its own."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def scattered_boxes(count: int, seed: int) -> Tensor:
    """`count` boxes in a frame of 90 by 50 pixels, wider than high, so that x and y cannot be exchanged unseen."""
    corner = uniform(count, 2, seed=seed) * floats(90, 50)
    size = 3 + uniform(count, 2, seed=seed + 1) * floats(30, 14)
    return torch.cat([corner, corner + size], dim=1)

"""Cases that look at the gradient of an answer: a loss that is right and cuts the graph trains nothing, in silence."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labkit.checks.engine import Case

# the sentence for an answer with the right numbers from which nothing can be learned
NO_GRADIENT = "no gradient flows: .item(), .tolist(), float(), .detach() and torch.tensor(…) cut the graph, and nothing trains; stay with tensors"  # noqa: E501


@dataclass(frozen=True)
class GradientCase(Case):
    """A call of which the gradient is compared, with respect to the arguments at the places `of`.

    An argument that is a module counts with all its weights.
    """

    of: tuple[int, ...] = (0,)

    def call(self, function: Callable) -> tuple[Any, tuple, dict]:
        """The gradients of what `function` gives, 0 where none flows; and its arguments as it left them."""
        args, options = copy.deepcopy((self.args, dict(self.options or {})))
        for place in self.of:
            args[place].requires_grad_()
        with torch.enable_grad():
            result = function(*args, **options)
            slopes = None if result is None else _slopes(result, [value for p in self.of for value in _inputs(args[p])])
        left = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)
        return (slopes[0] if slopes and len(slopes) == 1 else slopes), left, options


def _inputs(argument: Any) -> list[Tensor]:
    """The tensors that an argument's gradient is asked for."""
    return list(argument.parameters()) if isinstance(argument, nn.Module) else [argument]


def _slopes(result: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of a weighted sum of all numbers of a result; all weights differ, so that none can be exchanged."""
    parts = [part for part in (result if isinstance(result, tuple | list) else [result]) if isinstance(part, Tensor)]
    parts = [part.reshape(-1) for part in parts if part.requires_grad]
    if not parts:
        return [torch.zeros_like(value) for value in inputs]
    numbers = torch.cat(parts)
    weights = torch.linspace(1, 2, len(numbers), dtype=numbers.dtype, device=numbers.device)
    found = torch.autograd.grad((weights * numbers).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(value) if slope is None else slope for value, slope in zip(inputs, found, strict=True)]


def without_gradient(function: Callable) -> Callable:
    """The same numbers, cut off from what they were made of: the usual mistake of a loss."""

    def wrong(*args, **options):
        result = function(*args, **options)
        return tuple(part.detach() for part in result) if isinstance(result, tuple) else result.detach()

    return wrong

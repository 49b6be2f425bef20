"""The check of notebook 08, Faster R-CNN: the head of the region proposal network."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import noise
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


def rpn_head(student: Callable) -> Callable:
    """Check `my_rpn_head(features (B, C, h, w), conv, objectness, deltas) -> (B, h w K), (B, h w K, 4)` of notebook 08.

    Example:
        >>> rpn_head(lambda *args: _head(*args, between=lambda hidden: hidden)).__name__
        ✗ rpn_head: two cells, -1 and 2; the layers multiply by 1, by 1, and by 10 20 30 40: the ReLU makes 0 of the -1
        ...
          likely: the ReLU after the 3x3 convolution is missing
        ...
        'reference_rpn_head'
    """

    def case(what: str, batch: int, rows: int, columns: int, per_cell: int, kind: type[Case] = Case) -> Case:
        return kind(what, (noise(batch, 3, rows, columns, seed=rows), *_layers(3, per_cell)))

    cases = [
        Case(
            "two cells, 1 and 2; the layers multiply by 1, by 1, and by 10 20 30 40",
            (torch.tensor([[[[1.0, 2.0]]]]), *_plain_layers()),
        ),
        Case(
            "two cells, -1 and 2; the layers multiply by 1, by 1, and by 10 20 30 40: the ReLU makes 0 of the -1",
            (torch.tensor([[[[-1.0, 2.0]]]]), *_plain_layers()),
        ),
        case("one cell, one anchor", 1, 1, 1, 1),
        case("one cell, three anchors: four deltas for each, one anchor after the other", 1, 1, 1, 3),
        case("two rows of three cells, one anchor each", 1, 2, 3, 1),
        case("two rows of three cells, two anchors each: the anchors of a cell stand together", 1, 2, 3, 2),
        case("two images", 2, 3, 2, 2),
        case("the same, and the gradient: the network is trained through it", 2, 3, 2, 2, GradientCase),
        case("four rows of five cells, five anchors each", 1, 4, 5, 5),
    ]
    return run_check("rpn_head", student, reference_rpn_head, cases, mistakes=RPN_HEAD_MISTAKES)


def _layers(channels: int, per_cell: int) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """The three convolutions with weights of their own, the same each time."""
    make = partial(nn.utils.skip_init, nn.Conv2d)  # without a draw from the global generator
    both = make(channels, channels, 3, padding=1), make(channels, per_cell, 1), make(channels, 4 * per_cell, 1)
    for number, layer in enumerate(both):
        layer.weight.data = noise(*layer.weight.shape, seed=number)
        layer.get_parameter("bias").data = noise(layer.out_channels, seed=number + 3)
    return both


def _plain_layers() -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """Three convolutions that only multiply: by 1, by 1, and for the four deltas by 10, 20, 30 and 40."""
    layers = _layers(1, 1)
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1
    factors = middle, torch.ones(1, 1, 1, 1), torch.tensor([10.0, 20, 30, 40]).reshape(4, 1, 1, 1)
    for layer, factor in zip(layers, factors, strict=True):
        layer.weight.data = factor
        torch.nn.init.zeros_(layer.get_parameter("bias"))
    return layers


def reference_rpn_head(
    features: Tensor, conv: nn.Module, objectness: nn.Module, deltas: nn.Module
) -> tuple[Tensor, Tensor]:
    """(logits, deltas): row-major, the K anchors of a cell together."""
    return _head(features, conv, objectness, deltas)


def _rows(answers: Tensor) -> Tensor:
    return answers.permute(0, 2, 3, 1)


def _head(
    features: Tensor,
    conv: nn.Module,
    objectness: nn.Module,
    deltas: nn.Module,
    *,
    between: Callable = F.relu,
    hidden: Callable = lambda features, conv: conv(features),
    order: Callable = _rows,
    order_deltas: Callable | None = None,
    after: Callable = lambda answers: answers,
    four: Callable = lambda rows, count: rows.reshape(count, -1, 4),
    logits_from: str = "inner",
    deltas_from: str = "inner",
) -> tuple[Tensor, Tensor]:
    """The head with room for the usual slips; each of the two 1x1 convolutions looks at one of three maps."""
    raw = hidden(features, conv)
    maps = {"features": features, "raw": raw, "inner": between(raw)}
    logits = order(after(objectness(maps[logits_from]))).flatten(1)
    return logits, four((order_deltas or order)(after(deltas(maps[deltas_from]))), len(features))


RPN_HEAD_MISTAKES: dict[str, Callable] = {
    "the ReLU after the 3x3 convolution is missing": lambda *a: _head(*a, between=lambda x: x),
    "the 3x3 convolution is left out: both 1x1 convolutions look at what it gives": (
        lambda *a: _head(*a, hidden=lambda x, conv: x)
    ),
    "the deltas are taken from the features: both 1x1 convolutions look at what the 3x3 one gives": (
        lambda *a: _head(*a, deltas_from="features")
    ),
    "the deltas are taken from before the ReLU: both 1x1 convolutions look at what comes after it": (
        lambda *a: _head(*a, deltas_from="raw")
    ),
    "the logits are taken from before the ReLU: both 1x1 convolutions look at what comes after it": (
        lambda *a: _head(*a, logits_from="raw")
    ),
    "the 3x3 convolution is applied twice": lambda *a: _head(*a, hidden=lambda x, conv: conv(F.relu(conv(x)))),
    "a ReLU after the answers: logits and deltas may be negative": lambda *a: _head(*a, after=F.relu),
    "a sigmoid is taken: give logits, the loss takes it": (
        lambda *a: (reference_rpn_head(*a)[0].sigmoid(), reference_rpn_head(*a)[1])
    ),
    "the channels come first: permute(0, 2, 3, 1) before you flatten, so that a cell's anchors stand together": (
        lambda *a: _head(*a, order=lambda x: x)
    ),
    "the channels of the deltas come first: permute(0, 2, 3, 1) before you reshape, as with the logits": (
        lambda *a: _head(*a, order_deltas=lambda x: x)
    ),
    "the channels of the logits come first: permute(0, 2, 3, 1) before you flatten, as with the deltas": (
        lambda *a: _head(*a, order=lambda x: x, order_deltas=_rows)
    ),
    "the columns of the deltas are slowest: rows (y) come first, permute(0, 2, 3, 1)": (
        lambda *a: _head(*a, order_deltas=lambda x: x.permute(0, 3, 2, 1))
    ),
    "the columns are slowest: rows (y) come first, permute(0, 2, 3, 1)": (
        lambda *a: _head(*a, order=lambda x: x.permute(0, 3, 2, 1))
    ),
    "the four deltas are taken apart: the 4 K channels are four for the first anchor, then four for the next": (
        lambda *a: _head(*a, four=lambda rows, count: rows.unflatten(3, (4, -1)).transpose(3, 4).reshape(count, -1, 4))
    ),
    "the channels are parted before they come last: permute(0, 2, 3, 1) first, then reshape to (B, h w K, 4)": (
        lambda *a: _head(*a, order_deltas=lambda x: x, four=lambda x, count: x.reshape(count, 4, -1).transpose(1, 2))
    ),
    "the deltas are not parted: reshape them to (B, h w K, 4)": (
        lambda *a: _head(*a, four=lambda rows, count: rows.reshape(count, -1))
    ),
    "the images of the batch are joined: keep the first axis": (
        lambda *a: (_head(*a)[0].flatten(), _head(*a)[1].flatten(0, 1))
    ),
    "only the first image is answered: keep the batch": lambda *a: tuple(part[:1] for part in _head(*a)),
    "the logits have an axis too many: (B, h w K)": lambda *a: (_head(*a)[0][..., None], _head(*a)[1]),
    "the logits come first, then the deltas": lambda *a: _head(*a)[::-1],
    NO_GRADIENT: without_gradient(reference_rpn_head),
}

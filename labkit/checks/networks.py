"""Checks of notebook 11, denoising with CNNs: a block of DnCNN. What it is trained for: networks_loss.py."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient

EPS = 1e-5


def _draw_block(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_batch

    return draw_batch(case, expected, got)


def dncnn_block(student: Callable) -> Callable:
    """Check `my_dncnn_block(features (B, C, H, W), weight (D, C, 3, 3), gamma (D,), beta (D,))` of notebook 11.

    It gives back (B, D, H, W): convolution, batch norm over the batch, ReLU.

    Example:
        >>> dncnn_block(lambda *args: _block(*args, last=lambda x: x)).__name__
        ✗ dncnn_block: one image, one channel, a kernel that copies: normalise, then ReLU
        ...
          likely: the ReLU is missing: what is below 0 becomes 0
        ...
        'reference_dncnn_block'
    """
    copies = torch.zeros(1, 1, 3, 3)
    copies[0, 0, 1, 1] = 1
    beside = torch.zeros(1, 1, 3, 3)
    beside[0, 0, 1, 2] = 1  # each pixel becomes its right neighbour
    one, zero = torch.ones(1), torch.zeros(1)
    grey, deep = noise(1, 1, 3, 5, seed=0), 2 * noise(3, 2, 5, 7, seed=1) + 1
    uneven = torch.cat([noise(1, 1, 4, 6, seed=2), 5 + 3 * noise(1, 1, 4, 6, seed=3)])  # a dark and a bright image
    two = torch.stack([0.3 * noise(3, 3, seed=4), 2 * noise(3, 3, seed=5)])[:, None]  # (2, 1, 3, 3)
    weight = noise(4, 2, 3, 3, seed=6)
    gamma, beta = floats(0.5, 2, -1.5, 1), floats(0.3, -0.4, 0.2, 1.5)
    cases = [
        Case("one image, one channel, a kernel that copies: normalise, then ReLU", (grey, copies, one, zero)),
        Case("a kernel of ones at the border: outside the image lie zeros", (grey, torch.ones(1, 1, 3, 3), one, zero)),
        Case("a kernel that looks to the right", (grey, beside, one, zero)),
        Case("two images, one of them bright: one mean and one deviation for both", (uneven, copies, one, zero)),
        Case("two channels of unequal spread: each has its own mean and deviation", (grey, two, *2 * [one.repeat(2)])),
        Case("gamma and beta: scaled first, then shifted", (grey, copies, floats(2), floats(0.5))),
        Case("a channel that hardly varies: eps counts", (3e-3 * grey, copies, one, floats(1))),
        Case("a channel that does not vary at all: beta is left", (torch.zeros(1, 1, 2, 4), copies, one, one)),
        GradientCase(
            "the gradients of features, weight, gamma and beta: the network is trained through it",
            (deep, weight, gamma, beta),
            of=(0, 1, 2, 3),
        ),
        Case("3 images, 2 channels in, 4 out", (deep, weight, gamma, beta)),
        Case("3 images as wide as they have channels", (deep[..., :4], weight, gamma, beta)),
    ]
    return run_check(
        "dncnn_block", student, reference_dncnn_block, cases, mistakes=DNCNN_BLOCK_MISTAKES, draw=_draw_block
    )


def reference_dncnn_block(features: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """torch's own three."""
    convolved = F.conv2d(features, weight, padding=1)
    return F.batch_norm(convolved, None, None, gamma, beta, training=True, eps=EPS).relu()


def _block(
    features: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    convolve: Callable = lambda x, weight: F.conv2d(x, weight, padding=1),
    over: tuple[int, ...] = (0, 2, 3),
    correction: int = 0,
    centred: bool = True,
    divide: Callable = lambda centred, variance: centred / (variance + EPS).sqrt(),
    scale: Callable = lambda x, gamma, beta: x * gamma[:, None, None] + beta[:, None, None],
    held: bool = False,
    last: Callable = torch.relu,
) -> Tensor:
    """A block with room for the usual slips."""
    x = convolve(features, weight)
    mean = x.mean(over, keepdim=True)
    variance = x.var(over, correction=correction, keepdim=True)
    if held:
        mean, variance = mean.detach(), variance.detach()
    return last(scale(divide(x - mean if centred else x, variance), gamma, beta))


def _relu_first(features: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return _block(
        features,
        weight,
        gamma,
        beta,
        convolve=lambda x, w: F.conv2d(x, w, padding=1).relu(),
        last=lambda x: x,
    )


def _no_norm(features: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.conv2d(features, weight, padding=1).relu()


def _norm_of_input(features: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    normalised = F.batch_norm(features, None, None, training=True, eps=EPS)
    return (F.conv2d(normalised, weight, padding=1) * gamma[:, None, None] + beta[:, None, None]).relu()


DNCNN_BLOCK_MISTAKES: dict[str, Callable] = {
    "the ReLU is missing: what is below 0 becomes 0": lambda *a: _block(*a, last=lambda x: x),
    "the ReLU comes last, after the batch norm": _relu_first,
    "a ReLU too many, before the batch norm: there is one, at the end": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(x, w, padding=1).relu())
    ),
    "a ReLU too many, on what comes in: there is one, at the end": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(x.relu(), w, padding=1))
    ),
    "the mean is not taken off: (y - mean) / root": lambda *a: _block(*a, centred=False),
    "the batch norm is missing between convolution and ReLU": _no_norm,
    "the output of the convolution is normalised, not its input": _norm_of_input,
    "a batch norm has one mean for the whole batch, not one for each image: take dims 0, 2 and 3": (
        lambda *a: _block(*a, over=(2, 3))
    ),
    "each channel has its own mean and deviation: dim 1 is left out": lambda *a: _block(*a, over=(0, 1, 2, 3)),
    "each image has a mean over its channels here; take dims 0, 2 and 3": lambda *a: _block(*a, over=(1, 2, 3)),
    "each row has its own mean here; take dims 0, 2 and 3": lambda *a: _block(*a, over=(0, 1, 3)),
    "each pixel has its own mean here; take dims 0, 2 and 3": lambda *a: _block(*a, over=(0, 1)),
    "divide by the number of values, not by one less: var(…, correction=0)": lambda *a: _block(*a, correction=1),
    "divide by the square root of the variance": (
        lambda *a: _block(*a, divide=lambda centred, variance: centred / (variance + EPS))
    ),
    "eps is added to the variance, under the root": (
        lambda *a: _block(*a, divide=lambda centred, variance: centred / (variance.sqrt() + EPS))
    ),
    "eps is missing: a channel that does not vary gives 0 / 0": (
        lambda *a: _block(*a, divide=lambda centred, variance: centred / variance.sqrt())
    ),
    "gamma scales and beta shifts, not the other way round": (lambda f, w, gamma, beta: _block(f, w, beta, gamma)),
    "scale by gamma first, then add beta": (
        lambda *a: _block(*a, scale=lambda x, gamma, beta: (x + beta[:, None, None]) * gamma[:, None, None])
    ),
    "beta is missing: it is added after the scaling": (
        lambda *a: _block(*a, scale=lambda x, gamma, beta: x * gamma[:, None, None])
    ),
    "gamma is missing: scale what was normalised": (
        lambda *a: _block(*a, scale=lambda x, gamma, beta: x + beta[:, None, None])
    ),
    "gamma (D,) alone meets the last axis, the columns: write gamma[:, None, None]": (
        lambda *a: _block(*a, scale=lambda x, gamma, beta: x * gamma + beta)
    ),
    "padding=1 is missing: the image must keep its size": lambda *a: _block(*a, convolve=F.conv2d),
    "outside the image lie zeros, not the mirrored image": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), w))
    ),
    "outside the image lie zeros, not its border once more": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), w))
    ),
    "the kernel is turned over: torch's conv2d uses it as it is": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(x, w.flip(2, 3), padding=1))
    ),
    "the kernel is transposed: rows are y, columns are x": (
        lambda *a: _block(*a, convolve=lambda x, w: F.conv2d(x, w.mT, padding=1))
    ),
    "mean and variance are part of the computation: no .detach() on them": lambda *a: _block(*a, held=True),
    NO_GRADIENT: without_gradient(reference_dncnn_block),
}

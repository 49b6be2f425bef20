"""The check of notebook 16, attention heatmaps: Grad-CAM."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit.checks.cases import HintCase
from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, noise, whole
from labkit.detection.saliency import grad_cam as package_grad_cam


def grad_cam(student: Callable) -> Callable:
    """Check `my_grad_cam(features (B, C, h, w), head, asked (B,)) -> (B, h, w)` of notebook 16.

    Example:
        >>> grad_cam(lambda features, head, asked: reference_grad_cam(features, head, 0 * asked)).__name__
        ✗ grad_cam: two classes, the second is asked
        ...
          likely: each image is asked about its own class, not always about the first
        ...
        'reference_grad_cam'
    """
    two = floats(3, 1, 0, 2).reshape(1, 2, 1, 2)
    one = two, _plain([1, -1]), whole(0)

    def case(batch: int, channels: int, height: int, width: int, asked: tuple[int, ...], seed: int) -> tuple:
        head = CurvedHead(noise(1 + max(asked), channels, seed=seed), 0.7)
        return noise(batch, channels, height, width, seed=seed + 1) + 0.3, head, whole(*asked)

    cases = [
        HintCase("2 channels of 1 x 2, z = mean of the first - mean of the second", one, hints=HINTS),
        HintCase("the features that come in stay without `requires_grad`: .detach() first", one, keeps=True),
        Case("two classes, the second is asked", (two, _plain([1, -1], [-1, 2]), whole(1))),
        Case("two classes, the weaker one is asked", (two, _plain([2, 1], [1, -0.5]), whole(1))),
        Case("a class that nothing speaks for: 0 everywhere", (two, _plain([-1, -2]), whole(0))),
        Case("a slope that differs from place to place: its mean counts", case(1, 2, 2, 3, (0,), 10)),
        Case("one image, 3 x 5, three classes", case(1, 4, 3, 5, (2,), 20)),
        Case("2 images, both asked about the first class", case(2, 3, 2, 4, (0, 0), 30)),
        Case("3 images, each asked about another class", case(3, 2, 4, 3, (1, 0, 2), 40)),
        Case("as many images as channels", case(3, 3, 2, 4, (0, 1, 1), 50)),
        Case("as many classes as channels and columns", case(2, 3, 4, 3, (2, 1), 60)),
        Case("5 images of 6 x 7 with 4 channels", case(5, 4, 6, 7, (1, 2, 0, 0, 1), 70)),
    ]
    return run_check("grad_cam", student, reference_grad_cam, cases, mistakes=GRAD_CAM_MISTAKES, draw=_draw)


HINTS = {
    "does not require grad": "nothing asks for a slope: features = features.detach().requires_grad_() first, and then "
    "head(features); under torch.no_grad() there are no slopes at all",
    "appears to not have been used": "head must be given the same tensor that asks for the slope: first "
    "features = features.detach().requires_grad_(), then head(features)",
}


class CurvedHead(nn.Module):
    """Logits (B, K): the mean over all places of sum of w (A + curve / 2 · A²), with weights w (K, C)."""

    def __init__(self, weights: Tensor, curve: float):
        super().__init__()
        self.weights, self.curve = nn.Parameter(weights), curve

    def forward(self, features: Tensor) -> Tensor:
        """(B, K) of features (B, C, h, w)."""
        bent = features + self.curve / 2 * features**2
        return bent.mean(dim=(2, 3)) @ self.weights.T

    def __repr__(self) -> str:
        bent = f" + {self.curve / 2:g} A²" if self.curve else ""
        return f"z = mean of w A{bent}, w of {tuple(self.weights.shape)}"


def _plain(*rows: list[float]) -> CurvedHead:
    return CurvedHead(torch.tensor([[float(value) for value in row] for row in rows]), 0.0)


def reference_grad_cam(features: Tensor, head: Callable, asked: Tensor) -> Tensor:
    """`labkit.detection.saliency.grad_cam`."""
    return package_grad_cam(features, head, asked)


def _draw(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import draw_maps

    if got.shape != expected.shape:
        return draw_maps(case.what, case.args[0][0], expected[0], got.reshape(-1, *got.shape[-2:])[0])
    far = (got.detach().double() - expected.double()).abs().nan_to_num(nan=torch.inf)
    row = int(far.flatten(1).amax(dim=1).argmax())
    which = f", image {row}" if len(expected) > 1 else ""
    return draw_maps(case.what + which, case.args[0][row], expected[row], got[row])


def _chosen(logits: Tensor, asked: Tensor) -> Tensor:
    return logits.gather(1, asked[:, None]).sum()


def _weigh(slope: Tensor) -> Tensor:
    return slope.mean(dim=(2, 3), keepdim=True)


def _cam(
    features: Tensor,
    head: Callable,
    asked: Tensor,
    *,
    score: Callable = _chosen,
    weigh: Callable = _weigh,
    product: Callable = lambda weights, features, slope: weights * features,
    add: Callable = lambda products: products.sum(dim=1),
    last: Callable = torch.relu,
) -> Tensor:
    """Grad-CAM with room for the usual slips."""
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(head(features), asked), features)
    return last(add(product(weigh(slope), features.detach(), slope)))


def _with(**slip) -> Callable:
    return lambda features, head, asked: _cam(features, head, asked, **slip)


def _to_one(maps: Tensor) -> Tensor:
    return maps.relu() / maps.flatten(1).amax(dim=1).clamp(min=1e-6)[:, None, None]


def _strongest(logits: Tensor, asked: Tensor) -> Tensor:
    return logits.amax(dim=1).sum()


GRAD_CAM_MISTAKES: dict[str, Callable] = {
    "the ReLU at the end is missing: what speaks against the class is left out": _with(last=lambda maps: maps),
    "what speaks against the class becomes 0: a ReLU, not the absolute value": _with(last=torch.abs),
    "the ReLU comes after the sum over the channels, not before": (
        _with(add=lambda products: products.relu().sum(dim=1))
    ),
    "the sum over the channels is wanted, not their mean": _with(add=lambda products: products.mean(dim=1)),
    "the sum over the channels is wanted, not their maximum": _with(add=lambda products: products.amax(dim=1)),
    "each channel's slope is averaged over its map, not summed": (
        _with(weigh=lambda slope: slope.sum(dim=(2, 3), keepdim=True))
    ),
    "each channel's slope is averaged over its map, not its maximum taken": (
        _with(weigh=lambda slope: slope.amax(dim=(2, 3), keepdim=True))
    ),
    "each image has weights of its own: the mean runs over the map, not over the batch too": (
        _with(weigh=lambda slope: slope.mean(dim=(0, 2, 3), keepdim=True))
    ),
    "the slope is averaged over the map first: this is slope times feature, place by place": (
        _with(weigh=lambda slope: slope)
    ),
    "the weights multiply the features, not the slope": (
        _with(product=lambda weights, features, slope: weights * slope)
    ),
    "slopes below 0 count too: what speaks against the class is taken off": (
        _with(weigh=lambda slope: slope.relu().mean(dim=(2, 3), keepdim=True))
    ),
    "weights below 0 count too: what speaks against the class is taken off": (
        _with(weigh=lambda slope: slope.mean(dim=(2, 3), keepdim=True).relu())
    ),
    "a weight keeps its sign: no absolute value": (
        _with(weigh=lambda slope: slope.mean(dim=(2, 3), keepdim=True).abs())
    ),
    "the slope is missing: this adds up the features themselves": (
        _with(weigh=lambda slope: torch.ones_like(slope[:, :, :1, :1]))
    ),
    "each image is asked about its own class, not always about the first": (
        _with(score=lambda logits, asked: logits[:, 0].sum())
    ),
    "each image is asked about its own class, not all about that of the first image, asked[0]": (
        _with(score=lambda logits, asked: logits[:, asked[0]].sum())
    ),
    "every image has a map: ask the logits of all, here only the first image is asked": (
        _with(score=lambda logits, asked: logits[0, asked[0]])
    ),
    "the slope of the logit is wanted, not of log_softmax: the other classes do not count": (
        _with(score=lambda logits, asked: _chosen(logits.log_softmax(dim=1), asked))
    ),
    "the map is weights times features, with its sign: no minus": _with(last=lambda maps: torch.relu(-maps)),
    "the features are missing: weights times features, not the slopes alone": (
        _with(product=lambda weights, features, slope: slope, add=lambda products: products.mean(dim=1))
    ),
    "the class that is asked counts, not the one with the highest logit": _with(score=_strongest),
    "the class that is asked counts, not the sum of all": _with(score=lambda logits, asked: logits.sum()),
    "logits[:, asked] takes every asked class for every image: logits[arange, asked], or gather": (
        _with(score=lambda logits, asked: logits[:, asked].sum())
    ),
    "the slope of the logit is wanted, not of its softmax": (
        _with(score=lambda logits, asked: _chosen(logits.softmax(dim=1), asked))
    ),
    "the slope of the logit is wanted, not of its sigmoid": (
        _with(score=lambda logits, asked: _chosen(logits.sigmoid(), asked))
    ),
    "the slope of the logit is wanted, not of the loss, which has the other sign": (
        _with(score=lambda logits, asked: -_chosen(logits.log_softmax(dim=1), asked))
    ),
    "a mean over the images divides every slope by the batch: take their sum": (
        _with(score=lambda logits, asked: _chosen(logits, asked) / len(asked))
    ),
    "the map is not divided by its largest value: maps of two images could not be compared": _with(last=_to_one),
}

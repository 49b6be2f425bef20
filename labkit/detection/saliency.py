"""Saliency: where a network looked, as maps; and two questions about such maps.

Grad-CAM             Selvaraju et al., "Grad-CAM", ICCV 2017
plain gradient       Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", ICLR workshop 2014
guided               Springenberg et al., "Striving for simplicity", ICLR workshop 2015
does it point?       the pointing game: Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018
does it depend on    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: the layers are made random one
the network?         after the other, from the top; a map that stays the same says nothing of what was learned

Shapes   B images, C channels, K classes, H W image, h w features. Taught in notebook 16.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from scipy.stats import rankdata
from torch import Tensor, nn


def grad_cam(features: Tensor, head: Callable[[Tensor], Tensor], asked: Tensor) -> Tensor:
    """What in each image speaks for the class that is asked, place by place.

    Each channel weighs as much as the asked logit rises with it, in the mean over its map.

    Args:
        features: (B, C, h, w) of a layer.
        head: what comes after that layer; it takes the features to logits (B, K), each image by itself.
        asked: (B,) int64, the column of the logits that each image is asked about.

    Returns:
        (B, h, w), 0 or more, in no unit.

    Raises:
        ValueError: a shape is wrong.

    Example:
        >>> features = torch.tensor([[[[3.0, 1.0]], [[0.0, 2.0]]]])  # two channels of 1 x 2
        >>> difference = lambda maps: (maps[:, 0] - maps[:, 1]).mean(dim=(1, 2))[:, None]
        >>> grad_cam(features, difference, torch.tensor([0]))
        tensor([[[1.5000, 0.0000]]])
    """
    if features.ndim != 4:
        raise ValueError(f"features must be (B, C, h, w), got {tuple(features.shape)}; write features[None] for one")
    _check_asked(asked, len(features))
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        logits = head(features)
        (slope,) = torch.autograd.grad(logits.gather(1, asked[:, None]).sum(), features)  # images do not see each other
    weights = slope.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    return (weights * features.detach()).sum(dim=1).relu()


def gradient_map(
    network: nn.Module,
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    at: nn.Module,
    guided: bool = False,
) -> Tensor:
    """How strongly each place of the network's input moves its score: the absolute gradient, added up over channels.

    Args:
        network: in eval mode.
        score: (B,) numbers of the images; it calls the network.
        images: (B, C, H, W).
        at: the module of the network after which the gradient is taken. Notebook 16 takes the views of local contrast,
            because the derivative of a local spread is infinite where a film is black.
        guided: guided backpropagation: each ReLU also holds back what is negative of the gradient from above.

    Returns:
        (B, H, W) of the size of what `at` gives.

    Example:
        >>> first = nn.Conv2d(1, 1, 1, bias=False)
        >>> _ = first.weight.data.fill_(2.0)
        >>> layers = nn.Sequential(first, nn.ReLU())
        >>> image = torch.tensor([[[[1.0, -3.0]]]])
        >>> gradient_map(layers, lambda films: 5 * layers(films).sum(dim=(1, 2, 3)), image, at=first)
        tensor([[[5., 0.]]])
    """
    seen: list[Tensor] = []

    def cut(_module: nn.Module, _given: tuple, output: Tensor) -> Tensor:
        seen.append(output.detach().clone().requires_grad_())  # a ReLU in place would change it otherwise
        return seen[-1] * 1

    def hold_back(_module: nn.Module, _given: tuple, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda slope: slope.clamp(min=0))

    with ExitStack() as stack, torch.enable_grad():
        stack.callback(at.register_forward_hook(cut).remove)
        for module in network.modules() if guided else ():
            if isinstance(module, nn.ReLU):
                stack.callback(module.register_forward_hook(hold_back).remove)
        total = score(images).sum()
        if len(seen) != 1:
            raise ValueError(f"the score must run the module `at` once, got {len(seen)} times; give one it runs")
        (slope,) = torch.autograd.grad(total, seen[0])
    return slope.abs().sum(dim=1)


def randomised(
    network: nn.Module,
    groups: Callable[[nn.Module], Mapping[str, Sequence[nn.Module]]],
    images: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[str, nn.Module]]:
    """(name, network) with one more group of layers made random at a time: the cascade of Adebayo et al.

    Weights are drawn as before a training (He et al. 2015). Normalisations start anew, too, and settle on the images:
    with the old ones, random convolutions would only be shifted out of the range in which a ReLU lets anything pass.

    Args:
        network: stays as it is; the ones that come are copies, in eval mode.
        groups: name -> modules of a network, the top first.
        images: (B, C, H, W), that the normalisations settle on.
        generator: of the weights, on the CPU.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
        >>> groups = lambda n: {"top": [n[2]], "all": [n[0]]}
        >>> cascade = randomised(network, groups, torch.rand(1, 1, 4, 5))
        >>> [(name, torch.equal(one[0].weight, network[0].weight)) for name, one in cascade]
        [('top', True), ('all', False)]
    """
    network = copy.deepcopy(network).eval()
    fresh: list[nn.BatchNorm2d] = []
    for name, modules in groups(network).items():
        for part in [part for module in modules for part in module.modules()]:
            if isinstance(part, nn.Conv2d | nn.Linear):
                _draw_weights(part, generator)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()
                part.momentum = None  # the mean of what it sees
                fresh.append(part)
        for norm in fresh:
            norm.reset_running_stats()
            norm.train()
        with torch.no_grad():
            network(images)
        yield name, network.eval()


@torch.no_grad()
def _draw_weights(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
    fan_in = layer.weight[0].numel()
    drawn = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
    layer.weight.copy_(drawn)
    if layer.bias is not None:
        layer.bias.zero_()


def rank_correlation(maps: Tensor, others: Tensor, where: Tensor) -> Tensor:
    """(B,) Spearman's rank correlation of two maps, image by image; 0 where one of them is the same everywhere.

    Ranks ask which places are brighter than which, and not by how much. That suits maps without a unit.

    Args:
        maps, others: (B, h, w).
        where: (B, h, w) bool, the places that count; the black film around a breast would agree with itself.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> one = torch.tensor([[[1.0, 2.0, 3.0, 9.0]]])
        >>> other = torch.tensor([[[0.0, 1.0, 50.0, 0.0]]])
        >>> rank_correlation(one, other, one < 9)
        tensor([1.])
    """
    if not maps.shape == others.shape == where.shape or maps.ndim != 3:
        shapes = [tuple(value.shape) for value in (maps, others, where)]
        raise ValueError(f"all three must be (B, h, w), got {shapes}; bring them to one size")
    values = []
    for one, other, mask in zip(maps.cpu(), others.cpu(), where.cpu(), strict=True):
        ranks = torch.from_numpy(rankdata(torch.stack([one[mask], other[mask]]).numpy(), axis=1))
        ranks = ranks - ranks.mean(dim=1, keepdim=True)
        size = ranks.norm(dim=1).prod()
        values.append(float((ranks[0] * ranks[1]).sum() / size) if size > 0 else 0.0)
    return torch.tensor(values)


def pointing_hits(maps: Tensor, boxes: Sequence[Tensor], *, stride: int, margin: float = 0.0) -> Tensor:
    """(B,) bool: the brightest place of a map lies in one of its boxes. A map that is nowhere above 0 points nowhere.

    Args:
        maps: (B, h, w).
        boxes: B tensors (N, 4), pixels.
        stride: pixels a cell; a cell's place is its middle.
        margin: pixels that a box is widened by on every side.

    Raises:
        ValueError: there are not as many maps as lists of boxes.

    Example:
        >>> maps = torch.zeros(1, 3, 5)
        >>> maps[0, 1, 4] = 1  # x = 18, y = 6 at stride 4
        >>> pointing_hits(maps, [torch.tensor([[16.0, 4.0, 20.0, 8.0]])], stride=4)
        tensor([True])
    """
    if maps.ndim != 3 or len(maps) != len(boxes):
        raise ValueError(
            f"maps must be (B, h, w) with boxes for each, got {tuple(maps.shape)} and {len(boxes)}; pair them"
        )
    hits = []
    for row, best, own in zip(maps.flatten(1).argmax(dim=1), maps.flatten(1).amax(dim=1), boxes, strict=True):
        y, x = row // maps.shape[2], row % maps.shape[2]
        place = (torch.stack([x, y]).to(own) + 0.5) * stride
        inside = (place >= own[:, :2] - margin) & (place < own[:, 2:] + margin)  # (N, 2)
        hits.append(inside.all(dim=1).any() & (best > 0).to(own.device))
    return torch.stack(hits)


def _check_asked(asked: Tensor, count: int) -> None:
    if asked.shape != (count,) or asked.is_floating_point():
        raise ValueError(
            f"asked must be whole numbers ({count},), one column an image, got {asked.dtype} of {tuple(asked.shape)}; "
            "write torch.full((B,), column)"
        )

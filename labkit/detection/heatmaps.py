"""Heatmaps: boxes as hills, the loss that teaches a network to draw them, and the peaks that are its detections.

Law and Deng, "CornerNet", ECCV 2018 (the loss); Zhou, Wang and Krähenbühl, "Objects as points", arXiv 2019 (centres and
peaks, CenterNet); Liu et al., "Training-time-friendly network for real-time object detection", AAAI 2020 (hills as wide
and as high as their box).

Shapes   H W pixels, h w cells of `stride` pixels, N boxes. Taught in notebook 16.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.detection.box_checks import check_boxes
from labkit.detection.evaluation import hit_center_in_box

ALPHA, BETA = 2.0, 4.0  # of the loss, CornerNet's
SIGMAS = 6.0  # standard deviations in a box's side: at its edge the hill has fallen to exp(-4.5), 1 %
STRIDE = 2  # pixels a cell
NEIGHBOURS = 7  # cells a side; no two lesions of a film have their centres within three cells, 6 pixels


def gaussian_heatmap(boxes: Tensor, size: tuple[int, int], *, stride: int) -> Tensor:
    """(H / stride, W / stride): a hill of height 1 on the cell that holds the centre of each box, the maximum of all.

    Args:
        boxes: (N, 4) xyxy pixels; N may be 0.
        size: height and width in pixels, multiples of the stride.
        stride: pixels a cell; cell i reaches from i · stride to (i + 1) · stride.

    Returns:
        float32, 0 to 1, and 1 in N cells (fewer where two boxes share one).

    Raises:
        ValueError: a box has no area or its centre lies outside, or the size is no multiple of the stride.

    Example:
        >>> gaussian_heatmap(torch.tensor([[0.0, 0.0, 24.0, 12.0]]), (12, 28), stride=4)[1].round(decimals=3)
        tensor([0.0110, 0.1350, 0.6070, 1.0000, 0.6070, 0.1350, 0.0110])
    """
    check_boxes(boxes, name="boxes")
    height, width = size
    if height % stride or width % stride:
        raise ValueError(f"size must be multiples of the stride {stride}, got {height} x {width}; pad the film first")
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / stride).floor()  # (N, 2) column, row
    if ((cells < 0) | (cells >= cells.new_tensor([width // stride, height // stride]))).any():
        raise ValueError(
            f"centres must lie in {height} x {width} pixels, got one outside; mind that height comes first"
        )
    sigmas = (boxes[:, 2:] - boxes[:, :2]) / SIGMAS / stride  # (N, 2) in cells
    columns = torch.arange(width // stride, device=boxes.device) - cells[:, :1]  # (N, w)
    rows = torch.arange(height // stride, device=boxes.device) - cells[:, 1:]  # (N, h)
    across, down = (-0.5 * (d / sigmas[:, i, None]) ** 2 for i, d in enumerate((columns, rows)))
    hills = (down[:, :, None] + across[:, None, :]).exp()  # (N, h, w)
    return torch.cat([hills, hills.new_zeros(1, height // stride, width // stride)]).amax(dim=0)


def heatmap_loss(logits: Tensor, target: Tensor, *, alpha: float = ALPHA, beta: float = BETA) -> Tensor:
    """CornerNet's focal loss with a milder penalty near a centre: a scalar, the sum over all cells by the centres.

    A cell where the target is 1 should say 1; all others should say 0, but on the slope of a hill that counts for
    little: (1 - target) ** beta. Cells that are nearly right count for little too: (1 - p) ** alpha, p ** alpha.

    Args:
        logits: of any shape, before the sigmoid.
        target: of `gaussian_heatmap`, in the same shape.
        alpha, beta: the two exponents.

    Returns:
        A scalar; where there is no centre the sum is divided by 1.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> heatmap_loss(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]]))  # twice 1/4 of ln 2
        tensor(0.3466)
    """
    if logits.shape != target.shape:
        raise ValueError(
            f"logits and target must have one shape, got {tuple(logits.shape)} and {tuple(target.shape)}; "
            "take the channel's axis away with logits[:, 0]"
        )
    is_center, p = target == 1, logits.sigmoid()
    centers = (1 - p) ** alpha * F.logsigmoid(logits)
    others = (1 - target) ** beta * p**alpha * F.logsigmoid(-logits)
    return -torch.where(is_center, centers, others).sum() / is_center.sum().clamp(min=1)


def heatmap_peaks(
    heatmap: Tensor, *, stride: int = STRIDE, neighbours: int = NEIGHBOURS, most: int = 20, score_threshold: float = 0.0
) -> dict[str, Tensor]:
    """The cells that none of their neighbours exceeds, best first: `centers` (P, 2) x y in pixels, `scores` (P,).

    Args:
        heatmap: (h, w), 0 to 1.
        stride: pixels a cell; a centre is the middle of its cell.
        neighbours: cells a side of the square in which a peak must be the highest, odd.
        most: peaks at most.
        score_threshold: peaks must be higher.

    Raises:
        ValueError: heatmap has other axes, or neighbours is even.

    Example:
        >>> heatmap = gaussian_heatmap(torch.tensor([[0.0, 0.0, 24.0, 12.0]]), (12, 28), stride=4)
        >>> found = heatmap_peaks(heatmap, stride=4)
        >>> found["centers"], found["scores"]
        (tensor([[14.,  6.]]), tensor([1.]))
    """
    if heatmap.ndim != 2 or neighbours % 2 == 0:
        raise ValueError(
            f"expected a heatmap (h, w) and an odd number of neighbours, got {tuple(heatmap.shape)} and {neighbours}; "
            "index the batch first"
        )
    around = F.max_pool2d(heatmap[None, None], neighbours, stride=1, padding=neighbours // 2)[0, 0]
    rows, columns = ((heatmap == around) & (heatmap > score_threshold)).nonzero(as_tuple=True)
    scores, order = heatmap[rows, columns].sort(descending=True, stable=True)
    order = order[:most]
    centers = (torch.stack([columns, rows], dim=1)[order] + 0.5) * stride
    return {"centers": centers.to(heatmap.dtype), "scores": scores[:most]}


def center_errors(
    detections: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]], *, score_threshold: float = 0.0
) -> Tensor:
    """(F,) pixels between each lesion that is found and the best mark on it, in the order of the films.

    A lesion is found where the centre of a mark lies in its box, as `hit_center_in_box` asks.

    Args:
        detections: one dict a film with `scores`, and with `centers` (P, 2) or `boxes` (P, 4).
        targets: one dict a film with `boxes`.
        score_threshold: lower marks do not count.

    Raises:
        ValueError: there are not as many films of each.

    Example:
        >>> found = {"centers": torch.tensor([[5.0, 6.0], [7.0, 6.0]]), "scores": torch.tensor([0.4, 0.9])}
        >>> center_errors([found], [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 12.0], [20.0, 20.0, 30.0, 30.0]])}])
        tensor([3.])
    """
    if len(detections) != len(targets):
        raise ValueError(f"expected one dict a film, got {len(detections)} and {len(targets)}; pair them")
    errors = []
    for found, target in zip(detections, targets, strict=True):
        marks = found.get("centers")
        marks = (found["boxes"][:, :2] + found["boxes"][:, 2:]) / 2 if marks is None else marks
        on = hit_center_in_box()({"centers": marks}, target) & (found["scores"] >= score_threshold)[:, None]  # (P, T)
        middle = (target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2
        for lesion in on.any(dim=0).nonzero()[:, 0]:
            best = torch.where(on[:, lesion], found["scores"], -torch.inf).argmax()
            errors.append((marks[best] - middle[lesion]).norm())
    return torch.stack(errors) if errors else torch.zeros(0)

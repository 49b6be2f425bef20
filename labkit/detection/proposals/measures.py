"""How good a set of boxes is as a place to look for objects.

A set of proposals is judged by the truth alone: is there a box near each object? How many were needed, and are they
found again when the image changes a little? After Hosang, Benenson, Dollar and Schiele, "What makes for effective
detection proposals?", PAMI 38:814, 2016.

Proposals  list, one (R, 4) tensor an image, xyxy pixels, best first.
Targets    list, one dict an image: `boxes` (T, 4), and `labels` (T,) where a label is asked for.
Taught in notebook 05.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate
from torchvision.ops import box_iou
from torchvision.transforms.functional import center_crop, gaussian_blur

from labkit.detection.boxes import check_boxes
from labkit.detection.images import check_proposal_form
from labkit.detection.proposals.baselines import check_image

STEEPEST = 20.0  # degrees; the part of an image that stays visible under any rotation up to this one is compared


def best_overlaps(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    count: int | None = None,
    label: int | None = None,
) -> Tensor:
    """IoU of each true box with the nearest of the first `count` proposals of its image.

    Args:
        proposals: one (R, 4) an image, best first.
        targets: one dict an image, `boxes` (T, 4) and with a label `labels` (T,).
        count: how many proposals of each image count; all by default.
        label: only true boxes of this label count; all by default.

    Returns:
        (total T,) float32; 0 where an image has no proposals.

    Raises:
        ValueError: lengths differ, or boxes are wrong.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0]])}]
        >>> best_overlaps([torch.tensor([[0.0, 0.0, 4.0, 1.0], [0.0, 0.0, 4.0, 2.0]])], truth, count=1)
        tensor([0.5000])
    """
    if len(proposals) != len(targets):
        raise ValueError(
            f"expected one set of proposals for each image, got {len(proposals)} for {len(targets)} targets; pair them"
        )
    found = []
    for i, (boxes, target) in enumerate(zip(proposals, targets, strict=True)):
        check_proposal_form(boxes, f"proposals of image {i}")
        check_boxes(boxes, name=f"proposals of image {i}")
        truth = target["boxes"] if label is None else target["boxes"][target["labels"] == label]
        check_boxes(truth, name="targets")
        iou = box_iou(truth, boxes[:count])  # (T, R)
        found.append(iou.amax(1) if iou.shape[1] else iou.new_zeros(len(iou)))
    return torch.cat(found).float() if found else torch.zeros(0)


def proposal_recall(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    iou_threshold: float = 0.5,
    count: int | None = None,
    label: int | None = None,
) -> float:
    """The part of the true boxes that some proposal meets with at least this IoU; NaN without any truth.

    Arguments are those of `best_overlaps`.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0], [10.0, 0.0, 14.0, 2.0]])}]
        >>> proposal_recall([torch.tensor([[0.0, 0.0, 4.0, 1.0]])], truth, iou_threshold=0.5)
        0.5
    """
    overlaps = best_overlaps(proposals, targets, count=count, label=label)
    return (overlaps >= iou_threshold).float().mean().item()


def recall_by_iou(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    iou_thresholds: Tensor,
    count: int | None = None,
    label: int | None = None,
) -> Tensor:
    """(K,) recall at each of K IoU thresholds; the other arguments are those of `best_overlaps`.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0]])}]
        >>> recall_by_iou([torch.tensor([[0.0, 0.0, 4.0, 1.0]])], truth, iou_thresholds=torch.tensor([0.5, 0.6]))
        tensor([1., 0.])
    """
    overlaps = best_overlaps(proposals, targets, count=count, label=label)
    return (overlaps[None] >= iou_thresholds.to(overlaps)[:, None]).float().mean(1)


def recall_by_count(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    counts: Sequence[int],
    iou_threshold: float = 0.5,
    label: int | None = None,
) -> Tensor:
    """(K,) recall when the first 1, 10, 100 … proposals of each image count.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0]])}]
        >>> boxes = torch.tensor([[9.0, 9.0, 12.0, 11.0], [0.0, 0.0, 4.0, 2.0]])
        >>> recall_by_count([boxes], truth, counts=[1, 2])
        tensor([0., 1.])
    """
    recalls = [
        proposal_recall(proposals, targets, iou_threshold=iou_threshold, count=count, label=label) for count in counts
    ]
    return torch.tensor(recalls)


def average_best_overlap(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    count: int | None = None,
    label: int | None = None,
) -> float:
    """Mean over the true boxes of the IoU with the nearest proposal (ABO); NaN without any truth.

    Arguments are those of `best_overlaps`.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0], [10.0, 0.0, 14.0, 2.0]])}]
        >>> average_best_overlap([torch.tensor([[0.0, 0.0, 4.0, 1.0]])], truth)
        0.25
    """
    return best_overlaps(proposals, targets, count=count, label=label).mean().item()


def average_recall(
    proposals: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    count: int | None = None,
    label: int | None = None,
) -> float:
    """Recall averaged over IoU thresholds from 0.5 to 1 (AR): rewards finding objects and fitting them.

    The area under the recall curve is exact without a grid of thresholds: twice the mean of max(IoU - 0.5, 0)
    (section 4.2 of the paper). Arguments are those of `best_overlaps`.

    Example:
        >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 4.0, 2.0]])}]
        >>> average_recall([torch.tensor([[0.0, 0.0, 3.0, 2.0]])], truth)  # IoU 0.75
        0.5
    """
    return 2 * (best_overlaps(proposals, targets, count=count, label=label) - 0.5).clamp(min=0).mean().item()


def repeatability(
    method: Callable[[Tensor], tuple[Tensor, Tensor]],
    image: Tensor,
    *,
    change: str,
    amount: float,
    generator: torch.Generator | None = None,
) -> float:
    """How well a method's boxes are found again after the image changed a little: 1 is every box exactly.

    Boxes of the changed image are carried back and matched one to one with those of the original, the largest IoU
    first. The area under the curve of recall against the IoU threshold from 0 to 1 is the mean IoU of the matches, a
    box without one counting 0 (section 3.1 of the paper).

    Args:
        method: image -> (boxes, scores); fix its count, seed and the like beforehand.
        image: (C, H, W) float in [0, 1].
        change: "noise" (Gaussian), "blur" (Gaussian), "scale" or "rotation" (about the centre; proposed on is
            only the part of the image that stays in view).
        amount: standard deviation in grey values for noise and in pixels for blur, the factor for scale, degrees up to
            20 for rotation.
        generator: of the noise.

    Returns:
        A number from 0 to 1; NaN when the method proposes nothing on the original.

    Raises:
        ValueError: the image, change or amount is not what it should be.

    Example:
        >>> def thirds(image):
        ...     width = image.shape[2]
        ...     return torch.tensor([[0.0, 0.0, width / 3, 8.0], [width / 3, 0.0, float(width), 8.0]]), torch.zeros(2)
        >>> repeatability(thirds, torch.rand(1, 30, 60), change="noise", amount=0.1)
        1.0
    """
    check_image(image)
    original, changed, carry_back = _change(image, change, amount, generator)
    before, after = method(original)[0], method(changed)[0]
    for boxes in (before, after):
        check_boxes(boxes, name="boxes of the method")
    after = carry_back(after)
    height, width = original.shape[1:]
    centers = (after[:, :2] + after[:, 2:]) / 2
    after = after[((centers >= 0) & (centers <= centers.new_tensor([width, height]))).all(1)]
    return _matched(box_iou(before, after)).mean().item()


def _change(image: Tensor, change: str, amount: float, generator) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The image to start from, the changed one, and what carries boxes of the second to the first."""
    if not math.isfinite(amount) or (change != "rotation" and amount <= 0):
        raise ValueError(f"amount must be a positive number for {change}, got {amount}; see the docstring for its unit")
    if change == "noise":
        noise = torch.randn(image.shape, generator=generator).to(image)
        return image, (image + amount * noise).clamp(0, 1), lambda boxes: boxes
    if change == "blur":
        width = 2 * math.ceil(3 * amount) + 1
        return image, gaussian_blur(image, width, amount).clamp(0, 1), lambda boxes: boxes
    if change == "scale":
        new = [max(8, round(side * amount)) for side in image.shape[1:]]
        changed = interpolate(image[None], new, mode="bilinear", antialias=True)[0].clamp(0, 1)
        factors = torch.tensor([image.shape[2] / new[1], image.shape[1] / new[0]] * 2)  # x y x y
        return image, changed, lambda boxes: boxes * factors.to(boxes)
    if change == "rotation":
        if abs(amount) > STEEPEST:
            raise ValueError(
                f"amount must be at most {STEEPEST:g} degrees for rotation, got {amount}; the view is cut for it"
            )
        return _rotate(image, math.radians(amount))
    raise ValueError(f'change must be "noise", "blur", "scale" or "rotation", got {change!r}; mind the spelling')


def _rotate(image: Tensor, angle: float) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The centre of the image before and after a rotation; both show only what stays in view up to `STEEPEST`."""
    height, width = image.shape[1:]
    cosine, sine = math.cos(math.radians(STEEPEST)), math.sin(math.radians(STEEPEST))
    part = min(height / (width * sine + height * cosine), width / (width * cosine + height * sine))
    view = [math.floor(height * part), math.floor(width * part)]
    cosine, sine = math.cos(angle), math.sin(angle)
    # where a pixel of the result is taken from, in affine_grid's units of half the image
    matrix = torch.tensor([[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]).to(image)
    turned = grid_sample(
        image[None], affine_grid(matrix[None], [1, *image.shape], align_corners=False), align_corners=False
    )
    middle = torch.tensor([view[1] / 2, view[0] / 2])
    turn = torch.tensor([[cosine, -sine], [sine, cosine]])

    def carry_back(boxes: Tensor) -> Tensor:
        """Centres turn with the image; a box stays upright and keeps its size."""
        half = (boxes[:, 2:] - boxes[:, :2]) / 2
        centers = ((boxes[:, :2] + half) - middle.to(boxes)) @ turn.T.to(boxes) + middle.to(boxes)
        return torch.cat([centers - half, centers + half], dim=1)

    return center_crop(image, view), center_crop(turned[0].clamp(0, 1), view), carry_back


def _matched(iou: Tensor) -> Tensor:
    """(N,) IoU of each row's partner when rows and columns pair off, the largest IoU first; 0 without a partner.

    Pairs that are each other's best are what the greedy choice takes, whatever happens elsewhere, so all of them are
    taken at once, and again among the rest.
    """
    result = iou.new_zeros(len(iou))
    rows, columns = (torch.arange(length, device=iou.device) for length in iou.shape)
    left = iou
    while left.numel() and left.max() > 0:
        best = left.argmax(1)
        mutual = (left.argmax(0)[best] == torch.arange(len(left), device=iou.device)) & (left.amax(1) > 0)
        result[rows[mutual]] = left[mutual, best[mutual]]
        keep_columns = torch.ones_like(columns, dtype=torch.bool)
        keep_columns[best[mutual]] = False
        rows, columns = rows[~mutual], columns[keep_columns]
        left = left[~mutual][:, keep_columns]
    return result

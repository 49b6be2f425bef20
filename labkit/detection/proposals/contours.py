"""Edge boxes in a simple form: a box holds an object when whole contours lie inside it and few cross its border.

Edges are grouped into contours. Windows of many places, sizes and shapes are scored by the contours wholly inside minus
those that cross, so a box that fits closely around an object beats one that cuts it. After Zitnick and
Dollar, Edge Boxes, ECCV 2014: theirs has learned edges, soft links between contours and a refinement of each box; ours
the plain gradient and contours cut where they turn.

Image      (C, H, W) float in [0, 1].
Contours   (H, W) int64, 0 off the edges, else the number of the contour.
Taught in notebook 05.
"""

import numpy as np
import torch
from skimage.feature import canny
from skimage.filters import gaussian
from skimage.measure import label
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from labkit.detection.proposals.baselines import (
    at_working_size,
    channels_last,
    check_count,
    check_image,
    label_boxes,
    sliding_window_boxes,
)

KAPPA = 1.5  # power of the perimeter a sum is divided by, so that large boxes do not win by size alone (section 3.2)
WINDOWS = 10_000  # scored, of 24 shapes; the best then move their sides, so the grid may be coarse
LOW, HIGH = 0.8, 0.9  # parts of the pixels that are flatter than a faint and a sure edge, whatever the contrast
CANDIDATES = 4000  # of them go on to suppression, whose time grows with the square of their number
BLOCK = 4096  # windows scored at once, to bound memory


def find_contours(image: Tensor, *, sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Contours of an image and the strength of its edges.

    Thin edges (Canny) are cut where they turn from lying to standing; what stays connected is a contour. A circle
    becomes four arcs, and two objects that touch come apart.

    Args:
        image: (C, H, W) float in [0, 1].
        sigma: pixels of the Gaussian that smooths first.

    Returns:
        contours: (H, W) int64, 0 off the edges, 1 to n on them.
        strength: (H, W) float32 slope per pixel on the edges, 0 off them.

    Raises:
        ValueError: the image is not (C, H, W) in [0, 1].

    Example:
        >>> image = torch.zeros(1, 40, 60); image[:, 10:30, 20:50] = 1
        >>> find_contours(image)[0].max()  # the sides of a rectangle
        tensor(4)
    """
    check_image(image)
    return _contours(channels_last(image).mean(axis=2), sigma)


def _contours(grey: np.ndarray, sigma: float) -> tuple[Tensor, Tensor]:
    along_y, along_x = np.gradient(gaussian(grey, sigma))
    edges = canny(grey, sigma=sigma, low_threshold=LOW, high_threshold=HIGH, use_quantiles=True)
    strength = np.where(edges, np.hypot(along_y, along_x), 0)
    standing = np.abs(along_x) > np.abs(along_y)
    kind = np.where(strength > 0, 1 + standing, 0)
    contours = label(kind, background=0, connectivity=2).astype(np.int64)
    return torch.from_numpy(contours), torch.from_numpy(strength).float()


def score_boxes(boxes: Tensor, contours: Tensor, strength: Tensor) -> Tensor:
    """(whole contours - crossing contours - edges in the middle) / perimeter ** 1.5, for each box.

    A contour is wholly inside when its own box is; whatever else of the edges lies inside belongs to contours that
    cross. The middle is the box of half the sides, whose edges say little of the outline. Sums over boxes come from an
    integral image, four look-ups each.

    Args:
        boxes: (R, 4) xyxy pixels.
        contours: (H, W) int64, 0 off the edges.
        strength: (H, W) of the edges.

    Returns:
        (R,) float32.

    Example:
        >>> contours = torch.zeros(12, 9, dtype=torch.int64); contours[2, 3:7] = 1
        >>> boxes = torch.tensor([[2.0, 1.0, 8.0, 10.0], [2.0, 1.0, 5.0, 10.0]])
        >>> score_boxes(boxes, contours, (contours > 0).float()) * torch.tensor([30.0, 24.0]) ** 1.5
        tensor([ 4., -2.])
    """
    device = boxes.device
    boxes, contours, strength = (
        boxes.cpu(),
        contours.cpu(),
        strength.cpu(),
    )  # sums are in float64, which not all GPUs know
    integral = torch.nn.functional.pad(strength.double(), (1, 0, 1, 0)).cumsum(0).cumsum(1)  # (H + 1, W + 1)
    rounded, quarter = boxes.round(), (boxes[:, 2:] - boxes[:, :2]) / 4
    middle = torch.cat([boxes[:, :2] + quarter, boxes[:, 2:] - quarter], dim=1).round()
    extent = torch.from_numpy(label_boxes(contours.numpy())).float()[1:]  # (n, 4), without the background
    weight = torch.bincount(contours.flatten(), strength.flatten().double(), minlength=len(extent) + 1)[1:]
    whole = torch.cat([_contains(block, extent) @ weight.float() for block in rounded.split(BLOCK)])
    perimeter = 2 * (boxes[:, 2:] - boxes[:, :2]).sum(1)
    crossing = _sums(integral, rounded) - whole
    return ((whole - crossing - _sums(integral, middle)) / perimeter**KAPPA).to(device)


def edge_boxes(
    image: Tensor, *, count: int = 1000, working_size: int = 320, overlap: float = 0.7
) -> tuple[Tensor, Tensor]:
    """Proposals with many whole contours inside, best first.

    Args:
        image: (C, H, W) float in [0, 1].
        count: at most so many proposals.
        working_size: longest side in pixels at which edges are looked for; larger images are shrunk first.
        overlap: of boxes with a larger IoU only the best is kept.

    Returns:
        boxes: (R, 4) float32 xyxy pixels.
        scores: (R,) float32, falling, of no fixed scale.

    Raises:
        ValueError: the image or count is not what it should be.

    Example:
        >>> image = torch.zeros(1, 40, 60); image[:, 10:30, 20:50] = 1
        >>> from torchvision.ops import box_iou
        >>> bool(box_iou(edge_boxes(image)[0][:5], torch.tensor([[20.0, 10.0, 50.0, 30.0]])).max() > 0.7)
        True
    """
    check_count(count)
    check_image(image)
    pixels, scale = at_working_size(channels_last(image), working_size)
    contours, strength = _contours(pixels.mean(axis=2), 2.0)
    windows, _ = sliding_window_boxes(torch.zeros(1, *pixels.shape[:2]), count=WINDOWS)
    scores = score_boxes(windows, contours, strength)
    scores, best = scores.topk(min(len(scores), CANDIDATES))
    windows = windows[best]
    keep = nms(windows, scores, overlap)[:count]
    boxes, scores = _refine(windows[keep], contours, strength)
    keep = nms(boxes, scores, overlap)
    boxes = clip_boxes_to_image(boxes[keep] * torch.tensor(scale), tuple(image.shape[1:]))
    return boxes.to(image.device), scores[keep].to(image.device)


def _refine(boxes: Tensor, contours: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes whose sides moved to where the score is better, and the scores; each step is half as long as the last."""
    limit = torch.tensor([contours.shape[1], contours.shape[0]] * 2).float()
    scores = score_boxes(boxes, contours, strength)
    moves = torch.cat([torch.eye(4), -torch.eye(4)])  # (8, 4): each side out or in
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    for part in (1 / 8, 1 / 16, 1 / 32):
        tried = boxes[:, None] + part * sides[:, None] * moves  # (R, 8, 4)
        tried = torch.minimum(tried.clamp(min=0), limit).reshape(-1, 4)
        values, best = score_boxes(tried, contours, strength).reshape(-1, 8).max(1)
        better = values > scores
        boxes = torch.where(better[:, None], tried.reshape(-1, 8, 4)[torch.arange(len(boxes)), best], boxes)
        scores = torch.maximum(scores, values)
    return boxes, scores


def _sums(integral: Tensor, boxes: Tensor) -> Tensor:
    """(R,) sum over each box of whole pixels."""
    x1, y1, x2, y2 = boxes.long().unbind(1)
    return (integral[y2, x2] - integral[y1, x2] - integral[y2, x1] + integral[y1, x1]).float()


def _contains(boxes: Tensor, extent: Tensor) -> Tensor:
    """(R, n) 1.0 where a box holds a contour's extent, else 0.0."""
    x1, y1, x2, y2 = boxes[:, None].unbind(2)  # (R, 1) each
    left, top, right, bottom = extent.unbind(1)  # (n,) each
    return ((x1 <= left) & (y1 <= top) & (x2 >= right) & (y2 >= bottom)).float()

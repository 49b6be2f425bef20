"""Proposals without a search: boxes drawn at random, windows on a grid, superpixels. What a clever method must beat.

The four baselines of Hosang, Benenson, Dollar and Schiele, "What makes for effective detection proposals?", PAMI
38:814, 2016, section 2.4. All but superpixels look at nothing but the size of the image. None has an opinion which of
its boxes is best: its scores are 0, and the first boxes of a random method are as good as any.

Image      (C, H, W) float in [0, 1].
Examples   (N, 4) xyxy pixels: true boxes of training images of the same size, from which places and sizes are learned.
Taught in notebook 05.
"""

import math
from numbers import Integral

import numpy as np
import torch
from skimage.segmentation import slic
from skimage.transform import resize
from torch import Tensor

from labkit.detection import images
from labkit.detection.boxes import check_boxes

ROUNDING = 1e-4  # grey values
RATIOS = (0.5, 1.0, 2.0)  # height / width of windows
SMALLEST_WINDOW = 1 / 16  # of the image's square root of area; as many sizes as doublings fit below the whole image


def check_image(image: Tensor) -> None:
    """Refuse an image that no method can look at: it must be grey or RGB, 8 pixels a side or more, in [0, 1].

    Example:
        >>> check_image(torch.zeros(40, 60))
        Traceback (most recent call last):
        ValueError: image must be floating point (C, H, W), got shape (40, 60), torch.float32; write image[None] for a
            grey one
    """
    # interpolation may leave [0, 1] by a rounding error; `channels_last` cuts that off
    images.check_image(image, channels=(1, 3), least_side=8, low=-ROUNDING, high=1 + ROUNDING, any_float=True)


def check_count(count: int) -> None:
    """Refuse a count that is no positive whole number."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"count must be a positive whole number, got {count!r}; it is the number of proposals wanted")


def channels_last(image: Tensor) -> np.ndarray:
    """(H, W, C) float64 array of an image (C, H, W), as scikit-image takes it."""
    return image.detach().cpu().double().clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, C)


def at_working_size(pixels: np.ndarray, longest: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """The picture with its longest side at most `longest`, and what its boxes are multiplied with, x y x y."""
    height, width = pixels.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if factor == 1.0:
        return pixels, (1.0, 1.0, 1.0, 1.0)
    new_height, new_width = max(8, round(height * factor)), max(8, round(width * factor))
    smaller = resize(pixels, (new_height, new_width), anti_aliasing=True)
    return smaller, (width / new_width, height / new_height) * 2


def uniform_boxes(
    image: Tensor, *, count: int, examples: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes with centre, size and shape drawn evenly from the ranges of the examples.

    Args:
        image: (C, H, W) float in [0, 1]; only its size matters.
        count: how many boxes.
        examples: (N, 4) xyxy pixels, at least one; the smallest and largest 0.5 % of each number are left aside.
        generator: of the draws.

    Returns:
        boxes: (count, 4) float32 xyxy pixels, clipped to the image.
        scores: (count,) zeros.

    Raises:
        ValueError: the image, count or examples are not what they should be.

    Example:
        >>> boxes, _ = uniform_boxes(torch.zeros(1, 40, 60), count=3, examples=torch.tensor([[5.0, 5.0, 25.0, 15.0]]))
        >>> boxes[0]  # one example leaves no choice
        tensor([ 5.,  5., 25., 15.])
    """
    numbers = _check(image, count, examples)
    low, high = numbers.quantile(torch.tensor([0.005, 0.995]), dim=0)
    boxes = _boxes_of(low + (high - low) * torch.rand(count, 4, generator=generator), image)
    return boxes, boxes.new_zeros(count)


def gaussian_boxes(
    image: Tensor, *, count: int, examples: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes drawn from the multivariate Gaussian of the examples' centre, size and shape.

    Args:
        image: (C, H, W) float in [0, 1]; only its size matters.
        count: how many boxes.
        examples: (N, 4) xyxy pixels, at least 6.
        generator: of the draws.

    Returns:
        boxes: (count, 4) float32 xyxy pixels, clipped to the image.
        scores: (count,) zeros.

    Raises:
        ValueError: the image, count or examples are not what they should be.

    Example:
        >>> examples = torch.tensor([[5.0, 5.0, 25.0, 15.0]]) + 3 * torch.rand(8, 1)
        >>> gaussian_boxes(torch.zeros(1, 40, 60), count=3, examples=examples)[0].shape
        torch.Size([3, 4])
    """
    numbers = _check(image, count, examples).double()
    if len(numbers) < 6:
        raise ValueError(
            f"examples must hold at least 6 boxes for a covariance of 4 numbers, got {len(numbers)}; give more"
        )
    values, axes = torch.linalg.eigh(
        numbers.T.cov()
    )  # a Cholesky factor would refuse examples that vary in fewer than 4 ways
    spread = axes * values.clamp(min=0).sqrt()
    drawn = numbers.mean(0) + torch.randn(count, 4, generator=generator).double() @ spread.T
    drawn[:, 2] = drawn[:, 2].clamp(min=numbers[:, 2].min() / 2)  # a tail of the Gaussian has sizes below 0
    boxes = _boxes_of(drawn.float(), image)
    return boxes, boxes.new_zeros(count)


def sliding_window_boxes(image: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Windows of several sizes and three shapes, each on an even grid of about as many places.

    Args:
        image: (C, H, W) float in [0, 1]; only its size matters.
        count: at most so many windows.

    Returns:
        boxes: (R, 4) float32 xyxy pixels inside the image, in a scattered order, so that the first ones cover it too.
        scores: (R,) zeros.

    Raises:
        ValueError: the image or count is not what it should be.

    Example:
        >>> boxes, _ = sliding_window_boxes(torch.zeros(1, 40, 60), count=100)
        >>> bool(80 <= len(boxes) <= 100), boxes[:, 2].max(), boxes[:, 3].max()
        (True, tensor(60.), tensor(40.))
    """
    check_image(image)
    check_count(count)
    height, width = image.shape[1:]
    side = math.sqrt(height * width)
    steps = round(-2 * math.log2(SMALLEST_WINDOW))  # sizes grow by the square root of 2
    sizes = [side * SMALLEST_WINDOW * 2 ** (i / 2) for i in range(steps)]
    shapes = [(s * math.sqrt(r), s / math.sqrt(r)) for s in sizes for r in RATIOS]  # (h, w)
    shapes = [(h, w) for h, w in shapes if h <= height and w <= width]
    boxes = torch.cat([_grid(height, width, h, w, count / len(shapes)) for h, w in shapes])
    scattered = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))
    boxes = boxes[scattered[:count]].to(image.device)
    return boxes, torch.zeros(len(boxes), device=image.device)


def superpixel_boxes(image: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Boxes around superpixels (SLIC, Achanta et al., PAMI 34:2274, 2012): small regions, nothing grouped.

    Args:
        image: (C, H, W) float in [0, 1].
        count: about so many superpixels, at most so many boxes.

    Returns:
        boxes: (R, 4) float32 xyxy pixels.
        scores: (R,) zeros.

    Raises:
        ValueError: the image or count is not what it should be.

    Example:
        >>> superpixel_boxes(torch.rand(3, 40, 60), count=12)[0].shape[1]
        4
    """
    check_image(image)
    check_count(count)
    pixels = channels_last(image)
    # the weight of place against intensity, whose range is 1 for grey and 100 in the CIELAB that slic makes of RGB
    labels = slic(pixels, n_segments=count, compactness=0.1 if len(image) == 1 else 10, channel_axis=2, start_label=0)
    boxes = torch.from_numpy(label_boxes(labels)).float()[:count].to(image.device)
    return boxes, torch.zeros(len(boxes), device=image.device)


def label_boxes(labels: np.ndarray) -> np.ndarray:
    """(n, 4) float64 xyxy box of each label 0 to n - 1 of a map (H, W).

    Example:
        >>> label_boxes(np.array([[0, 0, 1], [0, 2, 1]])).tolist()
        [[0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 3.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    boxes = np.empty((int(labels.max()) + 1, 4))
    for axis, low in ((0, 1), (1, 0)):  # rows give y, columns give x
        length = labels.shape[axis]
        touched = np.zeros((len(boxes), length), dtype=bool)
        touched[labels, np.expand_dims(np.arange(length), 1 - axis)] = True
        boxes[:, low], boxes[:, low + 2] = touched.argmax(axis=1), length - touched[:, ::-1].argmax(axis=1)
    return boxes


def _check(image: Tensor, count: int, examples: Tensor) -> Tensor:
    """(N, 4) centre x, centre y, square root of area, log of height / width of the examples."""
    check_image(image)
    check_count(count)
    check_boxes(examples, name="examples", image_size=(image.shape[1], image.shape[2]))
    if not len(examples):
        raise ValueError(
            "examples must hold at least one box, got none; give true boxes of training images of this size"
        )
    boxes = examples.float().cpu()
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([centers, sides.prod(1, keepdim=True).sqrt(), (sides[:, 1:] / sides[:, :1]).log()], dim=1)


def _boxes_of(numbers: Tensor, image: Tensor) -> Tensor:
    """Boxes of centre, root of area and log ratio, moved and cut so that each keeps an area inside the image."""
    limit = torch.tensor([image.shape[2], image.shape[1]]).float()  # x y
    half_ratio = (numbers[:, 3] / 2).exp()
    half = torch.stack([numbers[:, 2] / half_ratio, numbers[:, 2] * half_ratio], dim=1) / 2
    half = torch.minimum(half.clamp(min=1), limit / 2)
    centers = torch.minimum(torch.maximum(numbers[:, :2], half), limit - half)
    return torch.cat([centers - half, centers + half], dim=1).to(image.device)


def _grid(height: int, width: int, h: float, w: float, places: float) -> Tensor:
    """Windows h by w on about `places` even places, the first and last at the image's borders."""
    free_y, free_x = height - h, width - w
    columns = max(1, math.floor(math.sqrt(places * (free_x + w) / (free_y + h))))
    rows = max(1, math.floor(places / columns))
    y, x = torch.meshgrid(_spaced(free_y, rows), _spaced(free_x, columns), indexing="ij")
    corner = torch.stack([x, y], dim=2).reshape(-1, 2)
    return torch.cat([corner, corner + torch.tensor([w, h])], dim=1)


def _spaced(free: float, places: int) -> Tensor:
    return torch.tensor([free / 2]) if places == 1 else torch.linspace(0, free, places)

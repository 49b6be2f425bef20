"""Images and targets on their way into a detector: checked once, at the border, normalised, and padded into one batch.

The checks of a whole batch look at its numbers once: on a GPU each look is a wait. Only when something is wrong do they
look again, to name the image.
"""

from collections.abc import Sequence, Sized

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.detection.backbone import FeatureExtractor
from labkit.detection.boxes import check_boxes

# An image in [0, 1] may overshoot a little, from noise or a lamp; bytes, and images that are normalised, do more.
DARKEST, BRIGHTEST = -0.5, 1.5

Target = dict[str, Tensor]


def check_images(
    images: Sequence[Tensor] | Tensor,
    *,
    channels: Sequence[int] | None = None,
    least_side: int = 1,
    low: float = DARKEST,
    high: float = BRIGHTEST,
    any_float: bool = False,
) -> None:
    """Refuse wrong images, by number and fault; one look at the numbers of all.

    Args:
        images: B tensors (C, H, W), grey values in [0, 1].
        channels: how many an image may have; None takes any number.
        least_side: pixels; the smallest side that leaves something to look at.
        low, high: values beyond them are not an image's.
        any_float: float64 and half precision will do too.

    Raises:
        ValueError: there is no image; one is no float32 (C, H, W), has other channels, is too small, holds NaN, or is
            not in [0, 1].

    Example:
        >>> check_images([torch.zeros(1, 4, 20)], least_side=8)
        Traceback (most recent call last):
        ValueError: image 0 must be at least 8 x 8 pixels, got 4 x 20; enlarge it
        >>> check_images([torch.full((1, 8, 8), 200.0)])
        Traceback (most recent call last):
        ValueError: image 0 must be in [0, 1], got 200 to 200; divide bytes by 255
    """
    _check_forms(images, channels, least_side, any_float=any_float)
    _check_grey_values(images, low, high)


def check_image(
    image: Tensor,
    *,
    channels: Sequence[int] | None = None,
    least_side: int = 1,
    low: float = DARKEST,
    high: float = BRIGHTEST,
    any_float: bool = False,
) -> None:
    """Refuse what is not one image that a detector can look at; `check_images` says what is asked for.

    Example:
        >>> check_image(torch.zeros(40, 60))
        Traceback (most recent call last):
        ValueError: image must be float32 (C, H, W), got shape (40, 60), torch.float32; write image[None] for a grey one
    """
    try:
        check_images([image], channels=channels, least_side=least_side, low=low, high=high, any_float=any_float)
    except ValueError as error:
        raise ValueError(str(error).replace("image 0", "image", 1)) from None


def _check_forms(
    images: Sequence[Tensor] | Tensor, channels: Sequence[int] | None, least_side: int, *, any_float: bool = False
) -> None:
    """What can be seen without a look at the numbers."""
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(f"expected a list of images (C, H, W), got one tensor {tuple(images.shape)}; write [image]")
    if not isinstance(images, Sized):
        raise ValueError(
            f"expected a list of images (C, H, W), got {type(images).__name__}; write [image] or list(...)"
        )
    if not len(images):
        raise ValueError("expected at least one image, got an empty list; skip empty batches")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise ValueError(f"image {i} must be a tensor, got {type(image).__name__}; write torch.as_tensor(image)")
        right_type = image.is_floating_point() if any_float else image.dtype == torch.float32
        if image.ndim != 3 or not right_type:
            got, wanted = f"shape {tuple(image.shape)}, {image.dtype}", "floating point" if any_float else "float32"
            raise ValueError(f"image {i} must be {wanted} (C, H, W), got {got}; {_cure_of_form(image)}")
        if channels is not None and len(image) not in channels:
            wanted = " or ".join(str(count) for count in channels)
            raise ValueError(
                f"image {i} must have {wanted} channel(s), got {len(image)}; {_cure_of_channels(image, channels)}"
            )
        height, width = image.shape[1:]
        if min(height, width) < max(least_side, 1):
            raise ValueError(
                f"image {i} must be at least {least_side} x {least_side} pixels, got {height} x {width}; enlarge it"
            )


def _cure_of_form(image: Tensor) -> str:
    if image.ndim == 2:
        return "write image[None] for a grey one"
    if image.ndim != 3:
        return "give one image, channels first"
    return "write image.float() / 255 for bytes" if not image.is_floating_point() else "write image.float()"


def _cure_of_channels(image: Tensor, channels: Sequence[int]) -> str:
    if image.shape[2] in channels:
        return "channels come first: write image.permute(2, 0, 1)"
    if len(image) == 1 and 3 in channels:
        return "write image.expand(3, -1, -1) to make a grey one coloured"
    if len(image) == 3 and 1 in channels:
        return "write image.mean(0, keepdim=True) to make a coloured one grey"
    return "give the network images of the kind it was built for"


def _check_grey_values(images: Sequence[Tensor] | Tensor, low: float = DARKEST, high: float = BRIGHTEST) -> None:
    """Refuse what is no grey value; NaN is none."""
    ends = torch.stack([torch.stack(image.aminmax()) for image in images])  # (B, 2)
    if ((ends[:, 0] >= low) & (ends[:, 1] <= high)).all():
        return
    for i, image in enumerate(images):
        darkest, brightest = (end.item() for end in image.aminmax())
        if not image.isfinite().all():
            raise ValueError(f"image {i} must be finite, got NaN or infinity; look for a division by zero before it")
        if not (darkest >= low and brightest <= high):
            cure = "divide bytes by 255" if darkest >= low else "give it as it was: the detector normalises it itself"
            raise ValueError(f"image {i} must be in [0, 1], got {darkest:.4g} to {brightest:.4g}; {cure}")


def check_batch(
    images: Sequence[Tensor], targets: Sequence[Target] | None, *, stride: int, num_classes: int, channels: int
) -> None:
    """Refuse a wrong image or target, by number and fault.

    Args:
        images: B tensors (C, H, W), grey values in [0, 1].
        targets: B dicts with `boxes` (N, 4) and `labels` (N,); None at test time.
        stride: the smallest side that leaves a feature cell.
        num_classes: labels must lie in 1 … num_classes - 1.
        channels: of every image.

    Raises:
        ValueError: what `check_images` finds; boxes leave their image or have no area; a label is no class; or the
            lists differ in length.

    Example:
        >>> check_batch([torch.zeros(1, 4, 20)], None, stride=8, num_classes=3, channels=1)
        Traceback (most recent call last):
        ValueError: image 0 must be at least 8 x 8 pixels, got 4 x 20; enlarge it
    """
    _check_forms(images, (channels,), stride)
    if targets is None:
        return _check_grey_values(images)
    if len(images) != len(targets):
        raise ValueError(
            f"expected one target an image, got {len(images)} images and {len(targets)} targets; pair them"
        )
    for i, target in enumerate(targets):
        _check_target_form(i, target)
    if _is_sound(images, targets, num_classes):
        return
    _check_grey_values(images)
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        check_boxes(target["boxes"], name=f"boxes of image {i}", image_size=(image.shape[1], image.shape[2]))
        check_labels(target["labels"], name=f"labels of image {i}", num_classes=num_classes)


def _check_target_form(i: int, target: Target) -> None:
    if not isinstance(target, dict) or not {"boxes", "labels"} <= target.keys():
        got = f"{sorted(target)}" if isinstance(target, dict) else type(target).__name__
        raise ValueError(f'target {i} must have "boxes" and "labels", got {got}; mind the spelling')
    boxes, labels = target["boxes"], target["labels"]
    for name, value in (("boxes", boxes), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} of image {i} must be a tensor, got {type(value).__name__}; write torch.as_tensor")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        check_boxes(boxes, name=f"boxes of image {i}")
    if boxes.dtype != torch.float32 or labels.dtype != torch.int64:
        raise ValueError(
            f"target {i} must have float32 boxes and int64 labels, got {boxes.dtype} and {labels.dtype}; "
            "write boxes.float() and labels.long()"
        )
    if labels.shape != boxes.shape[:1]:
        got = f"{tuple(labels.shape)} labels and {len(boxes)} boxes"
        raise ValueError(f"image {i} must have one label a box, got {got}; index them together")


def _is_sound(images: Sequence[Tensor], targets: Sequence[Target], num_classes: int) -> bool:
    """Whether all numbers of a batch are what they should be: one answer for all, since on a GPU it is a wait."""
    ends = torch.stack([torch.stack(image.aminmax()) for image in images])  # (B, 2)
    boxes, labels = (torch.cat([target[key] for target in targets]) for key in ("boxes", "labels"))
    limits = [[i.shape[2], i.shape[1]] for i, target in zip(images, targets, strict=True) for _ in target["boxes"]]
    limit = torch.tensor(limits, dtype=torch.float32).reshape(-1, 2).to(boxes.device)  # (N, 2) width, height
    return bool(
        (ends[:, 0] >= DARKEST).all()
        & (ends[:, 1] <= BRIGHTEST).all()
        # each comparison is false for NaN, and an infinite box leaves its image
        & ((boxes[:, :2] >= 0) & (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= limit)).all()
        & ((labels >= 1) & (labels < num_classes)).all()
    )


def check_labels(labels: Tensor, *, name: str = "labels", num_classes: int) -> None:
    """Refuse labels that are no class, by name.

    Args:
        labels: (N,) int64.
        name: what the message calls them.
        num_classes: with background.

    Raises:
        ValueError: a label is outside 1 … num_classes - 1.

    Example:
        >>> check_labels(torch.tensor([1, 3]), num_classes=3)
        Traceback (most recent call last):
        ValueError: labels must lie in 1 to 2, got [1, 3]; 0 is background, and num_classes counts it
    """
    if not ((labels >= 1) & (labels < num_classes)).all():
        raise ValueError(
            f"{name} must lie in 1 to {num_classes - 1}, got {sorted(set(labels.tolist()))}; "
            "0 is background, and num_classes counts it"
        )


def check_proposals(proposals: Sequence[Tensor], images: Sequence[Tensor]) -> None:
    """Refuse wrong proposals, by the number of their image.

    Args:
        proposals: B tensors (R, 4); R may be 0.
        images: B tensors (C, H, W).

    Raises:
        ValueError: the lists differ in length, or a proposal has no area, leaves its image or is no box at all.

    Example:
        >>> check_proposals([torch.tensor([[3.0, 4.0, 3.0, 9.0]])], [torch.zeros(1, 16, 24)])
        Traceback (most recent call last):
        ValueError: proposals of image 0 must have x1 < x2 and y1 < y2, got [3.0, 4.0, 3.0, 9.0] in row 0; drop it or
            swap its corners
    """
    count = len(proposals) if isinstance(proposals, Sized) else type(proposals).__name__
    if count != len(images):
        raise ValueError(f"expected proposals for each image, got {count} for {len(images)} images; none is (0, 4)")
    for i, boxes in enumerate(proposals):
        check_proposal_form(boxes, f"proposals of image {i}")
    right = []
    for boxes, image in zip(proposals, images, strict=True):
        limit = boxes.new_tensor([image.shape[2], image.shape[1]])
        right.append(((boxes[:, :2] >= 0) & (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= limit)).all())
    if torch.stack(right).all():
        return
    for i, (boxes, image) in enumerate(zip(proposals, images, strict=True)):
        check_boxes(boxes, name=f"proposals of image {i}", image_size=(image.shape[1], image.shape[2]))


def check_proposal_form(boxes: Tensor, name: str) -> None:
    """Refuse what cannot be the boxes of one image by type or shape; what they are called is `name`."""
    if isinstance(boxes, tuple):
        raise ValueError(
            f"{name} must be a tensor (R, 4), got a tuple; a proposal method gives (boxes, scores): take [0]"
        )
    if not isinstance(boxes, Tensor):
        raise ValueError(f"{name} must be a tensor (R, 4), got {type(boxes).__name__}; write torch.as_tensor(boxes)")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        check_boxes(boxes, name=name)
    if boxes.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, got {boxes.dtype}; write proposals.float()")


def check_answers(*answers: Tensor) -> None:
    """Refuse answers that are not finite: to a sound image, the fault is that of the weights.

    Args:
        answers: of any shapes, on one device.

    Raises:
        ValueError: one holds NaN or infinity, which would be dropped later on and look like an image without finds.

    Example:
        >>> check_answers(torch.zeros(3), torch.tensor([float("nan")]))
        Traceback (most recent call last):
        ValueError: the network's answers must be finite, got NaN or infinity from a sound image; its weights are
            broken, load or train them again
    """
    if not torch.stack([answer.isfinite().all() for answer in answers]).all():
        raise ValueError(
            "the network's answers must be finite, got NaN or infinity from a sound image; its weights are broken, "
            "load or train them again"
        )


def channel_values(backbone: FeatureExtractor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(C,) means and (C,) spreads, one for each channel that the backbone looks at; one number serves all.

    Args:
        backbone: with `channels`, or without where mean and std say how many there are.
        mean, std: one number, or one a channel.

    Raises:
        ValueError: there are more or fewer numbers than channels, or a spread is not positive.

    Example:
        >>> from labkit.detection.backbone import Backbone
        >>> channel_values(Backbone(channels=3), (0.5,), (0.25,))[0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    channels = getattr(backbone, "channels", max(len(mean), len(std)))
    for name, values in (("image_mean", mean), ("image_std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"{name} must hold 1 or {channels} numbers, got {len(values)}; give one a channel")
    if not min(std) > 0:
        raise ValueError(f"image_std must be positive, got {tuple(std)}; it is a spread of grey values")
    means, spreads = (torch.tensor([float(v) for v in values]).expand(channels) for values in (mean, std))
    return means.clone(), spreads.clone()


def batch_images(images: Sequence[Tensor], *, mean: Tensor, std: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W): the images less the mean, by the spread, padded below and right with zeros to one size.

    Args:
        images: B tensors (C, H_i, W_i).
        mean, std: (C,) of the training images.
        multiple: H and W become multiples of it, the stride of the features.

    Example:
        >>> images = [torch.ones(1, 9, 16), torch.ones(1, 8, 12)]
        >>> batch_images(images, mean=torch.zeros(1), std=torch.ones(1), multiple=8).shape
        torch.Size([2, 1, 16, 16])
    """
    height, width = (-(-max(image.shape[side] for image in images) // multiple) * multiple for side in (1, 2))
    normalised = [(image - mean[:, None, None]) / std[:, None, None] for image in images]
    return torch.stack([F.pad(n, (0, width - n.shape[2], 0, height - n.shape[1])) for n in normalised])

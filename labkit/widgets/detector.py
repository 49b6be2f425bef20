"""What a detector says, live; notebooks 08 and 09."""

from collections.abc import Sequence

import ipywidgets
from matplotlib.collections import PolyCollection
from torch import Tensor
from torchvision import ops

from labkit.plotting import COLORS, TRUTH, show_boxes
from labkit.widgets.canvas import (
    Canvas,
    bare_figure,
    legend,
    new_boxes,
    outlines_of,
    slider_of,
    whole_slider_of,
    words_and_picture,
)


def detector_demo(
    images: Sequence[Tensor],
    detections: Sequence[dict],
    *,
    truths: Sequence[Tensor],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> ipywidgets.VBox:
    """Sliders for the image, the score threshold and the IoU threshold on what a detector says; notebooks 08 and 09.

    Each class has its colour; the truth is green. Give detections from a detector set to keep nearly all
    (its `score_threshold` and `iou_threshold`): the sliders do the rest.

    Args:
        images: n images (H, W), (1, H, W) or (3, H, W) in [0, 1].
        detections: n dicts with `boxes` (N, 4), `scores` (N,), `labels` (N,).
        truths: n tensors (M, 4) xyxy pixels.
        score_threshold, iou_threshold: where the sliders stand at first.

    Returns:
        A box of six widgets: sliders for image, score and IoU, a line of words, the picture, its legend.

    Raises:
        ValueError: there are no images, or not as many entries of each kind.

    Example:
        >>> import torch
        >>> box = torch.tensor([[2.0, 3.0, 9.0, 8.0]])
        >>> found = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
        >>> detector_demo([torch.zeros(20, 15)], [found], truths=[box]).children[3].value
        '<b>1</b> box shown; 1 of 1 truth found (IoU 0.5), 0 false positives'
    """
    if not len(images) or len({len(images), len(detections), len(truths)}) > 1:
        raise ValueError(
            "images, detections and truths must hold one entry an image, got "
            f"{len(images)}, {len(detections)} and {len(truths)}; give at least one image"
        )
    found = [{key: one[key].detach().cpu() for key in ("boxes", "scores", "labels")} for one in detections]
    labels = sorted({label for one in found for label in one["labels"].tolist()})
    scenes = [_scene(image, truth.detach().cpu(), labels) for image, truth in zip(images, truths, strict=True)]

    image_slider = whole_slider_of("image", 0, len(images) - 1)
    score_slider, iou_slider = slider_of("score threshold", score_threshold), slider_of("IoU threshold", iou_threshold)
    words, picture = words_and_picture("a film with its lesions and the boxes that stay")

    def redraw(_=None) -> None:
        one, truth = found[image_slider.value], truths[image_slider.value].detach().cpu()
        canvas, classes = scenes[image_slider.value]
        strong = (one["scores"] >= score_slider.value).nonzero()[:, 0]
        boxes, scores, kinds = (one[key][strong] for key in ("boxes", "scores", "labels"))
        keep = ops.batched_nms(boxes, scores, kinds, iou_slider.value)
        for label, artist in classes.items():
            artist.set_verts(outlines_of(boxes[keep][kinds[keep] == label]))
        fits = ops.box_iou(truth, boxes[keep]) >= 0.5  # (M, K)
        hit, useless = int(fits.any(dim=1).sum()), int((~fits.any(dim=0)).sum())
        words.value = (
            f"<b>{len(keep)}</b> box{'' if len(keep) == 1 else 'es'} shown; "
            f"{hit} of {len(truth)} truth{'' if len(truth) == 1 else 's'} found (IoU 0.5), "
            f"{useless} false positive{'' if useless == 1 else 's'}"
        )
        picture.value = canvas.png(tuple(classes.values()))

    for slider in (image_slider, score_slider, iou_slider):
        slider.observe(redraw, names="value")
    redraw()
    meaning = {"truth": (TRUTH, "solid")}
    meaning |= {f"class {label}": (_color(i), CSS[_style(i)]) for i, label in enumerate(labels)}
    return ipywidgets.VBox([image_slider, score_slider, iou_slider, words, picture, legend(meaning)])


def _scene(image: Tensor, truth: Tensor, labels: Sequence[int]) -> tuple[Canvas, dict[int, PolyCollection]]:
    """A canvas with the image and its truth, and one empty set of boxes for each class."""
    figure, axes = bare_figure(image)
    show_boxes(truth, color=TRUTH, width=2, ax=axes)
    canvas = Canvas(figure)
    return canvas, {label: new_boxes(axes, _color(i), width=3, style=_style(i)) for i, label in enumerate(labels)}


CSS = {"--": "dashed", ":": "dotted"}


def _color(index: int) -> str:
    """Of the boxes of a class, by its place among the classes."""
    return COLORS[("sky", "orange", "purple", "yellow")[index % 4]]


def _style(index: int) -> str:
    """Of their lines: neighbours differ in more than their colour."""
    return ("--", ":")[index % 2]

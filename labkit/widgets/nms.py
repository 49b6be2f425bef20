"""Non-maximum suppression, live; notebook 03."""

import ipywidgets
import torch
from torch import Tensor
from torchvision import ops

from labkit.plotting import COLORS, PREDICTION, TRUTH, show_boxes
from labkit.widgets.canvas import (
    Canvas,
    bare_figure,
    frame,
    legend,
    new_boxes,
    outlines_of,
    slider_of,
    words_and_picture,
)


def nms_demo(
    boxes: Tensor,
    scores: Tensor,
    *,
    image: Tensor | None = None,
    truths: Tensor | None = None,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> ipywidgets.VBox:
    """Sliders for both thresholds of non-maximum suppression over a picture of what it keeps; notebook 03.

    Kept boxes are orange and dashed, suppressed ones thin and blue, the truth green; boxes below the score threshold
    do not show.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        image: (H, W), (1, H, W) or (3, H, W) in [0, 1], shown below the boxes; black without it.
        truths: (M, 4) xyxy pixels.
        iou_threshold, score_threshold: where the sliders stand at first.

    Returns:
        A box of four widgets: the two sliders (IoU first), a line of words, the picture.

    Raises:
        ValueError: boxes and scores do not belong together.

    Example:
        >>> demo = nms_demo(torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9]]), torch.tensor([0.9, 0.8]))
        >>> demo.children[2].value
        '<b>1</b> kept, 1 suppressed, 0 below the score threshold'
        >>> demo.children[0].value = 0.95
        >>> demo.children[2].value
        '<b>2</b> kept, 0 suppressed, 0 below the score threshold'
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"boxes and scores must be (N, 4) and (N,), got {tuple(boxes.shape)} and {tuple(scores.shape)}; "
            "give one score for each box"
        )
    boxes, scores = boxes.detach().cpu().float(), scores.detach().cpu().float()
    figure, axes = bare_figure(frame(boxes) if image is None else image)
    if truths is not None:
        show_boxes(truths, color=TRUTH, width=2, ax=axes)
    canvas = Canvas(figure)
    suppressed = new_boxes(axes, COLORS["sky"], width=0.8)
    kept = new_boxes(axes, PREDICTION, width=3)

    iou_slider = slider_of("IoU threshold", iou_threshold)
    score_slider = slider_of("score threshold", score_threshold)
    words, picture = words_and_picture("the image with the boxes that stay and those that are suppressed")

    def redraw(_=None) -> None:
        strong = (scores >= score_slider.value).nonzero()[:, 0]
        keep = strong[ops.nms(boxes[strong], scores[strong], iou_slider.value)]
        drop = strong[~torch.isin(strong, keep)]
        kept.set_verts(outlines_of(boxes[keep]))
        suppressed.set_verts(outlines_of(boxes[drop]))
        words.value = (
            f"<b>{len(keep)}</b> kept, {len(drop)} suppressed, {len(boxes) - len(strong)} below the score threshold"
        )
        picture.value = canvas.png((suppressed, kept))

    for slider in (iou_slider, score_slider):
        slider.observe(redraw, names="value")
    redraw()
    meaning = {"kept": (PREDICTION, "dashed"), "suppressed": (COLORS["sky"], "solid")}
    meaning |= {} if truths is None else {"truth": (TRUTH, "solid")}
    return ipywidgets.VBox([iou_slider, score_slider, words, picture, legend(meaning)])

"""Anchors and what they match, live; notebook 08."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor
from torchvision import ops

from labkit.detection.anchors import anchor_grid, match_anchors
from labkit.plotting import COLORS, PREDICTION, TRUTH, show_boxes
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


def anchors_demo(
    image: Tensor,
    boxes: Tensor,
    *,
    stride: int,
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
) -> ipywidgets.VBox:
    """Sliders for the cell and the positive threshold; the cell's anchors in the colour of their match; notebook 08.

    Orange anchors are objects, blue ones background, grey ones ignored; dots mark the cells that hold an object, the
    truth is green.

    Args:
        image: (H, W), (1, H, W) or (3, H, W) in [0, 1].
        boxes: (N, 4) xyxy pixels, the truth.
        stride: pixels a feature cell.
        sizes, aspect_ratios: of the anchors; pixels, and height / width.
        positive_iou: where its slider stands at first.
        negative_iou: below it an anchor is background.

    Returns:
        A box of five widgets: sliders for row, column and positive IoU, a line of words, the picture.

    Example:
        >>> box = torch.tensor([[4.0, 4, 12, 12]])
        >>> demo = anchors_demo(torch.zeros(16, 24), box, stride=8, sizes=[8], aspect_ratios=[1.0])
        >>> demo.children[3].value
        'row 1, column 1: <b>1</b> object, 0 ignored, 0 background; best IoU 1.00. In the image: 1 object'
    """
    height, width = image.shape[:2] if image.shape[-1] == 3 else image.shape[-2:]
    rows, columns = -(-height // stride), -(-width // stride)
    boxes = boxes.detach().cpu().float()
    anchors = anchor_grid((rows, columns), stride=stride, sizes=sizes, aspect_ratios=aspect_ratios)
    best = ops.box_iou(anchors, boxes).amax(dim=1) if len(boxes) else torch.zeros(len(anchors))
    per_cell = len(anchors) // (rows * columns)

    figure, axes = bare_figure(image)
    show_boxes(boxes, color=TRUTH, width=2.5, ax=axes)
    canvas = Canvas(figure)
    colors = {"object": PREDICTION, "ignored": "0.65", "background": COLORS["blue"]}
    styles = {"object": "--", "ignored": "-", "background": ":"}
    shown = {name: new_boxes(axes, color, width=2.5, style=styles[name]) for name, color in colors.items()}
    (dots,) = axes.plot([], [], "o", color=PREDICTION, ms=5)

    start = int(best.argmax()) // per_cell  # the first state shows an object
    row_slider = whole_slider_of("row of the cell", start // columns, rows - 1)
    column_slider = whole_slider_of("column", start % columns, columns - 1)
    iou_slider = slider_of("positive IoU", positive_iou, low=negative_iou)
    words, picture = words_and_picture("a film with its lesion and the anchors of one cell")

    def redraw(_=None) -> None:
        matches = match_anchors(anchors, boxes, positive_iou=iou_slider.value, negative_iou=negative_iou)
        cell = slice(first := (row_slider.value * columns + column_slider.value) * per_cell, first + per_cell)
        kinds = {"object": matches >= 0, "ignored": matches == -2, "background": matches == -1}
        for name, kind in kinds.items():
            shown[name].set_verts(outlines_of(anchors[cell][kind[cell]]))
        held = kinds["object"].view(rows, columns, per_cell).any(dim=2).nonzero()  # (cells, 2) y x
        dots.set_data((held[:, 1] * stride).numpy(), (held[:, 0] * stride).numpy())
        counts = {name: int(kind[cell].sum()) for name, kind in kinds.items()}
        total = int(kinds["object"].sum())
        words.value = (
            f"row {row_slider.value}, column {column_slider.value}: <b>{counts['object']}</b> "
            f"object{'' if counts['object'] == 1 else 's'}, {counts['ignored']} ignored, "
            f"{counts['background']} background; best IoU {best[cell].max():.2f}. "
            f"In the image: {total} object{'' if total == 1 else 's'}"
        )
        picture.value = canvas.png((shown["background"], shown["ignored"], dots, shown["object"]))

    for slider in (row_slider, column_slider, iou_slider):
        slider.observe(redraw, names="value")
    redraw()
    lines = {"object": "dashed", "ignored": "solid", "background": "dotted"}
    meaning = {"lesion": (TRUTH, "solid")} | {f"anchor: {name}": (colors[name], lines[name]) for name in colors}
    return ipywidgets.VBox([row_slider, column_slider, iou_slider, words, picture, legend(meaning)])

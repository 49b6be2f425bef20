"""Grouping regions step by step, live; notebook 05."""

import ipywidgets
import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from labkit.plotting import COLORS, PREDICTION, TRUTH, show_image
from labkit.widgets.canvas import (
    PICTURE_HEIGHT,
    Canvas,
    legend,
    new_boxes,
    new_figure,
    outlines_of,
    whole_slider_of,
    words_and_picture,
)


def selective_search_demo(
    image: Tensor, labels: Tensor, boxes: Tensor, merges: Tensor, *, truths: Tensor | None = None, step: int = 0
) -> ipywidgets.VBox:
    """A slider through the merges of selective search: regions left, the proposals so far right; notebook 05.

    Each region is painted in its mean grey or colour. The newest proposal is orange, earlier ones are thin and blue.
    The dashed green box of an object is drawn through once a proposal meets it with IoU 0.5.

    Args:
        image: (1, H, W) or (3, H, W) in [0, 1].
        labels: (H, W) int64, the n regions grouping started from, as `segment` gives them.
        boxes, merges: (2 n - 1, 4) and (n - 1, 2), as `group_regions` gives them.
        truths: (T, 4) xyxy pixels.
        step: where the slider stands at first.

    Returns:
        A box of three widgets: the slider, a line of words, the picture.

    Raises:
        ValueError: boxes and merges do not belong together, or not to the labels.

    Example:
        >>> labels = torch.zeros(8, 12, dtype=torch.int64); labels[:, 4:] = 1
        >>> boxes = torch.tensor([[0.0, 0, 4, 8], [4, 0, 12, 8], [0, 0, 12, 8]])
        >>> demo = selective_search_demo(torch.rand(1, 8, 12), labels, boxes, torch.tensor([[0, 1]]), truths=boxes[2:])
        >>> demo.children[1].value
        'step 0 of 1: 2 regions, <b>2</b> proposals, <b>1</b> of 1 objects met'
    """
    n = int(labels.max()) + 1
    if len(boxes) != 2 * n - 1 or merges.shape != (n - 1, 2):
        raise ValueError(
            f"{n} regions need boxes ({2 * n - 1}, 4) and merges ({n - 1}, 2), got {tuple(boxes.shape)} and "
            f"{tuple(merges.shape)}; give what group_regions made of these labels"
        )
    truths = torch.zeros(0, 4) if truths is None else truths.detach().cpu().float()
    colours, owners = _region_colours(image, labels, merges), _region_owners(merges)
    best = ops.box_iou(truths, boxes).cummax(dim=1).values  # (T, 2 n - 1), with the proposals up to each

    height, width = labels.shape
    figure = new_figure(2.03 * PICTURE_HEIGHT * width / height, PICTURE_HEIGHT)
    left, right = figure.add_axes((0, 0, 0.493, 1)), figure.add_axes((0.507, 0, 0.493, 1))
    show_image(image, ax=right)
    show_image(image, ax=left)
    canvas = Canvas(figure)
    painted = left.imshow(np.zeros((height, width, 3)), extent=(0, width, height, 0), interpolation="nearest")
    styles = {"earlier": (COLORS["sky"], 0.6, "-"), "missed": (TRUTH, 2, "--"), "met": (TRUTH, 3, "-")}
    outlines = {
        name: new_boxes(right, color, width=lw, style=style)
        for name, (color, lw, style) in (styles | {"newest": (PREDICTION, 4, "-")}).items()
    }

    slider = whole_slider_of("merges so far", step, n - 1)
    words, picture = words_and_picture("the regions so far, beside the film with the proposals so far")

    def redraw(_=None) -> None:
        so_far = n + slider.value
        met = best[:, so_far - 1] >= 0.5
        painted.set_data(colours[owners[slider.value]][labels.cpu().numpy()])
        outlines["earlier"].set_verts(outlines_of(boxes[:so_far]))
        outlines["newest"].set_verts(outlines_of(boxes[so_far - 1 : so_far] if slider.value else boxes[:0]))
        outlines["missed"].set_verts(outlines_of(truths[~met]))
        outlines["met"].set_verts(outlines_of(truths[met]))
        count = n - slider.value
        words.value = (
            f"step {slider.value} of {n - 1}: {count} region{'' if count == 1 else 's'}, <b>{so_far}</b> proposals, "
            f"<b>{int(met.sum())}</b> of {len(truths)} objects met"
        )
        picture.value = canvas.png((painted, *outlines.values()))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"newest proposal": (PREDICTION, "solid"), "earlier ones": (COLORS["sky"], "solid")}
    meaning |= {"lesion, not yet met": (TRUTH, "dashed"), "lesion, met": (TRUTH, "solid")} if len(truths) else {}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])


def _region_colours(image: Tensor, labels: Tensor, merges: Tensor) -> np.ndarray:
    """(2 n - 1, 3) mean colour of each region of the hierarchy."""
    pixels = image.detach().cpu().double().flatten(1).expand(3, -1)  # (3, H W)
    flat = labels.cpu().flatten()
    n = int(flat.max()) + 1
    sums = torch.zeros(2 * n - 1, 4, dtype=torch.float64)
    sums[:n] = torch.stack(
        [torch.bincount(flat, channel, minlength=n) for channel in (*pixels, torch.ones(len(flat)))], 1
    )
    for new, (i, j) in enumerate(merges.tolist(), start=n):
        sums[new] = sums[i] + sums[j]
    return (sums[:, :3] / sums[:, 3:]).numpy()


def _region_owners(merges: Tensor) -> np.ndarray:
    """(n, n) for each number of merges the region that each of the n first regions belongs to."""
    n = len(merges) + 1
    owners = np.tile(np.arange(n), (n, 1))
    for step, (i, j) in enumerate(merges.tolist(), start=1):
        owners[step] = np.where(np.isin(owners[step - 1], (i, j)), n + step - 1, owners[step - 1])
    return owners

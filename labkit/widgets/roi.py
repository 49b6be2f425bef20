"""Pooling one region, live; notebook 07."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor
from torchvision import ops

from labkit.plotting import COLORS, PREDICTION, show_image
from labkit.widgets.canvas import (
    PICTURE_HEIGHT,
    Canvas,
    choice_of,
    legend,
    new_boxes,
    new_figure,
    outlines_of,
    whole_slider_of,
    words_and_picture,
)


def roi_demo(features: Tensor, *, stride: int, box: Tensor, size: int = 3) -> ipywidgets.VBox:
    """Sliders that move one proposal over a feature map, beside what RoIPool and RoIAlign make of it; notebook 07.

    On the map the proposal is orange, the bins of the method are blue, and RoIAlign's samples are dots.

    Args:
        features: (C, h, w); channel 0 is shown.
        stride: pixels a cell.
        box: (4,) xyxy pixels, where the proposal lies at first.
        size: bins a side.

    Returns:
        A box of seven widgets: sliders for left, top, width and height in pixels, a choice of the method, a line of
        words, the picture.

    Raises:
        ValueError: features are not (C, h, w).

    Example:
        >>> demo = roi_demo(torch.rand(1, 6, 9), stride=8, box=torch.tensor([11.0, 13, 43, 27]))
        >>> demo.children[5].value
        'RoIPool: the box becomes cells 1 to 5 across and 2 to 3 down; its edges move by up to <b>5</b> pixels'
        >>> demo.children[4].value = "RoIAlign"
        >>> demo.children[5].value
        'RoIAlign: nothing is rounded; 4 samples a bin, each mixed from the 4 cells around it'
    """
    if features.ndim != 3:
        raise ValueError(f"features must be (C, h, w), got {tuple(features.shape)}; index the batch first")
    features = features.detach().cpu().float()
    height, width = features.shape[1:]
    limits = features[0].min().item(), features[0].max().item() + 1e-6  # one scale for both pictures

    figure = new_figure(9.6, PICTURE_HEIGHT)
    map_axes, bin_axes = figure.add_axes((0.01, 0.02, 0.57, 0.88)), figure.add_axes((0.6, 0.02, 0.39, 0.88))
    show_image(features[0], value_range=limits, title=f"feature map, {height} x {width} cells", ax=map_axes)
    show_image(torch.full((size, size), limits[0]), value_range=limits, title=f"{size} x {size} bins", ax=bin_axes)
    canvas = Canvas(figure)
    pooled_image = bin_axes.images[0]
    bin_lines, outline = (
        new_boxes(map_axes, color, width=lw) for color, lw in ((COLORS["sky"], 1.5), (PREDICTION, 3.5))
    )
    (dots,) = map_axes.plot([], [], "o", color=COLORS["yellow"], ms=4)

    start = [round(v) for v in box.tolist()]
    most = {"left": width * stride - 1, "top": height * stride - 1, "width": width * stride, "height": height * stride}
    values = dict(zip(most, (start[0], start[1], start[2] - start[0], start[3] - start[1]), strict=True))
    sliders = [whole_slider_of(f"{name} (pixels)", values[name], last) for name, last in most.items()]
    for slider in sliders[2:]:
        slider.min = 1
    method = choice_of("pooling", ["RoIPool", "RoIAlign"])
    words, picture = words_and_picture("a feature map with one proposal on it, beside the bins that are pooled from it")

    def redraw(_=None) -> None:
        x1, y1, wide, high = (slider.value for slider in sliders)
        roi = torch.tensor([[x1, y1, min(x1 + wide, width * stride), min(y1 + high, height * stride)]]).float()
        ends: list[float] = (roi[0] / stride).tolist()  # x1 y1 x2 y2 in cells
        columns: Sequence[tuple[float, float]]
        rows: Sequence[tuple[float, float]]
        pools = method.value == "RoIPool"
        if pools:
            pooled = ops.roi_pool(features[None], [roi], size, spatial_scale=1 / stride)
            columns, rows = (_pool_bins(ends[k], ends[k + 2], size) for k in (0, 1))
            snapped = torch.tensor([columns[0][0], rows[0][0], columns[-1][1], rows[-1][1]]) * stride
            words.value = (
                f"RoIPool: the box becomes cells {columns[0][0]} to {columns[-1][1] - 1} across and {rows[0][0]} to "
                f"{rows[-1][1] - 1} down; its edges move by up to <b>{(snapped - roi[0]).abs().max():.0f}</b> pixels"
            )
            samples = torch.zeros(2, 0)
        else:
            pooled = ops.roi_align(
                features[None], [roi], size, spatial_scale=1 / stride, sampling_ratio=2, aligned=True
            )
            columns, rows = (_align_bins(ends[k], ends[k + 2], size) for k in (0, 1))
            words.value = "RoIAlign: nothing is rounded; 4 samples a bin, each mixed from the 4 cells around it"
            x, y = (torch.tensor([a + q * (b - a) for a, b in bins for q in (0.25, 0.75)]) for bins in (columns, rows))
            samples = torch.cartesian_prod(x, y).T
        bins = torch.tensor([[left, top, right, bottom] for top, bottom in rows for left, right in columns])
        bin_lines.set_verts(outlines_of(bins.float()))
        outline.set_verts(outlines_of(roi / stride))
        dots.set_data(samples[0].numpy(), samples[1].numpy())
        pooled_image.set_data(pooled[0, 0].numpy())
        picture.value = canvas.png((bin_lines, outline, dots, pooled_image))

    for control in (*sliders, method):
        control.observe(redraw, names="value")
    redraw()
    meaning = {"proposal": (PREDICTION, "dashed"), "bins": (COLORS["sky"], "solid")}
    meaning["samples of RoIAlign"] = (COLORS["yellow"], "dotted")
    return ipywidgets.VBox([*sliders, method, words, picture, legend(meaning)])


def _pool_bins(low: float, high: float, size: int) -> list[tuple[int, int]]:
    """First cell and the one past the last of RoIPool's bins along a side, from its ends in cells."""
    first, last = (int(v + 0.5) for v in (low, high))
    cells = max(last - first + 1, 1)
    return [(first + i * cells // size, first - (-(i + 1) * cells // size)) for i in range(size)]


def _align_bins(low: float, high: float, size: int) -> list[tuple[float, float]]:
    """Ends of RoIAlign's bins along a side, in cells."""
    step = (high - low) / size
    return [(low + i * step, low + (i + 1) * step) for i in range(size)]

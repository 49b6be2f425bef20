"""Two stages switched on and off, live, with a threshold; notebook 14."""

from collections.abc import Mapping

import ipywidgets
import torch
from torch import Tensor

from labkit.detection.candidates import window
from labkit.detection.evaluation import FrocCurve
from labkit.plotting import PREDICTION, TRUTH, plot_curves
from labkit.widgets.canvas import (
    Canvas,
    choice_of,
    legend,
    new_boxes,
    new_figure,
    outlines_of,
    slider_of,
    whole_slider_of,
    words_and_picture,
)

NEAR = 2.0  # slices: a candidate this near to a slice is shown on it
MOST = 10  # false positives a scan on the axis; beyond, an arrow stands at its end
HALF = 8.0  # pixels: half the side of a candidate's square


def stages_demo(
    volume: Tensor,
    marks: Mapping[str, Mapping[str, Tensor]],
    curves: Mapping[str, FrocCurve],
    *,
    truths: Tensor,
    threshold: float = 0.5,
) -> ipywidgets.VBox:
    """Buttons for the stages, sliders for slice and threshold: the marks on a slice, and the point on the FROC curve.

    Args:
        volume: (Z, Y, X) HU.
        marks: for each name its `voxels` (M, 3) z y x and `scores` (M,), 0 to 1.
        curves: for each name, of `froc` over all scans, this one among them.
        truths: (K, 6) x1 y1 z1 x2 y2 z2 of the nodules, voxels.
        threshold: where its slider stands at first.

    Returns:
        A box of six widgets: buttons, two sliders, a line of words, the picture, what the colours mean.

    Raises:
        ValueError: marks and curves have other names, or the volume is none.

    Example:
        >>> from labkit.detection.evaluation import FrocMarks, froc_curve
        >>> import numpy as np
        >>> curve = froc_curve([FrocMarks(np.array([0.9]), np.array([0.6]))])
        >>> mark = {"voxels": torch.tensor([[4.0, 6.0, 7.0]]), "scores": torch.tensor([0.9])}
        >>> box = torch.tensor([[5.0, 4.0, 3.0, 9.0, 8.0, 6.0]])
        >>> demo = stages_demo(torch.full((9, 16, 20), -800.0), {"1": mark}, {"1": curve}, truths=box)
        >>> demo.children[3].value
        'sensitivity <b>1.00</b> at <b>1.00</b> false positives a scan; 1 mark on this slice'
    """
    _check(volume, marks, curves)
    grey = window(volume.detach().cpu().float())
    found = {name: {key: value.detach().cpu() for key, value in each.items()} for name, each in marks.items()}
    panel = _Panel(grey, truths.detach().cpu(), curves)
    buttons = choice_of("stages", list(marks))
    place = whole_slider_of("slice", _fullest(truths, len(grey)), len(grey) - 1)
    least = slider_of("threshold", threshold)
    words, picture = words_and_picture("a slice with the marks above the threshold, beside the FROC curves")

    def redraw(_=None) -> None:
        each = found[buttons.value]
        strong = each["voxels"][each["scores"] >= least.value]
        here = strong[(strong[:, 0] - place.value).abs() <= NEAR]
        words.value = panel.show(place.value, here, buttons.value, least.value)
        picture.value = panel.png()

    for control in (buttons, place, least):
        control.observe(redraw, names="value")
    redraw()
    meaning = {"nodule": (TRUTH, "solid"), "mark within two slices": (PREDICTION, "dashed")}
    return ipywidgets.VBox([buttons, place, least, words, picture, legend(meaning)])


class _Panel:
    """A slice at the left, the curves at the right; what moves is drawn over them."""

    def __init__(self, grey: Tensor, truths: Tensor, curves: Mapping[str, FrocCurve]):
        self.grey, self.truths, self.curves = grey, truths, curves
        _, height, width = grey.shape
        figure = new_figure(12, 4.4)
        left, right = figure.add_axes((0, 0, 0.62, 1)), figure.add_axes((0.71, 0.16, 0.27, 0.78))
        left.set_axis_off()
        self.slice = left.imshow(grey[0].numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        self.nodules = new_boxes(left, TRUTH, width=2)
        self.marks = new_boxes(left, PREDICTION, width=2)
        lines = {name: (curve.false_positives, curve.sensitivity) for name, curve in curves.items()}
        plot_curves(lines, xlabel="false positives a scan", ylabel="sensitivity", ax=right)
        right.set(ylim=(0, 1.02), xlim=(0, MOST))
        self.canvas = Canvas(figure)
        (self.point,) = right.plot([], [], "o", color=PREDICTION, mec="black", ms=13, clip_on=False)

    def show(self, z: int, marks: Tensor, name: str, threshold: float) -> str:
        """Put everything in its place; the line of words."""
        self.slice.set_data(self.grey[z].numpy())
        cut = (self.truths[:, 2] <= z + 0.5) & (self.truths[:, 5] > z + 0.5)
        self.nodules.set_verts(outlines_of(self.truths[cut][:, [0, 1, 3, 4]]))
        middles = marks.flip(1)[:, :2] + 0.5  # x y, in pixels
        self.marks.set_verts(outlines_of(torch.cat([middles - HALF, middles + HALF], dim=1)))
        curve = self.curves[name]
        at = int((curve.thresholds >= threshold).sum()) - 1  # the first point, at infinity, always counts
        alarms, sensitivity = curve.false_positives[at], curve.sensitivity[at]
        self.point.set_data([min(alarms, MOST)], [sensitivity])
        self.point.set_marker(">" if alarms > MOST else "o")  # an arrow: it lies farther right
        return (
            f"sensitivity <b>{sensitivity:.2f}</b> at <b>{alarms:.2f}</b> false positives a scan; "
            f"{len(marks)} mark{'' if len(marks) == 1 else 's'} on this slice"
        )

    def png(self) -> bytes:
        """The picture."""
        return self.canvas.png((self.slice, self.nodules, self.marks, self.point))


def _fullest(truths: Tensor, depth: int) -> int:
    """The slice in the middle of the largest nodule; the middle one where there is none."""
    if not len(truths):
        return depth // 2
    largest = truths[(truths[:, 3:] - truths[:, :3]).prod(dim=1).argmax()]
    return int(((largest[2] + largest[5]) / 2).clamp(0, depth - 1))


def _check(volume: Tensor, marks: Mapping, curves: Mapping) -> None:
    if volume.ndim != 3 or not volume.numel():
        raise ValueError(f"volume must be (Z, Y, X), got {tuple(volume.shape)}; give one scan")
    if not marks or list(marks) != list(curves):
        raise ValueError(
            f"marks and curves must have the same names, got {list(marks)} and {list(curves)}; give one of each a stage"
        )

"""Through a volume slice by slice, in three planes, with boxes; notebook 15."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from torch import Tensor

from labkit.detection.boxes_3d import check_boxes_3d, wall_distance
from labkit.plotting import PREDICTION, TRUTH
from labkit.plotting.planes import PLANES, SOFT_TISSUE, plane_of
from labkit.widgets.canvas import (
    Canvas,
    choice_of,
    legend,
    new_boxes,
    new_figure,
    outlines_of,
    whole_slider_of,
    words_and_picture,
)

WINDOWS = {"soft tissue": SOFT_TISSUE, "lungs": (-1000.0, 200.0)}  # HU, black and white
LETTERS = "xyz"
HEIGHT, TITLE, GAP = 2.6, 0.4, 0.08  # inches of the panels, over and between them: no wider than a projector shows


def volume_demo(
    volume: Tensor,
    boxes: Tensor,
    names: Sequence[str],
    *,
    truths: Tensor,
    spacing: Sequence[float],
) -> ipywidgets.VBox:
    """Three sliders, one a plane: the slices, and where they cut the boxes, with their names.

    Found boxes are orange and dashed, the truth is green. Thin lines show where the other two planes lie.

    Args:
        volume: (Z, Y, X) HU.
        boxes: (N, 6) found, x1 y1 z1 x2 y2 z2 voxels.
        names: N words, one a box.
        truths: (M, 6).
        spacing: (z, y, x) mm a voxel.

    Returns:
        A box: three sliders, the window, a line of words, the picture, what the colours mean.

    Raises:
        ValueError: the volume is not (Z, Y, X), the boxes are not (N, 6), there is not a name a box, or the spacing
            is not three positive numbers.

    Example:
        >>> boxes = torch.tensor([[2.0, 3.0, 1.0, 9.0, 8.0, 6.0]])
        >>> demo = volume_demo(torch.zeros(8, 12, 14), boxes, ["liver"], truths=boxes, spacing=(4.0, 3.0, 3.0))
        >>> demo.children[4].value
        'the slices through <b>x 7, y 6, z 4</b> cut <b>1</b> found box: liver'
    """
    grey, steps = _checked(volume, boxes, names, truths, spacing)
    figure, panels = _panels(grey.shape, steps)
    planes = [_Plane(ax, sides, grey, steps) for ax, (_, *sides) in zip(panels, PLANES, strict=True)]
    canvas = Canvas(figure)
    sizes = grey.shape[::-1]  # X Y Z
    sliders = [
        whole_slider_of(f"{letter}, slice", size // 2, size - 1) for letter, size in zip(LETTERS, sizes, strict=True)
    ]
    window = choice_of("window", list(WINDOWS))
    words, picture = words_and_picture("three planes of a volume with boxes")
    found, true = boxes.detach().cpu().float(), truths.detach().cpu().float()

    def redraw(_=None) -> None:
        place = [slider.value for slider in sliders]
        look = WINDOWS[window.value]
        artists = [artist for plane in planes for artist in plane.show(place, look, found, true, names)]
        cut = [name for name, box in zip(names, found, strict=True) if any(_cuts(box, a, place[a]) for a in range(3))]
        at = ", ".join(f"{letter} {value}" for letter, value in zip(LETTERS, place, strict=True))
        kind = "found box" if len(cut) == 1 else "found boxes"
        which = ": " + ", ".join(cut) if cut else ""
        words.value = f"the slices through <b>{at}</b> cut <b>{len(cut)}</b> {kind}{which}"
        picture.value = canvas.png(artists)

    for control in (*sliders, window):
        control.observe(redraw, names="value")
    redraw()
    meaning = {"truth": (TRUTH, "solid"), "found": (PREDICTION, "dashed")}
    return ipywidgets.VBox([*sliders, window, words, picture, legend(meaning)])


def _cuts(box: Tensor, axis: int, place: int) -> bool:
    """Whether the middle of slice `place` lies in the box."""
    return bool(box[axis] <= place + 0.5 < box[axis + 3])


class _Plane:
    """One panel: an image that follows its slider, outlines, names, and lines where the other planes are."""

    def __init__(self, ax: Axes, sides: Sequence[int], grey: Tensor, steps: Sequence[float]) -> None:
        self.ax, self.grey, self.steps = ax, grey, steps
        self.cut, self.right, self.down = sides
        sizes = grey.shape[::-1]
        width, height = sizes[self.right] * steps[self.right], sizes[self.down] * steps[self.down]
        up = self.down == 2  # the head is above
        self.extent = (0.0, width, 0.0, height) if up else (0.0, width, height, 0.0)
        self.image: AxesImage = ax.imshow(
            plane_of(grey, self.cut, (0, 0, 0)),
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=self.extent,
            origin="lower" if up else "upper",
        )
        self.image.set_animated(True)
        self.truths, self.found = new_boxes(ax, TRUTH, width=2), new_boxes(ax, PREDICTION, width=2)
        self.lines = [ax.axvline(0, color="0.8", lw=0.8), ax.axhline(0, color="0.8", lw=0.8)]
        self.names: list[Text] = []
        for artist in (self.truths, self.found, *self.lines):
            artist.set_animated(True)

    def show(
        self, place: Sequence[int], window: tuple[float, float], found: Tensor, truths: Tensor, names: Sequence[str]
    ) -> list:
        """What is to be drawn, in order."""
        low, high = window
        self.image.set_data((plane_of(self.grey, self.cut, place).astype(np.float32) - low) / (high - low))
        self.truths.set_verts(outlines_of(self._flat(truths, place[self.cut])[0]))
        seen, rows = self._flat(found, place[self.cut])
        self.found.set_verts(outlines_of(seen))
        texts = [self._name(i, names[row], box) for i, (row, box) in enumerate(zip(rows, seen.tolist(), strict=True))]
        across, down = (place[axis] + 0.5 for axis in (self.right, self.down))
        self.lines[0].set_xdata([across * self.steps[self.right]] * 2)
        self.lines[1].set_ydata([down * self.steps[self.down]] * 2)
        return [self.image, *self.lines, self.truths, self.found, *texts]

    def _flat(self, boxes: Tensor, place: int) -> tuple[Tensor, list[int]]:
        """(K, 4) mm of the boxes that the slice cuts, and their rows."""
        rows = [row for row, box in enumerate(boxes) if _cuts(box, self.cut, place)]
        mm = torch.tensor([self.steps[self.right], self.steps[self.down]] * 2)
        sides = [self.right, self.down, self.right + 3, self.down + 3]
        return boxes[rows][:, sides] * mm, rows

    def _name(self, number: int, word: str, box: Sequence[float]) -> Text:
        """The text number `number` of this panel, in the upper left corner of a box; it is made once."""
        while len(self.names) <= number:
            look = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1}
            self.names.append(self.ax.text(0, 0, "", color="white", fontsize=10, va="top", clip_on=True, bbox=look))
            self.names[-1].set_animated(True)
        text = self.names[number]
        text.set_text(word)
        text.set_position((box[0] + 4, max(box[1], box[3]) if self.down == 2 else min(box[1], box[3])))
        return text


def _panels(shape: Sequence[int], steps: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure with three axes, at one scale."""
    sizes = [count * step for count, step in zip(shape[::-1], steps, strict=True)]  # mm, x y z
    scale = HEIGHT / max(sizes[down] for _, _, _, down in PLANES)  # inches a mm
    total = sum(sizes[right] * scale + GAP for _, _, right, _ in PLANES) + GAP
    figure, left, axes = new_figure(total, HEIGHT + TITLE), GAP, []
    for name, _, right, down in PLANES:
        width, height = sizes[right] * scale, sizes[down] * scale
        ax = figure.add_axes((left / total, 0.02, width / total, height / (HEIGHT + TITLE)))
        ax.set_axis_off()
        ax.set_title(name, fontsize=13)
        axes.append(ax)
        left += width + GAP
    return figure, axes


def _checked(
    volume: Tensor, boxes: Tensor, names: Sequence[str], truths: Tensor, spacing: Sequence[float]
) -> tuple[Tensor, list[float]]:
    """The volume in whole HU, and mm along x, y and z; or the error that says what is missing."""
    if volume.ndim != 3:
        raise ValueError(f"volume must be (Z, Y, X), got shape {tuple(volume.shape)}; take scan.volume")
    check_boxes_3d(boxes, empty=True)
    check_boxes_3d(truths, name="truths", empty=True)
    if len(names) != len(boxes):
        raise ValueError(f"names must be one a box, got {len(names)} for {len(boxes)} boxes; name each of them")
    wall_distance(truths[:0], truths[:0], spacing=spacing)  # looks at the spacing
    steps = [float(step) for step in spacing]
    return volume.detach().cpu().to(torch.int16), steps[::-1]

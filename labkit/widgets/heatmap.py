"""A threshold on a heatmap, live; notebook 16."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from labkit.detection.evaluation import FrocCurve
from labkit.detection.heatmaps import STRIDE, heatmap_peaks
from labkit.plotting import PREDICTION, TRUTH
from labkit.widgets.canvas import legend, slider_of, words_and_picture
from labkit.widgets.films_and_froc import FilmsAndFroc, in_a_row

WARM = (230, 159, 0)  # of the hills, PREDICTION in bytes
DENSE = 0.6  # how much of the film a hill covers at its top


def heatmap_demo(
    films: Sequence[Tensor],
    heatmaps: Sequence[Tensor] | Tensor,
    curve: FrocCurve,
    *,
    truths: Sequence[Tensor],
    stride: int = STRIDE,
    threshold: float = 0.3,
) -> ipywidgets.VBox:
    """A slider for the threshold: what of the heatmaps lies above it, the peaks, and the point on the FROC curve.

    Hills are laid over the films in orange where they are above the threshold, peaks are dots, the truth is green.

    Args:
        films: n films of one size, (1, H, W) or (H, W) in [0, 1].
        heatmaps: n maps (H / stride, W / stride), 0 to 1.
        curve: of `froc` over all films, these among them.
        truths: the lesions of each film, (M, 4) xyxy pixels.
        stride: pixels a cell of the heatmaps.
        threshold: where the slider stands at first.

    Returns:
        A box of four widgets: the slider, a line of words, the picture, what the colours mean.

    Raises:
        ValueError: there are no films, not as many entries of each kind, or a heatmap does not fit its film.

    Example:
        >>> from labkit.detection.evaluation import FrocMarks, froc_curve
        >>> curve = froc_curve([FrocMarks(np.array([0.9]), np.array([0.4]))])
        >>> heatmap, box = torch.zeros(10, 8), torch.tensor([[2.0, 3.0, 9.0, 8.0]])
        >>> heatmap[2, 3] = 0.9
        >>> demo = heatmap_demo([torch.zeros(20, 16)], [heatmap], curve, truths=[box])
        >>> demo.children[1].value
        'sensitivity <b>1.00</b> at <b>1.00</b> false positives a film; 1 peak on these films'
    """
    pictures, maps = _checked(films, heatmaps, truths, stride)
    found = [heatmap_peaks(one, stride=stride) for one in maps]
    height, width = pictures[0].shape
    centers = in_a_row([one["centers"] for one in found], width)
    scores = torch.cat([one["scores"] for one in found])
    hills = torch.cat(maps, dim=1)

    panel = FilmsAndFroc(pictures, truths, curve)
    layer = panel.films.imshow(_over(hills, 1.0), extent=(0, len(pictures) * width, height, 0))
    (dots,) = panel.films.plot([], [], "o", color=PREDICTION, mec="black", ms=9)

    slider = slider_of("threshold", threshold)
    words, picture = words_and_picture("films under the heatmap above the threshold, beside the FROC curve")

    def redraw(_=None) -> None:
        strong = scores >= max(slider.value, 1e-6)
        layer.set_data(_over(hills, slider.value))
        dots.set_data(*centers[strong].T.numpy())
        words.value = panel.go_to(slider.value, int(strong.sum()), "peak")
        picture.value = panel.canvas.png((layer, dots, panel.point))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"lesion": (TRUTH, "solid"), "heatmap above the threshold, its peaks": (PREDICTION, "solid")}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])


def _checked(
    films: Sequence[Tensor], heatmaps: Sequence[Tensor] | Tensor, truths: Sequence[Tensor], stride: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Films (H, W) and heatmaps (h, w) on the CPU, or the error that says what is missing."""
    if not len(films) or len({len(films), len(heatmaps), len(truths)}) > 1:
        raise ValueError(
            f"films, heatmaps and truths must hold one entry a film, got {len(films)}, {len(heatmaps)} and "
            f"{len(truths)}; give at least one film"
        )
    pictures = [film.detach().cpu().reshape(film.shape[-2:]) for film in films]
    maps = [one.detach().cpu().float() for one in heatmaps]
    for film, one in zip(pictures, maps, strict=True):
        if (one.shape[0] * stride, one.shape[1] * stride) != tuple(film.shape):
            raise ValueError(
                f"a heatmap of stride {stride} must be {film.shape[0] // stride} x {film.shape[1] // stride} cells, "
                f"got {tuple(one.shape)}; name its stride"
            )
    return pictures, maps


def _over(hills: Tensor, threshold: float) -> np.ndarray:
    """(h, w, 4) bytes: orange, the denser the higher, and nothing below the threshold."""
    shown = np.zeros((*hills.shape, 4), dtype=np.uint8)
    shown[..., :3] = WARM
    dense = torch.where(hills >= max(threshold, 0.02), 0.25 + (DENSE - 0.25) * hills, 0)
    shown[..., 3] = (255 * dense.clamp(0, 1)).byte().numpy()
    return shown

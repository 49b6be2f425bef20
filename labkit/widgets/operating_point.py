"""The operating point on the FROC curve, live; notebook 04."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from labkit.detection.evaluation import FrocCurve
from labkit.plotting import PREDICTION, TRUTH, plot_curves, show_boxes, show_image
from labkit.widgets.canvas import Canvas, legend, new_boxes, new_figure, outlines_of, slider_of, words_and_picture


def operating_point_demo(
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    curve: FrocCurve,
    *,
    truths: Sequence[Tensor],
    threshold: float = 0.5,
) -> ipywidgets.VBox:
    """A slider for the score threshold: marks on a few films, and where it stands on the FROC curve; notebook 04.

    Marks are orange and dashed, the truth green.

    Args:
        images: n films of one size, (1, H, W) or (H, W) in [0, 1].
        boxes, scores: the marks on each, (N, 4) xyxy pixels and (N,).
        curve: of `froc` over all films, these among them.
        truths: the lesions of each film, (M, 4) xyxy pixels.
        threshold: where the slider stands at first.

    Returns:
        A box of three widgets: the slider, a line of words, the picture.

    Raises:
        ValueError: there are no films, or not as many entries of each kind.

    Example:
        >>> import numpy as np
        >>> from labkit.detection.evaluation import FrocMarks, froc_curve
        >>> curve = froc_curve([FrocMarks(np.array([0.9]), np.array([0.4]))])
        >>> box = torch.tensor([[2.0, 3.0, 9.0, 8.0]])
        >>> demo = operating_point_demo([torch.zeros(20, 15)], [box], [torch.tensor([0.9])], curve, truths=[box])
        >>> demo.children[1].value
        'sensitivity <b>1.00</b> at <b>0.00</b> false positives a film; 1 mark on these films'
    """
    if not len(images) or len({len(images), len(boxes), len(scores), len(truths)}) > 1:
        raise ValueError(
            "images, boxes, scores and truths must hold one entry a film, got "
            f"{len(images)}, {len(boxes)}, {len(scores)} and {len(truths)}; give at least one film"
        )
    films = [image.detach().cpu().reshape(image.shape[-2:]) for image in images]
    moves = [torch.tensor([1.0, 0, 1, 0]) * i * films[0].shape[1] for i in range(len(films))]
    marks = torch.cat([part.detach().cpu() + move for part, move in zip(boxes, moves, strict=True)])
    all_scores = torch.cat([part.detach().cpu() for part in scores])
    lesions = torch.cat([part.detach().cpu() + move for part, move in zip(truths, moves, strict=True)])

    figure = new_figure(12, 4)
    left, right = figure.add_axes((0, 0, 0.64, 1)), figure.add_axes((0.72, 0.17, 0.26, 0.76))
    show_image(torch.cat(films, dim=1), ax=left)
    for move in moves[1:]:
        left.axvline(float(move[0]), color="white", lw=3)
    show_boxes(lesions, color=TRUTH, width=2, ax=left)
    name = {"FROC": (curve.false_positives, curve.sensitivity)}
    plot_curves(name, xlabel="false positives a film", ylabel="sensitivity", ax=right)
    right.set_ylim(0, 1.02)
    canvas = Canvas(figure)
    shown = new_boxes(left, PREDICTION, width=3)
    (point,) = right.plot([], [], "o", color=PREDICTION, mec="black", ms=14, clip_on=False)

    slider = slider_of("score threshold", threshold)
    words, picture = words_and_picture("films with the marks above the threshold, beside the FROC curve")

    def redraw(_=None) -> None:
        strong = all_scores >= slider.value
        here = int((curve.thresholds >= slider.value).sum()) - 1  # the first point, at infinity, always counts
        alarms, sensitivity = curve.false_positives[here], curve.sensitivity[here]
        shown.set_verts(outlines_of(marks[strong]))
        point.set_data([alarms], [sensitivity])
        count = int(strong.sum())
        words.value = (
            f"sensitivity <b>{sensitivity:.2f}</b> at <b>{alarms:.2f}</b> false positives a film; "
            f"{count} mark{'' if count == 1 else 's'} on these films"
        )
        picture.value = canvas.png((shown, point))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"lesion": (TRUTH, "solid"), "mark above the threshold": (PREDICTION, "dashed")}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])

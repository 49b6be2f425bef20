"""The operating point on the FROC curve, live; notebook 04."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from labkit.detection.evaluation import FrocCurve
from labkit.plotting import PREDICTION, TRUTH
from labkit.widgets.canvas import legend, new_boxes, outlines_of, slider_of, words_and_picture
from labkit.widgets.films_and_froc import FilmsAndFroc, in_a_row


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
    marks, all_scores = in_a_row(boxes, films[0].shape[1]), torch.cat([part.detach().cpu() for part in scores])

    panel = FilmsAndFroc(films, truths, curve)
    shown = new_boxes(panel.films, PREDICTION, width=3)

    slider = slider_of("score threshold", threshold)
    words, picture = words_and_picture("films with the marks above the threshold, beside the FROC curve")

    def redraw(_=None) -> None:
        strong = all_scores >= slider.value
        shown.set_verts(outlines_of(marks[strong]))
        words.value = panel.go_to(slider.value, int(strong.sum()), "mark")
        picture.value = panel.canvas.png((shown, panel.point))

    slider.observe(redraw, names="value")
    redraw()
    meaning = {"lesion": (TRUTH, "solid"), "mark above the threshold": (PREDICTION, "dashed")}
    return ipywidgets.VBox([slider, words, picture, legend(meaning)])

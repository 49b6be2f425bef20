"""Films in a row beside the FROC curve of their detector: what the two demos of a threshold draw."""

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.detection.evaluation import FrocCurve
from labkit.plotting import PREDICTION, TRUTH, plot_curves, show_boxes, show_image
from labkit.widgets.canvas import Canvas, new_figure


def in_a_row(parts: Sequence[Tensor], width: int) -> Tensor:
    """Points (N, 2) or boxes (N, 4) of each film as one tensor, moved to where the film stands in the row.

    Example:
        >>> in_a_row([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])], 10)
        tensor([[ 1.,  2.],
                [13.,  4.]])
    """
    step = torch.tensor([float(width), 0.0])  # x, y
    return torch.cat([part.detach().cpu() + i * step.repeat(part.shape[1] // 2) for i, part in enumerate(parts)])


class FilmsAndFroc:
    """The picture without what a threshold changes, and the point on the curve.

    Attributes:
        films: the axes with the films and their lesions.
        canvas: draws over them.
        point: the artist that stands on the curve.
    """

    def __init__(self, films: Sequence[Tensor], truths: Sequence[Tensor], curve: FrocCurve):
        """Draw it.

        Args:
            films: n films (H, W) of one size, on the CPU.
            truths: the lesions of each, (M, 4) xyxy pixels.
            curve: of `froc` over all films, these among them.
        """
        width = films[0].shape[1]
        figure = new_figure(12, 4)
        self.films, right = figure.add_axes((0, 0, 0.64, 1)), figure.add_axes((0.72, 0.17, 0.26, 0.76))
        show_image(torch.cat(list(films), dim=1), ax=self.films)
        for i in range(1, len(films)):
            self.films.axvline(i * width, color="white", lw=3)
        show_boxes(in_a_row(truths, width), color=TRUTH, width=2, ax=self.films)
        line = {"FROC": (curve.false_positives, curve.sensitivity)}
        plot_curves(line, xlabel="false positives a film", ylabel="sensitivity", ax=right)
        right.set_ylim(0, 1.02)
        self.canvas, self.curve = Canvas(figure), curve
        (self.point,) = right.plot([], [], "o", color=PREDICTION, mec="black", ms=14, clip_on=False)

    def go_to(self, threshold: float, count: int, what: str) -> str:
        """Put the point where the threshold stands; the line of words, with so many marks (`what`) on these films."""
        here = int((self.curve.thresholds >= threshold).sum()) - 1  # the first point, at infinity, always counts
        alarms, sensitivity = self.curve.false_positives[here], self.curve.sensitivity[here]
        self.point.set_data([alarms], [sensitivity])
        return (
            f"sensitivity <b>{sensitivity:.2f}</b> at <b>{alarms:.2f}</b> false positives a film; "
            f"{count} {what}{'' if count == 1 else 's'} on these films"
        )

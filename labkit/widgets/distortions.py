"""Six distortions of one image with the same MSE, live; notebook 10."""

import ipywidgets
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from labkit.denoising.distortions import same_mse
from labkit.denoising.metrics import psnr, ssim
from labkit.plotting import as_image, show_image
from labkit.widgets.canvas import Canvas, new_figure, words_and_picture

PANEL, WORDS = 2.45, 0.42  # height of an image and of the line above it, in inches
SMALLEST = -4.0  # log10 of the slider's least MSE: 40 dB
LARGEST = 0.8  # of the image's variance: there a blur leaves nothing


def distortions_demo(image: Tensor, *, mse: float = 0.003, seed: int = 0) -> ipywidgets.VBox:
    """A slider for the mean squared error: six pictures that all have it, and the SSIM of each; notebook 10.

    Args:
        image: (H, W) or (1, H, W) in [0, 1], 11 x 11 pixels or more.
        mse: where the slider stands at first.
        seed: of the noise and of the dead pixels, which stay at their places as the slider moves.

    Returns:
        A box of three widgets: the slider, a line of words, the picture.

    Raises:
        ValueError: this is no image in [0, 1], or it is flat.

    Example:
        >>> demo = distortions_demo(torch.rand(40, 50, generator=torch.Generator().manual_seed(0)), mse=0.01)
        >>> demo.children[1].value
        'all six: MSE <b>0.0100</b>, PSNR <b>20.0 dB</b>; SSIM from <b>...</b> (...) to <b>...</b> (...)'
    """
    clean = torch.from_numpy(as_image(image)).float()
    if clean.ndim != 2 or float(clean.var()) * LARGEST <= 10**SMALLEST:
        raise ValueError(f"image must be grey and not flat, got shape {tuple(clean.shape)}; give one image (H, W)")
    slider = ipywidgets.FloatLogSlider(
        value=mse,
        base=10,
        min=SMALLEST,
        max=float(torch.log10(LARGEST * clean.var(correction=0))),
        step=0.05,
        description="mean squared error",
        readout_format=".4f",
        style={"description_width": "11em"},
        layout={"width": "32em"},
    )
    words, picture = words_and_picture("the image with six kinds of damage of one size")
    figure, panels = _panels(clean)
    canvas = Canvas(figure)
    shown = [panel.images[0] for panel in panels]
    titles = [panel.text(0, 1.02, "", fontsize=14, va="bottom", transform=panel.transAxes) for panel in panels]

    def redraw(_=None) -> None:
        wrong = same_mse(clean, mse=slider.value, seed=seed)
        batch = torch.stack(list(wrong.values()))
        likeness = ssim(batch, clean.expand_as(batch), data_range=1.0).tolist()
        for layer, title, (name, other), value in zip(shown, titles, wrong.items(), likeness, strict=True):
            layer.set_data(other.clamp(0, 1).numpy())
            title.set_text(f"{name}  {value:.2f}")
        decibels = float(psnr(batch[0], clean, data_range=1.0))
        (least, worst), (most, best) = (pick(zip(likeness, wrong, strict=True)) for pick in (min, max))
        words.value = (
            f"all six: MSE <b>{slider.value:.4f}</b>, PSNR <b>{decibels:.1f} dB</b>; "
            f"SSIM from <b>{least:.2f}</b> ({worst}) to <b>{most:.2f}</b> ({best})"
        )
        picture.value = canvas.png((*shown, *titles))

    slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([slider, words, picture])


def _panels(clean: Tensor) -> tuple[Figure, list[Axes]]:
    """A figure with the image and room for six others, and the six axes."""
    width = PANEL * clean.shape[1] / clean.shape[0]
    wide, high = 4 * width + 0.3, 2 * (PANEL + WORDS)
    figure = new_figure(wide, high)
    places = [((column * (width + 0.1)) / wide, row * (PANEL + WORDS) / high) for row in (1, 0) for column in range(4)]
    axes = [figure.add_axes((x, y, width / wide, PANEL / high)) for x, y in places]
    show_image(clean, ax=axes[0])
    axes[0].text(0, 1.02, "the image", fontsize=14, va="bottom", transform=axes[0].transAxes)
    axes[4].set_axis_off()
    axes[4].text(0.5, 0.5, "above each:\nits SSIM", fontsize=16, ha="center", va="center", transform=axes[4].transAxes)
    panels = [*axes[1:4], *axes[5:]]
    for panel in panels:
        show_image(clean, ax=panel)  # each is drawn over
    return figure, panels

"""The dose of a scan, live; notebook 13."""

import math

import ipywidgets
import torch
from matplotlib.patches import Circle
from torch import Tensor

from labkit.denoising.ct_scan import measure, project, reconstruct
from labkit.denoising.low_dose_ct import WINDOW
from labkit.denoising.regions import roi_statistics
from labkit.plotting import COLORS, show_image
from labkit.widgets.canvas import DOTS_PER_INCH, PICTURE_HEIGHT, Canvas, choice_of, new_figure, words_and_picture

LOWEST, HIGHEST = 3.0, 6.5  # powers of ten: starved rays, and noise below the texture of tissue
STEP = math.log10(2) / 2  # of the slider: two steps halve the dose, so half and a quarter can be set


def dose_demo(
    body: Tensor,
    *,
    pixel_mm: float,
    photons: float = 4e5,
    views: int = 360,
    center: tuple[int, int] | None = None,
    radius: int = 6,
    window: tuple[float, float] = WINDOW,
) -> ipywidgets.VBox:
    """A slider for the photons a ray: the scan without noise beside the scan at this dose; notebook 13.

    The body is projected once. A slider, of which two steps halve the dose, then counts photons and reconstructs; the
    same random numbers come again, so only the dose changes. An orange circle marks where the standard deviation is
    read.

    Args:
        body: (size, size) slice in HU, air outside the circle.
        pixel_mm: side of a pixel in mm.
        photons: where the slider stands at first.
        views: projections over half a turn.
        center: row and column of the circle's middle; the middle of the slice without it.
        radius: of the circle in pixels.
        window: HU shown as black and as white.

    Returns:
        A box of four widgets: the slider (power of ten), a choice of the filter, a line of words, the picture.

    Raises:
        ValueError: body is no square slice, or photons is out of the slider's range.

    Example:
        >>> body = torch.full((64, 64), -1000.0)
        >>> body[20:44, 20:44] = 0
        >>> demo = dose_demo(body, pixel_mm=5.0, views=60)
        >>> demo.children[2].value.startswith("<b>400,000</b> photons a ray: standard deviation")
        True
    """
    if body.ndim != 2 or body.shape[0] != body.shape[1]:
        raise ValueError(f"body must be (size, size), got {tuple(body.shape)}; index the batch first")
    if not 10**LOWEST <= photons <= 10**HIGHEST:
        raise ValueError(f"photons must be from {10**LOWEST:g} to {10**HIGHEST:g}, got {photons:g}; move it there")
    body = body.detach().cpu().float()
    size = len(body)
    row, column = center or (size // 2, size // 2)
    rows, columns = torch.arange(size)[:, None], torch.arange(size)
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    rays = project(body, pixel_mm=pixel_mm, views=views)
    without = {name: reconstruct(rays, pixel_mm=pixel_mm, filter_name=name) for name in ("ramp", "hann")}

    figure = new_figure(2 * PICTURE_HEIGHT + 4 / DOTS_PER_INCH, PICTURE_HEIGHT)
    axes = figure.add_axes((0, 0, 0.498, 1)), figure.add_axes((0.502, 0, 0.498, 1))
    for ax in axes:
        show_image(without["ramp"], value_range=window, ax=ax)
    canvas = Canvas(figure)
    pictures = [ax.images[0] for ax in axes]
    circle = Circle((column + 0.5, row + 0.5), radius, fill=False, color=COLORS["orange"], lw=2)
    axes[1].add_patch(circle)

    slider = ipywidgets.FloatLogSlider(
        value=photons,
        min=math.log10(photons) - STEP * math.floor((math.log10(photons) - LOWEST) / STEP + 1e-6),
        max=HIGHEST,
        step=STEP,
        description="photons a ray",
        readout_format=",.0f",
        style={"description_width": "9em"},
        layout={"width": "32em"},
    )
    kernel = choice_of("filter", ["ramp", "hann"])
    words, picture = words_and_picture("a CT slice without noise, beside the same at this dose")

    def redraw(_=None) -> None:
        measured = measure(rays, photons=slider.value, generator=torch.Generator().manual_seed(0))
        scan = reconstruct(measured.line_integrals, pixel_mm=pixel_mm, filter_name=kernel.value)
        sd = float(roi_statistics(scan - without[kernel.value], disc).sd)
        words.value = (
            f"<b>{slider.value:,.0f}</b> photons a ray: standard deviation <b>{sd:.0f}</b> HU in the circle, "
            f"{float(measured.starved):.1%} of the rays starved"
        )
        for image, slice_ in zip(pictures, (without[kernel.value], scan), strict=True):
            image.set_data(slice_.clamp(*window).numpy())
        picture.value = canvas.png((*pictures, circle))

    for control in (slider, kernel):
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([slider, kernel, words, picture])

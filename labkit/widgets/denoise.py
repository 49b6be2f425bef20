"""Taking noise away, live; notebook 11."""

from collections.abc import Callable, Mapping

import ipywidgets
import torch
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from torch import Tensor, nn

from labkit.denoising.metrics import psnr
from labkit.plotting import COLORS, show_image
from labkit.widgets.canvas import (
    PICTURE_HEIGHT,
    Canvas,
    choice_of,
    new_figure,
    slider_of,
    whole_slider_of,
    words_and_picture,
)

GREY_LEVELS = 255  # sigma is said in these, as in the papers
LOUDEST = 75
GAP = 0.1  # inches between the two pictures
SHOWN = 0.1  # of the difference image: black below minus this, white above

Denoiser = nn.Module | Callable[..., Tensor]


def denoise_demo(
    clean: Tensor, denoisers: Mapping[str, Denoiser], *, sigma: float = 25 / GREY_LEVELS, seed: int = 0
) -> ipywidgets.VBox:
    """Sliders for the noise and a wipe, buttons for the denoiser, beside the difference image; notebook 11.

    Left of the orange line the image is noisy, right of it denoised. The second picture is denoised less clean: grey
    is right, and whatever anatomy shows in it has been taken away with the noise (or invented).

    Args:
        clean: (H, W) or (1, H, W) in [0, 1].
        denoisers: by name, networks, called as `network(noisy)`, or filters, called as `filter(noisy, sigma=sigma)`.
        sigma: of the noise at first, in the image's unit.
        seed: of the noise.

    Returns:
        A box of five widgets: noise (of 255), denoiser, wipe, a line of words, the picture.

    Raises:
        ValueError: there is no denoiser, clean is not one grey image, or sigma is not from 1 to 75 of 255.

    Example:
        >>> demo = denoise_demo(torch.full((20, 30), 0.5), {"mean": lambda noisy, sigma: noisy.mean().expand_as(noisy)})
        >>> demo.children[3].value
        'σ = 25 of 255: noisy 20.0 dB, mean <b>43.9</b> dB; the difference is shown from −0.1 to 0.1'
    """
    image = _checked(clean, denoisers)
    level = round(sigma * GREY_LEVELS)
    if not 1 <= level <= LOUDEST:
        raise ValueError(f"sigma must be from 1 to {LOUDEST} of 255, got {sigma:g}; write 25 / 255")
    unit = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    canvas, (wiped, line, difference) = _scene(image)

    noise_slider = whole_slider_of("noise σ (of 255)", level, LOUDEST, low=1)
    names = choice_of("denoiser", list(denoisers))  # buttons: all names are in sight
    wipe = slider_of("wipe", 0.5)
    words, picture = words_and_picture("the image, noisy left of the line and denoised right of it; the difference")
    shown: dict[str, Tensor] = {}

    def draw(_=None) -> None:
        column = round(wipe.value * image.shape[1])
        wiped.set_data(torch.cat([shown["noisy"][:, :column], shown["denoised"][:, column:]], dim=1).numpy())
        line.set_xdata([column, column])
        picture.value = canvas.png((wiped, line, difference))

    def denoise(_=None) -> None:
        width = noise_slider.value / GREY_LEVELS
        shown["noisy"] = image + width * unit
        shown["denoised"] = _apply(denoisers[names.value], shown["noisy"].clone(), width)
        difference.set_data((shown["denoised"] - image).numpy())
        before, after = (float(psnr(shown[key], image, data_range=1.0)) for key in ("noisy", "denoised"))
        words.value = (
            f"σ = {noise_slider.value} of 255: noisy {before:.1f} dB, {names.value} <b>{after:.1f}</b> dB; "
            f"the difference is shown from −{SHOWN:g} to {SHOWN:g}"
        )
        draw()

    noise_slider.observe(denoise, names="value")
    names.observe(denoise, names="value")
    wipe.observe(draw, names="value")
    denoise()
    return ipywidgets.VBox([noise_slider, names, wipe, words, picture])


def _checked(clean: Tensor, denoisers: Mapping[str, Denoiser]) -> Tensor:
    """The image (H, W), or the error that says what is missing."""
    if not denoisers:
        raise ValueError("denoisers must hold at least one, got none; write {'U-Net': network}")
    if clean.ndim not in (2, 3) or (clean.ndim == 3 and len(clean) != 1):
        raise ValueError(f"clean must be (H, W) or (1, H, W), got {tuple(clean.shape)}; index the batch first")
    return clean.detach().cpu().float().reshape(clean.shape[-2:])


@torch.no_grad()
def _apply(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Tensor:
    """(H, W) what a network or a filter makes of a noisy image; a network is left in the mode it was in."""
    if not isinstance(denoiser, nn.Module):
        return denoiser(noisy, sigma=sigma).detach().cpu().float()
    training = denoiser.training
    where = next(denoiser.parameters()).device
    denoised = denoiser.eval()(noisy[None, None].to(where))[0, 0].cpu().float()
    denoiser.train(training)
    return denoised


def _scene(image: Tensor) -> tuple[Canvas, tuple[AxesImage, Line2D, AxesImage]]:
    """A canvas with two pictures side by side, and what moves on it: the wiped image, the line, the difference."""
    height, width = image.shape
    one = PICTURE_HEIGHT * width / height
    figure = new_figure(2 * one + GAP, PICTURE_HEIGHT)
    left = figure.add_axes((0, 0, one / (2 * one + GAP), 1))
    right = figure.add_axes(((one + GAP) / (2 * one + GAP), 0, one / (2 * one + GAP), 1))
    show_image(image, ax=left)
    show_image(torch.zeros_like(image), value_range=(-SHOWN, SHOWN), ax=right)
    canvas = Canvas(figure)
    (line,) = left.plot([0, 0], [0, height], color=COLORS["orange"], lw=3)
    left.set_xlim(0, width)
    left.set_ylim(height, 0)
    return canvas, (left.images[0], line, right.images[0])

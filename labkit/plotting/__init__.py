"""Pictures: images with boxes, curves, before and after.

Every function that draws on one pair of axes takes `ax` and returns it; none shows or saves.
"""

from labkit.plotting.alternative import alternative_text, as_image_tag
from labkit.plotting.curves import plot_bars, plot_curves, plot_history
from labkit.plotting.images import UNIT, as_image, show_boxes, show_image, show_images
from labkit.plotting.planes import show_planes
from labkit.plotting.style import COLORS, CYCLE, PREDICTION, STYLE, TRUTH, new_figure, use_style

__all__ = [
    "COLORS",
    "CYCLE",
    "PREDICTION",
    "STYLE",
    "TRUTH",
    "UNIT",
    "alternative_text",
    "as_image",
    "as_image_tag",
    "new_figure",
    "plot_bars",
    "plot_curves",
    "plot_history",
    "show_boxes",
    "show_image",
    "show_images",
    "show_planes",
    "use_style",
]

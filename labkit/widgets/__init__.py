"""Live demos: sliders beside a picture that answers at once.

Each demo draws its background once; a slider then only draws what changes over it, so the answer comes within a tenth
of a second. The figure never passes through pyplot, and the picture is an ordinary PNG in an `ipywidgets.Image`: it
works in JupyterLab and in notebooks run by a machine, without any extension. The first state shows before a slider
moves.
"""

from labkit.widgets.anchors import anchors_demo
from labkit.widgets.denoise import denoise_demo
from labkit.widgets.detector import detector_demo
from labkit.widgets.nms import nms_demo
from labkit.widgets.operating_point import operating_point_demo
from labkit.widgets.roi import roi_demo
from labkit.widgets.selective_search import selective_search_demo

__all__ = [
    "anchors_demo",
    "denoise_demo",
    "detector_demo",
    "nms_demo",
    "operating_point_demo",
    "roi_demo",
    "selective_search_demo",
]

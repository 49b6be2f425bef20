"""Live demos: sliders beside a picture that answers at once.

Each demo draws its background once; a slider then only draws what changes over it, so the answer comes within a tenth
of a second. The figure never passes through pyplot, and the picture is an ordinary PNG in an `ipywidgets.Image`: it
works in JupyterLab and in notebooks run by a machine, without any extension. The first state shows before a slider
moves.

A demo's module, with all it draws, is loaded when the demo is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.widgets.anchors import anchors_demo
    from labkit.widgets.denoise import denoise_demo
    from labkit.widgets.detector import detector_demo
    from labkit.widgets.distortions import distortions_demo
    from labkit.widgets.dose import dose_demo
    from labkit.widgets.heatmap import heatmap_demo
    from labkit.widgets.nms import nms_demo
    from labkit.widgets.operating_point import operating_point_demo
    from labkit.widgets.roi import roi_demo
    from labkit.widgets.selective_search import selective_search_demo
    from labkit.widgets.slice_walk import slice_walk_demo
    from labkit.widgets.stages import stages_demo
    from labkit.widgets.volume import volume_demo
    from labkit.widgets.walk import walk_demo

__all__ = [
    "anchors_demo",
    "denoise_demo",
    "detector_demo",
    "distortions_demo",
    "dose_demo",
    "heatmap_demo",
    "nms_demo",
    "operating_point_demo",
    "roi_demo",
    "selective_search_demo",
    "slice_walk_demo",
    "stages_demo",
    "volume_demo",
    "walk_demo",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"no demo called {name!r}; there are: {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{name.removesuffix('_demo')}"), name)


def __dir__() -> list[str]:
    return list(__all__)

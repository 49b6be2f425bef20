"""Three slices through a volume, with boxes over them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from labkit.plotting.images import show_boxes

PLANES = (  # title, the axis that is cut, across, down: of x y z
    ("coronal, from the front", 1, 0, 2),
    ("sagittal, from the left", 0, 1, 2),
    ("axial, from the feet", 2, 0, 1),
)
SOFT_TISSUE = (-160.0, 240.0)  # HU, black and white


def show_planes(
    volume: Tensor,
    boxes: Mapping[str, Tensor],
    *,
    at: Sequence[float],
    spacing: Sequence[float],
    axes: Sequence[Axes],
    value_range: tuple[float, float] = SOFT_TISSUE,
    width: float = 2.5,
) -> Sequence[Axes]:
    """Slices across y, x and z, each with the outlines of all boxes; the head is up.

    Args:
        volume: (Z, Y, X).
        boxes: colour -> (6,) or (N, 6) x1 y1 z1 x2 y2 z2 voxels.
        at: x y z voxels, where the slices lie.
        spacing: (z, y, x) mm, so that millimetres are as long in each direction.
        axes: three.
        value_range: intensities shown as black and white.
        width: of the outlines.

    Example:
        >>> import torch
        >>> from labkit.plotting import new_figure
        >>> axes = show_planes(torch.zeros(4, 6, 8), {}, at=(4, 3, 2), spacing=(4, 3, 3), axes=new_figure(1, 3)[1])
        >>> [ax.get_title() for ax in axes]
        ['coronal, from the front', 'sagittal, from the left', 'axial, from the feet']
    """
    mm = list(spacing)[::-1]
    for ax, (title, cut, across, down) in zip(axes, PLANES, strict=True):
        piece = plane_of(volume, cut, at)
        height, length = piece.shape
        ax.imshow(piece, cmap="gray", vmin=value_range[0], vmax=value_range[1], extent=(0, length, height, 0))
        for color, some in boxes.items():
            flat = some.reshape(-1, 6)[:, [across, down, across + 3, down + 3]]
            show_boxes(flat.float(), color=color, width=width, ax=ax)
        ax.set(
            title=title, aspect=mm[down] / mm[across], xlim=(0, length), ylim=(0, height) if down == 2 else (height, 0)
        )
        ax.set_axis_off()
    return axes


def plane_of(volume: Tensor, cut: int, at: Sequence[float]) -> np.ndarray:
    """(rows, columns) the slice of a volume (Z, Y, X) across an axis of x y z, at a place of x y z.

    Example:
        >>> import torch
        >>> plane_of(torch.arange(8).reshape(2, 2, 2), 2, (0, 0, 1)).tolist()
        [[4, 5], [6, 7]]
    """
    row = min(max(int(at[cut]), 0), volume.shape[2 - cut] - 1)
    return volume.select(2 - cut, row).numpy()

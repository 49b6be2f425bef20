"""Where a lesion goes, and how bright it must be there to be measured with the contrast it was given."""

import numpy as np
from numpy import ndarray

from labkit.datasets.phantoms.anatomy import FULL_SCALE
from labkit.datasets.phantoms.lesions import amplitude_for, inside_and_ring, visible_box

TISSUE_ABOVE = 0.12 * FULL_SCALE  # attenuation; the same limit as contrast_to_noise's default
TRIES = 60  # places tried for a lesion
LARGEST_OFFSET = 0.5  # of the asked contrast, that the tissue at a lesion's place may have by itself


def place_lesion(
    shape: ndarray,
    attenuation: ndarray,
    room: ndarray,
    contrast: float,
    taken: list[tuple[int, ...]],
    generator: np.random.Generator,
) -> tuple[ndarray, tuple[int, ...]] | None:
    """The lesion as a layer (H, W) to add to `attenuation`, and its box; None where it fits nowhere.

    Centres are drawn in `room` until the lesion keeps clear of those before it, the place is neither far
    brighter nor far darker than its ring (which would ask for a lesion of no height, or a glaring one), and
    the film does not saturate. Where no try meets the last two, the nearest to it is taken.

    Args:
        shape: (h, w) with peak 1.
        attenuation: (H, W) of the breast so far; not changed.
        room: (H, W) bool, where the centre may lie.
        contrast: contrast to noise that `contrast_to_noise` shall measure.
        taken: boxes of the lesions before it, xyxy.
        generator: numpy Generator.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> tissue = 1.5 + 0.1 * generator.standard_normal((40, 30))
        >>> layer, box = place_lesion(np.ones((5, 7)), tissue, tissue > 0, 1.5, [], generator)
        >>> box[2] - box[0], box[3] - box[1], layer.shape
        (7, 5, (40, 30))
    """
    tissue = attenuation > TISSUE_ABOVE
    height, width = room.shape
    x1, y1, x2, y2 = visible_box(shape)
    best: tuple[ndarray, tuple[int, ...]] | None = None
    best_offset = np.inf
    for center in generator.choice(np.flatnonzero(room), TRIES):
        row, column = divmod(int(center), width)
        top, left = row - shape.shape[0] // 2, column - shape.shape[1] // 2
        box = (left + x1, top + y1, left + x2, top + y2)
        if min(box[:2]) < 0 or box[2] > width or box[3] > height:  # the frame would cut it
            continue
        if not tissue[box[1] : box[3], box[0] : box[2]].all() or any(_near(box, other) for other in taken):
            continue
        window, inside, ring = inside_and_ring(np.array(box), (height, width))
        ring &= tissue[window]
        if ring.sum() < inside.sum():  # most of the ring is off the film or the breast
            continue
        layer = _paste(shape, top, left, (height, width)) * tissue
        background = attenuation[window]
        peak = amplitude_for(contrast, background, layer[window], inside, ring)
        offset = abs(background[inside].mean() - background[ring].mean()) / (contrast * background[ring].std())
        saturates = (background + peak * layer[window]).max() > FULL_SCALE
        if np.isfinite(peak) and offset + saturates < best_offset:
            best, best_offset = (np.float32(peak) * layer, box), offset + saturates
        if best_offset < LARGEST_OFFSET:
            break
    return best


def _paste(shape: ndarray, top: int, left: int, size: tuple[int, int]) -> ndarray:
    """A (H, W) layer with the shape on it, its faint rim cut where it leaves the frame."""
    layer = np.zeros(size, dtype=np.float32)
    part = shape[max(0, -top) : size[0] - top, max(0, -left) : size[1] - left]
    layer[max(0, top) : max(0, top) + part.shape[0], max(0, left) : max(0, left) + part.shape[1]] = part
    return layer


def _near(box: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one box reaches into the ring that the other's contrast is measured against."""
    gap_x = (box[2] - box[0] + other[2] - other[0]) / 2 + max(box[2] - box[0], other[2] - other[0]) / 2
    gap_y = (box[3] - box[1] + other[3] - other[1]) / 2 + max(box[3] - box[1], other[3] - other[1]) / 2
    return (
        abs(box[0] + box[2] - other[0] - other[2]) / 2 < gap_x
        and abs(box[1] + box[3] - other[1] - other[3]) / 2 < gap_y
    )

"""Trees of vessels and airways that fill a lung.

A branch runs to the middle of what it has to reach, parts what is left in two and hands each half to a branch of its
own (Tawhai, Pullan and Hunter, Annals of Biomedical Engineering 28:793, 2000). Radii follow Murray's law: the cube of
a radius goes with the number of ends that it feeds (Proceedings of the National Academy of Sciences 12:207, 1926).

Points    (N, 3) x y z in mm.
Segments  (S, 8) start x y z, end x y z, first and last radius, mm.
"""

import numpy as np
from numpy import ndarray

REACH = 0.42  # of the way to the middle of what is left; about a half fills the space evenly


def grow_tree(root: ndarray, ends: ndarray, *, radius: float, generator: np.random.Generator) -> ndarray:
    """(S, 8) the segments of a tree from the root to every end.

    Args:
        root: (3,) where it starts.
        ends: (N, 3) points it reaches, one or more.
        radius: at the root, mm.
        generator: of what bends and of how unevenly branches part.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> ends = generator.uniform(20, 60, (50, 3))
        >>> tree = grow_tree(np.zeros(3), ends, radius=4.0, generator=generator)
        >>> len(tree), float(tree[0, 6]), float(tree[:, 6].min().round(2))
        (99, 4.0, 1.09)
    """
    segments: list[ndarray] = []
    waiting = [(np.asarray(root, float), np.asarray(ends, float), radius)]
    while waiting:
        start, left, wide = waiting.pop()
        if len(left) == 1:
            segments.append(np.concatenate([start, left[0], [wide, wide]]))
            continue
        middle = left.mean(axis=0)
        way = middle - start
        length = float(np.linalg.norm(way))
        end = start + REACH * generator.uniform(0.8, 1.2) * way + 0.06 * length * generator.standard_normal(3)
        segments.append(np.concatenate([start, end, [wide, wide]]))
        order = np.argsort((left - middle) @ _across(left - middle, way))
        cut = int(np.clip(round(len(left) * generator.uniform(0.35, 0.65)), 1, len(left) - 1))
        for part in (left[order[:cut]], left[order[cut:]]):
            waiting.append((end, part, radius * (len(part) / len(ends)) ** (1 / 3)))
    return np.stack(segments)


def _across(spread: ndarray, way: ndarray) -> ndarray:
    """(3,) the direction across the way in which the points are spread most."""
    along = way / max(float(np.linalg.norm(way)), 1e-6)
    flat = spread - (spread @ along)[:, None] * along
    return np.linalg.eigh(flat.T @ flat)[1][:, -1]

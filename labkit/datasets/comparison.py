"""The films that notebooks 06 to 08 compare R-CNN, Fast and Faster R-CNN on: one split, one set of proposals.

Films       400 phantom mammograms to train on, 150 of other patients to test on, 160 x 128 pixels.
Proposals   (R, 4) xyxy pixels a film, best first, by selective search; about 600, kept in the cache.
"""

import inspect
import zlib
from typing import TypedDict

import torch
from numpy import array, ndarray
from torch import Tensor
from tqdm.auto import tqdm

from labkit.datasets.arguments import whole_number
from labkit.datasets.cache import cached_arrays
from labkit.datasets.phantoms import Mammograms, mammograms
from labkit.detection.proposals import baselines, grouping, segments, selective_search


class Search(TypedDict):
    """Options of `selective_search`."""

    scales: tuple[float, ...]
    smallest: float
    overlap: float
    count: int


PARTS = {"train": (400, 0), "test": (150, 1)}  # films, seed
# Lesions are small and pale, so starting regions are small too, from 10 pixels; and a few pixels make a lesion's box
# right or wrong, so near duplicates are kept.
SEARCH: Search = {"scales": (5.0, 10.0, 20.0), "smallest": 5e-4, "overlap": 0.8, "count": 1000}
# Of these films' 499 lesions 8 have a side below the smallest, and none above the largest (pixels of 1 mm).
SMALLEST, LARGEST = 6.0, 64.0


def propose(image: Tensor, *, seed: int = 0) -> Tensor:
    """(R, 4) proposals of one film: selective search, less what no lesion can be.

    Args:
        image: (1, H, W) in [0, 1].
        seed: of the order.

    Example:
        >>> boxes = propose(mammograms(1).images[0])
        >>> sides = boxes[:, 2:] - boxes[:, :2]
        >>> len(boxes) > 50, bool((sides >= 6).all() and (sides <= 64).all())
        (True, True)
    """
    boxes, _ = selective_search(image, **SEARCH, generator=torch.Generator().manual_seed(seed))
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[(sides >= SMALLEST).all(dim=1) & (sides <= LARGEST).all(dim=1)]


def comparison_films(part: str, *, count: int | None = None) -> tuple[Mammograms, list[Tensor]]:
    """The films of a part and the proposals of each; the first call takes a minute or two, the next none.

    Args:
        part: "train" or "test"; no patient is in both.
        count: only the first so many films, for a quick look; these are not kept.

    Raises:
        ValueError: there is no such part, or count is not from 1 to its number of films.

    Example:
        >>> films, proposals = comparison_films("test", count=1)
        >>> films.images.shape, len(proposals), proposals[0].shape[1]
        (torch.Size([1, 1, 160, 128]), 1, 4)
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}; mind the spelling")
    total, seed = PARTS[part]
    if count is not None:
        count = whole_number(count, "count", least=1, cure="leave it out for all films")
        if count > total:
            raise ValueError(f"count must be at most {total}, got {count}; leave it out for all films")
    films = mammograms(count or total, seed=seed)

    def make() -> dict[str, ndarray]:
        found = [propose(image, seed=i) for i, image in enumerate(tqdm(films.images, desc=f"proposals, {part}"))]
        return {"boxes": torch.cat(found).numpy(), "counts": array([len(boxes) for boxes in found])}

    if count is not None:
        arrays = make()
    else:  # the films and the method's own text are part of the recipe: with others, old proposals are stale
        text = "".join(inspect.getsource(module) for module in (segments, grouping, baselines))
        sums = [f"{zlib.crc32(data):08x}" for data in (text.encode(), films.images.numpy().tobytes())]
        recipe = f"{SEARCH} {SMALLEST} {LARGEST} {' '.join(sums)}"
        arrays = cached_arrays(f"proposals-{part}", make, key=recipe)
    return films, list(torch.from_numpy(arrays["boxes"]).split(arrays["counts"].tolist()))

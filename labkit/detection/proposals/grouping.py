"""Selective search: neighbouring regions that look alike grow together, and every region on the way is a proposal.

An image is cut into small regions (Felzenszwalb and Huttenlocher, IJCV 59:167, 2004). The two neighbours that are most
alike merge, again and again, until one region is left; the boxes of all regions, small and large, are proposed. Several
starts (colour spaces, scales, mixes of similarities) fail in different places, so their proposals are put together
(Uijlings, van de Sande, Gevers, Smeulders, IJCV 104:154, 2013).

Image      (C, H, W) float in [0, 1], one grey channel or three of RGB.
Labels     (H, W) int64, the region of each pixel, 0 to n - 1.
Regions    dict of n rows: `size` (n,) pixels, `box` (n, 4) xyxy pixels, `colour` (n, 25 C) and `texture` (n, 80 C)
           histograms; each row of a histogram sums to 1.
Pairs      (P, 2) int64, neighbours in the region adjacency graph, the smaller number first.
Taught in notebook 05.
"""

import heapq
from itertools import product

import numpy as np
import torch
from skimage.color import rgb2hsv, rgb2lab
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from labkit.detection.proposals.baselines import at_working_size, channels_last, check_count, check_image
from labkit.detection.proposals.segments import describe_pixels, pairs_of, segment_pixels

SIMILARITIES = ("colour", "texture", "size", "fill")
# mixes and colour spaces of the paper's "fast" search (section 3.3)
MIXES = (SIMILARITIES, ("texture", "size", "fill"))
SPACES = ("lab", "hsv")


def merge_similarity(first: dict[str, Tensor], second: dict[str, Tensor], image_size: float) -> Tensor:
    """How much two regions ask to be merged: the sum of four similarities, each at most 1 (section 3.2).

    Built from scratch in notebook 05. Colour and texture: what the two histograms share. Size: small regions first.
    Fill: how little of the box around both is left empty. One region or a row of them; the leading axes broadcast.

    Args:
        first, second: regions, `size` (...), `box` (..., 4), `colour` and `texture` (..., bins).
        image_size: pixels of the whole image, H times W.

    Returns:
        (...) the sum, at most 4.

    Example:
        >>> half = {"colour": torch.tensor([1.0, 0.0]), "texture": torch.tensor([0.5, 0.5]), "size": torch.tensor(8.0)}
        >>> left = half | {"box": torch.tensor([0.0, 0.0, 4.0, 2.0])}
        >>> right = half | {"box": torch.tensor([4.0, 0.0, 8.0, 2.0])}
        >>> merge_similarity(left, right, 32)  # 1 + 1 + (1 - 16 / 32) + (1 - 0 / 32)
        tensor(3.5000)
    """
    size = first["size"] + second["size"]
    sides = torch.maximum(first["box"], second["box"])[..., 2:] - torch.minimum(first["box"], second["box"])[..., :2]
    colour = torch.minimum(first["colour"], second["colour"]).sum(-1)
    texture = torch.minimum(first["texture"], second["texture"]).sum(-1)
    return colour + texture + (1 - size / image_size) + (1 - (sides.prod(-1) - size) / image_size)


def merge_regions(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """The region that two become: sizes add, boxes unite, histograms average, weighted by size.

    Built from scratch in notebook 05; no pixel is looked at again.

    Args:
        first, second: one region each, `size` (), `box` (4,), `colour` and `texture` (bins,).

    Returns:
        A region of the same form.

    Example:
        >>> a = {"size": torch.tensor(1.0), "box": torch.tensor([0.0, 0.0, 1.0, 1.0])}
        >>> b = {"size": torch.tensor(3.0), "box": torch.tensor([1.0, 0.0, 4.0, 1.0])}
        >>> black, white = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> merge_regions(a | {"colour": black, "texture": black}, b | {"colour": white, "texture": white})["colour"]
        tensor([0.2500, 0.7500])
    """
    size = first["size"] + second["size"]
    low, high = torch.minimum(first["box"], second["box"]), torch.maximum(first["box"], second["box"])
    merged = {"size": size, "box": torch.cat([low[:2], high[2:]])}
    for name in ("colour", "texture"):
        merged[name] = (first["size"] * first[name] + second["size"] * second[name]) / size
    return merged


def group_regions(
    regions: dict[str, Tensor], pairs: Tensor, *, similarities: tuple[str, ...] = SIMILARITIES
) -> tuple[Tensor, Tensor]:
    """Boxes of all regions of the hierarchy, from the smallest parts to the whole image, and who merged with whom.

    The most alike neighbours merge first; of equal ones the pair with the smaller numbers. A merged region is compared
    anew with its neighbours only, so the work grows with the number of neighbours and not with its square.

    Args:
        regions: n regions, as `describe_regions` gives them.
        pairs: (P, 2) int64 neighbours.
        similarities: which of "colour", "texture", "size" and "fill" are added up.

    Returns:
        boxes: (2 n - 1, 4) float32 xyxy pixels: the n regions as given, then one a merge.
        merges: (n - 1, 2) int64: row m names the regions that became region n + m.

    Raises:
        ValueError: a similarity is unknown, or the pairs leave regions without a way to each other.

    Example:
        >>> labels = torch.zeros(8, 9, dtype=torch.int64); labels[:, 3:] = 1; labels[:, 4:] = 2
        >>> from labkit.detection.proposals.segments import describe_regions, neighbouring_pairs
        >>> regions = describe_regions(torch.zeros(1, 8, 9), labels)
        >>> group_regions(regions, neighbouring_pairs(labels))[1]
        tensor([[0, 1],
                [2, 3]])
    """
    unknown = sorted(set(similarities) - set(SIMILARITIES))
    if unknown or not similarities:
        raise ValueError(f"similarities must be some of {SIMILARITIES}, got {tuple(similarities)}; mind the spelling")
    boxes, merges = _group(
        {name: value.cpu().numpy() for name, value in regions.items()}, pairs.cpu().numpy(), similarities
    )
    return torch.from_numpy(boxes).float(), torch.from_numpy(merges)


def selective_search(
    image: Tensor,
    *,
    count: int = 1000,
    scales: tuple[float, ...] = (30.0, 60.0),
    smallest: float = 0.002,
    working_size: int = 320,
    overlap: float = 0.65,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Proposals of selective search, the most promising first.

    One grouping for each scale, colour space (one for a grey image) and mix of similarities. Position i from the top of
    a hierarchy (1 is the whole image) gets the rank i u with u uniform in (0, 1): large regions come first, but not all
    of them before any small one (section 3.3 of the paper). Boxes that nearly coincide are given once.

    Args:
        image: (C, H, W) float in [0, 1].
        count: at most so many proposals.
        scales: of the starting regions, see `segment`.
        smallest: part of the image that a starting region must have; smaller ones join a neighbour.
        working_size: longest side in pixels at which regions are grouped; larger images are shrunk first.
        overlap: of boxes with a larger IoU only the first is kept.
        generator: of u; the same seed gives the same order.

    Returns:
        boxes: (R, 4) float32 xyxy pixels of the image, R <= count.
        scores: (R,) float32 in (0, 1), falling: 1 / (1 + i u), an order and not a probability.

    Raises:
        ValueError: the image is not (C, H, W) in [0, 1], or count is not positive.

    Example:
        >>> from torchvision.ops import box_iou
        >>> image = torch.zeros(3, 60, 80); image[0, 20:40, 30:60] = 1
        >>> boxes, scores = selective_search(image, count=10, generator=torch.Generator().manual_seed(0))
        >>> bool(box_iou(boxes, torch.tensor([[30.0, 20.0, 60.0, 40.0]])).max() > 0.8)
        True
    """
    check_image(image)
    check_count(count)
    pixels, scale = at_working_size(channels_last(image), working_size)
    min_size = round(smallest * pixels.shape[0] * pixels.shape[1])
    found, ranks = [], []
    spaces = SPACES if pixels.shape[2] == 3 else ("grey",)
    for space, k in product(spaces, scales):
        view = _in_space(pixels, space)
        labels = segment_pixels(view, k, min_size)
        regions, pairs = describe_pixels(view, labels), pairs_of(labels)
        for mix in MIXES:
            boxes, _ = _group(regions, pairs, mix)
            found.append(torch.from_numpy(boxes))
            from_top = torch.arange(len(boxes), 0, -1)
            ranks.append(from_top * torch.rand(len(boxes), generator=generator))
    boxes = clip_boxes_to_image((torch.cat(found) * torch.tensor(scale)).float(), tuple(image.shape[1:]))
    scores = 1 / (1 + torch.cat(ranks))
    keep = nms(boxes, scores, overlap)[:count]
    return boxes[keep].to(image.device), scores[keep].to(image.device)


def _in_space(pixels: np.ndarray, space: str) -> np.ndarray:
    """The picture in another colour space, each channel in [0, 1]."""
    if space == "lab":  # L reaches from 0 to 100, a and b of RGB colours from about -108 to 99
        return np.clip(rgb2lab(pixels) / (100, 216, 216) + (0, 0.5, 0.5), 0, 1)
    return rgb2hsv(pixels) if space == "hsv" else pixels


def _group(
    regions: dict[str, np.ndarray], pairs: np.ndarray, similarities: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    n = len(regions["size"])
    image_size = regions["size"].sum()
    table = {name: np.concatenate([value, np.zeros((n - 1, *value.shape[1:]))]) for name, value in regions.items()}
    neighbours: list[set[int]] = [set() for _ in range(2 * n - 1)]
    for i, j in pairs.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    alive = [True] * n + [False] * (n - 1)
    heap = list(
        zip(
            (-_similarity(table, pairs[:, 0], pairs[:, 1], image_size, similarities)).tolist(),
            *pairs.T.tolist(),
            strict=True,
        )
    )
    heapq.heapify(heap)
    merges = []
    for new in range(n, 2 * n - 1):
        i = j = -1
        while i < 0 or not (alive[i] and alive[j]):  # pairs of regions that are gone are passed over
            if not heap:
                raise ValueError(
                    "pairs must connect all regions, got parts without a way to each other; use neighbouring_pairs"
                )
            _, i, j = heapq.heappop(heap)
        _merge_rows(table, i, j, new)
        alive[i] = alive[j] = False
        alive[new] = True
        merges.append((i, j))
        around = sorted((neighbours[i] | neighbours[j]) - {i, j})
        neighbours[new] = set(around)
        for other in around:
            neighbours[other] -= {i, j}
            neighbours[other].add(new)
        values = _similarity(table, np.array(around, dtype=np.int64), new, image_size, similarities)
        for value, other in zip(values.tolist(), around, strict=True):
            heapq.heappush(heap, (-value, other, new))
    return table["box"], np.array(merges, dtype=np.int64).reshape(-1, 2)


def _merge_rows(table: dict[str, np.ndarray], i: int, j: int, new: int) -> None:
    """Row `new` of the table becomes the union of rows i and j: `merge_regions` without its dicts."""
    size = table["size"]
    size[new] = size[i] + size[j]
    box = table["box"]
    box[new, :2], box[new, 2:] = np.minimum(box[i, :2], box[j, :2]), np.maximum(box[i, 2:], box[j, 2:])
    for name in ("colour", "texture"):
        table[name][new] = (size[i] * table[name][i] + size[j] * table[name][j]) / size[new]


def _similarity(table: dict[str, np.ndarray], i, j, image_size: float, similarities: tuple[str, ...]) -> np.ndarray:
    """`merge_similarity` of rows i with rows j, or with one row j, for some of the four."""
    size = table["size"][i] + table["size"][j]
    total = np.zeros(size.shape)
    for name in ("colour", "texture"):
        if name in similarities:
            total += np.minimum(table[name][i], table[name][j]).sum(axis=1)
    if "size" in similarities:
        total += 1 - size / image_size
    if "fill" in similarities:
        low, high = np.minimum(table["box"][i], table["box"][j]), np.maximum(table["box"][i], table["box"][j])
        total += 1 - ((high[:, 2:] - low[:, :2]).prod(axis=1) - size) / image_size
    return total

"""Records: the lists of dicts a detector returns and an evaluator reads, checked once.

One dict an image, N rows in each of its tensors. Read here:

boxes      (N, 4) float xyxy pixels        centers    (N, d) float, any unit (3-D: millimetres)
labels     (N,) int64, not negative        diameters  (N,) float, the centres' unit, positive
scores     (N,) float (detections)         iscrowd    (N,) bool or 0/1, a region of many (targets, COCO's
           word)
                                           excluded   (N,) bool or 0/1, a finding that does not count
                                           (targets)
Other keys are handed on as they are (tensors on the CPU): a hit rule of one's own may read them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Record = dict[str, Tensor]

_FLOATS = ("boxes", "centers", "scores", "diameters")
_FLAGS = ("iscrowd", "excluded")
KEYS = (*_FLOATS, "labels", *_FLAGS)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch joins them with no other type
_CURES = {
    "boxes": "give (N, 4), and (0, 4) for an image without any",
    "centers": "give (N, 2) or (N, 3), and (0, 2) or (0, 3) for an image without any",
}


def check_records(
    detections: Sequence[Record],
    targets: Sequence[Record],
    *,
    detection_keys: Sequence[str],
    target_keys: Sequence[str],
) -> tuple[list[Record], list[Record]]:
    """Detections and targets on the CPU, floats in float64, labels int64, flags bool, every value checked.

    Args:
        detections: one dict an image.
        targets: one dict an image, in the same order.
        detection_keys: keys every detection must have.
        target_keys: keys every target must have.

    Returns:
        The checked records; keys that no evaluator reads stand last in them.

    Raises:
        ValueError: lengths differ, a key is missing, a shape, dtype or value is wrong; the message names the
            image.

    Example:
        >>> image = {"scores": torch.tensor([0.5, float("nan")])}
        >>> check_records([image], [{}], detection_keys=["scores"], target_keys=[])
        Traceback (most recent call last):
        ValueError: detections[0]["scores"] must be finite, got nan in row 1; look for a division by zero in
            the model
    """
    if len(detections) != len(targets):
        raise ValueError(
            f"detections and targets must hold one dict an image, got {len(detections)} and {len(targets)}; "
            "an image without detections has an empty dict entry of its own, with boxes (0, 4)"
        )
    return _check_list("detections", detections, detection_keys), _check_list("targets", targets, target_keys)


def _check_list(name: str, records: Sequence[Record], required: Sequence[str]) -> list[Record]:
    for image, record in enumerate(records):
        if not isinstance(record, dict):
            got = type(record).__name__
            raise ValueError(f"{name}[{image}] must be a dict of tensors, one an image, got {got}; write [record]")
    keys = [key for key in KEYS if key in required or any(key in record for record in records)]
    for image, record in enumerate(records):
        rows = {key: _check_shape(f'{name}[{image}]["{key}"]', key, record) for key in keys}
        if len(set(rows.values())) > 1:
            raise ValueError(f"{name}[{image}] must have as many rows in each tensor, got {rows}; index them together")
    checked: list[Record] = [{} for _ in records]
    for key in keys if records else []:
        parts = [record[key] for record in records]
        _check_dimensions(name, key, parts)
        parts = [part.long() if part.dtype in _UNSIGNED else part for part in parts]
        flat = torch.cat(parts).detach().cpu()  # all images at once: one check, one copy from a GPU
        if flat.is_complex():
            raise ValueError(f'{name}[…]["{key}"] must be real numbers, got {flat.dtype}; write .real')
        flat = flat.double() if key in _FLOATS or key in _FLAGS else flat.long()
        lengths = [len(part) for part in parts]
        _check_values(name, key, flat, lengths)
        flat = flat.bool() if key in _FLAGS else flat
        for new, part in zip(checked, flat.split(lengths), strict=True):
            new[key] = part
    for new, record in zip(checked, records, strict=True):
        others = {key: value for key, value in record.items() if key not in KEYS}
        new |= {key: value.detach().cpu() if isinstance(value, Tensor) else value for key, value in others.items()}
    return checked


def _check_dimensions(name: str, key: str, parts: Sequence[Tensor]) -> None:
    """Centres are 2-D everywhere or 3-D everywhere."""
    for image, part in enumerate(parts):
        if part.ndim == 2 and part.shape[1] != parts[0].shape[1]:
            raise ValueError(
                f'{name}[{image}]["{key}"] must have as many columns as in {name}[0], {parts[0].shape[1]}, '
                f"got {part.shape[1]}; give all images (N, 2), or all (N, 3)"
            )


def _check_shape(where: str, key: str, record: Record) -> int:
    if key not in record:
        raise ValueError(f"{where} is missing, got {sorted(record)}; give it in every image, empty where there is none")
    value = record[key]
    if not isinstance(value, Tensor):
        raise ValueError(f"{where} must be a tensor, got {type(value).__name__}; write torch.as_tensor(...)")
    wide = key in ("boxes", "centers")
    if value.ndim != (2 if wide else 1) or (key == "boxes" and value.shape[1] != 4):
        cure = _CURES.get(key, "give (N,), one value for each row")
        raise ValueError(f"{where} has the wrong shape, got {tuple(value.shape)}; {cure}")
    if key == "labels" and (value.is_floating_point() or value.dtype == torch.bool):
        raise ValueError(f"{where} must be integers, got {value.dtype}; write labels.long()")
    return len(value)


def _check_values(name: str, key: str, flat: Tensor, lengths: list[int]) -> None:
    if key in _FLOATS:
        finite = flat.isfinite().all(1) if flat.ndim == 2 else flat.isfinite()
        _refuse(~finite, name, key, flat, lengths, "be finite", "look for a division by zero in the model")
    # a regressor may shrink a box to nothing, which then overlaps nothing; a truth must have an area
    rule = _RULES.get(f"{name} {key}") or _RULES.get(key)
    if rule:
        is_bad, expected, cure = rule
        _refuse(is_bad(flat), name, key, flat, lengths, expected, cure)


_RULES: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {  # what is wrong, what must be, what to do
    "targets boxes": (
        lambda boxes: (boxes[:, 2:] <= boxes[:, :2]).any(1),
        "have x1 < x2 and y1 < y2",
        "correct or drop that annotation",
    ),
    "detections boxes": (
        lambda boxes: (boxes[:, 2:] < boxes[:, :2]).any(1),
        "have x1 <= x2 and y1 <= y2",
        "are they x1 y1 x2 y2?",
    ),
    "diameters": (lambda sizes: sizes <= 0, "be positive", "give findings without a size one by convention"),
    "labels": (lambda labels: labels < 0, "not be negative", "0 is background, classes count from 1"),
    **dict.fromkeys(_FLAGS, (lambda flags: (flags != 0) & (flags != 1), "be bool, or 0 and 1", "write flags > 0")),
}


def _refuse(bad: Tensor, name: str, key: str, flat: Tensor, lengths: list[int], expected: str, cure: str) -> None:
    if not bad.any():
        return
    row = position = int(bad.nonzero()[0])
    image = 0
    while row >= lengths[image]:
        row -= lengths[image]
        image += 1
    raise ValueError(f'{name}[{image}]["{key}"] must {expected}, got {flat[position].tolist()} in row {row}; {cure}')

"""The usual mistakes of notebook 17's moves: a move with room for each slip, and the slips by their likely cause."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labkit.detection import organ_agent

LEAST = organ_agent.LEAST_SIDE


def _as_far_as_it_can(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Only the axis that moves has a border."""
    way = low - box[:3]
    shift = torch.where(way == 0, way, torch.maximum(torch.minimum(way, limit - box[3:]), -box[:3]))
    return box[:3] + shift, box[3:] + shift


def _as_far_as_all_can(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Each axis has its border, also those that do not move."""
    shift = torch.maximum(torch.minimum(low - box[:3], limit - box[3:]), -box[:3])
    return box[:3] + shift, box[3:] + shift


def _fitted(low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Slide it back inside, as long as it is."""
    shift = (-low).clamp(min=0) - (high - limit).clamp(min=0)
    return low + shift, high + shift


def _cut(low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    return low.clamp(min=0), torch.minimum(high, limit)


def _up_to(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """No further than the far end."""
    shift = torch.minimum(low - box[:3], limit - box[3:])
    return box[:3] + shift, box[3:] + shift


def _slid(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    return _fitted(low, high, limit)


def _stays(box: Tensor, low: Tensor, high: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    return (low, high) if (low >= 0).all() and (high <= limit).all() else (box[:3], box[3:])


def _moved(
    box: Tensor,
    action: int,
    volume_size: Sequence[int],
    step: float,
    *,
    limits: Callable = lambda size: list(reversed(size)),
    clip_limits: Callable | None = None,
    clips_all: bool = True,
    way: Callable = lambda side, axis, step: step * side[axis],
    sign: int = 1,
    axis_of: Callable = lambda axis: axis,
    shifted: Callable = _as_far_as_it_can,
    shrink: Callable = lambda step: 1 - step,
    grow: Callable = lambda step: 1 / (1 - step),
    narrow: Callable | None = None,
    narrow_axis: Callable = lambda axis: axis,
    narrow_anchored: float = 0.5,
    zoom_in_anchored: float | None = None,
    zoom_axes: Sequence[int] = (0, 1, 2),
    anchored: float = 0.5,
    grown: Callable = _cut,
    least: Callable = lambda side, new, box: (new < side).any() and new[new < side].min() < LEAST,
    floor: Callable = lambda side, new: new,
    still: Callable = lambda side: False,
    last: Callable = lambda box: box,
) -> Tensor:
    """The move with room for the usual slips."""
    limit = box.new_tensor([float(v) for v in limits(volume_size)])
    low, high = box[:3].clone(), box[3:].clone()
    side = high - low
    if action < 6:
        if still(side):
            return box.clone()
        axis = axis_of(action // 2)
        shift = torch.zeros_like(side)
        shift[axis] = sign * way(side, axis, step) * (1 if action % 2 else -1)
        return last(torch.cat(shifted(box, low + shift, high + shift, limit)))
    new = side.clone()
    for axis in list(zoom_axes) if action < 8 else [narrow_axis(action - 8)]:
        new[axis] = side[axis] * (
            grow(step) if action == 7 else (narrow or shrink)(step) if action > 7 else shrink(step)
        )
    if least(side, new, box):
        return box.clone()
    change = floor(side, new) - side
    anchor = (
        narrow_anchored
        if action > 7
        else zoom_in_anchored
        if action == 6 and zoom_in_anchored is not None
        else anchored
    )
    low, high = low - anchor * change, high + (1 - anchor) * change
    if not clips_all and action != 7:
        return last(torch.cat([low, high]))
    limit = box.new_tensor([float(v) for v in (clip_limits or limits)(volume_size)])
    return last(torch.cat(grown(low, high, limit)))


def _with(**slip) -> Callable:
    return lambda box, action, volume_size, step: _moved(box, action, volume_size, step, **slip)


def _less_one(size: Sequence[int]) -> list[int]:
    return [side - 1 for side in reversed(size)]


def _turned(size: Sequence[int]) -> list[int]:
    return list(reversed(size))


def _shrinks(least: Callable) -> Callable:
    """A rule for moves that shrink something: of all sides, the new ones, and a mask of those that shrink."""
    return lambda side, new, box: bool((new < side).any()) and bool(least(side, new, new < side))


def _all_sides(side: Tensor, new: Tensor, less: Tensor) -> bool:
    return bool((side * (new / side)[less].min()).min() < LEAST)


def _any_new(side: Tensor) -> bool:
    return bool((side < LEAST).any())


ENDINGS = ("turn one of them round", "torch.tensor(volume_size).flip(0)", "its first number belongs to z", "reverse it")
BORDERS = (_as_far_as_it_can, _as_far_as_all_can)  # of the axis that moves, or of all three


def _in_any_form(
    cause: str, *, shifts: Sequence[Callable] = BORDERS[:1], clips: Sequence[bool] = (True,), **slip
) -> dict[str, Callable]:
    """One slip in several forms: with which borders a shift has, and whether what shrinks is cut off as well."""
    forms = [_with(**slip, shifted=shifted, clips_all=clips_all) for shifted in shifts for clips_all in clips]
    return {f"{cause}: {ending}": form for ending, form in zip(ENDINGS, forms, strict=False)}


def _share_of_the_volume(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    return _moved(box, action, volume_size, step, way=lambda side, axis, step: step * list(reversed(volume_size))[axis])


def _only_if_it_fits(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    moved = _moved(box, action, volume_size, step, grown=lambda low, high, limit: (low, high))
    limit = box.new_tensor([float(v) for v in reversed(volume_size)])
    return box.clone() if (moved[:3] < 0).any() or (moved[3:] > limit).any() else moved


def _other_axis_order(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    """Shifts in the order x - y - z - x + y + z +."""
    return _moved(box, 2 * (action % 3) + action // 3 if action < 6 else action, volume_size, step)


def _exchanged_zooms(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    return _moved(box, {6: 7, 7: 6}.get(action, action), volume_size, step)


def _stretched(box: Tensor, action: int, volume_size: Sequence[int], step: float) -> Tensor:
    moved = _moved(box, action, volume_size, step, narrow=lambda step: 1 / (1 - step))
    return torch.cat(_cut(moved[:3], moved[3:], box.new_tensor([float(v) for v in reversed(volume_size)])))


APPLY_ACTION_MISTAKES: dict[str, Callable] = {
    "the step is a share of the side: step * side, not the step alone": _with(way=lambda side, axis, step: step),
    "the step is a share of the box's side, not of the volume's": _share_of_the_volume,
    "moves go in pairs, x - x + y - y + z - z +: the axis is action // 2, not action % 3": _other_axis_order,
    "zoomed out at the border the box is cut off; here the whole box stays": _only_if_it_fits,
    "a box that is shifted has two borders; the one at the far end is missing": (
        _with(shifted=lambda box, low, high, limit: _as_far_as_it_can(box, low, high, limit + 1000))
    ),
    "a box that is shifted has two borders; the one at 0 is missing": (_with(shifted=_up_to)),
    "zoomed out the box is cut off at both ends; the far end is missing": (
        _with(grown=lambda low, high, limit: (low.clamp(min=0), high))
    ),
    "zoomed out the box is cut off at both ends; the end at 0 is missing": (
        _with(grown=lambda low, high, limit: (low, torch.minimum(high, limit)))
    ),
    "zooming in goes about the middle of the box: half of the step at each wall; here the first corner stays": (
        _with(zoom_in_anchored=0.0, narrow_anchored=0.0)
    ),
    "zooming in goes about the middle of the box: half of the step at each wall; here the last corner stays": (
        _with(zoom_in_anchored=1.0, narrow_anchored=1.0)
    ),
    "zooming out shortens no side: any box may grow": (
        _with(least=lambda side, new, box: (new[new < side] < LEAST).any() or ((new > side).any() and _any_new(side)))
    ),
    "the step is a share of the side, not voxels": _with(way=lambda side, axis, step: 10 * step),
    "each axis has a side of its own; the width is used for all": _with(way=lambda side, axis, step: step * side[0]),
    "each axis has a side of its own; their mean is used for all": (
        _with(way=lambda side, axis, step: step * side.mean())
    ),
    "the step is a share of the box's side, not of half of it": _with(
        way=lambda side, axis, step: step * side[axis] / 2
    ),
    "the step is written into the function: use the argument": lambda b, a, size, step: _moved(b, a, size, 0.1),
    "plus and minus are exchanged: even moves go towards 0": _with(sign=-1),
    "x and z are exchanged: moves 0 and 1 go along x, and a box begins with x": _with(axis_of=lambda axis: 2 - axis),
    **_in_any_form("volume_size is (Z, Y, X) and a box x y z", shifts=BORDERS, clips=(True, False), limits=list),
    **_in_any_form(
        "volume_size is (Z, Y, X) and a box x y z, also where a shift meets the border",
        shifts=BORDERS,
        limits=list,
        clip_limits=_turned,
    ),
    **_in_any_form(
        "volume_size is (Z, Y, X) and a box x y z, also where zooming out is cut off",
        clips=(True, False),
        clip_limits=list,
    ),
    "volume_size is (Z, Y, X) and a box x y z (here a shifted box slides back until it fits): turn one of them round": (
        _with(limits=list, shifted=_slid)
    ),
    "ends are exclusive: the border is at the size itself, not at size - 1": _with(limits=_less_one),
    "ends are exclusive: a shift may go up to the size itself, not to size - 1": (
        _with(limits=_less_one, clip_limits=_turned)
    ),
    "ends are exclusive: zooming out is cut off at the size itself, not at size - 1": _with(clip_limits=_less_one),
    "a step is a share of the side, however short: not at least 1 voxel": (
        _with(way=lambda side, axis, step: max(1.0, float(step * side[axis])))
    ),
    "a step is a share of the side and need not be whole: no int": (
        _with(way=lambda side, axis, step: int(step * side[axis]))
    ),
    "a box that is shifted against the border is not cut off: it moves as far as there is room": (
        _with(shifted=lambda box, low, high, limit: _cut(low, high, limit))
    ),
    "a move that has too little room goes as far as it can; here the box stays": _with(shifted=_stays),
    "a box must not leave the volume when it is shifted": _with(shifted=lambda box, low, high, limit: (low, high)),
    "a box must not leave the volume when it is zoomed out": _with(grown=lambda low, high, limit: (low, high)),
    "zoomed out at the border the box is cut off; here it is pushed back and keeps its length": _with(grown=_fitted),
    "zooming in takes a step of the side in all; here each wall moves by a whole step": (
        _with(floor=lambda side, new: torch.where(new < side, 2 * new - side, new))
    ),
    "zooming in takes a whole step of the side, half of it at each wall": (
        _with(floor=lambda side, new: torch.where(new < side, (new + side) / 2, new))
    ),
    "zooming out undoes zooming in: divide by 1 - step; here the side is multiplied by 1 + step": (
        _with(grow=lambda step: 1 + step)
    ),
    "zooming goes about the middle of the box, not about its first corner": _with(anchored=0.0),
    "zooming goes about the middle of the box, not about its last corner": _with(anchored=1.0),
    "narrower takes half of the step from each wall, the middle stays; here the first corner stays": (
        _with(narrow_anchored=0.0)
    ),
    "narrower takes half of the step from each wall, the middle stays; here the last corner stays": (
        _with(narrow_anchored=1.0)
    ),
    "zooming changes all three axes, not x alone": _with(zoom_axes=(0,)),
    "zooming changes all three axes; z is missing": _with(zoom_axes=(0, 1)),
    "zoom in and zoom out are exchanged": _exchanged_zooms,
    "moves 8, 9 and 10 make the box narrower along x, y, z; x and z are exchanged": (
        _with(narrow_axis=lambda axis: 2 - axis)
    ),
    "moves 8, 9 and 10 make the box narrower; here it is stretched": _stretched,
    "no side may fall below 2 voxels: a box too small to shrink stays": _with(least=lambda side, new, box: False),
    "a side of exactly 2 voxels is allowed: refuse what is shorter, < and not <=": (
        _with(least=_shrinks(lambda side, new, less: new[less].min() <= LEAST))
    ),
    "the new side counts, side * (1 - step), not side * 0.9": (
        _with(least=_shrinks(lambda side, new, less: (0.9 * side)[less].min() < LEAST))
    ),
    "the side AFTER the move has to be 2 voxels, not the one before": (
        _with(least=_shrinks(lambda side, new, less: side[less].min() < LEAST))
    ),
    "where a side would fall below 2 voxels the whole box stays; here that side becomes 2": (
        _with(least=lambda *_: False, floor=lambda side, new: torch.where(new < side, new.clamp(min=LEAST), new))
    ),
    "where a side would fall below 2 voxels the whole box stays; here that side alone stays": (
        _with(least=lambda *_: False, floor=lambda side, new: torch.where((new < side) & (new < LEAST), side, new))
    ),
    "only the sides that this move shrinks have to keep 2 voxels: narrower x asks for x alone": (
        _with(least=_shrinks(_all_sides))
    ),
    "one side that would fall below 2 voxels is enough: any, not all": (
        _with(least=_shrinks(lambda side, new, less: (new[less] < LEAST).all()))
    ),
    "narrower has to keep 2 voxels, too, not zoom in alone": (
        _with(least=_shrinks(lambda side, new, less: less.sum() == 3 and new.min() < LEAST))
    ),
    "zoom in has to keep 2 voxels, too, not narrower alone": (
        _with(least=_shrinks(lambda side, new, less: less.sum() == 1 and new[less].min() < LEAST))
    ),
    "the shortest side is 2 voxels, not 3": _with(least=_shrinks(lambda side, new, less: new[less].min() < 3)),
    "a shift shortens no side, so that any box may be shifted": _with(still=_any_new),
    "only sides that shrink have to keep 2 voxels; here every side of the new box has to, whatever the move": (
        _with(still=_any_new, least=lambda side, new, box: new.min() < LEAST)
    ),
    "only sides that shrink have to keep 2 voxels; here all have to, but for zooming out": (
        _with(still=_any_new, least=_shrinks(lambda side, new, less: new.min() < LEAST))
    ),
    "only a side that shrinks has to keep 2 voxels; narrower and zoom in ask here for every side": (
        _with(least=_shrinks(lambda side, new, less: new.min() < LEAST))
    ),
    "only a side that shrinks has to keep 2 voxels": _with(least=lambda side, new, box: new.min() < LEAST),
    "a box with a thin side may still grow, and shrink along the others": (
        _with(least=lambda side, new, box: side.min() * 0.95 < LEAST)
    ),
    "walls need not be whole voxels: nothing is rounded": _with(last=torch.round),
    "a box is two corners, x1 y1 z1 x2 y2 z2, not a corner and three sides": (
        _with(last=lambda box: torch.cat([box[:3], box[3:] - box[:3]]))
    ),
    "the last corner moves with the first": _with(shifted=lambda box, low, high, limit: (low.clamp(min=0), box[3:])),
    "the first corner moves with the last": (
        _with(shifted=lambda box, low, high, limit: (box[:3], torch.minimum(high, limit)))
    ),
}

"""The check of notebook 02, sliding windows and OverFeat: which windows are hard negatives."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import box_rows, noise

REACH = 3  # cells: a peak is the highest of 7 x 7


def hard_windows(student: Callable) -> Callable:
    """Check `my_hard_windows(image, margin, window, stride, least, most) -> (N, C, height, width)` of notebook 02.

    Example:
        >>> hard_windows(lambda *args: _windows(*args, peaks=lambda margin: margin == margin)).__name__
        ✗ hard_windows: two cells side by side: one thing, one window
        ...
          likely: every cell above the limit is cut: ...
        ...
        'reference_hard_windows'
    """
    image = torch.arange(40 * 56.0).reshape(1, 40, 56) / 1000  # each pixel another number
    two, side = [(2, 3, 1.5), (7, 14, 2.5)], [(4, 6, 2.0), (4, 7, 1.0)]
    row, peaks = torch.arange(9.0).reshape(1, 1, 9), torch.tensor([[1, -4, -4, -4, 3, -4, -4, -4, 2.0]])
    border = [(0, 0, 1.0), (0, 11, 3.0), (9, 0, 2.0), (9, 17, 4.0)]
    cases = [
        _case("one place looks like it", image, [(4, 9, 2.0)]),
        _case("two places: the higher one first", image, two),
        _case("two cells side by side: one thing, one window", image, side),
        _case(
            "a lower peak three cells off is no peak, four cells off it is",
            image,
            [(4, 4, 3.0), (4, 7, 2.0), (4, 12, 1.0)],
        ),
        _case("peaks in the corners and at the border", image, border),
        Case(
            "peaks 1, 3 and 2 at columns 0, 4 and 8, the best two are asked for: 3, then 2",
            (row, peaks, (1, 1), 1, 0.0, 2),
        ),
        _case("four places, the best two are asked for", image, border, most=2),
        _case(
            "the second highest cell is no peak: it takes no place among the best two",
            image,
            [(4, 6, 3.0), (4, 9, 2.0), (4, 11, 1.5), (8, 16, 1.0)],
            most=2,
        ),
        _case("nothing is above the limit", image, two, least=5.0),
        _case("a margin equal to the limit is not above it", image, two, least=1.5),
        _case("a limit below 0: what nearly fools it counts", image, [(2, 3, -0.5), (7, 14, 0.5)], least=-1.0),
        _case("stride 3, windows of 5 x 9", image, two, window=(5, 9), stride=3, size=(12, 16)),
        Case("a map of noise, two channels", (noise(2, 60, 80, seed=5), noise(26, 34, seed=6), (9, 13), 2, 1.0, 12)),
    ]
    return run_check(
        "hard_windows", student, reference_hard_windows, cases, mistakes=HARD_WINDOWS_MISTAKES, draw=_draw_windows
    )


def _case(
    what: str,
    image: Tensor,
    places: list[tuple[int, int, float]],
    *,
    window: tuple[int, int] = (7, 11),
    stride: int = 2,
    least: float = 0.0,
    most: int = 9,
    size: tuple[int, int] = (10, 18),
) -> Case:
    """A flat map of margins, -4 everywhere but at the places (row, column, margin)."""
    margin = torch.full(size, -4.0) + 1e-3 * noise(*size, seed=1)
    for row, column, value in places:
        margin[row, column] = value
    return Case(what, (image, margin, window, stride, least, most))


def reference_hard_windows(
    image: Tensor, margin: Tensor, window: tuple[int, int], stride: int, least: float, most: int
) -> Tensor:
    """(N, C, height, width): what is under the highest peaks of the margin, best first."""
    return _windows(image, margin, window, stride, least, most)


def _is_peak(margin: Tensor, *, reach: int = REACH, padded: bool = True) -> Tensor:
    """(h, w) bool: the highest of its neighbourhood; without padding the border is none."""
    pad = reach if padded else 0
    highest = F.max_pool2d(margin[None], 2 * reach + 1, stride=1, padding=pad)[0]
    if not padded:
        highest = F.pad(highest, (reach,) * 4, value=torch.inf)
    return highest == margin


def _windows(
    image: Tensor,
    margin: Tensor,
    window: tuple[int, int],
    stride: int,
    least: float,
    most: int,
    *,
    peaks: Callable = _is_peak,
    above: Callable = torch.gt,
    order: Callable = lambda values: values.argsort(descending=True),
    corner: Callable = lambda row, column, stride: (row * stride, column * stride),
    first: Callable = lambda rows, most: rows[:most],
) -> Tensor:
    """Mining with room for the usual slips."""
    height, width = window
    found = peaks(margin) & above(margin, least)
    places = first(found.nonzero()[order(margin[found])], most)
    corners = [corner(row, column, stride) for row, column in places.tolist()]
    cut = [image[:, y : y + height, x : x + width] for y, x in corners]
    return torch.stack(cut) if cut else image.new_zeros(0, len(image), height, width)


def _before_peaks(image: Tensor, margin: Tensor, window, stride: int, least: float, most: int) -> Tensor:
    """The best `most` cells are chosen first, the peaks among them after."""
    limit = margin.flatten().sort(descending=True).values[:most][-1]
    return _windows(image, margin, window, stride, least, most, peaks=lambda m: _is_peak(m) & (m >= limit))


def _cut_unsorted(image: Tensor, margin: Tensor, window, stride: int, least: float, most: int) -> Tensor:
    """The first `most` peaks in reading order, and these sorted."""
    rows = (_is_peak(margin) & (margin > least)).nonzero()[:most]
    first = torch.zeros_like(margin, dtype=torch.bool).index_put(tuple(rows.T), torch.tensor(True, device=rows.device))
    return _windows(image, margin, window, stride, least, most, peaks=lambda m: first)


def _one_after_another(margin: Tensor) -> Tensor:
    """The highest cell is taken and all around it is blanked out, again and again."""
    left, taken = margin.clone(), torch.zeros_like(margin, dtype=torch.bool)
    while bool((left > -torch.inf).any()):
        row, column = divmod(int(left.argmax()), margin.shape[1])
        taken[row, column] = True
        left[max(row - REACH, 0) : row + REACH + 1, max(column - REACH, 0) : column + REACH + 1] = -torch.inf
    return taken


def _around(row: int, column: int, stride: int, window: tuple[int, int]) -> tuple[int, int]:
    return max(row * stride - window[0] // 2, 0), max(column * stride - window[1] // 2, 0)


HARD_WINDOWS_MISTAKES: dict[str, Callable] = {
    "peaks are taken one after another: a cell beside a higher one is no peak, though that one is none either": (
        lambda *a: _windows(*a, peaks=_one_after_another)
    ),
    "every cell above the limit is cut: keep local peaks only, or one thing is learned dozens of times": (
        lambda *a: _windows(*a, peaks=lambda margin: margin == margin)
    ),
    "a cell is `stride` pixels: the window begins at stride * row and stride * column": (
        lambda *a: _windows(*a, corner=lambda row, column, stride: (row, column))
    ),
    "row and column are exchanged: the row is y, the column x": (
        lambda *a: _windows(*a, corner=lambda row, column, stride: (column * stride, row * stride))
    ),
    "the window begins at its place, it is not centred on it": (
        lambda *a: _windows(*a, corner=lambda row, column, stride: _around(row, column, stride, a[2]))
    ),
    "height and width of the window are exchanged": lambda *a: _windows(a[0], a[1], a[2][::-1], *a[3:]),
    "the best are taken, and the highest of them comes last: sort descending, then take the first `most`": (
        lambda *a: _windows(*a).flip(0)
    ),
    "the last window is missing: does a loop or a slice stop one early?": lambda *a: _windows(*a)[:-1],
    "the lowest come first: sort descending": lambda *a: _windows(*a, order=lambda values: values.argsort()),
    "the places stand in reading order: give the highest margin first": (
        lambda *a: _windows(*a, order=lambda values: torch.arange(len(values)))
    ),
    "`most` is not used: at most so many windows come back": lambda *a: _windows(*a, first=lambda rows, most: rows),
    "`least` is not used: only margins above it count": (
        lambda *a: _windows(*a, above=lambda margin, least: margin > -torch.inf)
    ),
    "the limit is written into the function: use `least`": (
        lambda *a: _windows(*a, above=lambda margin, least: margin > 0)
    ),
    "a margin equal to `least` is not above it: use >": lambda *a: _windows(*a, above=torch.ge),
    "the margins' size is compared, not the margins: a sure background is no hard negative": (
        lambda *a: _windows(*a, above=lambda margin, least: margin.abs() > least)
    ),
    "a peak is the highest of 7 x 7 cells, not of 3 x 3": (
        lambda *a: _windows(*a, peaks=lambda margin: _is_peak(margin, reach=1))
    ),
    "peaks at the border are lost: max_pool2d needs padding=3": (
        lambda *a: _windows(*a, peaks=lambda margin: _is_peak(margin, padded=False))
    ),
    "the best cells are taken before the peaks are looked for: peaks first, then the best `most`": _before_peaks,
    "the first peaks in reading order are taken and sorted after: sort first, then take the best `most`": _cut_unsorted,
    "where nothing is found the shape is (0, C, height, width), not (0,)": (
        lambda *a: found if len(found := _windows(*a)) else found.new_zeros(0)
    ),
    "the easiest windows are cut: a hard negative has a high margin": (
        lambda *a: _windows(*a, above=lambda margin, least: margin <= least)
    ),
}


def _draw_windows(case: Case, expected: Tensor, got: Tensor):
    from labkit.checks.pictures import EXPECTED, GOT, panels
    from labkit.plotting import show_boxes, show_image

    image, margin = (value.cpu() for value in case.args[:2])
    height, width = case.args[2]
    figure, axes = panels(3, title=case.what, width=3.8, height=3.6)
    show_image(margin, value_range=(float(margin.min()), float(margin.max())), title="margin", ax=axes[0])
    for ax, windows, name, color in zip(axes[1:], (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True):
        show_image(image[0], value_range=(float(image[0].min()), float(image[0].max())), ax=ax)
        corners = _corners(image, windows.cpu()) if windows.ndim == 4 else []
        show_boxes(box_rows(*([x, y, x + width, y + height] for y, x in corners)), color=color, ax=ax)
        ax.set_title(f"{name}: {len(windows)} windows", color=color)
    return figure


def _corners(image: Tensor, windows: Tensor) -> list[tuple[int, int]]:
    """Where in the image each window was cut: the first place whose pixels are the same."""
    height, width = windows.shape[-2:]
    if not len(windows) or height > image.shape[1] or width > image.shape[2]:
        return []
    places = image.unfold(1, height, 1).unfold(2, width, 1)  # (C, rows, columns, height, width)
    found = ((places == window[:, None, None]).all(-1).all(-1).all(0).nonzero() for window in windows)
    return [(int(rows[0, 0]), int(rows[0, 1])) for rows in found if len(rows)]

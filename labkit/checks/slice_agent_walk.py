"""The check of notebook 18, an agent that finds L3: where does a walk end, and what is its answer?"""

from collections.abc import Callable, Sequence

from labkit.checks.engine import Case, run_check
from labkit.detection.slice_agent import walk_end as package_end

Walk = tuple[list[int], list[float]]


def walk_end(student: Callable) -> Callable:
    """Check `my_walk_end(path, values) -> (ended, row)` of notebook 18.

    Example:
        >>> walk_end(lambda path, values: (reference_walk_end(path, values)[0], path[-1])).__name__
        ✗ walk_end: it turned round, and the row before was worth less
        ...
          likely: of the last two rows the one with the lower value is the answer, not always the last
        ...
        'reference_walk_end'
    """
    long = [40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 31]
    falling = [6.5 - 0.5 * i for i in range(11)] + [1.9]
    cases = [
        Case("it has just begun", ([7], [2.5])),
        Case("its first step", ([7, 6], [2.5, 3.0])),
        Case("it still goes up", ([7, 6, 5], [2.5, 3.0, 1.0])),
        Case("it turned round, and the row before was worth less", ([7, 6, 7], [2.5, 0.5, 2.5])),
        Case("it turned round, and the row it stands on is worth less", ([5, 6, 5], [0.4, 1.5, 0.4])),
        Case("it went down and turned round", ([3, 4, 5, 4], [2.0, 1.2, 0.3, 1.2])),
        Case("it went down and turned round, and came from the better row", ([2, 3, 4, 3], [2.0, 0.1, 0.7, 0.1])),
        Case("values below 0: the lower one all the same", ([9, 8, 9], [-0.2, -0.9, -0.2])),
        Case("values below 0, and the row it stands on is lower", ([9, 8, 9], [-0.9, -0.2, -0.9])),
        Case("it bumps against the top", ([2, 1, 0, 0], [1.0, 2.0, 3.0, 3.0])),
        Case("it bumps against the top at once", ([0, 0], [1.5, 1.5])),
        Case("it bumps against the lower edge, and came from a row that was worth less", ([9, 10, 10], [0.2, 1, 1])),
        Case("a long way without a turn", (long[:-1], falling[:-1])),
        Case("a long way and a turn", (long, falling)),
        Case("the lowest value lies far behind", ([6, 5, 4, 3, 4], [0.1, 1.0, 1.4, 0.9, 1.4])),
    ]
    return run_check("walk_end", student, reference_walk_end, cases, mistakes=WALK_END_MISTAKES, draw=_draw)


def reference_walk_end(path: Sequence[int], values: Sequence[float]) -> tuple[bool, int]:
    """`labkit.detection.slice_agent.walk_end`."""
    return package_end(path, values)


def _draw(case: Case, expected: tuple[bool, int], got: tuple[bool, int]):
    from labkit.checks.pictures import EXPECTED, GOT, panels

    path, values = case.args
    figure, axes = panels(2, title=case.what, height=3.4)
    for ax, (ended, row), name, color in zip(axes, (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True):
        ax.plot(range(len(path)), path, "o-", color="0.4")
        for step, (place, value) in enumerate(list(zip(path, values, strict=True))[-3:], len(path) - len(path[-3:])):
            ax.annotate(f"{value:g}", (step, place), (0, 8), textcoords="offset points", ha="center", fontsize=11)
        ax.axhline(float(row), color=color, lw=2)
        ax.set(xlabel="step", ylabel="row", ylim=(max(path) + 1.5, min(path) - 1.5))
        ax.set_title(f"{name}: {'ends at' if ended else 'goes on from'} row {row}", color=color, fontsize=12)
    return figure


def _end(
    path: Sequence[int],
    values: Sequence[float],
    *,
    stuck: bool = True,
    turned: Callable = lambda path: len(path) > 2 and path[-1] == path[-3],
    answer: Callable = lambda path, values: path[-1] if values[-1] < values[-2] else path[-2],
    edge: Callable = lambda path, values: path[-1],
) -> tuple[bool, int]:
    """The rule with room for the usual slips."""
    if stuck and len(path) > 1 and path[-1] == path[-2]:
        return True, edge(path, values)
    if turned(path):
        return True, answer(path, values)
    return False, path[-1]


def _with(**slip) -> Callable:
    return lambda path, values: _end(path, values, **slip)


def _twice(path: Sequence[int]) -> bool:
    return len(path) > 3 and path[-1] == path[-3] and path[-2] == path[-4]


def _lowest(path: Sequence[int], values: Sequence[float]) -> int:
    return path[min(range(len(path)), key=lambda i: values[i])]


def _highest(path: Sequence[int], values: Sequence[float]) -> int:
    return path[max(range(len(path)), key=lambda i: values[i])]


def _by_value(path: Sequence[int], values: Sequence[float]) -> tuple[bool, int]:
    if len(path) > 1 and values[-1] > values[-2]:
        return True, path[-2]
    return False, path[-1]


WALK_END_MISTAKES: dict[str, Callable] = {
    "of the last two rows the one with the lower value is the answer, not always the last": (
        _with(answer=lambda path, values: path[-1])
    ),
    "of the last two rows the one with the lower value is the answer, not always the one before": (
        _with(answer=lambda path, values: path[-2])
    ),
    "the LOWER value is nearer to the goal: what is left to be won falls on the way": (
        _with(answer=lambda path, values: path[-2] if values[-1] < values[-2] else path[-1])
    ),
    "a value below 0 is lower than one near 0: no abs()": (
        _with(answer=lambda path, values: path[-1] if abs(values[-1]) < abs(values[-2]) else path[-2])
    ),
    "the answer is one of the two rows, not their mean": (_with(answer=lambda path, values: (path[-1] + path[-2]) / 2)),
    "the values decide, not which row is higher": _with(answer=lambda path, values: min(path[-1], path[-2])),
    "the values decide, not which row is lower": _with(answer=lambda path, values: max(path[-1], path[-2])),
    "the LOWER value is nearer to the goal, and only of the last two rows": _with(answer=_highest),
    "only the last two rows count, not the lowest value of the whole walk": _with(answer=_lowest),
    "one turn is enough: it has ended when the last row is that of two steps before (else it goes on for ever)": (
        _with(turned=_twice)
    ),
    "three rows are enough to turn round: path[-3] is there from the third on": (
        _with(turned=lambda path: len(path) > 3 and path[-1] == path[-3])
    ),
    "the row is asked for, not the value there": (
        lambda path, values: (True, min(values[-2:])) if _end(path, values)[0] else (False, path[-1])
    ),
    "the row is asked for, not 0 or 1 for which of the two": (
        lambda path, values: (True, values[-2:].index(min(values[-2:]))) if _end(path, values)[0] else (False, path[-1])
    ),
    "who bumps against the edge of the image has ended, too": _with(stuck=False),
    "who bumps against the lower edge has ended, too, not only at row 0": (
        lambda path, values: (False, path[-1]) if path[-2:] == [path[-1]] * 2 and path[-1] else _end(path, values)
    ),
    "a bump at the first step is an end, too: two equal rows are enough": (
        lambda path, values: _end(path, values) if len(path) > 2 else (False, path[-1])
    ),
    "a path of one row has not ended": _with(
        stuck=False,
        turned=lambda path: path[-3:][0] == path[-1],
        answer=lambda path, values: min(zip(values[-2:], path[-2:], strict=True))[1],
    ),
    "a path may have one row or two: look at its length before path[-3]": (
        _with(turned=lambda path: path[-1] == path[-3])
    ),
    "a walk ends where it turns round, not where the value falls": (
        lambda path, values: (len(values) > 1 and values[-1] < values[-2], path[-1])
    ),
    "who bumps against the edge ends there, not one row before": (
        _with(edge=lambda path, values: path[-3] if len(path) > 2 else path[-1])
    ),
    "it has ended where it comes back to the row of two steps before, not only to where it began": (
        _with(turned=lambda path: len(path) > 2 and path[-1] == path[0])
    ),
    "a walk ends where it turns round, not where the value rises": _by_value,
    "while it goes on it stands on the last row of its path": (
        lambda path, values: _end(path, values) if _end(path, values)[0] else (False, path[0])
    ),
    "the row is asked for, not its value": (
        lambda path, values: (_end(path, values)[0], min(values[-2:]) if _end(path, values)[0] else values[-1])
    ),
    "the row is asked for, not which step it was": (
        lambda path, values: (_end(path, values)[0], path.index(_end(path, values)[1]))
    ),
    "ended comes first, then the row": lambda path, values: _end(path, values)[::-1],
    "it never ends: compare the last row with the one two steps before": lambda path, values: (False, path[-1]),
}

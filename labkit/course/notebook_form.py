"""The one form in which a source notebook is stored, and where its exercises stand.

Stored form   solved; no outputs, except in cells tagged `nbval-check-output`, whose text each test run
              compares; cell ids kept; of the metadata only what a reader or a grader needs.
Exercise      `# Exercise 3.1: greedy suppression`, then inside a function the solution between
              `### BEGIN SOLUTION` and `### END SOLUTION`; the next code cell calls its check.

`python -m labkit.course.notebook_form FILES` names what is wrong; with `--fix` it first mends what a machine can.
"""

import argparse
import copy
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from labkit.files import write_whole

COMPARED = "nbval-check-output"
BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
EXERCISE = re.compile(r"^# (Exercise \d+\.\d+: .*\S)$", re.MULTILINE)

CELL_METADATA = ("tags", "slideshow")
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Each would let a broken cell pass unseen.
REFUSED_TAGS = {"nbval-skip", "nbval-ignore-output", "raises-exception"}
MOST_LINES = 25  # what fits a screen together with its output
MOST_SETUP_LINES = 8
MOST_CHARACTERS = 88  # a line of code on a projector 1024 pixels wide, without a bar to scroll
TITLE_ITEMS = ("Before", "Minutes", "Device")  # of the title cell's list, in this order


def normalise(notebook: dict) -> dict:
    """The same notebook in the stored form; the argument stays as it is.

    Args:
        notebook: a notebook as nbformat reads it.

    Returns:
        A copy: kernel metadata fixed, cell metadata on the whitelist, outputs and counts only where they
        are compared, no blanks at the end of a line.

    Example:
        >>> cell = {"cell_type": "code", "id": "a1", "metadata": {"trusted": True}}
        >>> cell |= {"source": "1 + 1  ", "outputs": [], "execution_count": 7}
        >>> stored = normalise({"metadata": {}, "cells": [cell]})["cells"][0]
        >>> stored["metadata"], stored["source"], stored["execution_count"]
        ({}, '1 + 1', None)
    """
    notebook = copy.deepcopy(notebook)
    notebook |= {"nbformat": 4, "nbformat_minor": 5, "metadata": copy.deepcopy(KERNEL)}
    for cell in notebook["cells"]:
        for key in set(cell["metadata"]) - set(CELL_METADATA):
            del cell["metadata"][key]
        cell["source"] = "\n".join(line.rstrip() for line in cell["source"].splitlines()).strip("\n")
        if cell["cell_type"] == "code" and not is_compared(cell):
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def is_compared(cell: dict) -> bool:
    """Whether a test run compares this cell's output with the stored one."""
    return COMPARED in cell["metadata"].get("tags", [])


def sections(source: str, begin: str, end: str, *, where: str) -> list[tuple[int, int]]:
    """Where the marked sections of a cell are.

    Args:
        source: the cell's text.
        begin: the line that opens a section, such as `### BEGIN SOLUTION`.
        end: the line that closes it.
        where: file and cell, for the message.

    Returns:
        A list of (first, last) line numbers from 0, the marker lines included.

    Raises:
        ValueError: a marker without its partner.

    Example:
        >>> source = "a\\n### BEGIN SOLUTION\\nb\\n### END SOLUTION"
        >>> sections(source, BEGIN_SOLUTION, END_SOLUTION, where="03.ipynb, cell 4")
        [(1, 3)]
    """
    found, opened = [], None
    for number, line in enumerate(source.splitlines()):
        marker = line.strip()
        if marker not in (begin, end):
            continue
        expected = begin if opened is None else end
        if marker != expected:
            raise ValueError(f"{where}, line {number + 1}: expected '{expected}', got '{marker}'; pair them")
        if opened is None:
            opened = number
        else:
            found.append((opened, number))
            opened = None
    if opened is not None:
        raise ValueError(f"{where}, line {opened + 1}: expected '{end}' after '{begin}', got none; add it")
    return found


def problems(notebook: dict, path: str | Path) -> list[str]:
    """What keeps a notebook from being stored, one sentence each; an empty list when nothing does.

    Args:
        notebook: a notebook as nbformat reads it.
        path: its file, for the messages.

    Returns:
        A list of str: file, cell number (from 0, text cells counted too), what is wrong.
    """
    stored = normalise(notebook)
    code = [(number, cell) for number, cell in enumerate(stored["cells"]) if cell["cell_type"] == "code"]
    return [
        f"{path}{sentence}"
        for sentence in (
            *_unlike(notebook, stored),
            *_not_unique(stored["cells"]),
            *_title_problems(stored["cells"]),
            *_cell_problems(code),
            *_exercise_problems(code),
        )
    ]


def _unlike(notebook: dict, stored: dict) -> Iterator[str]:
    """Where a notebook is not in its stored form."""
    cure = "not in the stored form; run python -m labkit.course.notebook_form --fix on it"
    for number, (given, right) in enumerate(zip(notebook["cells"], stored["cells"], strict=True)):
        if given != right:
            yield f", cell {number}: {cure}"
    if any(notebook.get(key) != stored[key] for key in ("metadata", "nbformat", "nbformat_minor")):
        yield f": metadata {cure}"


def _not_unique(cells: list[dict]) -> Iterator[str]:
    """Cell ids that are missing or occur more than once."""
    ids = [cell.get("id") for cell in cells]
    for value in dict.fromkeys(ids):
        if value is None or ids.count(value) > 1:
            yield f": cell id {value!r} must be there, and once only"


def _title_problems(cells: list[dict]) -> Iterator[str]:
    """A first cell that does not say what the notebook needs, one list item each."""
    found = re.findall(r"^- \*(\w+):\*", cells[0]["source"], re.MULTILINE) if cells else []
    if tuple(found) != TITLE_ITEMS:
        wanted = ", ".join(f"'- *{word}:*'" for word in TITLE_ITEMS)
        yield f", cell 0: expected the list items {wanted}, got {', '.join(found) or 'none'}; write them"


def _cell_problems(code: list[tuple[int, dict]]) -> Iterator[str]:
    """Code cells that are too long or too wide, tagged to hide a failure, or compared with nothing."""
    for position, (number, cell) in enumerate(code):
        lines, most = len(cell["source"].splitlines()), MOST_LINES if position else MOST_SETUP_LINES
        if lines > most:
            yield f", cell {number}: expected at most {most} lines, got {lines}; split it"
        for place, line in enumerate(cell["source"].splitlines(), start=1):
            if len(line) > MOST_CHARACTERS:
                width = f"expected at most {MOST_CHARACTERS} characters, got {len(line)}"
                yield f", cell {number}, line {place}: {width}; break the line"
        for tag in sorted(REFUSED_TAGS & set(cell["metadata"].get("tags", []))):
            yield f", cell {number}: tag '{tag}' lets a broken cell pass; remove it"
        if not is_compared(cell):
            continue
        if cell["execution_count"] is None or not cell["outputs"]:
            yield f", cell {number}: tag '{COMPARED}' without a stored output compares nothing; run the cell"
        kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})} - {"text/plain"}
        if kinds:
            yield f", cell {number}: a compared output is text, got {', '.join(sorted(kinds))}; print numbers"


def _exercise_problems(code: list[tuple[int, dict]]) -> Iterator[str]:
    """Exercises without a name, a function around them or a check after them, or none at all."""
    exercises = 0
    for position, (number, cell) in enumerate(code):
        where, source = f", cell {number}", cell["source"]
        try:
            solutions = sections(source, BEGIN_SOLUTION, END_SOLUTION, where=where)
        except ValueError as error:
            yield str(error)
            continue
        if not solutions:
            continue
        exercises += 1
        if not EXERCISE.search(source):
            yield f"{where}: expected a line '# Exercise 3.1: what to write' above the solution, got none"
        if any(not source.splitlines()[first].startswith(" ") for first, _ in solutions):
            yield f"{where}: a solution outside a function stops Run All in the student form"
        if position + 1 == len(code) or "checks." not in code[position + 1][1]["source"]:
            yield f"{where}: the next code cell must call the exercise's check"
    if not exercises:
        yield ": expected at least one exercise, got none"


def read(path: str | Path) -> dict:
    """The notebook in a file.

    Raises:
        ValueError: the file is no notebook.
        OSError: it cannot be read.
    """
    import nbformat  # half a second: only where notebooks are read

    try:
        notebook = nbformat.reads(Path(path).read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, nbformat.ValidationError) as error:
        reason = str(error).strip().partition("\n")[0][:80]
        raise ValueError(f"{path}: expected a notebook, got a broken one ({reason}); restore the file") from None
    return notebook


def text(notebook: dict) -> str:
    """A notebook as it stands in its file."""
    import nbformat

    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Name what is wrong in the given notebooks; 1 when anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--fix", action="store_true", help="mend what a machine can, then name the rest")
    options = parser.parse_args(arguments)
    found: list[str] = []
    for path in options.files:
        try:
            notebook = read(path)
        except (ValueError, OSError) as error:
            found.append(str(error))
            continue
        if options.fix:
            notebook = normalise(notebook)
            write_whole(path, text(notebook).encode())
        found += problems(notebook, path)
    print("\n".join(found) or f"{len(options.files)} in the stored form")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Copies of the notebooks, which from then on belong to whoever works in them.

Source   notebooks/NAME.ipynb, solved; the only place a notebook is written.
Copy     work/NAME.ipynb, exercises blank; made once, then the student's own and never written again.
Record   work/.labkit.json: for each notebook a digest of the course's version the student last got, so that
         a newer one is noticed. It lands beside, as NAME.new.ipynb.

Whatever else is in the folder is told and passed by. A teacher's solved copies, in demo/, are kept alike.
"""

import contextlib
import copy
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from labkit import NOTEBOOKS
from labkit.course import notebook_form
from labkit.course.notebook_form import BEGIN_SOLUTION, COMPARED, END_SOLUTION, EXERCISE
from labkit.files import user_path, write_whole

ROOT = Path(__file__).resolve().parents[2]
RECORD = ".labkit.json"
FORMER = {  # what a notebook was called before; who has it there is told that the lesson is the same
    "01_localizer.ipynb": "01_localization.ipynb",
    "02_sliding_window.ipynb": "02_sliding_windows.ipynb",
    "04_evaluation.ipynb": "04_scoring.ipynb",
    "05_proposals.ipynb": "05_region_proposals.ipynb",
}


def source_notebooks() -> list[Path]:
    """The files of the course's notebooks, in reading order.

    Raises:
        ValueError: labkit is installed without them.
    """
    found = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise ValueError(
            f"expected the course's notebooks in {ROOT / 'notebooks'}, got no {', '.join(missing)}; "
            'clone the whole project and install it in place: pip install -e ".[lab]"'
        )
    return found


def student_notebook(notebook: dict, *, path: str | Path = "notebook") -> dict:
    """The form a student starts from: exercises blank, nothing run yet.

    Args:
        notebook: a solved notebook as nbformat reads it; it stays as it is.
        path: its file, for messages.

    Returns:
        A copy in which each solution is one line, `raise NotImplementedError("Exercise 3.1: ...")`.

    Raises:
        ValueError: a marker without its partner, or a solution without the name of its exercise.
    """
    notebook = copy.deepcopy(notebook)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        cell["source"] = _blank(cell["source"], where=f"{path}, cell {number}")
        cell["outputs"], cell["execution_count"] = [], None
        tags = [tag for tag in cell["metadata"].pop("tags", []) if tag != COMPARED]
        if tags:
            cell["metadata"]["tags"] = tags
    return notebook


def _blank(source: str, *, where: str) -> str:
    """A cell's text with its solutions replaced."""
    solutions = notebook_form.sections(source, BEGIN_SOLUTION, END_SOLUTION, where=where)
    exercise = EXERCISE.search(source)
    if solutions and not exercise:
        raise ValueError(f"{where}: expected '# Exercise 3.1: what to write' above the solution, got none; add it")
    title = exercise[1] if exercise else ""
    lines = source.splitlines()
    for first, last in reversed(solutions):
        indent = " " * (len(lines[first]) - len(lines[first].lstrip()))
        lines[first : last + 1] = [f"{indent}raise NotImplementedError({json.dumps(title, ensure_ascii=False)})"]
    return "\n".join(lines)


def update_copies(folder: str | Path, *, solved: bool = False) -> list[str]:
    """Bring a folder of copies up to date without touching anything its owner has.

    Args:
        folder: where the copies are; made when missing.
        solved: copies of the notebooks as they are, for a teacher; by default the exercises are blank.

    Returns:
        A sentence for each notebook that was added, or is newer in the course and now stands beside, and for
        everything in the folder that keeps a notebook from being opened.

    Raises:
        ValueError: the folder is a file, or a source notebook is broken.
        OSError: nothing can be written there; no half-written notebook is left.
    """
    folder = user_path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"expected a folder, got the file {folder}; rename it, or choose another folder")
    fresh = {}
    for path in source_notebooks():
        notebook = notebook_form.read(path)
        fresh[path.name] = notebook if solved else student_notebook(notebook, path=path)
    folder.mkdir(parents=True, exist_ok=True)
    before, said = _read_record(folder / RECORD)
    for name, notebook in fresh.items():
        said += _offer(folder / name, notebook, before.get(name))
    record = before | {name: _digest(notebook) for name, notebook in fresh.items()}
    if record != before:
        with contextlib.suppress(OSError):  # told already; at worst a newer version is offered once more
            write_whole(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return said


def _offer(mine: Path, fresh: dict, last: str | None) -> list[str]:
    """Add a missing notebook, or put a newer one beside; the sentences to say.

    `last` is the digest of the version the student got before; without one, every difference counts.
    """
    digest = _digest(fresh)
    if not os.path.lexists(mine) and _add(mine, fresh):  # a link that points nowhere is a student's file too
        former = FORMER.get(mine.name, "")
        same = f", the newer version of your {former}" if former and os.path.lexists(mine.with_name(former)) else ""
        return [f"added {mine.name}{same}"]
    theirs, odd = _digest_of_file(mine)
    said = [f"{mine.name} {odd}; it stays as it is: rename it and start again for a fresh copy"] if odd else []
    if digest in (last, theirs):
        return said
    beside, number = mine.with_suffix(".new.ipynb"), 1
    while os.path.lexists(beside) and _digest_of_file(beside)[0] != digest:
        number += 1
        beside = mine.with_suffix(f".new{number}.ipynb")
    if not os.path.lexists(beside):
        _add(beside, fresh)
    return [*said, f"{mine.name} has a newer version: {beside.name} beside it; yours is unchanged"]


def _add(path: Path, notebook: dict) -> bool:
    """Write a notebook that was not there; False where one has appeared meanwhile, which then stays.

    Raises:
        OSError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    content = notebook_form.text(notebook).encode()
    whole = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        write_whole(whole, content)
        try:
            os.link(whole, path)  # refuses where a file stands, as a renaming does not
        except FileExistsError:
            return False
        except OSError:  # no links on this disk
            return _write_new(path, content)
    except OSError as error:
        cure = "nothing was changed; make room there, or choose another folder"
        raise OSError(error.errno, f"{error.strerror}: {cure}", str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            whole.unlink(missing_ok=True)
    return True


def _write_new(path: Path, content: bytes) -> bool:
    """The same on a disk without links: the name is taken first, then filled."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _digest(notebook: dict) -> str:
    """SHA-256 of what a person wrote: the kind and the text of every cell; no outputs, no ids."""
    cells = [(cell["cell_type"], cell["source"]) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _digest_of_file(path: Path) -> tuple[str | None, str]:
    """The digest of a file, or None and why there is none."""
    if path.is_dir():
        return None, "is a folder"
    if not path.exists():
        return None, "is a link that points nowhere"
    try:
        return _digest(notebook_form.read(path)), ""
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    except ValueError:
        return None, "is no notebook any more"


def _read_record(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The record, empty when it is missing or torn; and what to say where something else has its place."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        cure = "remove it, or every notebook you changed counts as older than the course's"
        return {}, [f"{path.name} cannot be read ({error.strerror}); {cure}"]
    except (ValueError, RecursionError):
        return {}, []
    return (record if isinstance(record, dict) else {}), []

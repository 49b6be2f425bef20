"""The course as a student and a teacher meet it: copies of the notebooks, and JupyterLab open on them.

Source   notebooks/NAME.ipynb, solved; the only place a notebook is written.
Copy     work/NAME.ipynb, exercises blank; made once, then the student's own and never written again.
Record   work/.labkit.json: for each notebook a digest of the course's version the student last got, so that
         a newer one is noticed. It lands beside, as NAME.new.ipynb.
"""

import copy
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from labkit import NOTEBOOKS, notebook_form
from labkit.notebook_form import BEGIN_HIDDEN, BEGIN_SOLUTION, COMPARED, END_HIDDEN, END_SOLUTION, EXERCISE
from labkit.waiting import quiet_environment

ROOT = Path(__file__).resolve().parent.parent
RECORD = ".labkit.json"


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
    """The form a student starts from: exercises blank, hidden tests gone, nothing run yet.

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
    """A cell's text with its solutions replaced and its hidden tests cut out."""
    solutions = notebook_form.sections(source, BEGIN_SOLUTION, END_SOLUTION, where=where)
    hidden = notebook_form.sections(source, BEGIN_HIDDEN, END_HIDDEN, where=where)
    exercise = EXERCISE.search(source)
    if solutions and not exercise:
        raise ValueError(f"{where}: expected '# Exercise 3.1: what to write' above the solution, got none; add it")
    lines = source.splitlines()
    for first, last in sorted(solutions + hidden, reverse=True):
        stub = []
        if (first, last) in solutions:
            indent = " " * (len(lines[first]) - len(lines[first].lstrip()))
            stub = [f"{indent}raise NotImplementedError({json.dumps(exercise[1], ensure_ascii=False)})"]
        lines[first : last + 1] = stub
    return "\n".join(lines)


def update_copies(folder: str | Path) -> list[str]:
    """Bring a student's folder up to date without touching anything the student has.

    Args:
        folder: where the copies are; made when missing.

    Returns:
        One sentence for each notebook that was added, or is newer in the course and now stands beside.

    Raises:
        ValueError: the folder is a file, or a source notebook is broken.
        OSError: nothing can be written there; no half-written notebook is left.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder, got the file {folder}; rename it, or choose another with --folder")
    fresh = [(path.name, student_notebook(notebook_form.read(path), path=path)) for path in source_notebooks()]
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_record(folder / RECORD)
    sentences = [_offer(folder / name, notebook, before.get(name)) for name, notebook in fresh]
    record = before | {name: _digest(notebook) for name, notebook in fresh}
    if record != before:
        notebook_form.write(json.dumps(record, indent=1) + "\n", folder / RECORD)
    return [sentence for sentence in sentences if sentence]


def _offer(mine: Path, fresh: dict, last: str | None) -> str:
    """Add a missing notebook, or put a newer one beside; the sentence to say, or nothing.

    `last` is the digest of the version the student got before; without one, every difference counts.
    """
    digest = _digest(fresh)
    if not mine.exists():
        notebook_form.write(notebook_form.text(fresh), mine)
        return f"added {mine.name}"
    if digest in (last, _digest_of_file(mine)):
        return ""
    beside, number = mine.with_suffix(".new.ipynb"), 1
    while beside.exists() and _digest_of_file(beside) != digest:
        number += 1
        beside = mine.with_suffix(f".new{number}.ipynb")
    if not beside.exists():
        notebook_form.write(notebook_form.text(fresh), beside)
    return f"{mine.name} has a newer version: {beside.name} beside it; yours is unchanged"


def _digest(notebook: dict) -> str:
    """SHA-256 of what a person wrote: the kind and the text of every cell; no outputs, no ids."""
    cells = [(cell["cell_type"], cell["source"]) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _digest_of_file(path: Path) -> str | None:
    """The digest of a file, or None when it is no notebook any more."""
    try:
        return _digest(notebook_form.read(path))
    except ValueError:
        return None


def _read_record(path: Path) -> dict:
    """The record, empty when it is missing or torn."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def lab(folder: str | Path, *, browser: bool = True, port: int | None = None) -> int:
    """Bring the student's copies up to date and open JupyterLab on them; returns when it ends.

    Args:
        folder: the student's own folder.
        browser: open a browser too.
        port: the port to listen on; by default the first free one from 8888.

    Returns:
        The exit status of JupyterLab.
    """
    _require_jupyterlab()
    for sentence in update_copies(folder):
        print(sentence)
    return _open(Path(folder), browser=browser, port=port)


def demo(*, browser: bool = True, port: int | None = None) -> int:
    """Open JupyterLab on the solved notebooks; returns when it ends.

    The copies in demo/ are made anew each time, so that a lecture starts clean.
    """
    _require_jupyterlab()
    folder = ROOT / "demo"
    folder.mkdir(exist_ok=True)
    for source in source_notebooks():
        notebook_form.write(source.read_text(encoding="utf-8"), folder / source.name)
    return _open(folder, browser=browser, port=port)


def _require_jupyterlab() -> None:
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError('JupyterLab is not installed here; run pip install -e ".[lab]" in the project')


def _open(folder: Path, *, browser: bool, port: int | None) -> int:
    """JupyterLab on one folder, on this machine only; its token stays on."""
    from jupyterlab.labapp import LabApp

    folder = folder.resolve()
    # a terminal opened in JupyterLab finds the `labkit` and `python` of this environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.update(quiet_environment(os.environ) | {"PATH": path})  # kernels inherit it
    arguments = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    arguments.append(f"--LabApp.default_url=/lab/tree/{NOTEBOOKS[0]}.ipynb")
    if not browser:
        arguments.append("--no-browser")
    if port is not None:
        arguments.append(f"--ServerApp.port={port}")
    if getattr(os, "geteuid", lambda: 1)() == 0:  # usual in a container, and refused otherwise
        arguments.append("--allow-root")
    print(f"The notebooks are in {folder}. End with Ctrl-C here.", flush=True)
    return LabApp.launch_instance(arguments)

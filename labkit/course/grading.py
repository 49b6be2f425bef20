"""The course in nbgrader's form: assignments to give out, and the points of what comes back.

    FOLDER/source/NAME/NAME.ipynb               solved, with the hidden tests; for teachers' eyes only
    FOLDER/release/NAME/NAME.ipynb              to give out: exercises blank, hidden tests gone
    FOLDER/submitted/STUDENT/NAME/NAME.ipynb    put there by whoever collects them
    FOLDER/grades.csv                           a row a student, a column a notebook

An exercise is the cell with its solution, its test the cell that calls the check. A check explains and never blocks, so
the hidden test asks whether it gave the student's own function back. nbgrader does the rest; it comes with the extra
`labkit[grade]`.
"""

import copy
import csv
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from labkit.course import copies, notebook_form
from labkit.course.notebook_form import BEGIN_SOLUTION
from labkit.files import user_path, write_whole

CHECKED = re.compile(r"^(\w+) = checks\.\w+\((my_\w+)\)$", re.MULTILINE)
CONFIG = """c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "labkit"
c.ClearSolutions.begin_solution_delimeter = "### BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "### END SOLUTION"
c.Execute.timeout = 1800  # seconds a cell: some train a network
c.Execute.startup_timeout = 300
"""


def graded_notebook(notebook: dict, *, path: str | Path = "notebook") -> dict:
    """A solved notebook with nbgrader's metadata and a hidden test behind each check.

    Args:
        notebook: as nbformat reads it; it stays as it is.
        path: its file, for messages.

    Raises:
        ValueError: it has no exercise that a check follows.
    """
    notebook = copy.deepcopy(notebook)
    points = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"], cell["execution_count"] = [], None
        checked = CHECKED.findall(cell["source"])
        if BEGIN_SOLUTION in cell["source"]:
            cell["metadata"]["nbgrader"] = _marks(cell["id"], solution=True)
        elif checked:
            cell["metadata"]["nbgrader"] = _marks(cell["id"], points=len(checked))
            cell["source"] += "\n" + _hidden_test(checked)
            points += len(checked)
    if not points:
        raise ValueError(f"{path}: expected an exercise and its check, got none; add `name = checks.name(my_name)`")
    return notebook


def _marks(cell_id: str, *, solution: bool = False, points: int = 0) -> dict[str, Any]:
    """nbgrader's metadata, schema 3; one point an exercise."""
    marks: dict[str, Any] = {"schema_version": 3, "grade_id": cell_id, "solution": solution, "task": False}
    marks |= {"grade": not solution, "locked": not solution}
    return marks if solution else marks | {"points": points}


def _hidden_test(checked: list[tuple[str, str]]) -> str:
    """Asserts that each check gave the student's own function back."""
    tests = [f'assert {name} is {own}, "{own}: the check found a fault"' for name, own in checked]
    return "\n".join(["### BEGIN HIDDEN TESTS", *tests, "### END HIDDEN TESTS"])


def release(folder: str | Path) -> list[str]:
    """Write the assignments of the notebooks that have exercises.

    Args:
        folder: nbgrader's course folder; made when missing; source/ and release/ are made anew, the rest stays.

    Returns:
        A sentence for each notebook.

    Raises:
        RuntimeError: nbgrader is missing, or refuses a notebook.
        OSError: nothing can be written there.
    """
    folder = user_path(folder).absolute()
    gradable = {}
    for path in copies.source_notebooks():
        notebook = notebook_form.read(path)
        if any(CHECKED.search(cell["source"]) for cell in notebook["cells"]):
            gradable[path.stem] = graded_notebook(notebook, path=path)
    for name, notebook in gradable.items():
        (folder / "source" / name).mkdir(parents=True, exist_ok=True)
        write_whole(folder / "source" / name / f"{name}.ipynb", notebook_form.text(notebook).encode())
    write_whole(folder / "nbgrader_config.py", CONFIG.encode())
    with _course(folder) as course:
        for name in gradable:
            _done(course.generate_assignment(name), f"{name} could not be released")
    return [f"released {folder / 'release' / name / name}.ipynb" for name in gradable]


def grade(folder: str | Path) -> list[str]:
    """Run and grade everything in submitted/, and write grades.csv.

    Args:
        folder: the folder that `release` wrote.

    Returns:
        A sentence for each submission: its points, or why it has none.

    Raises:
        ValueError: nothing was released there, or nothing is submitted.
        RuntimeError: nbgrader is missing.
    """
    folder = user_path(folder).absolute()
    if not (folder / "nbgrader_config.py").is_file():
        raise ValueError(f"expected a folder that `labkit release` wrote, got {folder}; write: labkit release {folder}")
    handed_in = sorted(path.parent for path in folder.glob("submitted/*/*/*.ipynb"))
    if not handed_in:
        raise ValueError(
            f"expected submissions in {folder / 'submitted'}, got none; put them there, STUDENT/NAME/NAME.ipynb"
        )
    said, points = [], {}
    with _course(folder) as course:
        for place in handed_in:
            student, name = place.parent.name, place.name
            result = course.autograde(name, student)
            if not result["success"]:
                said.append(f"{student}, {name}: could not be graded: {_last_line(result)}")
                continue
            submission = course.gradebook.find_submission(name, student)
            points[student, name] = submission.score
            said.append(f"{student}, {name}: {submission.score:g} of {submission.max_score:g} points")
    write_whole(folder / "grades.csv", _table(points).encode())
    return said


def _table(points: dict[tuple[str, str], float]) -> str:
    """The points as CSV."""
    students, names = sorted({student for student, _ in points}), sorted({name for _, name in points})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", *names])
    for student in students:
        writer.writerow(
            [student, *(f"{points[student, name]:g}" if (student, name) in points else "" for name in names)]
        )
    return text.getvalue()


def _done(result: dict, trouble: str) -> None:
    if not result["success"]:
        raise RuntimeError(f"{trouble}: {_last_line(result)}")


def _last_line(result: dict) -> str:
    """What nbgrader says last, which is why it stopped."""
    lines = [line for line in f"{result.get('error') or ''}\n{result.get('log') or ''}".splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nbgrader gave no reason"


class _Course(NamedTuple):
    """What nbgrader does with a course folder."""

    generate_assignment: Callable[[str], dict]  # of a name
    autograde: Callable[[str, str], dict]  # of a name and a student
    gradebook: Any


@contextmanager
def _course(folder: Path) -> Iterator[_Course]:
    """nbgrader on a course folder, its gradebook open."""
    try:
        from nbgrader.api import Gradebook
        from nbgrader.converters import Autograde, GenerateAssignment
        from nbgrader.coursedir import CourseDirectory
        from nbgrader.utils import capture_log, temp_attrs
        from traitlets.config import PyFileConfigLoader
    except ImportError as error:
        raise RuntimeError(f'nbgrader is missing ({error.name}); write: pip install "labkit[grade]"') from None
    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    directory = CourseDirectory(config=config)
    beside = str(Path(sys.executable).parent)  # where nbgrader looks for `alembic`, which need not be on the path
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([beside, path])

    def run(converter: type, **names: str) -> dict:
        with temp_attrs(directory, **names):
            app = converter(coursedir=directory, config=config)
            app.force = True  # made anew, however often
            return capture_log(app)

    try:
        with Gradebook(directory.db_url, directory.course_id) as gradebook:
            yield _Course(
                lambda name: run(GenerateAssignment, assignment_id=name),
                lambda name, student: run(Autograde, assignment_id=name, student_id=student),
                gradebook,
            )
    finally:
        os.environ["PATH"] = path

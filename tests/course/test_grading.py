"""Assignments for nbgrader, made and graded as a teacher would."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import NOTEBOOKS
from labkit.course import command_line, copies, grading, notebook_form

RIGHT = """# Exercise 0.1: the pixels under a box
def my_crop(image, box):
    ### BEGIN SOLUTION
    x1, y1, x2, y2 = box.clamp(min=0).long().tolist()
    return image[y1:y2, x1:x2]
    ### END SOLUTION"""
WRONG = RIGHT.replace("x1, y1, x2, y2 = ", "y1, x1, y2, x2 = ")


def course_of_one():
    cells = [
        new_markdown_cell("# A title", id="title"),
        new_code_cell("from labkit import checks", id="setup"),
        new_code_cell(RIGHT, id="ex-crop"),
        new_code_cell("crop = checks.crop(my_crop)", id="check-crop"),
        new_code_cell("print(crop.__name__)", id="use"),
    ]
    return new_notebook(cells=cells, metadata=notebook_form.KERNEL)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one notebook with an exercise, and the folder it is released into."""
    (tmp_path / "notebooks").mkdir()
    nbformat.write(course_of_one(), tmp_path / "notebooks" / "00_first.ipynb")
    monkeypatch.setattr(copies, "ROOT", tmp_path)
    monkeypatch.setattr(copies, "NOTEBOOKS", ("00_first",))
    monkeypatch.delenv("LABKIT_STRICT", raising=False)
    return tmp_path / "course"


def hand_in(course, student, solution=None):
    """A released notebook with that solution, as submitted."""
    notebook = nbformat.read(course / "release" / "00_first" / "00_first.ipynb", nbformat.NO_CONVERT)
    if solution:
        notebook.cells[2].source = solution
    place = course / "submitted" / student / "00_first"
    place.mkdir(parents=True)
    nbformat.write(notebook, place / "00_first.ipynb")


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy and nbconvert, about nbgrader's use of them
def test_right_answers_get_their_point_wrong_and_blank_ones_none(course, capsys):
    assert command_line.main(["release", str(course)]) == 0
    given_out = (course / "release" / "00_first" / "00_first.ipynb").read_text(encoding="utf-8")
    assert "NotImplementedError" in given_out
    assert "clamp" not in given_out
    assert "HIDDEN" not in given_out
    hand_in(course, "ada", RIGHT)
    hand_in(course, "bob", WRONG)
    hand_in(course, "cy")
    capsys.readouterr()
    assert command_line.main(["grade", str(course)]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "ada, 00_first: 1 of 1 points",
        "bob, 00_first: 0 of 1 points",
        "cy, 00_first: 0 of 1 points",
    ]
    assert (course / "grades.csv").read_text() == "student,00_first\nada,1\nbob,0\ncy,0\n"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_exercise_of_the_course_is_graded_by_its_check(name):
    notebook = grading.graded_notebook(notebook_form.read(copies.ROOT / "notebooks" / f"{name}.ipynb"), path=name)
    marks = [cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert len({mark["grade_id"] for mark in marks}) == len(marks)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    written = {line.split("(")[0].removeprefix("def ") for line in text.splitlines() if line.startswith("def my_")}
    tested = {own for cell in notebook.cells for _, own in grading.CHECKED.findall(cell.source)}
    assert tested <= written
    assert sum(mark.get("points", 0) for mark in marks) == len(tested)
    for cell in notebook.cells:
        if "### BEGIN SOLUTION" in cell.source:
            assert any(f"def {own}(" in cell.source for own in tested)


def test_a_notebook_without_exercises_is_no_assignment():
    notebook = new_notebook(cells=[new_code_cell("print(1)", id="one")])
    with pytest.raises(ValueError, match="expected an exercise and its check"):
        grading.graded_notebook(notebook)


def test_grading_before_releasing_says_what_to_do(tmp_path, capsys):
    assert command_line.main(["grade", str(tmp_path)]) == 1
    assert "labkit release" in capsys.readouterr().err


def test_grading_without_submissions_says_where_they_belong(tmp_path, capsys):
    (tmp_path / "nbgrader_config.py").write_text(grading.CONFIG)
    assert command_line.main(["grade", str(tmp_path)]) == 1
    assert "STUDENT/NAME/NAME.ipynb" in capsys.readouterr().err


def test_without_nbgrader_the_cure_is_named(course, monkeypatch, capsys):
    monkeypatch.setitem(grading.sys.modules, "nbgrader.api", None)
    assert command_line.main(["release", str(course)]) == 1
    assert 'pip install "labkit[grade]"' in capsys.readouterr().err

"""The stored form of the notebooks, and the machinery that runs them (notebook_runner)."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from labkit import NOTEBOOKS
from labkit.course import copies, notebook_form
from labkit.course.notebook_form import COMPARED

SOURCES = sorted((copies.ROOT / "notebooks").glob("*.ipynb"))
EXERCISE = """# Exercise 9.1: the answer
def my_answer():
    ### BEGIN SOLUTION
    return 42
    ### END SOLUTION"""
CHECK = "answer = checks.answer(my_answer)"


def make_notebook(*sources):
    """A notebook in the stored form: str for a code cell, (str, output) for one whose output is compared."""
    notebook = new_notebook(metadata=notebook_form.KERNEL)
    for number, source in enumerate(sources):
        cell = new_code_cell(source if isinstance(source, str) else source[0], id=f"c{number}")
        if not isinstance(source, str):
            cell.metadata.tags = [COMPARED]
            cell.outputs, cell.execution_count = [new_output("stream", text=source[1])], 1
        notebook.cells.append(cell)
    return notebook


def test_the_reading_order_names_every_notebook():
    assert [path.stem for path in SOURCES] == list(NOTEBOOKS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_stored_form(path):
    notebook = notebook_form.read(path)
    assert notebook_form.problems(notebook, path.name) == []
    assert path.read_text(encoding="utf-8") == notebook_form.text(notebook)


# The stored form itself


def good_notebook():
    notebook = make_notebook("import labkit", EXERCISE, CHECK, ("print(1)", "1\n"))
    notebook.cells.insert(0, new_markdown_cell("# Title", id="title"))
    return notebook


def test_a_good_notebook_has_no_problems():
    assert notebook_form.problems(good_notebook(), "a.ipynb") == []


def stray_output(cells):
    cells[1].outputs = [new_output("stream", text="1")]


def stray_count(cells):
    cells[1].execution_count = 3


def stray_metadata(cells):
    cells[0].metadata.collapsed = True


def blanks(cells):
    cells[1].source += "  "


def same_id(cells):
    cells[1].id = cells[2].id


def long_cell(cells):
    cells[4].source += "\n#" * 25


def long_setup(cells):
    cells[1].source += "\n#" * 8


def skipped(cells):
    cells[3].metadata.tags = ["nbval-skip"]


def expected_failure(cells):
    cells[3].metadata.tags = ["raises-exception"]


def compared_with_nothing(cells):
    cells[4].execution_count = None


def compared_picture(cells):
    cells[4].outputs = [new_output("display_data", data={"image/png": "", "text/plain": ""})]


def open_marker(cells):
    cells[2].source = cells[2].source.replace("### END SOLUTION", "")


def closed_twice(cells):
    cells[2].source += "\n    ### END SOLUTION"


def no_name(cells):
    cells[2].source = cells[2].source.replace("# Exercise 9.1: the answer", "")


def at_top_level(cells):
    cells[2].source = cells[2].source.replace("    ", "").replace("return", "answer =")


def no_check(cells):
    del cells[3]


def no_exercise(cells):
    del cells[2]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (stray_output, "cell 1: not in the stored form"),
        (stray_count, "cell 1: not in the stored form"),
        (stray_metadata, "cell 0: not in the stored form"),
        (blanks, "cell 1: not in the stored form"),
        (same_id, "cell id 'c1' must be there, and once only"),
        (long_cell, "cell 4: expected at most 25 lines, got 26"),
        (long_setup, "cell 1: expected at most 8 lines, got 9"),
        (skipped, "cell 3: tag 'nbval-skip'"),
        (expected_failure, "cell 3: tag 'raises-exception'"),
        (compared_with_nothing, "cell 4: tag 'nbval-check-output' without a stored output"),
        (compared_picture, "cell 4: a compared output is text, got image/png"),
        (open_marker, "cell 2, line 3: expected '### END SOLUTION' after '### BEGIN SOLUTION', got none"),
        (closed_twice, "cell 2, line 6: expected '### BEGIN SOLUTION', got '### END SOLUTION'"),
        (no_name, "cell 2: expected a line '# Exercise 3.1: what to write'"),
        (at_top_level, "cell 2: a solution outside a function"),
        (no_check, "cell 2: the next code cell must call the exercise's check"),
        (no_exercise, "expected at least one exercise"),
    ],
)
def test_each_fault_is_named(spoil, said):
    notebook = good_notebook()
    spoil(notebook.cells)
    found = notebook_form.problems(notebook, "a.ipynb")
    assert any(said in sentence for sentence in found), found
    assert all(sentence.startswith("a.ipynb") for sentence in found)


def test_foreign_kernel_metadata_is_named():
    notebook = good_notebook()
    notebook.metadata.kernelspec.name = "mine"
    assert notebook_form.problems(notebook, "a.ipynb")[0].startswith("a.ipynb: metadata not in the stored form")


def test_normalise_mends_keeps_ids_and_leaves_its_argument():
    notebook = good_notebook()
    for spoil in (stray_output, stray_count, stray_metadata, blanks):
        spoil(notebook.cells)
    before = notebook_form.text(notebook)
    stored = notebook_form.normalise(notebook)
    assert notebook_form.problems(stored, "a.ipynb") == []
    assert stored == notebook_form.normalise(stored) == good_notebook()
    assert notebook_form.text(notebook) == before


def test_the_fix_command(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    notebook = good_notebook()
    stray_output(notebook.cells)
    nbformat.write(notebook, path)
    assert notebook_form.main([str(path)]) == 1
    assert "cell 1: not in the stored form" in capsys.readouterr().out
    assert notebook_form.main(["--fix", str(path)]) == 0
    assert notebook_form.read(path) == good_notebook()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"nbformat": 4, "nbformat_minor": 5, "cells": 3}'])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.ipynb: expected a notebook"):
        notebook_form.read(path)


# The runner, on small notebooks that do each thing once

SMALL = {
    "good": ["import os, sys\nassert os.environ['LABKIT_STRICT'] == '1'", ("print('same')", "same\n")],
    "dies": ["import os\nos._exit(3)", "1", "2"],
    "fails": ["1", "1 / 0", "2", "3"],
    "endless": ["while True:\n    pass", "1"],
    "widget": [
        "import ipywidgets",
        "def show(x):\n    1 / x",
        "ipywidgets.interact(show, x=ipywidgets.IntSlider(0));",
        "1",
    ],
    "changed": [("print('new')", "old\n"), "1"],
    "exercise": [EXERCISE, "try:\n    my_answer()\nexcept NotImplementedError as error:\n    print(error)"],
    "blank": [
        EXERCISE,
        "import os\nassert 'LABKIT_STRICT' not in os.environ",
        "try:\n    my_answer()\n    said = None\nexcept NotImplementedError as error:\n    said = str(error)",
        "assert said == 'Exercise 9.1: the answer'",
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One pytest run of the small notebooks: its text, and the cells of each as (outcome, message)."""
    folder = tmp_path_factory.mktemp("small")
    for name, sources in SMALL.items():
        nbformat.write(make_notebook(*sources), folder / f"{name}.ipynb")
    nodes = [f"{name}.ipynb::{'student' if name == 'blank' else 'solved'}" for name in SMALL]
    command = [sys.executable, "-m", "pytest", "-p", "notebook_runner", "--nbval-cell-timeout=15"]
    command += ["-c", str(copies.ROOT / "pyproject.toml"), "--rootdir=.", "--junitxml=report.xml", *nodes]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "LABKIT_STRICT": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    cells = {name: [] for name in SMALL}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        outcome = next(iter(case), None)
        kind, message = ("passed", "") if outcome is None else (outcome.tag, outcome.text or outcome.get("message"))
        cells[case.get("classname").partition(".ipynb")[0]].append((kind, message))
    return done.stdout, cells


def outcomes(run, name):
    return [kind for kind, _ in run[1][name]]


def test_a_notebook_that_works_passes_in_both_forms(run):
    assert outcomes(run, "good") == outcomes(run, "exercise") == ["passed"] * 2
    assert outcomes(run, "blank") == ["passed"] * 4


@pytest.mark.parametrize(
    ("name", "expected", "said"),
    [
        ("dies", ["failure", "skipped", "skipped"], "the kernel died"),
        ("fails", ["passed", "failure", "skipped", "skipped"], "ZeroDivisionError"),
        ("endless", ["failure", "skipped"], "Timeout of 15 seconds"),
        ("widget", ["passed", "passed", "failure", "skipped"], "ZeroDivisionError"),
        ("changed", ["failure", "skipped"], "Cell outputs differ"),
    ],
)
def test_a_failure_is_told_once_and_the_rest_is_not_run(run, name, expected, said):
    assert outcomes(run, name) == expected
    assert said in next(message for kind, message in run[1][name] if kind == "failure")


def test_the_run_ends_with_a_table_of_seconds(run):
    table = run[0].partition("seconds a notebook")[2]
    rows = {row.split()[0]: row.split() for row in table.splitlines() if " s" in row}
    assert rows["fails"][1] == "solved"
    assert rows["fails"][4:9] == ["2", "cells", "run,", "the", "slowest"]
    assert float(rows["all"][1]) >= float(rows["endless"][2]) > 0


def test_the_readme_has_a_row_with_minutes_for_every_notebook():
    readme = (copies.ROOT / "README.md").read_text(encoding="utf-8")
    for name in NOTEBOOKS:
        assert re.search(rf"notebooks/{name}\.ipynb\).*\| \d+\.\d \|$", readme, re.MULTILINE), name

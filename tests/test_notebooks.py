"""The stored form of the notebooks, and the machinery that runs them (notebook_runner)."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from notebooks_by_hand import EXERCISE, make_notebook

from labkit import NOTEBOOKS
from labkit.course import copies, notebook_form

SOURCES = sorted((copies.ROOT / "notebooks").glob("*.ipynb"))


def test_the_reading_order_names_every_notebook():
    assert [path.stem for path in SOURCES] == list(NOTEBOOKS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_stored_form(path):
    notebook = notebook_form.read(path)
    assert notebook_form.problems(notebook, path.name) == []
    assert path.read_text(encoding="utf-8") == notebook_form.text(notebook)


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

"""Student copies and the command line: nothing a student wrote is ever lost."""

import errno
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import labkit
from labkit import __main__ as command_line
from labkit import course, notebook_form
from labkit.waiting import USERS_CHOICE

SOLVED = """# Exercise 3.1: say "twice"
def my_double(x):
    ### BEGIN SOLUTION
    if x:
        return 2 * x
    return 0
    ### END SOLUTION


def my_triple(x):
    if x:
        ### BEGIN SOLUTION
        return 3 * x
        ### END SOLUTION
    return 0"""
BLANK = """# Exercise 3.1: say "twice"
def my_double(x):
    raise NotImplementedError("Exercise 3.1: say \\"twice\\"")


def my_triple(x):
    if x:
        raise NotImplementedError("Exercise 3.1: say \\"twice\\"")
    return 0"""
HIDDEN = "assert f(1)\n### BEGIN HIDDEN TESTS\nassert f(2)\n### END HIDDEN TESTS\nassert f(3)"


def make_source(text="# A title"):
    cells = [
        new_markdown_cell(text, id="title"),
        new_code_cell(SOLVED, id="solution"),
        new_code_cell(HIDDEN, id="tests"),
        new_code_cell("print(1)", id="shown", execution_count=4, outputs=[new_output("stream", text="1\n")]),
    ]
    cells[3].metadata.tags = ["nbval-check-output", "wide"]
    return new_notebook(cells=cells, metadata=notebook_form.KERNEL)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A course of two notebooks in a folder of its own."""
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "NOTEBOOKS", ("00_first", "01_second"))
    (tmp_path / "notebooks").mkdir()
    for name in course.NOTEBOOKS:
        publish(tmp_path, name)
    return tmp_path


def publish(root, name, text="# A title"):
    nbformat.write(make_source(text), root / "notebooks" / f"{name}.ipynb")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# The student's form


def test_solutions_become_one_line_that_names_the_exercise():
    source = make_source()
    before = notebook_form.text(source)
    student = course.student_notebook(source)
    assert [cell.source for cell in student.cells[1:3]] == [BLANK, "assert f(1)\nassert f(3)"]
    assert notebook_form.text(source) == before
    namespace = {}
    exec(student.cells[1].source, namespace)
    with pytest.raises(NotImplementedError, match=r'^Exercise 3\.1: say "twice"$'):
        namespace["my_double"](1)
    assert namespace["my_triple"](0) == 0


def test_nothing_has_been_run_in_the_student_form():
    student = course.student_notebook(make_source())
    assert (student.cells[3].outputs, student.cells[3].execution_count) == ([], None)
    assert student.cells[3].metadata == {"tags": ["wide"]}
    assert [cell.id for cell in student.cells] == ["title", "solution", "tests", "shown"]
    nbformat.validate(student)
    assert course.student_notebook(student) == student


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOLVED.replace("### END SOLUTION", "#", 1), "line 12: expected '### END SOLUTION'"),
        (SOLVED.replace("### BEGIN SOLUTION", "#", 1), "line 7: expected '### BEGIN SOLUTION'"),
        (HIDDEN.replace("### END", "### end"), "line 2: expected '### END HIDDEN TESTS'"),
        (SOLVED.partition("\n")[2], "expected '# Exercise 3.1: what to write'"),
    ],
)
def test_a_broken_exercise_names_file_and_cell(source, said):
    notebook = make_source()
    notebook.cells[1].source = source
    with pytest.raises(ValueError, match=rf"03\.ipynb, cell 1.*{said}"):
        course.student_notebook(notebook, path="03.ipynb")


# Copies


def test_the_first_time_adds_every_notebook_and_the_second_nothing(root):
    work = root / "deep" / "work"
    assert course.update_copies(work) == ["added 00_first.ipynb", "added 01_second.ipynb"]
    assert notebook_form.read(work / "00_first.ipynb").cells[1].source == BLANK
    before = {name: (work / name).stat().st_mtime_ns for name in files(work)}
    assert course.update_copies(work) == []
    assert {name: (work / name).stat().st_mtime_ns for name in files(work)} == before
    assert files(work) == [".labkit.json", "00_first.ipynb", "01_second.ipynb"]


def test_what_a_student_wrote_stays(root):
    course.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    assert course.update_copies(root / "work") == []
    assert mine.read_bytes() == before


def test_a_removed_notebook_comes_back(root):
    course.update_copies(root / "work")
    (root / "work" / "00_first.ipynb").unlink()
    assert course.update_copies(root / "work") == ["added 00_first.ipynb"]


@pytest.mark.parametrize("edited", [True, False])
def test_a_newer_version_lands_beside_once(root, edited):
    course.update_copies(root / "work")
    mine, beside = root / "work" / "00_first.ipynb", root / "work" / "00_first.new.ipynb"
    if edited:
        mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    publish(root, "00_first", "# A better title")
    (said,) = course.update_copies(root / "work")
    assert said == "00_first.ipynb has a newer version: 00_first.new.ipynb beside it; yours is unchanged"
    assert notebook_form.read(beside).cells[0].source == "# A better title"
    beside.unlink()  # the student has taken what was new
    assert course.update_copies(root / "work") == []
    assert mine.read_bytes() == before
    assert not beside.exists()


def test_a_second_newer_version_leaves_the_first_alone(root):
    course.update_copies(root / "work")
    publish(root, "00_first", "# Second")
    course.update_copies(root / "work")
    publish(root, "00_first", "# Third")
    (said,) = course.update_copies(root / "work")
    assert "00_first.new2.ipynb" in said
    titles = [
        notebook_form.read(root / "work" / f"00_first{end}.ipynb").cells[0].source for end in ("", ".new", ".new2")
    ]
    assert titles == ["# A title", "# Second", "# Third"]


def test_a_new_output_in_the_source_is_no_newer_version(root):
    course.update_copies(root / "work")
    path = root / "notebooks" / "00_first.ipynb"
    path.write_text(path.read_text().replace('"1\\n"', '"2\\n"'))
    assert course.update_copies(root / "work") == []


@pytest.mark.parametrize("torn", ["", '{"00_first.ipynb": "12', "[]", "\x00"])
def test_a_torn_record_loses_nothing(root, torn):
    course.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    (root / "work" / course.RECORD).write_text(torn)
    (said,) = course.update_copies(root / "work")  # only the one that differs is offered again
    assert said.startswith("00_first.ipynb has a newer version")
    assert mine.read_bytes() == before
    assert course.update_copies(root / "work") == []


@pytest.mark.parametrize("content", ["", "{ half a notebook", "[]"])
def test_a_copy_the_student_broke_is_left_alone(root, content):
    course.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(content)
    assert course.update_copies(root / "work") == []
    publish(root, "00_first", "# A better title")
    assert len(course.update_copies(root / "work")) == 1
    assert mine.read_text() == content


def test_a_file_in_the_way_is_named_and_kept(root):
    (root / "work").write_text("mine")
    with pytest.raises(ValueError, match=r"expected a folder, got the file .*work"):
        course.update_copies(root / "work")
    assert (root / "work").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_leaves_nothing_half_done(root, monkeypatch, number):
    course.update_copies(root / "work")
    (root / "work" / "01_second.ipynb").unlink()
    before = {name: (root / "work" / name).read_bytes() for name in files(root / "work")}

    def fail(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="make room there, or choose another folder") as error:
            course.update_copies(root / "work")
    assert error.value.filename.endswith("01_second.ipynb")
    assert {name: (root / "work" / name).read_bytes() for name in files(root / "work")} == before
    assert course.update_copies(root / "work") == ["added 01_second.ipynb"]


def test_a_broken_source_changes_nothing(root):
    (root / "notebooks" / "01_second.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"01_second\.ipynb: expected a notebook"):
        course.update_copies(root / "work")
    assert not (root / "work").exists()


def test_an_installation_without_notebooks_says_how_to_get_them(root):
    (root / "notebooks" / "01_second.ipynb").unlink()
    with pytest.raises(ValueError, match=r"got no 01_second\.ipynb; clone the whole project"):
        course.update_copies(root / "work")


# The command line


@pytest.fixture
def opened(monkeypatch):
    """What JupyterLab would have been started with."""
    from jupyterlab.labapp import LabApp

    calls = []
    monkeypatch.setattr(LabApp, "launch_instance", calls.append)
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what the command sets is for JupyterLab alone
    return calls


def test_lab_opens_the_copies_on_this_machine_only(root, opened, capsys):
    assert command_line.main(["lab", "--folder", str(root / "mine"), "--no-browser", "--port", "8123"]) == 0
    (arguments,) = opened
    assert arguments == [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={root / 'mine'}",
        "--LabApp.default_url=/lab/tree/00_first.ipynb",
        "--no-browser",
        "--ServerApp.port=8123",
    ]
    assert not any("token" in argument or "password" in argument for argument in arguments)
    assert "added 00_first.ipynb" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["lab", "demo"])
@pytest.mark.parametrize(("mine", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_kernels_wait_asleep_unless_the_user_says_otherwise(root, opened, command, mine, policy):
    for name in USERS_CHOICE:
        os.environ.pop(name, None)
    os.environ.update(mine)
    assert command_line.main([command]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == policy


def test_root_in_a_container_is_let_in(root, opened, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert command_line.main(["lab"]) == 0
    assert "--allow-root" in opened[0]


def test_lab_uses_the_folder_work_beside_the_notebooks(root, opened):
    assert command_line.main(["lab"]) == 0
    assert files(root / "work") == [".labkit.json", "00_first.ipynb", "01_second.ipynb"]
    assert "--no-browser" not in opened[0]


def test_demo_opens_fresh_solved_copies(root, opened):
    for _ in range(2):
        assert command_line.main(["demo", "--no-browser"]) == 0
        copy = root / "demo" / "00_first.ipynb"
        source = root / "notebooks" / "00_first.ipynb"
        assert copy.read_bytes() == source.read_bytes()
        copy.write_text("played with in a lecture")
    assert f"--ServerApp.root_dir={root / 'demo'}" in opened[0]


def test_an_error_is_one_sentence(root, opened, capsys):
    (root / "work").write_text("")
    assert command_line.main(["lab"]) == 1
    assert capsys.readouterr().err.startswith("labkit: expected a folder, got the file")
    assert opened == []


def test_a_missing_jupyterlab_is_told_before_anything_is_written(root, monkeypatch, capsys):
    monkeypatch.setattr(course.importlib.util, "find_spec", lambda name: None)
    assert command_line.main(["lab"]) == 1
    assert 'run pip install -e ".[lab]"' in capsys.readouterr().err
    assert not (root / "work").exists()


@pytest.mark.parametrize("arguments", [[], ["lab", "--colour"], ["lab", "extra"], ["publish"]])
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert "usage: labkit" in capsys.readouterr().err


def test_the_rest_of_a_data_command_goes_to_the_downloader(monkeypatch):
    download = pytest.importorskip("labkit.datasets.download")
    seen = []
    monkeypatch.setattr(download, "main", lambda arguments: seen.append(arguments))
    assert command_line.main(["data", "get", "bccd", "--from", "x.zip"]) == 0
    assert seen == [["get", "bccd", "--from", "x.zip"]]


def test_python_m_labkit_helps_and_says_its_version():
    command = [sys.executable, "-m", "labkit"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(name in helped for name in ("lab", "demo", "doctor", "data"))
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == labkit.__version__

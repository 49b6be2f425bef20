"""Student copies and the command line: nothing a student wrote is ever lost."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from course_of_two import BLANK, SOLVED, files, make_source, publish

from labkit.course import copies, notebook_form

# The student's form


def test_solutions_become_one_line_that_names_the_exercise():
    source = make_source()
    before = notebook_form.text(source)
    student = copies.student_notebook(source)
    assert [cell.source for cell in student.cells[1:3]] == [BLANK, "assert f(1)"]
    assert notebook_form.text(source) == before
    namespace = {}
    exec(student.cells[1].source, namespace)
    with pytest.raises(NotImplementedError, match=r'^Exercise 3\.1: say "twice"$'):
        namespace["my_double"](1)
    assert namespace["my_triple"](0) == 0


def test_nothing_has_been_run_in_the_student_form():
    student = copies.student_notebook(make_source())
    assert (student.cells[3].outputs, student.cells[3].execution_count) == ([], None)
    assert student.cells[3].metadata == {"tags": ["wide"]}
    assert [cell.id for cell in student.cells] == ["title", "solution", "tests", "shown"]
    nbformat.validate(student)
    assert copies.student_notebook(student) == student


def test_a_lesson_that_was_called_otherwise_is_named(root, monkeypatch):
    monkeypatch.setattr(copies, "FORMER", {"00_first.ipynb": "00_begin.ipynb", "01_second.ipynb": "01_next.ipynb"})
    work = root / "work"
    work.mkdir()
    (work / "00_begin.ipynb").write_text("mine")
    said = copies.update_copies(work)
    assert said == ["added 00_first.ipynb, the newer version of your 00_begin.ipynb", "added 01_second.ipynb"]
    assert (work / "00_begin.ipynb").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOLVED.replace("### END SOLUTION", "#", 1), "line 12: expected '### END SOLUTION'"),
        (SOLVED.replace("### BEGIN SOLUTION", "#", 1), "line 7: expected '### BEGIN SOLUTION'"),
        (SOLVED.partition("\n")[2], "expected '# Exercise 3.1: what to write'"),
    ],
)
def test_a_broken_exercise_names_file_and_cell(source, said):
    notebook = make_source()
    notebook.cells[1].source = source
    with pytest.raises(ValueError, match=rf"03\.ipynb, cell 1.*{said}"):
        copies.student_notebook(notebook, path="03.ipynb")


# Copies


def test_the_first_time_adds_every_notebook_and_the_second_nothing(root):
    work = root / "deep" / "work"
    assert copies.update_copies(work) == ["added 00_first.ipynb", "added 01_second.ipynb"]
    assert notebook_form.read(work / "00_first.ipynb").cells[1].source == BLANK
    before = {name: (work / name).stat().st_mtime_ns for name in files(work)}
    assert copies.update_copies(work) == []
    assert {name: (work / name).stat().st_mtime_ns for name in files(work)} == before
    assert files(work) == [".labkit.json", "00_first.ipynb", "01_second.ipynb"]


def test_what_a_student_wrote_stays(root):
    copies.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    assert copies.update_copies(root / "work") == []
    assert mine.read_bytes() == before


def test_a_removed_notebook_comes_back(root):
    copies.update_copies(root / "work")
    (root / "work" / "00_first.ipynb").unlink()
    assert copies.update_copies(root / "work") == ["added 00_first.ipynb"]


@pytest.mark.parametrize("edited", [True, False])
def test_a_newer_version_lands_beside_once(root, edited):
    copies.update_copies(root / "work")
    mine, beside = root / "work" / "00_first.ipynb", root / "work" / "00_first.new.ipynb"
    if edited:
        mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    publish(root, "00_first", "# A better title")
    (said,) = copies.update_copies(root / "work")
    assert said == "00_first.ipynb has a newer version: 00_first.new.ipynb beside it; yours is unchanged"
    assert notebook_form.read(beside).cells[0].source == "# A better title"
    beside.unlink()  # the student has taken what was new
    assert copies.update_copies(root / "work") == []
    assert mine.read_bytes() == before
    assert not beside.exists()


def test_a_second_newer_version_leaves_the_first_alone(root):
    copies.update_copies(root / "work")
    publish(root, "00_first", "# Second")
    copies.update_copies(root / "work")
    publish(root, "00_first", "# Third")
    (said,) = copies.update_copies(root / "work")
    assert "00_first.new2.ipynb" in said
    titles = [
        notebook_form.read(root / "work" / f"00_first{end}.ipynb").cells[0].source for end in ("", ".new", ".new2")
    ]
    assert titles == ["# A title", "# Second", "# Third"]


def test_a_new_output_in_the_source_is_no_newer_version(root):
    copies.update_copies(root / "work")
    path = root / "notebooks" / "00_first.ipynb"
    path.write_text(path.read_text().replace('"1\\n"', '"2\\n"'))
    assert copies.update_copies(root / "work") == []


@pytest.mark.parametrize("torn", ["", '{"00_first.ipynb": "12', "[]", "\x00", "[" * 200_000], ids=range(5))
def test_a_torn_record_loses_nothing(root, torn):
    copies.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(mine.read_text().replace("A title", "My own title"))
    before = mine.read_bytes()
    (root / "work" / copies.RECORD).write_text(torn)
    (said,) = copies.update_copies(root / "work")  # only the one that differs is offered again
    assert said.startswith("00_first.ipynb has a newer version")
    assert mine.read_bytes() == before
    assert copies.update_copies(root / "work") == []


@pytest.mark.parametrize("content", ["", "{ half a notebook", "[]", "[" * 200_000], ids=range(4))
def test_a_copy_the_student_broke_is_left_alone(root, content):
    copies.update_copies(root / "work")
    mine = root / "work" / "00_first.ipynb"
    mine.write_text(content)
    (said,) = copies.update_copies(root / "work")
    assert said.startswith("00_first.ipynb is no notebook any more; it stays as it is: rename it")
    publish(root, "00_first", "# A better title")
    assert len(copies.update_copies(root / "work")) == 2
    assert mine.read_text() == content


def test_a_file_in_the_way_is_named_and_kept(root):
    (root / "work").write_text("mine")
    with pytest.raises(ValueError, match=r"expected a folder, got the file .*work"):
        copies.update_copies(root / "work")
    assert (root / "work").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_leaves_nothing_half_done(root, monkeypatch, number):
    copies.update_copies(root / "work")
    (root / "work" / "01_second.ipynb").unlink()
    before = {name: (root / "work" / name).read_bytes() for name in files(root / "work")}

    def fail(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="make room there, or choose another folder") as error:
            copies.update_copies(root / "work")
    assert error.value.filename.endswith("01_second.ipynb")
    assert {name: (root / "work" / name).read_bytes() for name in files(root / "work")} == before
    assert copies.update_copies(root / "work") == ["added 01_second.ipynb"]


def test_a_broken_source_changes_nothing(root):
    (root / "notebooks" / "01_second.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"01_second\.ipynb: expected a notebook"):
        copies.update_copies(root / "work")
    assert not (root / "work").exists()


def test_an_installation_without_notebooks_says_how_to_get_them(root):
    (root / "notebooks" / "01_second.ipynb").unlink()
    with pytest.raises(ValueError, match=r"got no 01_second\.ipynb; clone the whole project"):
        copies.update_copies(root / "work")


# Odd things in the folder


def unreadable(path, monkeypatch):
    """No permission for this one file (root has it for all, so the refusal is put in)."""
    read = Path.read_text

    def refuse(self, *args, **options):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)


ODD = {
    "is a folder": lambda path, _: path.mkdir(),
    "is a link that points nowhere": lambda path, _: path.symlink_to("nowhere.ipynb"),
    "cannot be read (Permission denied)": lambda path, patch: (path.write_text("mine"), unreadable(path, patch)),
    "is no notebook any more": lambda path, _: path.write_text("mine"),
}


@pytest.mark.parametrize("before", ["never opened", "opened before"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_thing_is_told_and_passed_by(root, monkeypatch, odd, before):
    work = root / "work"
    mine = work / "00_first.ipynb"
    if before == "opened before":
        copies.update_copies(work)
        mine.unlink()
    else:
        work.mkdir()
    ODD[odd](mine, monkeypatch)
    kind = os.lstat(mine)
    said = copies.update_copies(work)
    assert said[0].startswith(f"00_first.ipynb {odd}; it stays as it is")
    after = os.lstat(mine)
    assert (after.st_ino, after.st_mode, after.st_size) == (kind.st_ino, kind.st_mode, kind.st_size)
    assert notebook_form.read(work / "01_second.ipynb").cells[1].source == BLANK


def test_an_odd_thing_where_a_newer_version_would_stand_is_kept(root):
    copies.update_copies(root / "work")
    (root / "work" / "00_first.new.ipynb").mkdir()
    (root / "work" / "00_first.new2.ipynb").symlink_to("nowhere")
    publish(root, "00_first", "# A better title")
    (said,) = copies.update_copies(root / "work")
    assert "00_first.new3.ipynb beside it" in said


def test_a_record_that_is_a_folder_is_told_and_the_copies_are_made(root):
    (root / "work" / copies.RECORD).mkdir(parents=True)
    said = copies.update_copies(root / "work")
    assert said[0].startswith(".labkit.json cannot be read")
    assert said[1:] == ["added 00_first.ipynb", "added 01_second.ipynb"]
    assert len(copies.update_copies(root / "work")) == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(root, monkeypatch, links):
    work = root / "work"
    whole = copies.write_whole

    def slow(path, *content):
        whole(path, *content)
        if path.name.startswith("00_first"):
            (work / "00_first.ipynb").write_text("saved just now")

    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(copies, "write_whole", slow)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    said = copies.update_copies(work)
    assert (work / "00_first.ipynb").read_text() == "saved just now"
    assert "added 00_first.ipynb" not in said
    assert "added 01_second.ipynb" in said
    assert notebook_form.read(work / "01_second.ipynb").cells[1].source == BLANK
    assert not [name for name in files(work) if "unfinished" in name]


def test_the_project_never_holds_a_copy():
    """A copy in git would be overwritten by the next `git pull`."""
    root = Path(copies.__file__).parents[2]
    ignored = (root / ".gitignore").read_text().splitlines()
    assert {"/work/", "/demo/"} <= set(ignored)
    if shutil.which("git") and (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "work", "demo"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""

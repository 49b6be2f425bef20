"""JupyterLab on the copies: on this machine only, with its token, and refused before anything is written."""

import os
import sys
from pathlib import Path

import pytest
from course_of_two import files, publish

from labkit.course import command_line, copies, jupyter, notebook_form
from labkit.waiting import USERS_CHOICE


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


def test_demo_opens_the_solved_notebooks_and_keeps_a_teachers_notes(root, opened):
    assert command_line.main(["demo", "--no-browser"]) == 0
    assert f"--ServerApp.root_dir={root / 'demo'}" in opened[0]
    mine = root / "demo" / "00_first.ipynb"
    assert mine.read_bytes() == notebook_form.text(notebook_form.read(root / "notebooks" / mine.name)).encode()
    notes = mine.read_text().replace("A title", "Ask them first")
    mine.write_text(notes)
    publish(root, "00_first", "# A better title")
    assert command_line.main(["demo"]) == 0
    assert mine.read_text() == notes
    assert notebook_form.read(root / "demo" / "00_first.new.ipynb").cells[0].source == "# A better title"


def test_a_home_that_cannot_be_written_is_told_before_anything_is_written(root, opened, capsys):
    (root / "file").write_text("")
    os.environ["JUPYTER_RUNTIME_DIR"] = str(root / "file" / "runtime")
    assert command_line.main(["lab"]) == 1
    assert "must be able to write in the home folder" in capsys.readouterr().err
    assert not (root / "work").exists()
    assert opened == []


def test_lab_opens_whatever_stands_in_the_folder(root, opened, capsys):
    (root / "work" / "00_first.ipynb").mkdir(parents=True)
    (root / "work" / copies.RECORD).write_text("[" * 200_000)
    (root / "work" / "01_second.ipynb").write_text("[" * 200_000)
    assert command_line.main(["lab"]) == 0
    assert len(opened) == 1
    told = capsys.readouterr().out
    assert "00_first.ipynb is a folder" in told
    assert "01_second.ipynb is no notebook any more" in told


def test_a_missing_jupyterlab_is_told_before_anything_is_written(root, monkeypatch, capsys):
    monkeypatch.setattr(jupyter.importlib.util, "find_spec", lambda name: None)
    assert command_line.main(["lab"]) == 1
    assert 'run pip install -e ".[lab]"' in capsys.readouterr().err
    assert not (root / "work").exists()


@pytest.mark.parametrize("name", ["RUNTIME", "DATA", "CONFIG"])
def test_each_place_that_jupyterlab_needs_is_looked_at(root, opened, name):
    """Called directly, with a home that is for reading only: one sentence, and which variable names another place."""
    (root / "file").write_text("")
    os.environ[f"JUPYTER_{name}_DIR"] = str(root / "file" / name.lower())
    expected = rf"^JupyterLab must be able to write in the home folder .*; set HOME \(or JUPYTER_{name}_DIR\)"
    with pytest.raises(ValueError, match=expected) as caught:
        jupyter.lab(root / "work")
    assert "\n" not in str(caught.value)
    assert not (root / "work").exists()
    assert opened == []


def test_a_home_that_cannot_be_made_is_one_sentence(root, opened):
    (root / "file").write_text("")
    home = root / "file" / "home"
    for name in ("RUNTIME", "DATA", "CONFIG"):
        del os.environ[f"JUPYTER_{name}_DIR"]
    os.environ["HOME"] = str(home)
    with pytest.raises(ValueError, match=rf"must be able to write in the home folder {home}, and cannot; set HOME"):
        jupyter.demo()
    assert not (root / "demo").exists()


def test_a_home_for_reading_only_as_the_system_reports_it(root, opened, monkeypatch):
    monkeypatch.setattr(jupyter.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=f"must be able to write in the home folder {Path.home()}, and cannot"):
        jupyter.demo()
    assert not (root / "demo").exists()


def test_its_status_comes_back_and_a_terminal_finds_this_environment(root, opened, monkeypatch):
    from jupyterlab.labapp import LabApp

    monkeypatch.setattr(LabApp, "launch_instance", lambda arguments: opened.append(arguments) or 3)
    assert jupyter.lab(root / "work", browser=False) == 3
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)

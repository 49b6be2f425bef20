"""The command line: one sentence for whatever goes wrong, and JupyterLab on the copies."""

import importlib
import io
import os
import subprocess
import sys

import pytest
from course_of_two import BLANK, files, publish

import labkit
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


def test_copies_without_a_server(root, opened, capsys):
    assert command_line.main(["copies", str(root / "hub")]) == 0
    assert capsys.readouterr().out == "added 00_first.ipynb\nadded 01_second.ipynb\n"
    assert notebook_form.read(root / "hub" / "00_first.ipynb").cells[1].source == BLANK
    assert command_line.main(["copies", str(root / "hub")]) == 0
    assert capsys.readouterr().out.startswith("nothing is newer")
    assert opened == []


@pytest.mark.parametrize("command", [["lab", "--folder=~/kurs"], ["copies", "~/kurs"]])
def test_the_home_folder_is_meant_by_its_sign(root, opened, monkeypatch, command):
    os.environ["HOME"] = str(root / "home")
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path).replace("~", str(root / "home")))
    assert command_line.main(command) == 0
    assert "00_first.ipynb" in files(root / "home" / "kurs")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lab", "--port", "99999"], "expected a number from 1 to 65535, got 99999; leave it out"),
        (["lab", "--port", "x"], "expected a number from 1 to 65535, got x"),
        (["lab", "--folder", "~nosuchuser/x"], "got ~nosuchuser/x; there is no such home folder"),
        (["copies", "~nosuchuser/x"], "there is no such home folder"),
        (["copies"], "required: DIR"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_told(capsys, arguments, told):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("no home"), OSError("disk"), ValueError("kind")])
def test_an_error_inside_a_command_is_one_sentence(root, opened, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(copies, "update_copies", fail)
    assert command_line.main(["lab"]) == 1
    assert capsys.readouterr().err == f"labkit: {error}\n"


def test_a_console_that_lacks_a_letter_still_gets_its_sentence(root, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    assert command_line.main(["copies", str(root / "Übung ✓")]) == 0
    assert command_line.main(["copies", str(root / "Übung ✓")]) == 0
    console.flush()
    assert "Übung ?" in console.buffer.getvalue().decode("cp1252")


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


@pytest.mark.parametrize("command", ["lab", "demo", "copies", "doctor"])
def test_each_command_says_what_it_does(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        command_line.main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert command_line.ABOUT[command][1] in told


def test_an_error_is_one_sentence(root, opened, capsys):
    (root / "work").write_text("")
    assert command_line.main(["lab"]) == 1
    assert capsys.readouterr().err.startswith("labkit: expected a folder, got the file")
    assert opened == []


def test_a_missing_jupyterlab_is_told_before_anything_is_written(root, monkeypatch, capsys):
    monkeypatch.setattr(jupyter.importlib.util, "find_spec", lambda name: None)
    assert command_line.main(["lab"]) == 1
    assert 'run pip install -e ".[lab]"' in capsys.readouterr().err
    assert not (root / "work").exists()


@pytest.mark.parametrize("arguments", [[], ["lab", "--colour"], ["lab", "extra"], ["publish"]])
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert "usage: labkit" in capsys.readouterr().err


def test_the_rest_of_a_data_command_goes_to_the_downloader(monkeypatch):
    download = importlib.import_module("labkit.datasets.fetch.download")
    seen = []
    monkeypatch.setattr(download, "main", lambda arguments: seen.append(arguments))
    assert command_line.main(["data", "get", "bccd", "--from", "x.zip"]) == 0
    assert seen == [["get", "bccd", "--from", "x.zip"]]


def test_python_m_labkit_helps_and_says_its_version():
    command = [sys.executable, "-m", "labkit"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(name in helped for name in ("lab", "demo", "copies", "doctor", "data"))
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == labkit.__version__

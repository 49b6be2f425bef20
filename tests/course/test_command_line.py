"""The command line: one sentence for whatever goes wrong. What it opens: test_jupyter."""

import importlib
import io
import os
import subprocess
import sys

import pytest
from course_of_two import BLANK, files

import labkit
from labkit.course import command_line, copies, notebook_form


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


def test_a_command_that_is_stopped_says_so(root, opened, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(copies, "update_copies", stop)
    assert command_line.main(["copies", str(root / "hub")]) == 130
    assert capsys.readouterr().err == "\nlabkit: stopped; what was made stays, and the same command goes on\n"


def test_a_console_that_lacks_a_letter_still_gets_its_sentence(root, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    assert command_line.main(["copies", str(root / "Übung ✓")]) == 0
    assert command_line.main(["copies", str(root / "Übung ✓")]) == 0
    console.flush()
    assert "Übung ?" in console.buffer.getvalue().decode("cp1252")


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


@pytest.mark.parametrize("arguments", [["lab", "--folder", ""], ["lab", "--folder="], ["copies", ""], ["copies", " "]])
def test_a_folder_without_a_name_is_told(root, capsys, arguments):
    """An unset variable in a script: the copies would have gone into whatever folder it ran in."""
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert "expected a folder, got nothing between the quotes; write . for the one here" in capsys.readouterr().err

"""What the tests of copies and of the command line need."""

import os

import pytest
from course_of_two import publish

from labkit.course import copies, jupyter


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A course of two notebooks in a folder of its own."""
    monkeypatch.setattr(copies, "ROOT", tmp_path)
    for module in (copies, jupyter):
        monkeypatch.setattr(module, "NOTEBOOKS", ("00_first", "01_second"))
    (tmp_path / "notebooks").mkdir()
    for name in copies.NOTEBOOKS:
        publish(tmp_path, name)
    return tmp_path


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """What JupyterLab would have been started with."""
    from jupyterlab.labapp import LabApp

    calls = []
    monkeypatch.setattr(LabApp, "launch_instance", calls.append)
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / "jupyter" / name))
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what the command sets is for JupyterLab alone
    return calls

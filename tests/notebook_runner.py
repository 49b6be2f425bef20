"""Runs notebooks as tests, on nbval: every notebook in its solved form and in the form a student starts from.

A cell is a test. It fails when it raises, when a widget's callback raises, when its kernel dies, when it
runs past its time limit, or when its output is tagged `nbval-check-output` and differs from the stored one.
The cells after a notebook's first failure are not run.

Time limits   --nbval-cell-timeout for a cell, at most CELL_SECONDS; NOTEBOOK_SECONDS for all cells together.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from queue import Empty

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile

from labkit.course import copies, notebook_form

CELL_SECONDS = 120
NOTEBOOK_SECONDS = 240  # twice what a notebook may take on a quiet machine; the table names those over that
QUIET_SECONDS = 120
TIMES = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[TIMES] = []
    if hasattr(config.option, "nbval_cell_timeout"):
        config.option.nbval_cell_timeout = min(config.option.nbval_cell_timeout, CELL_SECONDS)


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".ipynb" and hasattr(parent.config.option, "nbval_cell_timeout"):
        return Notebook.from_parent(parent, path=file_path)
    return None


def pytest_terminal_summary(terminalreporter, config):
    if not config.stash[TIMES]:
        return
    terminalreporter.section("seconds a notebook")
    width = max(len(name) for name, *_ in config.stash[TIMES])
    for name, cells, seconds in config.stash[TIMES]:
        note = f"  over {QUIET_SECONDS}" if seconds > QUIET_SECONDS else ""
        terminalreporter.line(f"{name:{width}}  {seconds:6.1f} s  {cells:3d} cells run{note}")
    total = sum(seconds for *_, seconds in config.stash[TIMES])
    terminalreporter.line(f"{'all':{width}}  {total:6.1f} s")


class Notebook(pytest.File):
    """A notebook file: its two forms."""

    def collect(self):
        for form in ("solved", "student"):
            yield Form.from_parent(self, path=self.path, name=form, nodeid=f"{self.nodeid}::{form}")


class Form(IPyNbFile):
    """One form of a notebook: its code cells, run in one kernel, in an empty folder."""

    def collect(self):
        self.failed_cell, self.cells_run = None, 0
        self.compare_outputs = False  # only the tagged cells
        self.nb = notebook_form.read(self.path)
        if self.name == "student":
            self.nb = copies.student_notebook(self.nb, path=self.path)
        for number, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code":
                options = defaultdict(bool, check=notebook_form.is_compared(cell))
                yield Cell.from_parent(self, name=f"cell {number}", cell_num=number, cell=cell, options=options)

    def setup(self):
        self.started = time.monotonic()
        self.folder = tempfile.mkdtemp(prefix="labkit-notebook-")
        self.kernel = Kernel(self.folder, strict=self.name == "solved")
        self.setup_sanitize_files()

    def teardown(self):
        name = f"{self.path.stem} {self.name}"
        self.config.stash[TIMES].append((name, self.cells_run, time.monotonic() - self.started))
        if self.kernel is not None and hasattr(self.kernel, "km"):
            self.kernel.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cell(IPyNbCell):
    """A code cell."""

    def setup(self):
        if self.parent.failed_cell:
            pytest.skip(f"{self.parent.nodeid} stopped at {self.parent.failed_cell}")

    def runtest(self):
        self.parent.cells_run += 1
        try:
            super().runtest()
            if time.monotonic() - self.parent.started > NOTEBOOK_SECONDS:
                self.raise_cell_error(f"the notebook has taken more than {NOTEBOOK_SECONDS} seconds so far")
        except Exception as error:
            self.parent.failed_cell = self.name
            if isinstance(error, KernelDied):
                self.raise_cell_error("the kernel died: out of memory, or a crash in compiled code")
            raise

    def reportinfo(self):
        return self.path, None, f"{self.path.stem} {self.parent.name} {self.name}"


class KernelDied(Exception):
    """The process that ran the cells has gone."""


class Kernel(RunningKernel):
    """A kernel that notices within a second when its process has gone."""

    def __init__(self, folder, *, strict):
        environment = {name: value for name, value in os.environ.items() if name != "LABKIT_STRICT"}
        environment |= {"LABKIT_STRICT": "1"} if strict else {}
        self.km, self.kc = start_new_kernel(
            kernel_name=CURRENT_ENV_KERNEL_NAME, cwd=folder, env=environment, stderr=subprocess.DEVNULL
        )
        self._ensure_iopub_up()

    def await_reply(self, msg_id, timeout=None):
        deadline = time.monotonic() + timeout
        while True:
            try:
                return super().await_reply(msg_id, timeout=min(1, max(0, deadline - time.monotonic())))
            except Empty:
                if not self.is_alive():
                    raise KernelDied from None
                if time.monotonic() >= deadline:
                    raise

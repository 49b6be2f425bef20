"""Runs notebooks as tests, on nbval: every notebook in its solved form and in the form a student starts from.

A cell is a test. It fails when it raises, when a widget's callback raises, when its kernel dies, when it
runs past its time limit, or when its output is tagged `nbval-check-output` and differs from the stored one.
The cells after a notebook's first failure are not run.

Time        --nbval-cell-timeout for a cell, at most CELL_SECONDS: it ends what would never end, nothing else.
            A notebook that takes long is named in the table at the end, not failed.
Workers     under pytest-xdist a file is one worker's, a notebook with both of its forms; the cores are shared out.
Memory      what the solved form has trained, the student form of the same run finds again where it is the same
            training to the bit (labkit.training.memory); every cell of both forms is run.
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
from xdist.scheduler import LoadScopeScheduling

from labkit.course import copies, notebook_form
from labkit.waiting import quiet_environment

CELL_SECONDS = 600
LONG_SECONDS = 120  # a notebook above it is named in the table
SHOWN_FILES = 12  # of the other tests, the slowest


def pytest_configure(config):
    """Share the cores among the workers, before any of them loads torch."""
    workers = len(getattr(config.option, "tx", None) or ()) or 1
    os.environ |= quiet_environment(os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    config.pluginmanager.register(Clock())
    if hasattr(config.option, "nbval_cell_timeout"):
        config.option.nbval_cell_timeout = min(config.option.nbval_cell_timeout, CELL_SECONDS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """Notebooks first, the long last ones before the short first ones, so that no worker is left with a long one."""
    notebooks = [item for item in items if isinstance(item, Cell)]
    files = list(dict.fromkeys(item.path for item in notebooks))
    notebooks.sort(key=lambda item: -files.index(item.path))
    items[:] = notebooks + [item for item in items if not isinstance(item, Cell)]


class ByFile(LoadScopeScheduling):
    """Gives each worker whole files, in the order they were collected."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid):
        return nodeid.partition("::")[0]


class Clock:
    """Where the minutes of a run go."""

    def __init__(self):
        self.started = time.monotonic()
        self.seconds = defaultdict(list)  # of every test, by file, or by form of a notebook
        self.cells_run = defaultdict(int)

    def pytest_runtest_logreport(self, report):
        file, *rest = report.nodeid.split("::")
        name = f"{os.path.basename(file).removesuffix('.ipynb')} {rest[0]}" if file.endswith(".ipynb") else file
        self.seconds[name].append(report.duration)
        self.cells_run[name] += file.endswith(".ipynb") and report.when == "call" and not report.skipped

    def pytest_terminal_summary(self, terminalreporter):
        notebooks = sorted(name for name in self.seconds if self.cells_run.get(name))
        others = sorted(self.seconds.keys() - set(notebooks), key=lambda name: -sum(self.seconds[name]))
        if notebooks:
            terminalreporter.section("seconds a notebook")
            for name in notebooks:
                total, slowest = sum(self.seconds[name]), max(self.seconds[name])
                note = f"  over {LONG_SECONDS}" if total > LONG_SECONDS else ""
                row = f"{total:7.1f} s  {self.cells_run[name]:3d} cells run, the slowest {slowest:5.1f} s{note}"
                terminalreporter.line(f"{name:{max(map(len, notebooks))}}{row}")
            terminalreporter.line(f"all {sum(sum(self.seconds[name]) for name in notebooks):.1f} s")
        if notebooks and others:
            terminalreporter.section("seconds of the other tests, by file")
            for name in others[:SHOWN_FILES]:
                terminalreporter.line(f"{sum(self.seconds[name]):7.1f} s  {name}")
            terminalreporter.line(f"{sum(sum(self.seconds[name]) for name in others):7.1f} s  all")
        terminalreporter.line(f"{(time.monotonic() - self.started) / 60:.1f} minutes by the clock")


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".ipynb" and hasattr(parent.config.option, "nbval_cell_timeout"):
        return Notebook.from_parent(parent, path=file_path)
    return None


class Notebook(pytest.File):
    """A notebook file: its two forms."""

    def collect(self):
        for form in ("solved", "student"):
            yield Form.from_parent(self, path=self.path, name=form, nodeid=f"{self.nodeid}::{form}")

    def setup(self):
        self.memory = tempfile.mkdtemp(prefix="labkit-trained-")

    def teardown(self):
        shutil.rmtree(self.memory, ignore_errors=True)


class Form(IPyNbFile):
    """One form of a notebook: its code cells, run in one kernel, in an empty folder."""

    def collect(self):
        self.failed_cell = None
        self.compare_outputs = False  # only the tagged cells
        self.nb = notebook_form.read(self.path)
        if self.name == "student":
            self.nb = copies.student_notebook(self.nb, path=self.path)
        for number, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code":
                options = defaultdict(bool, check=notebook_form.is_compared(cell))
                yield Cell.from_parent(self, name=f"cell {number}", cell_num=number, cell=cell, options=options)

    def setup(self):
        self.folder = tempfile.mkdtemp(prefix="labkit-notebook-")
        self.kernel = Kernel(self.folder, strict=self.name == "solved", memory=self.parent.memory)
        self.setup_sanitize_files()

    def teardown(self):
        if self.kernel is not None and hasattr(self.kernel, "km"):
            self.kernel.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cell(IPyNbCell):
    """A code cell."""

    def setup(self):
        if self.parent.failed_cell:
            pytest.skip(f"{self.parent.nodeid} stopped at {self.parent.failed_cell}")

    def runtest(self):
        try:
            super().runtest()
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

    def __init__(self, folder, *, strict, memory):
        environment = {name: value for name, value in os.environ.items() if name != "LABKIT_STRICT"}
        environment |= {"LABKIT_FIT_MEMORY": memory} | ({"LABKIT_STRICT": "1"} if strict else {})
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

"""What every test file may ask for."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

torch.set_warn_always(True)  # once a process would make the first test fail, whichever that is


@pytest.fixture(scope="session")
def real_data():
    """The folder with real data sets, named by LABKIT_DATA_TEST; skips where there is none."""
    folder = os.environ.get("LABKIT_DATA_TEST")
    if not folder:
        pytest.skip("LABKIT_DATA_TEST names no folder with the real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"LABKIT_DATA_TEST must name a folder, got {folder}")
    return Path(folder)


@pytest.fixture(scope="session")
def recipe():
    """A function: the name of a recipe -> the module data/weights/NAME.py."""

    def load(name):
        path = Path(__file__).parent.parent / "data" / "weights" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def no_figures_left():
    """Close what a test drew: matplotlib warns of more than twenty open figures."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def pytest_collection_modifyitems(items):
    """Skip what is marked `gpu` on a machine without one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU, and there is none here"))

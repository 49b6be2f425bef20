"""Imports point down only, outside libraries stay where they belong, and importing labkit is quick."""

import ast
import graphlib
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import labkit

PACKAGE = Path(labkit.__file__).parent
SYSTEMS = ("localizer", "sliding_window", "rcnn", "fast_rcnn", "faster_rcnn")
PROPOSALS = ("proposals", "baseline_proposals", "selective_search", "edge_boxes")
# The first pattern that fits says the layer. A module imports from below, or beside it in its own folder.
LAYERS = (
    ("device", 0),
    ("files", 0),
    ("waiting", 0),
    ("weights", 0),
    ("detection.boxes", 1),
    ("denoising.noise", 1),
    ("denoising.metrics", 1),
    *((f"detection.{name}", 4) for name in SYSTEMS),
    ("detection.shipped", 5),  # the systems with their weights
    ("denoising.filters", 4),
    ("denoising.networks", 4),
    ("detection.*", 2),
    ("denoising.*", 2),
    ("training", 3),
    ("datasets.*", 3),
    ("plotting", 5),
    ("widgets", 6),
    ("widgets.*", 6),
    ("checks", 6),
    ("checks.*", 6),
    ("course.*", 6),
    ("__main__", 7),  # the door
    ("course", 0),
    ("detection", 0),  # a package of its own does nothing but exist
    ("denoising", 0),
    ("datasets", 0),
    ("", 0),
)
OUTSIDE = {
    "torch": ["*"],
    "numpy": ["*"],
    "torchvision": ["detection.*", "checks.*", "widgets.*", "device"],
    "scipy": ["datasets.*", "detection.*", "denoising.*"],
    "skimage": ["datasets.*", *(f"detection.{name}" for name in PROPOSALS), "denoising.filters"],
    "sklearn": ["detection.rcnn"],
    "matplotlib": ["plotting", "widgets.*", "checks.*"],
    "ipywidgets": ["widgets.*", "checks.*"],
    "IPython": ["checks.*"],
    "accelerate": ["training"],
    "tqdm": ["training", "datasets.*"],
    "safetensors": ["weights", "training", "datasets.*", "detection.*", "denoising.*"],
    "pooch": ["datasets.*"],
    "requests": ["datasets.*"],
    "urllib3": ["datasets.*"],
    "PIL": ["datasets.*", "widgets.*"],
    "nbformat": ["course.*"],
    "jupyterlab": ["course.*"],
    "jupyter_core": ["course.*"],
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name, source):
    """Every absolute name a module imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"labkit.{name} has a relative import; write labkit.{node.module} in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("labkit.") in MODULES else node.module


def layer(name):
    found = [number for pattern, number in LAYERS if fnmatch(name, pattern)]
    assert found, f"labkit.{name} has no layer; add it to LAYERS"
    return found[0]


def inside(name, source):
    """The modules of labkit a module imports."""
    found = {imported for imported in imports_of(name, source) if imported.partition(".")[0] == "labkit"}
    return {imported.partition(".")[2] for imported in found}


def folder_of(name):
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


def wrong_way(name, source):
    """The modules of labkit it imports and must not."""
    own = layer(name)
    return {
        other
        for other in inside(name, source) - {name}
        if layer(other) > own or (layer(other) == own and (folder_of(other) != folder_of(name) or own == 4))
    }


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    assert wrong_way(name, MODULES[name].read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("device", "from labkit.training import fit", {"training"}),
        ("detection.boxes", "def f():\n    from labkit.detection import evaluation", {"detection.evaluation"}),
        ("detection.fast_rcnn", "import labkit.detection.faster_rcnn", {"detection.faster_rcnn"}),
        ("plotting", "from labkit import checks, device", {"checks"}),
        ("checks.start", "from labkit.course import copies", {"course.copies"}),
        ("detection", "from labkit.detection.boxes import encode_boxes", {"detection.boxes"}),
        ("datasets.bccd", "from labkit import __version__\nfrom labkit.datasets import cache", set()),
    ],
)
def test_an_import_the_wrong_way_is_seen(name, source, expected):
    assert wrong_way(name, source) == expected


def test_no_two_modules_need_each_other():
    graph = {name: inside(name, path.read_text(encoding="utf-8")) - {name} for name, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the cycle


@pytest.mark.parametrize("name", MODULES)
def test_outside_libraries_stay_where_they_belong(name):
    source = MODULES[name].read_text(encoding="utf-8")
    libraries = {imported.partition(".")[0] for imported in imports_of(name, source)}
    libraries -= sys.stdlib_module_names | {"labkit"}
    stray = {lib for lib in libraries if not any(fnmatch(name, pattern) for pattern in OUTSIDE.get(lib, []))}
    assert stray == set()


def test_importing_labkit_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import labkit, labkit.course.copies, labkit.__main__;"
        "print(time.perf_counter() - start, *{name.partition('.')[0] for name in sys.modules})"
    )
    seconds = []
    for _ in range(5):  # the best of five: another program may be busy on this machine
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        time, *loaded = done.stdout.split()
        seconds.append(float(time))
        assert not set(loaded) & set(OUTSIDE)
    assert min(seconds) < 0.3

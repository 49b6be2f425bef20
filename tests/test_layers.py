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
SYSTEMS = (
    "localizer",
    "sliding_window",
    "rcnn",
    "fast_rcnn",
    "faster_rcnn",
    "organs",
    "attention",
    "organ_agent",
    "slice_agent",
)
IMAGES_AND_NOISE = (
    "noise",
    "metrics",
    "images",
    "patches",
    "draws",
    "similarity",
    "regions",
    "tomography",
    "ct_scan",
)
# The first pattern that fits says the layer. A module imports from below, or beside it in its own folder, where
# a folder inside it counts too: datasets.phantoms and datasets.fetch are in datasets.
LAYERS = (
    ("device", 0),
    ("files", 0),
    ("waiting", 0),
    ("weights", 0),
    ("bootstrap", 0),
    ("detection.boxes", 1),
    ("detection.boxes_3d", 1),
    ("detection.box_checks", 1),
    ("detection.box_deltas", 1),
    ("detection.non_maximum_suppression", 1),
    ("detection.images", 1),
    ("detection.backbone", 1),
    *((f"denoising.{name}", 1) for name in IMAGES_AND_NOISE),
    *((f"detection.{name}", 4) for name in SYSTEMS),
    ("detection.nodules", 5),  # on Faster R-CNN's proposals
    ("detection.pretrained", 5),  # the systems with their weights
    ("denoising.pretrained", 5),
    ("denoising.filters", 4),
    ("denoising.networks", 4),
    ("denoising.low_dose_ct", 4),
    ("detection.*", 2),
    ("denoising.*", 2),
    ("training", 3),
    ("training.*", 3),
    ("datasets.*", 3),
    ("plotting", 5),
    ("plotting.*", 5),
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
    # augment: who mirrors boxes trains a detector, which has loaded torchvision; its transforms add a tenth of a second
    "torchvision": ["detection.*", "checks.*", "widgets.*", "device", "datasets.augment"],
    "scipy": ["datasets.*", "detection.*", "denoising.*"],
    "skimage": ["datasets.*", "detection.proposals.*", "denoising.filters"],
    "pywt": ["denoising.filters"],
    "bm3d": ["denoising.filters"],  # where the user installed it
    "sklearn": ["detection.linear_models", "detection.evaluation.image_level"],
    "matplotlib": ["plotting", "plotting.*", "widgets.*", "checks.*"],
    "ipywidgets": ["widgets.*", "checks.*"],
    "IPython": ["checks.*", "plotting.*"],
    "accelerate": ["training.*"],
    "gymnasium": ["detection.organ_agent", "detection.slice_agent"],
    "tqdm": ["training.*", "datasets.*", "detection.q_learning"],
    "safetensors": ["files", "weights"],
    "pooch": ["datasets.*"],
    "filelock": ["datasets.fetch.*"],
    "SimpleITK": ["datasets.luna16_scans"],  # the extra [medical]
    "requests": ["datasets.*"],
    "urllib3": ["datasets.*"],
    "PIL": ["datasets.*", "widgets.*"],
    "nbformat": ["course.*"],
    "jupyterlab": ["course.*"],
    "nbgrader": ["course.grading"],
    "traitlets": ["course.grading", "widgets.*"],
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
    folder = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    return folder.partition(".")[0]


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
        ("checks.start_here", "from labkit.course import copies", {"course.copies"}),
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


def test_importing_labkit_loads_nothing_but_the_standard_library():
    """So it takes a tenth of a second: torch alone takes four."""
    imports = "import labkit, labkit.course.copies, labkit.__main__"
    code = f"import sys; before = set(sys.modules); {imports}; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"labkit"}

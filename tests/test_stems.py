"""One word a lecture system: its notebook, module, check and tests share it, and the README's table names them all."""

import re

import pytest

from labkit import NOTEBOOKS
from labkit.course.copies import ROOT

STEMS = [name.partition("_")[2] for name in NOTEBOOKS]
WITHOUT_MODULE = {"start_here", "mammogram_lab"}  # they use the others'
README = (ROOT / "README.md").read_text(encoding="utf-8")


def found(folder, stem):
    """Whether a folder holds a module or a package of that name."""
    return (ROOT / folder / f"{stem}.py").is_file() or (ROOT / folder / stem / "__init__.py").is_file()


@pytest.mark.parametrize("stem", STEMS)
def test_check_and_its_test_have_the_notebooks_name(stem):
    assert found("labkit/checks", stem)
    assert (ROOT / "tests/checks" / f"test_{stem}.py").is_file()


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem not in WITHOUT_MODULE])
def test_module_and_its_tests_have_the_notebooks_name(stem):
    assert any(found(f"labkit/{part}", stem) for part in ("detection", "denoising"))
    tests = [*ROOT.glob(f"tests/d*/test_{stem}.py"), *ROOT.glob(f"tests/d*/{stem}/test_*.py")]
    assert tests


@pytest.mark.parametrize(("name", "stem"), list(zip(NOTEBOOKS, STEMS, strict=True)))
def test_one_row_of_the_readme_names_them(name, stem):
    (row,) = (line for line in README.splitlines() if f"(notebooks/{name}.ipynb)" in line and line.startswith("|"))
    assert f"`checks.{stem}`" in row
    assert stem in WITHOUT_MODULE or re.search(rf"`(detection|denoising)\.{stem}`", row)

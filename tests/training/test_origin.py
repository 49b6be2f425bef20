"""Where code comes from: a library, which its version stands for; labkit; or the user, whose code must be followed."""

import platform
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

import labkit
from labkit.training import fit, origin
from labkit.training.origin import full_name, is_own, own_source
from labkit.training.origin import origin as origin_of


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("json.decoder", f"json.decoder {platform.python_version()}"),
        ("builtins", f"builtins {platform.python_version()}"),
        ("torch.nn.functional", f"torch.nn.functional {metadata.version('torch')}"),
        ("numpy", f"numpy {np.__version__}"),
        ("labkit.training.loop", None),
        ("__main__", None),
        ("no_such_library", None),
        ("", None),
        (None, None),
    ],
)
def test_a_library_is_named_with_its_version_and_nothing_else_is(module, expected):
    assert origin_of(module) == expected


def test_a_file_beside_the_notebook_is_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_tools_of_origin.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_tools_of_origin

    assert origin_of(my_tools_of_origin.double.__module__) is None
    monkeypatch.delitem(sys.modules, "my_tools_of_origin")


def test_a_library_without_metadata_is_known_by_what_it_says_of_itself(monkeypatch):
    module = types.ModuleType("library_of_origin")
    module.__file__ = str(Path(torch.__file__).parents[1] / "library_of_origin.py")
    module.__version__ = "9.1"
    monkeypatch.setitem(sys.modules, "library_of_origin", module)
    assert origin_of("library_of_origin.part") == "library_of_origin.part 9.1"


def test_labkits_own_modules_are_known_by_their_first_word():
    assert is_own("labkit")
    assert is_own("labkit.training.loop")
    assert not is_own("labkitten")
    assert not is_own("torch")
    assert not is_own(None)


def test_the_source_of_labkit_changes_with_any_file_and_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "PACKAGE", tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    seen = []
    for change in (
        lambda: None,
        lambda: (tmp_path / "a.py").write_text("x = 2\n"),
        lambda: (tmp_path / "a.py").rename(tmp_path / "b.py"),
        lambda: (tmp_path / "c.py").write_text(""),
    ):
        change()
        own_source.cache_clear()
        seen.append(own_source())
    (tmp_path / "notes.txt").write_text("no source")
    own_source.cache_clear()
    assert own_source() == seen[-1]
    own_source.cache_clear()
    assert len(set(seen)) == len(seen)
    assert Path(labkit.__file__).parent != tmp_path


def test_names_in_full():
    assert full_name(fit) == "labkit.training.loop.fit"
    assert full_name(torch.nn.Linear) == "torch.nn.modules.linear.Linear"
    assert full_name(str.upper) == "builtins.str.upper"

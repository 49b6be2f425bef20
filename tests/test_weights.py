"""Trained weights: whole, with their card, and what the recipe makes."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from labkit.detection.localizer import LesionClassifier
from labkit.weights import FOLDER, load_weights, save_weights

RECIPES = Path(__file__).parent.parent / "data" / "weights"


def test_round_trip(tmp_path):
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(first, "line", folder=tmp_path, seed=7)
    assert load_weights(second, "line", folder=tmp_path)["seed"] == 7
    assert torch.equal(first.weight, second.weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["line.json", "line.safetensors"]


def test_a_torn_file_is_named(tmp_path):
    path = save_weights(nn.Linear(3, 2), "line", folder=tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"line\.safetensors has SHA-256 .* torn or altered"):
        load_weights(nn.Linear(3, 2), "line", folder=tmp_path)


def test_another_model_is_refused(tmp_path):
    save_weights(nn.Linear(3, 2), "line", folder=tmp_path)
    with pytest.raises(ValueError, match=r"does not fit Linear: expected weight \(2, 4\), got \(2, 3\); build the"):
        load_weights(nn.Linear(4, 2), "line", folder=tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", None])
def test_a_torn_card_is_named(tmp_path, content):
    card = save_weights(nn.Linear(3, 2), "line", folder=tmp_path).with_suffix(".json")
    card.unlink() if content is None else card.write_text(content)
    with pytest.raises(ValueError, match=r"line\.json must be the card of line\.safetensors"):
        load_weights(nn.Linear(3, 2), "line", folder=tmp_path)


def test_missing_weights_list_those_there_are(tmp_path):
    save_weights(nn.Linear(3, 2), "line", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="there are: line"):
        load_weights(nn.Linear(3, 2), "curve", folder=tmp_path)


@pytest.mark.parametrize("card", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_every_file_has_a_recipe_and_is_small(card):
    assert (RECIPES / f"{card.stem.partition('-')[0]}.py").is_file()  # one recipe may make several
    assert card.with_suffix(".safetensors").stat().st_size == json.loads(card.read_text())["bytes"] < 8 * 2**20


def test_the_lesion_classifier_reaches_its_figure(recipe):
    model = LesionClassifier()
    card = load_weights(model, "lesion_classifier")
    # the same weights on another processor may differ in the last digits: two patches of 600
    assert recipe("lesion_classifier").accuracy(model) == pytest.approx(card["held out"]["accuracy"], abs=2 / 600)


def test_the_recipe_of_the_lesion_classifier_trains_as_its_card_says(recipe):
    """Its first steps, on fewer patches: the same data, network, rates and order give the same losses."""
    making = recipe("lesion_classifier")
    card = json.loads((FOLDER / "lesion_classifier.json").read_text())
    assert (card["seed"], card["epochs"], card["patches"]) == (making.SEED, making.EPOCHS, making.TRAIN)
    before, now = card["trial"]["loss"], making.trial()["loss"]
    # another processor or number of threads rounds otherwise, and training carries that on
    assert now[0] == pytest.approx(before[0], abs=0.001)
    assert now[1] == pytest.approx(before[1], abs=0.01)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_neither_saved_nor_loaded(tmp_path, value):
    model = nn.Linear(3, 2)
    model.weight.data[0, 1] = value
    with pytest.raises(ValueError, match="weights must be finite, got NaN or infinity in weight; train again"):
        save_weights(model, "line", folder=tmp_path)
    assert not list(tmp_path.iterdir())
    data = safetensors.torch.save(dict(model.state_dict()))
    (tmp_path / "line.safetensors").write_bytes(data)
    (tmp_path / "line.json").write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(ValueError, match=r"line\.safetensors must hold finite numbers, got NaN or infinity in weight;"):
        load_weights(nn.Linear(3, 2), "line", folder=tmp_path)


def test_a_wheel_holds_all_code_and_every_file_of_weights(tmp_path):
    """Built as pip builds it, from what the project's folder holds; an installed package has nothing else."""
    root = RECIPES.parent.parent
    shutil.copytree(root / "labkit", tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if name.startswith("labkit/")}
    files = [path for path in (root / "labkit").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert held.keys() == {path.relative_to(root).as_posix() for path in files}
    weights = [path for path in files if path.parent == FOLDER]
    assert len(weights) == 34
    assert all(held[path.relative_to(root).as_posix()] == path.read_bytes() for path in weights)


def test_a_card_that_cannot_be_written_leaves_the_weights_of_before(tmp_path):
    model = nn.Linear(3, 2)
    save_weights(model, "line", folder=tmp_path, seed=7)
    with pytest.raises(
        ValueError, match=r"card must hold what JSON can, got another .*; write float\(...\) or .tolist"
    ):
        save_weights(nn.Linear(3, 2), "line", folder=tmp_path, accuracy=torch.tensor(0.9))
    again = nn.Linear(3, 2)
    assert load_weights(again, "line", folder=tmp_path)["seed"] == 7
    assert torch.equal(again.weight, model.weight)

"""Features on disk: a round trip, and every file that must be refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from labkit.detection.backbone import Backbone
from labkit.detection.feature_cache import load_features, network_name, save_features
from labkit.detection.rcnn import RegionNetwork
from labkit.files import write_sealed


@pytest.fixture
def made(tmp_path):
    torch.manual_seed(0)
    network = Backbone(width=4)
    proposals = [torch.rand(3, 4), torch.zeros(0, 4), torch.rand(2, 4)]
    features = [torch.rand(3, 7), torch.zeros(0, 7), torch.rand(2, 7)]
    path = tmp_path / "deep" / "features.safetensors"
    size = save_features(path, features, network=network, proposals=proposals)
    return path, network, proposals, features, size


def test_features_come_back_in_half_precision(made):
    path, network, proposals, features, size = made
    back = load_features(path, network=network, proposals=proposals)
    assert size == path.stat().st_size
    assert [tuple(rows.shape) for rows in back] == [(3, 7), (0, 7), (2, 7)]
    for got, want in zip(back, features, strict=True):
        assert torch.equal(got, want.half().float())


def test_no_unfinished_file_stays(made):
    assert [file.name for file in made[0].parent.iterdir()] == ["features.safetensors"]


def test_a_failure_leaves_no_trace(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_features(tmp_path / "f", [torch.ones(1, 3)], network=nn.Linear(1, 3), proposals=[torch.ones(1, 4)])
    assert not list(tmp_path.iterdir())


def test_another_backbones_features_are_refused_by_name(made):
    path, network, proposals, _, _ = made
    before = network_name(network)
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=f"another network: expected {network_name(network)}, got {before}"):
        load_features(path, network=network, proposals=proposals)
    with pytest.raises(ValueError, match="expected Linear-"):
        load_features(path, network=nn.Linear(2, 1), proposals=proposals)


def test_a_running_mean_is_part_of_the_name():
    network = Backbone(width=4).train()
    before = network_name(network)
    network(torch.rand(2, 1, 16, 24))  # only batch norm's running figures change
    assert network_name(network) != before


def test_the_name_tells_the_backbone_and_what_the_weights_do_not():
    torch.manual_seed(0)
    first = RegionNetwork(Backbone(width=4), 3, size=44)
    second = RegionNetwork(Backbone(width=4), 3, size=48)  # as many cells
    second.load_state_dict(first.state_dict())
    assert network_name(first).startswith("RegionNetwork on Backbone-")
    assert network_name(first) != network_name(second)


@pytest.mark.parametrize("value", [float("nan"), 1e5])  # 1e5 is no number in half precision
def test_features_must_be_numbers_in_half_precision(tmp_path, value):
    with pytest.raises(ValueError, match="features must be finite and below 65504"):
        save_features(
            tmp_path / "f", [torch.full((1, 3), value)], network=nn.Linear(1, 3), proposals=[torch.ones(1, 4)]
        )


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, path, {"network": "Linear-1"})
    with pytest.raises(ValueError, match=r"must be a file of save_features.*it was not written by labkit"):
        load_features(path, network=nn.Linear(2, 1), proposals=[])
    write_sealed(path, {"weight": torch.ones(2)}, key="of a cache")
    with pytest.raises(ValueError, match="must be a file of save_features, got another; name the right one"):
        load_features(path, network=nn.Linear(2, 1), proposals=[])


def test_other_proposals_are_refused(made):
    path, network, proposals, _, _ = made
    moved = [proposals[0] + 1, *proposals[1:]]
    with pytest.raises(ValueError, match="another proposals"):
        load_features(path, network=network, proposals=moved)
    with pytest.raises(ValueError, match="another proposals"):
        load_features(path, network=network, proposals=proposals[::-1])


def test_damage_is_found(made):
    path, network, proposals, _, _ = made
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its content does not match its checksum; compute the features anew"):
        load_features(path, network=network, proposals=proposals)
    path.write_bytes(data[:50])
    with pytest.raises(ValueError, match=r"must be a file of save_features.*it is torn"):
        load_features(path, network=network, proposals=proposals)


def test_rows_must_belong_to_proposals(made, tmp_path):
    _, network, proposals, features, _ = made
    with pytest.raises(ValueError, match="one row of features a proposal"):
        save_features(tmp_path / "f", features[::-1], network=network, proposals=proposals)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_features(tmp_path / "none", network=nn.Linear(2, 1), proposals=[])


@pytest.mark.parametrize("missing", ["counts", "features"])
def test_a_file_without_a_part_is_named(made, missing):
    path, network, proposals, _, _ = made
    data = path.read_bytes()
    notes = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = load_file(path)
    del tensors[missing]
    save_file(tensors, path, notes)
    with pytest.raises(ValueError, match="must be a file of save_features"):
        load_features(path, network=network, proposals=proposals)


def test_a_path_may_begin_at_home(made, monkeypatch):
    path, network, proposals, _, _ = made
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert len(load_features(f"~/{path.name}", network=network, proposals=proposals)) == len(proposals)

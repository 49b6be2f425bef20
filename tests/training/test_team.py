"""Several processes: they train in step, and each start that the documentation names works."""

import json
import os
from pathlib import Path

import pytest
import torch
from trainings import check_processes, run_script

from labkit.training.team import Team, check_share, first_process

RECIPE = Path(__file__).parents[2] / "data" / "weights" / "lesion_classifier.py"
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]


def test_two_processes_from_a_notebook_train_in_step_after_a_fit_there(forked):
    assert (forked / "notebook.status").read_text() == "0"
    check_processes(forked / "notebook")


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate launch"])
def test_a_recipe_trains_in_two_processes(tmp_path, launcher):
    done = run_script("--output", tmp_path, "--patches", 120, "--epochs", 1, script=RECIPE, launcher=launcher)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "lesion_classifier.json").read_text())
    assert card["processes"] == 2
    assert sorted(os.listdir(tmp_path)) == ["lesion_classifier.json", "lesion_classifier.safetensors"]
    assert done.stdout.count("accuracy") == 1  # the first process alone measures and writes


def test_alone_everything_stays_as_it_is():
    team, model = Team(torch.device("cpu")), torch.nn.Linear(3, 1)
    batches = [1, 2]
    assert (team.rank, team.size) == (0, 1)
    assert team.prepare(model, batches) == (model, batches)
    assert team.gather(5) == [5]
    assert team.share("x") == "x"
    assert team.sum(torch.tensor(2.0)) == 2


@pytest.mark.parametrize(("rank", "first"), [(None, True), ("0", True), ("1", False)])
def test_one_process_writes(monkeypatch, rank, first):
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    assert first_process() is first


def test_in_several_processes_a_list_of_batches_is_refused():
    with pytest.raises(ValueError, match="in several processes loader must be a DataLoader, got list"):
        check_share([1])

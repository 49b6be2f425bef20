"""The doctor: facts where all is well, and a sentence with its cure for everything that is wrong."""

import errno
import importlib.metadata
import shutil

import pytest
import torch

from labkit import device as machine
from labkit.course import doctor


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A machine that measures at once, and has its data cache in a folder that is not made yet."""
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(doctor, "conv_throughput", lambda device, precision: 1234.5)
    return monkeypatch


def test_a_healthy_machine_is_described(quick, capsys, tmp_path):
    assert doctor.main() == 0
    text = capsys.readouterr().out
    assert text.strip() == doctor.report()
    assert machine.describe() in text
    assert "1,234 GFLOP/s in fp32" in text
    assert str(tmp_path / "not" / "yet") in text
    assert "GiB free" in text
    assert "fits torch" in text
    assert importlib.metadata.version("jupyterlab") in text
    assert text.strip().endswith("nothing is wrong")
    assert not (tmp_path / "not").exists()


def test_the_speed_is_told_in_the_chosen_precision_too(quick):
    quick.setattr(machine, "precision", lambda device: "bf16")
    assert "1,234 GFLOP/s in fp32, 1,234 GFLOP/s in bf16" in doctor.report()


def no_package(name):
    raise importlib.metadata.PackageNotFoundError(name)


def no_operator():
    raise RuntimeError("torch and torchvision are not from one build; install both in one command")


@pytest.mark.parametrize(
    ("owner", "name", "stand_in", "told"),
    [
        (importlib.metadata, "version", no_package, ["jupyterlab: not installed", "pip install -e"]),
        (machine, "check_torchvision", no_operator, ["torchvision: ", "install both in one command"]),
        (
            shutil,
            "disk_usage",
            lambda path: shutil._ntuple_diskusage(9, 8, 1),
            ["data: ", "must have 2 GiB free", "got 0.0 GiB", "LABKIT_CACHE"],
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_cure_and_the_rest_is_still_looked_at(
    quick, capsys, owner, name, stand_in, told
):
    quick.setattr(owner, name, stand_in)
    assert doctor.main() == 1
    text = capsys.readouterr().out
    wrong = text.split("what is wrong")[1]
    assert all(part in wrong for part in told)
    assert wrong.count("\n- ") == 1
    assert "1,234 GFLOP/s" in text


def test_a_wrong_device_name_is_among_what_is_wrong(quick, capsys):
    quick.setenv("LABKIT_DEVICE", "toaster")
    assert doctor.main() == 1
    assert "LABKIT_DEVICE must be one of" in capsys.readouterr().out


def test_throughput_counts_two_operations_a_product(monkeypatch):
    """A clock that says one second a convolution: 8 images of 64x64, 64 x 64 channels, 9 products each."""
    ticks = iter(range(1000))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(ticks))
    expected = 2 * 8 * 64 * 64 * 64 * 64 * 9 / 1e9
    assert doctor.conv_throughput(torch.device("cpu"), precision="fp32") == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_throughput_of_this_machine_is_possible(precision):
    assert 0.01 < doctor.conv_throughput(torch.device("cpu"), precision=precision, seconds=0.05) < 1e7


def a_file(place):
    place.write_text("")
    return place


def below_a_file(place):
    return a_file(place) / "deep" / "cache"


def a_link_to_nowhere(place):
    place.symlink_to("nowhere")
    return place


@pytest.mark.parametrize("make", [a_file, below_a_file, a_link_to_nowhere])
def test_a_cache_that_cannot_be_used_is_wrong(quick, tmp_path, capsys, make):
    quick.setenv("LABKIT_CACHE", str(make(tmp_path / "place")))
    assert doctor.main() == 1
    wrong = capsys.readouterr().out.split("what is wrong")[1]
    assert "must be a folder that can be written" in wrong
    assert "set LABKIT_CACHE to a folder you can write to" in wrong


def test_a_cache_on_a_disk_for_reading_only_is_wrong(quick, tmp_path, capsys):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    quick.setenv("LABKIT_CACHE", str(tmp_path / "not" / "made"))
    quick.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert doctor.main() == 1
    assert "Read-only file system" in capsys.readouterr().out


def test_a_cache_in_a_home_that_does_not_exist_is_wrong(quick, capsys):
    quick.setenv("LABKIT_CACHE", "~nosuchuser/x")
    assert doctor.main() == 1
    assert "\n- data: " in capsys.readouterr().out


def test_the_precision_is_told_and_how_to_choose_another(quick):
    quick.setattr(machine, "precision", lambda device: "bf16")
    assert "training uses bf16, LABKIT_PRECISION overrides" in doctor.report()

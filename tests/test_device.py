"""Device, precision and seeds: what is picked, what overrides it, and what a wrong name is told."""

import contextlib
import functools
import random
import time

import numpy as np
import pytest
import torch
import torchvision

from labkit import device as machine


@pytest.fixture
def other_machine(monkeypatch):
    """Another machine may be pretended: what is known of this one is forgotten, for the test alone."""
    monkeypatch.delenv("LABKIT_PRECISION", raising=False)
    monkeypatch.setattr(machine, "_own_precision", functools.cache(machine._own_precision.__wrapped__))
    return monkeypatch


def test_one_core_computes_alone_and_the_others_come_back_after_an_error_too():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with contextlib.suppress(KeyError), machine.one_core():
            inside = torch.get_num_threads()
            raise KeyError
        assert (inside, torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)


def test_a_name_is_taken_before_the_environment_and_that_before_the_fastest(monkeypatch):
    monkeypatch.delenv("LABKIT_DEVICE", raising=False)
    present = {"cuda": 2, "xpu": 0, "mps": 1, "cpu": 1}
    monkeypatch.setattr(machine, "_count", present.__getitem__)
    assert machine.pick_device() == torch.device("cuda")
    assert machine.pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LABKIT_DEVICE", "mps")
    assert machine.pick_device() == torch.device("mps")
    assert machine.pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("order", [("xpu", "mps", "cpu"), ("mps", "cpu"), ("cpu",)])
def test_the_fastest_present_is_picked(monkeypatch, order):
    monkeypatch.delenv("LABKIT_DEVICE", raising=False)
    monkeypatch.setattr(machine, "_count", lambda kind: int(kind in order))
    assert machine.pick_device().type == order[0]


@pytest.mark.parametrize("name", ["gpu", "", "cuda", "cuda:7", "meta", 3.5])
def test_unknown_or_absent_devices_are_refused_with_what_is_there(monkeypatch, name):
    monkeypatch.setattr(machine, "_count", lambda kind: int(kind == "cpu"))
    with pytest.raises(ValueError, match=r"device must be .*got .*; this machine has cpu; name one of these"):
        machine.pick_device(name)


def test_a_wrong_override_names_the_variable(monkeypatch):
    monkeypatch.setenv("LABKIT_DEVICE", "toaster")
    with pytest.raises(ValueError, match=r"LABKIT_DEVICE must be .*got 'toaster'.*leave LABKIT_DEVICE out"):
        machine.pick_device()


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")]
)
def test_gpu_precision_follows_the_generation(other_machine, capability, expected):
    other_machine.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert machine.precision("cuda") == expected


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_cpu_precision_follows_the_units_of_the_processor(other_machine, units, expected):
    other_machine.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert [machine.precision("cpu"), machine.precision(torch.device("cpu"))] == [expected, expected]
    assert expected in machine.describe().splitlines()[-1]


def test_no_clock_decides_the_precision(other_machine):
    for clock in ("perf_counter", "monotonic", "process_time", "time"):
        other_machine.setattr(time, clock, lambda: pytest.fail("the time was asked"))
    machine.precision("cpu")


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("units", [{}, {"amx_bf16": True}])
def test_the_environment_overrides_the_processor(other_machine, name, units):
    other_machine.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    machine.precision("cpu")  # what was asked before does not stay
    other_machine.setenv("LABKIT_PRECISION", name)
    assert machine.precision("cpu") == name
    assert machine.describe().splitlines()[-1].split()[:2] == ["precision", f"{name}:"]
    ones = torch.ones(2, 2)
    with machine.autocast("cpu"):
        assert (ones @ ones).dtype == machine.DTYPES[name]


def test_an_unknown_precision_in_the_environment_is_named(other_machine):
    other_machine.setenv("LABKIT_PRECISION", "half")
    with pytest.raises(ValueError, match="LABKIT_PRECISION must be one of bf16, fp16, fp32, got 'half'; or leave it"):
        machine.precision("cpu")
    other_machine.setenv("LABKIT_PRECISION", "")  # as if it were not set
    assert machine.precision("mps") == "fp32"


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_sets_the_type_inside_and_restores_it(name, dtype):
    ones = torch.ones(2, 2)
    with machine.autocast("cpu", precision=name):
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


def test_autocast_refuses_an_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of bf16, fp16, fp32, got 'half'"):
        machine.autocast("cpu", precision="half")


def test_one_seed_starts_all_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    machine.seed_everything(7)
    first = draw()
    machine.seed_everything(7)
    assert draw() == first
    machine.seed_everything(8)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_a_whole_number_of_numpy_is_a_seed():
    machine.seed_everything(np.int64(7))
    first = torch.rand(1)
    machine.seed_everything(7)
    assert torch.equal(torch.rand(1), first)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, None, np.True_, np.float64(1)])
def test_seeds_numpy_cannot_take_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        machine.seed_everything(seed)


def test_describe_names_versions_device_and_reason(monkeypatch):
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    report = machine.describe()
    assert torch.__version__ in report
    assert torchvision.__version__.split("+")[0] in report
    assert [line.split()[0] for line in report.splitlines()] == (
        ["machine", "system", "python", "torch", "device", "precision"]
    )
    assert machine.precision("cpu") in report.splitlines()[-1]


def test_a_matching_pair_passes_and_a_mismatch_is_told_with_its_cure(monkeypatch):
    machine.check_torchvision()

    def missing(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", missing)
    with pytest.raises(
        RuntimeError, match=r"not from one build.*install both in one command: .*pip install --force-reinstall"
    ):
        machine.check_torchvision()

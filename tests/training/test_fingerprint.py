"""Fingerprints: equal for what is alike, different for any difference, and refused where that is not sure."""

import collections
import enum
import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from labkit.training import fingerprint as module
from labkit.training.fingerprint import UnsureError, fingerprint


@dataclass
class Film:
    image: torch.Tensor
    name: str = "film"


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2


Point = collections.namedtuple("Point", "x y")


def alike():
    """Values of every kind that can be followed, made anew."""
    cycle = [1]
    cycle.append(cycle)
    return [
        {"a": [1, 2.5, None, True, "x", b"y"], 3: (4j, ...)},
        torch.arange(6.0).reshape(2, 3),
        torch.tensor(3, dtype=torch.bfloat16),
        nn.Parameter(torch.ones(2)),
        np.arange(6, dtype=np.int16),
        np.array(["a", None], dtype=object),
        np.float32(1.5),
        np.zeros((0, 4)),
        {"b", "a"},
        Film(torch.ones(2)),
        Side.LEFT,
        Point(1, 2),
        collections.Counter("aab"),
        torch.float32,
        torch.device("cpu"),
        torch.Generator().manual_seed(3),
        np.random.default_rng(3),
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3)).requires_grad_(False).apply(nn.init.zeros_ and _zero),
        functools.partial(max, 3),
        Path("somewhere/film.png"),
        slice(1, 2),
        nn.functional.mse_loss,
        len,
        cycle,
    ]


def _zero(layer):
    for value in layer.parameters():
        value.data.zero_()


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_alike_has_one_fingerprint_and_nothing_else_has_it(strict):
    first, again = ([fingerprint(value, code=True, strict=strict) for value in alike()] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0.0, -0.0),
        ("1", 1),
        ([1, 2], [2, 1]),
        ([[1], [2]], [[1, 2]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (torch.ones(2, 3), torch.ones(3, 2)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2), torch.tensor([1.0, 1.0000001])),
        (np.ones(2), np.ones(2, dtype=np.float32)),
        (Film(torch.ones(2)), Film(torch.ones(2), "other")),
        (Side.LEFT, Side.RIGHT),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (functools.partial(max, 3), functools.partial(max, 4)),
        (nn.Linear(2, 2), nn.Linear(2, 2)),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.functional.mse_loss, nn.functional.l1_loss),
        (torch.add, torch.sub),
    ],
)
def test_any_difference_is_seen(one, other):
    assert fingerprint(one, code=True) != fingerprint(other, code=True)


RATE = 1.0


def by_global(x):
    return helper(x) * RATE


def helper(x):
    return x + 1


def made(constant=1, default=2):
    class Layer:
        width = constant

        def forward(self, x, more=default):
            return [x * constant for _ in range(3)]

    def function(x, more=default):
        return [Layer().forward(x) for _ in range(constant)]

    return Layer, function


def test_functions_and_classes_count_with_constants_defaults_closures_and_globals(monkeypatch):
    for place in (0, 1):
        prints = {fingerprint(made(*options)[place], code=True) for options in [(), (2,), (1, 3), ()]}
        assert len(prints) == 3
    before = fingerprint(by_global, code=True)
    assert fingerprint(by_global, code=True) == before
    monkeypatch.setitem(globals(), "RATE", 2.0)
    other = fingerprint(by_global, code=True)
    monkeypatch.setitem(globals(), "helper", lambda x: x + 2)
    assert len({before, other, fingerprint(by_global, code=True)}) == 3
    assert fingerprint(by_global) == fingerprint(by_global)  # without code the name says all


def test_the_packages_own_functions_count_with_its_source(monkeypatch):
    from labkit.detection.boxes import encode_boxes

    before = fingerprint(encode_boxes, code=True, strict=True)
    monkeypatch.setattr(module, "own_source", lambda: "another")
    assert fingerprint(encode_boxes, code=True, strict=True) != before


def test_a_file_counts_with_its_time_and_size_where_the_result_hangs_on_it(tmp_path):
    path = tmp_path / "film.png"
    path.write_text("one")
    loose, strict = fingerprint(path), [fingerprint(name, strict=True) for name in (path, str(path))]
    path.write_text("three")
    assert fingerprint(path) == loose
    assert all(fingerprint(name, strict=True) not in strict for name in (path, str(path)))
    with pytest.raises(UnsureError, match="the folder"):
        fingerprint(tmp_path, strict=True)


@pytest.mark.parametrize(
    "part",
    [torch.arange(24).reshape(4, 6)[2:3, 1:2], torch.arange(6)[1:5:3], torch.zeros(3, 6)[:0, 1], np.arange(24)[3:4]],
)
def test_a_part_counts_as_its_copy(part):
    copy = part.clone() if isinstance(part, torch.Tensor) else part.copy()
    assert fingerprint(part) == fingerprint(copy)


class Touchy:
    def __init__(self):
        self.value = Loud()


class Loud(bytearray):
    def __repr__(self):
        raise ZeroDivisionError


def test_an_object_that_raises_is_not_followed():
    with pytest.raises(UnsureError):
        fingerprint(Touchy())
    with pytest.raises(UnsureError, match="ZeroDivisionError"):
        fingerprint(slice(Loud()))


def test_known_objects_count_by_their_place_alone():
    generator, weight = torch.Generator().manual_seed(1), torch.ones(2)
    before = fingerprint([generator, weight], known=[generator, weight])
    generator.manual_seed(2)
    weight += 1
    assert fingerprint([generator, weight], known=[generator, weight]) == before
    assert fingerprint([generator, weight], known=[weight, generator]) != before


class Slotted:
    __slots__ = ("x",)


class Dictionary(dict):
    pass


def imports_what_is_not_installed():
    import trainings

    return trainings


def hooked():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda *_: None)
    return layer


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        iter([1]),
        (x for x in [1]),
        Slotted(),
        Dictionary(a=1),
        collections.defaultdict(list),
        ValueError("x"),
        hooked(),
        imports_what_is_not_installed,
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, device="meta"),
        [[threading.Lock()]],
        nested(2000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_followed_is_refused(value):
    with pytest.raises(UnsureError):
        fingerprint(value, code=True)


def test_it_gives_up_on_too_much(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UnsureError, match="too much data"):
        fingerprint(torch.zeros(1000))
    monkeypatch.setattr(module, "MAX_VALUES", 100)
    with pytest.raises(UnsureError, match="too many values"):
        fingerprint(list(range(200)))

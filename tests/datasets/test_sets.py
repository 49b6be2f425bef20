"""What the phantom and the real sets promise alike: masks select, an item is a copy, no part of a split is empty."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.datasets import bccd, mini_mias
from labkit.datasets.phantoms import mammograms


def phantom(_):
    return mammograms(6, size=(80, 64), seed=4, normal_fraction=0)


def mias(folder):
    for number in (1, 2, 5, 6, 7, 8):
        (folder / f"mdb{number:03d}.pgm").write_bytes(b"P5 1024 1024 255\n" + bytes([100 + number]) * 1024**2)
    rows = [f"mdb{number:03d} G CIRC B {500 + number} 500 100" for number in (1, 2, 5, 6, 7, 8)]
    (folder / "Info.txt").write_text("\n".join(rows))
    return mini_mias.load(folder, reduce=16)


def cells(folder):
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    size = "<size><width>8</width><height>6</height></size>"
    for number in range(6):
        Image.new("RGB", (8, 6), (40 * number, 9, 9)).save(folder / "JPEGImages" / f"{number}.jpg")
        box = f"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{number + 2}</xmax><ymax>4</ymax></bndbox>"
        text = f"<annotation>{size}<object><name>RBC</name>{box}</object></annotation>"
        (folder / "Annotations" / f"{number}.xml").write_text(text)
    (folder / "ImageSets/Main/train.txt").write_text("\n".join("012345"))
    return bccd.load(folder)


@pytest.fixture(params=[phantom, mias, cells])
def dataset(request, tmp_path):
    with warnings.catch_warnings(action="ignore"):  # of what the hand-made sets lack
        return request.param(tmp_path)


def assert_same(item, other):
    assert torch.equal(item[0], other[0])
    assert set(item[1]) == set(other[1])
    assert all(torch.equal(value, other[1][name]) for name, value in item[1].items())


@pytest.mark.parametrize("form", [torch.tensor, np.array, list])
def test_a_mask_selects(dataset, form):
    part = dataset.subset(form([False, False, True, True, False, True]))
    assert type(part) is type(dataset)
    assert len(part) == 3
    for row, other in enumerate((2, 3, 5)):
        assert_same(part[row], dataset[other])


def test_a_mask_of_another_length_is_refused(dataset):
    with pytest.raises(ValueError, match="a mask must have one bool for each of the 6 rows, got 5"):
        dataset.subset(torch.ones(5, dtype=torch.bool))


def test_an_item_is_a_copy(dataset):
    before = dataset[1]
    image, target = dataset[1]
    image *= 0
    for value in target.values():
        value += 100
    assert_same(dataset[1], before)


def test_a_part_shares_nothing_with_the_whole(dataset):
    before = dataset[1]
    dataset.subset([1]).targets[0]["boxes"] += 100
    assert_same(dataset[1], before)


def test_rows_of_any_library_and_nothing_else(dataset):
    assert_same(dataset[np.int64(2)], dataset[2])
    assert_same(dataset[torch.tensor(2)], dataset[2])
    with pytest.raises(IndexError):
        dataset[6]
    for several in (slice(0, 2), [0, 1], torch.tensor([True, False])):
        with pytest.raises(TypeError, match=r"for several rows write dataset.subset"):
            dataset[several]


def test_patients_select_and_no_part_is_empty(dataset):
    if not hasattr(dataset, "patients"):  # blood cells come without
        return
    woman = dataset.patients[2]
    part = dataset.subset(dataset.patients == woman)
    assert part.patients.tolist() == [int(woman)] * 2
    assert_same(part[0], dataset[2])
    for fractions in ((0.5, 0.5), (0.99, 0.01)):
        with pytest.raises(ValueError, match="each part needs a patient"):
            part.split(fractions)
    first, second = dataset.split((2 / 3, 1 / 3))
    assert (len(first), len(second)) == (4, 2)
    assert not set(first.patients.tolist()) & set(second.patients.tolist())

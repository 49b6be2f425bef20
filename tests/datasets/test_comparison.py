"""The one split and the one set of proposals of notebooks 06 to 08."""

import pytest
import torch

from labkit.datasets import comparison
from labkit.datasets.phantoms import mammograms


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Three films each, and a cache of its own."""
    monkeypatch.setattr(comparison, "PARTS", {"train": (3, 0), "test": (2, 1)})
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))


def test_films_and_proposals_belong_together():
    films, proposals = comparison.comparison_films("train")
    assert len(films) == len(proposals) == 3
    for boxes in proposals:
        sides = boxes[:, 2:] - boxes[:, :2]
        assert len(boxes) > 20
        assert boxes.min() >= 0
        assert (boxes[:, 2] <= 128).all()
        assert (boxes[:, 3] <= 160).all()
        assert (sides >= comparison.SMALLEST).all()
        assert (sides <= comparison.LARGEST).all()


def test_the_second_call_finds_them_in_the_cache(monkeypatch):
    first = comparison.comparison_films("test")[1]
    monkeypatch.setattr(comparison, "propose", None)  # not to be called
    second = comparison.comparison_films("test")[1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_proposals_of_other_films_are_not_taken(monkeypatch):
    first = comparison.comparison_films("test")[1]
    monkeypatch.setattr(comparison, "mammograms", lambda count, seed: mammograms(count, seed=seed + 5))
    with pytest.warns(UserWarning, match="another recipe"):
        second = comparison.comparison_films("test")[1]
    assert len(first[0]) != len(second[0]) or not torch.equal(first[0], second[0])


def test_a_few_films_are_the_first_of_all():
    some, all_of_them = comparison.comparison_films("train", count=1), comparison.comparison_films("train")
    assert torch.equal(some[1][0], all_of_them[1][0])
    assert torch.equal(some[0].images[0], all_of_them[0].images[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("val",), "part must be one of train, test"),
        (("train", 9), "count must be at most 3"),
        (("train", 0), "count must be a whole number"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        comparison.comparison_films(arguments[0], count=arguments[1] if len(arguments) > 1 else None)

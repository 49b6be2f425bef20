"""Arguments as users write them: what counts as a whole number, a pair, a text."""

import re

import numpy as np
import pytest
import torch

from labkit.datasets.arguments import read_words, two_values, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor([3]), np.array(3)])
def test_whole_numbers_of_any_library(value):
    number = whole_number(value, "count", least=0, cure="take 1")
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], torch.tensor([3, 4]), 2, -3])
def test_what_is_no_whole_number_or_too_small_is_refused(value):
    with pytest.raises(ValueError, match=r"^count must be a whole number of at least 3, got .*; take one film$"):
        whole_number(value, "count", least=3, cure="take one film")


@pytest.mark.parametrize("pair", [(1, 2), [1, 2], np.array([1, 2]), torch.tensor([1, 2])])
def test_a_pair_is_taken_apart(pair):
    first, second = two_values(pair, "size must be (H, W); write (2, 3)")
    assert (int(first), int(second)) == (1, 2)


@pytest.mark.parametrize("value", [5, None, (1,), (1, 2, 3), ""])
def test_what_is_no_pair_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(f"size must be (H, W); write (2, 3), got {value!r}")):
        two_values(value, "size must be (H, W); write (2, 3)")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_words_with_and_without_a_mark(tmp_path, encoding):
    (tmp_path / "train.txt").write_bytes("größe\nBild_1\r\n".encode(encoding))
    assert read_words(tmp_path / "train.txt").split() == ["größe", "Bild_1"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_words_in_another_encoding_name_their_file(tmp_path, encoding):
    (tmp_path / "train.txt").write_bytes("größe Bild".encode(encoding))
    with pytest.raises(ValueError, match=r"train\.txt: expected text in UTF-8, got .*; save it as UTF-8 with a text"):
        read_words(tmp_path / "train.txt")


def test_plain_letters_in_utf_16_without_a_mark_are_seen(tmp_path):
    """They are valid UTF-8: each letter with a zero byte after it."""
    (tmp_path / "train.txt").write_bytes("Bild".encode("utf-16-le"))
    with pytest.raises(ValueError, match="got zero bytes as UTF-16 has them"):
        read_words(tmp_path / "train.txt")

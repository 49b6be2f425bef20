"""Arguments as users write them: whole numbers of any library, pairs, texts in one encoding or another."""

import operator
from pathlib import Path
from typing import Any


def whole_number(value: Any, name: str, *, least: int, cure: str) -> int:
    """The value as an int; NumPy's integers and tensors of one whole number count too.

    Args:
        value: what the user gave.
        name: of the argument.
        least: the smallest number that is allowed.
        cure: what to do instead, for the message.

    Raises:
        ValueError: it is no whole number, or too small.

    Example:
        >>> import numpy
        >>> whole_number(numpy.int64(3), "count", least=1, cure="ask for one film or more")
        3
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}; {cure}")
    return number


def two_values(value: Any, message: str) -> tuple[Any, Any]:
    """The two parts of a pair, such as (H, W).

    Raises:
        ValueError: with this message, where the value is no pair.
    """
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"{message}, got {value!r}") from None
    return first, second


def read_words(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: it is in another encoding; the message names the file and says what to do.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error.reason}; {SAVE_AGAIN}") from error
    if "\0" in text:  # UTF-16 of plain letters passes for UTF-8 where its mark lacks
        raise ValueError(f"{path}: expected text in UTF-8, got zero bytes as UTF-16 has them; {SAVE_AGAIN}")
    return text


SAVE_AGAIN = "save it as UTF-8 with a text editor, or take the original file"

"""What every test of a check needs."""

import pytest

from labkit.checks import CheckFailed


@pytest.fixture
def strict(monkeypatch):
    """Wrong answers raise."""
    monkeypatch.setenv("LABKIT_STRICT", "1")


@pytest.fixture
def message_of(monkeypatch):
    """What a check says of a wrong answer: `message_of(check, wrong)`."""

    def message(check, wrong) -> str:
        monkeypatch.setenv("LABKIT_STRICT", "1")
        with pytest.raises(CheckFailed) as caught:
            check(wrong)
        return str(caught.value)

    return message


@pytest.fixture
def lenient(monkeypatch):
    """Wrong answers are explained and the reference comes back."""
    monkeypatch.delenv("LABKIT_STRICT", raising=False)

"""What every test of a check needs."""

import importlib

import pytest

from labkit import checks


@pytest.fixture
def strict(monkeypatch):
    """Wrong answers raise."""
    monkeypatch.setenv("LABKIT_STRICT", "1")


@pytest.fixture
def message_of(monkeypatch):
    """What a check says of a wrong answer: `message_of(check, wrong)`."""

    def message(check, wrong) -> str:
        monkeypatch.setenv("LABKIT_STRICT", "1")
        with pytest.raises(checks.CheckFailed) as caught:
            check(wrong)
        return str(caught.value)

    return message


@pytest.fixture
def lenient(monkeypatch):
    """Wrong answers are explained and the reference comes back."""
    monkeypatch.delenv("LABKIT_STRICT", raising=False)


@pytest.fixture
def record_of(monkeypatch):
    """What a check hands to `run_check`: `record_of("nms", function)["cases"]`, and what it tries, as "student"."""

    def record(name, function) -> dict:
        seen = {}

        def run_check(what, student, reference, cases, **options):
            seen.update(student=student, reference=reference, cases=cases, **options)
            return student

        module = importlib.import_module(f"labkit.checks.{checks.EXERCISES[name]}")
        monkeypatch.setattr(module, "run_check", run_check)
        getattr(checks, name)(function)
        monkeypatch.undo()
        return seen

    return record

"""Kernels whose threads wait asleep, unless the user has said how they are to wait."""

import os

import pytest
from jupyter_client.manager import start_new_kernel

from labkit.waiting import USERS_CHOICE, quiet_environment


@pytest.fixture
def plain(monkeypatch):
    """This process without any of the user's own choices."""
    for name in USERS_CHOICE:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def seen_by_a_kernel(environment, tmp_path) -> str:
    """What a notebook's kernel finds in its environment."""
    manager, client = start_new_kernel(kernel_name="python3", env=environment, cwd=str(tmp_path))
    told = []
    try:
        client.execute_interactive(
            "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))",
            output_hook=lambda message: told.append(message["content"].get("text", "")),
            timeout=60,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(told).strip()


def test_a_kernel_waits_asleep(plain, tmp_path):
    assert seen_by_a_kernel(quiet_environment(os.environ), tmp_path) == "PASSIVE None"


@pytest.mark.parametrize("name", USERS_CHOICE)
def test_a_setting_of_the_user_wins(plain, name):
    plain.setenv(name, "7")
    assert quiet_environment(os.environ) == dict(os.environ)


def test_the_given_environment_stays_as_it_is(plain):
    before = dict(os.environ)
    assert quiet_environment(os.environ) == {**before, "OMP_WAIT_POLICY": "PASSIVE"}
    assert dict(os.environ) == before

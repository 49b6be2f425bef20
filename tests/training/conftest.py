"""What the tests of training share."""

import pytest
from trainings import run_script

from labkit.device import one_core


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """As in the forks: another number of threads adds in another order, and the last digits differ."""
    with one_core():
        yield


@pytest.fixture(scope="package")
def forked(tmp_path_factory):
    """A folder in which processes of their own have trained: see `in_forks`."""
    folder = tmp_path_factory.mktemp("forked")
    done = run_script("forks", folder)
    assert done.returncode == 0, done.stderr
    return folder

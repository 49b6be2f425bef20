"""What the tests of detection share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def float32_as_it_is(monkeypatch):
    """The tolerances of these tests are those of float32, so float32 is what they set: every product in it (no TF32
    on a GPU, no bf16 on a CPU), nothing cast on the way, and fp32 where code asks the machine what it trains in.
    """
    monkeypatch.setenv("LABKIT_PRECISION", "fp32")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", enabled=False):
        yield
    torch.set_float32_matmul_precision(before)

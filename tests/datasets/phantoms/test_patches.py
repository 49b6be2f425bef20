"""Patches: every other one with a mass."""

import numpy as np
import pytest
import torch

from labkit.datasets.phantoms import lesion_patches


def test_patches_are_half_lesions():
    images, has_lesion = lesion_patches(6, size=48, seed=1)
    assert images.shape == (6, 1, 48, 48)
    assert has_lesion.tolist() == [0, 1] * 3
    assert has_lesion.dtype == torch.int64
    assert torch.equal(images[:2], lesion_patches(2, size=48, seed=1)[0])


def test_whole_numbers_of_any_library_are_whole_numbers():
    asked = lesion_patches(torch.tensor(2), size=np.int64(48), seed=np.uint8(3))
    assert torch.equal(asked[0], lesion_patches(2, size=48, seed=3)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be"),
        ({"count": 1, "size": 20}, "size must be"),
        ({"count": 1, "seed": -2}, "seed must be"),
        ({"count": 1, "seed": 1.5}, "seed must be"),
        ({"count": 1, "cnr": (2.0, 1.0)}, "cnr must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesion_patches(**arguments)

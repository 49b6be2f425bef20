"""Patches come from the images, from everywhere in them, in all eight ways, and a seed gives the same ones."""

import pytest
import torch

from labkit.denoising.patches import random_patches


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(count=3, height=7, width=9):
    """Every pixel of every image has a number of its own."""
    return torch.arange(float(count * height * width)).reshape(count, 1, height, width)


def windows(images, size):
    """Every square of the images, by its first pixel as laid down."""
    squares = images[:, 0].unfold(1, size, 1).unfold(2, size, 1)  # (n, tops, lefts, size, size)
    return squares.reshape(-1, size, size)


def lays(square):
    """The eight ways to lay a square down: turns, and turns of the mirror image."""
    return [torch.rot90(start, turn) for start in (square, square.flip(1)) for turn in range(4)]


def test_every_patch_is_a_square_of_an_image_laid_down_in_one_of_eight_ways():
    images = ramp()
    known = {tuple(way.flatten().tolist()) for square in windows(images, 4) for way in lays(square)}
    patches = random_patches(images, count=300, size=4, generator=seeded())
    assert patches.shape == (300, 1, 4, 4)
    assert all(tuple(patch.flatten().tolist()) in known for patch in patches)


def test_without_flips_every_patch_is_as_in_the_image():
    images = ramp()
    known = {tuple(square.flatten().tolist()) for square in windows(images, 4)}
    patches = random_patches(images, count=200, size=4, flips=False, generator=seeded())
    assert all(tuple(patch.flatten().tolist()) in known for patch in patches)


def test_every_image_every_place_and_every_way_comes_up_alike_often():
    images = ramp(2, 4, 5)
    expected = {tuple(way.flatten().tolist()): 0 for square in windows(images, 3) for way in lays(square)}
    assert len(expected) == 2 * 2 * 3 * 8
    for patch in random_patches(images, count=9600, size=3, generator=seeded()):
        expected[tuple(patch.flatten().tolist())] += 1
    assert 60 <= min(expected.values()) <= max(expected.values()) <= 145  # 100 expected, standard deviation 10


def test_a_patch_as_large_as_the_image_is_the_image():
    images = ramp(1, 5, 5)
    assert torch.equal(random_patches(images, count=1, size=5, flips=False, generator=seeded()), images)


def test_a_seed_gives_the_same_patches_and_flips_do_not_move_them():
    images = ramp()
    first, again = (random_patches(images, count=20, size=3, generator=seeded(4)) for _ in range(2))
    plain = random_patches(images, count=20, size=3, flips=False, generator=seeded(4))
    other = random_patches(images, count=20, size=3, generator=seeded(5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first.flatten(1).sort().values, plain.flatten(1).sort().values)
    assert not torch.equal(first, plain)


def test_the_global_seed_serves_where_no_generator_is_given():
    images = ramp()
    torch.manual_seed(3)
    first = random_patches(images, count=6, size=3)
    torch.manual_seed(3)
    assert torch.equal(random_patches(images, count=6, size=3), first)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_type_stays_and_images_are_not_changed(dtype):
    images = ramp().to(dtype)
    before = images.clone()
    patches = random_patches(images, count=5, size=3, generator=seeded())
    patches += 1  # a patch is a copy
    assert patches.dtype == dtype
    assert torch.equal(images, before)


def test_no_patches_are_an_empty_tensor():
    assert random_patches(ramp(), count=0, size=3).shape == (0, 1, 3, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_seed_gives_the_same_patches_on_a_gpu():
    images = ramp()
    there = random_patches(images.cuda(), count=20, size=3, generator=seeded())
    assert there.is_cuda
    assert torch.equal(there.cpu(), random_patches(images, count=20, size=3, generator=seeded()))


@pytest.mark.parametrize(
    ("images", "count", "size", "message"),
    [
        (torch.zeros(0, 1, 8, 8), 2, 4, r"images must hold at least one image, got \(0, 1, 8, 8\)"),
        (torch.zeros(3, 1, 8, 6), 2, 7, "the smaller side of the images, 6, got 7; take smaller patches or larger"),
        (torch.zeros(3, 1, 8, 6), 2, 0, "size must be between 1"),
        (torch.zeros(3, 1, 8, 6), -1, 4, "count must be 0 or more, got -1"),
        (torch.zeros(3, 8, 6), 2, 4, r"got \(3, 8, 6\); write images\[:, None\]"),
        (torch.zeros(8, 6), 2, 4, r"write images\[None, None\]"),
        (torch.zeros(2, 3, 8, 6), 2, 4, "average colours"),
        ([torch.zeros(1, 8, 6)], 2, 4, "must be a tensor, got list; stack them"),
    ],
)
def test_bad_input_says_what_to_write(images, count, size, message):
    with pytest.raises(ValueError, match=message):
        random_patches(images, count=count, size=size)

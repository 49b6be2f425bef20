"""The recipe of the denoisers: three DnCNN of 17 convolutions, and a U-Net each for chest films and mammograms.

    python data/weights/denoiser.py dncnn --images train400 --test set12
    python data/weights/denoiser.py xray
    python data/weights/denoiser.py mammogram --images mini-mias

train400 and set12 are the grey images of the DnCNN paper (github.com/cszn/DnCNN: 400 of 180 x 180 to learn from, 12
to test on), mini-mias is the folder that `labkit data get mini-mias` makes. Films of the women of the last quarter are
held out; a chest film is a phantom, the held-out ones are of other patients.

DnCNN: a trunk learns noise of every level up to 55 of 255 at one rate; from it three branches go on, for 15, for 25 and
for all levels, while their rate falls to 0. So three networks cost little more than one.
"""

import argparse
import contextlib
import copy
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from skimage import data, io
from torch import Tensor, nn

from labkit.datasets import mini_mias
from labkit.datasets.phantoms.chest import chest_films
from labkit.denoising import filters
from labkit.denoising.metrics import psnr
from labkit.denoising.networks import DnCNN
from labkit.denoising.noise import gaussian_noise
from labkit.denoising.patches import random_patches
from labkit.denoising.pretrained import LEVELS, mammogram_denoiser, xray_denoiser
from labkit.device import pick_device, precision, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, SIGMAS = 0, (15, 25)
DNCNN = {"trunk": 5000, "branch": 1500, "count": 4, "size": 48, "rate": 1e-3}
UNET = {"xray": 8000, "mammogram": 5000, "count": 8, "size": 64, "rate": 4e-3}
NOISE = {15: (15, 15), 25: (25, 25), None: (0, 55)}  # of 255
FILMS = (5, 50)


class NoisyPatches:
    """Batches (noisy, clean) of patches; every batch has places, turns, noise and levels of its own."""

    def __init__(self, images: list[Tensor], levels: tuple[float, float], *, steps: int, count: int, size: int):
        self.images, self.levels, self.steps, self.count, self.size = images, levels, steps, count, size

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if step >= self.steps:
            raise IndexError(step)
        generator = torch.Generator().manual_seed(1000 * SEED + step)
        images = self.images[step % len(self.images)]
        clean = random_patches(images, count=self.count, size=self.size, generator=generator)
        low, high = self.levels
        sigma = (low + (high - low) * torch.rand(self.count, generator=generator)) / 255
        return gaussian_noise(clean, sigma=sigma, generator=generator), clean


def half_squares(denoised: Tensor, clean: Tensor) -> Tensor:
    """Zhang's loss: half the squared difference, summed over pixels, mean over the patches."""
    return 0.5 * (denoised - clean).square().sum() / len(clean)


def train(network: nn.Module, batches: NoisyPatches, rate: float, *, falls: bool) -> nn.Module:
    """AdamW, a short rise of the rate, then the same rate or a straight fall to 0."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    steps = len(batches)
    rise = min(200, steps // 10 + 1)

    def share(step: int) -> float:
        return min(1.0, (step + 1) / rise) * (1 - step / steps if falls else 1.0)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    fit(network, batches, epochs=1, loss=half_squares, optimizer=optimizer, scheduler=scheduler)
    return network.to("cpu")


@torch.no_grad()
def figures(
    denoise: Callable[[Tensor], Tensor], images: list[Tensor], sigmas: tuple[int, ...] = SIGMAS
) -> dict[str, float]:
    """Mean PSNR in dB at each sigma; noise is not clipped, what comes out is, as bytes would be."""
    values = {}
    for sigma in sigmas:
        generator = torch.Generator().manual_seed(sigma)
        noisy = [gaussian_noise(image[None], sigma=sigma / 255, generator=generator) for image in images]
        found = [
            psnr(denoise(given).clamp(0, 1), image[None], data_range=1.0)
            for given, image in zip(noisy, images, strict=True)
        ]
        values[f"sigma {sigma}"] = round(float(torch.cat(found).mean()), 3)
    return values


def rivals(images: list[Tensor]) -> dict[str, dict[str, float]]:
    """The same figures of the filters, each told the true sigma; BM3D where it is installed."""
    found = {}
    for name in ("bm3d", "nlm", "tv"):
        with contextlib.suppress(ImportError):
            told = [partial(getattr(filters, name), sigma=sigma / 255) for sigma in SIGMAS]
            low, high = (figures(one, images, (sigma,)) for one, sigma in zip(told, SIGMAS, strict=True))
            found[name] = low | high
    return found


def camera() -> list[Tensor]:
    """scikit-image's photographer, 256 x 256: an image that is everywhere, to see that the weights do what they did."""
    return [nn.functional.avg_pool2d(torch.from_numpy(data.camera()).float()[None] / 255, 2)]


def folder_of(folder: Path) -> list[Tensor]:
    """The grey images of a folder, each (1, H, W) in [0, 1], by name."""
    files = sorted(folder.expanduser().glob("*.png"))
    if not files:
        raise SystemExit(f"{folder} must hold PNG images, got none; name the folder with --images or --test")
    return [torch.from_numpy(io.imread(file, as_gray=True)).float()[None] / 255 for file in files]


def breasts(folder: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Films of mini-MIAS, those to learn from at 0.4 and at 0.8 mm, and 256 x 256 of each held-out one at 0.4 mm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # films without a circle are left out; here only the images count
        fine = mini_mias.load(folder, reduce=2, mask=True)
    some, held_out = fine.split((0.75, 0.25), seed=SEED)
    films = torch.stack([_middle(some[i][0], 384) for i in range(len(some))])
    return [films, nn.functional.avg_pool2d(films, 2)], [_middle(held_out[i][0], 256) for i in range(len(held_out))]


def _middle(film: Tensor, size: int) -> Tensor:
    """The square around the middle of what is not black, inside the film."""
    middle = (film[0] > 0).nonzero().float().mean(dim=0)  # row, column
    top, left = (int(min(max(at - size / 2, 0), film.shape[-1] - size)) for at in middle)  # a film is square
    return film[:, top : top + size, left : left + size].contiguous()


def save(network: nn.Module, name: str, options, seconds: float, held_out: list[Tensor], what: str, **card) -> None:
    """Write the weights and their card, and say what was reached."""
    card |= {"seed": SEED, "precision": precision(pick_device()), "minutes": round(seconds / 60, 1)}
    sigmas = (int(name.rpartition("-")[2]),) if name[-1].isdigit() else SIGMAS
    card["held out"] = {"images": what, "count": len(held_out), **figures(network, held_out, sigmas)}
    card["camera"] = figures(network, camera(), sigmas)
    save_weights(network, name, folder=options.output.expanduser(), **card)
    print(name, card, flush=True)


def make_dncnn(options) -> None:
    """The trunk and its three branches."""
    images, test = [torch.stack(folder_of(options.images))], folder_of(options.test)
    count, size, rate = (DNCNN[word] for word in ("count", "size", "rate"))
    trunk_steps, branch_steps = (max(1, round(options.share * DNCNN[word])) for word in ("trunk", "branch"))
    begun = time.monotonic()
    seed_everything(SEED)
    trunk = DnCNN(batch_norm=False, scale=0.1)
    batches = NoisyPatches(images, NOISE[None], steps=trunk_steps, count=count, size=size)
    train(trunk, batches, rate, falls=False)
    spent = time.monotonic() - begun
    print(f"trunk: {spent / 60:.1f} minutes", flush=True)
    for sigma, name in LEVELS.items():
        begun = time.monotonic()
        branch = copy.deepcopy(trunk)
        batches = NoisyPatches(images, NOISE[sigma], steps=branch_steps, count=count, size=size)
        train(branch, batches, rate, falls=True)
        seconds = spent + time.monotonic() - begun
        network = DnCNN(batch_norm=False)  # its last layer counts in whole units, as a published one
        network.load_pairs(list(branch.parameters()))
        last = network.layers[-1]
        with torch.no_grad():
            last.weight *= branch.scale
            last.bias *= branch.scale
        save(network.eval(), name, options, seconds, test, "Set12", steps=[trunk_steps, branch_steps])


def make_unet(options) -> None:
    """One of the two U-Nets."""
    if options.what == "xray":
        network, images = xray_denoiser(pretrained=False), [chest_films(300, noise=False).images]
        held_out, what = list(chest_films(20, seed=1, noise=False).images), "chest phantoms of other patients"
    else:
        network, (images, held_out) = mammogram_denoiser(pretrained=False), breasts(options.images)
        what = "mini-MIAS, 256 x 256 of films of other women"
    begun, steps = time.monotonic(), max(1, round(options.share * UNET[options.what]))
    seed_everything(SEED)
    network.train()
    batches = NoisyPatches(images, FILMS, steps=steps, count=UNET["count"], size=UNET["size"])
    train(network, batches, UNET["rate"], falls=True)
    seconds = time.monotonic() - begun
    others = rivals(held_out)
    save(network.eval(), f"denoiser-{options.what}", options, seconds, held_out, what, steps=steps, filters=others)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dncnn", "xray", "mammogram"))
    parser.add_argument("--images", type=Path, help="folder of images to learn from")
    parser.add_argument("--test", type=Path, help="folder of images to test DnCNN on")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their cards")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, for a quick try")
    options = parser.parse_args()
    if (options.what != "xray" and options.images is None) or (options.what == "dncnn" and options.test is None):
        parser.error("name the folders with --images, and --test for dncnn")
    {"dncnn": make_dncnn}.get(options.what, make_unet)(options)

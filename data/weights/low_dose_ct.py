"""The recipe of the generators of notebook 13 and of the network whose features they were judged by.

    python data/weights/low_dose_ct.py [--output DIR] [--share 1.0]

On the 48 training slices of `ct_scans`, patches of 64 x 64, in bf16 where the processor computes in it; about half an
hour on two CPU cores. First the network that names tissue, then CNN-MSE from nothing, then all others from CNN-MSE.
Every figure is of the 24 test slices of other bodies, measured once, at the end.
"""

import argparse
import copy
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from labkit.datasets.ct_scans import Patches, Scans, ct_scans
from labkit.denoising.low_dose_ct import (
    METHODS,
    TISSUES,
    WINDOW,
    AdversarialPair,
    Critic,
    FeatureLoss,
    Generator,
    TissueNet,
    critic_loss,
    denoise,
    gan_critic_loss,
    gan_generator_loss,
    generator_loss,
    shipped_networks,
    to_units,
)
from labkit.denoising.metrics import psnr, ssim
from labkit.denoising.regions import roi_statistics
from labkit.device import pick_device, precision, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, BATCH = 0, 16
STEPS = {"tissue": 500, "CNN-MSE": 700, "CNN-feature": 150, "adversarial": 160}
RATES = {"tissue": 2e-3, "CNN-MSE": 2e-3, "CNN-feature": 3e-4, "generator": 1e-4, "critic": 4e-4}
# Content losses are small beside a critic's: the weights make both pull about as hard on a pixel.
WEIGHTS = {"MSE": 100.0, "feature": 5.0}


def loader(*images: Tensor, steps: int, batch: int = BATCH) -> DataLoader:
    """Batches of patches for so many steps."""
    return DataLoader(Patches(*images, count=steps * batch), batch)


def one_cycle(network: nn.Module, rate: float, steps: int):
    """Adam, and its rate up and down once."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)


def train_tissue(scans: Scans, steps: int) -> TissueNet:
    """The network that names tissue on normal dose and without noise; masks are averaged to its cells."""
    masks = torch.stack([scans.masks[name] for name in TISSUES], dim=1).float()
    slices, masks = to_units(torch.cat([scans.normal, scans.noise_free])), torch.cat([masks, masks])
    network = TissueNet()
    optimizer, scheduler = one_cycle(network, RATES["tissue"], steps)

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, F.avg_pool2d(wanted, 4))

    batches = loader(slices, masks, steps=steps)
    fit(network, batches, epochs=1, loss=loss, optimizer=optimizer, scheduler=scheduler, progress=False)
    return network


def train_cnn(scans: Scans, generator: Generator, steps: int, *, rate: float, loss) -> Generator:
    """A generator that makes one loss small, without a critic."""
    optimizer, scheduler = one_cycle(generator, rate, steps)
    batches = loader(to_units(scans.low), to_units(scans.normal), steps=steps)
    fit(generator, batches, epochs=1, loss=loss, optimizer=optimizer, scheduler=scheduler, progress=False)
    return generator


def train_adversarial(scans: Scans, generator: Generator, steps: int, *, content, weight: float, gan: bool):
    """A generator and a critic that are trained against each other; the generator."""
    losses = (gan_critic_loss, gan_generator_loss) if gan else (critic_loss, generator_loss)
    pair = AdversarialPair(generator, Critic(64), content=content, weight=weight, judge=losses[0], please=losses[1])
    groups = [
        {"params": list(generator.parameters()), "lr": RATES["generator"]},
        {"params": list(pair.critic.parameters()), "lr": RATES["critic"]},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.5, 0.9))  # the paper's
    batches = loader(to_units(scans.low), to_units(scans.normal), steps=steps, batch=BATCH // 2)
    fit(pair, batches, epochs=1, loss=None, optimizer=optimizer, progress=False)
    return generator


def train_all(scans: Scans, *, share: float = 1.0) -> nn.ModuleDict:
    """Every network, one after the other."""
    networks = shipped_networks()
    steps = {name: max(1, round(count * share)) for name, count in STEPS.items()}
    started = time.monotonic()

    def keep(name: str, network: nn.Module) -> None:
        networks[name].load_state_dict(network.cpu().state_dict())
        print(f"{time.monotonic() - started:6.0f} s  {name}", flush=True)

    seed_everything(SEED)
    keep("tissue", train_tissue(scans, steps["tissue"]))
    features = FeatureLoss(copy.deepcopy(networks["tissue"].features))
    train = partial(train_cnn, scans, loss=F.mse_loss, rate=RATES["CNN-MSE"])
    keep("CNN-MSE", train(Generator(), steps["CNN-MSE"]))
    start = partial(copy.deepcopy, networks["CNN-MSE"])
    keep("CNN-feature", train_cnn(scans, start(), steps["CNN-feature"], rate=RATES["CNN-feature"], loss=features))
    contents = {"WGAN-MSE": (F.mse_loss, WEIGHTS["MSE"]), "WGAN-feature": (features, WEIGHTS["feature"])}
    for name in ("WGAN-feature", "WGAN-MSE", "WGAN", "GAN"):
        content, weight = contents.get(name, (None, 1.0))
        seed_everything(SEED)
        options = {"content": content, "weight": weight, "gan": name == "GAN"}
        keep(name, train_adversarial(scans, start(), steps["adversarial"], **options))
    return networks


def figures(slices: Tensor, scans: Scans) -> dict[str, float]:
    """PSNR and SSIM in the window beside normal dose, and the mean deviation in HU in the discs of heart and liver."""
    shown, wanted = slices.clamp(*WINDOW), scans.normal.clamp(*WINDOW)
    wide = WINDOW[1] - WINDOW[0]
    sd = torch.stack([roi_statistics(one, disc).sd[0] for one, disc in zip(slices, scans.discs, strict=True)])
    values = {
        "PSNR": psnr(shown, wanted, data_range=wide).mean(),
        "SSIM": ssim(shown, wanted, data_range=wide).mean(),
        "SD heart": sd[::2].mean(),
        "SD liver": sd[1::2].mean(),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, for a quick try")
    options = parser.parse_args()
    begun = time.monotonic()
    networks = train_all(ct_scans("train"), share=options.share)
    minutes = (time.monotonic() - begun) / 60
    test = ct_scans("test")
    normal = {name: value for name, value in figures(test.normal, test).items() if "SD" in name}  # it is the reference
    reached = {"low dose": figures(test.low, test), "normal dose": normal}
    reached |= {name: figures(denoise(networks[name], test.low), test) for name in METHODS}
    few = ct_scans("test", count=2)
    card = {
        "seed": SEED,
        "precision": precision(pick_device()),
        "minutes": round(minutes, 1),
        "steps": {name: round(count * options.share) for name, count in STEPS.items()},
        "held out": {"slices": len(test.low), "window": "-160 to 240 HU", **reached},
        "first two slices": figures(denoise(networks["CNN-MSE"], few.low), few),
    }
    print(save_weights(networks, "low_dose_ct", folder=options.output.expanduser(), **card))
    for name, values in reached.items():
        print(f"{name:<14}", values)

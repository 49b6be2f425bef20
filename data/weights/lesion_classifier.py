"""The recipe of the shipped lesion classifier, whose frozen backbone notebook 01 starts from.

    python data/weights/lesion_classifier.py [--output DIR]

Phantom patches of breast tissue, every other one with a mass; about two minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from labkit.datasets.phantoms import lesion_patches
from labkit.detection.localizer import LesionClassifier
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, TRAIN, HELD_OUT, EPOCHS, BATCH, RATE = 0, 4500, 600, 12, 50, 3e-3


class Flipped(TensorDataset):
    """Patches, each turned over at random: tissue has no up or down."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        axes = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
        return image.flip(axes), label


def train() -> tuple[LesionClassifier, dict[str, float]]:
    """The trained classifier and its accuracy on patches of another seed."""
    seed_everything(SEED)
    device = pick_device()
    model = LesionClassifier()
    loader = DataLoader(Flipped(*lesion_patches(TRAIN, seed=1)), BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * len(loader))
    fit(
        model,
        loader,
        epochs=EPOCHS,
        loss=torch.nn.functional.cross_entropy,
        optimizer=optimizer,
        scheduler=scheduler,
        device=device,
        precision="fp32",
    )
    return model, {"accuracy": accuracy(model)}


@torch.no_grad()
def accuracy(model: LesionClassifier) -> float:
    """Share of held-out patches called rightly."""
    images, labels = lesion_patches(HELD_OUT, seed=2)
    device = next(model.parameters()).device
    called = torch.cat([model.eval()(part.to(device)).argmax(1).cpu() for part in images.split(100)])
    return round((called == labels).float().mean().item(), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    options = parser.parse_args()
    model, figures = train()
    card = {"seed": SEED, "epochs": EPOCHS, "patches": TRAIN, "held out": {"patches": HELD_OUT, **figures}}
    print(save_weights(model, "lesion_classifier", folder=options.output, **card), figures)

"""The recipe of the trained lesion classifier, whose frozen backbone notebook 01 starts from.

    python data/weights/lesion_classifier.py [--output DIR] [--patches N] [--epochs N]

Phantom patches of breast tissue, every other one with a mass; about two minutes on two CPU cores. In several
processes, each with batches of its own, it is started as docs/several_gpus.md says.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from labkit.datasets.phantoms import lesion_patches
from labkit.detection.localizer import LesionClassifier
from labkit.device import pick_device, seed_everything
from labkit.training import first_process, fit
from labkit.weights import FOLDER, save_weights

SEED, TRAIN, HELD_OUT, EPOCHS, BATCH, RATE = 0, 4500, 600, 12, 50, 3e-3


class Flipped(TensorDataset):
    """Patches, each turned over at random: tissue has no up or down."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        axes = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
        return image.flip(axes), label


def train(patches: int = TRAIN, epochs: int = EPOCHS) -> tuple[LesionClassifier, list[float]]:
    """The trained classifier and the loss of each epoch."""
    seed_everything(SEED)
    model = LesionClassifier()
    loader = DataLoader(Flipped(*lesion_patches(patches, seed=1)), BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader))
    history = fit(
        model,
        loader,
        epochs=epochs,
        loss=torch.nn.functional.cross_entropy,
        optimizer=optimizer,
        scheduler=scheduler,
        device=pick_device(),
        precision="fp32",
    )
    return model, history["loss"]


@torch.no_grad()
def accuracy(model: LesionClassifier) -> float:
    """Share of held-out patches called rightly."""
    images, labels = lesion_patches(HELD_OUT, seed=2)
    device = next(model.parameters()).device
    called = torch.cat([model.eval()(part.to(device)).argmax(1).cpu() for part in images.split(100)])
    return round((called == labels).float().mean().item(), 4)


def trial() -> dict:
    """The training of a few steps, which the tests make again: its settings, and the loss of each epoch."""
    patches, epochs = 8 * BATCH, 2
    return {"patches": patches, "epochs": epochs, "loss": [round(value, 4) for value in train(patches, epochs)[1]]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--patches", type=int, default=TRAIN)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    model, _ = train(options.patches, options.epochs)
    if first_process():
        figures = {"patches": HELD_OUT, "accuracy": accuracy(model)}
        card = {"seed": SEED, "epochs": options.epochs, "patches": options.patches, "held out": figures}
        if torch.distributed.is_initialized():
            card["processes"] = torch.distributed.get_world_size()
        elif (options.patches, options.epochs) == (TRAIN, EPOCHS):
            card["trial"] = trial()
        print(save_weights(model, "lesion_classifier", folder=options.output.expanduser(), **card), figures)

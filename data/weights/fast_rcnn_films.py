"""The recipe of Fast R-CNN on the course's films, which notebook 08 compares with R-CNN and Faster R-CNN.

    python data/weights/fast_rcnn_films.py [--output DIR]

The training of notebook 07, and how it is measured; a few minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import torch
from rcnn_films import figures, one_cycle  # the recipe beside this one
from torch.utils.data import DataLoader, Dataset

from labkit.datasets.augment import flip
from labkit.datasets.comparison import comparison_films
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.shipped import fast_rcnn
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, FAST_EPOCHS, FAST_RATE = 0, 8, 2e-3


class Turned(Dataset):
    """Films with their proposals and truths, mirrored together at random."""

    def __init__(self, films, proposals):
        self.films, self.proposals = films, proposals

    def __len__(self):
        return len(self.films)

    def __getitem__(self, row):
        image, target = self.films[row]
        boxes = {"boxes": self.proposals[row]}
        for axis in "xy":
            if torch.rand(()) < 0.5:
                boxes = flip(image, boxes, axis=axis)[1]
                image, target = flip(image, target, axis=axis)
        return image, boxes["boxes"], target


def as_three_lists(rows):
    """(images, proposals, targets), a list each."""
    return [list(part) for part in zip(*rows, strict=True)]


def train_fast_rcnn(films, proposals, device) -> FastRCNN:
    """One training, end to end."""
    seed_everything(SEED)
    model = fast_rcnn(pretrained=False)
    loader = DataLoader(
        Turned(films, proposals),
        8,
        shuffle=True,
        drop_last=True,
        collate_fn=as_three_lists,
    )
    optimizer, scheduler = one_cycle(model, FAST_RATE, FAST_EPOCHS * len(loader))
    fit(model, loader, epochs=FAST_EPOCHS, loss=None, optimizer=optimizer, scheduler=scheduler, device=device)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    options = parser.parse_args()
    test, films = comparison_films("test"), comparison_films("train")
    model = train_fast_rcnn(*films, pick_device())
    card = {"seed": SEED, "films": len(films[0]), "held out": {"films": len(test[0]), **figures(model, *test)}}
    print(save_weights(model, "fast_rcnn_films", folder=options.output, **card), card["held out"])

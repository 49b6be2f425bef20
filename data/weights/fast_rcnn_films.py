"""The recipe of Fast R-CNN on the course's films, which notebook 08 compares with R-CNN and Faster R-CNN.

    python data/weights/fast_rcnn_films.py [--output DIR]

The training of notebook 07, and how it is measured; a few minutes on two CPU cores.
"""

import torch
from rcnn_films import SEED, one_cycle, ship  # the recipe beside this one
from torch.utils.data import DataLoader, Dataset

from labkit.datasets.augment import flip
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.pretrained import fast_rcnn
from labkit.device import seed_everything
from labkit.training import fit

EPOCHS, BATCH, RATE = 8, 8, 2e-3


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
    films_and_proposals = Turned(films, proposals)
    loader = DataLoader(films_and_proposals, BATCH, shuffle=True, drop_last=True, collate_fn=as_three_lists)
    optimizer, scheduler = one_cycle(model, RATE, EPOCHS * len(loader))
    fit(model, loader, epochs=EPOCHS, loss=None, optimizer=optimizer, scheduler=scheduler, device=device)
    return model


if __name__ == "__main__":
    ship("fast_rcnn_films", train_fast_rcnn, __doc__)

"""The recipe of R-CNN and Fast R-CNN on the course's films, which notebook 08 compares with Faster R-CNN.

    python data/weights/rcnn_line.py [--output DIR] [--only rcnn|fast_rcnn]

The same films, proposals, backbone and settings as in notebooks 06 and 07, where the same steps are taken one by one; a
few minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from labkit.datasets.augment import flip
from labkit.datasets.comparison import comparison_films
from labkit.detection.boxes import encode_boxes
from labkit.detection.evaluation import average_precision
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.rcnn import (
    RCNN,
    RegionNetwork,
    class_overlaps,
    crop_and_resize,
    fit_svm,
    proposal_features,
    ridge,
)
from labkit.detection.roi_head import match_proposals, sample
from labkit.detection.shipped import fast_rcnn, film_backbone
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, CLASSES = 0, 3
CROPS, CROP_EPOCHS, CROP_RATE = 32, 4, 1e-3  # warped proposals a film; fine-tuning
KEPT, NEAR, PENALTY = 80, 0.6, 300.0  # proposals a film whose features are kept; near a truth; of the ridge
FAST_EPOCHS, FAST_RATE = 8, 2e-3


class WarpedProposals(Dataset):
    """Of each film some warped proposals (CROPS, 1, size, size) and their labels, drawn anew each time."""

    def __init__(self, films, proposals, *, size: int, context: int = 4):
        self.films, self.proposals, self.size, self.context = films, proposals, size, context

    def __len__(self):
        return len(self.films)

    def __getitem__(self, row):
        image, target = self.films[row]
        boxes = torch.cat([self.proposals[row], target["boxes"]])
        matches = match_proposals(boxes, target["boxes"], positive_iou=0.5, negative_iou=0.5)
        positive, negative = sample(matches, CROPS, 0.33)
        labels = torch.cat([target["labels"][matches[positive]], torch.zeros_like(negative)])
        image = (image - 0.5) / 0.25
        crops = crop_and_resize(image, boxes[torch.cat([positive, negative])], size=self.size, context=self.context)
        axes = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
        return crops.flip(axes), labels


def as_one(pairs):
    """One batch of all crops."""
    crops, labels = zip(*pairs, strict=True)
    return torch.cat(crops), torch.cat(labels)


def one_cycle(model, rate, steps):
    """AdamW and its schedule."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)


def train_rcnn(films, proposals, device) -> RCNN:
    """Three trainings, one after the other."""
    seed_everything(SEED)
    network = RegionNetwork(film_backbone(), CLASSES)
    crops = WarpedProposals(films, proposals, size=network.size)
    loader = DataLoader(crops, 4, shuffle=True, collate_fn=as_one)
    optimizer, scheduler = one_cycle(network, CROP_RATE, CROP_EPOCHS * len(loader))
    fit(
        network,
        loader,
        epochs=CROP_EPOCHS,
        loss=cross_entropy,
        optimizer=optimizer,
        scheduler=scheduler,
        device=device,
    )
    rows, overlaps, truths, boxes = [], [], [], []
    for (image, target), found in zip(films, proposals, strict=True):
        found = torch.cat([target["boxes"], found[torch.randperm(len(found))[:KEPT]]])
        rows.append(proposal_features(network, image.to(device), found.to(device)).cpu())
        iou, truth = class_overlaps(found, target["boxes"], target["labels"], num_classes=CLASSES)
        overlaps.append(iou), truths.append(truth), boxes.append(found)
    rows, overlaps, truths, boxes = (torch.cat(part) for part in (rows, overlaps, truths, boxes))
    weights, biases, moves = [], [], []
    for k in range(CLASSES - 1):
        iou = overlaps[:, k]
        signs = torch.where(iou >= 0.7, 1, torch.where(iou < 0.3, -1, 0))
        weight, bias, _ = fit_svm(rows, signs)
        near = iou > NEAR
        moves.append(ridge(rows[near], encode_boxes(truths[near, k], boxes[near]), PENALTY))
        weights.append(weight), biases.append(bias)
    return RCNN(network, torch.stack(weights), torch.stack(biases), torch.stack(moves))


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


def train_fast_rcnn(films, proposals, device) -> FastRCNN:
    """One training, end to end."""
    seed_everything(SEED)
    model = fast_rcnn(pretrained=False)
    loader = DataLoader(
        Turned(films, proposals), 8, shuffle=True, drop_last=True, collate_fn=lambda b: [list(p) for p in zip(*b, strict=True)]
    )
    optimizer, scheduler = one_cycle(model, FAST_RATE, FAST_EPOCHS * len(loader))
    fit(model, loader, epochs=FAST_EPOCHS, loss=None, optimizer=optimizer, scheduler=scheduler, device=device)
    return model


@torch.no_grad()
def figures(model, films, proposals) -> dict[str, float]:
    """AP at IoU 0.5 of each class and the mean."""
    device = next(model.parameters()).device
    found = []
    for image, boxes in zip(films.images, proposals, strict=True):
        one = model.eval()([image.to(device)], [boxes.to(device)])[0]
        found.append({key: value.cpu() for key, value in one.items()})
    values = average_precision(found, films.targets)
    names = {1: "benign", 2: "malignant", "mean": "AP50"}
    return {names[key]: round(float(value), 4) for key, value in values.items()}


TRAININGS = {"rcnn": train_rcnn, "fast_rcnn": train_fast_rcnn}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their cards")
    parser.add_argument("--only", choices=TRAININGS, help="one of the two")
    options = parser.parse_args()
    test, train = comparison_films("test"), comparison_films("train")
    for name, training in TRAININGS.items():
        if options.only in (None, name):
            model = training(*train, pick_device())
            card = {"seed": SEED, "films": len(train[0]), "held out": {"films": len(test[0]), **figures(model, *test)}}
            print(save_weights(model, f"{name}_films", folder=options.output, **card), card["held out"], flush=True)

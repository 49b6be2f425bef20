"""The recipe of R-CNN on the course's films, which notebook 08 compares with Fast and Faster R-CNN.

    python data/weights/rcnn_films.py [--output DIR]

The steps of notebook 06, one after the other, on crops of 48 pixels; a few minutes on two CPU cores.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from labkit.datasets.comparison import comparison_films
from labkit.detection.boxes import encode_boxes
from labkit.detection.evaluation import average_precision
from labkit.detection.matching import match_proposals, sample
from labkit.detection.pretrained import film_backbone
from labkit.detection.rcnn import (
    CONTEXT,
    RCNN,
    RegionNetwork,
    class_overlaps,
    crop_and_resize,
    fit_svm,
    proposal_features,
    ridge,
)
from labkit.device import autocast, pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, CLASSES = 0, 3
CROPS, CROP_EPOCHS, CROP_RATE = 32, 6, 1e-3  # warped proposals a film; fine-tuning
POSITIVE = 0.6  # IoU from which a proposal is an example for the SVM
KEPT, NEAR, PENALTY = 200, 0.6, 0.3  # proposals a film whose features are kept; near a truth; of the ridge


class WarpedProposals(Dataset):
    """Of each film some warped proposals (CROPS, 1, size, size) and their labels, drawn anew each time."""

    def __init__(self, films, proposals, *, size: int, context: int):
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
    crops = WarpedProposals(films, proposals, size=network.size, context=CONTEXT)
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
        with autocast(device):
            rows.append(proposal_features(network, image.to(device), found.to(device)).cpu())
        iou, truth = class_overlaps(found, target["boxes"], target["labels"], num_classes=CLASSES)
        overlaps.append(iou)
        truths.append(truth)
        boxes.append(found)
    return RCNN(network, *_fit(*map(torch.cat, (rows, overlaps, truths, boxes))))


def _fit(rows: Tensor, overlaps: Tensor, truths: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, biases and box regression of every class, from the features of all films' proposals."""
    weights, biases, moves = [], [], []
    for k in range(CLASSES - 1):
        iou = overlaps[:, k]
        signs = torch.where(iou >= POSITIVE, 1, torch.where(iou < 0.3, -1, 0))
        weight, bias, _ = fit_svm(rows, signs)
        near = iou > NEAR
        moves.append(ridge(rows[near], encode_boxes(truths[near, k], boxes[near]), PENALTY))
        weights.append(weight)
        biases.append(bias)
    return torch.stack(weights), torch.stack(biases), torch.stack(moves)


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


def ship(name: str, train, description: str) -> None:
    """What the command line asks for: train on the films' one part, measure on the other, save."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    options = parser.parse_args()
    test, films = comparison_films("test"), comparison_films("train")
    model = train(*films, pick_device())
    card = {"seed": SEED, "films": len(films[0]), "held out": {"films": len(test[0]), **figures(model, *test)}}
    print(save_weights(model, name, folder=options.output.expanduser(), **card), card["held out"])


if __name__ == "__main__":
    ship("rcnn_films", train_rcnn, __doc__)

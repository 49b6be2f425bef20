"""The recipe of the trained blood cell detector: Faster R-CNN on real images (BCCD, MIT licence).

    python data/weights/faster_rcnn_bccd.py [--folder BCCD] [--output DIR] [--checkpoint FILE]

Images of 640 x 480, seen at 320 x 240. Trained on the published part "train" and two thirds of "val"; every third
image of "val", by sorted file name and from the first on, is held out and measured once, at the end.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from labkit.datasets import bccd
from labkit.datasets.augment import Flipped, collate_fn
from labkit.detection.evaluation import average_precision
from labkit.detection.pretrained import cell_detector
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, EPOCHS, BATCH, RATE, SIZE = 0, 30, 2, 1e-3, (240, 320)


class Kept(Dataset):
    """The images of a part at some rows, decoded once; with `light`, each seen brighter or darker at random."""

    def __init__(self, part: Dataset, rows: Iterable[int], *, light: float = 0.0):
        self.pairs, self.light = [part[row] for row in rows], light

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int):
        image, target = self.pairs[index]
        gain = 1 + self.light * (2 * torch.rand(3, 1, 1) - 1)  # a lamp, a stain: each colour a little
        return (image * gain).clamp(max=1), target


def held_out(folder: Path | None) -> Kept:
    """Every third image of "val"."""
    part = bccd.load(folder, split="val", size=SIZE)
    return Kept(part, rows_by_name(part)[::3])


def train(folder: Path | None, *, epochs: int = EPOCHS, checkpoint: Path | None = None):
    """The trained detector, on the device."""
    seed_everything(SEED)
    first, second = bccd.load(folder, split="train", size=SIZE), bccd.load(folder, split="val", size=SIZE)
    others = [row for i, row in enumerate(rows_by_name(second)) if i % 3]
    images = Flipped(
        torch.utils.data.ConcatDataset([Kept(first, range(len(first)), light=0.1), Kept(second, others, light=0.1)])
    )
    loader = DataLoader(images, BATCH, shuffle=True, drop_last=True, collate_fn=collate_fn)
    model = cell_detector(pretrained=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader), pct_start=0.15)
    fit(
        model,
        loader,
        epochs=epochs,
        loss=None,
        optimizer=optimizer,
        scheduler=scheduler,
        device=pick_device(),
        precision="fp32",
        checkpoint=checkpoint,
    )
    return model


@torch.no_grad()
def figures(model, images: Kept) -> dict[str, float]:
    """AP at IoU 0.5 of each class, and their mean."""
    device = next(model.parameters()).device
    pairs = [images[row] for row in range(len(images))]
    found = [model.eval()([image.to(device)])[0] for image, _ in pairs]
    found = [{key: value.cpu() for key, value in one.items()} for one in found]
    values = average_precision(found, [target for _, target in pairs])
    names = dict(enumerate(bccd.CLASSES)) | {"mean": "mAP50"}
    return {names[key]: round(float(value), 4) for key, value in values.items()}


def rows_by_name(part: bccd.BloodCells) -> list[int]:
    """Rows of a part, in the order of their file names."""
    return sorted(range(len(part)), key=lambda row: part.files[row].name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where BCCD lies; by default where `labkit data get bccd` puts it")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from after an interruption")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    model = train(options.folder, epochs=options.epochs, checkpoint=options.checkpoint)
    test = held_out(options.folder)
    card = {"seed": SEED, "epochs": options.epochs, "images": "train and two thirds of val, 240 x 320 pixels"}
    card["held out"] = {"images": len(test), "rule": "every third of val by file name", **figures(model, test)}
    print(save_weights(model, "faster_rcnn_bccd", folder=options.output.expanduser(), **card), card["held out"])

"""The recipe of the trained lesion detector: Faster R-CNN on phantom films, for demos that start at once.

    python data/weights/faster_rcnn_films.py [--output DIR] [--epochs N] [--checkpoint FILE]

It starts from the patch classifier's backbone and trains all of it; about a quarter of an hour on two CPU cores.
Notebook 08 trains a smaller one, on a tenth of the films.

It trains in bf16, as the weights of the card did, and not in what suits the device: the precision is part of the
recipe. CPUs with AMX or AVX-512 BF16 and GPUs from Ampere on compute in it, and the minutes are those of such a CPU;
others imitate it, which takes longer than fp32.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.ops import nms

from labkit.datasets.augment import Flipped, collate_fn
from labkit.datasets.phantoms import mammograms
from labkit.detection.evaluation import average_precision, froc, hit_center_in_box, sensitivity_at
from labkit.detection.pretrained import film_backbone, lesion_detector
from labkit.device import pick_device, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, FILMS, HELD_OUT, EPOCHS, BATCH = 0, 5000, 400, 8, 8
RATE, BACKBONE_RATE = 2e-3, 6e-4  # the backbone is trained already
TRAIN_FILMS, TEST_FILMS = 4, 1  # seeds: other patients


def train(epochs: int = EPOCHS, checkpoint: Path | None = None):
    """The trained detector, on the device."""
    seed_everything(SEED)
    model = lesion_detector(film_backbone(frozen=False))
    loader = DataLoader(
        Flipped(mammograms(FILMS, seed=TRAIN_FILMS)), BATCH, shuffle=True, drop_last=True, collate_fn=collate_fn
    )
    heads = [*model.rpn.parameters(), *model.roi_head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": model.backbone.parameters(), "lr": BACKBONE_RATE}, {"params": heads, "lr": RATE}], weight_decay=1e-2
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [BACKBONE_RATE, RATE], total_steps=epochs * len(loader), pct_start=0.15
    )
    fit(
        model,
        loader,
        epochs=epochs,
        loss=None,
        optimizer=optimizer,
        scheduler=scheduler,
        device=pick_device(),
        precision="bf16",
        checkpoint=checkpoint,
    )
    return model


@torch.no_grad()
def figures(model, films) -> dict[str, float]:
    """AP at IoU 0.5 of both classes and their mean; share of lesions found at 1 false mark a film, of any class."""
    device = next(model.parameters()).device
    found = [model.eval()([image.to(device)])[0] for image, _ in films]
    found = [{key: value.cpu() for key, value in one.items()} for one in found]
    values = average_precision(found, films.targets)
    marks = []
    for one in found:  # a lesion of either class is a lesion: one mark a place
        keep = nms(one["boxes"], one["scores"], 0.3)
        marks.append({"boxes": one["boxes"][keep], "scores": one["scores"][keep], "labels": torch.ones_like(keep)})
    lesions = [target | {"labels": torch.ones_like(target["labels"])} for target in films.targets]
    curve = froc(marks, lesions, hit=hit_center_in_box())
    names = {1: "benign", 2: "malignant", "mean": "AP50"}
    result = {names[key]: round(float(value), 4) for key, value in values.items()}
    return result | {"sensitivity at 1": round(float(sensitivity_at(curve, 1.0)), 4)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from after an interruption")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    model = train(options.epochs, options.checkpoint)
    card = {"seed": SEED, "epochs": options.epochs, "films": FILMS}
    card["held out"] = {"films": HELD_OUT, **figures(model, mammograms(HELD_OUT, seed=TEST_FILMS))}
    print(save_weights(model, "faster_rcnn_films", folder=options.output.expanduser(), **card), card["held out"])

"""The recipe of notebook 16's networks: a detector by heatmaps, and two classifiers that are asked where they look.

    python data/weights/attention.py [--output DIR] [--films N] [--epochs N]

All three start from the patch classifier's backbone, whose fine half stays as it is, and see the same films. The
classifiers are trained alike, one from the labels of its films alone, the other with its evidence pushed towards the
lesions besides. A minute on a CPU core that computes in bf16, some minutes on others; in the precision that suits it.

The file holds half precision, in half the bytes; every figure of the card is measured after that rounding, on films of
other patients.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from labkit.datasets.augment import Flipped, collate_fn
from labkit.datasets.phantoms import mammograms
from labkit.detection.attention import (
    FilmClassifier,
    HeatmapDetector,
    class_presence,
    class_questions,
    shipped_networks,
)
from labkit.detection.evaluation import froc, hit_center_in_box, roc_auc, sensitivity_at
from labkit.detection.heatmaps import center_errors
from labkit.detection.pretrained import film_backbone
from labkit.detection.saliency import grad_cam, pointing_hits
from labkit.device import pick_device, precision, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, FILMS, HELD_OUT, BATCH = 0, 500, 150, 8
EPOCHS = {"detector": 6, "plain": 3, "attended": 3}
RATES = {"detector": 2e-3, "plain": 2e-3, "attended": 2e-3}
ATTENTION = 0.3  # of the attended classifier: both of its losses then pull about as hard
TRAIN_FILMS, TEST_FILMS = 5, 1  # seeds: other patients


def untrained(name: str) -> nn.Module:
    """The network of a name, with nothing but the backbone trained."""
    if name == "detector":
        return HeatmapDetector(film_backbone())
    return FilmClassifier(film_backbone(), attention=ATTENTION if name == "attended" else 0.0)


def train(name: str, films, epochs: int, *, seed: int = SEED) -> nn.Module:
    """The network of a name, trained; on the CPU, rounded to half precision."""
    seed_everything(seed)
    network = untrained(name)
    loader = DataLoader(Flipped(films), BATCH, shuffle=True, drop_last=True, collate_fn=collate_fn)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATES[name], weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATES[name], total_steps=epochs * len(loader), pct_start=0.15
    )
    fit(network, loader, epochs=epochs, loss=None, optimizer=optimizer, scheduler=scheduler, device=pick_device())
    return network.cpu().half().float()


def found(detector: HeatmapDetector, films: Tensor) -> list[dict[str, Tensor]]:
    """The peaks of each film."""
    with torch.no_grad():
        return [one for part in films.split(25) for one in detector(list(part))]


def pointing(classifier: FilmClassifier, films) -> Tensor:
    """(Q,) whether Grad-CAM points at a lesion of the class that is asked, for each film and class that is there."""
    rows, columns, boxes = class_questions(films.targets)
    with torch.no_grad():
        features = torch.cat([classifier.features(list(part)) for part in films.images.split(25)])
    return pointing_hits(grad_cam(features[rows], classifier.classify, columns), boxes, stride=4, margin=2)


@torch.no_grad()
def aucs(classifier: FilmClassifier, films) -> list[float]:
    """AUC of benign and of malignant: does a film with such a lesion have the higher logit?"""
    logits = torch.cat([classifier(list(part)) for part in films.images.split(25)])
    return [roc_auc(logits[:, k], class_presence(films.targets)[:, k]) for k in range(2)]


def figures(networks: nn.ModuleDict, films) -> dict[str, float]:
    """What the notebook measures, on any films."""
    marks = found(networks["detector"].eval(), films.images)
    curve = froc(marks, [{"boxes": t["boxes"]} for t in films.targets], hit=hit_center_in_box())
    errors = center_errors(marks, films.targets)
    values = {
        "sensitivity at 1": float(sensitivity_at(curve, 1.0)),
        "within 2 px, of found lesions": float((errors <= 2).float().mean()),
    }
    for name in ("plain", "attended"):
        classifier = networks[name].eval()
        benign, malignant = aucs(classifier, films)
        values |= {f"{name}: AUC benign": benign, f"{name}: AUC malignant": malignant}
        values[f"{name}: pointing"] = float(pointing(classifier, films).float().mean())
    return {name: round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--films", type=int, default=FILMS)
    parser.add_argument("--epochs", type=int, help="of each network, for a quick try")
    options = parser.parse_args()
    begun, training = time.process_time(), mammograms(options.films, seed=TRAIN_FILMS)
    networks, epochs = shipped_networks(), {name: options.epochs or count for name, count in EPOCHS.items()}
    for name, count in epochs.items():
        networks[name].load_state_dict(train(name, training, count).state_dict())
        print(f"{(time.process_time() - begun) / 60:5.1f} CPU minutes  {name}", flush=True)
    minutes = (time.process_time() - begun) / 60
    test = mammograms(HELD_OUT, seed=TEST_FILMS)
    card = {
        "seed": SEED,
        "precision": precision(pick_device()),
        "CPU minutes": round(minutes, 1),
        "films": options.films,
        "epochs": epochs,
        "held out": {"films": HELD_OUT, **figures(networks, test)},
        "first 40 films": figures(networks, test.subset(list(range(40)))),
    }
    print(save_weights(networks.half(), "attention", folder=options.output.expanduser(), **card), card["held out"])

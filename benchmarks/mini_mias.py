"""Real films, few of them, scored as few must be: out of fold, by woman, so that every lesion is tested once.

    python benchmarks/mini_mias.py --images mini-mias [--folds 5] [--epochs 10] [--seeds 1] [--start detector]

In each fold the course's phantom detector learns on from the films of the other women; the films of its own women are
scored by the mean over `--seeds` trainings and over the four ways a film can be turned over. Prints the AUC of the
malignant and of the benign score by film and by woman, and the malignant lesions found, with 95 % intervals over women.
`mini-mias` is the folder that `labkit data get mini-mias` makes. About ten minutes of one core.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import DataLoader

from labkit.bootstrap import bootstrap_interval
from labkit.datasets import mini_mias
from labkit.datasets.augment import Flipped, collate_fn
from labkit.detection.evaluation import (
    froc_curve,
    froc_marks,
    hit_center_in_box,
    image_scores,
    roc_auc,
    sensitivity_at,
)
from labkit.detection.pretrained import film_backbone, lesion_detector
from labkit.device import describe, pick_device, seed_everything
from labkit.training import fit

BENIGN, MALIGNANT = 1, 2
BATCH, RATE, BACKBONE_RATE = 8, 1e-3, 3e-4


def started(start: str):
    """The detector that a fold begins with: trained on phantom films, or with its backbone alone trained."""
    return lesion_detector() if start == "detector" else lesion_detector(film_backbone(frozen=False))


def trained(films, *, start: str, epochs: int, seed: int):
    """A detector that has learned from these films."""
    seed_everything(seed)
    model = started(start)
    loader = DataLoader(Flipped(films), BATCH, shuffle=True, drop_last=True, collate_fn=collate_fn)
    heads = [*model.rpn.parameters(), *model.roi_head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": model.backbone.parameters(), "lr": BACKBONE_RATE}, {"params": heads, "lr": RATE}], weight_decay=1e-2
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [BACKBONE_RATE, RATE], total_steps=epochs * len(loader), pct_start=0.15
    )
    fit(model, loader, epochs=epochs, loss=None, optimizer=optimizer, scheduler=scheduler, device=pick_device())
    return model.eval()


@torch.no_grad()
def answers(model, films) -> tuple[list[dict], np.ndarray]:
    """What it finds on each film, and (n, 2) benign and malignant score, the mean over four ways to turn it over."""
    device, found, scores = pick_device(), [], []
    for image, _ in films:
        ways = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
        four = [{key: value.cpu() for key, value in one.items()} for one in model([way.to(device) for way in ways])]
        found.append(four[0])
        best = [[_best(one, label) for label in (BENIGN, MALIGNANT)] for one in four]
        scores.append(np.mean(best, axis=0))
    return found, np.array(scores)


def _best(one: dict, label: int) -> float:
    return max(one["scores"][one["labels"] == label].tolist(), default=0.0)


def out_of_fold(films, options) -> tuple[list[list[dict]], np.ndarray]:
    """Detections of every film, one list a seed, and (n, 2) scores, by detectors that never saw its woman."""
    found: list[list[dict]] = [[{} for _ in range(len(films))] for _ in range(options.seeds)]
    scores = np.zeros((len(films), 2))
    malignant = [bool((target["labels"] == MALIGNANT).any()) for target in films.targets]
    folds = StratifiedGroupKFold(options.folds, shuffle=True, random_state=0)
    women = films.patients.numpy()
    for fold, (learn, test) in enumerate(folds.split(women, malignant, groups=women)):
        start = time.perf_counter()
        for seed in range(options.seeds):
            model = trained(films.subset(learn.tolist()), start=options.start, epochs=options.epochs, seed=seed)
            made, given = answers(model, films.subset(test.tolist()))
            for row, one in zip(test, made, strict=True):
                found[seed][row] = one
            scores[test] += given / options.seeds
        print(f"fold {fold + 1} of {options.folds}: {time.perf_counter() - start:.0f} s", flush=True)
    return found, scores


def interval(statistic, *data, groups) -> str:
    """Value and its interval over women."""
    generator = torch.Generator().manual_seed(0)
    low, high = bootstrap_interval(statistic, *data, groups=groups, generator=generator)
    return f"{statistic(*data):.2f} ({low:.2f} to {high:.2f})"


def report(films, found, scores) -> None:
    """Print the table."""
    women = films.patients.numpy()
    for column, label, name in ((1, MALIGNANT, "malignant"), (0, BENIGN, "benign")):
        rows = [
            {"scores": torch.tensor([score]), "labels": torch.tensor([label])} for score in scores[:, column].tolist()
        ]
        by_film = image_scores(rows, films.targets, label=label)
        by_woman = image_scores(rows, films.targets, label=label, groups=women)
        print(f"AUC, {name}, films   {interval(roc_auc, by_film.scores, by_film.positive, groups=women)}")
        print(f"AUC, {name}, women   {interval(roc_auc, by_woman.scores, by_woman.positive, groups=by_woman.groups)}")
    for rate in (0.3, 1.0):
        marks = [froc_marks(one, films.targets, hit=hit_center_in_box(), label=MALIGNANT) for one in found]

        def sensitivity(*seeds, rate=rate):
            return float(np.mean([sensitivity_at(froc_curve(some), rate) for some in seeds]))

        print(f"malignant lesions found at {rate} false marks a film   {interval(sensitivity, *marks, groups=women)}")


def main() -> None:
    """Train the folds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=None, help="folder of mini-MIAS; by default where labkit put it")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1, help="trainings whose scores are averaged")
    parser.add_argument("--start", choices=("detector", "backbone"), default="detector")
    parser.add_argument("--save", type=Path, help="file for the scores, to look at them again")
    options = parser.parse_args()
    print(describe())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # films that are left out are counted below
        films = mini_mias.films(options.images)
    labels = torch.cat([target["labels"] for target in films.targets])
    print(
        f"{len(films)} films of {len(films.patients.unique())} women, {int((labels == BENIGN).sum())} benign and "
        f"{int((labels == MALIGNANT).sum())} malignant lesions"
    )
    found, scores = out_of_fold(films, options)
    if options.save:
        np.savez(options.save, scores=scores, women=films.patients.numpy())
    report(films, found, scores)


if __name__ == "__main__":
    main()

"""The recipe of notebook 17's agent: one network that moves boxes onto nine organs, by deep Q-learning.

    python data/weights/organ_agent.py [--output DIR] [--scans N] [--steps N]

Scans of 180 patients, each organ that the field of view shows whole or over half of its height; sixteen walks at a
time. Judged on 40 scans of other patients, in walks that begin at the organ's mean box of the training scans, and in
walks that begin at the box around the whole field; both end by oscillation. Some minutes of one CPU core, in float32
everywhere, since so small a network gains nothing from less.

The file holds half precision; every figure of the card is measured after that rounding.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from labkit.datasets.phantoms.torso import ORGANS, torso_scans
from labkit.detection.box_views import box_scores
from labkit.detection.organ_agent import (
    Case,
    OrganBoxEnv,
    OrganNetwork,
    answers,
    mean_boxes,
    organ_cases,
)
from labkit.detection.q_learning import learn
from labkit.device import seed_everything
from labkit.weights import FOLDER, save_weights

SEED, SCANS, HELD_OUT, STEPS = 0, 180, 40, 64_000
TRAIN_SCANS, TEST_SCANS = 0, 1  # seeds: other patients
WALKS = 16  # side by side
LEARNING = {
    "discount": 0.5,
    "every": 5,
    "warm_up": 1000,
    "capacity": 30_000,
    "renew": 300,
    "explore": 0.3,
}


def train(cases: Sequence[Case], steps: int, *, seed: int = SEED) -> OrganNetwork:
    """The network, trained; rounded to half precision."""
    seed_everything(seed)
    network = OrganNetwork()
    learn([OrganBoxEnv(cases) for _ in range(WALKS)], network, steps, seed=seed, **LEARNING)
    return network.half().float()


def scores_of(boxes: torch.Tensor, cases: Sequence[Case]) -> dict[str, torch.Tensor]:
    """`box_scores` of boxes, one a case."""
    return box_scores(boxes, torch.stack([case.truth for case in cases]), spacing=cases[0].spacing)


def figures(boxes: torch.Tensor, cases: Sequence[Case]) -> dict[str, float]:
    """What the notebook's table says in its last line."""
    scores = scores_of(boxes, cases)
    organs = torch.tensor([case.organ for case in cases])
    by_organ = torch.stack([scores["iou"][organs == organ].mean() for organ in organs.unique()])
    values = {
        "mean IoU": scores["iou"].mean(),
        "mean IoU over organs": by_organ.mean(),
        "median wall, voxels": scores["wall in voxels"].median(),
        "median wall, mm": scores["wall"].median(),
        "median centroid, mm": scores["centroid"].median(),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def table_of(means: dict[int, torch.Tensor]) -> list[list[float]]:
    """A row for each of ORGANS, zeros where there is none."""
    rows = [means.get(organ, torch.zeros(6)).tolist() for organ in range(len(ORGANS))]
    return [[round(edge, 2) for edge in row] for row in rows]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    training = organ_cases(torso_scans(options.scans, seed=TRAIN_SCANS))
    begun = time.process_time()
    network = train(training, options.steps)
    minutes = (time.process_time() - begun) / 60
    test, means = organ_cases(torso_scans(HELD_OUT, seed=TEST_SCANS)), mean_boxes(training)
    found = answers(network, test, starts=means)
    few = [case for case in test if case.scan < 8]
    organs, iou = torch.tensor([case.organ for case in test]), scores_of(found, test)["iou"]
    card = {
        "seed": SEED,
        "precision": "fp32",
        "CPU minutes": round(minutes, 1),
        "scans": options.scans,
        "steps": options.steps,
        "learning": LEARNING,
        "held out": {"scans": HELD_OUT, "organs": len(test), **figures(found, test)},
        "IoU by organ": {ORGANS[organ]: round(float(iou[organs == organ].mean()), 4) for organ in organs.unique()},
        "from the whole field": figures(answers(network, test), test),
        "mean box alone": figures(torch.stack([means[case.organ] for case in test]), test),
        "first 8 scans": figures(answers(network, few, starts=means), few),
        "mean boxes": table_of(means),
    }
    print(save_weights(network.half(), "organ_agent", folder=options.output.expanduser(), **card), card)

"""The recipe of notebook 15's network, which finds the organs of a torso in one pass.

    python data/weights/organs.py [--output DIR] [--scans N] [--epochs N] [--compare N]

It sees 360 phantom scans, each time another part of them (`OrganFields`). A quarter of an hour of a core that
computes in bf16, in the precision that suits the machine. Scans of a third seed told that more scans and steps
help; those of `TEST_SCANS` only judge. Then it compares the focal loss with the cross entropy, on scans of half the
resolution and with three seeds each; those small networks are not kept, their figures are. `--compare 0` keeps the
figures that stand in the card.

The file holds half precision, in half the bytes; every figure of the card is measured after that rounding, on scans of
other patients.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from labkit.datasets.fields import OrganFields, collate_fields
from labkit.datasets.phantoms.torso import ORGANS, Scans, torso_scans
from labkit.detection.evaluation.organs import OrganErrors, organ_errors, spoken_and_shown
from labkit.detection.organs import OrganRPN, coarse_network
from labkit.device import pick_device, precision, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, SCANS, EPOCHS, BATCH, RATE, MARGIN = 0, 360, 20, 2, 1.5e-3, 16
LONGEST_STEP = 10.0  # norm of a gradient: fields that show hardly anything give long ones
TRAIN_SCANS, TEST_SCANS, HELD_OUT = 0, 1, 24  # seeds: other patients; the number of those
COARSE = {"shape": (32, 48, 64), "spacing": (8.0, 6.0, 6.0)}
COARSE_SCANS, COARSE_EPOCHS, COARSE_SEEDS, COARSE_TEST = 60, 10, 3, 30


def train(network: OrganRPN, scans: Scans, epochs: int, *, seed: int = SEED, rate: float = RATE) -> OrganRPN:
    """The network, trained; on the CPU, rounded to half precision."""
    seed_everything(seed)
    fields = OrganFields(scans, margin=MARGIN * len(scans[0].volume) // 64)
    loader = DataLoader(fields, BATCH, shuffle=True, drop_last=True, collate_fn=collate_fields)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(loader), pct_start=0.15)
    optimizer.register_step_pre_hook(lambda *_: shorten(network))
    fit(network, loader, epochs=epochs, loss=None, optimizer=optimizer, scheduler=scheduler, device=pick_device())
    return network.cpu().half().float()


def shorten(network: OrganRPN) -> None:
    """Clip the gradient; leave a step out where it is not finite, which happens with bf16 convolutions of some CPUs."""
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST_STEP)
    if not norm.isfinite():
        print("a gradient that is not finite is left out", flush=True)
        for weight in network.parameters():
            weight.grad = None


def errors_on(network: OrganRPN, scans: Scans) -> tuple[OrganErrors, float]:
    """The errors of each organ, and how often an organ is named that is not there, of the times that it could be."""
    taken = list(scans)
    truths = [{"boxes": scan.boxes, "labels": scan.labels} for scan in taken]
    answers = [network.eval()([scan.volume])[0] for scan in taken]
    spoken, shown = spoken_and_shown(answers, truths, num_classes=network.num_classes)
    absent = ~shown[:, 1:]
    return organ_errors(answers, truths, spacing=taken[0].spacing), float(spoken[:, 1:][absent].float().mean())


def figures(network: OrganRPN, scans: Scans) -> dict[str, float]:
    """What the notebook measures, on any scans."""
    errors, alarms = errors_on(network, scans)
    by_organ = {ORGANS[k]: float(errors.of(k).ious.mean()) for k in sorted(set(errors.labels.tolist()))}
    values = {f"IoU {name}": value for name, value in by_organ.items()}
    values["IoU, mean of the organs"] = sum(by_organ.values()) / len(by_organ)
    values["wall distance, median mm"] = float(errors.walls.nanmedian())
    values["wall distance, mean mm"] = float(errors.walls.nanmean())
    values["centroid distance, median mm"] = float(errors.centroids.nanmedian())
    values["organs found"] = float((errors.ious > 0).float().mean())
    values["named where there is none"] = alarms
    return {name: round(value, 4) for name, value in values.items()}


def focal_against_cross_entropy(seeds: int) -> dict[str, list[dict[str, float]]]:
    """Figures of small networks, one dict a seed, trained with gamma 2 and with gamma 0."""
    training = torso_scans(COARSE_SCANS, seed=TRAIN_SCANS, **COARSE)
    test = torso_scans(COARSE_TEST, seed=TEST_SCANS, **COARSE)
    compared = {}
    for name, gamma in (("focal", 2.0), ("cross entropy", 0.0)):
        compared[name] = []
        for seed in range(seeds):
            seed_everything(seed)
            network = train(coarse_network(gamma=gamma), training, COARSE_EPOCHS, seed=seed)
            compared[name].append(figures(network, test))
            print(name, seed, compared[name][-1], flush=True)
    return compared


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--compare", type=int, default=COARSE_SEEDS, help="seeds of the comparison; 0: none")
    options = parser.parse_args()
    training = torso_scans(options.scans, seed=TRAIN_SCANS)
    begun = time.process_time()
    seed_everything(SEED)
    network = train(OrganRPN(len(ORGANS)), training, options.epochs)
    minutes = (time.process_time() - begun) / 60
    print(f"{minutes:5.1f} CPU minutes", flush=True)
    test = torso_scans(HELD_OUT, seed=TEST_SCANS)
    card = {
        "seed": SEED,
        "precision": precision(pick_device()),
        "CPU minutes": round(minutes, 1),
        "scans": options.scans,
        "epochs": options.epochs,
        "held out": {"scans": HELD_OUT, **figures(network, test)},
        "first 6 scans": figures(network, test.subset(list(range(6)))),
    }
    network = network.half()
    print(save_weights(network, "organs", folder=options.output.expanduser(), **card), card["held out"], flush=True)
    if options.compare:
        card["two losses, half the resolution"] = focal_against_cross_entropy(options.compare)
    else:
        last = json.loads((FOLDER / "organs.json").read_text(encoding="utf-8"))
        card["two losses, half the resolution"] = last["two losses, half the resolution"]
    save_weights(network, "organs", folder=options.output.expanduser(), **card)

"""The recipe of notebook 14's networks: marks on slices, the same without the deconvolution, and the 3-D judge.

    python data/weights/nodules.py [--output DIR] [--seed N] [--scans N] [--epochs N]

Stage 1 learns from slices of the first 80 scans, with and without the deconvolution in the same way. Stage 2 learns
from the candidates that stage 1 finds on the last 60, 18 of them unseen by it: a judge that knew only the slips of a
network on its own training scans would meet others later. Every figure of the card is measured on
scans of other patients, after the weights were rounded to half precision, in which the file holds them. One thing was
chosen with a look at those scans: that stage 2 looks four times. So the card has the same figures once more
("validation") on as many scans of a third group of patients, on which nothing was chosen.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from labkit.bootstrap import bootstrap_interval
from labkit.datasets.augment import collate_fn
from labkit.datasets.phantoms.torso import Scans, lung_scans
from labkit.detection.candidates import Patches, training_patches, window
from labkit.detection.evaluation import (
    FrocMarks,
    competition_metric,
    froc_curve,
    froc_marks,
    hit_center_distance,
    sensitivity_at,
)
from labkit.detection.nodules import (
    NoduleJudge,
    SliceProposals,
    find_candidates,
    judge_candidates,
    neighbours,
    nodule_target,
    shipped_stages,
    slice_targets,
)
from labkit.device import pick_device, precision, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, save_weights

SEED, SCANS, FOR_SLICES, FOR_JUDGE, HELD_OUT = 0, 98, 80, 60, 40  # the first 80, the last 60
TRAIN_SCANS, TEST_SCANS, VALIDATION_SCANS = 0, 1, 2  # seeds: other patients
EPOCHS = {"slices": 24, "coarse": 24, "judge": 6}
RATES = {"slices": 3e-3, "coarse": 3e-3, "judge": 2e-3}
BATCH = {"slices": 8, "coarse": 8, "judge": 32}
HARD = 50  # negatives a scan
CROP = 96  # pixels: a square of a slice, a fifth of the work
SMALL = 6.0  # mm
LEVELS = (0.6, 0.7, 0.8)  # sensitivities at which false positives are compared


class Slices(Dataset):
    """Squares of slices: one around each nodule on each slice that shows it, and others anywhere, half as many.

    Where they lie is drawn anew each time, and they are turned over at random.
    """

    def __init__(self, scans: Scans):
        self.grey = [window(scan.volume).half() for scan in scans]
        self.targets = [slice_targets(scan, range(len(scan.volume))) for scan in scans]
        self.shown = [(i, z, box) for i, of in enumerate(self.targets) for z, t in enumerate(of) for box in t["boxes"]]

    def __len__(self) -> int:
        return len(self.shown) * 3 // 2

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if index < len(self.shown):
            i, z, box = self.shown[index]
            room = torch.rand(2) * (CROP - 32) + 16  # the nodule lies in the square, 16 pixels or more from its edge
            first = ((box[:2] + box[2:]) / 2 - room).round()
        else:
            i = int(torch.randint(len(self.grey), ()))
            z = int(torch.randint(len(self.grey[i]), ()))
            first = torch.rand(2) * torch.tensor(self.grey[i].shape[:0:-1])
        limit = torch.tensor(self.grey[i].shape[:0:-1]) - CROP
        x, y = torch.minimum(first.clamp(min=0), limit).long().tolist()
        image = neighbours(self.grey[i][:, y : y + CROP, x : x + CROP], torch.tensor([z]))[0].float()
        boxes = self.targets[i][z]["boxes"] - torch.tensor([x, y, x, y])
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        return _turned(image, boxes[((middles > 0) & (middles < CROP)).all(dim=1)])


def _turned(image: Tensor, boxes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Flipped along each axis at random, and transposed."""
    draws = (torch.rand(4) < 0.5).tolist()
    image, boxes = image.flip([axis for axis, turned in enumerate(draws[:3]) if turned]), boxes.clone()
    for axis, start in ((1, 1), (2, 0)):
        if draws[axis]:
            boxes[:, [start, start + 2]] = CROP - boxes[:, [start + 2, start]]
    if draws[3]:
        image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
    return image, {"boxes": boxes}


def train(name: str, data: Dataset, epochs: int, *, seed: int) -> nn.Module:
    """The network of a name, trained; on the CPU, rounded to half precision."""
    seed_everything(seed)
    network = NoduleJudge() if name == "judge" else SliceProposals(deconvolution=name == "slices")
    collate = None if name == "judge" else collate_fn
    loader = DataLoader(data, BATCH[name], shuffle=True, drop_last=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATES[name], weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATES[name], total_steps=epochs * len(loader), pct_start=0.15
    )
    loss = F.binary_cross_entropy_with_logits if name == "judge" else None
    fit(network, loader, epochs=epochs, loss=loss, optimizer=optimizer, scheduler=scheduler, device=pick_device())
    return network.cpu().half().float().eval()


def patches_for_judge(slices: SliceProposals, scans: Scans) -> Patches:
    """Nodules and hard negatives of these scans."""
    parts = [training_patches(scan, find_candidates(slices, scan), count=HARD) for scan in scans]
    patches, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return Patches(patches, labels)


def marks_of(found: list[dict[str, Tensor]], scans: Scans, *, below: float = torch.inf) -> list[FrocMarks]:
    """What each scan adds to FROC; nodules of `below` mm or more are excluded findings."""
    targets = [nodule_target(scan) for scan in scans]
    targets = [t | {"excluded": t["diameters"] >= below} for t in targets]
    return froc_marks(found, targets, hit=hit_center_distance())


def cpm(*marks: FrocMarks) -> float:
    return competition_metric(froc_curve(marks))


def with_interval(marks: list, statistic) -> list[float]:
    """The figure, and its 95 % interval by bootstrap over scans."""
    generator = torch.Generator().manual_seed(0)
    low, high = bootstrap_interval(lambda rows: statistic(rows), marks, generator=generator)
    return [round(float(value), 3) for value in (statistic(marks), low, high)]


def gain(pairs: list[tuple[FrocMarks, FrocMarks]]) -> float:
    """CPM of the second of each pair less that of the first."""
    one, two = zip(*pairs, strict=True)
    return cpm(*two) - cpm(*one)


def times_fewer(pairs: list[tuple[FrocMarks, FrocMarks]], sensitivity: float) -> float:
    """How many times fewer false positives with both stages at a sensitivity; nan where one does not reach it."""
    alarms = []
    for marks in zip(*pairs, strict=True):
        curve = froc_curve(marks)
        reached = (curve.sensitivity >= sensitivity).nonzero()[0]
        alarms.append(curve.false_positives[reached[0]] if len(reached) else float("nan"))
    return alarms[0] / max(alarms[1], 1 / len(pairs))


def recall(marks: list[FrocMarks]) -> float:
    return float(froc_curve(marks).sensitivity[-1])


def figures(networks: nn.ModuleDict, scans: Scans) -> dict:
    """What the notebook measures, on any scans."""
    first = [find_candidates(networks["slices"], scan) for scan in scans]
    coarse = [find_candidates(networks["coarse"], scan) for scan in scans]
    second = [judge_candidates(networks["judge"], *pair) for pair in zip(scans, first, strict=True)]
    once = [judge_candidates(networks["judge"], *pair, turned=()) for pair in zip(scans, first, strict=True)]
    found = {"1": first, "1+2": second, "one look": once, "coarse": coarse}
    of = {name: marks_of(each, scans) for name, each in found.items()}
    small = {name: marks_of(each, scans, below=SMALL) for name, each in (("deconvolution", first), ("none", coarse))}
    pairs = list(zip(of["1"], of["1+2"], strict=True))
    return {
        "nodules": sum(len(mark.lesions) for mark in of["1"]),
        "candidates a scan": round(sum(len(one["scores"]) for one in first) / len(scans), 1),
        **{f"CPM, stage {name}": with_interval(of[name], lambda m: cpm(*m)) for name in ("1", "1+2")},
        "CPM, gain": with_interval(pairs, gain),
        "CPM, stage 1+2, one look": with_interval(of["one look"], lambda m: cpm(*m)),
        "CPM, gain of four looks": with_interval(list(zip(of["one look"], of["1+2"], strict=True)), gain),
        **{f"times fewer at {level}": with_interval(pairs, lambda p, s=level: times_fewer(p, s)) for level in LEVELS},
        "CPM, coarse stage 1": with_interval(of["coarse"], lambda m: cpm(*m)),
        **{f"recall, {name}": with_interval(of[name], recall) for name in ("1", "coarse")},
        **{f"recall below 6 mm, {name}": with_interval(small[name], recall) for name in small},
        "sensitivity at 1, stage 1": with_interval(of["1"], lambda m: sensitivity_at(froc_curve(m), 1.0)),
        "sensitivity at 1, stage 1+2": with_interval(of["1+2"], lambda m: sensitivity_at(froc_curve(m), 1.0)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--seed", type=int, default=SEED, help="of the training; the scans stay the same")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--epochs", type=int, help="of each network, for a quick try")
    options = parser.parse_args()
    scans = lung_scans(options.scans, seed=TRAIN_SCANS)
    begun, epochs = time.process_time(), {name: options.epochs or count for name, count in EPOCHS.items()}
    networks = shipped_stages()
    data: Dataset = Slices(scans.subset(list(range(min(FOR_SLICES, len(scans))))))
    for name in ("slices", "coarse", "judge"):
        if name == "judge":
            data = patches_for_judge(networks["slices"].eval(), scans.subset(list(range(len(scans)))[-FOR_JUDGE:]))
        networks[name].load_state_dict(train(name, data, epochs[name], seed=options.seed).state_dict())
        print(f"{(time.process_time() - begun) / 60:5.1f} CPU minutes  {name}", flush=True)
    minutes = (time.process_time() - begun) / 60
    test = lung_scans(HELD_OUT, seed=TEST_SCANS)
    card = {
        "seed": options.seed,
        "precision": precision(pick_device()),
        "CPU minutes": round(minutes, 1),
        "scans": options.scans,
        "epochs": epochs,
        "held out": {"scans": HELD_OUT, **figures(networks.eval(), test)},
        "first 6 scans": figures(networks, test.subset(list(range(6)))),
        "validation": {"scans": HELD_OUT, **figures(networks, lung_scans(HELD_OUT, seed=VALIDATION_SCANS))},
    }
    print(save_weights(networks.half(), "nodules", folder=options.output.expanduser(), **card), card["held out"])

"""The recipe of notebook 18's networks: agents, duelling agents and U-Nets, each trained on 10, 50, 100 and 900 images.

    python data/weights/slice_agent.py [--output DIR] [--parts DIR] [--steps N]

Four kinds, four numbers of images, two seeds. A training takes 9 to 27 s of a CPU core, all of them nine minutes. "unet
unshifted" is a U-Net whose images are not moved up and down; it shows what the moving does. Each training is kept in
PARTS, so that a recipe that was stopped goes on where it stood. All in single precision.

The errors on 200 held-out images of other patients stand in the card. The weights of seed 0 that saw 10 and 900 images
are kept, in half precision, and measured once more after that rounding.
"""

import argparse
import json
import time
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from labkit.datasets.cache import cache_dir
from labkit.datasets.phantoms.spine import Projections, spine_projections
from labkit.detection.q_learning import learn
from labkit.detection.row_heatmaps import RowUNet, Shifted, heights_of, row_loss
from labkit.detection.slice_agent import SliceEnv, SliceNetwork, find_slices, shipped_networks
from labkit.detection.slice_views import Views
from labkit.device import one_core, seed_everything
from labkit.training import fit
from labkit.weights import FOLDER, load_weights, save_weights

TRAIN, TEST, HELD_OUT = 18, 20, 200  # seeds: other patients; 19 was for trying things out
SIZES, SEEDS = (10, 50, 100, 900), (0, 1)
KINDS = ("agent", "duelling", "unet", "unet unshifted")
STEPS = {"agent": 8000, "unet": 320}  # of agents, and batches of 8 for a U-Net
# Tried on 100 images of seed 19: 900 images and a discount of 0.9 gave 4.9 mm, 0.5 gave 2.8 mm.
AGENT: dict[str, Any] = {"discount": 0.5, "rate": 1e-3, "batch_size": 48, "every": 4, "warm_up": 400, "renew": 200}
PLAYERS, WALK, RATE = 16, 40, 3e-3


def untrained(kind: str) -> nn.Module:
    """The network of a kind."""
    return RowUNet() if kind.startswith("unet") else SliceNetwork(duelling=kind == "duelling")


def train(kind: str, images: Projections, seed: int, *, steps: int | None = None) -> nn.Module:
    """The network of a kind, trained."""
    seed_everything(seed)
    network = untrained(kind)
    with one_core():
        if isinstance(network, SliceNetwork):
            train_agent(network, images, steps or STEPS["agent"], seed)
        else:
            train_unet(network, images, steps or STEPS["unet"], moved=kind == "unet")
    return network.eval()


def train_agent(network: SliceNetwork, images: Projections, steps: int, seed: int) -> None:
    """Walks of 40 steps from random rows of random images, 16 side by side."""
    views = Views(images.images)
    players = [
        SliceEnv(images.images, images.heights, spacing=images.spacing, steps=WALK, views=views) for _ in range(PLAYERS)
    ]
    learn(players, network, steps, seed=seed, progress=False, **AGENT)


def train_unet(network: nn.Module, images: Projections, steps: int, *, moved: bool) -> None:
    """Batches of 8 images drawn with replacement."""
    data = Shifted(images.images, images.heights, spacing=images.spacing, rows=40 if moved else 0)
    loader = DataLoader(data, 8, sampler=RandomSampler(data, replacement=True, num_samples=8 * steps))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)

    def loss(logits: Tensor, heights: Tensor) -> Tensor:
        return row_loss(logits, heights, spacing=images.spacing)

    fit(
        network, loader, epochs=1, loss=loss, optimizer=optimizer, scheduler=scheduler, device="cpu", precision="fp32",
        progress=False,
    )  # fmt: skip


@torch.no_grad()
def errors(network: nn.Module, test: Projections) -> Tensor:
    """(n,) mm from the slice; an agent begins in the middle of the scan."""
    if isinstance(network, SliceNetwork):
        walks = find_slices(network, test.images, test.scanned // 2)
        found = torch.tensor([walk.row * test.spacing for walk in walks])
    else:
        found = torch.cat([heights_of(network(part), spacing=test.spacing) for part in test.images.split(25)])
    return (found - test.heights).abs()


def figures(values: Tensor) -> dict[str, float]:
    """What the slide's table has, in mm."""
    numbers = {"mean": values.mean(), "sd": values.std(), "median": values.median(), "max": values.max()}
    told = {name: round(float(number), 2) for name, number in numbers.items()}
    return told | {"above 10 mm": int((values > 10).sum())}


def part_name(network: str, seed: int, steps: int | None) -> str:
    """The file of a training; one with other settings has another."""
    settings = repr((STEPS, AGENT, PLAYERS, WALK, RATE, steps))
    return f"{network.replace(' ', '_')}_{seed}_{zlib.crc32(settings.encode()):08x}"


def part(
    kind: str, count: int, seed: int, data: tuple[Projections, Projections], folder: Path, steps: int | None
) -> dict:
    """The card of one training: read where there is one, else made."""
    name = part_name(f"{kind}_{count}", seed, steps)
    if (folder / f"{name}.json").is_file():
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    begun = time.process_time()
    network = train(kind, data[0].subset(list(range(count))), seed, steps=steps)
    seconds = time.process_time() - begun
    card = {"seconds": round(seconds, 1), **figures(errors(network, data[1]))}
    save_weights(network, name, folder=folder, **card)
    print(f"{name:<24} {card}", flush=True)
    return card


def collect(test: Projections, folder: Path, steps: int | None = None) -> tuple[nn.ModuleDict, dict]:
    """The networks to be kept, rounded to half precision, and their figures."""
    networks, after = shipped_networks(), {}
    for name, network in networks.items():
        load_weights(network, part_name(name, SEEDS[0], steps), folder=folder)
        network.half().float().eval()
        after[name] = figures(errors(network, test))
        after[name]["first 40 images"] = figures(errors(network, test.subset(list(range(40)))))["mean"]
    return networks, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the weights and their card")
    parser.add_argument("--parts", type=Path, default=cache_dir() / "slice_agent", help="folder for each training")
    parser.add_argument("--steps", type=int, help="of each training, for a quick try")
    options = parser.parse_args()
    options.parts.mkdir(parents=True, exist_ok=True)
    data = spine_projections(SIZES[-1], seed=TRAIN), spine_projections(HELD_OUT, seed=TEST)
    table: dict[str, dict] = {kind: {str(count): {} for count in SIZES} for kind in KINDS}
    for seed in SEEDS:
        for kind in KINDS:
            for count in SIZES:
                row = part(kind, count, seed, data, options.parts, options.steps)
                table[kind][str(count)][str(seed)] = {k: v for k, v in row.items() if k not in ("sha256", "bytes")}
    spent = sum(row["seconds"] for sizes in table.values() for rows in sizes.values() for row in rows.values())
    networks, kept = collect(data[1], options.parts, options.steps)
    card = {
        "seed": SEEDS[0],
        "precision": "fp32",
        "CPU minutes": round(spent / 60, 1),
        "steps": STEPS,
        "held out": {"images": HELD_OUT, "seed": TEST, "mm": table},
        "shipped": kept,
    }
    print(save_weights(networks.half(), "slice_agent", folder=options.output.expanduser(), **card), kept)

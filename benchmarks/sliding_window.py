"""How much faster is a dense network than its windows, one by one or in batches? Side by side, same answers.

    python benchmarks/sliding_window.py [--sides 64 128 256] [--threads 2] [--runs 5] [--device cpu]

The three ways take turns and the shortest time of each counts, so that other work on the machine does not decide.
The network is notebook 02's: 25 x 25 windows, stride 2.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from labkit.detection.sliding_window import convolutionalize, receptive_fields, sliding_windows
from labkit.device import describe, pick_device

WINDOW = (25, 25)
BATCH = 256
SAMPLE = 100  # crops timed one by one; each takes as long as the next


def classifier() -> nn.Sequential:
    """The network of notebook 02 with random weights."""
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in ((1, 8, 3), (8, 8, 4), (8, 16, 3), (16, 16, 3)):
        if inputs == 8 and kernel == 3:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(inputs, outputs, kernel), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 6 * 6, 16), nn.ReLU(), nn.Linear(16, 2)).eval()


def multiply_adds(network: nn.Module, inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    return counter.get_total_flops() // 2


def shortest(ways: dict[str, Callable[[], torch.Tensor]], runs: int) -> dict[str, float]:
    """Seconds of the fastest run of each way; the first round warms up."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(runs + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work().cpu()  # waits for a GPU
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


@torch.inference_mode()
def measure(side: int, *, runs: int, device: torch.device) -> str:
    """One row of the table, for a square image."""
    network = classifier().to(device)
    dense = convolutionalize(network, window=WINDOW)
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    boxes = sliding_windows((side, side), window=WINDOW, stride=receptive_fields(network)[-1].total_stride)
    crops = torch.stack([image[0, :, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.long().tolist()])
    ways = {
        "one": lambda: torch.cat([network(crop[None]) for crop in crops[:SAMPLE]]),
        "batched": lambda: torch.cat([network(part) for part in crops.split(BATCH)]),
        "dense": lambda: dense(image)[0].flatten(1).T,
    }
    difference = (ways["dense"]() - ways["batched"]()).abs().max().item()
    saved = len(crops) * multiply_adds(network, crops[:1]) / multiply_adds(dense, image)
    best = shortest(ways, runs)
    best["one"] *= max(1, len(crops) / SAMPLE)
    milliseconds = "".join(f"{1e3 * best[name]:>13.2f}" for name in ways)
    ratios = f"{best['one'] / best['dense']:>12.0f}{best['batched'] / best['dense']:>12.0f}{saved:>12.0f}"
    return f"{side:>5}{len(crops):>9}{milliseconds}{ratios}{difference:>12.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 192], help="of the square images, in pixels")
    parser.add_argument("--threads", type=int, default=1, help="of torch, the same for all three ways; 1 by default")
    parser.add_argument("--runs", type=int, default=5, help="of each way, the shortest counts")
    parser.add_argument("--device", help="cpu, cuda, …; the fastest by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    print(describe())
    print(f"\n{'':14}{'milliseconds':^39}{'dense is faster, or saves':^36}")
    print(
        f"{'side':>5}{'windows':>9}{'one by one':>13}{'batched':>13}{'dense':>13}"
        f"{'one by one':>12}{'batched':>12}{'mult-adds':>12}{'difference':>12}"
    )
    for side in options.sides:
        print(measure(side, runs=options.runs, device=device), flush=True)


if __name__ == "__main__":
    main()

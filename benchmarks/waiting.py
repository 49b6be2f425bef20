"""What a busy machine costs: a training step of a notebook's network, beside none, one and two busy loops.

Each row is a way for threads to wait for one another (labkit.waiting), each column a number of programs that keep a
core busy meanwhile. Every figure is the median of the steps of one process of its own; the rows take turns.
"""

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack

from labkit.waiting import USERS_CHOICE, quiet_environment

PLAIN = {name: value for name, value in os.environ.items() if name not in (*USERS_CHOICE, "OMP_NUM_THREADS")}
WAYS = {
    "as torch does by itself": PLAIN,
    "GOMP_SPINCOUNT=1000": PLAIN | {"GOMP_SPINCOUNT": "1000"},
    "as the lab starts kernels": quiet_environment(PLAIN),
    "OMP_NUM_THREADS=1": PLAIN | {"OMP_NUM_THREADS": "1"},
}
WORK = {
    "detector": """
from labkit.datasets.phantoms import mammograms
from labkit.detection.pretrained import film_backbone, lesion_detector

films = mammograms(8, seed=5)
images, targets = zip(*(films[i] for i in range(8)))
network = lesion_detector(film_backbone(), pool_size=5).train()
loss = lambda: sum(network(list(images), list(targets)).values())
""",
    "denoiser": """
from labkit.denoising.networks import UNet

noisy, clean = torch.rand(2, 8, 1, 32, 32)
network = UNet(width=8, levels=3)
loss = lambda: (network(noisy) - clean).square().sum()
""",
}
STEPS = """
import statistics, time, torch
torch.manual_seed(0)
{work}
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
taken = []
for _ in range({steps}):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    taken.append(time.perf_counter() - start)
print(1000 * statistics.median(taken[2:]))
"""


def milliseconds(environment: dict[str, str], *, busy: int, work: str, steps: int) -> float:
    """The median step of one process, with so many busy loops beside it."""
    loop = [sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        for _ in range(busy):
            program = stack.enter_context(subprocess.Popen(loop))
            stack.callback(program.kill)
        code = STEPS.format(work=WORK[work], steps=steps)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=14, help="of each process; the first two warm up (default: 14)")
    parser.add_argument(
        "--work",
        choices=WORK,
        default="detector",
        help="of notebook 08 (default) or of notebook 11",
    )
    options = parser.parse_args()
    columns = {0: "quiet", 1: "one busy loop", 2: "two"}
    table: dict[str, list[float]] = {name: [] for name in WAYS}
    for busy in columns:
        for name, environment in WAYS.items():
            table[name].append(milliseconds(environment, busy=busy, work=options.work, steps=options.steps))
    print(f"{'milliseconds of a training step':<34}" + "".join(f"{column:>16}" for column in columns.values()))
    for name, row in table.items():
        print(f"{name:<34}" + "".join(f"{value:>16.0f}" for value in row))


if __name__ == "__main__":
    main()

"""The lecture's table at its own sizes: VGG-16 on a photograph of 600 x 1000, 2,000 proposals, 300 of an RPN's own.

    python benchmarks/lecture_table.py [--crops 100] [--turns 3] [--device cpu]

Time only, so the weights are random. Of R-CNN's 2,000 crops some are run and the time is scaled up; they all cost the
same. Selective search works on the photograph shrunk to 500 pixels, as R-CNN did. Prints seconds, speed-ups and counted
multiply-adds beside the lecture's figures, with the proposals and without: about three minutes on two cores.
"""

import argparse
import time
from functools import partial

import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import ops
from torchvision.models import vgg16
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from tqdm.auto import tqdm

from labkit.detection.proposals import selective_search
from labkit.device import autocast, describe, pick_device, precision

HEIGHT, WIDTH, PROPOSALS, OWN, CROP, STRIDE = 600, 1000, 2000, 300, 224, 16
CLASSES = 21  # PASCAL VOC's 20 and background
WORKING = 500  # pixels; Girshick et al. 2014 shrink to this width before selective search
AT_ONCE = 10  # crops
LECTURE = {"R-CNN": (50.0, 1), "Fast R-CNN": (2.0, 25), "Faster R-CNN": (0.2, 250)}  # seconds, speed-up


class Parts(nn.Module):
    """VGG-16 cut as the three systems use it: convolutions, two full layers with scores and deltas, an RPN."""

    def __init__(self):
        super().__init__()
        vgg = vgg16(weights=None)
        self.convolutions = vgg.features[:-1]  # without the last pooling: stride 16
        self.full = vgg.classifier[:-1]
        self.outputs = nn.Linear(4096, CLASSES + 4 * CLASSES)
        anchors = AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
        before, after = {"training": 6000, "testing": 6000}, {"training": OWN, "testing": OWN}
        self.rpn = RegionProposalNetwork(anchors, RPNHead(512, 9), 0.7, 0.3, 256, 0.5, before, after, 0.7)

    def judge(self, pooled: Tensor) -> Tensor:
        """(R, 512, 7, 7) -> (R, 105)."""
        return self.outputs(self.full(pooled.flatten(1)))


def rcnn(parts: Parts, image: Tensor, boxes: Tensor) -> Tensor:
    """Every crop, warped to 224 x 224, goes through the whole network."""
    answers = []
    for some in boxes.split(AT_ONCE):
        crops = ops.roi_align(image[None], [some], (CROP, CROP), sampling_ratio=1)
        answers.append(parts.judge(F.max_pool2d(parts.convolutions(crops), 2)))
    return torch.cat(answers)


def fast_rcnn(parts: Parts, image: Tensor, boxes: Tensor) -> Tensor:
    """The convolutions see the image once; proposals are pooled from their map."""
    return _pooled(parts, parts.convolutions(image[None]), boxes)


def faster_rcnn(parts: Parts, image: Tensor, _: Tensor) -> Tensor:
    """The map also gives the proposals."""
    features = parts.convolutions(image[None])
    with autocast(image.device, precision="fp32"):
        proposals, _ = parts.rpn(ImageList(image[None], [(HEIGHT, WIDTH)]), {"0": features.float()})
    return _pooled(parts, features, proposals[0])


def _pooled(parts: Parts, features: Tensor, boxes: Tensor) -> Tensor:
    return parts.judge(ops.roi_pool(features.float(), [boxes], (7, 7), 1 / STRIDE))


def shortest(call, turns: int, device: torch.device) -> float:
    """Seconds of the shortest of so many calls."""
    best = float("inf")
    for _ in range(turns):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def photograph() -> Tensor:
    """scikit-image's cup of coffee, 600 x 1000."""
    image = torch.from_numpy(data.coffee()).permute(2, 0, 1).float()[None] / 255
    return F.interpolate(image, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)[0].clamp(0, 1)


@torch.no_grad()
def measured(options, image: Tensor, boxes: Tensor, device: torch.device) -> tuple[dict, dict]:
    """Seconds and 10^9 multiply-adds of the three without selective search; R-CNN's are scaled up to all proposals."""
    torch.manual_seed(0)
    parts = Parts().eval().to(device)
    image, boxes = image.to(device), boxes.to(device)
    calls = {
        "R-CNN": (partial(rcnn, parts, image, boxes[: options.crops]), 1, PROPOSALS / min(options.crops, len(boxes))),
        "Fast R-CNN": (partial(fast_rcnn, parts, image, boxes), options.turns, 1.0),
        "Faster R-CNN": (partial(faster_rcnn, parts, image, boxes), options.turns, 1.0),
    }
    seconds, work = {}, {}
    with autocast(device):
        rcnn(parts, image, boxes[:AT_ONCE])  # warm
        for name, (call, turns, times) in tqdm(calls.items(), unit="system"):
            with FlopCounterMode(display=False) as counter:
                call()
            work[name] = times * counter.get_total_flops() / 2e9
            seconds[name] = times * shortest(call, turns, device)
    return seconds, work


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=100, help="of the 2,000 that R-CNN is timed on")
    parser.add_argument("--turns", type=int, default=3, help="the shortest of so many is taken")
    parser.add_argument("--device", default=None, help="cpu, cuda, mps; default: the best there is")
    options = parser.parse_args()
    if options.crops < 1 or options.turns < 1:
        parser.error("--crops and --turns must be positive")
    device, image = pick_device(options.device), photograph()
    print(describe())
    search = partial(selective_search, image, count=PROPOSALS, working_size=WORKING)
    start = time.perf_counter()
    boxes, _ = search(generator=torch.Generator().manual_seed(0))
    searched = time.perf_counter() - start
    boxes = boxes.repeat(-(-PROPOSALS // len(boxes)), 1)[:PROPOSALS]  # where fewer were found, some twice
    seconds, work = measured(options, image, boxes, device)
    print(
        f"selective search of {HEIGHT} x {WIDTH}: {searched:.1f} s; R-CNN timed on {options.crops} of {PROPOSALS} crops"
    )
    print(f"networks in {precision(device)}\n")
    total = {name: value + (0 if name == "Faster R-CNN" else searched) for name, value in seconds.items()}
    rows = {
        "10^9 multiply-adds": [f"{value:,.0f}" for value in work.values()],
        "s an image, with proposals": [f"{value:.1f}" for value in total.values()],
        "s an image, without": [f"{value:.1f}" for value in seconds.values()],
        "speed-up, with proposals": [f"{total['R-CNN'] / value:.0f}x" for value in total.values()],
        "speed-up, without": [f"{seconds['R-CNN'] / value:.0f}x" for value in seconds.values()],
        "lecture: s an image": [f"{value:g}" for value, _ in LECTURE.values()],
        "lecture: speed-up": [f"{times}x" for _, times in LECTURE.values()],
    }
    print(f"{'':<30}" + "".join(f"{name:>15}" for name in LECTURE))
    for label, values in rows.items():
        print(f"{label:<30}" + "".join(f"{value:>15}" for value in values))


if __name__ == "__main__":
    main()

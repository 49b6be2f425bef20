"""Time of our Faster R-CNN beside torchvision's: same weights, same settings, same images, in turn in one run.

    python benchmarks/detection.py [--threads 2] [--repeat 9]

Prints the median processor and wall milliseconds of a training step and of inference, and ours / torchvision's (1.00
or less is wanted). The step holds forward, backward and AdamW. Below stand the parts that both share, for scale.
"""

import argparse
import statistics
import time

import torch
from torchvision import ops
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from labkit.datasets.augment import collate_fn
from labkit.datasets.phantoms import mammograms
from labkit.detection.backbone import Backbone
from labkit.detection.faster_rcnn import FasterRCNN, RPNOptions
from labkit.detection.pretrained import LESIONS
from labkit.detection.proposals import selective_search
from labkit.detection.roi_head import HeadOptions
from labkit.detection.roi_pooling import SAMPLES

CLASSES, HIDDEN = 3, 128
NAMES = {  # ours -> torchvision's
    "backbone.": "backbone.",
    "rpn.conv.": "rpn.head.conv.0.0.",
    "rpn.objectness.": "rpn.head.cls_logits.",
    "rpn.deltas.": "rpn.head.bbox_pred.",
    "roi_head.fc1.": "roi_heads.box_head.fc6.",
    "roi_head.fc2.": "roi_heads.box_head.fc7.",
    "roi_head.class_logits.": "roi_heads.box_predictor.cls_score.",
    "roi_head.box_deltas.": "roi_heads.box_predictor.bbox_pred.",
}


def ours() -> FasterRCNN:
    """Ours, untrained."""
    torch.manual_seed(0)
    rpn: RPNOptions = {"before_nms": (400, 300), "after_nms": (150, 100), "samples": 128}
    head: HeadOptions = {"samples": 64, "hidden": HIDDEN}
    return FasterRCNN(Backbone(), CLASSES, **LESIONS, rpn=rpn, head=head)


def torchvisions(model: FasterRCNN) -> TorchvisionFasterRCNN:
    """Torchvision's with the settings and weights of ours, untrained or not; its resizing is off, as ours has none."""
    backbone, rpn, head = Backbone(), model.rpn, model.roi_head
    theirs = TorchvisionFasterRCNN(
        backbone,
        min_size=8,
        max_size=4096,
        image_mean=model.image_mean.tolist(),
        image_std=model.image_std.tolist(),
        rpn_anchor_generator=AnchorGenerator((rpn.sizes,), (rpn.aspect_ratios,)),
        rpn_batch_size_per_image=rpn.samples,
        rpn_pre_nms_top_n_train=rpn.before_nms[0],
        rpn_pre_nms_top_n_test=rpn.before_nms[1],
        rpn_post_nms_top_n_train=rpn.after_nms[0],
        rpn_post_nms_top_n_test=rpn.after_nms[1],
        box_roi_pool=MultiScaleRoIAlign(["0"], head.pool_size, SAMPLES),
        box_head=TwoMLPHead(head.fc1.in_features, head.fc1.out_features),
        box_predictor=FastRCNNPredictor(head.fc2.out_features, model.num_classes),
        box_batch_size_per_image=head.samples,
        size_divisible=backbone.stride,
    )
    state = {}
    for key, value in model.state_dict().items():
        prefix = next((prefix for prefix in NAMES if key.startswith(prefix)), None)
        if prefix:
            state[NAMES[prefix] + key.removeprefix(prefix)] = value.clone()
    theirs.load_state_dict(state)
    theirs.transform.resize = lambda image, target: (image, target)
    return theirs


def step_of(model, images, targets):
    """A function that makes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step():
        model.train()
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return step


def inference_of(model, images):
    """A function that detects, one image after the other, as at a desk."""

    @torch.no_grad()
    def detect():
        model.eval()
        for image in images:
            model([image])

    return detect


def in_turn(functions, repeat) -> list[tuple[float, float]]:
    """Median processor and wall milliseconds of each, called in turn so that the machine's moods hit all alike."""
    taken: list[list[tuple[float, float]]] = [[] for _ in functions]
    for function in functions:
        function()  # warm
    for _ in range(repeat):
        for function, times in zip(functions, taken, strict=True):
            processor, wall = time.process_time(), time.perf_counter()
            function()
            times.append((time.process_time() - processor, time.perf_counter() - wall))
    return [tuple(1000 * statistics.median(column) for column in zip(*times, strict=True)) for times in taken]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4, help="films a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    films = mammograms(options.batch, seed=0, normal_fraction=0)
    images, targets = collate_fn([films[i] for i in range(len(films))])
    model = ours()
    theirs = torchvisions(model)

    print(f"films of 160 x 128, {options.batch} a step; {options.threads} thread(s); medians of {options.repeat}")
    print(f"{'':36}{'ours':>10}{'torchvision':>13}{'ratio':>7}")
    work = {
        "training step": (step_of(model, images, targets), step_of(theirs, images, targets)),
        f"inference, {options.batch} films": (inference_of(model, images), inference_of(theirs, images)),
    }
    for name, functions in work.items():
        mine, other = in_turn(functions, options.repeat)
        for kind, a, b in zip(("processor", "wall"), mine, other, strict=True):
            print(f"{f'{name}, {kind} ms':36}{a:10.1f}{b:13.1f}{a / b:7.2f}")

    features = torch.randn(1, Backbone().out_channels, 20, 16)
    corner = torch.rand(300, 2) * torch.tensor([100.0, 130.0])
    boxes, scores = torch.cat([corner, corner + 8 + 20 * torch.rand(300, 2)], dim=1), torch.rand(300)
    parts = {
        "nms of 300 boxes": lambda: ops.nms(boxes, scores, 0.7),
        "roi_align of 100 boxes to 7 x 7": lambda: ops.roi_align(features, [boxes[:100]], 7, 1 / 8, 2),
        "roi_pool of 100 boxes to 7 x 7": lambda: ops.roi_pool(features, [boxes[:100]], 7, 1 / 8),
        "backbone, 1 film": torch.no_grad()(lambda: model.backbone(images[0][None])),
        "selective search, 1 film": lambda: selective_search(images[0]),
    }
    print(f"\n{'the parts, ms':36}{'processor':>10}{'wall':>13}")
    for name, (processor, wall) in zip(parts, in_turn(list(parts.values()), options.repeat), strict=True):
        print(f"{name:36}{processor:10.2f}{wall:13.2f}")


if __name__ == "__main__":
    main()

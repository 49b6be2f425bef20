"""Why R-CNN finds less than Fast R-CNN on the course's films: one thing changed at a time, all on the same 150 films.

    python benchmarks/rcnn_gap.py

The films, proposals, pretrained backbone and linear models are those of notebook 06. Each line is one variant: its mAP
at IoU 0.5, and the difference from the first line, paired film by film, with the 95 % interval of a bootstrap over
patients. Two questions, one a group: who judges the features (SVMs or a softmax), and what the features saw (a crop of
how many pixels, with how much around the box, or the whole film). Twelve minutes of processor time on one core in
single precision, once films and proposals are in the cache.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision.ops import box_iou
from tqdm.auto import tqdm

from labkit.bootstrap import bootstrap_interval
from labkit.datasets.comparison import comparison_films
from labkit.datasets.splits import split_by_patient
from labkit.detection import rcnn
from labkit.detection.backbone import FilmBackbone
from labkit.detection.boxes import decode_boxes, encode_boxes
from labkit.detection.evaluation import average_precision_of, match_images
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.matching import match_proposals
from labkit.detection.pretrained import fast_rcnn as trained_fast_rcnn
from labkit.detection.pretrained import film_backbone
from labkit.detection.pretrained import rcnn as trained_rcnn
from labkit.detection.roi_head import select_detections
from labkit.detection.roi_pooling import roi_align
from labkit.device import autocast, describe, pick_device, seed_everything
from labkit.training import fit

MEAN, STD, CLASSES = 0.5, 0.25, 3
KEPT = 150  # proposals of a training film whose features are computed, as in notebook 06
PENALTIES = [10.0 ** (k / 2) for k in range(-6, 11)]  # of the ridge; chosen on training films held out from it
SAMPLES = 500  # resamples of patients


class Films(NamedTuple):
    """A part of the comparison: films, and the proposals whose features are asked for."""

    films: Sequence
    proposals: list[Tensor]


class Linear(NamedTuple):
    """The linear models of an R-CNN: one SVM and one ridge regression a class."""

    weights: Tensor  # (2, F)
    biases: Tensor  # (2,)
    moves: Tensor  # (2, F + 1, 4)


class Crops(Dataset):
    """Warped proposals and their labels; each is mirrored at random along x, y, both or neither."""

    def __init__(self, crops: Tensor, labels: Tensor):
        self.crops, self.labels = crops, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.crops[row].flip([axis for axis in (1, 2) if torch.rand(()) < 0.5]), self.labels[row]


# ------------------------------------------------------------------------------------------- what the features saw


def crops_of(part: Films, rows: Tensor, *, size: int, context: int) -> Crops:
    """The proposals on a lesion and 30 others of each film, cut out."""
    generator, crops, labels = torch.Generator().manual_seed(0), [], []
    for row in rows.tolist():
        image, target = part.films[row]
        boxes = torch.cat([part.proposals[row], target["boxes"]])
        matches = match_proposals(boxes, target["boxes"], positive_iou=0.5, negative_iou=0.5)
        positive, negative = (matches >= 0).nonzero()[:, 0], (matches == -1).nonzero()[:, 0]
        negative = negative[torch.randperm(len(negative), generator=generator)[:30]]
        kept = torch.cat([positive, negative])
        crops.append(rcnn.crop_and_resize((image - MEAN) / STD, boxes[kept], size=size, context=context))
        labels.append(torch.cat([target["labels"][matches[positive]], torch.zeros_like(negative)]))
    return Crops(torch.cat(crops), torch.cat(labels))


def fine_tuned(part: Films, rows: Tensor, *, size: int, context: int, frozen: bool = True) -> rcnn.RegionNetwork:
    """A network fine-tuned as in notebook 06: balanced batches, four epochs."""
    seed_everything(0)
    crops = crops_of(part, rows, size=size, context=context)
    foreground = crops.labels > 0
    chance = torch.where(foreground, 1 / 3 / foreground.sum(), 2 / 3 / (~foreground).sum())
    loader = DataLoader(crops, batch_size=64, sampler=WeightedRandomSampler(chance.tolist(), num_samples=3072))
    network = rcnn.RegionNetwork(film_backbone(frozen=frozen), CLASSES, size=size)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=4 * len(loader), pct_start=0.15)
    options = {"optimizer": optimizer, "scheduler": scheduler, "device": pick_device()}
    fit(network, loader, epochs=4, loss=F.cross_entropy, **options)
    return network


@torch.no_grad()
def of_crops(network: rcnn.RegionNetwork, part: Films, *, context: int) -> list[Tensor]:
    """(R, F) features of each film: every proposal cut out of the film and looked at by itself."""
    device, rows = pick_device(), []
    network.to(device).eval()
    for image, boxes in zip(tqdm(part.films.images, leave=False), part.proposals, strict=True):
        with autocast(device):
            found = rcnn.proposal_features(network, image.to(device), boxes.to(device), context=context)
        rows.append(found.float().cpu())
    return rows


@torch.no_grad()
def of_films(model: FastRCNN, part: Films) -> list[Tensor]:
    """(R, F) features of each film as Fast R-CNN has them: the film goes through once, proposals are cut out then."""
    device, rows, head = pick_device(), [], model.roi_head
    model.to(device).eval()
    for image, boxes in zip(tqdm(part.films.images, leave=False), part.proposals, strict=True):
        with autocast(device):
            maps = model.backbone((image.to(device)[None] - MEAN) / STD)
        pooled = roi_align(maps.float(), [boxes.to(device)], size=head.pool_size, stride=head.stride)
        rows.append(F.relu(head.fc2(F.relu(head.fc1(pooled.flatten(1))))).cpu())
    return rows


# Three ways to cut a proposal out, with one and the same pretrained backbone and no further training. Each gives 3 x 3
# cells of 64 features, (R, 576).


def warped(backbone: FilmBackbone, image: Tensor, boxes: Tensor) -> Tensor:
    """Pixels are cut and warped, as in R-CNN."""
    crops = rcnn.crop_and_resize(image, boxes, size=32, context=2)
    return torch.cat([F.adaptive_avg_pool2d(backbone(some), 3).flatten(1) for some in crops.split(128)])


def windows(backbone: FilmBackbone, image: Tensor, boxes: Tensor, *, side: int = 48) -> Tensor:
    """Pixels are cut and *not* warped: a square of the film around the proposal, whose cells are cut out then."""
    corner = ((boxes[:, :2] + boxes[:, 2:]) / 2).round() - side / 2  # (R, 2)
    crops = rcnn.crop_and_resize(image, torch.cat([corner, corner + side], dim=1), size=side)
    inside = boxes - corner.repeat(1, 2)
    pairs = zip(crops.split(128), inside.split(128), strict=True)
    return torch.cat([_cells(backbone(some), list(rows[:, None]), backbone.stride) for some, rows in pairs])


def whole_film(backbone: FilmBackbone, image: Tensor, boxes: Tensor) -> Tensor:
    """The film goes through as it is, and the proposals' cells are cut out, as in Fast R-CNN."""
    return _cells(backbone(image[None]), [boxes], backbone.stride)


def _cells(maps: Tensor, boxes: list[Tensor], stride: int) -> Tensor:
    return roi_align(maps.float(), boxes, size=3, stride=stride).flatten(1)


@torch.no_grad()
def untrained(part: Films, cut) -> list[Tensor]:
    """(R, 576) features of each film, cut out by one of the three."""
    device, rows = pick_device(), []
    backbone = film_backbone().to(device).eval()
    for image, boxes in zip(tqdm(part.films.images, leave=False), part.proposals, strict=True):
        with autocast(device):
            rows.append(cut(backbone, (image.to(device) - MEAN) / STD, boxes.to(device)).float().cpu())
    return rows


# ------------------------------------------------------------------------------------------- who judges them


def gathered(part: Films, features: list[Tensor], rows: Tensor) -> list[Tensor]:
    """Of some films: features (N, F), IoU with each class (N, 2), nearest truth of each (N, 2, 4), boxes (N, 4)."""
    parts = []
    for row in rows.tolist():
        target = part.films.targets[row]
        found = rcnn.class_overlaps(part.proposals[row], target["boxes"], target["labels"], num_classes=CLASSES)
        parts.append((features[row], *found, part.proposals[row]))
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def linear_models(part: Films, features: list[Tensor], learn: Tensor, choose: Tensor) -> Linear:
    """SVMs with hard negatives, and ridge regressions whose penalty is chosen on films held out from them."""
    x, iou, truth, boxes = gathered(part, features, learn)
    signs = torch.where(iou >= 0.6, 1, torch.where(iou < 0.3, -1, 0))  # (N, 2)
    options = {"penalty": 1e-3, "start": 500, "added": 500}
    svms = [rcnn.fit_svm(x, signs[:, k], **options, generator=torch.Generator().manual_seed(0)) for k in (0, 1)]
    weights, biases = (torch.stack([svm[i] for svm in svms]) for i in (0, 1))
    held_out = gathered(part, features, choose)
    best = max((_moves(x, iou, truth, boxes, penalty) for penalty in PENALTIES), key=lambda m: _growth(m, *held_out))
    return Linear(weights, biases, best)


def _moves(x: Tensor, iou: Tensor, truth: Tensor, boxes: Tensor, penalty: float) -> Tensor:
    near = [iou[:, k] > 0.6 for k in (0, 1)]
    wanted = [encode_boxes(truth[row, k], boxes[row]) for k, row in enumerate(near)]
    return torch.stack([rcnn.ridge(x[row], deltas, penalty) for row, deltas in zip(near, wanted, strict=True)])


def _growth(moves: Tensor, x: Tensor, iou: Tensor, truth: Tensor, boxes: Tensor) -> float:
    """Mean growth of the IoU with the truth, of proposals above 0.5."""
    gains = []
    for k in (0, 1):
        near = (iou[:, k] > 0.5) & (iou[:, k] < 0.999)
        moved = decode_boxes(x[near] @ moves[k, :-1] + moves[k, -1], boxes[near])
        gains.append(box_iou(moved, truth[near, k]).diagonal() - iou[near, k])
    return torch.cat(gains).mean().item()


def detections(part: Films, features: list[Tensor], moves: Tensor, scores_of, *, least: float) -> list[dict]:
    """Boxes moved by the ridge, scored by `scores_of(features) -> (R, 3)`, suppressed within each class."""
    found = []
    for image, x, boxes in zip(part.films.images, features, part.proposals, strict=True):
        deltas = torch.einsum("rf,kfd->krd", x, moves[:, :-1]) + moves[:, None, -1]  # (2, R, 4)
        moved = torch.stack([boxes, *(decode_boxes(d, boxes) for d in deltas)], dim=1)  # (R, 3, 4)
        size = tuple(image.shape[1:])
        options = {"score_threshold": least, "iou_threshold": 0.3, "max_detections": 100}
        found.append(select_detections(moved, scores_of(x), size, **options))
    return found


# ------------------------------------------------------------------------------------------- the table


def mean_ap(matches) -> float:
    return average_precision_of(matches)["mean"]


class Table:
    """Prints a line for each variant, as it comes."""

    def __init__(self, films):
        self.films, self.first, self.matches = films, None, {}

    def line(self, name: str, found: list[dict]) -> None:
        """The mAP of a variant, and its difference from the first line."""
        matches = self.matches[name] = match_images(found, self.films.targets)
        value = mean_ap(matches)
        if self.first is None:
            self.first = matches
            print(f"{name:<58}{value:6.3f}", flush=True)
            return
        low, high = self.interval(matches, self.first)
        verdict = "higher" if low > 0 else "lower" if high < 0 else "undecided"
        change = value - mean_ap(self.first)
        print(f"{name:<58}{value:6.3f}{change:+8.3f}   {low:+.3f} to {high:+.3f}   {verdict}", flush=True)

    def interval(self, some, other) -> tuple[float, float]:
        """The 95 % interval of a difference, the same patients drawn for both."""
        options = {"samples": SAMPLES, "generator": torch.Generator().manual_seed(0)}
        return bootstrap_interval(
            lambda a, b: mean_ap(a) - mean_ap(b), some, other, groups=self.films.patients, **options
        )


def judged_twice(table: Table, name: str, network, kept: Films, test: Films, parts, *, context: int) -> None:
    """Two lines: the network's features under SVMs, and under its own softmax."""
    linear = linear_models(kept, of_crops(network, kept, context=context), *parts)
    features = of_crops(network, test, context=context)
    two_lines(table, name, test, features, linear, network.cpu().logits)


@torch.no_grad()
def svm_line(table: Table, name: str, test: Films, features: list[Tensor], linear: Linear) -> None:
    """Scored by SVMs."""

    def scores(x: Tensor) -> Tensor:
        return F.pad(x @ linear.weights.T + linear.biases, (1, 0))  # background first, which is not looked at

    table.line(name, detections(test, features, linear.moves, scores, least=rcnn.MARGIN))


@torch.no_grad()
def two_lines(table: Table, name: str, test: Films, features: list[Tensor], linear: Linear, logits) -> None:
    """The same features and the same moved boxes, scored by SVMs and by a softmax."""
    svm_line(table, f"{name}; SVMs", test, features, linear)
    found = detections(test, features, linear.moves, lambda x: logits(x).softmax(dim=1), least=0.01)
    table.line(f"{name}; softmax", found)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(describe())
    start, (films, proposals), test = time.process_time(), comparison_films("train"), Films(*comparison_films("test"))
    parts = split_by_patient(films.patients, (0.85, 0.15), seed=0)  # to learn from, to choose the penalty on
    draw = torch.Generator().manual_seed(0)
    some = [boxes[torch.randperm(len(boxes), generator=draw)[:KEPT]] for boxes in proposals]
    kept = Films(films, [torch.cat([t["boxes"], boxes]) for t, boxes in zip(films.targets, some, strict=True)])
    table = Table(test.films)
    print(f"\n{'':<58}{'mAP':>6}{'change':>8}   95 % of resamples")
    for size, context, frozen in [(32, 2, True), (48, 10, True), (32, 2, False)]:
        network = fine_tuned(Films(films, proposals), parts[0], size=size, context=context, frozen=frozen)
        name = f"crops of {size} px, {context} around the box" + ("" if frozen else ", all layers trained")
        judged_twice(table, name, network, kept, test, parts, context=context)
    shipped = trained_rcnn().network  # of notebook 08: six times as many crops to learn from
    judged_twice(table, "crops of 48 px, 3 around the box", shipped, kept, test, parts, context=rcnn.CONTEXT)
    for cut in (warped, windows, whole_film):
        linear = linear_models(kept, untrained(kept, cut), *parts)
        svm_line(table, f"no fine-tuning, {cut.__name__}; SVMs", test, untrained(test, cut), linear)
    fast = trained_fast_rcnn()
    linear = linear_models(kept, of_films(fast, kept), *parts)
    two_lines(table, "Fast R-CNN's features", test, of_films(fast, test), linear, fast.cpu().roi_head.class_logits)
    with torch.no_grad():
        whole = [fast([i], [b])[0] for i, b in zip(test.films.images, test.proposals, strict=True)]
    table.line("Fast R-CNN as it is, its own boxes", whole)
    print(f"\n{(time.process_time() - start) / 60:.0f} minutes of processor time")


if __name__ == "__main__":
    main()

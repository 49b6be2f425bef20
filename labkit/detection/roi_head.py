"""The second stage: classify each proposal and move its box (Girshick 2015; Fast and Faster R-CNN share it).

Shapes      B images, R proposals in all, K classes with background, C channels.
Boxes       xyxy pixels of the padded batch; a feature cell is `stride` pixels.
Training    of an image's proposals `samples` are drawn, at most a quarter of them foreground.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.detection.boxes import decode_boxes, encode_boxes

# Deltas are divided by their usual spread, so that both parts of the loss weigh alike (Fast R-CNN, 2.3).
DELTA_SPREAD = (0.1, 0.1, 0.2, 0.2)
# Where smooth L1 turns from a parabola into a line, in normalised deltas (py-faster-rcnn's sigma = 3).
SMOOTH_L1_BETA = 1 / 9


class RoIHead(nn.Module):
    """Pools each proposal to a fixed grid, then two fully connected layers, then class and box.

    Taught in notebook 07, where `roi_align` is built from scratch.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        stride: int,
        pool_size: int = 7,
        hidden: int = 128,
        samples: int = 128,
        positive_fraction: float = 0.25,
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
    ) -> None:
        """Build the head.

        Args:
            in_channels: of the features.
            num_classes: with background.
            stride: pixels a feature cell.
            pool_size: cells a side that each proposal is pooled to.
            hidden: width of the two fully connected layers.
            samples: proposals an image trained on.
            positive_fraction: at most this share of them is foreground.
            positive_iou: foreground from here; background below `negative_iou`, left out between.
            negative_iou: see `positive_iou`.
        """
        super().__init__()
        self.stride, self.pool_size = stride, pool_size
        self.samples, self.positive_fraction = samples, positive_fraction
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.num_classes = num_classes
        self.fc1 = nn.Linear(in_channels * pool_size**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.class_logits = nn.Linear(hidden, num_classes)
        self.box_deltas = nn.Linear(hidden, 4 * num_classes)

    def forward(self, features: Tensor, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(class_logits (R, K), deltas (R, K, 4) in units of their spread) of the proposals of all images."""
        # aligned=False as in torchvision's detectors: a cell's feature stands at its corner, where its anchors sit
        pooled = ops.roi_align(
            features, proposals, self.pool_size, spatial_scale=1 / self.stride, sampling_ratio=2, aligned=False
        )  # (R, C, pool_size, pool_size)
        hidden = F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))
        return self.class_logits(hidden), self.box_deltas(hidden).unflatten(1, (self.num_classes, 4))

    def losses(self, features: Tensor, proposals: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
        """The multi-task loss on sampled proposals: `classifier` (cross entropy) and `box` (smooth L1)."""
        chosen, labels, deltas = [], [], []
        for boxes, target in zip(proposals, targets, strict=True):
            # the truths are proposals too: early on nothing else overlaps them
            boxes = torch.cat([boxes, target["boxes"]])
            matches = match_proposals(
                boxes, target["boxes"], positive_iou=self.positive_iou, negative_iou=self.negative_iou
            )
            positive, negative = sample(matches, self.samples, self.positive_fraction)
            rows, matched = torch.cat([positive, negative]), matches[positive]
            chosen.append(boxes[rows])
            labels.append(torch.cat([target["labels"][matched], torch.zeros_like(negative)]))
            deltas.append(encode_boxes(target["boxes"][matched], boxes[positive]))
        class_logits, box_deltas = self(features, chosen)
        labels, deltas = torch.cat(labels), torch.cat(deltas) / deltas[0].new_tensor(DELTA_SPREAD)
        positive = labels.nonzero()[:, 0]
        predicted = box_deltas[positive, labels[positive]].float()
        box_loss = F.smooth_l1_loss(predicted, deltas, beta=SMOOTH_L1_BETA, reduction="sum")
        count = max(len(labels), 1)  # all samples: an image without objects adds nothing to the boxes' loss
        return {
            "classifier": F.cross_entropy(class_logits.float(), labels, reduction="sum") / count,
            "box": box_loss / count,
        }

    def detect(
        self,
        features: Tensor,
        proposals: list[Tensor],
        image_sizes: list[tuple[int, int]],
        *,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
    ) -> list[dict[str, Tensor]]:
        """One dict an image: `boxes` (N, 4), `labels` (N,), `scores` (N,), best first, suppressed per class."""
        class_logits, deltas = self(features, proposals)
        counts = [len(p) for p in proposals]
        boxes = _decode_classes(deltas.float(), torch.cat(proposals)).split(counts)  # (R, K, 4)
        scores = class_logits.float().softmax(dim=1).split(counts)
        return [
            select_detections(
                b, s, size, score_threshold=score_threshold, nms_iou=nms_iou, max_detections=max_detections
            )
            for b, s, size in zip(boxes, scores, image_sizes, strict=True)
        ]


def sample(matches: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """(Positive rows, negative rows) drawn at random, `count` together where there are enough.

    Args:
        matches: (N,) int64, the matched box, -1 background, -2 ignored.
        count: rows to draw.
        positive_fraction: at most this share is positive; background fills the rest.

    Example:
        >>> positive, negative = sample(torch.tensor([0, -1, -2, -1]), 3, 0.5)
        >>> positive, len(negative)
        (tensor([0]), 2)
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == -1).nonzero()[:, 0]
    positives = min(len(positive), int(count * positive_fraction))
    negatives = min(len(negative), count - positives)
    # in this order, so that the same seed draws what torchvision draws
    positive = positive[torch.randperm(len(positive), device=matches.device)[:positives]]
    return positive, negative[torch.randperm(len(negative), device=matches.device)[:negatives]]


def match_proposals(proposals: Tensor, boxes: Tensor, *, positive_iou: float, negative_iou: float) -> Tensor:
    """(R,) row of the true box each proposal is trained on, -1 for background, -2 for neither.

    As `match_anchors`, but a truth whose best proposal is poor gets none: proposals are many and good.

    Args:
        proposals: (R, 4) xyxy pixels.
        boxes: (N, 4) truths; (0, 4) makes every proposal background.
        positive_iou: foreground from here on.
        negative_iou: background below; ignored between the two.

    Example:
        >>> proposals = torch.tensor([[0.0, 0.0, 8.0, 6.0], [0.0, 0.0, 8.0, 3.0], [20.0, 0.0, 28.0, 6.0]])
        >>> match_proposals(proposals, proposals[:1], positive_iou=0.6, negative_iou=0.3)
        tensor([ 0, -2, -1])
    """
    if not len(boxes):
        return torch.full((len(proposals),), -1, device=proposals.device)
    iou, best = ops.box_iou(boxes, proposals).max(dim=0)
    return best.where(iou >= positive_iou, -2).where(iou >= negative_iou, -1)


def _decode_classes(deltas: Tensor, proposals: Tensor) -> Tensor:
    """(R, K, 4) boxes, one a class, of deltas (R, K, 4) and proposals (R, 4)."""
    spread = deltas.new_tensor(DELTA_SPREAD)
    rows = proposals[:, None].expand_as(deltas).reshape(-1, 4)
    return decode_boxes((deltas * spread).reshape(-1, 4), rows).view_as(deltas)


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    *,
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
) -> dict[str, Tensor]:
    """Detections of one image, best first: clipped, certain enough, and suppressed within each class.

    Args:
        boxes: (R, K, 4), a box for each proposal and class; background's is not looked at.
        scores: (R, K), column 0 background.
        image_size: (H, W) pixels.
        score_threshold: a score must be above it.
        nms_iou: a box drops those of its class that overlap it more.
        max_detections: the best of all classes.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 6.0], [0.0, 0.0, 9.0, 5.0]])[:, None].expand(2, 2, 4)
        >>> scores = torch.tensor([[0.2, 0.8], [0.3, 0.7]])
        >>> select_detections(boxes, scores, (20, 30), score_threshold=0, nms_iou=0.5, max_detections=9)["scores"]
        tensor([0.8000])
    """
    boxes = ops.clip_boxes_to_image(boxes, image_size)[:, 1:]  # background has no box  (R, K - 1, 4)
    rows, classes = (scores[:, 1:] > score_threshold).nonzero(as_tuple=True)
    boxes, scores, labels = boxes[rows, classes], scores[rows, classes + 1], classes + 1
    keep = ops.remove_small_boxes(boxes, min_size=1e-2)  # clipped to nothing
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    keep = ops.batched_nms(boxes, scores, labels, nms_iou)[:max_detections]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

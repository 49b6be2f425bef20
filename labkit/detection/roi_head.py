"""The second stage: classify each proposal and move its box (Girshick 2015; Fast and Faster R-CNN share it).

Shapes      B images, R proposals in all, K classes with background, C channels.
Boxes       xyxy pixels of the padded batch; a feature cell is `stride` pixels.
Training    of an image's proposals `samples` are drawn, at most a quarter of them foreground.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.detection.boxes import decode_boxes, deltas_between
from labkit.detection.images import Target, check_answers
from labkit.detection.matching import match_iou, sample
from labkit.detection.roi_pooling import roi_align

# Deltas are divided by their usual spread, so that both parts of the loss weigh alike (Fast R-CNN, 2.3).
DELTA_SPREAD = (0.1, 0.1, 0.2, 0.2)
# Where smooth L1 turns from a parabola into a line, in normalised deltas (py-faster-rcnn's sigma = 3).
SMOOTH_L1_BETA = 1 / 9
SMALLEST = 1e-2  # pixels; a box with a smaller side was clipped to nothing (torchvision's)


class HeadOptions(TypedDict, total=False):
    """What of a `RoIHead` may be chosen; its constructor says what each is."""

    pool_size: int
    hidden: int
    samples: int
    positive_fraction: float
    positive_iou: float
    negative_iou: float


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

    def forward(self, features: Tensor, proposals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(class_logits (R, K), deltas (R, K, 4) in units of their spread) of the proposals of all images."""
        pooled = roi_align(features, proposals, size=self.pool_size, stride=self.stride)  # (R, C, S, S)
        hidden = F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))
        return self.class_logits(hidden), self.box_deltas(hidden).unflatten(1, (self.num_classes, 4))

    def losses(self, features: Tensor, proposals: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The multi-task loss on sampled proposals: `classifier` (cross entropy) and `box` (smooth L1)."""
        chosen, labels, deltas = [], [], []
        for boxes, target in zip(proposals, targets, strict=True):
            # the truths are proposals too: early on nothing else overlaps them
            boxes = torch.cat([boxes, target["boxes"]])
            matches = match_iou(
                ops.box_iou(target["boxes"], boxes),
                positive_iou=self.positive_iou,
                negative_iou=self.negative_iou,
                best_of_each_truth=False,
            )
            positive, negative = sample(matches, self.samples, self.positive_fraction)
            rows, matched = torch.cat([positive, negative]), matches[positive]
            chosen.append(boxes[rows])
            labels.append(torch.cat([target["labels"][matched], torch.zeros_like(negative)]))
            deltas.append(deltas_between(target["boxes"][matched], boxes[positive]))
        class_logits, box_deltas = self(features, chosen)
        truth, wanted = torch.cat(labels), torch.cat(deltas) / deltas[0].new_tensor(DELTA_SPREAD)
        positive = truth.nonzero()[:, 0]
        predicted = box_deltas[positive, truth[positive]].float()
        box_loss = F.smooth_l1_loss(predicted, wanted, beta=SMOOTH_L1_BETA, reduction="sum")
        count = max(len(truth), 1)  # all samples: an image without objects adds nothing to the boxes' loss
        return {
            "classifier": F.cross_entropy(class_logits.float(), truth, reduction="sum") / count,
            "box": box_loss / count,
        }

    def detect(
        self,
        features: Tensor,
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *answers: Tensor,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
    ) -> list[dict[str, Tensor]]:
        """One dict an image: `boxes` (N, 4), `labels` (N,), `scores` (N,), best first, suppressed per class.

        Args:
            features: (B, C, h, w).
            proposals: B tensors (R, 4) xyxy pixels.
            image_sizes: B pairs (H, W), pixels.
            answers: what else of the network has to be finite, the logits that made the proposals for one.
            score_threshold, iou_threshold, max_detections: see `select_detections`.
        """
        class_logits, deltas = self(features, proposals)
        check_answers(class_logits, deltas, *answers)
        counts = [len(p) for p in proposals]
        boxes = _decode_classes(deltas.float(), torch.cat(list(proposals))).split(counts)  # (R, K, 4)
        scores = class_logits.float().softmax(dim=1).split(counts)
        return [
            select_detections(
                b, s, size, score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections
            )
            for b, s, size in zip(boxes, scores, image_sizes, strict=True)
        ]


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
    iou_threshold: float,
    max_detections: int,
) -> dict[str, Tensor]:
    """Detections of one image, best first: clipped, certain enough, and suppressed within each class.

    Args:
        boxes: (R, K, 4), a box for each proposal and class; background's is not looked at.
        scores: (R, K), column 0 background.
        image_size: (H, W) pixels.
        score_threshold: a score must be above it.
        iou_threshold: a box drops those of its class that overlap it more.
        max_detections: the best of all classes.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 6.0], [0.0, 0.0, 9.0, 5.0]])[:, None].expand(2, 2, 4)
        >>> scores = torch.tensor([[0.2, 0.8], [0.3, 0.7]])
        >>> select_detections(boxes, scores, (20, 30), score_threshold=0, iou_threshold=0.5, max_detections=9)["scores"]
        tensor([0.8000])
    """
    boxes = ops.clip_boxes_to_image(boxes, image_size)[:, 1:]  # background has no box  (R, K - 1, 4)
    whole = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST).all(dim=-1)  # others are clipped to nothing
    rows, classes = ((scores[:, 1:] > score_threshold) & whole).nonzero(as_tuple=True)
    boxes, scores, labels = boxes[rows, classes], scores[rows, classes + 1], classes + 1
    keep = ops.batched_nms(boxes, scores, labels, iou_threshold)[:max_detections]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

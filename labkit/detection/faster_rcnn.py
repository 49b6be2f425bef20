"""Faster R-CNN (Ren et al. 2015): the network proposes its own boxes.

    images -> backbone -> features -+-> RPN: objectness and deltas of each anchor -> proposals --+
                                    +------------------------------------------------------> RoI head -> detections

One feature map, one optimiser, four losses. With the same weights and settings it gives what torchvision's `FasterRCNN`
gives (a test holds it to that). Taught in notebook 08.

Shapes   B images, C channels, A = h * w * K anchors, row-major, K a cell.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.detection.anchors import cell_anchors, check_anchors, spread_anchors
from labkit.detection.backbone import FeatureExtractor
from labkit.detection.boxes import decode_boxes, deltas_between
from labkit.detection.images import Target, batch_images, channel_values, check_batch
from labkit.detection.matching import check_thresholds, match_iou, sample
from labkit.detection.roi_head import SMOOTH_L1_BETA, HeadOptions, RoIHead

# A network learns nothing from anchors that hardly touch what they answer for; with no better one it stops and says so.
LEAST_FIT = 0.1
SMALLEST = 1e-3  # pixels; a proposal with a smaller side was clipped to nothing (torchvision's)


class RPNOptions(TypedDict, total=False):
    """What of a `RegionProposalNetwork` may be chosen; its constructor says what each is."""

    samples: int
    positive_fraction: float
    positive_iou: float
    negative_iou: float
    iou_threshold: float
    before_nms: tuple[int, int]
    after_nms: tuple[int, int]


class RegionProposalNetwork(nn.Module):
    """A 3x3 convolution, then for each anchor of each cell one objectness logit and four deltas."""

    cell: Tensor  # (K, 4) anchors of one cell

    def __init__(
        self,
        in_channels: int,
        *,
        stride: int,
        sizes: Sequence[float],
        aspect_ratios: Sequence[float],
        samples: int = 256,
        positive_fraction: float = 0.5,
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        iou_threshold: float = 0.7,
        before_nms: tuple[int, int] = (2000, 1000),
        after_nms: tuple[int, int] = (1000, 300),
    ) -> None:
        """Build the head.

        Args:
            in_channels: of the features.
            stride: pixels a feature cell.
            sizes, aspect_ratios: of the anchors; pixels, and height / width.
            samples, positive_fraction: anchors an image that the losses see, and the most that are foreground.
            positive_iou, negative_iou: see `match_anchors`.
            iou_threshold: proposals that overlap a better one by more are dropped.
            before_nms, after_nms: most proposals an image, (in training, at test time).
        """
        super().__init__()
        self.stride, self.sizes, self.aspect_ratios = stride, tuple(sizes), tuple(aspect_ratios)
        self.samples, self.positive_fraction = samples, positive_fraction
        check_thresholds(positive_iou, negative_iou)
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.iou_threshold, self.before_nms, self.after_nms = iou_threshold, before_nms, after_nms
        # rounded as torchvision's are, so that weights trained with one fit the other
        self.register_buffer("cell", cell_anchors(sizes, aspect_ratios), persistent=False)
        per_cell = len(self.cell)
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.objectness = nn.Conv2d(in_channels, per_cell, 1)
        self.deltas = nn.Conv2d(in_channels, 4 * per_cell, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)  # the paper's start: no box is sure of itself
            nn.init.constant_(layer.get_parameter("bias"), 0)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(objectness_logits (B, A), deltas (B, A, 4), anchors (A, 4)) of features (B, C, h, w)."""
        hidden = F.relu(self.conv(features))
        logits = self.objectness(hidden).permute(0, 2, 3, 1).flatten(1)  # (B, h * w * K)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        size = (features.shape[2], features.shape[3])
        anchors = spread_anchors(self.cell, size, stride=(self.stride, self.stride))
        return logits.float(), deltas.float(), anchors

    @torch.no_grad()
    def proposals(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """(R, 4) boxes an image, best first: decoded, clipped to the image, and suppressed."""
        stage = 0 if self.training else 1
        scores, rows = logits.topk(min(self.before_nms[stage], logits.shape[1]), dim=1)
        chosen = deltas.gather(1, rows[..., None].expand(-1, -1, 4))  # (B, R, 4)
        boxes = decode_boxes(chosen.flatten(0, 1), anchors[rows].flatten(0, 1)).view_as(chosen)
        limits = [[width, height, width, height] for height, width in image_sizes]
        limit = torch.tensor(limits, dtype=boxes.dtype).to(boxes.device)[:, None]  # (B, 1, 4)
        boxes, scores = torch.minimum(boxes.clamp(min=0), limit), scores.sigmoid()
        whole = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST).all(dim=2)  # others are clipped to nothing
        kept = []
        for box, score, good in zip(boxes, scores, whole, strict=True):
            box, score = box[good], score[good]
            kept.append(box[ops.nms(box, score, self.iou_threshold)[: self.after_nms[stage]]])
        return kept

    def losses(self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """`objectness` (binary cross entropy) and `rpn_box` (smooth L1) on sampled anchors of all images.

        Raises:
            ValueError: an image has boxes and no anchor that fits one of them; it says which would.
        """
        seen, is_object, predicted, wanted, fits = [], [], [], [], []
        for logit, delta, target in zip(logits, deltas, targets, strict=True):
            boxes = target["boxes"]
            iou = ops.box_iou(boxes, anchors)  # (N, A)
            matches = match_iou(
                iou, positive_iou=self.positive_iou, negative_iou=self.negative_iou, best_of_each_truth=True
            )
            positive, negative = sample(matches, self.samples, self.positive_fraction)
            if len(boxes):
                fits.append((iou[:, positive] >= LEAST_FIT).any())
            seen += [logit[positive], logit[negative]]
            is_object += [torch.ones_like(seen[-2]), torch.zeros_like(seen[-1])]
            predicted.append(delta[positive])
            wanted.append(deltas_between(boxes[matches[positive]], anchors[positive]))
        if fits and not torch.stack(fits).all():  # one look for all images: on a GPU it is a wait
            self._name_misfits(anchors, targets)
        chosen = torch.cat(seen)
        box_loss = F.smooth_l1_loss(torch.cat(predicted), torch.cat(wanted), beta=SMOOTH_L1_BETA, reduction="sum")
        return {
            "objectness": F.binary_cross_entropy_with_logits(chosen, torch.cat(is_object)),
            "rpn_box": box_loss / len(chosen),
        }

    def _name_misfits(self, anchors: Tensor, targets: Sequence[Target]) -> None:
        """The error that says which anchors would fit, for the first image with boxes that none fits."""
        for target in targets:
            boxes = target["boxes"]
            if len(boxes) and not (ops.box_iou(boxes, anchors) >= LEAST_FIT).any():
                shapes = {"sizes": self.sizes, "aspect_ratios": self.aspect_ratios}
                check_anchors(boxes, stride=self.stride, **shapes, least_iou=LEAST_FIT)


class FasterRCNN(nn.Module):
    """In training a dict of four losses, at test time a list of detections."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        backbone: FeatureExtractor,
        num_classes: int,
        *,
        sizes: Sequence[float] = (12, 24, 48),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        image_mean: Sequence[float] = (0.5,),
        image_std: Sequence[float] = (0.25,),
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        rpn: RPNOptions | None = None,
        head: HeadOptions | None = None,
    ) -> None:
        """Build the network.

        Args:
            backbone: images -> features (B, C, h, w); with `out_channels` and `stride`.
            num_classes: with background.
            sizes, aspect_ratios: of the anchors; pixels, and height / width.
            image_mean, image_std: of each channel; one number serves all channels.
            score_threshold, iou_threshold, max_detections: which detections come out at test time.
            rpn: options of `RegionProposalNetwork`.
            head: options of `RoIHead`.
        """
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes
        self.rpn = RegionProposalNetwork(
            backbone.out_channels, stride=backbone.stride, sizes=sizes, aspect_ratios=aspect_ratios, **(rpn or {})
        )
        self.roi_head = RoIHead(backbone.out_channels, num_classes, stride=backbone.stride, **(head or {}))
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections
        mean, std = channel_values(backbone, image_mean, image_std)
        self.register_buffer("image_mean", mean)
        self.register_buffer("image_std", std)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses `objectness`, `rpn_box`, `classifier`, `box` in training mode, else detections.

        Args:
            images: B tensors (C, H, W) in [0, 1], of any sizes. They are padded to one size, and what lies near the
                padding sees it (torchvision's detectors do the same): give images one by one where that matters.
            targets: B dicts with `boxes` (N, 4) and `labels` (N,), needed in training; N may be 0.

        Raises:
            ValueError: what `check_batch` finds, targets are missing in training, or no anchor fits.
        """
        wanted = targets if self.training else None
        if self.training and wanted is None:
            raise ValueError("expected targets in training mode, got None; call model.eval() to detect")
        check_batch(
            images,
            wanted,
            stride=self.backbone.stride,
            num_classes=self.num_classes,
            channels=len(self.image_mean),
        )
        image_sizes = [(image.shape[1], image.shape[2]) for image in images]
        batch = batch_images(images, mean=self.image_mean, std=self.image_std, multiple=self.backbone.stride)
        features = self.backbone(batch)
        logits, deltas, anchors = self.rpn(features)
        proposals = self.rpn.proposals(logits.detach(), deltas.detach(), anchors, image_sizes)
        if wanted is not None:
            first = self.rpn.losses(logits, deltas, anchors, wanted)
            return first | self.roi_head.losses(features, proposals, wanted)
        return self.roi_head.detect(
            features,
            proposals,
            image_sizes,
            logits,
            deltas,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )

"""Fast R-CNN (Girshick 2015): the image goes through the network once, proposals are cut from its features.

    images -> backbone -> features -> RoI head (pool, classify, move the box) -> detections
    proposals --------------------------^

Proposals come from outside, from selective search for one. Trained end to end by one loss. Taught in notebook 07.
"""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from labkit.detection.backbone import FeatureExtractor
from labkit.detection.images import Target, batch_images, channel_values, check_batch, check_proposals
from labkit.detection.roi_head import HeadOptions, RoIHead


class FastRCNN(nn.Module):
    """In training a dict of losses, at test time a list of detections; proposals are given.

    Example:
        >>> import torch
        >>> from labkit.detection.backbone import Backbone
        >>> model = FastRCNN(Backbone(), num_classes=3).eval()
        >>> found = model([torch.zeros(1, 40, 56)], [torch.tensor([[4.0, 8.0, 30.0, 24.0]])])
        >>> sorted(found[0])
        ['boxes', 'labels', 'scores']
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        backbone: FeatureExtractor,
        num_classes: int,
        *,
        image_mean: Sequence[float] = (0.5,),
        image_std: Sequence[float] = (0.25,),
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        **head: Unpack[HeadOptions],
    ) -> None:
        """Build the network.

        Args:
            backbone: images -> features (B, C, h, w); with `out_channels` and `stride`.
            num_classes: with background.
            image_mean, image_std: of each channel; one number serves all channels.
            score_threshold, iou_threshold, max_detections: which detections come out at test time.
            head: options of `RoIHead`.
        """
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes
        self.roi_head = RoIHead(backbone.out_channels, num_classes, stride=backbone.stride, **head)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections
        mean, std = channel_values(backbone, image_mean, image_std)
        self.register_buffer("image_mean", mean)
        self.register_buffer("image_std", std)

    def forward(
        self, images: Sequence[Tensor], proposals: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses `classifier` and `box` in training mode, else detections.

        Args:
            images: B tensors (C, H, W) in [0, 1], of any sizes; padded to one, which what lies near the padding sees.
            proposals: B tensors (R, 4) xyxy pixels.
            targets: B dicts with `boxes` and `labels`, needed in training; an image may have none.

        Raises:
            ValueError: what `check_batch` and `check_proposals` find, or targets are missing in training.
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
        check_proposals(proposals, images)
        batch = batch_images(images, mean=self.image_mean, std=self.image_std, multiple=self.backbone.stride)
        features = self.backbone(batch)
        if wanted is not None:
            return self.roi_head.losses(features, proposals, wanted)
        return self.roi_head.detect(
            features,
            proposals,
            [(image.shape[1], image.shape[2]) for image in images],
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )

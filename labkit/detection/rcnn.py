"""R-CNN (Girshick et al. 2014): a network looks at each proposal, an SVM judges it, a ridge regression moves it.

    proposals -> crop_and_resize -> network -> features -> one linear SVM a class -> suppression -> detections
                                                  |-----> one ridge regression a class: deltas ---^

Three trainings, one after the other: the network (`RegionNetwork`, with `fit`), the SVMs (`fit_svm`) and the
regressions (`ridge`). `RCNN` puts their results together. Taught in notebook 06.

Shapes   R proposals of one image, N rows of all images, F features, K classes with background.
Boxes    (R, 4) xyxy pixels.
Images   normalised, grey values less their mean by their spread: outside an image is 0, the mean.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from labkit.detection.backbone import FeatureExtractor
from labkit.detection.boxes import check_boxes, decode_boxes
from labkit.detection.images import check_answers, check_image, check_images, check_labels, check_proposals
from labkit.detection.linear_models import MARGIN, fit_svm, hard_negatives, ridge
from labkit.detection.roi_head import select_detections

__all__ = [
    "CONTEXT",
    "MARGIN",
    "RCNN",
    "RegionNetwork",
    "class_overlaps",
    "crop_and_resize",
    "fit_svm",
    "hard_negatives",
    "proposal_features",
    "ridge",
]

CONTEXT = 3  # pixels around a warped proposal of 48; the paper has 16 of 227
CROPS_AT_ONCE = 128  # what lies between two layers then fits a CPU's cache: six hundred at once take half again as long


def crop_and_resize(image: Tensor, boxes: Tensor, *, size: int, context: int = 0) -> Tensor:
    """(R, C, size, size): each box cut out and warped to a square, whatever its shape.

    Sampled bilinearly at the middle of each output pixel; outside the image everything is 0. Built from scratch in
    notebook 06.

    Args:
        image: (C, H, W).
        boxes: (R, 4) xyxy pixels.
        size: side of the result.
        context: pixels of the *result* on each side that show what is around the box (appendix A of the paper).

    Raises:
        ValueError: a box has no area or the wrong shape, or the context leaves no room for the box.

    Example:
        >>> image = torch.arange(8.0).repeat(6, 1)[None]  # grey values grow by 1 a pixel, to the right
        >>> crop_and_resize(image, torch.tensor([[2.0, 1.0, 6.0, 3.0]]), size=2)
        tensor([[[[2.5000, 4.5000],
                  [2.5000, 4.5000]]]])
    """
    if image.ndim != 3 or not image.is_floating_point():
        got = f"{tuple(image.shape)}, {image.dtype}"
        raise ValueError(f"image must be floating point (C, H, W), got {got}; write image[None] or image.float()")
    check_boxes(boxes)
    if not isinstance(size, int) or not 0 <= 2 * context < size:
        got = f"{context} and {size}"
        raise ValueError(f"0 <= 2 * context < size must hold, in whole pixels, got {got}; the box needs room")
    # the box grows by what the context is in pixels of the image
    around = (boxes[:, 2:] - boxes[:, :2]) * context / (size - 2 * context)  # (R, 2) x y
    grown = torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], dim=1).to(image.dtype)
    # a border of zeros, since `roi_align` holds the last pixel on for one more
    padded = F.pad(image, (1, 1, 1, 1))[None]
    return ops.roi_align(padded, [grown + 1], size, sampling_ratio=1, aligned=True)


def class_overlaps(proposals: Tensor, boxes: Tensor, labels: Tensor, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """(R, K - 1) IoU of each proposal with the nearest truth of each class, and (R, K - 1, 4) that truth.

    Args:
        proposals: (R, 4) xyxy pixels.
        boxes, labels: (N, 4) and (N,), the truths; N may be 0.
        num_classes: K, with background.

    Raises:
        ValueError: a label is outside 1 … num_classes - 1.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
        >>> iou, truth = class_overlaps(box, box, torch.tensor([2]), num_classes=3)
        >>> iou, truth[0, 1]
        (tensor([[0., 1.]]), tensor([0., 0., 4., 2.]))
    """
    check_labels(labels, num_classes=num_classes)
    iou = torch.zeros(len(proposals), num_classes - 1, device=proposals.device)
    truth = torch.zeros(len(proposals), num_classes - 1, 4, device=proposals.device)
    for label in labels.unique().tolist():
        mine = boxes[labels == label]
        iou[:, label - 1], row = ops.box_iou(proposals, mine).max(dim=1)
        truth[:, label - 1] = mine[row]
    return iou, truth


class RegionNetwork(nn.Module):
    """Class logits (R, K) of warped proposals (R, C, size, size); its hidden layer is what the SVMs see.

    Example:
        >>> from labkit.detection.backbone import Backbone
        >>> RegionNetwork(Backbone(), num_classes=3)(torch.zeros(5, 1, 48, 48)).shape
        torch.Size([5, 3])
    """

    def __init__(self, backbone: FeatureExtractor, num_classes: int, *, size: int = 48, hidden: int = 128) -> None:
        """Build the network.

        Args:
            backbone: images -> features (B, C, h, w); with `out_channels` and `stride`.
            num_classes: with background.
            size: side of the warped proposals; the fully connected layer fits no other.
            hidden: length of the features.
        """
        super().__init__()
        self.backbone, self.size = backbone, size
        channels = getattr(backbone, "channels", None)
        self.channels = None if channels is None else (channels,)  # of an image, where the backbone says it
        cells = -(-size // backbone.stride)
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(backbone.out_channels * cells**2, hidden), nn.ReLU())
        self.logits = nn.Linear(hidden, num_classes)

    def extra_repr(self) -> str:
        """What the weights do not tell."""
        return f"size={self.size}"

    def features(self, crops: Tensor) -> Tensor:
        """(R, hidden) of warped proposals (R, C, size, size)."""
        return self.fc(self.backbone(crops))

    def forward(self, crops: Tensor) -> Tensor:
        """Logits (R, K) of warped proposals (R, C, size, size)."""
        return self.logits(self.features(crops))


class RCNN(nn.Module):
    """The five steps put together: images and proposals in, detections out.

    Example:
        >>> from labkit.detection.backbone import Backbone
        >>> network = RegionNetwork(Backbone(), num_classes=3)
        >>> model = RCNN(network, torch.zeros(2, 128), torch.tensor([0.5, -2.0]))
        >>> model([torch.zeros(1, 40, 56)], [torch.tensor([[4.0, 8.0, 30.0, 24.0]])])[0]["labels"]
        tensor([1])
    """

    svm_weights: Tensor
    svm_biases: Tensor
    box_weights: Tensor | None

    def __init__(
        self,
        network: RegionNetwork,
        svm_weights: Tensor,
        svm_biases: Tensor,
        box_weights: Tensor | None = None,
        *,
        context: int = CONTEXT,
        image_mean: float = 0.5,
        image_std: float = 0.25,
        score_threshold: float = MARGIN,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
    ) -> None:
        """Put it together.

        Args:
            network: fine-tuned.
            svm_weights, svm_biases: (K - 1, F) and (K - 1,), a row a class.
            box_weights: (K - 1, F + 1, 4) of `ridge`; None leaves proposals where they are.
            context: pixels around a warped proposal.
            image_mean, image_std: of the grey values.
            score_threshold, iou_threshold, max_detections: which detections come out.
        """
        super().__init__()
        self.network, self.context, self.image_mean, self.image_std = network, context, image_mean, image_std
        self.register_buffer("svm_weights", svm_weights)
        self.register_buffer("svm_biases", svm_biases)
        self.register_buffer("box_weights", box_weights)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections
        self.eval()

    @torch.no_grad()
    def forward(self, images: list[Tensor], proposals: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of each image: `boxes` (N, 4), `labels` (N,), `scores` (N,), best first.

        Args:
            images: B tensors (C, H, W) in [0, 1].
            proposals: B tensors (R, 4) xyxy pixels.

        Raises:
            ValueError: what `check_images`, `check_proposals` and `check_answers` find, or the network is in training
                mode.
        """
        check_images(images, channels=self.network.channels)
        check_proposals(proposals, images)
        if self.network.training:
            raise ValueError("expected a network in eval mode, got one in training mode; call model.eval() first")
        found = []
        for image, boxes in zip(images, proposals, strict=True):
            crops = _crops(self.network, image, boxes, self.context, self.image_mean, self.image_std)
            features = self.network.features(crops).float()
            found.append(self.detect(features, boxes, (image.shape[1], image.shape[2])))
        return found

    def detect(self, features: Tensor, proposals: Tensor, image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Detections of one image from features (R, F) that are there already, in full precision: boxes are exact."""
        with torch.autocast(features.device.type, enabled=False):
            return self._detect(features.float(), proposals, image_size)

    def _detect(self, features: Tensor, proposals: Tensor, image_size: tuple[int, int]) -> dict[str, Tensor]:
        scores = features @ self.svm_weights.T + self.svm_biases  # (R, K - 1)
        check_answers(scores)
        boxes = proposals[:, None].expand(-1, scores.shape[1], 4)  # (R, K - 1, 4)
        if self.box_weights is not None:
            rows = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
            deltas = torch.einsum("rf,kfd->rkd", rows, self.box_weights)
            check_answers(deltas)
            boxes = decode_boxes(deltas.reshape(-1, 4), boxes.reshape(-1, 4)).view_as(deltas)
        # `select_detections` expects background in the first column
        return select_detections(
            F.pad(boxes, (0, 0, 1, 0)),
            F.pad(scores, (1, 0)),
            image_size,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )


@torch.no_grad()
def proposal_features(
    network: RegionNetwork,
    image: Tensor,
    proposals: Tensor,
    *,
    context: int = CONTEXT,
    mean: float = 0.5,
    std: float = 0.25,
) -> Tensor:
    """(R, F) features of the proposals of one image, each cut out, warped and looked at by itself.

    Args:
        network: in eval mode.
        image: (C, H, W) in [0, 1].
        proposals: (R, 4) xyxy pixels.
        context: pixels around a warped proposal.
        mean, std: of the grey values.

    Raises:
        ValueError: this is no image, a proposal has no area or leaves it, the network is in training mode, or its
            weights are broken.

    Example:
        >>> from labkit.detection.backbone import Backbone
        >>> network = RegionNetwork(Backbone(), num_classes=3).eval()
        >>> proposal_features(network, torch.zeros(1, 40, 56), torch.tensor([[4.0, 8.0, 30.0, 24.0]])).shape
        torch.Size([1, 128])
    """
    if network.training:
        raise ValueError("expected a network in eval mode, got one in training mode; call network.eval() first")
    check_image(image, channels=network.channels)
    check_boxes(proposals, name="proposals", image_size=(image.shape[1], image.shape[2]))
    crops = _crops(network, image, proposals, context, mean, std)
    features = torch.cat([network.features(part).float() for part in crops.split(CROPS_AT_ONCE)])
    check_answers(features)
    return features


def _crops(network: RegionNetwork, image: Tensor, proposals: Tensor, context: int, mean: float, std: float) -> Tensor:
    return crop_and_resize((image - mean) / std, proposals, size=network.size, context=context)

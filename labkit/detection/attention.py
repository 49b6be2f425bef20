"""Attention heatmaps: a network that draws lesions as hills, and classifiers of films that are asked where they look.

    film -> backbone -> features -> heatmap, one number for every 2 x 2 pixels -> peaks, with their heights as scores
                           |
                           +------> evidence, cell by cell -> its soft maximum, the logit of a class

The detector has no anchors, no boxes and no suppression (see `heatmaps`). A classifier learns from labels alone, or has
its evidence pushed towards the hills besides: supervised attention. Taught in notebook 16.

Shapes   B films, H W pixels, h w cells of `stride` pixels, N lesions of a film.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.detection.backbone import FilmBackbone
from labkit.detection.heatmaps import STRIDE, gaussian_heatmap, heatmap_loss, heatmap_peaks
from labkit.detection.images import Target, batch_images, check_batch
from labkit.detection.patches import MEAN, STD
from labkit.weights import load_weights

FIRST_LOGIT = -4.0  # of an untrained heatmap: nearly all cells are background, and a start at 0 would shout for long
BENIGN, MALIGNANT = 1, 2


class HeatmapDetector(nn.Module):
    """In training a dict of one loss, at test time a list of peaks.

    Example:
        >>> detector = HeatmapDetector(FilmBackbone()).eval()
        >>> detector.heatmaps([torch.zeros(1, 64, 48)]).shape, sorted(detector([torch.zeros(1, 64, 48)])[0])
        (torch.Size([1, 32, 24]), ['centers', 'scores'])
    """

    stride = STRIDE

    def __init__(self, backbone: FilmBackbone, *, score_threshold: float = 0.01) -> None:
        """Build the head: two convolutions, and four numbers a cell of the features laid out as 2 x 2 cells.

        Args:
            backbone: films -> features at stride 4.
            score_threshold: lower peaks do not come out at test time.
        """
        super().__init__()
        self.backbone, self.score_threshold = backbone, score_threshold
        finer = backbone.stride // self.stride
        last = nn.Conv2d(32, finer**2, 1)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, FIRST_LOGIT)  # type: ignore[arg-type]
        self.head = nn.Sequential(
            nn.Conv2d(backbone.out_channels, 32, 3, padding=1), nn.ReLU(), last, nn.PixelShuffle(finer)
        )

    def logits(self, films: Sequence[Tensor] | Tensor) -> Tensor:
        """(B, H / 2, W / 2) before the sigmoid, in float32; films of several sizes are padded to one."""
        return self.head(self.backbone(_batch(films, self.backbone)))[:, 0].float()

    @torch.no_grad()
    def heatmaps(self, films: Sequence[Tensor] | Tensor) -> Tensor:
        """(B, H / 2, W / 2), 0 to 1."""
        return self.logits(films).sigmoid()

    def forward(
        self, films: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The loss `heatmap` in training mode, else the peaks of each film: `centers` (P, 2) and `scores` (P,).

        Args:
            films: B tensors (1, H, W) in [0, 1].
            targets: B dicts with `boxes` (N, 4) and `labels` (N,), needed in training; N may be 0.

        Raises:
            ValueError: what `check_batch` finds, or targets are missing in training.
        """
        wanted = _checked(films, targets, self)
        logits = self.logits(films)
        if wanted is None:
            return [heatmap_peaks(one, score_threshold=self.score_threshold) for one in logits.sigmoid()]
        size = (logits.shape[1] * self.stride, logits.shape[2] * self.stride)
        hills = torch.stack([gaussian_heatmap(t["boxes"], size, stride=self.stride) for t in wanted])
        return {"heatmap": heatmap_loss(logits, hills)}


class FilmClassifier(nn.Module):
    """Logits (B, 2) of films: is there a benign lesion (column 0), is there a malignant one (column 1)?

    The evidence for each class is a weighted sum of the features, cell by cell, and the logit a soft maximum over the
    film, the logarithm of the mean of exp(evidence): the box of a lesion fills a fiftieth of a film, and in a plain
    mean it would drown. Pinheiro and Collobert, CVPR 2015; Wang et al., "ChestX-ray8", CVPR 2017.

    Example:
        >>> FilmClassifier(FilmBackbone()).eval()([torch.zeros(1, 64, 48)]).shape
        torch.Size([1, 2])
    """

    def __init__(self, backbone: FilmBackbone, *, attention: float = 0.0) -> None:
        """Build it.

        Args:
            backbone: films -> features at stride 4.
            attention: weight of the loss that pushes the evidence towards the lesions; 0 trains from labels alone.
        """
        super().__init__()
        self.backbone, self.attention = backbone, attention
        self.evidence = nn.Conv2d(backbone.out_channels, 2, 1)

    def features(self, films: Sequence[Tensor] | Tensor) -> Tensor:
        """(B, 64, H / 4, W / 4)."""
        return self.backbone(_batch(films, self.backbone))

    def classify(self, features: Tensor) -> Tensor:
        """(B, 2) logits of features; what `grad_cam` takes as the head."""
        return _pooled(self.evidence(features))

    def forward(
        self, films: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | Tensor:
        """The losses `classes` and, where its weight is not 0, `attention` in training mode, else logits (B, 2).

        Args:
            films: B tensors (1, H, W) in [0, 1].
            targets: B dicts with `boxes` (N, 4) and `labels` (N,), needed in training; N may be 0.

        Raises:
            ValueError: what `check_batch` finds, or targets are missing in training.
        """
        wanted = _checked(films, targets, self)
        evidence = self.evidence(self.features(films)).float()  # (B, 2, h, w)
        if wanted is None:
            return _pooled(evidence)
        present = class_presence(wanted).to(evidence.device)
        losses = {"classes": F.binary_cross_entropy_with_logits(_pooled(evidence), present.float())}
        if self.attention:
            losses["attention"] = self.attention * attention_loss(evidence, wanted, stride=self.backbone.stride)
        return losses


def class_presence(targets: Sequence[Target]) -> Tensor:
    """(B, 2) bool: a benign lesion is on the film, a malignant one is.

    Example:
        >>> class_presence([{"labels": torch.tensor([2, 2])}, {"labels": torch.tensor([], dtype=torch.int64)}])
        tensor([[False,  True],
                [False, False]])
    """
    return torch.stack([torch.stack([(t["labels"] == label).any() for label in (BENIGN, MALIGNANT)]) for t in targets])


def class_questions(targets: Sequence[Target]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Where does the classifier see it? Each film is asked about each class that it shows.

    Returns:
        (Q,) row of the film, (Q,) column of the logits, and for each question the boxes (N, 4) of that class.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [6.0, 5.0, 9.0, 9.0]])
        >>> class_questions([{"boxes": boxes, "labels": torch.tensor([2, 1])}])[:2]
        (tensor([0, 0]), tensor([0, 1]))
    """
    rows, columns = class_presence(targets).nonzero(as_tuple=True)
    picked = [targets[row]["labels"] == column + 1 for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
    return rows, columns, [targets[row]["boxes"][mask] for row, mask in zip(rows.tolist(), picked, strict=True)]


def attention_loss(evidence: Tensor, targets: Sequence[Target], *, stride: int) -> Tensor:
    """How far the share of evidence in each cell is from the share of the hills: a cross entropy, a scalar.

    Only a class that is there is asked, since without a lesion there is no place to look at. The softmax over the
    cells leaves the height free: how much there is altogether is for the loss of the classes.

    Args:
        evidence: (B, 2, h, w).
        targets: B dicts with `boxes` and `labels`.
        stride: pixels a cell.

    Returns:
        The mean over the classes that are there, 0 where none is.

    Example:
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 0.3, 0.3]]), "labels": torch.tensor([2])}
        >>> round(float(attention_loss(torch.zeros(1, 2, 1, 4), [target], stride=1)), 3)  # ln 4: it says nothing yet
        1.386
    """
    size = (evidence.shape[2] * stride, evidence.shape[3] * stride)
    hills = torch.stack(
        [
            torch.stack(
                [gaussian_heatmap(t["boxes"][t["labels"] == k], size, stride=stride) for k in (BENIGN, MALIGNANT)]
            )
            for t in targets
        ]
    ).flatten(2)  # (B, 2, cells)
    there = hills.sum(dim=2)
    share = hills / there.clamp(min=1)[:, :, None]  # a hill has the height 1 somewhere, so its sum is 1 or more
    far = -(share * evidence.flatten(2).log_softmax(dim=2)).sum(dim=2)  # (B, 2), 0 without a hill
    return far.sum() / (there > 0).sum().clamp(min=1)


def layers_from_the_top(classifier: FilmClassifier) -> Mapping[str, Sequence[nn.Module]]:
    """The layers of a classifier in five groups, the top first: for `saliency.randomised`.

    Example:
        >>> list(layers_from_the_top(FilmClassifier(FilmBackbone())))
        ['evidence', 'merge', 'top down', 'coarse half', 'fine half']
    """
    backbone = classifier.backbone
    return {
        "evidence": [classifier.evidence],
        "merge": [backbone.merge],
        "top down": [backbone.top_down, backbone.lateral],
        "coarse half": [backbone.coarse],
        "fine half": [backbone.fine],
    }


def shipped_networks() -> nn.ModuleDict:
    """Where the trained weights go: the detector, and two classifiers, "plain" and "attended"."""
    return nn.ModuleDict(
        {
            "detector": HeatmapDetector(FilmBackbone()),
            "plain": FilmClassifier(FilmBackbone()),
            "attended": FilmClassifier(FilmBackbone()),
        }
    )


def attention_networks() -> nn.ModuleDict:
    """The trained networks of notebook 16: "detector", "plain" and "attended"; in eval mode.

    Example:
        >>> sorted(attention_networks())
        ['attended', 'detector', 'plain']
    """
    networks = shipped_networks()
    load_weights(networks, "attention")
    return networks.eval()


def _pooled(evidence: Tensor) -> Tensor:
    """(B, K): the logarithm of the mean of exp(evidence) over the cells, between their mean and their maximum."""
    cells = evidence.float().flatten(2)
    return cells.logsumexp(dim=2) - math.log(cells.shape[2])


def _batch(films: Sequence[Tensor] | Tensor, backbone: FilmBackbone) -> Tensor:
    mean, std = (films[0].new_tensor([value]) for value in (MEAN, STD))
    return batch_images(list(films), mean=mean, std=std, multiple=2 * backbone.stride)


def _checked(
    films: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None, network: HeatmapDetector | FilmClassifier
) -> Sequence[Target] | None:
    """The targets in training mode, None at test time, once films and targets are sound."""
    wanted = targets if network.training else None
    if network.training and wanted is None:
        raise ValueError("expected targets in training mode, got None; call model.eval() first")
    check_batch(list(films), wanted, stride=network.backbone.stride, num_classes=3, channels=1)
    return wanted

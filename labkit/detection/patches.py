"""A classifier of film patches: no lesion, benign or malignant. Its backbone is where the R-CNN line starts from.

R-CNN starts from a network that learned to classify photographs (ImageNet). There is no such set of phantom films, so
this one learned from patches of films of other patients; the recipe is `data/weights/patch_classifier.py`.

Shapes   n patches of one side S, 3 classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.detection.backbone import FilmBackbone

MEAN, STD = 0.5, 0.25  # of grey values, about those of phantom tissue


class PatchClassifier(nn.Module):
    """Logits of three classes: 0 no lesion, 1 benign, 2 malignant.

    Example:
        >>> PatchClassifier()(torch.zeros(5, 1, 48, 48)).shape
        torch.Size([5, 3])
    """

    def __init__(self) -> None:
        """Build it; patches may have any size from 24 pixels."""
        super().__init__()
        self.backbone = FilmBackbone()
        # the strongest answer of each channel in each ninth of the patch: a spicule counts wherever it points
        self.head = nn.Sequential(
            nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(9 * self.backbone.out_channels, 3)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Logits (n, 3) of patches (n, 1, S, S) in [0, 1]."""
        return self.head(self.backbone((patches - MEAN) / STD))


def film_patches(films, *, size: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Patches (n, 1, size, size) around each lesion of some films, as many of tissue beside them; and labels (n,).

    A film without lesions gives one patch, a black one none. Outside the film a patch is black.

    Args:
        films: pairs of image (1, H, W) and target, such as `mammograms` makes.
        size: side of a patch in pixels, even.
        generator: of the places without a lesion.

    Raises:
        ValueError: size is odd or not positive, or there is no patch at all.

    Example:
        >>> from labkit.datasets.phantoms import mammograms
        >>> patches, labels = film_patches(mammograms(6), size=48, generator=torch.Generator().manual_seed(0))
        >>> patches.shape[1:], int(labels.max()) <= 2
        (torch.Size([1, 48, 48]), True)
    """
    if size < 2 or size % 2:
        raise ValueError(f"size must be a positive even number, got {size}; a patch reaches half of it to each side")
    patches, labels = [], []
    for image, target in films:
        lesions = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2).long()  # (N, 2) x y
        beside = _tissue_places(image, lesions, count=max(1, len(lesions)), away=size // 3, generator=generator)
        padded = F.pad(image, (size // 2,) * 4)
        for x, y in torch.cat([lesions, beside]).tolist():
            patches.append(padded[:, y : y + size, x : x + size])
        labels += target["labels"].tolist() + [0] * len(beside)
    if not patches:
        raise ValueError(f"expected films that show tissue, got {len(films)} without any; look at one")
    return torch.stack(patches), torch.tensor(labels)


def _tissue_places(image: Tensor, lesions: Tensor, *, count: int, away: int, generator) -> Tensor:
    """(M, 2) x y of pixels inside the breast and away from every lesion, at most `count`."""
    height, width = image.shape[1:]
    drawn = torch.rand(50, 2, generator=generator) * torch.tensor([width, height])
    drawn = drawn.long()  # (50, 2) x y
    inside = image[0, drawn[:, 1], drawn[:, 0]] > 0.2  # grey values: skin and film are darker
    distance = (drawn[:, None] - lesions[None]).abs().amax(dim=2)  # (50, N)
    return drawn[inside & (distance >= away).all(dim=1)][:count]

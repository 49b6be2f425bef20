"""What comes with the course already trained: a backbone to start from, and detectors ready to look.

The figures stand beside the weights in `labkit/trained_weights`, the recipes in `data/weights`.
"""

import torch

from labkit.detection.anchors import AnchorShapes
from labkit.detection.backbone import Backbone, FilmBackbone
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.faster_rcnn import FasterRCNN
from labkit.detection.patches import PatchClassifier
from labkit.detection.rcnn import RCNN, RegionNetwork
from labkit.weights import load_weights

# At 1 mm a pixel nine of ten lesions have sizes from 8 to 37 px, half of them up to 17, and ratios from 0.73 to 1.36,
# so that a square fits them. With three ratios mAP was no better.
LESIONS: AnchorShapes = {"sizes": (6, 9, 14, 21, 34), "aspect_ratios": (1.0,)}

# At 320 x 240: platelets about 20 px, red cells 50, white cells 60 to 120.
CELLS: AnchorShapes = {"sizes": (20, 36, 52, 76, 108), "aspect_ratios": (0.7, 1.0, 1.4)}


def cell_detector(*, pretrained: bool = True) -> FasterRCNN:
    """Faster R-CNN for blood cells in colour, 240 x 320 pixels: 1 red cell, 2 white cell, 3 platelet; in eval mode.

    Args:
        pretrained: load the trained weights; its recipe asks for none.

    Example:
        >>> cell_detector(pretrained=False).num_classes
        4
    """
    model = FasterRCNN(
        Backbone(channels=3),
        4,
        **CELLS,
        image_mean=(0.74, 0.69, 0.71),
        image_std=(0.15, 0.15, 0.15),
        rpn={"positive_iou": 0.6, "before_nms": (600, 400), "after_nms": (250, 150)},
        head={"samples": 96, "hidden": 192},
    )
    if pretrained:
        load_weights(model, "faster_rcnn_bccd")
    return model.eval()


def film_backbone(*, frozen: bool = True) -> FilmBackbone:
    """The backbone of R-CNN, Fast R-CNN and Faster R-CNN on films, as the patch classifier left it.

    Args:
        frozen: training leaves its fine half as it is, see `FilmBackbone.freeze_fine`.

    Example:
        >>> film_backbone().stride
        4
    """
    classifier = PatchClassifier()
    load_weights(classifier, "patch_classifier")
    return classifier.backbone.freeze_fine() if frozen else classifier.backbone


def lesion_detector(
    backbone: FilmBackbone | None = None, *, pretrained: bool | None = None, pool_size: int = 7
) -> FasterRCNN:
    """Faster R-CNN for phantom films of 1 mm a pixel: 1 benign, 2 malignant; in eval mode.

    Notebook 08 trains its smaller sister, with `pool_size` 5 and the fine half frozen.

    Args:
        backbone: for a detector to be trained, such as `film_backbone()`.
        pretrained: load the trained weights; without them only the backbone is trained. By default they are loaded
            unless a backbone is given.
        pool_size: cells a side that proposals are pooled to; 5 train in three quarters of the time.

    Example:
        >>> lesion_detector(pretrained=False).num_classes
        3
    """
    pretrained = backbone is None if pretrained is None else pretrained
    if backbone is None:
        backbone = FilmBackbone() if pretrained else film_backbone()
    model = FasterRCNN(
        backbone,
        3,
        **LESIONS,
        iou_threshold=0.3,
        score_threshold=0.01,
        rpn={"positive_iou": 0.6, "samples": 128, "before_nms": (400, 300), "after_nms": (150, 100)},
        head={"samples": 48, "pool_size": pool_size},
    )
    if pretrained:
        load_weights(model, "faster_rcnn_films")
    return model.eval()


def fast_rcnn(*, pretrained: bool = True) -> FastRCNN:
    """Fast R-CNN for phantom films, as notebook 07 trains it: 1 benign, 2 malignant; in eval mode.

    Args:
        pretrained: load the trained weights; without them only the backbone is trained.

    Example:
        >>> fast_rcnn(pretrained=False).num_classes
        3
    """
    backbone = FilmBackbone() if pretrained else film_backbone()
    model = FastRCNN(backbone, 3, iou_threshold=0.3, score_threshold=0.01, samples=48, pool_size=5)
    if pretrained:
        load_weights(model, "fast_rcnn_films")
    return model.eval()


def rcnn(*, pretrained: bool = True) -> RCNN:
    """R-CNN for phantom films, trained by the steps of notebook 06 on larger crops, of 48 pixels; in eval mode.

    Args:
        pretrained: load the trained weights; without them only the backbone is trained.

    Example:
        >>> rcnn(pretrained=False).svm_weights.shape
        torch.Size([2, 128])
    """
    network = RegionNetwork(FilmBackbone() if pretrained else film_backbone(), 3)
    hidden = network.logits.in_features
    model = RCNN(network, torch.zeros(2, hidden), torch.zeros(2), torch.zeros(2, hidden + 1, 4))
    if pretrained:
        load_weights(model, "rcnn_films")
    return model.eval()

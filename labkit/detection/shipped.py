"""The detector that comes with the course, ready to look at images of blood cells.

Its recipe and its figures stand beside the weights in `data/weights`.
"""

from labkit.detection.backbone import Backbone
from labkit.detection.faster_rcnn import FasterRCNN
from labkit.weights import load_weights

# At 320 x 240: platelets about 20 px, red cells 50, white cells 60 to 120.
CELLS = {"sizes": (20, 36, 52, 76, 108), "aspect_ratios": (0.7, 1.0, 1.4)}


def cell_detector(*, pretrained: bool = True) -> FasterRCNN:
    """Faster R-CNN for blood cells in colour, 240 x 320 pixels: 1 red cell, 2 white cell, 3 platelet; in eval mode.

    Args:
        pretrained: load the shipped weights; its recipe asks for none.

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

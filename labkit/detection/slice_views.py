"""What an agent on a row sees of its image, at two scales; for `slice_agent`, notebook 18.

Near      32 x 32 pixels around the middle of the row.
Around    32 x 32 pixels, each the mean of 4 x 4: of an image 128 wide, all its width, and 128 rows.

Where the image ends, both are 0.
"""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

SIDE = 32  # pixels a side of what the agent sees, at each scale
COARSE = 4  # fine pixels a coarse one: 32 of 12 mm reach over 384 mm, the width of an image


class Views:
    """What agents see of images, cut out of arrays that were padded and made coarse once.

    Args:
        images: (n, H, W), 0 to 1, W at least 32 pixels and at most 128.

    Raises:
        ValueError: the images have another form.

    Example:
        >>> import torch
        >>> Views(torch.rand(3, 60, 128)).at([0, 2], [10, 59]).shape
        (2, 2, 32, 32)
    """

    def __init__(self, images: Tensor):
        if images.ndim != 3 or not len(images) or not SIDE <= images.shape[2] <= SIDE * COARSE:
            raise ValueError(
                f"images must be (n, H, W) with W from {SIDE} to {SIDE * COARSE}, got {tuple(images.shape)}; "
                "write image[None] for a single one"
            )
        self.rows = images.shape[1]
        half, far, columns = SIDE // 2, SIDE * COARSE // 2, images.shape[2]
        pixels = (images.float().cpu() * 255).round()
        middle = pixels[:, :, columns // 2 - half : columns // 2 + half]
        self.fine = F.pad(middle, (0, 0, half, half)).byte().numpy()  # (n, H + 32, 32)
        spare = SIDE * COARSE - columns
        wide = F.pad(pixels, (spare // 2, spare - spare // 2, far, far))[:, None]
        coarse = F.avg_pool2d(wide, COARSE, stride=(1, COARSE))[:, 0]  # (n, H + 125, 32)
        self.coarse = coarse.byte().numpy()

    def at(self, which: Sequence[int], rows: Sequence[int]) -> ndarray:
        """(B, 2, 32, 32) uint8, the fine view and the coarse one, of these images from these rows."""
        seen = np.empty((len(rows), 2, SIDE, SIDE), np.uint8)
        for place, i, row in zip(seen, which, rows, strict=True):
            place[0] = self.fine[i, row : row + SIDE]
            place[1] = self.coarse[i, row : row + SIDE * COARSE - COARSE + 1 : COARSE]
        return seen

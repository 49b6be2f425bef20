"""Boxes in volumes beside MONAI's: the same results, and the time of both, in turn in one run.

    python benchmarks/detection_3d.py [--threads 1] [--repeat 9]

IoU and distances must agree to 1e-6, suppression and anchors exactly; then prints the median processor milliseconds of
each and ours / MONAI's (1.00 or less is wanted). MONAI's anchors are put from its order of axes into ours, outside the
time.
"""

import argparse
import itertools
import statistics
import time

import torch

from labkit.detection.anchors_3d import anchor_grid_3d
from labkit.detection.boxes import box_iou_3d, centroid_distance, nms_3d

SIDES = list(itertools.product((16, 32, 64, 120), repeat=3))  # as Xu et al. 2019, made even: MONAI rounds half a side
CELLS, STRIDE = (12, 16, 16), 8


def monai_parts():
    """MONAI's functions for boxes, and its anchors."""
    try:
        from monai.apps.detection.utils import anchor_utils
        from monai.data import box_utils
    except ImportError as error:
        raise SystemExit(f"MONAI is not installed ({error}); install it with: pip install monai") from error
    return box_utils, anchor_utils


def random_boxes(count, seed):
    """(count, 6) in a volume of 96 x 128 x 128, many of which overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 3, generator=generator) * torch.tensor([100.0, 100.0, 70.0])
    return torch.cat([corner, corner + 4 + 24 * torch.rand(count, 3, generator=generator)], dim=1)


def in_turn(functions, repeat) -> list[float]:
    """Median processor milliseconds of each, called in turn so that the machine's moods hit all alike."""
    taken: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()  # warm
    for _ in range(repeat):
        for function, times in zip(functions, taken, strict=True):
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
    return [1000 * statistics.median(times) for times in taken]


def compared(box_utils, anchor_utils):
    """Name -> (ours, MONAI's); first it is made sure that they agree."""
    many, truths = random_boxes(20000, 1), random_boxes(9, 2)
    crowd, scores = random_boxes(2000, 3), torch.rand(2000, generator=torch.Generator().manual_seed(4))
    pairs = {
        f"IoU, {len(truths)} x {len(many)}": (
            lambda: box_iou_3d(truths, many),
            lambda: box_utils.box_iou(truths, many),
        ),
        "IoU, 2000 x 2000": (lambda: box_iou_3d(crowd, crowd), lambda: box_utils.box_iou(crowd, crowd)),
        "suppression of 2000": (
            lambda: nms_3d(crowd, scores, iou_threshold=0.1),
            lambda: box_utils.non_max_suppression(crowd, scores, 0.1),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        difference = float((ours().double() - theirs().double()).abs().max())
        print(f"{name:32} differ by at most {difference:.1e}")
        assert difference <= 1e-6, name
    middles = box_utils.boxes_center_distance(truths, truths.flip(0))[0].diagonal()
    torch.testing.assert_close(
        centroid_distance(truths, truths.flip(0), spacing=(1, 1, 1)), middles, atol=1e-6, rtol=1e-6
    )

    generator = anchor_utils.AnchorGeneratorWithAnchorShape((1,), [side[::-1] for side in SIDES])
    volume = torch.zeros(1, 1, *(STRIDE * cells for cells in CELLS))
    features = [torch.zeros(1, 1, *CELLS)]
    ours = anchor_grid_3d(CELLS, stride=STRIDE, sizes=SIDES)
    theirs = generator(volume, features)[0][:, [2, 1, 0, 5, 4, 3]]  # z y x to x y z
    shift = float((theirs - ours)[0, 0])  # MONAI 1.6 has anchors around the middle of a cell, earlier ones its corner
    difference = float((theirs - shift - ours).abs().max())
    print(
        f"{f'{len(ours)} anchors':32} differ by at most {difference:.1e}, once MONAI's are moved by {-shift:g} voxels"
    )
    assert difference == 0
    assert shift in (0, STRIDE / 2)
    pairs[f"{len(ours)} anchors"] = (
        lambda: anchor_grid_3d(CELLS, stride=STRIDE, sizes=SIDES),
        lambda: generator(volume, features),
    )
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pairs = compared(*monai_parts())
    print(f"\n{options.threads} thread(s), medians of {options.repeat}, processor ms")
    print(f"{'':32}{'ours':>10}{'MONAI':>10}{'ratio':>7}")
    for name, functions in pairs.items():
        mine, other = in_turn(functions, options.repeat)
        print(f"{name:32}{mine:10.2f}{other:10.2f}{mine / other:7.2f}")


if __name__ == "__main__":
    main()

"""Time of average precision, FROC and their bootstrap, beside COCO's evaluator in its fastest form.

Prints processor seconds and wall seconds, the best of several repetitions; the ratio is of the processor times.
"""

import argparse
import time

import torch
from faster_coco_eval import COCO, COCOeval_faster

from labkit.detection.evaluation import (
    average_precision,
    average_precision_of,
    bootstrap_interval,
    competition_metric,
    froc_curve,
    froc_marks,
    hit_iou,
    match_images,
)


def random_sets(images, per_image, truths, classes, seed=0):
    """Detections and targets: a third of the detections lie on truths, the others anywhere."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([600.0, 440.0])
        return torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=generator) * 60], dim=1)

    detections, targets = [], []
    for _ in range(images):
        target = {"boxes": boxes(truths), "labels": torch.randint(1, classes + 1, (truths,), generator=generator)}
        found = torch.randint(truths, (per_image // 3,), generator=generator)
        near = target["boxes"][found] + 3 * torch.randn(len(found), 2, generator=generator).repeat(1, 2)
        others = torch.randint(1, classes + 1, (per_image - len(found),), generator=generator)
        detections.append(
            {
                "boxes": torch.cat([near, boxes(per_image - len(found))]),
                "labels": torch.cat([target["labels"][found], others]),
                "scores": torch.rand(per_image, generator=generator),
            }
        )
        targets.append(target)
    return detections, targets


def coco_inputs(detections, targets, classes):
    """The same as COCO's dictionaries."""

    def rows(records):
        return [
            {
                "id": 1000 * image + row + 1,
                "image_id": image,
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "score": score,
            }
            for image, record in enumerate(records)
            for row, ((x1, y1, x2, y2), label, score) in enumerate(
                zip(
                    record["boxes"].tolist(),
                    record["labels"].tolist(),
                    record.get("scores", torch.ones(len(record["labels"]))).tolist(),
                    strict=True,
                )
            )
        ]

    truth = {
        "images": [{"id": image, "height": 500, "width": 660} for image in range(len(targets))],
        "categories": [{"id": label, "name": str(label)} for label in range(1, classes + 1)],
        "annotations": rows(targets),
    }
    return truth, rows(detections)


def coco_index(truth, found):
    """COCO's lookup tables: preparation, not evaluation."""
    reference = COCO(truth)
    return reference, reference.loadRes(found)


def coco_evaluate(reference, results):
    """AP at IoU 0.5, mean of the classes."""
    evaluator = COCOeval_faster(reference, results, "bbox")
    evaluator.params.iouThrs = evaluator.params.iouThrs[:1]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.params.maxDets = [100]
    evaluator.evaluate()
    evaluator.accumulate()
    return float(evaluator.eval["precision"].mean())


def timed(function, repeat):
    """Best processor seconds, best wall seconds, last result."""
    processor, wall = [], []
    for _ in range(repeat):
        start_processor, start_wall = time.process_time(), time.perf_counter()
        result = function()
        processor.append(time.process_time() - start_processor)
        wall.append(time.perf_counter() - start_wall)
    return min(processor), min(wall), result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=100, help="detections an image")
    parser.add_argument("--truths", type=int, default=10, help="truths an image")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap samples")
    options = parser.parse_args()
    detections, targets = random_sets(options.images, options.detections, options.truths, options.classes)
    truth, found = coco_inputs(detections, targets, options.classes)

    print(f"{options.images} images, {options.detections} detections and {options.truths} truths in each")
    print(f"{'':46}{'processor s':>12}{'wall s':>9}{'result':>12}")

    def row(name, function, repeat=options.repeat):
        processor, wall, result = timed(function, repeat)
        print(f"{name:46}{processor:12.3f}{wall:9.3f}{result if isinstance(result, str) else '':>12}")
        return processor

    ours = row("average_precision", lambda: f"{average_precision(detections, targets)['mean']:.8f}")
    index = coco_index(truth, found)
    theirs = row("faster-coco-eval, evaluate and accumulate", lambda: f"{coco_evaluate(*index):.8f}")
    row("faster-coco-eval, its tables made first", lambda: f"{coco_evaluate(*coco_index(truth, found)):.8f}")
    print(f"ratio ours / faster-coco-eval without its tables: {ours / theirs:.2f}")

    matches = match_images(detections, targets)
    marks = froc_marks(detections, targets, hit=hit_iou(0.5), label=1)
    generator = torch.Generator().manual_seed(0)

    def interval(statistic, data):
        low, high = bootstrap_interval(statistic, data, samples=options.samples, generator=generator)
        return f"{low:.3f}-{high:.3f}"

    row("froc_marks", lambda: str(len(froc_marks(detections, targets, hit=hit_iou(0.5), label=1))))
    row(
        f"bootstrap of CPM, {options.samples} samples",
        lambda: interval(lambda m: competition_metric(froc_curve(m)), marks),
        1,
    )
    row(
        f"bootstrap of mAP, {options.samples} samples",
        lambda: interval(lambda m: average_precision_of(m)["mean"], matches),
        1,
    )


if __name__ == "__main__":
    main()

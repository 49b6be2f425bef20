"""Live demos: sliders beside a picture that answers at once.

Each demo draws its background once; a slider then only draws what changes over it, so the answer comes within a tenth
of a second. The figure never passes through pyplot, and the picture is an ordinary PNG in an `ipywidgets.Image`: it
works in JupyterLab and in notebooks run by a machine, without any extension. The first state shows before a slider
moves.
"""

import io
from collections.abc import Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision import ops

from labkit.detection.anchors import anchor_grid, match_anchors
from labkit.detection.evaluation import FrocCurve
from labkit.plotting import COLORS, PREDICTION, TRUTH, plot_curves, show_boxes, show_image

DOTS_PER_INCH = 100
PICTURE_HEIGHT = 4.8  # inches: with both sliders it fits on a projector


def nms_demo(
    boxes: Tensor,
    scores: Tensor,
    *,
    image: Tensor | None = None,
    truths: Tensor | None = None,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> ipywidgets.VBox:
    """Sliders for both thresholds of non-maximum suppression over a picture of what it keeps; notebook 03.

    Kept boxes are orange, suppressed ones thin and blue, the truth green and dashed; boxes below the score threshold
    do not show.

    Args:
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        image: (H, W), (1, H, W) or (3, H, W) in [0, 1], shown below the boxes; black without it.
        truths: (M, 4) xyxy pixels.
        iou_threshold, score_threshold: where the sliders stand at first.

    Returns:
        A box of four widgets: the two sliders (IoU first), a line of words, the picture.

    Raises:
        ValueError: boxes and scores do not belong together.

    Example:
        >>> demo = nms_demo(torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9]]), torch.tensor([0.9, 0.8]))
        >>> demo.children[2].value
        '<b>1</b> kept, 1 suppressed, 0 below the score threshold'
        >>> demo.children[0].value = 0.95
        >>> demo.children[2].value
        '<b>2</b> kept, 0 suppressed, 0 below the score threshold'
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"boxes and scores must be (N, 4) and (N,), got {tuple(boxes.shape)} and {tuple(scores.shape)}; "
            "give one score for each box"
        )
    boxes, scores = boxes.detach().cpu().float(), scores.detach().cpu().float()
    figure, axes = _bare_figure(_frame(boxes) if image is None else image)
    if truths is not None:
        show_boxes(truths, color=TRUTH, style="--", width=2, ax=axes)
    background = _background(figure)
    suppressed = axes.add_collection(PolyCollection([], facecolors="none", edgecolors=COLORS["sky"], lw=0.8))
    kept = axes.add_collection(PolyCollection([], facecolors="none", edgecolors=PREDICTION, lw=3))

    iou_slider = _slider("IoU threshold", iou_threshold)
    score_slider = _slider("score threshold", score_threshold)
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        strong = (scores >= score_slider.value).nonzero()[:, 0]
        keep = strong[ops.nms(boxes[strong], scores[strong], iou_slider.value)]
        drop = strong[~torch.isin(strong, keep)]
        kept.set_verts(_outlines(boxes[keep]))
        suppressed.set_verts(_outlines(boxes[drop]))
        words.value = (
            f"<b>{len(keep)}</b> kept, {len(drop)} suppressed, {len(boxes) - len(strong)} below the score threshold"
        )
        picture.value = _png(figure, background, (suppressed, kept))

    for slider in (iou_slider, score_slider):
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([iou_slider, score_slider, words, picture])


def operating_point_demo(
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    curve: FrocCurve,
    *,
    truths: Sequence[Tensor],
    threshold: float = 0.5,
) -> ipywidgets.VBox:
    """A slider for the score threshold: marks on a few films, and where it stands on the FROC curve; notebook 04.

    Marks are orange, the truth green and dashed.

    Args:
        images: n films of one size, (1, H, W) or (H, W) in [0, 1].
        boxes, scores: the marks on each, (N, 4) xyxy pixels and (N,).
        curve: of `froc` over all films, these among them.
        truths: the lesions of each film, (M, 4) xyxy pixels.
        threshold: where the slider stands at first.

    Returns:
        A box of three widgets: the slider, a line of words, the picture.

    Raises:
        ValueError: there are no films, or not as many entries of each kind.

    Example:
        >>> from labkit.detection.evaluation import FrocMarks, froc_curve
        >>> curve = froc_curve([FrocMarks(np.array([0.9]), np.array([0.4]))])
        >>> box = torch.tensor([[2.0, 3.0, 9.0, 8.0]])
        >>> demo = operating_point_demo([torch.zeros(20, 15)], [box], [torch.tensor([0.9])], curve, truths=[box])
        >>> demo.children[1].value
        'sensitivity <b>1.00</b> at <b>0.00</b> false positives a film; 1 mark on these films'
    """
    if not len(images) or len({len(images), len(boxes), len(scores), len(truths)}) > 1:
        raise ValueError(
            "images, boxes, scores and truths must hold one entry a film, got "
            f"{len(images)}, {len(boxes)}, {len(scores)} and {len(truths)}; give at least one film"
        )
    films = [image.detach().cpu().reshape(image.shape[-2:]) for image in images]
    moves = [torch.tensor([1.0, 0, 1, 0]) * i * films[0].shape[1] for i in range(len(films))]
    marks = torch.cat([part.detach().cpu() + move for part, move in zip(boxes, moves, strict=True)])
    all_scores = torch.cat([part.detach().cpu() for part in scores])
    lesions = torch.cat([part.detach().cpu() + move for part, move in zip(truths, moves, strict=True)])

    figure = Figure(figsize=(12, 4), dpi=DOTS_PER_INCH, layout="none")
    left, right = figure.add_axes((0, 0, 0.64, 1)), figure.add_axes((0.72, 0.17, 0.26, 0.76))
    show_image(torch.cat(films, dim=1), ax=left)
    for move in moves[1:]:
        left.axvline(float(move[0]), color="white", lw=3)
    show_boxes(lesions, color=TRUTH, style="--", width=2, ax=left)
    name = {"FROC": (curve.false_positives, curve.sensitivity)}
    plot_curves(name, xlabel="false positives a film", ylabel="sensitivity", ax=right)
    right.set_ylim(0, 1.02)
    background = _background(figure)
    shown = left.add_collection(PolyCollection([], facecolors="none", edgecolors=PREDICTION, lw=3))
    (point,) = right.plot([], [], "o", color=PREDICTION, mec="black", ms=14, clip_on=False)

    slider = _slider("score threshold", threshold)
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        strong = all_scores >= slider.value
        here = int((curve.thresholds >= slider.value).sum()) - 1  # the first point, at infinity, always counts
        alarms, sensitivity = curve.false_positives[here], curve.sensitivity[here]
        shown.set_verts(_outlines(marks[strong]))
        point.set_data([alarms], [sensitivity])
        count = int(strong.sum())
        words.value = (
            f"sensitivity <b>{sensitivity:.2f}</b> at <b>{alarms:.2f}</b> false positives a film; "
            f"{count} mark{'' if count == 1 else 's'} on these films"
        )
        picture.value = _png(figure, background, (shown, point))

    slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([slider, words, picture])


def anchors_demo(
    image: Tensor,
    boxes: Tensor,
    *,
    stride: int,
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
) -> ipywidgets.VBox:
    """Sliders for the cell and the positive threshold; the cell's anchors in the colour of their match; notebook 08.

    Orange anchors are objects, blue ones background, grey ones ignored; dots mark the cells that hold an object, the
    truth is green and dashed.

    Args:
        image: (H, W), (1, H, W) or (3, H, W) in [0, 1].
        boxes: (N, 4) xyxy pixels, the truth.
        stride: pixels a feature cell.
        sizes, aspect_ratios: of the anchors; pixels, and height / width.
        positive_iou: where its slider stands at first.
        negative_iou: below it an anchor is background.

    Returns:
        A box of five widgets: sliders for row, column and positive IoU, a line of words, the picture.

    Example:
        >>> box = torch.tensor([[4.0, 4, 12, 12]])
        >>> demo = anchors_demo(torch.zeros(16, 24), box, stride=8, sizes=[8], aspect_ratios=[1.0])
        >>> demo.children[3].value
        'row 1, column 1: <b>1</b> object, 0 ignored, 0 background; best IoU 1.00. In the image: 1 object'
    """
    height, width = image.shape[:2] if image.shape[-1] == 3 else image.shape[-2:]
    rows, columns = -(-height // stride), -(-width // stride)
    boxes = boxes.detach().cpu().float()
    anchors = anchor_grid((rows, columns), stride=stride, sizes=sizes, aspect_ratios=aspect_ratios)
    best = ops.box_iou(anchors, boxes).amax(dim=1) if len(boxes) else torch.zeros(len(anchors))
    per_cell = len(anchors) // (rows * columns)

    figure, axes = _bare_figure(image)
    show_boxes(boxes, color=TRUTH, style="--", width=2.5, ax=axes)
    background = _background(figure)
    colors = {"object": PREDICTION, "ignored": "0.65", "background": COLORS["blue"]}
    shown = {
        name: axes.add_collection(PolyCollection([], facecolors="none", edgecolors=color, lw=2.5))
        for name, color in colors.items()
    }
    (dots,) = axes.plot([], [], "o", color=PREDICTION, ms=5)

    start = int(best.argmax()) // per_cell  # the first state shows an object
    row_slider = _whole_slider("row of the cell", start // columns, rows - 1)
    column_slider = _whole_slider("column", start % columns, columns - 1)
    iou_slider = _slider("positive IoU", positive_iou, low=negative_iou)
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        matches = match_anchors(anchors, boxes, positive_iou=iou_slider.value, negative_iou=negative_iou)
        cell = slice(first := (row_slider.value * columns + column_slider.value) * per_cell, first + per_cell)
        kinds = {"object": matches >= 0, "ignored": matches == -2, "background": matches == -1}
        for name, kind in kinds.items():
            shown[name].set_verts(_outlines(anchors[cell][kind[cell]]))
        held = kinds["object"].view(rows, columns, per_cell).any(dim=2).nonzero()  # (cells, 2) y x
        dots.set_data((held[:, 1] * stride).numpy(), (held[:, 0] * stride).numpy())
        counts = {name: int(kind[cell].sum()) for name, kind in kinds.items()}
        total = int(kinds["object"].sum())
        words.value = (
            f"row {row_slider.value}, column {column_slider.value}: <b>{counts['object']}</b> "
            f"object{'' if counts['object'] == 1 else 's'}, {counts['ignored']} ignored, "
            f"{counts['background']} background; best IoU {best[cell].max():.2f}. "
            f"In the image: {total} object{'' if total == 1 else 's'}"
        )
        picture.value = _png(figure, background, (shown["background"], shown["ignored"], dots, shown["object"]))

    for slider in (row_slider, column_slider, iou_slider):
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([row_slider, column_slider, iou_slider, words, picture])


def detector_demo(
    images: Sequence[Tensor],
    detections: Sequence[dict],
    *,
    truths: Sequence[Tensor],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> ipywidgets.VBox:
    """Sliders for the image, the score threshold and the IoU threshold on what a detector says; notebooks 08 and 09.

    Each class has its colour; the truth is green and dashed. Give detections from a detector set to keep nearly all
    (`score_threshold` and `iou_threshold` of its constructor): the sliders do the rest.

    Args:
        images: n images (H, W), (1, H, W) or (3, H, W) in [0, 1].
        detections: n dicts with `boxes` (N, 4), `scores` (N,), `labels` (N,).
        truths: n tensors (M, 4) xyxy pixels.
        score_threshold, iou_threshold: where the sliders stand at first.

    Returns:
        A box of five widgets: sliders for image, score and IoU, a line of words, the picture.

    Raises:
        ValueError: there are no images, or not as many entries of each kind.

    Example:
        >>> box = torch.tensor([[2.0, 3.0, 9.0, 8.0]])
        >>> found = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
        >>> detector_demo([torch.zeros(20, 15)], [found], truths=[box]).children[3].value
        '<b>1</b> box shown; 1 of 1 truth found (IoU 0.5), 0 false positives'
    """
    if not len(images) or len({len(images), len(detections), len(truths)}) > 1:
        raise ValueError(
            "images, detections and truths must hold one entry an image, got "
            f"{len(images)}, {len(detections)} and {len(truths)}; give at least one image"
        )
    found = [{key: one[key].detach().cpu() for key in ("boxes", "scores", "labels")} for one in detections]
    labels = sorted({label for one in found for label in one["labels"].tolist()})
    scenes = [_scene(image, truth.detach().cpu(), labels) for image, truth in zip(images, truths, strict=True)]

    image_slider = _whole_slider("image", 0, len(images) - 1)
    score_slider, iou_slider = _slider("score threshold", score_threshold), _slider("IoU threshold", iou_threshold)
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        one, truth = found[image_slider.value], truths[image_slider.value].detach().cpu()
        figure, background, classes = scenes[image_slider.value]
        strong = (one["scores"] >= score_slider.value).nonzero()[:, 0]
        boxes, scores, kinds = (one[key][strong] for key in ("boxes", "scores", "labels"))
        keep = ops.batched_nms(boxes, scores, kinds, iou_slider.value)
        for label, artist in classes.items():
            artist.set_verts(_outlines(boxes[keep][kinds[keep] == label]))
        fits = ops.box_iou(truth, boxes[keep]) >= 0.5  # (M, K)
        hit, useless = int(fits.any(dim=1).sum()), int((~fits.any(dim=0)).sum())
        words.value = (
            f"<b>{len(keep)}</b> box{'' if len(keep) == 1 else 'es'} shown; "
            f"{hit} of {len(truth)} truth{'' if len(truth) == 1 else 's'} found (IoU 0.5), "
            f"{useless} false positive{'' if useless == 1 else 's'}"
        )
        picture.value = _png(figure, background, tuple(classes.values()))

    for slider in (image_slider, score_slider, iou_slider):
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([image_slider, score_slider, iou_slider, words, picture])


def roi_demo(features: Tensor, *, stride: int, box: Tensor, size: int = 3) -> ipywidgets.VBox:
    """Sliders that move one proposal over a feature map, beside what RoIPool and RoIAlign make of it; notebook 07.

    On the map the proposal is orange, the bins of the method are blue, and RoIAlign's samples are dots.

    Args:
        features: (C, h, w); channel 0 is shown.
        stride: pixels a cell.
        box: (4,) xyxy pixels, where the proposal lies at first.
        size: bins a side.

    Returns:
        A box of seven widgets: sliders for left, top, width and height in pixels, a choice of the method, a line of
        words, the picture.

    Raises:
        ValueError: features are not (C, h, w).

    Example:
        >>> demo = roi_demo(torch.rand(1, 6, 9), stride=8, box=torch.tensor([11.0, 13, 43, 27]))
        >>> demo.children[5].value
        'RoIPool: the box becomes cells 1 to 5 across and 2 to 3 down; its edges move by up to <b>5</b> pixels'
        >>> demo.children[4].value = "RoIAlign"
        >>> demo.children[5].value
        'RoIAlign: nothing is rounded; 4 samples a bin, each mixed from the 4 cells around it'
    """
    if features.ndim != 3:
        raise ValueError(f"features must be (C, h, w), got {tuple(features.shape)}; index the batch first")
    features = features.detach().cpu().float()
    height, width = features.shape[1:]
    limits = features[0].min().item(), features[0].max().item() + 1e-6  # one scale for both pictures

    figure = Figure(figsize=(9.6, PICTURE_HEIGHT), dpi=DOTS_PER_INCH, layout="none")
    map_axes, bin_axes = figure.add_axes((0.01, 0.02, 0.57, 0.88)), figure.add_axes((0.6, 0.02, 0.39, 0.88))
    show_image(features[0], value_range=limits, title=f"feature map, {height} x {width} cells", ax=map_axes)
    show_image(torch.full((size, size), limits[0]), value_range=limits, title=f"{size} x {size} bins", ax=bin_axes)
    background = _background(figure)
    pooled_image = bin_axes.images[0]
    bin_lines, outline = (
        map_axes.add_collection(PolyCollection([], facecolors="none", edgecolors=color, lw=lw))
        for color, lw in ((COLORS["sky"], 1.5), (PREDICTION, 3.5))
    )
    (dots,) = map_axes.plot([], [], "o", color=COLORS["yellow"], ms=4)

    start = [round(v) for v in box.tolist()]
    ends = {"left": width * stride - 1, "top": height * stride - 1, "width": width * stride, "height": height * stride}
    values = dict(zip(ends, (start[0], start[1], start[2] - start[0], start[3] - start[1]), strict=True))
    sliders = [_whole_slider(f"{name} (pixels)", values[name], last) for name, last in ends.items()]
    for slider in sliders[2:]:
        slider.min = 1
    method = ipywidgets.ToggleButtons(options=["RoIPool", "RoIAlign"])
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        x1, y1, wide, high = (slider.value for slider in sliders)
        roi = torch.tensor([[x1, y1, min(x1 + wide, width * stride), min(y1 + high, height * stride)]]).float()
        pools = method.value == "RoIPool"
        if pools:
            pooled = ops.roi_pool(features[None], [roi], size, spatial_scale=1 / stride)
            columns, rows = (_pool_bins(*(roi[0, [k, k + 2]] / stride).tolist(), size) for k in (0, 1))
            snapped = torch.tensor([columns[0][0], rows[0][0], columns[-1][1], rows[-1][1]]) * stride
            words.value = (
                f"RoIPool: the box becomes cells {columns[0][0]} to {columns[-1][1] - 1} across and {rows[0][0]} to "
                f"{rows[-1][1] - 1} down; its edges move by up to <b>{(snapped - roi[0]).abs().max():.0f}</b> pixels"
            )
            samples = torch.zeros(2, 0)
        else:
            pooled = ops.roi_align(
                features[None], [roi], size, spatial_scale=1 / stride, sampling_ratio=2, aligned=True
            )
            columns, rows = (_align_bins(*(roi[0, [k, k + 2]] / stride).tolist(), size) for k in (0, 1))
            words.value = "RoIAlign: nothing is rounded; 4 samples a bin, each mixed from the 4 cells around it"
            x, y = (torch.tensor([a + q * (b - a) for a, b in bins for q in (0.25, 0.75)]) for bins in (columns, rows))
            samples = torch.cartesian_prod(x, y).T
        bins = torch.tensor([[left, top, right, bottom] for top, bottom in rows for left, right in columns])
        bin_lines.set_verts(_outlines(bins.float()))
        outline.set_verts(_outlines(roi / stride))
        dots.set_data(samples[0].numpy(), samples[1].numpy())
        pooled_image.set_data(pooled[0, 0].numpy())
        picture.value = _png(figure, background, (bin_lines, outline, dots, pooled_image))

    for control in (*sliders, method):
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*sliders, method, words, picture])


def selective_search_demo(
    image: Tensor, labels: Tensor, boxes: Tensor, merges: Tensor, *, truths: Tensor | None = None, step: int = 0
) -> ipywidgets.VBox:
    """A slider through the merges of selective search: regions left, the proposals so far right; notebook 05.

    Each region is painted in its mean grey or colour. The newest proposal is orange, earlier ones are thin and blue.
    The dashed green box of an object is drawn through once a proposal meets it with IoU 0.5.

    Args:
        image: (1, H, W) or (3, H, W) in [0, 1].
        labels: (H, W) int64, the n regions grouping started from, as `segment` gives them.
        boxes, merges: (2 n - 1, 4) and (n - 1, 2), as `group_regions` gives them.
        truths: (T, 4) xyxy pixels.
        step: where the slider stands at first.

    Returns:
        A box of three widgets: the slider, a line of words, the picture.

    Raises:
        ValueError: boxes and merges do not belong together, or not to the labels.

    Example:
        >>> labels = torch.zeros(8, 12, dtype=torch.int64); labels[:, 4:] = 1
        >>> boxes = torch.tensor([[0.0, 0, 4, 8], [4, 0, 12, 8], [0, 0, 12, 8]])
        >>> demo = selective_search_demo(torch.rand(1, 8, 12), labels, boxes, torch.tensor([[0, 1]]), truths=boxes[2:])
        >>> demo.children[1].value
        'step 0 of 1: 2 regions, <b>2</b> proposals, <b>1</b> of 1 objects met'
    """
    n = int(labels.max()) + 1
    if len(boxes) != 2 * n - 1 or merges.shape != (n - 1, 2):
        raise ValueError(
            f"{n} regions need boxes ({2 * n - 1}, 4) and merges ({n - 1}, 2), got {tuple(boxes.shape)} and "
            f"{tuple(merges.shape)}; give what group_regions made of these labels"
        )
    truths = torch.zeros(0, 4) if truths is None else truths.detach().cpu().float()
    colours, owners = _region_colours(image, labels, merges), _region_owners(merges)
    best = ops.box_iou(truths, boxes).cummax(dim=1).values  # (T, 2 n - 1), with the proposals up to each

    height, width = labels.shape
    figure = Figure(figsize=(2.03 * PICTURE_HEIGHT * width / height, PICTURE_HEIGHT), dpi=DOTS_PER_INCH, layout="none")
    left, right = figure.add_axes((0, 0, 0.493, 1)), figure.add_axes((0.507, 0, 0.493, 1))
    show_image(image, ax=right)
    show_image(image, ax=left)
    background = _background(figure)
    painted = left.imshow(np.zeros((height, width, 3)), extent=(0, width, height, 0), interpolation="nearest")
    styles = {"earlier": (COLORS["sky"], 0.6, "-"), "missed": (TRUTH, 2, "--"), "met": (TRUTH, 3, "-")}
    outlines = {
        name: right.add_collection(PolyCollection([], facecolors="none", edgecolors=color, lw=lw, ls=style))
        for name, (color, lw, style) in (styles | {"newest": (PREDICTION, 4, "-")}).items()
    }

    slider = _whole_slider("merges so far", step, n - 1)
    words, picture = ipywidgets.HTML(), _picture()

    def redraw(_=None) -> None:
        so_far = n + slider.value
        met = best[:, so_far - 1] >= 0.5
        painted.set_data(colours[owners[slider.value]][labels.cpu().numpy()])
        outlines["earlier"].set_verts(_outlines(boxes[:so_far]))
        outlines["newest"].set_verts(_outlines(boxes[so_far - 1 : so_far] if slider.value else boxes[:0]))
        outlines["missed"].set_verts(_outlines(truths[~met]))
        outlines["met"].set_verts(_outlines(truths[met]))
        count = n - slider.value
        words.value = (
            f"step {slider.value} of {n - 1}: {count} region{'' if count == 1 else 's'}, <b>{so_far}</b> proposals, "
            f"<b>{int(met.sum())}</b> of {len(truths)} objects met"
        )
        picture.value = _png(figure, background, (painted, *outlines.values()))

    slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([slider, words, picture])


def _region_colours(image: Tensor, labels: Tensor, merges: Tensor) -> np.ndarray:
    """(2 n - 1, 3) mean colour of each region of the hierarchy."""
    pixels = image.detach().cpu().double().flatten(1).expand(3, -1)  # (3, H W)
    flat = labels.cpu().flatten()
    n = int(flat.max()) + 1
    sums = torch.zeros(2 * n - 1, 4, dtype=torch.float64)
    sums[:n] = torch.stack(
        [torch.bincount(flat, channel, minlength=n) for channel in (*pixels, torch.ones(len(flat)))], 1
    )
    for new, (i, j) in enumerate(merges.tolist(), start=n):
        sums[new] = sums[i] + sums[j]
    return (sums[:, :3] / sums[:, 3:]).numpy()


def _region_owners(merges: Tensor) -> np.ndarray:
    """(n, n) for each number of merges the region that each of the n first regions belongs to."""
    n = len(merges) + 1
    owners = np.tile(np.arange(n), (n, 1))
    for step, (i, j) in enumerate(merges.tolist(), start=1):
        owners[step] = np.where(np.isin(owners[step - 1], (i, j)), n + step - 1, owners[step - 1])
    return owners


def _pool_bins(low: float, high: float, size: int) -> list[tuple[int, int]]:
    """First cell and the one past the last of RoIPool's bins along a side, from its ends in cells."""
    first, last = (int(v + 0.5) for v in (low, high))
    cells = max(last - first + 1, 1)
    return [(first + i * cells // size, first - (-(i + 1) * cells // size)) for i in range(size)]


def _align_bins(low: float, high: float, size: int) -> list[tuple[float, float]]:
    """Ends of RoIAlign's bins along a side, in cells."""
    step = (high - low) / size
    return [(low + i * step, low + (i + 1) * step) for i in range(size)]


def _scene(image: Tensor, truth: Tensor, labels: Sequence[int]) -> tuple[Figure, object, dict[int, PolyCollection]]:
    """A figure with the image and its truth, its background, and one empty set of boxes for each class."""
    figure, axes = _bare_figure(image)
    show_boxes(truth, color=TRUTH, style="--", width=2, ax=axes)
    background = _background(figure)
    colors = [COLORS["sky"], COLORS["orange"], COLORS["purple"], COLORS["yellow"]]
    return (
        figure,
        background,
        {
            label: axes.add_collection(PolyCollection([], facecolors="none", edgecolors=colors[i % len(colors)], lw=3))
            for i, label in enumerate(labels)
        },
    )


def _whole_slider(name: str, value: int, last: int) -> ipywidgets.IntSlider:
    return ipywidgets.IntSlider(
        value=value,
        min=0,
        max=last,
        description=name,
        style={"description_width": "9em"},
        layout={"width": "32em"},
    )


def _slider(name: str, value: float, *, low: float = 0) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=1,
        step=0.05,
        description=name,
        style={"description_width": "9em"},
        layout={"width": "32em"},
    )


def _frame(boxes: Tensor) -> Tensor:
    """A black image that holds all boxes."""
    far = boxes[:, 2:].amax(0) if len(boxes) else torch.ones(2)
    width, height = (int(side) + 1 for side in far.clamp(min=1).tolist())
    return torch.zeros(height, width)


def _bare_figure(image: Tensor) -> tuple[Figure, Axes]:
    """A figure filled by the image alone, and its axes: no layout to work out at each redraw."""
    height, width = image.shape[:2] if image.shape[-1] == 3 else image.shape[-2:]
    figure = Figure(figsize=(PICTURE_HEIGHT * width / height, PICTURE_HEIGHT), dpi=DOTS_PER_INCH, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    show_image(image, ax=axes)
    return figure, axes


def _picture() -> ipywidgets.Image:
    """A picture in its own size, so that it fits a screen together with its sliders; a box would stretch it."""
    return ipywidgets.Image(format="png", layout=ipywidgets.Layout(align_self="flex-start", max_width="100%"))


def _outlines(boxes: Tensor):
    """(N, 4, 2) corners of boxes, in turn."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).numpy()


def _background(figure: Figure):
    """What does not change, drawn once; and the canvas stays ready to be drawn on."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.copy_from_bbox(figure.bbox)


def _png(figure: Figure, background, artists: Sequence[Artist]) -> bytes:
    """The background with the artists over it."""
    figure.canvas.restore_region(background)
    for artist in artists:
        figure.draw_artist(artist)
    stream = io.BytesIO()
    # a slider waits for it: little compression is several times as fast, for a few kilobytes more
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).save(stream, "png", compress_level=1)
    return stream.getvalue()

"""Checks of notebook 02, sliding windows and OverFeat."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from labkit.checks.engine import Case, difference, run_check
from labkit.checks.fixtures import noise, uniform
from labkit.detection import sliding_window as package

# ----------------------------------------------------------------------------------------------- sliding_window


def sliding_window(student: Callable) -> Callable:
    """Check `my_sliding_window(image (C, H, W), window, stride) -> windows (N, C, h, w), boxes (N, 4)` of notebook 02.

    Example:
        >>> sliding_window(lambda image, window, stride: reference_windows(image, window, 1)).__name__
        ✗ sliding_window: stride 2 that ends at the border
        ...
          likely: the stride is not used: it is the step of both loops
        ...
        'reference_windows'
    """
    cases = [
        Case("an image of 2 rows and 3 columns, windows of 1 row and 2 columns", (_ramp(1, 2, 3), (1, 2), 1)),
        Case("a window as large as the image", (_ramp(1, 3, 4), (3, 4), 1)),
        Case("stride 2 that ends at the border", (_ramp(1, 3, 7), (3, 3), 2)),
        Case("stride 2 that leaves a rest on the right and below", (_ramp(1, 6, 8), (3, 5), 2)),
        Case("a stride larger than the window", (_ramp(1, 8, 12), (2, 3), 4)),
        Case("3 channels", (_ramp(3, 4, 5), (2, 3), 1)),
        Case("a high window in a wide image", (uniform(2, 9, 14, seed=9), (6, 2), 3)),
        Case("windows of one pixel", (uniform(1, 3, 4, seed=3), (1, 1), 1)),
        Case("an image of 17 rows and 30 columns", (uniform(2, 17, 30, seed=17), (5, 8), 3)),
    ]
    return run_check(
        "sliding_window", student, reference_windows, cases, mistakes=SLIDING_WINDOW_MISTAKES, draw=_draw_windows
    )


def _ramp(channels: int, height: int, width: int) -> Tensor:
    return torch.arange(channels * height * width, dtype=torch.float32).reshape(channels, height, width)


def reference_windows(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """All windows (N, C, h, w) of an image (C, H, W), row by row, and their boxes (N, 4)."""
    height, width = image.shape[1:]
    boxes = package.sliding_windows((height, width), window=window, stride=stride).to(image.device)
    return torch.stack([image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.long().tolist()]), boxes


def _loops(
    image: Tensor,
    window: tuple[int, int],
    stride: int,
    *,
    places: Callable = lambda size, side, step: range(0, size - side + 1, step),
    cut: Callable = lambda image, y, x, h, w: image[:, y : y + h, x : x + w],
    box: Callable = lambda y, x, h, w: (x, y, x + w, y + h),
    columns_first: bool = False,
    steps: Callable = lambda stride: (stride, stride),
) -> tuple[Tensor, Tensor]:
    """Two loops with room for the usual slips."""
    (height, width), (down, across) = window, steps(stride)
    rows, columns = places(image.shape[1], height, down), places(image.shape[2], width, across)
    at = [(y, x) for x in columns for y in rows] if columns_first else [(y, x) for y in rows for x in columns]
    boxes = torch.tensor([box(y, x, height, width) for y, x in at], dtype=torch.float32, device=image.device)
    return torch.stack([cut(image, y, x, height, width) for y, x in at]), boxes


def _moved_in(size: int, side: int, step: int) -> list[int]:
    starts = list(range(0, size - side + 1, step))
    return starts if starts[-1] == size - side else [*starts, size - side]


def _whole_boxes(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    windows, boxes = _loops(image, window, stride)
    return windows, boxes.long()


SLIDING_WINDOW_MISTAKES: dict[str, Callable] = {
    "the window is (height, width), in this order": lambda i, w, s: _loops(i, (w[1], w[0]), s),
    "the order is row by row: the loop over y is the outer one, the loop over x the inner one": (
        lambda i, w, s: _loops(i, w, s, columns_first=True)
    ),
    "the last window is missing: `range` leaves its end out, so the end is H - h + 1": (
        lambda i, w, s: _loops(i, w, s, places=lambda size, side, step: range(0, size - side, step))
    ),
    "windows that leave the image are cut ragged: stop at H - h and W - w, not at H and W": (
        lambda i, w, s: _loops(i, w, s, places=lambda size, side, step: range(0, size, step))
    ),
    "a rest at the border is left out: no window is moved in to cover it": (
        lambda i, w, s: _loops(i, w, s, places=_moved_in)
    ),
    "the stride is not used: it is the step of both loops": lambda i, w, s: _loops(i, w, 1),
    "the stride is used downwards only: it is the step of both loops": (
        lambda i, w, s: _loops(i, w, s, steps=lambda stride: (stride, 1))
    ),
    "the stride is used across only: it is the step of both loops": (
        lambda i, w, s: _loops(i, w, s, steps=lambda stride: (1, stride))
    ),
    "the windows are cut at [x, y]: an image is indexed [channel, row, column], y before x": (
        lambda i, w, s: _loops(i, w, s, cut=lambda i, y, x, h, w: i[:, x : x + w, y : y + h])
    ),
    "boxes are x1 y1 x2 y2, x before y": lambda i, w, s: _loops(i, w, s, box=lambda y, x, h, w: (y, x, y + h, x + w)),
    "x2 goes with the width and y2 with the height; they are exchanged": (
        lambda i, w, s: _loops(i, w, s, box=lambda y, x, h, w: (x, y, x + h, y + w))
    ),
    "x2 and y2 are exclusive: x2 = x1 + width, without - 1": (
        lambda i, w, s: _loops(i, w, s, box=lambda y, x, h, w: (x, y, x + w - 1, y + h - 1))
    ),
    "boxes hold two corners, x1 y1 x2 y2, not a corner and a size": (
        lambda i, w, s: _loops(i, w, s, box=lambda y, x, h, w: (x, y, w, h))
    ),
    "boxes hold two corners, x1 y1 x2 y2, not a centre and a size": (
        lambda i, w, s: _loops(i, w, s, box=lambda y, x, h, w: (x + w / 2, y + h / 2, w, h))
    ),
    "boxes are floating point in this course: dtype=torch.float32": _whole_boxes,
}


def _draw_windows(case: Case, expected: tuple, got: tuple):
    from labkit.checks.pictures import EXPECTED, GOT, MANY, fit, number_boxes, panels
    from labkit.plotting import show_boxes, show_image

    image = case.args[0][0]  # a plane, so that three columns are not taken for three colours
    frame = torch.tensor([[0.0, 0.0, image.shape[1], image.shape[0]]])
    figure, axes = panels(2, title=f"{case.what}: the first {MANY} in their order", width=4.4, height=3.6)
    for ax, (_, boxes), name, color in zip(axes, (expected, got), ("expected", "got"), (EXPECTED, GOT), strict=True):
        show_image(image, value_range=(float(image.min()), float(image.max())), ax=ax)
        inset = torch.tensor([0.06, 0.06, -0.06, -0.06])  # so that boxes side by side can be told apart
        show_boxes(boxes[:MANY].cpu() + inset, color=color, ax=ax)
        number_boxes(ax, boxes[:MANY], color=color)
        ax.set_title(f"{name}: {len(boxes)} windows", color=color)
    fit(axes, torch.cat([frame, expected[1].cpu(), got[1].float().cpu()]))
    return figure


# --------------------------------------------------------------------------------------------------- fc_to_conv


def fc_to_conv(student: Callable) -> Callable:
    """Check `my_fc_to_conv(linear, channels, height, width) -> nn.Conv2d` of notebook 02.

    Example:
        >>> def without_weights(linear, channels, height, width):
        ...     return nn.Conv2d(channels, linear.out_features, (height, width))
        >>> fc_to_conv(without_weights).__name__
        ✗ fc_to_conv: one channel of 1 row and 2 columns, 1 output
          the weight differs in 2 of 2 numbers; ...
        'reference_fc_to_conv'
    """
    cases = [
        Case("one channel of 1 row and 2 columns, 1 output", (_linear(2, 1), 1, 1, 2)),
        Case("2 channels of one cell: a 1×1 convolution", (_linear(2, 3), 2, 1, 1)),
        Case("one channel of 2 rows and 3 columns", (_linear(6, 2), 1, 2, 3)),
        Case("3 channels of 2 rows and 4 columns", (_linear(24, 5), 3, 2, 4)),
        Case("4 channels of 6 rows and 3 columns", (_linear(72, 7), 4, 6, 3)),
    ]
    return run_check(
        "fc_to_conv", student, reference_fc_to_conv, cases, mistakes=FC_TO_CONV_MISTAKES, compare=_compare_convs
    )


def reference_fc_to_conv(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    """The package's; torch's generator, from which a new layer draws its first weights, is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return package.fc_to_conv(linear, channels, height, width)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights are all different, so that an exchange cannot pass unseen; nothing global is drawn from."""
    seed = inputs * 100 + outputs
    linear = skip_init(nn.Linear, inputs, outputs)
    linear.weight = nn.Parameter(noise(outputs, inputs, seed=seed))
    linear.bias = nn.Parameter(noise(outputs, seed=seed + 1))
    return linear


def _compare_convs(got: Any, expected: nn.Conv2d) -> str | None:
    """What differs between two convolutions: their form, or their weights."""
    if not isinstance(got, nn.Conv2d):
        return f"the result is {type(got).__name__}, expected an nn.Conv2d"
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        if getattr(got, name) != getattr(expected, name):
            return f"the convolution's {name} is {getattr(got, name)}, expected {getattr(expected, name)}"
    if told := difference(got.weight.detach(), expected.weight.detach(), where="the weight"):
        return told
    if got.bias is None or expected.bias is None:
        return None if got.bias is expected.bias else "the convolution has no bias, expected the bias of the layer"
    told = difference(got.bias.detach(), expected.bias.detach(), where="the bias")
    # an uncopied bias is random, so that no mistake of the table has the same
    return f"{told}. The weight is right; is the layer's bias copied, too?" if told else None


def _conv(weight: Tensor, bias: Tensor | None, **options) -> nn.Conv2d:
    outputs, channels, height, width = weight.shape
    conv = nn.Conv2d(channels, outputs, (height, width), bias=bias is not None, **options)
    conv.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv


def _as_one_by_one(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels * height * width, 1, 1), linear.bias)


FC_TO_CONV_MISTAKES: dict[str, Callable] = {
    "nn.Flatten runs through channels first, then rows, then columns: reshape to (out, C, h, w)": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, h, w, c).permute(0, 3, 1, 2), f.bias)
    ),
    "rows and columns are exchanged in the reshape: it is (out, C, h, w), height before width": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, w, h).transpose(2, 3), f.bias)
    ),
    "the kernel is turned on its side: kernel_size is (height, width)": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, w, h), f.bias)
    ),
    "no transposing: a row of linear.weight already holds the weights of one output": (
        lambda f, c, h, w: _conv(f.weight.T.reshape(-1, c, h, w), f.bias)
    ),
    "outputs come before channels: reshape to (out, C, h, w), not (C, out, h, w)": (
        lambda f, c, h, w: _conv(f.weight.reshape(c, -1, h, w).transpose(0, 1), f.bias)
    ),
    "nn.Conv2d does not mirror its kernel (it is a cross-correlation): no flip is needed": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w).flip(2, 3), f.bias)
    ),
    "the bias is forgotten: copy it too": lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w), None),
    "the new convolution's bias is not the layer's: copy it too": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w), torch.zeros_like(f.bias))
    ),
    "no padding: each output must see one whole block and nothing else": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w), f.bias, padding=(h // 2, w // 2))
    ),
    'no padding, "same" neither: each output must see one whole block and nothing else': (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w), f.bias, padding="same")
    ),
    "the stride is 1: the kernel goes to every position, not from block to block": (
        lambda f, c, h, w: _conv(f.weight.reshape(-1, c, h, w), f.bias, stride=(h, w))
    ),
    "a 1×1 kernel would need the block flattened into channels; the kernel is as large as the block": _as_one_by_one,
}

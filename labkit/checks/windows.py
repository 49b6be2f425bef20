"""Checks of notebook 02, sliding windows and OverFeat."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit.checks.engine import Case, difference, run_check
from labkit.detection import sliding_window as package

# ----------------------------------------------------------------------------------------------- sliding_window


def sliding_window(student: Callable) -> Callable:
    """Check `my_sliding_window(image (C, H, W), window, stride) -> windows (N, C, h, w), boxes (N, 4)` of notebook 02.

    Example:
        >>> sliding_window(reference_windows) is reference_windows
        ✓ sliding_window: 9 cases agree. From here on the notebook uses your function.
        True
    """
    cases = [
        Case("an image of 2 rows and 3 columns, windows of 1 row and 2 columns", (_ramp(1, 2, 3), (1, 2), 1)),
        Case("a window as large as the image", (_ramp(1, 3, 4), (3, 4), 1)),
        Case("stride 2 that ends at the border", (_ramp(1, 3, 7), (3, 3), 2)),
        Case("stride 2 that leaves a rest on the right and below", (_ramp(1, 6, 8), (3, 5), 2)),
        Case("a stride larger than the window", (_ramp(1, 8, 12), (2, 3), 4)),
        Case("3 channels", (_ramp(3, 4, 5), (2, 3), 1)),
        Case("a high window in a wide image", (_noise(2, 9, 14), (6, 2), 3)),
        Case("windows of one pixel", (_noise(1, 3, 4), (1, 1), 1)),
        Case("an image of 17 rows and 30 columns", (_noise(2, 17, 30), (5, 8), 3)),
    ]
    return run_check(
        "sliding_window", student, reference_windows, cases, mistakes=SLIDING_WINDOW_MISTAKES, draw=_draw_boxes
    )


def _ramp(channels: int, height: int, width: int) -> Tensor:
    return torch.arange(channels * height * width, dtype=torch.float32).reshape(channels, height, width)


def _noise(channels: int, height: int, width: int) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(height))


def reference_windows(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """All windows (N, C, h, w) of an image (C, H, W), row by row, and their boxes (N, 4)."""
    boxes = package.sliding_windows(image.shape[1:], window=window, stride=stride).to(image.device)
    return _cut(image, boxes), boxes


def _cut(image: Tensor, boxes: Tensor) -> Tensor:
    return torch.stack([image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.long().tolist()])


def _exchanged(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    return reference_windows(image, (window[1], window[0]), stride)


def _columns_first(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    windows, boxes = reference_windows(image, window, stride)
    order = (boxes[:, 0] * 1000 + boxes[:, 1]).argsort()
    return windows[order], boxes[order]


def _one_short(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    boxes = package.sliding_windows((image.shape[1] - 1, image.shape[2] - 1), window=window, stride=stride)
    return _cut(image, boxes), boxes


def _stride_one(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    return reference_windows(image, window, 1)


def _other_boxes(change: Callable) -> Callable:
    def wrong(image: Tensor, window: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
        windows, boxes = reference_windows(image, window, stride)
        return windows, change(boxes)

    return wrong


SLIDING_WINDOW_MISTAKES = {
    "the window is (height, width), in this order": _exchanged,
    "the order is row by row: the loop over y is the outer one, the loop over x the inner one": _columns_first,
    "the last window is missing: `range` leaves its end out, so the end is H - h + 1": _one_short,
    "the stride is not used: it is the step of both loops": _stride_one,
    "boxes are x1 y1 x2 y2, x before y": _other_boxes(lambda boxes: boxes[:, [1, 0, 3, 2]]),
    "x2 and y2 are exclusive: x2 = x1 + width, without - 1": _other_boxes(
        lambda boxes: boxes - torch.tensor([0.0, 0, 1, 1])
    ),
    "boxes hold two corners, x1 y1 x2 y2, not a corner and a size": _other_boxes(
        lambda boxes: torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
    ),
    "boxes are floating point in this course: dtype=torch.float32": _other_boxes(lambda boxes: boxes.long()),
}


def _draw_boxes(case: Case, expected: tuple, got: tuple):
    from labkit.plotting import COLORS, new_figure, show_boxes, show_image

    figure, axes = new_figure(1, 2, width=4.2, height=3.2)
    names = ("expected", "got")
    for ax, (_, boxes), name, color in zip(axes, (expected, got), names, ("green", "red"), strict=True):
        show_image(case.args[0][:1], value_range=None, ax=ax)
        show_boxes(boxes[:1], color=COLORS[color], ax=ax)
        show_boxes(boxes[1:], color=COLORS[color], width=1, ax=ax)
        ax.set_title(f"{name}: {len(boxes)} windows, the first thick")
    return figure


# --------------------------------------------------------------------------------------------------- fc_to_conv


def fc_to_conv(student: Callable) -> Callable:
    """Check `my_fc_to_conv(linear, channels, height, width) -> nn.Conv2d` of notebook 02.

    Example:
        >>> from labkit.detection.sliding_window import fc_to_conv as theirs
        >>> fc_to_conv(theirs) is theirs
        ✓ fc_to_conv: 5 cases agree. From here on the notebook uses your function.
        True
    """
    cases = [
        Case("one channel of 1 row and 2 columns, 1 output", (_linear(2, 1), 1, 1, 2)),
        Case("2 channels of one cell: a 1×1 convolution", (_linear(2, 3), 2, 1, 1)),
        Case("one channel of 2 rows and 3 columns", (_linear(6, 2), 1, 2, 3)),
        Case("3 channels of 2 rows and 4 columns", (_linear(24, 5), 3, 2, 4)),
        Case("4 channels of 6 rows and 3 columns", (_linear(72, 7), 4, 6, 3)),
    ]
    return run_check(
        "fc_to_conv", student, package.fc_to_conv, cases, mistakes=FC_TO_CONV_MISTAKES, compare=_compare_convs
    )


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights are all different, so that an exchange cannot pass unseen."""
    generator = torch.Generator().manual_seed(inputs * 100 + outputs)
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator))
    linear.bias = nn.Parameter(torch.randn(outputs, generator=generator))
    return linear


def _compare_convs(got: nn.Conv2d, expected: nn.Conv2d) -> str | None:
    """What differs between two convolutions: their form, their weights, or what they make of a larger map."""
    if not isinstance(got, nn.Conv2d):
        return f"the result is {type(got).__name__}, expected an nn.Conv2d"
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        if getattr(got, name) != getattr(expected, name):
            return f"the convolution's {name} is {getattr(got, name)}, expected {getattr(expected, name)}"
    if (got.bias is None) != (expected.bias is None):
        return "the convolution has no bias, expected the bias of the linear layer"
    for name in ("weight", "bias"):
        mine, theirs = getattr(got, name), getattr(expected, name)
        if theirs is not None and (told := difference(mine.detach(), theirs.detach(), where=f"the {name}")):
            return told
    return None


def _conv(weight: Tensor, bias: Tensor | None, **options) -> nn.Conv2d:
    outputs, channels, *kernel = weight.shape
    conv = nn.Conv2d(channels, outputs, tuple(kernel), bias=bias is not None, **options)
    conv.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv


def _channels_last(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2), linear.bias)


def _columns_before_rows(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels, width, height).transpose(2, 3), linear.bias)


def _kernel_turned(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels, width, height), linear.bias)


def _mirrored(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels, height, width).flip(2, 3), linear.bias)


def _no_bias(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels, height, width), None)


def _zero_bias(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels, height, width), torch.zeros_like(linear.bias))


def _padded(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    weight = linear.weight.reshape(-1, channels, height, width)
    return _conv(weight, linear.bias, padding=(height // 2, width // 2))


def _as_one_by_one(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    return _conv(linear.weight.reshape(-1, channels * height * width, 1, 1), linear.bias)


FC_TO_CONV_MISTAKES = {
    "nn.Flatten runs through channels first, then rows, then columns: reshape to (out, C, h, w)": _channels_last,
    "rows and columns are exchanged in the reshape: it is (out, C, h, w), height before width": _columns_before_rows,
    "the kernel is turned on its side: kernel_size is (height, width)": _kernel_turned,
    "nn.Conv2d does not mirror its kernel (it is a cross-correlation): no flip is needed": _mirrored,
    "the bias is forgotten: copy it too": _no_bias,
    "the new convolution's bias is not the layer's: copy it too": _zero_bias,
    "no padding: each output must see one whole block and nothing else": _padded,
    "a 1×1 kernel would need the block flattened into channels; the kernel is as large as the block": _as_one_by_one,
}

"""Slips of students in notebook 16, each met and named; and a right answer whose map carries a gradient."""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import checks
from labkit.checks import attention, attention_cam, attention_loss


def hills(*, cell=torch.floor, sigma=lambda side, stride: side / (6 * stride), join=torch.maximum, height=None):
    """Boxes as hills, as a student writes them, with room for one slip."""

    def my_gaussian_heatmap(boxes, size, stride):
        h, w = size[0] // stride, size[1] // stride
        out = torch.zeros(h, w)
        rows, columns = torch.arange(h)[:, None], torch.arange(w)
        for x1, y1, x2, y2 in boxes:
            column, row = cell((x1 + x2) / (2 * stride)), cell((y1 + y2) / (2 * stride))
            across, down = (columns - column) / sigma(x2 - x1, stride), (rows - row) / sigma(y2 - y1, stride)
            hill = torch.exp(-(across**2 + down**2) / 2)
            out = join(out, height(hill, across, down) if height else hill)
        return out

    return my_gaussian_heatmap


HILLS: dict[str, tuple[dict, str]] = {
    "round": ({"cell": torch.round}, "torch.round goes to the nearest cell"),
    "ceil": ({"cell": torch.ceil}, "not by ceil"),
    "a sum cut off": ({"join": lambda a, b: (a + b).clamp(max=1)}, "a sum that is cut off at 1"),
    "probabilities": ({"join": lambda a, b: 1 - (1 - a) * (1 - b)}, "higher than both"),
    "side / 6 * stride": ({"sigma": lambda side, stride: side / 6 * stride}, "multiplies by the stride"),
    "cut off at the box": (
        {"height": lambda hill, across, down: hill * (across.abs() <= 3) * (down.abs() <= 3)},
        "not cut off at the edge",
    ),
    "divided by its maximum": (
        {"cell": lambda c: c - 0.5, "height": lambda hill, *_: hill / hill.max()},
        "do not divide by the largest value",
    ),
}


@pytest.mark.parametrize("name", HILLS)
def test_a_usual_slip_of_hills_is_named(message_of, name):
    slip, cause = HILLS[name]
    told = message_of(checks.gaussian_heatmap, hills(**slip))
    assert cause in told.partition("likely: ")[2], told


def test_hills_without_a_slip_are_accepted(strict):
    right = hills()
    assert checks.gaussian_heatmap(right) is right


@pytest.mark.parametrize(("rows_too", "where"), [(False, "last column"), (True, "last column")])
def test_a_clamp_before_the_last_column_is_met(message_of, rows_too, where):
    def clamps(boxes, size, stride):
        h, w = size[0] // stride, size[1] // stride
        boxes = boxes.clone()
        for box in boxes:
            for axis, cells in ((0, w), (1, h))[: 1 + rows_too]:
                middle = (box[axis] + box[axis + 2]) / 2
                back = (middle / stride).floor() - (middle / stride).floor().clamp(0, cells - 2)
                box[[axis, axis + 2]] -= back * stride
        return attention.reference_gaussian_heatmap(boxes, size, stride)

    told = message_of(checks.gaussian_heatmap, clamps)
    assert where in told.splitlines()[0]
    assert "no clamp is needed" in told


def test_a_large_map_is_told_by_the_row_of_its_worst_cell(message_of):
    told = message_of(checks.gaussian_heatmap, hills(join=torch.add))
    assert "columns " in told
    assert "it is " in told.split("row ")[1]
    assert ", expected " in told.split("row ")[1]


def loss_of(*, top=lambda y: y == 1, counted=lambda y: y == 1, p=torch.sigmoid, log=torch.log, tops=None):
    """The loss, as a student writes it, with room for one slip."""

    def my_heatmap_loss(z, y, alpha, beta):
        yes, no = (F.logsigmoid(z), F.logsigmoid(-z)) if log is torch.log else (log(p(z)), log(1 - p(z)))
        here, there = (1 - p(z)) ** alpha * yes, (1 - y) ** beta * p(z) ** alpha * no
        each = torch.where(top(y), here, there)
        return -each.sum() / (tops(y) if tops else counted(y).sum().clamp(min=1))

    return my_heatmap_loss


LOSSES: dict[str, tuple[dict, str]] = {
    "0.99": ({"top": lambda y: y > 0.99, "counted": lambda y: y > 0.99}, "a cell of 0.995 is not"),
    "0.99 at one place": ({"top": lambda y: y > 0.99}, "above 0.99 is summed up"),
    "1/2": ({"top": lambda y: y > 0.5}, "above 1/2 is summed up"),
    "0": ({"top": lambda y: y > 0}, "above 0 is summed up"),
    "films": ({"tops": lambda y: sum(max(1, int((one == 1).sum())) for one in y)}, "for the whole batch"),
    "films with tops": ({"tops": lambda y: max(1, int((y == 1).flatten(1).any(dim=1).sum()))}, "films that have one"),
    "exchanged": ({"top": lambda y: y != 1}, "the two are exchanged"),
    "clamped": (
        {"p": lambda z: z.sigmoid().clamp(1e-4, 1 - 1e-4), "log": lambda p: p.log()},
        "a p that is clamped",
    ),
    "eps": ({"log": lambda p: (p + 1e-8).log()}, "need no eps"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_usual_slip_of_the_loss_is_named(message_of, name):
    slip, cause = LOSSES[name]
    told = message_of(checks.heatmap_loss, loss_of(**slip))
    assert cause in told.partition("likely: ")[2], told


def test_a_loss_without_a_slip_is_accepted(strict):
    right = loss_of()
    assert checks.heatmap_loss(right) is right


def test_small_targets_set_to_0_in_place_are_met(message_of):
    def silences(logits, target, alpha, beta):
        target[target < 0.01] = 0
        return attention_loss.reference_heatmap_loss(logits, target, alpha, beta)

    told = message_of(checks.heatmap_loss, silences)
    assert "0.005" in told.splitlines()[0]
    assert "changed its arguments in place" in told


def cam_with_gradient(features, head, asked):
    """Right; its map carries a gradient."""
    features = features.detach().requires_grad_()
    z = head(features).gather(1, asked[:, None]).sum()
    (slope,) = torch.autograd.grad(z, features)
    return (slope.mean(dim=(2, 3))[:, :, None, None] * features).sum(dim=1).relu()


def functions_of(*cells):
    """The functions that cells of notebook 16 define, in a space of their own."""
    nb = json.loads((Path(__file__).parents[2] / "notebooks" / "16_attention.ipynb").read_text(encoding="utf-8"))
    source = {cell["id"]: "".join(cell["source"]) for cell in nb["cells"]}
    space = {"torch": torch, "np": np}
    for cell in cells:
        parts: list[ast.stmt] = [part for part in ast.parse(source[cell]).body if isinstance(part, ast.FunctionDef)]
        exec(compile(ast.Module(parts, []), cell, "exec"), space)
    return space


def test_the_notebook_draws_maps_that_carry_a_gradient(strict):
    grad_cam = checks.grad_cam(cam_with_gradient)
    space = functions_of("hills", "cams", "sanity-maps")
    features = torch.rand(2, 3, 4, 4)
    network = SimpleNamespace(
        features=lambda films: features[: len(films)],
        classify=lambda features: features.mean(dim=(2, 3)),
        backbone=SimpleNamespace(fine=[None]),
    )
    columns = torch.tensor([0, 2])
    assert grad_cam(features, network.classify, columns).requires_grad
    space |= {
        "grad_cam": grad_cam,
        "machine": "cpu",
        "rows": torch.tensor([0, 1]),
        "columns": columns,
        "test_films": SimpleNamespace(images=torch.rand(2, 1, 8, 8)),
        "given": torch.rand(2, 1, 8, 8),
        "k": columns,
        "gradient_map": lambda network, score, given, **_: torch.zeros(2, 8, 8),
        "show_image": lambda *args, **options: None,
    }
    maps = space["cams_of"](network)
    drawn = []
    ax = SimpleNamespace(imshow=lambda share, **look: drawn.append(share))
    space["lay_over"](torch.rand(1, 8, 8), maps[0], ax, "a map")
    assert len(drawn) == 1
    assert not any(each.requires_grad for each in space["three_maps"](network).values())


def test_a_flag_set_on_the_features_that_come_in_is_refused(message_of):
    def sets_it(features, head, asked):
        features.requires_grad_()
        (slope,) = torch.autograd.grad(head(features).gather(1, asked[:, None]).sum(), features)
        return (slope.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu().detach()

    told = message_of(checks.grad_cam, sets_it)
    assert "stay without `requires_grad`" in told.splitlines()[0]
    assert "changed its arguments in place" in told


def cam_of(score, *, ready=lambda features: features.detach().requires_grad_()):
    def my_grad_cam(features, head, asked):
        features = ready(features)
        (slope,) = torch.autograd.grad(score(head(features), asked), features)
        return (slope.mean(dim=(2, 3), keepdim=True) * features.detach()).sum(dim=1).relu()

    return my_grad_cam


CAMS = {
    "the first one's class": (lambda z, asked: z[:, asked[0]].sum(), "not all about that of the first image"),
    "the first image": (lambda z, asked: z[0, asked[0]], "only the first image is asked"),
    "log_softmax": (lambda z, asked: z.log_softmax(dim=1).gather(1, asked[:, None]).sum(), "not of log_softmax"),
}


@pytest.mark.parametrize("name", CAMS)
def test_a_usual_slip_of_grad_cam_is_named(message_of, name):
    score, cause = CAMS[name]
    told = message_of(checks.grad_cam, cam_of(score))
    assert cause in told.partition("likely: ")[2], told


def test_features_that_ask_for_no_slope_are_explained(message_of):
    told = message_of(checks.grad_cam, cam_of(attention_cam._chosen, ready=lambda features: features))
    assert "features.detach().requires_grad_() first" in told

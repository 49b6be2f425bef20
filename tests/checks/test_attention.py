"""Checks of notebook 16."""

import math

import pytest
import torch
import torch.nn.functional as F

from labkit import checks
from labkit.checks import attention as subject
from labkit.checks import attention_cam, attention_loss


def heatmap_by_cells(boxes, size, stride):
    """Every cell by itself, in Python's numbers."""
    rows = []
    for r in range(size[0] // stride):
        row = []
        for c in range(size[1] // stride):
            hills = [0.0]
            for x1, y1, x2, y2 in boxes.tolist():
                across = (c - (x1 + x2) // (2 * stride)) * stride / (x2 - x1)
                down = (r - (y1 + y2) // (2 * stride)) * stride / (y2 - y1)
                hills.append(math.exp(-18 * (across**2 + down**2)))
            row.append(max(hills))
        rows.append(row)
    return torch.tensor(rows, device=boxes.device)


def heatmap_by_outer_products(boxes, size, stride):
    """A hill is the product of two curves."""
    heatmap = torch.zeros(size[0] // stride, size[1] // stride, device=boxes.device)
    for box in boxes:
        curves = []
        for axis, side in ((1, size[0]), (0, size[1])):
            cell = torch.div(box[axis] + box[axis + 2], 2 * stride, rounding_mode="floor")
            away = torch.arange(side // stride, device=boxes.device) - cell
            curves.append(torch.exp(-18 * (away * stride / (box[axis + 2] - box[axis])) ** 2))
        heatmap = heatmap.max(torch.outer(*curves))
    return heatmap


def loss_with_masks(logits, target, alpha, beta):
    """Tops and the others picked out, probabilities from their logarithms."""
    tops = target.eq(1)
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    total = -(no[tops].exp() ** alpha * yes[tops]).sum()
    rest = ~tops
    total = total - ((1 - target[rest]) ** beta * yes[rest].exp() ** alpha * no[rest]).sum()
    return total / max(int(tops.sum()), 1)


def loss_with_softplus(logits, target, alpha, beta):
    top = (target >= 1).float()
    p = torch.sigmoid(logits)
    each = top * (1 - p) ** alpha * F.softplus(-logits) + (1 - top) * (1 - target) ** beta * p**alpha * F.softplus(
        logits
    )
    return each.sum() / torch.clamp(top.sum(), min=1.0)


def cam_image_by_image(features, head, asked):
    maps = []
    for image, column in zip(features, asked.tolist(), strict=True):
        one = image[None].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(head(one)[0, column], one)
        weights = slope[0].flatten(1).mean(dim=1)
        maps.append(F.relu((weights[:, None, None] * image).sum(dim=0)))
    return torch.stack(maps)


def cam_with_backward(features, head, asked):
    leaf = features.clone().detach().requires_grad_(True)
    chosen = F.one_hot(asked, head(leaf).shape[1])
    (head(leaf) * chosen).sum().backward()
    return torch.einsum("bc,bchw->bhw", leaf.grad.mean(dim=(-1, -2)), features).clamp(min=0)


RIGHT = [
    (checks.gaussian_heatmap, heatmap_by_cells),
    (checks.gaussian_heatmap, heatmap_by_outer_products),
    (checks.heatmap_loss, loss_with_masks),
    (checks.heatmap_loss, loss_with_softplus),
    (checks.grad_cam, cam_image_by_image),
    (checks.grad_cam, cam_with_backward),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_examples_by_hand_are_right():
    heatmap = subject.reference_gaussian_heatmap(torch.tensor([[0.0, 0, 24, 12]]), (12, 28), 4)
    assert heatmap[1].tolist() == pytest.approx([0.011, 0.135, 0.607, 1, 0.607, 0.135, 0.011], abs=1e-3)
    assert heatmap[2, 3].item() == pytest.approx(math.exp(-2), abs=1e-6)
    loss = attention_loss.reference_heatmap_loss(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0]]]), 2.0, 4.0)
    assert loss.item() == pytest.approx(0.347, abs=1e-3)
    features = torch.tensor([[[[3.0, 1.0]], [[0.0, 2.0]]]])
    maps = attention_cam.reference_grad_cam(features, attention_cam._plain([1, -1]), torch.tensor([0]))
    assert maps.tolist() == [[[1.5, 0]]]


def test_a_sum_is_met_where_two_hills_overlap(message_of):
    def adds(boxes, size, stride):
        return sum(
            (subject.reference_gaussian_heatmap(box[None], size, stride) for box in boxes),
            torch.zeros(size[0] // stride, size[1] // stride),
        )

    told = message_of(checks.gaussian_heatmap, adds)
    assert "overlap" in told.splitlines()[0] or "far apart" in told.splitlines()[0]
    assert "likely: where two hills overlap the higher one counts" in told


def test_rounding_in_place_of_cutting_off_is_named(message_of):
    def rounds(boxes, size, stride):
        return subject._heatmap(boxes, size, stride, cell=lambda c, stride: torch.floor(c / stride + 0.5))

    assert "likely: a cell is found by cutting off" in message_of(checks.gaussian_heatmap, rounds)


def test_a_loss_that_is_infinite_far_out_is_named(message_of):
    def naive(logits, target, alpha, beta):
        p, tops = logits.sigmoid(), target == 1
        each = torch.where(tops, (1 - p) ** alpha * p.log(), (1 - target) ** beta * p**alpha * (1 - p).log())
        return -each.sum() / tops.sum().clamp(min=1)

    told = message_of(checks.heatmap_loss, naive)
    assert "logits of" in told.splitlines()[0]
    assert "likely: p rounds to 0 or 1" in told


def test_weights_without_a_gradient_are_met_by_the_gradient(message_of):
    def cut(logits, target, alpha, beta):
        p, tops = logits.sigmoid().detach(), target == 1
        each = torch.where(
            tops,
            (1 - p) ** alpha * F.logsigmoid(logits),
            (1 - target) ** beta * p**alpha * F.logsigmoid(-logits),
        )
        return -each.sum() / tops.sum().clamp(min=1)

    told = message_of(checks.heatmap_loss, cut)
    assert "the gradient of the logits" in told.splitlines()[0]
    assert "belong to the gradient, too" in told


def test_one_mean_for_the_whole_batch_is_met_by_a_batch(message_of):
    def over_batch(features, head, asked):
        features = features.detach().requires_grad_()
        (slope,) = torch.autograd.grad(head(features).gather(1, asked[:, None]).sum(), features)
        return (slope.mean(dim=(0, 2, 3))[:, None, None] * features.detach()).sum(dim=1).relu()

    told = message_of(checks.grad_cam, over_batch)
    assert "images, " in told.splitlines()[0]  # the first case of more than one
    assert "likely: each image has weights of its own" in told


def test_the_heads_logits_are_what_their_name_says():
    head = attention_cam.CurvedHead(torch.tensor([[1.0, -2.0]]), 0.5)
    features = torch.tensor([[[[2.0, 4.0]], [[1.0, 0.0]]]])
    assert head(features).tolist() == [[3 + 2.5 - 1.0 - 0.25]]
    assert repr(head) == "z = mean of w A + 0.25 A², w of (1, 2)"


@pytest.mark.parametrize(
    "mistakes",
    [subject.GAUSSIAN_HEATMAP_MISTAKES, attention_loss.HEATMAP_LOSS_MISTAKES, attention_cam.GRAD_CAM_MISTAKES],
)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

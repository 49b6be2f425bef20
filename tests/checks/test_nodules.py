"""Checks of notebook 14."""

import pytest
import torch

from labkit import checks
from labkit.checks import nodules as subject
from labkit.checks import nodules_merging, nodules_training


def voxels_by_matrix(points, origin, spacing, direction):
    """The grid's matrix inverted, as SimpleITK has it, in x y z."""
    x_first = [torch.tensor(values[::-1], dtype=torch.float64) for values in (origin, spacing, direction)]
    matrix = torch.diag(x_first[1] * x_first[2])
    back = torch.linalg.inv(matrix) @ (points.cpu().double() - x_first[0]).T
    return back.T.flip(1).to(points)


def voxels_by_numbers(points, origin, spacing, direction):
    rows = [
        [(p - o) * d / s for p, o, s, d in zip(reversed(row), origin, spacing, direction, strict=True)]
        for row in points.tolist()
    ]
    return torch.tensor(rows, device=points.device).reshape(-1, 3)


def merged_by_lists(centers, scores, reach):
    left = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
    middles, best = [], []
    while left:
        mine = [i for i in left if torch.linalg.vector_norm(centers[i] - centers[left[0]]) <= reach]
        share = scores[mine] / scores[mine].sum()
        middles.append(share @ centers[mine])
        best.append(scores[left[0]])
        left = [i for i in left if i not in mine]
    return (torch.stack(middles), torch.stack(best)) if best else (centers, scores)


def merged_by_masking(centers, scores, reach):
    remaining, out = scores.clone(), []
    while len(scores) and remaining.max() > 0:
        first = remaining.argmax()
        mine = ((centers - centers[first]).pow(2).sum(-1) <= reach**2) & (remaining > 0)
        out.append(
            (torch.einsum("n,nc->c", remaining * mine, centers) / remaining[mine].sum(), remaining[first].clone())
        )
        remaining[mine] = 0
    if not out:
        return centers.clone(), scores.clone()
    return tuple(torch.stack(part) for part in zip(*out, strict=True))


def hard_by_loop(centers, scores, nodules, diameters, count, margin):
    rows = []
    for i in torch.sort(scores, descending=True).indices.tolist():
        gaps = [float((centers[i] - n).norm() - d / 2) for n, d in zip(nodules, diameters, strict=True)]
        if min(gaps, default=float("inf")) > margin:
            rows.append(i)
    return torch.tensor(rows[:count], dtype=torch.int64, device=centers.device)


def hard_by_pushing_down(centers, scores, nodules, diameters, count, margin):
    near = ((centers[:, None] - nodules[None]).norm(dim=2) <= diameters / 2 + margin).any(dim=1)
    lowered = scores.masked_fill(near, -torch.inf)
    return lowered.topk(min(count, int((~near).sum()))).indices


RIGHT = [
    (checks.world_to_voxel, voxels_by_matrix),
    (checks.world_to_voxel, voxels_by_numbers),
    (checks.merge_slices, merged_by_lists),
    (checks.merge_slices, merged_by_masking),
    (checks.hard_candidates, hard_by_loop),
    (checks.hard_candidates, hard_by_pushing_down),
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_other_ways_to_write_it_are_accepted(strict, check, right):
    assert check(right) is right


def test_the_examples_by_hand_are_right():
    voxels = subject.reference_world_to_voxel(
        torch.tensor([[10.0, 20.0, 34.0]]), (30.0, 0.0, 0.0), (2.0, 1.25, 1.25), (1.0, 1.0, 1.0)
    )
    assert voxels.tolist() == [[2, 16, 8]]
    centers = torch.tensor([[0.0, 0, 0], [0, 0, 2], [30, 0, 0]])
    middles, best = nodules_merging.reference_merge_slices(centers, torch.tensor([0.2, 0.6, 0.3]), 5.0)
    torch.testing.assert_close(middles, torch.tensor([[0.0, 0, 1.5], [30, 0, 0]]))
    torch.testing.assert_close(best, torch.tensor([0.6, 0.3]))
    centers = torch.tensor([[0.0, 0, 0], [0, 0, 30], [0, 40, 0], [7, 0, 0]])
    rows = nodules_training.reference_hard_candidates(
        centers, torch.tensor([0.9, 0.2, 0.6, 0.8]), torch.zeros(1, 3), torch.tensor([8.0]), 5, 5.0
    )
    assert rows.tolist() == [2, 1]


def test_a_forgotten_flip_is_named_where_an_axis_is_turned(message_of):
    def forgets(points, origin, spacing, direction):
        return (points.flip(1) - torch.tensor(origin)) / torch.tensor(spacing)

    told = message_of(checks.world_to_voxel, forgets)
    assert "an axis that runs against the world's" in told.splitlines()[0]
    assert "likely: the direction is missing" in told


def test_a_chain_along_a_vessel_is_named(message_of):
    told = message_of(checks.merge_slices, nodules_merging._chains)
    assert "a vessel runs through many slices" in told.splitlines()[0]
    assert "one long chain" in told


def test_rows_of_a_shorter_list_are_named(message_of):
    told = message_of(checks.hard_candidates, nodules_training._rows_of_the_far)
    assert "rows of the whole list are wanted" in told


@pytest.mark.parametrize(
    "mistakes",
    [
        subject.WORLD_TO_VOXEL_MISTAKES,
        nodules_merging.MERGE_SLICES_MISTAKES,
        nodules_training.HARD_CANDIDATES_MISTAKES,
    ],
)
def test_there_are_wrong_answers_enough(mistakes):
    assert len(mistakes) >= 8

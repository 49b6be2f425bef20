"""Matching candidates to truths, and drawing those that a loss sees; against torchvision's matcher and sampler."""

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from labkit.detection.matching import check_thresholds, match_iou, match_proposals, sample


def random_iou(truths, candidates, seed):
    """(N, M) multiples of a tenth, so that many are equally good and many lie on a threshold."""
    return torch.randint(11, (truths, candidates), generator=torch.Generator().manual_seed(seed)) / 10


def test_a_candidate_answers_for_the_truth_it_overlaps_most():
    iou = torch.tensor([[0.6, 0.4, 0.1, 0.7], [0.0, 0.4, 0.2, 0.8]])
    matches = match_iou(iou, positive_iou=0.5, negative_iou=0.3, best_of_each_truth=False)
    assert matches.tolist() == [0, -2, -1, 1]
    assert matches.dtype == torch.int64


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("best", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5), (1.0, 0.0)])
def test_it_is_torchvisions_matcher(seed, best, positive, negative):
    iou = random_iou(1 + seed, 23, seed)
    iou[0, 5] = 0.95  # its best is no 0: what overlaps nothing is torchvision's to match, and not ours
    iou.clamp_(min=0.05)
    expected = Matcher(positive, negative, allow_low_quality_matches=best)(iou)
    assert torch.equal(match_iou(iou, positive_iou=positive, negative_iou=negative, best_of_each_truth=best), expected)


def test_a_truth_that_overlaps_nothing_wins_nothing():
    iou = torch.tensor([[0.0, 0.0], [0.4, 0.0]])
    assert match_iou(iou, positive_iou=0.5, negative_iou=0.3, best_of_each_truth=True).tolist() == [1, -1]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_without_truths_all_is_background(shape):
    matches = match_iou(torch.zeros(shape), positive_iou=0.5, negative_iou=0.3, best_of_each_truth=True)
    assert matches.tolist() == [-1] * shape[1]


def test_the_order_of_candidates_makes_no_difference():
    iou, order = random_iou(4, 30, 9), torch.randperm(30, generator=torch.Generator().manual_seed(1))
    options = {"positive_iou": 0.6, "negative_iou": 0.3, "best_of_each_truth": True}
    assert torch.equal(match_iou(iou[:, order], **options), match_iou(iou, **options)[order])


@pytest.mark.parametrize("thresholds", [(0.3, 0.7), (1.1, 0.3), (0.5, -0.1), (float("nan"), 0.3)])
def test_thresholds_out_of_order_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"0 <= negative_iou <= positive_iou <= 1 must hold.*swap or lower them"):
        check_thresholds(*thresholds)
    with pytest.raises(ValueError, match="must hold"):
        match_proposals(torch.zeros(0, 4), torch.zeros(0, 4), positive_iou=thresholds[0], negative_iou=thresholds[1])


def test_no_more_than_a_quarter_of_the_samples_is_foreground():
    matches = torch.cat([torch.zeros(50), -torch.ones(100), torch.full((30,), -2.0)]).long()
    positive, negative = sample(matches, 64, 0.25)
    assert (len(positive), len(negative)) == (16, 48)
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == -1).all()
    positive, negative = sample(matches[48:], 64, 0.25)
    assert (len(positive), len(negative)) == (2, 62)  # background fills up


def test_match_proposals_at_the_thresholds():
    truth = torch.tensor([[0.0, 0, 12, 5]])
    proposals = torch.tensor([[0.0, 0, 6, 5], [0, 0, 3, 5], [0, 0, 2, 5]])  # IoU 1/2, 1/4, 1/6
    assert match_proposals(proposals, truth, positive_iou=0.5, negative_iou=0.25).tolist() == [0, -2, -1]
    assert match_proposals(proposals, truth[:0], positive_iou=0.5, negative_iou=0.5).tolist() == [-1, -1, -1]


def test_proposals_are_matched_as_their_iou_says():
    corner = torch.rand(40, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([50.0, 30.0])
    proposals = torch.cat([corner, corner + torch.tensor([14.0, 9.0])], dim=1)
    truths = proposals[[3, 17]] + torch.tensor([1.0, -1.0, 2.0, 0.5])
    matches = match_proposals(proposals, truths, positive_iou=0.5, negative_iou=0.2)
    iou = box_iou(truths, proposals)
    assert ((matches >= 0) == (iou.amax(0) >= 0.5)).all()
    assert ((matches == -1) == (iou.amax(0) < 0.2)).all()
    assert {0, 1} <= set(matches.tolist())


@pytest.mark.parametrize(("count", "share"), [(8, 0.25), (8, 0.5), (100, 0.5), (3, 1.0)])
def test_the_same_seed_draws_what_torchvision_draws(count, share):
    matches = torch.tensor([0, -1, -1, 2, -2, -1, 1, -1, 0, -1, -1, 3])
    torch.manual_seed(4)
    positive, negative = sample(matches, count, share)
    torch.manual_seed(4)
    labels = [torch.where(matches == -2, -1, (matches >= 0).long())]  # torchvision: 1, 0, and -1 for left out
    theirs = BalancedPositiveNegativeSampler(count, share)(labels)
    assert positive.sort().values.tolist() == theirs[0][0].nonzero()[:, 0].tolist()
    assert negative.sort().values.tolist() == theirs[1][0].nonzero()[:, 0].tolist()

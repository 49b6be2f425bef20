"""Saliency: small networks whose slopes are known, and networks made random."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from labkit.detection.saliency import grad_cam, gradient_map, pointing_hits, randomised, rank_correlation


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1), nn.ReLU()
    )
    return layers.eval()


def groups(layers):
    return {"top": [layers[3]], "all": [layers[:3]]}


IMAGES = torch.rand(3, 1, 6, 9, generator=torch.Generator().manual_seed(5))


def test_grad_cam_of_a_pooled_linear_head_is_its_weighted_sum():
    """With a mean and a linear layer Grad-CAM is the class activation map of Zhou et al. 2016, over the cells."""
    features = torch.randn(4, 5, 3, 7, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(5, 2)
    asked = torch.tensor([0, 1, 1, 0])
    maps = grad_cam(features, lambda maps: linear(maps.mean(dim=(2, 3))), asked)
    expected = torch.einsum("bc,bchw->bhw", linear.weight[asked], features).relu() / 21
    torch.testing.assert_close(maps, expected)


def test_grad_cam_leaves_its_arguments_and_works_without_gradients():
    features = torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        maps = grad_cam(features, lambda maps: maps.square().mean(dim=(2, 3)), torch.tensor([0, 2]))
    assert maps.shape == (2, 4, 5)
    assert not features.requires_grad
    assert not maps.requires_grad


@pytest.mark.parametrize("asked", [torch.tensor([0]), torch.tensor([0.0, 1.0])])
def test_grad_cam_asks_for_one_column_an_image(asked):
    with pytest.raises(ValueError, match=r"asked must be whole numbers \(2,\)"):
        grad_cam(torch.zeros(2, 3, 4, 5), lambda maps: maps.mean(dim=(2, 3)), asked)


def test_the_gradient_map_is_autograds():
    layers = network()
    first = layers[0](IMAGES).detach().requires_grad_()
    (slope,) = torch.autograd.grad(layers[4](layers[3](layers[2](layers[1](first.clone())))).sum(), first)
    maps = gradient_map(layers, lambda images: layers(images).sum(dim=(1, 2, 3)), IMAGES, at=layers[0])
    torch.testing.assert_close(maps, slope.abs().sum(dim=1))


def test_guided_backpropagation_holds_back_negative_slopes():
    """By hand: a ReLU between weights +1 and -2 passes nothing, one between +1 and +3 passes its weight."""
    layers = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        layers[0].weight[:] = 1
        layers[2].weight[0, :, 0, 0] = torch.tensor([-2.0, 3.0])
    image = torch.tensor([[[[1.0, -1.0]]]])
    score = lambda images: layers(images).sum(dim=(1, 2, 3))  # noqa: E731
    assert gradient_map(layers, score, image, at=layers[0]).tolist() == [[[5.0, 0.0]]]
    assert gradient_map(layers, score, image, at=layers[0], guided=True).tolist() == [[[3.0, 0.0]]]
    assert not any(module._forward_hooks for module in layers.modules())


def test_a_score_that_does_not_run_the_module_is_refused_and_no_hook_stays():
    layers = network()
    with pytest.raises(ValueError, match="must run the module `at` once, got 0 times"):
        gradient_map(layers, lambda images: images.sum(dim=(1, 2, 3)), IMAGES, at=layers[0])
    assert not layers[0]._forward_hooks


def test_the_cascade_starts_at_the_top_and_leaves_the_network_alone():
    layers = network()
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    found = [
        (name, torch.equal(one[0].weight, layers[0].weight), torch.equal(one[3].weight, layers[3].weight), one.training)
        for name, one in randomised(layers, groups, IMAGES, generator=torch.Generator().manual_seed(0))
    ]
    assert found == [("top", True, False, False), ("all", False, False, False)]
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())


def test_normalisations_made_anew_settle_on_the_images():
    *_, (_, last) = randomised(network(), groups, IMAGES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = last[1](last[0](IMAGES))  # (3, 4, 6, 9)
    assert seen.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(seen.var(dim=(0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_the_same_generator_draws_the_same_weights():
    draws = [
        [one[3].weight for _, one in randomised(network(), groups, IMAGES, generator=torch.Generator().manual_seed(3))]
        for _ in range(2)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*draws, strict=True))


def test_rank_correlation_is_spearmans():
    generator = torch.Generator().manual_seed(4)
    maps, others = (torch.randint(0, 6, (3, 5, 8), generator=generator).float() for _ in range(2))  # with ties
    where = torch.rand(3, 5, 8, generator=generator) < 0.7
    expected = [spearmanr(a[m], b[m]).statistic for a, b, m in zip(maps, others, where, strict=True)]
    assert rank_correlation(maps, others, where).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_map_that_is_the_same_everywhere_correlates_with_nothing():
    assert rank_correlation(torch.ones(1, 2, 3), torch.rand(1, 2, 3), torch.ones(1, 2, 3).bool()).tolist() == [0]
    with pytest.raises(ValueError, match="bring them to one size"):
        rank_correlation(torch.ones(1, 2, 3), torch.rand(1, 2, 4), torch.ones(1, 2, 3).bool())


def test_pointing_takes_the_middle_of_the_brightest_cell():
    maps = torch.zeros(3, 4, 6)
    maps[0, 1, 5] = maps[1, 1, 5] = 2  # x = 22, y = 6 at stride 4
    there, beside = torch.tensor([[21.0, 5, 24, 8]]), torch.tensor([[0.0, 0, 8, 8], [23, 5, 24, 8]])
    assert pointing_hits(maps, [there, beside, there], stride=4).tolist() == [True, False, False]
    assert pointing_hits(maps, [there, beside, there], stride=4, margin=1).tolist() == [True, True, False]
    assert pointing_hits(maps[:1], [torch.zeros(0, 4)], stride=4).tolist() == [False]
    with pytest.raises(ValueError, match="with boxes for each"):
        pointing_hits(maps, [there], stride=4)

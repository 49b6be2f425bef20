"""The backbones: what they compute is what the plain layers compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit.detection.backbone import Backbone, ConvLayers, FilmBackbone, LocalContrast


def learned(network, channels):
    """The network with running means and spreads that are no round numbers."""
    torch.manual_seed(0)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 2.0), nn.init.normal_(norm.bias, std=0.3)
    network.train()(torch.rand(3, channels, 40, 56))
    return network


@pytest.mark.parametrize("make", [Backbone, FilmBackbone])
def test_in_eval_mode_a_normalisation_folded_away_leaves_the_same_features(make):
    network = learned(make(), 1).eval()
    images = torch.rand(2, 1, 40, 56)
    got = network(images)
    for layers in (module for module in network.modules() if isinstance(module, ConvLayers)):
        layers.forward = lambda x, layers=layers: nn.Sequential.forward(layers, x)
    torch.testing.assert_close(got, network(images), atol=1e-5, rtol=1e-5)


def test_a_frozen_half_is_folded_while_the_rest_learns():
    network = learned(FilmBackbone(), 1).freeze_fine().train()
    images = torch.rand(2, 1, 40, 56)
    expected = nn.Sequential.forward(network.fine, images)
    torch.testing.assert_close(network.fine(images), expected, atol=1e-5, rtol=1e-5)
    assert not network.fine(images).requires_grad
    assert network(images).requires_grad


def test_a_hook_on_a_layer_hears_it():
    network = Backbone().eval()
    heard = []
    network.layers[1].register_forward_hook(lambda module, inputs, output: heard.append(output.shape))
    network(torch.rand(1, 1, 40, 56))
    assert heard == [(1, 24, 20, 28)]


@pytest.mark.parametrize("reach", [1, 2, 3, 6, 10])
def test_local_contrast_is_the_deviation_from_a_square_window(reach):
    images = torch.rand(2, 1, 31, 26)
    padded = F.pad(images.double(), (reach,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, 2 * reach + 1, 1)
    spread = (F.avg_pool2d(padded.square(), 2 * reach + 1, 1) - mean.square()).clamp(min=0).sqrt()
    expected = (images - mean) / (spread + LocalContrast.floor)
    got = LocalContrast((reach,))(images)
    assert torch.equal(got[:, :1], images)
    torch.testing.assert_close(got[:, 1:].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"padding": 2, "stride": 2}, {"bias": False, "dilation": 2}, {"groups": 2}])
def test_any_convolution_is_folded_rightly(options):
    layers = learned(ConvLayers(nn.Conv2d(2, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU()), 2).eval()
    images = torch.rand(2, 2, 20, 28)
    torch.testing.assert_close(layers(images), nn.Sequential.forward(layers, images), atol=1e-5, rtol=1e-5)

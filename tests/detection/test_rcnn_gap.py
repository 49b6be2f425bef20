"""The steps of benchmarks/rcnn_gap.py are the package's: what it compares is R-CNN and Fast R-CNN themselves."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from labkit.datasets.phantoms import Mammograms, mammograms
from labkit.detection.backbone import FilmBackbone
from labkit.detection.fast_rcnn import FastRCNN
from labkit.detection.rcnn import CONTEXT, MARGIN, RCNN, RegionNetwork


@pytest.fixture(scope="module")
def gap():
    path = Path(__file__).parents[2] / "benchmarks" / "rcnn_gap.py"
    spec = importlib.util.spec_from_file_location("rcnn_gap", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def part(gap):
    films: Mammograms = mammograms(2, size=(80, 64), normal_fraction=0)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 12, 2, generator=generator) * torch.tensor([40.0, 56.0])
    return gap.Films(films, [torch.cat([c, c + 6 + 16 * torch.rand(12, 2, generator=generator)], 1) for c in corners])


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert len(one["boxes"]) > 1
        for key in ("boxes", "labels", "scores"):
            torch.testing.assert_close(one[key], other[key])


def test_its_linear_judges_are_the_packages(gap, part):
    torch.manual_seed(0)
    network = RegionNetwork(FilmBackbone(), 3, size=16).eval()
    weights, biases, moves = torch.randn(2, 128) / 9, torch.zeros(2), torch.randn(2, 129, 4) / 90
    features = gap.of_crops(network, part, context=CONTEXT)
    found = gap.detections(part, features, moves, lambda x: F.pad(x @ weights.T + biases, (1, 0)), least=MARGIN)
    model = RCNN(network, weights, biases, moves)
    same(found, model(list(part.films.images), part.proposals))


def test_its_features_of_whole_films_are_fast_rcnns(gap, part):
    torch.manual_seed(0)
    model = FastRCNN(FilmBackbone(), 3, pool_size=5).eval()
    torch.nn.init.normal_(model.roi_head.class_logits.weight)
    for image, boxes, features in zip(part.films.images, part.proposals, gap.of_films(model, part), strict=True):
        with torch.no_grad():
            maps = model.backbone((image[None] - model.image_mean) / model.image_std)
            expected = model.roi_head(maps, [boxes])[0]
        torch.testing.assert_close(model.roi_head.class_logits(features), expected)


def test_its_crops_are_positives_and_thirty_others(gap, part):
    crops = gap.crops_of(part, torch.tensor([0, 1]), size=16, context=2)
    truths = sum(len(target["boxes"]) for target in part.films.targets)
    assert (crops.labels > 0).sum() >= truths
    assert crops.crops.shape[1:] == (1, 16, 16)
    assert (crops.labels == 0).sum() <= 60
    assert crops[0][0].shape == (1, 16, 16)


def test_a_window_of_the_film_has_the_cells_of_the_whole_film(gap, part):
    """Up to what lies beyond the window: a network that looks at single pixels sees no difference."""

    class Pixels(torch.nn.Module):
        stride = 1

        def forward(self, images):
            return images

    boxes = torch.tensor([[20.0, 30.0, 36.0, 42.0], [31.0, 40.0, 43.0, 58.0]])
    image = part.films.images[0]
    torch.testing.assert_close(gap.windows(Pixels(), image, boxes), gap.whole_film(Pixels(), image, boxes))


@pytest.mark.parametrize("name", ["warped", "windows", "whole_film"])
def test_every_way_to_cut_gives_as_many_features(gap, part, name):
    features = gap.untrained(part, getattr(gap, name))
    assert [x.shape for x in features] == [(12, 576), (12, 576)]
    assert all(x.isfinite().all() for x in features)

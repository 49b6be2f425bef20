"""The networks of notebook 16: what they give, what they refuse, and what the shipped ones reach."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from labkit.datasets.phantoms import mammograms
from labkit.detection import attention as subject
from labkit.detection.attention import (
    FilmClassifier,
    HeatmapDetector,
    attention_loss,
    attention_networks,
    class_questions,
)
from labkit.detection.backbone import FilmBackbone
from labkit.detection.heatmaps import gaussian_heatmap, heatmap_loss
from labkit.detection.saliency import grad_cam
from labkit.weights import FOLDER


def films(count=4):
    return mammograms(count, size=(80, 64), normal_fraction=0.5, seed=2)


def recipe():
    path = Path(__file__).parents[2] / "data" / "weights" / "attention.py"
    spec = importlib.util.spec_from_file_location("recipe_of_attention", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_detectors_loss_is_that_of_its_hills():
    torch.manual_seed(0)
    detector, given = HeatmapDetector(FilmBackbone()).train(), films()
    losses = detector(list(given.images), given.targets)
    hills = torch.stack([gaussian_heatmap(t["boxes"], (80, 64), stride=2) for t in given.targets])
    torch.manual_seed(0)
    again = HeatmapDetector(FilmBackbone()).train()
    torch.testing.assert_close(losses["heatmap"], heatmap_loss(again.logits(given.images), hills))
    losses["heatmap"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


def test_an_untrained_detector_says_hardly_anything():
    heatmaps = HeatmapDetector(FilmBackbone()).eval().heatmaps(films().images)
    assert heatmaps.shape == (4, 40, 32)
    assert 0 < heatmaps.max() < 0.1


def test_a_cell_of_the_heatmap_lies_where_its_features_lie():
    """A bright spot moved by 16 pixels moves the heatmap by 8 cells: pixel shuffle keeps rows and columns apart."""
    torch.manual_seed(1)
    detector = HeatmapDetector(FilmBackbone()).eval()
    images = torch.full((2, 1, 192, 224), 0.4)
    images[0, :, 92:98, 100:104] = 0.9
    images[1, :, 92:98, 116:120] = 0.9
    with torch.no_grad():
        here, there = detector.logits(images)
    torch.testing.assert_close(here[36:58, 38:62], there[36:58, 46:70], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(here[36:58, 38:62], there[36:58, 38:62], atol=1e-3)


def test_films_without_lesions_train():
    given = mammograms(2, size=(80, 64), normal_fraction=1.0)
    assert HeatmapDetector(FilmBackbone()).train()(list(given.images), given.targets)["heatmap"].isfinite()
    losses = FilmClassifier(FilmBackbone(), attention=0.5).train()(list(given.images), given.targets)
    assert losses["attention"] == 0
    assert losses["classes"] > 0


def test_the_classifier_gives_the_losses_it_was_built_for():
    given = films()
    plain = FilmClassifier(FilmBackbone()).train()(list(given.images), given.targets)
    both = FilmClassifier(FilmBackbone(), attention=0.5).train()(list(given.images), given.targets)
    assert (list(plain), list(both)) == (["classes"], ["classes", "attention"])
    assert both["attention"].requires_grad


def test_attention_loss_is_least_where_evidence_follows_the_hills():
    target = {"boxes": torch.tensor([[8.0, 12, 28, 24]]), "labels": torch.tensor([2])}
    hill = gaussian_heatmap(target["boxes"], (40, 48), stride=4)
    shaped = torch.stack([torch.zeros(10, 12), hill.clamp(min=1e-9).log()])[None]
    least = attention_loss(shaped, [target], stride=4)
    share = hill / hill.sum()
    torch.testing.assert_close(least, -(share * share.clamp(min=1e-9).log()).sum(), atol=1e-4, rtol=1e-4)
    other = shaped + torch.randn(1, 2, 10, 12, generator=torch.Generator().manual_seed(0))
    assert attention_loss(other, [target], stride=4) > least
    torch.testing.assert_close(attention_loss(shaped + 7, [target], stride=4), least)  # the height is free
    assert attention_loss(shaped.flip(1), [target], stride=4) > least  # of the class that is there


def test_grad_cam_of_the_classifier_is_its_evidence():
    torch.manual_seed(0)
    classifier = FilmClassifier(FilmBackbone()).eval()
    with torch.no_grad():
        features = classifier.features(films().images)
        evidence = classifier.evidence(features) - classifier.evidence.bias[:, None, None]
    asked = torch.tensor([0, 1, 1, 0])
    maps = grad_cam(features, classifier.classify, asked)
    expected = evidence[torch.arange(4), asked].relu() / evidence[0, 0].numel()
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("make", [HeatmapDetector, FilmClassifier])
def test_training_without_targets_and_wrong_films_are_refused(make):
    network, given = make(FilmBackbone()), films()
    with pytest.raises(ValueError, match="expected targets in training mode, got None; call"):
        network.train()(list(given.images))
    with pytest.raises(ValueError, match="image 1 must be float32"):
        network.eval()([given.images[0], given.images[1].byte()])


def test_the_groups_hold_every_weight_once():
    classifier = FilmClassifier(FilmBackbone())
    parts = [m for modules in subject.layers_from_the_top(classifier).values() for m in modules]
    weights = [id(p) for part in parts for p in part.parameters()]
    assert len(weights) == len(set(weights)) == len(list(classifier.parameters()))


def test_each_film_is_asked_about_each_class_it_shows():
    targets = [
        {"boxes": torch.tensor([[1.0, 1, 5, 5], [6, 6, 9, 9], [2, 2, 4, 4]]), "labels": torch.tensor([2, 1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[3.0, 3, 8, 8]]), "labels": torch.tensor([2])},
    ]
    rows, columns, boxes = class_questions(targets)
    assert (rows.tolist(), columns.tolist()) == ([0, 0, 2], [0, 1, 1])
    assert [len(one) for one in boxes] == [1, 2, 1]


def test_the_shipped_networks_reach_the_figures_of_their_card():
    """Of the 150 held-out films the first 40, measured as the recipe measures them, to one lesion or pair."""
    card = json.loads((FOLDER / "attention.json").read_text(encoding="utf-8"))
    assert (FOLDER / "attention.safetensors").stat().st_size < 3 * 2**20
    reached = recipe().figures(attention_networks(), mammograms(40, seed=1))
    for name, value in card["first 40 films"].items():
        assert reached[name] == pytest.approx(value, abs=0.03), name


def test_the_recipe_is_the_cards():
    making, card = recipe(), json.loads((FOLDER / "attention.json").read_text(encoding="utf-8"))
    assert (card["seed"], card["films"], card["epochs"]) == (making.SEED, making.FILMS, making.EPOCHS)

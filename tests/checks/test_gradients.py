"""Cases that look at a gradient."""

import torch
from torch import nn

from labkit.checks.engine import run_check
from labkit.checks.gradients import NO_GRADIENT, GradientCase, without_gradient


def test_the_gradient_of_a_weighted_sum_is_compared():
    case = GradientCase("a sum", (torch.tensor([1.0, 2.0]), 3.0))
    slope, args, _ = case.call(lambda x, y: y * x)
    assert slope.tolist() == [3.0, 6.0]  # weights 1 and 2
    assert not args[0].requires_grad


def test_the_arguments_of_a_case_stay_as_they_are():
    x = torch.ones(2)
    GradientCase("once", (x,)).call(lambda x: x**2)
    assert x.grad is None
    assert not x.requires_grad


def test_numbers_without_a_graph_have_no_slope():
    case = GradientCase("two", (torch.ones(2), torch.ones(3)), of=(0, 1))
    for function in (lambda x, y: x.sum().item(), lambda x, y: (x.detach(), 3.0), lambda x, y: x * y[0].item()):
        slopes = case.call(function)[0]
        assert slopes[1].tolist() == [0, 0, 0]


def test_a_module_counts_with_all_its_weights():
    layer = nn.Linear(2, 1)
    case = GradientCase("a layer", (layer, torch.tensor([[3.0, 5.0]])))
    weight, bias = case.call(lambda layer, x: layer(x).sum())[0]
    assert weight.tolist() == [[3.0, 5.0]]
    assert bias.tolist() == [1.0]
    assert case.call(lambda layer, x: layer(x).sum().detach())[0][0].tolist() == [[0.0, 0.0]]
    assert layer.weight.grad is None


def test_it_works_where_gradients_are_switched_off(strict):
    with torch.no_grad():
        run_check("double", lambda x: x + x, lambda x: 2 * x, [GradientCase("two", (torch.ones(2),))])


def test_no_gradient_is_named(message_of):
    cases = [GradientCase("two", (torch.ones(2),))]

    def check(student):
        right = lambda x: (2 * x).sum()  # noqa: E731
        return run_check("double", student, right, cases, mistakes={NO_GRADIENT: without_gradient(right)})

    assert NO_GRADIENT in message_of(check, lambda x: (2 * x).sum().item())

"""Pictures of failing cases: one scale, a difference, y down, and planes, never colours."""

import pytest
import torch

from labkit.checks.pictures import draw_maps, fit, legend, number_boxes, panels


def limits(figure):
    return [ax.images[0].get_clim() for ax in figure.axes[:3]]


def test_given_expected_and_got_have_one_scale_and_a_difference():
    given, expected = torch.rand(1, 6, 9), torch.rand(2, 1, 3, 3)
    figure = draw_maps("two boxes", given, expected, expected + 5)
    assert len(figure.axes) == 4
    assert len(set(limits(figure))) == 1
    low, high = limits(figure)[0]
    assert low <= 0.2
    assert high == pytest.approx(float((expected + 5).flatten(2)[0].max()), abs=1)
    assert figure.axes[3].images[0].get_clim() == pytest.approx((-5, 5), abs=1e-4)


def test_the_plane_that_differs_most_is_shown():
    expected = torch.zeros(3, 2, 4, 4)
    got = expected.clone()
    got[2, 1, 0, 3] = 1
    figure = draw_maps("three boxes", torch.zeros(2, 8, 9), expected, got, boxes=torch.zeros(3, 4))
    assert "box 2, channel 1" in figure.get_suptitle()
    assert figure.axes[2].images[0].get_array().tolist() == got[2, 1].tolist()


@pytest.mark.parametrize("side", [1, 3])
def test_three_channels_of_three_columns_are_no_colours(side):
    figure = draw_maps("small", torch.rand(3, 5, side), torch.rand(1, 3, 3, side), torch.rand(1, 3, 3, side))
    assert all(ax.images[0].get_array().ndim == 2 for ax in figure.axes)


def test_another_shape_is_named_in_place_of_a_difference():
    figure = draw_maps("a crop", torch.rand(8, 9), torch.rand(4, 5), torch.rand(2, 3))
    assert [ax.get_title() for ax in figure.axes] == ["given", "expected: 4 × 5", "got: 2 × 3"]


def test_not_a_number_does_not_spoil_the_scale():
    expected = torch.rand(1, 1, 3, 3)
    figure = draw_maps("nan", torch.rand(1, 4, 5), expected, torch.full_like(expected, float("nan")))
    assert all(0 <= value <= 1 for pair in limits(figure) for value in pair)


def test_what_is_empty_is_not_drawn():
    with pytest.raises(ValueError, match="expected images with a pixel to draw"):
        draw_maps("no boxes", torch.rand(1, 4, 5), torch.zeros(0, 1, 3, 3), torch.zeros(0, 1, 3, 3))


def test_a_long_title_is_folded_and_not_cut():
    figure, _ = panels(1, title="a very long sentence about a case " * 3)
    assert "\n" in figure.get_suptitle()
    assert max(map(len, figure.get_suptitle().split("\n"))) < 32


def test_numbers_stand_at_different_corners():
    _, axes = panels(1, title="equal boxes")
    number_boxes(axes[0], torch.tensor([[1.0, 2, 9, 5]]).expand(4, 4), color="black")
    assert len({text.get_position() for text in axes[0].texts}) == 4
    assert [text.get_text() for text in axes[0].texts] == ["1", "2", "3", "4"]


def test_one_frame_for_all_with_y_down():
    _, axes = panels(2, title="two")
    fit(axes, torch.tensor([[0.0, 0, 20, 10], [-5, 3, float("nan"), 9]]))
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[0].get_ylim()[0] > axes[0].get_ylim()[1]


def test_a_legend_of_nothing_is_left_out():
    _, axes = panels(1, title="empty")
    legend(axes[0])
    assert axes[0].get_legend() is None

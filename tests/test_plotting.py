"""Pictures: what is shown is what was given, and what cannot be shown is told."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from labkit.plotting import (
    alternative_text,
    as_image,
    new_figure,
    plot_curves,
    plot_history,
    show_boxes,
    show_image,
    show_images,
    show_planes,
)


def shown(ax):
    """What matplotlib draws: the pixels, and the intensities that are black and white."""
    picture = ax.images[0]
    return np.asarray(picture.get_array()), picture.get_clim()


def test_bytes_are_shown_as_they_are():
    image = data.astronaut()
    pixels, _ = shown(show_image(image))
    np.testing.assert_allclose(pixels, image / 255, atol=1e-6)
    grey, limits = shown(show_image(torch.from_numpy(image[..., 0])))
    assert limits == (0, 255)
    assert np.array_equal(grey, image[..., 0])


def test_colours_follow_the_range_too():
    image = np.linspace(-100, 300, 4 * 5 * 3).reshape(4, 5, 3)
    pixels, _ = shown(show_image(image, value_range=(-100, 300)))
    np.testing.assert_allclose(pixels, (image + 100) / 400)
    own, _ = shown(show_image(image, value_range=None))
    np.testing.assert_allclose(own, (image + 100) / 400)


@pytest.mark.parametrize("image", [torch.rand(3, 8, 8) * 255, torch.rand(8, 8) * 255, torch.full((1, 8, 8), -1000.0)])
def test_other_intensities_are_told_unless_their_range_is_named(image):
    with pytest.raises(ValueError, match=r"values must lie in value_range, 0 to 1, got .*value_range=\(0, 255\)"):
        show_image(image)
    show_image(image, value_range=(0, 255))


def test_noise_around_the_range_is_cut_off_and_a_window_is_a_window():
    pixels, limits = shown(show_image(torch.tensor([[-0.5, 0.5], [1.5, 1.0]])))
    assert limits == (0, 1)
    assert pixels.tolist() == [[0, 0.5], [1, 1]]
    ct = torch.tensor([[-1000.0, 40.0], [3000.0, 0.0]])
    assert shown(show_image(ct, value_range=(-160, 240)))[0].tolist() == [[-160, 40], [240, 0]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 6), (4, 6)),
        ((1, 5, 1), (5, 1)),
        ((1, 1, 5), (1, 5)),
        ((3, 20, 3), (20, 3, 3)),
        ((3, 5, 7), (5, 7, 3)),
        ((5, 7, 3), (5, 7, 3)),
        ((5, 7, 1), (5, 7)),
        ((1, 5, 3), (5, 3)),
    ],
)
@pytest.mark.parametrize("make", [torch.zeros, np.zeros])
def test_channels_come_first_where_both_readings_are_possible(make, shape, expected):
    assert as_image(make(shape)).shape == expected


def test_channels_first_keeps_each_pixel():
    image = torch.rand(3, 20, 3)
    assert np.array_equal(as_image(image)[7, 2], image[:, 7, 2].numpy())


@pytest.mark.parametrize("shape", [(4,), (2, 1, 5, 6), (0, 5), (4, 5, 6), (2, 5, 6), (1, 1, 5, 6)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected (one image|1 or 3 channels)"):
        as_image(torch.zeros(shape))


def test_words_are_no_image():
    with pytest.raises(ValueError, match="expected one image"):
        show_image(np.array([["a", "b"]]))


@pytest.mark.parametrize(("shape", "cure"), [((4, 5), "boxes\\[:, :4\\]"), ((4,), "boxes\\[None\\]"), ((2, 2, 4), "")])
def test_boxes_of_another_shape_are_refused(shape, cure):
    with pytest.raises(ValueError, match=rf"boxes must have shape \(N, 4\), got .*{cure}"):
        show_boxes(torch.ones(shape))
    with pytest.raises(ValueError, match="boxes must have shape"):
        show_image(torch.zeros(9, 9), boxes=torch.ones(shape))


def test_no_boxes_at_all_and_a_list_of_boxes():
    assert len(show_boxes(torch.zeros(0, 4)).patches) == 0
    assert len(show_boxes([]).patches) == 0
    assert len(show_boxes([[1, 2, 3, 4], [2, 3, 4, 5]]).patches) == 2


def test_labels_and_scores_belong_to_boxes():
    with pytest.raises(ValueError, match="expected one of scores a box, got 1 for 2"):
        show_boxes([[1, 2, 3, 4], [2, 3, 4, 5]], scores=[0.5])


def test_words_at_boxes_stay_in_the_image_and_apart():
    boxes = [[10.0, 80, 30, 100], [100, 60, 126, 90], [101, 61, 124, 92], [4, 0, 20, 10], [0, 150, 20, 170]]
    ax = show_image(torch.zeros(160, 128), boxes=boxes, labels="abcde")
    above, to_the_left, crowded, at_the_top, at_the_bottom = (
        (*text.get_position(), text.get_ha(), text.get_va()) for text in ax.texts
    )
    assert above == (10, 80, "left", "bottom")
    assert to_the_left == (126, 60, "right", "bottom")
    assert crowded == (124, 92, "right", "top")
    assert at_the_top == (4, 10, "left", "top")
    assert at_the_bottom == (0, 150, "left", "bottom")
    ax.figure.canvas.draw()
    frame = ax.get_window_extent()
    for text in ax.texts:
        words = text.get_window_extent()
        assert words.x0 >= frame.x0
        assert words.x1 <= frame.x1


def test_every_curve_is_drawn_and_no_two_look_alike():
    names = [f"loss {i}" for i in range(20)]
    for ax in (
        plot_history({name: [3.0, 2.0] for name in names}),
        plot_curves({name: ([0, 1], [1, 2]) for name in names}, xlabel="x", ylabel="y"),
    ):
        assert [line.get_label() for line in ax.lines] == names
        assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == len(names)


def test_pictures_side_by_side_show_bytes_too():
    figure = show_images([data.astronaut()[:40, :30], torch.rand(3, 40, 30)], columns=2)
    assert shown(figure.axes[0])[0].mean() > 0.1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"titles": ["a"]}, "expected one of titles an image, got 1 for 3; pair them"),
        ({"boxes": [torch.zeros(0, 4)] * 2}, "expected one of boxes an image, got 2 for 3; pair them"),
        ({"columns": 0}, "columns must be 1 or more, got 0; leave it out for 4"),
    ],
)
def test_side_by_side_each_image_has_its_own(options, told):
    with pytest.raises(ValueError, match=told):
        show_images([torch.zeros(1, 4, 5)] * 3, **options)
    with pytest.raises(ValueError, match="expected at least one image, got none; look for a filter that kept nothing"):
        show_images([])


@pytest.mark.parametrize("value_range", [(1, 0), (0, 1, 2), (0, float("nan")), [1]])
def test_a_range_is_black_and_white(value_range):
    with pytest.raises(ValueError, match=r"value_range must be \(black, white\), black first, got .*; write \(0, 1\)"):
        show_image(torch.zeros(4, 5), value_range=value_range)


def test_a_range_written_as_a_list_is_the_same_range():
    """As the usual one, for bytes: they would all have been white."""
    image = np.arange(20, dtype=np.uint8).reshape(4, 5) * 10
    pictures = [show_image(image, value_range=limits).images[0] for limits in ([0, 1], (0, 1))]
    assert pictures[0].get_clim() == pictures[1].get_clim() == (0, 255)


def test_a_figure_in_words_names_its_pictures_its_boxes_and_its_charts():
    figure, axes = new_figure(1, 3)
    show_image(
        torch.zeros(8, 9), boxes=torch.tensor([[1.0, 1, 3, 3], [2, 2, 5, 5]]), title="a film\nof 8 rows", ax=axes[0]
    )
    curves = {"loss": ([0, 1], [2, 1]), "held out": ([0, 1], [2, 2])}
    plot_curves(curves, xlabel="epoch", ylabel="loss", title="training", ax=axes[1])
    axes[2].set_axis_off()  # nothing in it, nothing said of it
    figure.suptitle("both")
    assert alternative_text(figure) == (
        "both. image with 2 boxes: a film of 8 rows. chart: training; loss over epoch: loss, held out"
    )
    assert alternative_text(new_figure()[0]) == ""


def test_pictures_of_one_title_are_said_once_with_their_number():
    figure = show_images([torch.zeros(8, 9)] * 5, titles=["face"] * 3 + ["none"] * 2, columns=3)
    assert alternative_text(figure) == "3 × image: face. 2 × image: none"


def test_a_scale_of_colours_is_no_picture_of_its_own_and_what_is_long_is_cut():
    figure, ax = new_figure()
    figure.colorbar(ax.imshow([[0, 1]]), ax=ax, label="score")
    ax.set_title("a" * 700)
    words = alternative_text(figure)
    assert len(words) == 600
    assert words.startswith("image: aaa")
    assert words.endswith("a…")
    ax.set_title("")
    assert alternative_text(figure) == "image"


def test_a_notebook_gets_the_picture_with_its_words(monkeypatch):
    """What IPython calls: the picture as HTML, drawn once; nothing for an empty figure."""
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", lambda thing, **options: shown.append((thing, options)))
    figure = show_image(torch.zeros(8, 9), title='"grey" < black').figure
    figure._ipython_display_()
    ((bundle, options),) = shown
    assert options == {"raw": True}
    assert bundle["text/plain"] == 'image: "grey" < black'
    tag, _, data = bundle["text/html"].partition(" src=")
    assert tag == '<img alt="image: &quot;grey&quot; &lt; black"'
    assert Image.open(io.BytesIO(base64.b64decode(data.split(",")[1][:-2]))).size[0] > 100
    type(figure)()._ipython_display_()
    assert len(shown) == 1


def test_three_planes_show_their_slices_and_the_sides_of_the_box_in_each():
    volume = torch.arange(4 * 6 * 8, dtype=torch.float32).reshape(4, 6, 8)
    box = torch.tensor([1.0, 2, 0, 5, 4, 3])
    axes = show_planes(volume, {"green": box}, at=(5, 3, 2), spacing=(4, 3, 2), axes=new_figure(1, 3)[1])
    expected = (volume[:, 3], volume[:, :, 5], volume[2])
    for ax, piece in zip(axes, expected, strict=True):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), piece.numpy())
    sides = [(ax.patches[0].get_x(), ax.patches[0].get_y()) for ax in axes]
    assert sides == [(1, 0), (2, 0), (1, 2)]
    assert [ax.patches[0].get_width() for ax in axes] == [4, 2, 4]
    assert [ax.get_aspect() for ax in axes] == [2, 4 / 3, 1.5]
    assert axes[0].get_ylim() == (0, 4)  # the head is up
    assert axes[2].get_ylim() == (6, 0)


def test_a_plane_outside_of_the_volume_is_the_last_one():
    axes = show_planes(torch.zeros(4, 6, 8), {}, at=(99, -5, 2), spacing=(1, 1, 1), axes=new_figure(1, 3)[1])
    assert axes[1].images[0].get_array().shape == (4, 6)

"""Selective search: similarities by hand, the grouping against a slow search, pictures with known boxes."""

import numpy as np
import pytest
import torch
from skimage.measure import regionprops
from skimage.segmentation import felzenszwalb
from torchvision.ops import box_iou

from labkit.detection.boxes import check_boxes
from labkit.detection.proposals import (
    describe_regions,
    group_regions,
    merge_regions,
    merge_similarity,
    neighbouring_pairs,
    segment,
    selective_search,
)
from labkit.detection.proposals.grouping import SIMILARITIES


def picture(channels=3, height=60, width=84) -> torch.Tensor:
    """Two rectangles and some noise, nowhere square."""
    image = 0.2 + 0.05 * torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))
    image[0, 10:34, 12:40] += 0.6
    image[-1, 30:52, 50:74] += 0.5
    return image.clamp(0, 1)


TRUTHS = torch.tensor([[12.0, 10.0, 40.0, 34.0], [50.0, 30.0, 74.0, 52.0]])
GENERATOR = torch.Generator


def row(regions, i):
    return {name: value[i] for name, value in regions.items()}


def slow_grouping(regions, pairs):
    """The definition: every pair of neighbours is compared again before every merge."""
    regions = [row(regions, i) for i in range(len(regions["size"]))]
    whole = float(sum(r["size"] for r in regions))
    edges, merges = {tuple(p) for p in pairs.tolist()}, []
    while edges:
        i, j = min(edges, key=lambda e: (-merge_similarity(regions[e[0]], regions[e[1]], whole).item(), e))
        new = len(regions)
        regions.append(merge_regions(regions[i], regions[j]))
        renamed = {tuple(new if k in (i, j) else k for k in edge) for edge in edges}
        edges = {tuple(sorted(edge)) for edge in renamed if edge[0] != edge[1]}
        merges.append((i, j))
    return torch.stack([r["box"] for r in regions]).float(), torch.tensor(merges)


# ------------------------------------------------------------------------------------------ similarity, merging


def test_similarity_by_hand():
    colour, texture = torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    box = torch.tensor([[0.0, 0.0, 4.0, 3.0], [4.0, 1.0, 6.0, 5.0]])
    size = torch.tensor([10.0, 8.0])
    both = [{"colour": colour[i], "texture": texture[i], "box": box[i], "size": size[i]} for i in (0, 1)]
    # colour 0.25 + 0.5, texture 0.5, size 1 - 18 / 100, fill 1 - (6 * 5 - 18) / 100
    assert merge_similarity(*both, 100).item() == pytest.approx(0.75 + 0.5 + 0.82 + 0.88)
    assert merge_similarity(*both[::-1], 100) == merge_similarity(*both, 100)


def test_similarity_of_rows_is_that_of_each_row():
    regions = describe_regions(picture(), segment(picture(), scale=30, min_size=10))
    first, second = ({name: value[rows] for name, value in regions.items()} for rows in ([0, 1], [2, 0]))
    rows = merge_similarity(first, second, 5040)
    assert torch.equal(rows[0], merge_similarity(row(regions, 0), row(regions, 2), 5040))
    assert rows.shape == (2,)


def test_merging_keeps_what_describing_the_union_gives():
    image = picture()
    labels = torch.zeros(60, 84, dtype=torch.int64)
    labels[5:40, 20:50] = 1
    labels[20:55, 50:60] = 2
    parts = describe_regions(image, labels)
    together = describe_regions(image, labels.clamp(max=1))
    merged = merge_regions(row(parts, 1), row(parts, 2))
    for name, value in merged.items():
        torch.testing.assert_close(value, together[name][1], msg=name)


# ------------------------------------------------------------------------------------------ regions and neighbours


def test_regions_are_described_as_skimage_measures_them():
    labels = segment(picture(), scale=30, min_size=10)
    regions = describe_regions(picture(), labels)
    measured = regionprops(labels.numpy() + 1)
    assert regions["size"].tolist() == [r.area for r in measured]
    assert regions["box"].tolist() == [[r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]] for r in measured]
    assert regions["colour"].shape[1] == 75
    assert regions["texture"].shape[1] == 240
    for name in ("colour", "texture"):
        torch.testing.assert_close(regions[name].sum(1), torch.ones(len(measured), dtype=torch.float64))


def test_colour_is_a_histogram_of_25_bins_a_channel():
    image = torch.zeros(1, 8, 10)
    image[0, :4] = 0.5
    image[0, 0, 0] = 1.0  # the last bin holds 1 too
    colour = describe_regions(image, torch.zeros(8, 10, dtype=torch.int64))["colour"][0]
    expected = torch.zeros(25, dtype=torch.float64)
    expected[[0, 12, 24]] = torch.tensor([40.0, 39.0, 1.0], dtype=torch.float64) / 80
    torch.testing.assert_close(colour, expected)


def test_texture_tells_directions_apart():
    ramp = torch.linspace(0, 1, 11).expand(1, 20, 11)
    labels = torch.zeros(20, 11, dtype=torch.int64)
    along_x = describe_regions(ramp, labels)["texture"].reshape(8, 10)
    assert along_x[0, 0] < 0.02  # the slope rises along x ...
    assert along_x[2, 0] == along_x[4, 0] == pytest.approx(1 / 8)  # ... not along y, and not against x
    along_y = describe_regions(ramp.mT, labels.mT)["texture"].reshape(8, 10)
    torch.testing.assert_close(along_y[2], along_x[0])


def test_neighbours_are_those_of_a_search_pixel_by_pixel():
    labels = torch.from_numpy(felzenszwalb(picture().permute(1, 2, 0).numpy(), scale=10, channel_axis=2)).long()
    found = set()
    for y in range(60):
        for x in range(84):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 60 and u < 84 and labels[y, x] != labels[v, u]:
                    found.add(tuple(sorted((int(labels[y, x]), int(labels[v, u])))))
    assert [tuple(p) for p in neighbouring_pairs(labels).tolist()] == sorted(found)


def test_one_region_has_no_neighbours():
    assert neighbouring_pairs(torch.zeros(4, 5, dtype=torch.int64)).shape == (0, 2)


# ------------------------------------------------------------------------------------------ grouping


@pytest.mark.parametrize("channels", [1, 3])
def test_grouping_is_that_of_a_slow_search(channels):
    image = picture(channels)
    labels = segment(image, scale=20, min_size=12)
    regions, pairs = describe_regions(image, labels), neighbouring_pairs(labels)
    assert 10 < len(regions["size"]) < 200
    boxes, merges = group_regions(regions, pairs)
    slow_boxes, slow_merges = slow_grouping(regions, pairs)
    assert torch.equal(merges, slow_merges)
    assert torch.equal(boxes, slow_boxes)


def test_grouping_ends_with_the_whole_image_and_uses_every_region_once():
    labels = segment(picture(), scale=20, min_size=12)
    boxes, merges = group_regions(describe_regions(picture(), labels), neighbouring_pairs(labels))
    n = int(labels.max()) + 1
    assert boxes.shape == (2 * n - 1, 4)
    assert boxes[-1].tolist() == [0, 0, 84, 60]
    assert sorted(merges.flatten().tolist()) == list(range(2 * n - 2))


def test_a_single_region_is_the_whole_hierarchy():
    labels = torch.zeros(9, 12, dtype=torch.int64)
    boxes, merges = group_regions(describe_regions(torch.zeros(1, 9, 12), labels), neighbouring_pairs(labels))
    assert boxes.tolist() == [[0, 0, 12, 9]]
    assert merges.shape == (0, 2)


def test_each_similarity_alone_merges_what_it_should():
    """Region 1 may join 0 (alike in colour) or 2 (small, and makes a full box)."""
    regions = {
        "size": torch.tensor([50.0, 8.0, 8.0]),
        "box": torch.tensor([[0.0, 0, 10, 10], [10.0, 0, 14, 2], [10.0, 2, 14, 4]]),
        "colour": torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        "texture": torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]]),
    }
    pairs = torch.tensor([[0, 1], [1, 2]])
    first = {name: group_regions(regions, pairs, similarities=(name,))[1][0].tolist() for name in SIMILARITIES}
    assert first == {"colour": [0, 1], "texture": [1, 2], "size": [1, 2], "fill": [1, 2]}


def test_arguments_are_left_alone():
    labels = segment(picture(), scale=20, min_size=12)
    regions = describe_regions(picture(), labels)
    before = {name: value.clone() for name, value in regions.items()}
    group_regions(regions, neighbouring_pairs(labels))
    assert all(torch.equal(regions[name], value) for name, value in before.items())


# ------------------------------------------------------------------------------------------ proposals


@pytest.mark.parametrize("channels", [1, 3])
def test_objects_are_proposed(channels):
    boxes, scores = selective_search(picture(channels), overlap=0.9, generator=GENERATOR().manual_seed(0))
    assert box_iou(TRUTHS, boxes).amax(1).min() > 0.8
    assert boxes.dtype == scores.dtype == torch.float32
    assert (scores[:-1] >= scores[1:]).all()
    assert 0 < scores.min() <= scores.max() < 1
    assert boxes.min() >= 0
    assert (boxes.amax(0)[2:] <= torch.tensor([84.0, 60.0])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_seed_decides_the_order_and_count_the_number():
    orders = [selective_search(picture(), count=12, generator=GENERATOR().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(orders[0][0], orders[1][0])
    assert not torch.equal(orders[0][0], orders[2][0])
    assert len(orders[0][0]) == 12


def test_no_two_proposals_overlap_more_than_asked_for():
    boxes, _ = selective_search(picture(), overlap=0.5, generator=GENERATOR().manual_seed(0))
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.5


def test_a_larger_picture_is_grouped_small_and_its_boxes_are_carried_back():
    large = torch.nn.functional.interpolate(picture()[None], (180, 252))[0]
    boxes, _ = selective_search(large, working_size=84, generator=GENERATOR().manual_seed(0))
    assert box_iou(3 * TRUTHS, boxes).amax(1).min() > 0.75


def test_an_image_of_one_colour_gives_itself():
    boxes, _ = selective_search(torch.full((3, 20, 30), 0.5))
    assert boxes.tolist() == [[0, 0, 30, 20]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: selective_search(torch.zeros(20, 30)),
            r"\(C, H, W\), got shape \(20, 30\), torch.float32; write image",
        ),
        (lambda: selective_search(torch.zeros(2, 3, 20, 30)), "give one image, channels first"),
        (lambda: selective_search(np.zeros((3, 20, 30))), "must be a tensor, got ndarray"),
        (lambda: selective_search(torch.zeros(3, 20, 30, dtype=torch.uint8)), r"write image.float\(\) / 255"),
        (lambda: selective_search(torch.full((1, 20, 30), 255.0)), r"must be in \[0, 1\], got 255 to 255"),
        (lambda: selective_search(torch.full((1, 20, 30), float("nan"))), "must be finite, got NaN"),
        (lambda: selective_search(torch.zeros(1, 5, 30)), "at least 8 x 8 pixels, got 5 x 30"),
        (lambda: selective_search(picture(), count=0), "count must be a positive whole number, got 0"),
        (
            lambda: describe_regions(picture(), torch.zeros(4, 5, dtype=torch.int64)),
            "labels must have the image's shape",
        ),
        (lambda: neighbouring_pairs(torch.zeros(4, 5)), "write labels.long()"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_grouping_refuses_unknown_similarities_and_islands():
    labels = torch.arange(3).repeat_interleave(10).expand(9, 30).contiguous()
    regions = describe_regions(torch.zeros(1, 9, 30), labels)
    with pytest.raises(ValueError, match="must be some of"):
        group_regions(regions, neighbouring_pairs(labels), similarities=("color",))
    with pytest.raises(ValueError, match="pairs must connect all regions"):
        group_regions(regions, torch.tensor([[0, 1]]))


@pytest.mark.filterwarnings("ignore:bccd val")  # a box without an area in the annotations
def test_blood_cells_are_found_among_200(real_data):
    """Every tenth image of val; all 87: white cells 1.00, red cells 0.84."""
    from labkit.datasets import bccd
    from labkit.detection.proposals import proposal_recall

    cells = bccd.load(real_data / "bccd", split="val")
    items = [cells[i] for i in range(0, len(cells), 10)]
    found = [selective_search(image, count=200, generator=GENERATOR().manual_seed(0))[0] for image, _ in items]
    targets = [target for _, target in items]
    assert proposal_recall(found, targets, label=2) >= 0.9
    assert proposal_recall(found, targets, label=1) >= 0.75


def test_boxes_stay_inside_an_image_of_an_odd_size():
    image = torch.zeros(1, 320, 321)  # 321 / 320 is no exact number, and a box of the whole image overshot it
    image[:, 60:200, 80:260], image[:, 250:] = 0.6, 0.3
    boxes, _ = selective_search(image, generator=GENERATOR().manual_seed(0))
    check_boxes(boxes, image_size=(320, 321))
    assert boxes[:, 2].max() == 321

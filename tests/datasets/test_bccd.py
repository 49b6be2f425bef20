"""BCCD: boxes from VOC files, hand-made ones and the real ones."""

import pytest
import torch
from PIL import Image
from torchvision.ops import box_area

from labkit.datasets import bccd

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def write_cell(folder, name="cell", objects=(("RBC", 1, 1, 4, 3),), *, size=(6, 5), xml=None):
    """One image of (width, height) with a white pixel block where the first object is, and its annotation."""
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / "ImageSets/Main/train.txt").open("a") as file:
        file.write(f"{name}\n")
    Image.new("RGB", size, (255, 0, 0)).save(folder / "JPEGImages" / f"{name}.jpg")
    body = "".join(OBJECT.format(*item) for item in objects)
    default = f"<annotation><size><width>6</width><height>5</height></size>{body}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(default if xml is None else xml)
    return folder


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path):
    folder = write_cell(tmp_path, objects=[("RBC", 1, 1, 6, 5), ("WBC", 2, 3, 4, 5), ("Platelets", 6, 4, 6.5, 5)])
    with pytest.warns(UserWarning, match="leaves the 6x5 image, clipped"):
        dataset = bccd.load(folder)
    image, target = dataset[0]
    assert image.shape == (3, 5, 6)
    assert image.dtype == torch.float32
    assert image[0].min() > 0.9
    assert image[1:].max() < 0.1
    assert target["boxes"].tolist() == [[0, 0, 6, 5], [1, 2, 4, 5], [5, 3, 6, 5]]
    assert target["boxes"].dtype == torch.float32
    assert [dataset.classes[label] for label in target["labels"]] == ["RBC", "WBC", "Platelets"]


def test_resizing_moves_the_boxes_with_the_image(tmp_path):
    folder = write_cell(tmp_path, objects=[("RBC", 3, 2, 5, 4)])
    image, target = bccd.load(folder, size=(10, 18))[0]
    assert image.shape == (3, 10, 18)
    assert target["boxes"].tolist() == [[6, 2, 15, 8]]
    assert bccd.load(folder)[0][1]["boxes"].tolist() == [[2, 1, 5, 4]]


def test_an_image_without_cells(tmp_path):
    _, target = bccd.load(write_cell(tmp_path, objects=[]))[0]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64


@pytest.mark.parametrize("size", [(200, 300), (250, 333)])
def test_a_resized_image_stays_in_its_range(tmp_path, size):
    xml = "<annotation><size><width>640</width><height>480</height></size></annotation>"
    folder = write_cell(tmp_path, "white", size=(640, 480), xml=xml)
    Image.new("RGB", (640, 480), "white").save(folder / "JPEGImages/white.jpg")
    image, _ = bccd.load(folder, size=size)[0]
    assert image.max() == 1  # 1.0000002 where interpolation has the last word


def test_a_cell_marked_twice_is_named_and_kept(tmp_path):
    objects = [("RBC", 1, 1, 4, 3), ("RBC", 2, 1, 5, 4), ("WBC", 1, 1, 4, 3), ("RBC", 1, 1, 4, 3)]
    with pytest.warns(UserWarning, match="1 problem"):
        dataset = bccd.load(write_cell(tmp_path, objects=objects))
    assert dataset.problems == ["cell.xml: RBC at 0,0,4,3 stands twice, 0 px apart, both kept"]
    assert len(dataset[0][1]["boxes"]) == 4


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_a_list_that_an_editor_saved(tmp_path, encoding):
    folder = write_cell(tmp_path, "größe")
    (folder / "ImageSets/Main/train.txt").write_bytes("größe\n".encode(encoding))
    if encoding == "utf-8-sig":
        assert [file.stem for file in bccd.load(folder).files] == ["größe"]
    else:
        with pytest.raises(ValueError, match=r"train\.txt: expected text in UTF-8, got .*; save it as UTF-8"):
            bccd.load(folder)


def test_an_image_named_twice_is_taken_once(tmp_path):
    folder = write_cell(write_cell(tmp_path))
    with pytest.warns(UserWarning, match=r"train\.txt: cell is named twice, taken once"):
        assert len(bccd.load(folder)) == 1


def test_an_empty_set_is_refused(tmp_path):
    folder = write_cell(tmp_path)
    (folder / "ImageSets/Main/train.txt").write_text("gone\n")
    with pytest.raises(
        ValueError, match=r"train\.txt: expected names of images, got 1 and none .*\n.*gone is left out"
    ):
        bccd.load(folder)


def test_a_folder_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_cell(tmp_path / "cells")
    assert len(bccd.load("~/cells")) == 1
    with pytest.raises(ValueError, match=r"~nosuchuser/cells: .*write the folder in full"):
        bccd.load("~nosuchuser/cells")


def test_slips_are_left_out_and_named(tmp_path):
    slips = [("RBC", 2, 2, 2, 2), ("Alien", 1, 1, 3, 3), ("WBC", 7, 1, 9, 3), ("WBC", 4, 2, 3, 4), ("RBC", 0, 2, 3, 9)]
    folder = write_cell(tmp_path, "odd", [*slips, ("RBC", 1, 1, 2, 2)])
    with (folder / "ImageSets/Main/train.txt").open("a") as file:
        file.write("gone\n")
    with pytest.warns(UserWarning, match="6 problem") as told:
        dataset = bccd.load(folder)
    assert len(told) == 1
    assert len(dataset) == 1
    assert dataset[0][1]["boxes"].tolist() == [[0, 1, 3, 5], [0, 0, 2, 2]]
    assert all("odd.xml" in problem for problem in dataset.problems[:5])
    reasons = ["no area", "none of RBC, WBC, Platelets", "outside the 6x5 image", "no area", "clipped"]
    assert all(reason in problem for reason, problem in zip(reasons, dataset.problems, strict=False))
    assert "gone is left out, gone.jpg and gone.xml" in dataset.problems[5]


SIZED = "<annotation><size><width>{}</width><height>5</height></size>{}</annotation>"
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("", "no element found"),
        ("these are not the cells", "syntax error"),
        ("<annotation><size>", "no element found"),
        ("\xff\xfe", "expected an annotation in XML"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "expected an annotation in XML"),
        ("<annotation></annotation>", r"expected a number in <size/height>, got None"),
        ("<annotation><size><width>6</width><height>tall</height></size></annotation>", "got 'tall'"),
        (SIZED.format(0, ""), "got 0x5: the tool that wrote it left the size open"),
        (SIZED.format(60, ""), "expected the size .* 6x5, got 60x5"),
        (SIZED.format(6, OBJECT.format("RBC", 1, 1, "nan", 3)), "<bndbox/xmax>, got 'nan'"),
        (SIZED.format(6, "<object><name>RBC</name></object>"), "<bndbox/xmin>, got None"),
        (BOMB, "DOCTYPE"),
    ],
)
def test_a_bad_annotation_names_its_file(tmp_path, xml, said):
    folder = write_cell(tmp_path, "bad", xml=xml)
    with pytest.raises(ValueError, match=said) as caught:
        bccd.load(folder)
    assert "bad.xml" in str(caught.value)


def test_a_doctype_in_another_encoding_is_seen(tmp_path):
    folder = write_cell(tmp_path, "bad")
    (folder / "Annotations/bad.xml").write_bytes(BOMB.encode("utf-16"))
    with pytest.raises(ValueError, match="DOCTYPE"):
        bccd.load(folder)


def test_a_bad_image_names_its_file(tmp_path):
    folder = write_cell(tmp_path, "torn", size=(640, 480), objects=())
    xml = "<annotation><size><width>640</width><height>480</height></size></annotation>"
    (folder / "Annotations/torn.xml").write_text(xml)
    picture = folder / "JPEGImages/torn.jpg"
    picture.write_bytes(picture.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"torn\.jpg: expected a whole JPEG"):
        bccd.load(folder)[0]
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EndComments\n"  # Pillow would start Ghostscript
    for other in (b"GIF?", postscript, b"P6 6 5 255\n" + bytes(90)):
        picture.write_bytes(other)
        with pytest.raises(ValueError, match=r"torn\.jpg: expected a JPEG image"):
            bccd.load(folder)


@pytest.mark.parametrize("factor", [1.5, 3.0])  # Pillow warns of the first, refuses the second
def test_a_bomb_names_its_file(tmp_path, monkeypatch, factor):
    folder = write_cell(tmp_path, "huge")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(30 / factor))
    with pytest.raises(ValueError, match=r"huge\.jpg: expected an image of 640 by 480 pixels, got a bomb"):
        bccd.load(folder)


def test_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"bccd holds no .*train\.txt; run: labkit data get bccd"):
        bccd.load()
    with pytest.raises(FileNotFoundError, match=r"holds no ImageSets/Main/valid\.txt; there are train$"):
        bccd.load(write_cell(tmp_path), split="valid")


@pytest.mark.parametrize("size", [(0, 5), (5,), 240, (240.0, 320), "big"])
def test_wrong_size(tmp_path, size):
    with pytest.raises(ValueError, match=r"size must be \(H, W\)"):
        bccd.load(tmp_path, size=size)


@pytest.mark.parametrize(
    ("split", "images", "cells", "slip", "twice"),
    [
        ("train", 205, [0, 2381, 214, 209], "BloodImage_00343", ["00020", "00100", "00251", "00403"]),
        ("val", 87, [0, 967, 87, 83], "BloodImage_00338", ["00104", "00331"]),
    ],
)
def test_the_real_set(real_data, split, images, cells, slip, twice):
    with pytest.warns(UserWarning, match=f"{slip}.*no area"):
        dataset = bccd.load(real_data / "bccd", split=split)
    boxes = torch.cat([target["boxes"] for target in dataset.targets])
    labels = torch.cat([target["labels"] for target in dataset.targets])
    assert len(dataset) == len(dataset.files) == images
    assert labels.bincount().tolist() == cells
    told = [problem for problem in dataset.problems if "stands twice, 2 px apart, both kept" in problem]
    assert [problem[len("BloodImage_") :][:5] for problem in told] == twice
    assert len(dataset.problems) == 1 + len(twice)
    assert boxes.min() == 0
    assert boxes[:, 2].max() == 640
    assert boxes[:, 3].max() == 480
    assert box_area(boxes).min() > 100
    # The boxes fit: white cells are stained violet, so they are darker in green than their image, upright only.
    darker, turned = [], []
    for image, target in map(dataset.__getitem__, range(12)):
        x1, y1, x2, y2 = target["boxes"][target["labels"] == 2][0].int().tolist()
        darker.append(image[1].mean() - image[1, y1:y2, x1:x2].mean())
        turned.append(image[1].mean() - image[1].flip(0, 1)[y1:y2, x1:x2].mean())
    assert min(darker) > 0
    assert sum(darker) / 12 > 0.05 > 0.03 > sum(turned) / 12


@pytest.mark.parametrize("name", ["../JPEGImages/cell", "deep/cell", ".", "x" * 400])
def test_a_name_that_leads_to_another_folder_is_left_out_and_told(tmp_path, name):
    folder = write_cell(tmp_path)
    (folder / "ImageSets/Main/train.txt").write_text(f"cell {name}")
    with pytest.warns(UserWarning, match="is left out, expected the name of an image without a folder"):
        dataset = bccd.load(folder)
    assert [file.stem for file in dataset.files] == ["cell"]


def test_an_absolute_name_is_left_out_and_told(tmp_path):
    folder = write_cell(tmp_path)
    (folder / "ImageSets/Main/train.txt").write_text(str(folder / "JPEGImages" / "cell"))
    with pytest.raises(
        ValueError, match=r"expected names of images, got 1 and none of them usable(.|\n)*without a folder"
    ):
        bccd.load(folder)


@pytest.mark.parametrize("width", ["6.9", "6.0001"])
def test_a_size_between_two_pixels_is_another_images(tmp_path, width):
    xml = f"<annotation><size><width>{width}</width><height>5</height></size></annotation>"
    with pytest.raises(
        ValueError, match=rf"expected the size of its image, 6x5, got {width}x5; .* fetch the set again"
    ):
        bccd.load(write_cell(tmp_path, xml=xml))

"""mini-MIAS: the table, the films, and what must not be trusted in either."""

import shutil

import numpy as np
import pytest
import torch
from mias_table import TABLE

from labkit.datasets import mias_info, mini_mias
from labkit.datasets.fetch import download

HEADER = b"P5\n1024 1024\n255\n"


def write_film(folder, name, levels=None):
    levels = np.zeros((1024, 1024), np.uint8) if levels is None else levels
    (folder / f"{name}.pgm").write_bytes(HEADER + levels.tobytes())


@pytest.fixture
def films(tmp_path):
    (tmp_path / "Info.txt").write_text(TABLE)
    for name in ("mdb001", "mdb002", "mdb003", "mdb004", "mdb005", "mdb006", "mdb211", "mdb212", "mdb214"):
        write_film(tmp_path, name)
    return tmp_path


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_boxes_count_from_the_top(films):
    levels = np.zeros((1024, 1024), np.uint8)
    levels[0 : 1024 - 1000 + 30, 70:130] = 200  # the square around mdb003's first circle
    write_film(films, "mdb003", levels)
    dataset = mini_mias.load(films)
    image, target = dataset[[file.stem for file in dataset.files].index("mdb003")]
    assert image.shape == (1, 1024, 1024)
    assert image.dtype == torch.float32
    assert target["boxes"].tolist() == [[70, 0, 130, 54], [580, 704, 620, 744]]  # the first is cut at the top edge
    assert target["labels"].tolist() == [2, 1]
    assert [mias_info.KINDS[kind] for kind in target["kinds"]] == ["SPIC", "MISC"]
    assert target["image_label"].item() == 2  # the worst of the film
    assert image[0, 0:54, 70:130].min() == image.max() == pytest.approx(200 / 255)


def test_what_cannot_be_used_is_named(films):
    with pytest.warns(UserWarning, match="mini-mias: 4 problem") as told:
        dataset = mini_mias.load(films)
    assert len(told) == 1
    assert [file.stem for file in dataset.files] == ["mdb001", "mdb002", "mdb003", "mdb211"]
    assert dataset.problems == [
        "Info.txt is not the official file (its SHA-256 differs)",
        "1 films of Info.txt are not in the folder: mdb213",
        "2 films left out, circle beside the breast: mdb212, mdb214",
        "3 abnormal films left out, no circle given: mdb004, mdb005, mdb006",
    ]
    assert dataset.patients.tolist() == [1, 1, 2, 106]
    assert dataset.targets[1]["boxes"].shape == (0, 4)
    assert dataset.targets[1]["image_label"].item() == 0


@pytest.mark.filterwarnings("ignore:mini-mias")
@pytest.mark.parametrize("reduce", [2, 4, 8, 16])
def test_reduced_is_the_mean_of_the_area(films, reduce):
    levels = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    write_film(films, "mdb001", levels)
    image, target = mini_mias.load(films, reduce=reduce)[0]
    blocks = levels.reshape(1024 // reduce, reduce, 1024 // reduce, reduce).astype(float).mean((1, 3)) / 255
    torch.testing.assert_close(image[0], torch.from_numpy(blocks).float(), atol=1e-5, rtol=0)
    full = torch.tensor([[535.0 - 197, 599 - 197, 535 + 197, 599 + 197]])
    assert torch.equal(target["boxes"], full / reduce)


def test_a_set_without_a_usable_film_is_refused(films):
    (films / "Info.txt").write_text("mdb004 F CIRC B\nmdb213 G NORM\n")
    with pytest.raises(
        ValueError, match=r"expected films to use, got none: .*not in the folder: mdb213.*no circle given"
    ):
        mini_mias.load(films)


def test_films_that_the_table_does_not_name_are_told(films):
    (films / "Info.txt").write_text("mdb001 G CIRC B 535 425 197\n")
    with pytest.warns(UserWarning, match="8 films in the folder are not in Info.txt, left out: mdb002, mdb003"):
        assert len(mini_mias.load(films)) == 1


def test_a_folder_below_the_home_folder(films, monkeypatch):
    monkeypatch.setenv("HOME", str(films.parent))
    monkeypatch.setenv("USERPROFILE", str(films.parent))
    with pytest.warns(UserWarning, match="problem"):
        assert len(mini_mias.load(f"~/{films.name}")) == 4
    assert mini_mias.read_pgm(f"~/{films.name}/mdb001.pgm").shape == (1024, 1024)


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_patients_stay_together(films):
    parts = mini_mias.load(films, reduce=4).split((2 / 3, 1 / 3))
    assert sorted(len(part) for part in parts) in ([1, 3], [2, 2])
    assert not set(parts[0].patients.tolist()) & set(parts[1].patients.tolist())
    assert parts[0][0][0].shape == (1, 256, 256)


@pytest.mark.filterwarnings("ignore:mini-mias")
@pytest.mark.parametrize("reduce", [1, 4])
def test_the_mask_keeps_the_breast_alone(films, reduce):
    levels = np.full((1024, 1024), 9, np.uint8)  # bare film
    levels[100:900, 300:1000] = 120
    levels[400:440, 500:540] = 0  # a hole in the breast
    levels[20:120, 40:160] = 250  # a label, brighter but smaller
    levels[:, 296:300] = 250  # a scanner line that touches the breast
    write_film(films, "mdb001", levels)
    image = mini_mias.load(films, reduce=reduce, mask=True)[0][0]
    bare = mini_mias.load(films, reduce=reduce)[0][0]
    inside = torch.zeros(1024 // reduce, 1024 // reduce, dtype=torch.bool)
    inside[104 // reduce : 896 // reduce, 304 // reduce : 996 // reduce] = True
    assert torch.equal(image[0][inside], bare[0][inside])
    assert image[0, : 80 // reduce].max() == 0  # neither label nor line
    assert mini_mias.breast_mask(bare[0])[420 // reduce, 520 // reduce]
    assert not mini_mias.breast_mask(torch.zeros(50, 30)).any()
    with pytest.raises(ValueError, match=r"image must be float in \[0, 1\], got torch.uint8"):
        mini_mias.breast_mask(torch.zeros(50, 30, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image must have shape \(H, W\), got \(1, 4, 4\)"):
        mini_mias.breast_mask(torch.zeros(1, 4, 4))


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_the_films_in_the_form_of_the_phantoms(films):
    levels = np.zeros((1024, 1024), np.uint8)
    levels[100:900, 300:1000] = 120
    levels[20:120, 40:160] = 250  # a label
    write_film(films, "mdb001", levels)
    taken, dataset = mini_mias.films(films), mini_mias.load(films, reduce=4, mask=True)
    assert taken.images.shape == (4, 1, 256, 256)
    assert torch.equal(taken.images[0], dataset[0][0])  # the label is black
    assert taken.patients.tolist() == [1, 1, 2, 106]
    assert [len(target["boxes"]) for target in taken.targets] == [1, 0, 2, 1]
    assert torch.equal(taken.targets[2]["boxes"], dataset.targets[2]["boxes"])
    assert taken.pixel_mm == taken.subset([0]).pixel_mm == pytest.approx(0.8)
    assert sorted(len(part) for part in taken.split((2 / 3, 1 / 3))) in ([1, 3], [2, 2])
    assert mini_mias.films(films, reduce=8).images.shape == (4, 1, 128, 128)


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_the_films_are_found_where_the_tests_have_them_and_in_the_cache(films, tmp_path_factory, monkeypatch):
    sets, cache = tmp_path_factory.mktemp("sets"), tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABKIT_DATA_TEST", str(sets))
    monkeypatch.setenv("LABKIT_CACHE", str(cache))
    with pytest.raises(FileNotFoundError, match=r"holds no mammograms \(Info.txt\); run: labkit data get mini-mias"):
        mini_mias.films()
    shutil.copytree(films, cache / "mini-mias")
    assert len(mini_mias.films()) == 4
    monkeypatch.delenv("LABKIT_DATA_TEST")
    assert len(mini_mias.films()) == 4
    with pytest.raises(ValueError, match="reduce must be 1, 2, 4, 8 or 16, got 3"):
        mini_mias.films(reduce=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEADER + bytes(1024 * 1024 - 1), "expected 1048576 pixels after the header, got 1048575"),
        (HEADER + bytes(1024 * 1024 + 1), "got 1048577"),
        (HEADER[:9], "expected a binary PGM"),
        (b"", "expected a binary PGM"),
        (b"P5" + b" " * 500_000 + b"x", "expected a binary PGM"),  # took time without end: twice as long a blank
        (b"P5" + b"#\n" * 200_000 + b"x", "expected a binary PGM"),
        (b"P5 " + b"1" * 500_000 + b"x", "expected a binary PGM"),
        (b"P2\n1024 1024\n255\n", "expected a binary PGM"),
        (b"P5\n1024 1023\n255\n" + bytes(1023 * 1024), "got 1024 1023 255"),
        (b"P5\n1024 1024\n65535\n" + bytes(2 << 20), "got 1024 1024 65535"),
    ],
    ids=["short", "long", "header", "empty", "blanks", "comments", "digits", "text", "low", "16 bit"],
)
def test_a_bad_film_names_its_file(tmp_path, content, said):
    (tmp_path / "mdb007.pgm").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        mini_mias.read_pgm(tmp_path / "mdb007.pgm")
    assert "mdb007.pgm" in str(caught.value)


def test_a_comment_in_the_header(tmp_path):
    (tmp_path / "mdb007.pgm").write_bytes(
        b"P5\n# scanned\n1024 # wide\n1024\n255\n" + bytes(1024 * 1023) + bytes([7] * 1024)
    )
    levels = mini_mias.read_pgm(tmp_path / "mdb007.pgm")
    assert levels.shape == (1024, 1024)
    assert levels[1022].max() == 0
    assert levels[1023].min() == 7


def test_no_table_and_no_set(tmp_path, monkeypatch):
    (tmp_path / "Info.txt").write_text("text only")
    with pytest.raises(ValueError, match=r"Info\.txt: expected a table of films"):
        mini_mias.load(tmp_path)
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mini-mias holds no .*; run: labkit data get mini-mias"):
        mini_mias.load()
    with pytest.raises(ValueError, match="reduce must be 1, 2, 4, 8 or 16, got 3"):
        mini_mias.load(tmp_path, reduce=3)


@pytest.fixture(scope="module")
def real_films(real_data, tmp_path_factory):
    """The real archive, got as a user gets it."""
    archive = real_data / "mini-mias" / "all-mias.tar.gz"
    folder = tmp_path_factory.mktemp("real") / "mini-mias"
    yield download.fetch("mini-mias", archive=archive, folder=folder)
    shutil.rmtree(folder)  # 270 MB that pytest would keep


def test_the_real_films(real_films):
    with pytest.warns(UserWarning, match="66 films of Info.txt are not in the folder"):
        dataset = mini_mias.load(real_films, reduce=4)
    assert len(dataset) == 252
    assert len(dataset.patients.unique()) == 128
    assert "no circle given: mdb216, mdb233" in dataset.problems[2]
    assert len(dataset.problems) == 3
    labels = torch.cat([target["labels"] for target in dataset.targets])
    assert labels.bincount().tolist() == [0, 52, 40]
    assert torch.stack([target["image_label"] for target in dataset.targets]).bincount().tolist() == [167, 46, 39]
    boxes = torch.cat([target["boxes"] for target in dataset.targets]) * 4
    radius = (boxes[:, 2:] - boxes[:, :2]) / 2
    assert torch.equal(radius[:, 0], radius[:, 1])  # squares: no circle leaves its film
    assert (radius.min().item(), radius.max().item()) == (6, 197)


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_real_lesions_lie_on_the_breast(real_films):
    dataset = mini_mias.load(real_films, reduce=8)
    for index in [index for index, target in enumerate(dataset.targets) if len(target["boxes"])][::3]:
        image, target = dataset[index]
        x, y = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2).long().unbind(1)
        assert mini_mias.breast_mask(image[0])[y, x].all(), dataset.files[index]


def contrast(image, box):
    """Mean of a box minus the mean around it, up to half a box away."""
    x1, y1, x2, y2 = box.round().int().tolist()
    half = (x2 - x1) // 2
    inner = image[y1:y2, x1:x2]
    outer = image[max(0, y1 - half) : y2 + half, max(0, x1 - half) : x2 + half]
    return (inner.mean() - (outer.sum() - inner.sum()) / (outer.numel() - inner.numel())).item()


@pytest.mark.filterwarnings("ignore:mini-mias")
def test_real_masses_are_bright_where_the_boxes_are_and_not_upside_down(real_films):
    dataset = mini_mias.load(real_films, reduce=8)
    upright, flipped = [], []
    for index, target in enumerate(dataset.targets):
        for box in target["boxes"][(target["kinds"] >= 1) & (target["kinds"] <= 3)]:  # CIRC, SPIC, MISC
            image = dataset[index][0][0]
            upright.append(contrast(image, box))
            flipped.append(contrast(image.flip(0), box))
    assert len(upright) == 47
    assert min(upright) > 0
    assert sum(up > down for up, down in zip(upright, flipped, strict=True)) >= 40


def test_the_altered_table_is_told(real_films, tmp_path):
    lines = (real_films / "Info.txt").read_text(encoding="latin-1").splitlines()
    table = [line.replace("*NOTE 3*", "").rstrip() + " " for line in lines if line.startswith("mdb")]
    table = [line[:9] + "NORM " if line[:6] in ("mdb212", "mdb214") else line for line in table]
    (tmp_path / "Info.txt").write_text("\n".join(["REFNUM BG CLASS SEVERITY X Y RADIUS ", *table]))
    rows = mias_info.read_info(tmp_path / "Info.txt")
    assert sum(row.kind == "NORM" for row in rows) == 209
    assert sum(row.unlocated for row in rows) == 4
    for name in ("mdb211", "mdb212", "mdb213", "mdb214"):
        write_film(tmp_path, name)
    with pytest.warns(UserWarning, match="altered copy in circulation"):
        dataset = mini_mias.load(tmp_path)
    assert [file.stem for file in dataset.files] == ["mdb211", "mdb213"]  # 212 and 214 do not pass as normal

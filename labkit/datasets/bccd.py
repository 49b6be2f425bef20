"""BCCD: blood cells under the microscope, 640 by 480 pixels, with boxes around cells and platelets.

Layout    folder/ImageSets/Main/train.txt names the images of a part; Annotations/NAME.xml holds the boxes
          (VOC form), JPEGImages/NAME.jpg the picture. `labkit data get bccd` makes it.
Boxes     VOC counts pixels from 1 and includes the last one: xmin 1 is the left edge, xmax 640 the last
          column. Here pixels count from 0 and x2 is exclusive, so x1 = xmin - 1 and x2 = xmax (y alike). The
          files agree: no xmin is 0, hundreds are 1, and hundreds of xmax equal the width.
Slips     A box whose ends coincide is a stray click, not a cell of one pixel: it is left out, named and
          counted in `problems`, as is whatever else cannot be used. Nothing is left out silently. Six red
          cells are marked twice, 2 pixels apart: both marks stay, as in published scores, and are named.
Patients  are not recorded; two images may show one smear.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from labkit.datasets.arguments import read_words, two_values, whole_number
from labkit.datasets.cache import cache_dir
from labkit.datasets.splits import Choice, Target, chosen_rows, clone_target, one_row
from labkit.files import user_path

CLASSES = ("background", "RBC", "WBC", "Platelets")  # the index is the label
LONGEST_NAME = 200  # letters; no disk holds a longer one with its ending
SAME_CELL = 0.03  # of the longer side: two boxes of one class whose sides are no further apart mark one cell


class BloodCells(Dataset):
    """Images with boxes: `dataset[i] -> (image, target)`; make one with `load`.

    Attributes:
        files: the JPEG of each image.
        targets: of each image, for the size on disk.
        classes: name of each label; 0 is the background.
        problems: one sentence for every slip that was found: left out, mended or kept.
    """

    def __init__(
        self, files: list[Path], targets: list[Target], problems: list[str], size: tuple[int, int] | None = None
    ):
        self.files, self.targets, self.problems = files, targets, problems
        self.classes = CLASSES
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image (3, H, W) float32 in [0, 1]; target with `boxes` (N, 4) xyxy pixels, `labels` (N,) int64."""
        row = one_row(index)
        image, target = _read_image(self.files[row]), clone_target(self.targets[row])
        if self.size is None:
            return image, target
        scale = torch.tensor([self.size[1] / image.shape[2], self.size[0] / image.shape[1]] * 2)  # x y x y
        image = functional.interpolate(image[None], self.size, mode="bilinear", antialias=True)[0]
        return image.clamp(0, 1), target | {"boxes": target["boxes"] * scale}  # rounding leaves [0, 1] by 2e-7

    def subset(self, choice: Choice) -> "BloodCells":
        """The images at these positions, in this order; a mask of one bool an image picks too."""
        rows = chosen_rows(choice, len(self))
        targets = [clone_target(self.targets[row]) for row in rows]
        return BloodCells([self.files[row] for row in rows], targets, self.problems, self.size)


def load(folder: str | Path | None = None, *, split: str = "train", size: tuple[int, int] | None = None) -> BloodCells:
    """The blood cell images of one part.

    Args:
        folder: where the set lies; by default where `labkit data get bccd` puts it.
        split: "train" (205 images), "val" (87) or "test" (72).
        size: (H, W) in pixels to resize images and boxes to; by default they stay 480 by 640.

    Returns:
        A dataset; what was left out is in `.problems` and told in one warning.

    Raises:
        FileNotFoundError: the set or the part is not there.
        ValueError: an annotation or image is not what it should be (the message names the file), or no image
            is left.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: no/such/folder holds no ImageSets/Main/train.txt; run: labkit data get bccd
    """
    size = None if size is None else _checked_size(size)
    folder = cache_dir() / "bccd" if folder is None else user_path(folder)
    names = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not names.is_file():
        others = sorted(path.stem for path in names.parent.glob("*.txt"))
        cure = f"there are {', '.join(others)}" if others else "run: labkit data get bccd"
        raise FileNotFoundError(f"{folder} holds no ImageSets/Main/{split}.txt; {cure}")
    files, targets = [], []
    listed = read_words(names).split()
    problems = [f"{split}.txt: {name} is named twice, taken once" for name in _twice(listed)]
    for name in dict.fromkeys(listed):
        if Path(name).name != name or len(name) > LONGEST_NAME:
            problems.append(f"{split}.txt: {name[:99]} is left out, expected the name of an image without a folder")
            continue
        picture, annotation = folder / "JPEGImages" / f"{name}.jpg", folder / "Annotations" / f"{name}.xml"
        missing = [path.name for path in (picture, annotation) if not path.is_file()]
        if missing:
            problems.append(f"{split}.txt: {name} is left out, {' and '.join(missing)} not in the folder")
            continue
        target, slips = read_voc(annotation, image_size=_image_size(picture))
        files.append(picture)
        targets.append(target)
        problems += slips
    if not files:
        raise ValueError(
            f"{names}: expected names of images, got {len(listed)} and none of them usable; run: labkit data get bccd"
            + "".join(f"\n{problem}" for problem in problems[:3])
        )
    if problems:
        warnings.warn(f"bccd {split}: {len(problems)} problem(s): " + "; ".join(problems), stacklevel=2)
    return BloodCells(files, targets, problems, size)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    cure = "write for example size=(240, 320)"
    pair = two_values(size, f"size must be (H, W) in pixels; {cure}")
    name = "size must be (H, W) in pixels: each side"
    height, width = (whole_number(side, name, least=1, cure=cure) for side in pair)
    return height, width


def _twice(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def read_voc(path: Path, *, image_size: tuple[int, int]) -> tuple[Target, list[str]]:
    """Target of one VOC file (0-based, x2 and y2 exclusive), and a sentence for each slip in it.

    Args:
        path: the XML file.
        image_size: (H, W) of the picture, which the file must agree with.

    Raises:
        ValueError: the file is not XML, lacks a size or a coordinate, or speaks of an image of another size.
    """
    root = _parse_xml(path)
    height, width = (_number(path, root, f"size/{side}") for side in ("height", "width"))
    if min(height, width) < 1:
        raise ValueError(
            f"{path}: expected the size of its image, {image_size[1]}x{image_size[0]}, got {width:g}x{height:g}: "
            "the tool that wrote it left the size open; write it into <width> and <height>, or fetch the set again"
        )
    if (height, width) != tuple(image_size):
        raise ValueError(
            f"{path}: expected the size of its image, {image_size[1]}x{image_size[0]}, got {width:g}x{height:g}; "
            "the file belongs to another image: fetch the set again"
        )
    kept: list[list[float]] = []
    labels: list[int] = []
    problems: list[str] = []
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        x1, y1, x2, y2 = (_number(path, item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        told = f"{path.name}: {name} {x1:g},{y1:g},{x2:g},{y2:g}"
        clipped = [max(x1 - 1, 0.0), max(y1 - 1, 0.0), min(x2, float(width)), min(y2, float(height))]
        if x2 <= x1 or y2 <= y1:
            problems.append(f"{told} has no area, left out")
        elif name not in CLASSES[1:]:
            problems.append(f"{told} is none of {', '.join(CLASSES[1:])}, left out")
        elif clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            problems.append(f"{told} lies outside the {width:g}x{height:g} image, left out")
        else:
            if clipped != [x1 - 1, y1 - 1, x2, y2]:
                problems.append(f"{told} leaves the {width:g}x{height:g} image, clipped")
            kept.append(clipped)
            labels.append(CLASSES.index(name))
    boxes = torch.tensor(kept, dtype=torch.float32).reshape(-1, 4)  # (N, 4), also when N is 0
    target = {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}
    return target, problems + [f"{path.name}: {told}" for told in _marked_twice(target)]


def _marked_twice(target: Target) -> list[str]:
    """A sentence for each pair of boxes that mark one cell."""
    boxes, labels = target["boxes"], target["labels"]
    apart = (boxes[:, None] - boxes).abs().amax(dim=2)  # (N, N)
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)  # (N,)
    same = (apart <= SAME_CELL * longer) & (labels[:, None] == labels)
    return [
        f"{CLASSES[labels[one]]} at {','.join(f'{side:g}' for side in boxes[one].tolist())} stands twice, "
        f"{apart[one, other]:g} px apart, both kept"
        for one, other in same.triu(diagonal=1).nonzero().tolist()
    ]


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, the only place where entities that expand to gigabytes can be declared."""

    def doctype(self, name: str, public_id: str | None, system_id: str | None) -> None:
        raise ValueError("a DOCTYPE, which an annotation never needs")


def _parse_xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{path}: expected an annotation in XML, got {error}; fetch the set again") from error


def _number(path: Path, item: ElementTree.Element, place: str) -> float:
    text = item.findtext(place)
    try:
        value = math.nan if text is None else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}: expected a number in <{place}>, got {text!r}; fetch the set again")
    return value


def _image_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header, without decoding."""
    with _open_jpeg(path) as image:
        return image.height, image.width


@contextmanager
def _open_jpeg(path: Path) -> Iterator[Image.Image]:
    """The file, if it is a JPEG of reasonable size; whatever its name, no other decoder is tried."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=("JPEG",))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: expected a JPEG image, got something else; fetch the set again") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: expected an image of 640 by 480 pixels, got a bomb ({error}); fetch the set again"
        ) from error
    with opened as image:
        yield image


def _read_image(path: Path) -> Tensor:
    try:
        with _open_jpeg(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # (H, W, 3) uint8
    except OSError as error:
        raise ValueError(f"{path}: expected a whole JPEG image, got: {error}; fetch the set again") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255  # (3, H, W)

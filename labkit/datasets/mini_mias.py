"""mini-MIAS: 322 digitised mammograms of 161 women, 1024 by 1024 pixels of 0.2 mm, lesions circled.

J. Suckling et al., "The Mammographic Image Analysis Society Digital Mammogram Database", Excerpta Medica,
International Congress Series 1069, 375-378, 1994.

Layout     folder/Info.txt and folder/mdb001.pgm ... mdb322.pgm. `labkit data get mini-mias` makes it.
Circles    Info.txt gives centre and radius, the origin at the *bottom* left: row = 1024 - y. A box here is
           the square around that rough circle: IoU 0.5 with it is a harsh demand, a centre in it a fair one.
Missing    A lesion may come without a circle. Such a film is neither negative nor trainable: it is left out
           and told. So are mdb212 and mdb214, whose circles lie beside the breast, and films not on disk.
Patients   Films 2k-1 and 2k are one woman: split by patient (`MiniMias.split`), never by film.
Sides      The text says even films are left; burnt-in marks say otherwise on some. No side is offered here.
Artefacts  Labels, tape and scanner bands are in the films; `mask=True` blacks out all but the breast.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage import measure, morphology
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from labkit.datasets.augment import collate_fn
from labkit.datasets.cache import cache_dir, set_folder
from labkit.datasets.mias_info import KINDS, SIDE, Row, info_problems, read_info
from labkit.datasets.phantoms import Mammograms
from labkit.datasets.splits import Choice, Target, chosen_rows, clone_target, one_row, split_by_patient
from labkit.files import user_path

CLASSES = ("background", "benign", "malignant")  # the index is the label
# Seen on overlays: their circles lie on the background, flipped or not. The altered Info.txt calls both
# normal.
MISPLACED = ("mdb212", "mdb214")
PIXEL_MM = 0.2  # as digitised, before anything is reduced
FETCH_AGAIN = "run: labkit data get mini-mias"
# Possessive: blanks and comments are passed once, so a header of a million blanks takes no longer than reading it.
_GAP = rb"(?:\s|#[^\n]*\n)++"
_PGM = re.compile(rb"P5" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")


class MiniMias(Dataset):
    """Films with boxes: `dataset[i] -> (image, target)`; make one with `load`.

    Attributes:
        files: the PGM of each film.
        targets: `boxes` (N, 4) float32 xyxy in pixels of the reduced film; `labels` (N,) int64, 1 benign, 2
            malignant; `kinds` (N,) int64, index into `KINDS`; `image_label` () int64, 0 for a normal film,
            else the worst of its labels.
        patients: (n,) int64, 1 to 161; two films a patient.
        classes: name of each label; 0 is the background.
        problems: one sentence for every slip that was left out.
    """

    def __init__(
        self, files: list[Path], targets: list[Target], problems: list[str], *, reduce: int = 1, mask: bool = False
    ):
        self.files, self.targets, self.problems = files, targets, problems
        self.patients = torch.tensor([(int(file.stem[3:]) + 1) // 2 for file in files], dtype=torch.int64)
        self.classes = CLASSES
        self.reduce, self.mask = reduce, mask

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image (1, H, W) float32 in [0, 1] with H = W = 1024 / reduce, and a copy of its target."""
        row = one_row(index)
        film = torch.from_numpy(read_pgm(self.files[row]))[None].float()  # (1, 1024, 1024)
        if self.reduce > 1:
            film = functional.avg_pool2d(film, self.reduce)  # (1, H, W), each the mean of its area
        image = film / 255
        if self.mask:
            image = image * breast_mask(image[0])
        return image, clone_target(self.targets[row])

    def subset(self, choice: Choice) -> "MiniMias":
        """The films at these positions, in this order; a mask of one bool a film picks too.

        `dataset.subset(dataset.patients == 7)` is the films of one woman.
        """
        rows = chosen_rows(choice, len(self))
        files, targets = [self.files[row] for row in rows], [clone_target(self.targets[row]) for row in rows]
        return MiniMias(files, targets, self.problems, reduce=self.reduce, mask=self.mask)

    def split(self, fractions: Sequence[float], *, seed: int = 0) -> list["MiniMias"]:
        """One dataset a fraction; no patient is in two of them, and none is empty."""
        return [self.subset(part) for part in split_by_patient(self.patients, fractions, seed=seed)]


def load(folder: str | Path | None = None, *, reduce: int = 1, mask: bool = False) -> MiniMias:
    """The films that can be used for detection: normal ones, and those whose every lesion has a circle.

    A film is read when it is asked for: 2 ms, and 6 more for the mask, so nothing is cached.

    Args:
        folder: where the set lies; by default where `labkit data get mini-mias` puts it.
        reduce: 1, 2, 4, 8 or 16: so many pixels each way become one, their mean; 4 gives 256 by 256 of 0.8
        mm.
        mask: black out labels, tape and scanner bands, all that `breast_mask` leaves out.

    Returns:
        A dataset; what was left out is in `.problems` and told in one warning.

    Raises:
        FileNotFoundError: there is no Info.txt.
        ValueError: a line of Info.txt or a film is not what it should be (the message names the file), or no film
            is left.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: no/such/folder holds no mammograms (Info.txt); run: labkit data get mini-mias
    """
    if reduce not in (1, 2, 4, 8, 16):
        raise ValueError(f"reduce must be 1, 2, 4, 8 or 16, got {reduce}; 4 gives films of 256 by 256 pixels")
    folder = cache_dir() / "mini-mias" if folder is None else user_path(folder)
    if not (folder / "Info.txt").is_file():
        raise FileNotFoundError(f"{folder} holds no mammograms (Info.txt); run: labkit data get mini-mias")
    rows = read_info(folder / "Info.txt")
    films = {row.film: [other for other in rows if other.film == row.film] for row in rows}
    problems = info_problems(folder / "Info.txt")
    absent = [film for film in films if not (folder / f"{film}.pgm").is_file()]
    if absent:
        problems.append(f"{len(absent)} films of Info.txt are not in the folder: {_shorten(absent)}")
    present = [film for film in films if film not in absent]
    misplaced = [film for film in present if film in MISPLACED]
    if misplaced:
        problems.append(f"{len(misplaced)} films left out, circle beside the breast: {_shorten(misplaced)}")
    unlocated = [film for film in present if any(row.unlocated for row in films[film])]
    if unlocated:
        problems.append(f"{len(unlocated)} abnormal films left out, no circle given: {_shorten(unlocated)}")
    unlisted = sorted({path.stem for path in folder.glob("mdb[0-9][0-9][0-9].pgm")} - set(films))
    if unlisted:
        problems.append(f"{len(unlisted)} films in the folder are not in Info.txt, left out: {_shorten(unlisted)}")
    used = [film for film in present if film not in misplaced + unlocated]
    if not used:
        told = "; ".join(problems)
        raise ValueError(f"{folder}: expected films to use, got none: {told}; run: labkit data get mini-mias")
    if problems:
        warnings.warn(f"mini-mias: {len(problems)} problem(s): " + "; ".join(problems), stacklevel=2)
    files = [folder / f"{film}.pgm" for film in used]
    targets = [_target(films[film], reduce) for film in used]
    return MiniMias(files, targets, problems, reduce=reduce, mask=mask)


def films(folder: str | Path | None = None, *, reduce: int = 4) -> Mammograms:
    """The real films in the form of the phantoms, all in memory: what notebook 09 takes in their place.

    Whatever works on `labkit.datasets.phantoms.mammograms` works on these: `images`, `targets`, `patients`, `split`.
    All but the breast is black, since labels and tape are easy to learn and teach nothing.

    Args:
        folder: where the set lies; by default where `set_folder` finds it.
        reduce: as in `load`; at 4 a film has 256 by 256 pixels of 0.8 mm.

    Raises:
        FileNotFoundError: the set is not on this machine; the message says how to get it.
        ValueError: what `load` finds.

    Example:
        >>> films("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: no/such/folder holds no mammograms (Info.txt); run: labkit data get mini-mias
    """
    found = set_folder("mini-mias", needs="Info.txt") if folder is None else folder
    dataset = load(found, reduce=reduce, mask=True)
    images, targets = collate_fn([dataset[row] for row in range(len(dataset))])
    return Mammograms(torch.stack(images), targets, dataset.patients, pixel_mm=PIXEL_MM * reduce)


def read_pgm(path: str | Path) -> np.ndarray:
    """Grey levels of one film, (1024, 1024) uint8.

    Raises:
        ValueError: no binary PGM of 1024 by 1024 pixels and 8 bits, or it is torn; the message names the
        file.
    """
    path = user_path(path)
    content = path.read_bytes()
    header = _PGM.match(content)
    if not header:
        raise ValueError(
            f"{path}: expected a binary PGM (P5), got a file that begins with {content[:8]!r}; {FETCH_AGAIN}"
        )
    if tuple(map(int, header.groups())) != (SIDE, SIDE, 255):
        got = b" ".join(header.groups()).decode()
        raise ValueError(
            f"{path}: expected a film of mini-MIAS (width, height, white {SIDE} {SIDE} 255), got {got}; {FETCH_AGAIN}"
        )
    if len(content) - header.end() != SIDE * SIDE:
        raise ValueError(
            f"{path}: expected {SIDE * SIDE} pixels after the header, got {len(content) - header.end()}; "
            f"the file is torn: {FETCH_AGAIN}"
        )
    return np.frombuffer(content, np.uint8, offset=header.end()).reshape(SIDE, SIDE).copy()


def breast_mask(image: Tensor) -> Tensor:
    """True on the breast: the largest bright region, its holes filled, thin bands cut off.

    Args:
        image: (H, W) float in [0, 1].

    Returns:
        (H, W) bool.

    Example:
        >>> film = torch.zeros(64, 64)
        >>> film[10:60, 20:64] = 0.5  # the breast
        >>> film[4:12, 2:9] = 1.0  # a label
        >>> bool(breast_mask(film)[8, 4]), bool(breast_mask(film)[30, 40])
        (False, True)
    """
    if image.ndim != 2:
        raise ValueError(f"image must have shape (H, W), got {tuple(image.shape)}; write image[0]")
    if not image.is_floating_point():
        raise ValueError(f"image must be float in [0, 1], got {image.dtype}; write image.float() / 255")
    # 18 of 255 lies between bare film and the skin line; bands thinner than 1/64 of a film fall to the
    # opening.
    factor = max(1, image.shape[0] // 256)  # four times finer takes fifty times as long and shows the same breast
    coarse = functional.avg_pool2d(image[None, None], factor, ceil_mode=True)[0, 0].cpu().numpy()  # (h, w)
    thin = morphology.disk(max(1, coarse.shape[0] // 128))
    regions = measure.label(morphology.opening(coarse > 18 / 255, thin))
    largest = np.bincount(regions.ravel())[1:].argmax() + 1 if regions.any() else -1
    breast = torch.from_numpy(ndimage.binary_fill_holes(regions == largest)).to(image.device)
    grown = breast.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    return grown[: image.shape[0], : image.shape[1]]  # (H, W)


def _target(rows: list[Row], reduce: int) -> dict[str, Tensor]:
    """Target of a film whose every lesion has a circle, in pixels of the reduced film."""
    lesions = [row for row in rows if row.circle]
    circles = torch.tensor([row.circle for row in lesions], dtype=torch.float32).reshape(-1, 3)
    x, y, radius = circles.unbind(1)
    row = SIDE - y  # Info.txt counts y from the bottom
    boxes = torch.stack((x - radius, row - radius, x + radius, row + radius), dim=1).clamp(0, SIDE)  # (N, 4)
    labels = torch.tensor([2 if row.severity == "M" else 1 for row in lesions], dtype=torch.int64)
    kinds = torch.tensor([KINDS.index(row.kind) for row in lesions], dtype=torch.int64)
    worst = labels.max() if len(lesions) else torch.tensor(0)
    return {"boxes": boxes / reduce, "labels": labels, "kinds": kinds, "image_label": worst}


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

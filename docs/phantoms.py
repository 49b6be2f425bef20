"""Makes docs/phantoms.png, the picture at the top of the README: six phantom films of six patients."""

from pathlib import Path

from PIL import Image

from labkit.datasets.phantoms import BENIGN, MALIGNANT, mammograms
from labkit.plotting import show_images, use_style

WANTED = [(BENIGN,), (MALIGNANT,), (BENIGN, MALIGNANT)] * 2
WORDS = {BENIGN: "benign", MALIGNANT: "malignant"}


def six_films(films) -> list[int]:
    """The first film with each of the wanted lesions, no patient twice."""
    chosen: list[int] = []
    for wanted in WANTED:
        known = {int(films.patients[row]) for row in chosen}
        chosen.append(
            next(
                row
                for row, target in enumerate(films.targets)
                if tuple(sorted(target["labels"].tolist())) == wanted and int(films.patients[row]) not in known
            )
        )
    return chosen


def main() -> None:
    use_style()
    films = mammograms(400, seed=0)
    rows = six_films(films)
    assert len({int(films.patients[row]) for row in rows}) == 6
    titles = [" + ".join(WORDS[label] for label in sorted(films.targets[row]["labels"].tolist())) for row in rows]
    figure = show_images(
        films.images[rows], titles=titles, boxes=[films.targets[row]["boxes"] for row in rows], columns=6
    )
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=100, bbox_inches="tight")
    # greys and one green: a table of colours, a third of the bytes
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()

"""The soft organs of the torso phantom, the great vessels, and the trees in the lungs.

World     x to the patient's left, y to the back, z to the head, mm of the standard body (`body`).
Labels    the numbers of ORGANS; what has no number there (stomach, bowel, vessels) has 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from labkit.datasets.phantoms.body import FAT, LUNG, SPINE, Patient
from labkit.datasets.phantoms.solids import Canvas, Place, Point, Solid, ellipsoid, inset, rods, within
from labkit.datasets.phantoms.trees import grow_tree

ORGANS = (
    "background",
    "right lung",
    "left lung",
    "heart",
    "liver",
    "spleen",
    "right kidney",
    "left kidney",
    "pancreas",
    "bladder",
)
LABELS = {name: number for number, name in enumerate(ORGANS)}
LUNGS = (LABELS["right lung"], LABELS["left lung"])
GAS = -960.0
VESSEL_ENDS, AIRWAY_ENDS = 550, 70  # of each tree in each lung: vessels end as 2 mm ones, a centimetre apart
THINNEST_AIRWAY = 1.7  # mm, radius; thinner ones are not seen on CT
HILUM = (33.0, 4.0, 350.0)


def draw_organs(canvas: Canvas, patient: Patient) -> None:
    """The body from outside to inside, up to the bones and the trees of the lungs."""
    everywhere = np.full(3, -1e4), np.full(3, 1e4)
    canvas.lay(Solid(patient.body, *everywhere), FAT, 0)
    canvas.lay(Solid(patient.muscles, *everywhere), patient.hu["muscle"], 0)
    canvas.lay(Solid(patient.abdomen, *everywhere), FAT, 0)
    canvas.lay(Solid(patient.thorax, *everywhere), FAT + 20, 0)
    _bowel(canvas, patient)
    _stomach(canvas, patient)
    _liver_and_spleen(canvas, patient)
    _behind(canvas, patient)
    _pancreas(canvas, patient)
    _pelvis(canvas, patient)
    _chest(canvas, patient)
    _great_vessels(canvas, patient)


def _bowel(canvas: Canvas, patient: Patient) -> None:
    """Loops of small bowel in the middle, the large bowel around them, some gas in front."""
    loops, gas = (wave.on_grid(canvas.rigid) for wave in patient.bowel)
    where = canvas.window(np.array([-130.0, -110, -110]), np.array([130.0, 110, 200]), 0.0)
    if where is not None:
        _loops(canvas, patient, loops, gas, where)
    frame = [
        ([(-72, 10, -10), (-82, 8, 50), (-96, -4, 112)], 19),
        ([(-96, -4, 112), (-45, -48, 105), (20, -56, 92), (70, -46, 118), (98, -18, 160)], 17),
        ([(98, -18, 160), (106, 16, 110), (88, 14, 30), (72, 2, -20)], 14),
        ([(72, 2, -20), (44, 16, -46), (20, 34, -30), (6, 46, -70), (0, 48, -118)], 14),
    ]
    inside = patient.abdomen
    for points, radius in frame:
        tube = rods(points, [float(radius)] * len(points))
        canvas.lay_all([within(piece, inside) for piece in tube], patient.hu["bowel"], 0)
        for piece in tube:
            pocket = within(piece, inside, lambda place: -12 * np.sin(place.z / 17 + place.x / 23) - place.y / 12)
            canvas.lay(within(pocket, inset(piece, 4)), GAS)


def _loops(canvas: Canvas, patient: Patient, loops: ndarray, gas: ndarray, where: tuple[slice, ...]) -> None:
    """Small bowel where one field is high, gas in it where another is too."""

    def cut(part: ndarray) -> ndarray:
        return part[tuple(c if n > 1 else slice(None) for c, n in zip(where, part.shape, strict=True))]

    place = Place(*(cut(part) for part in canvas.bent))
    room = np.minimum(np.minimum(patient.abdomen(place) - 6, 14 - place.y), np.minimum(150 - place.z, place.z + 75))
    bowel = np.minimum(room, 9 * (loops[where] + 0.15))
    pocket = np.minimum(bowel - 3, np.minimum(9 * (gas[where] - 1.1), -18 - place.y))
    view = canvas.volume[where]
    for depth, hu in ((bowel, patient.hu["bowel"]), (pocket, GAS)):
        share = np.clip(depth * np.float32(0.5 / canvas.soft) + np.float32(0.5), 0, 1)
        view += share * (np.float32(hu) - view)


def _stomach(canvas: Canvas, patient: Patient) -> None:
    """A bent sack under the left dome, fluid with gas in front."""
    shift, size = patient.shifts["stomach"], patient.sizes["stomach"]
    points = np.array([(60, 0, 236), (52, -26, 192), (28, -40, 158), (-8, -38, 146), (-24, -22, 148)]) + shift
    for piece in rods(points, [r * size for r in (31, 28, 22, 16, 11)]):
        sack = within(piece, lambda place: patient.abdomen(place) - 2)
        canvas.lay(sack, patient.hu["muscle"], 0)
        canvas.lay(within(sack, inset(sack, 3)), patient.hu["stomach"], 0)
        canvas.lay(within(sack, inset(sack, 4), lambda place: -40 - place.y), GAS)


def _liver_and_spleen(canvas: Canvas, patient: Patient) -> None:
    """The liver fills the room under the right dome and reaches over the middle; the spleen lies left behind."""

    def room(place: Place) -> ndarray:
        return patient.abdomen(place) - 2

    shift, size = patient.shifts["liver"], patient.sizes["liver"]
    lobes = (
        ellipsoid(np.array([18, -40, 226]) + shift, np.array([56, 30, 34]) * size, turn=(0.0, 0.15, 0.2)),
        ellipsoid(np.array([-66, -6, 204]) + shift, np.array([80, 72, 92]) * size, turn=(0.0, -0.25, 0.0)),
    )
    for lobe in lobes:
        canvas.lay(within(lobe, room), patient.hu["liver"], LABELS["liver"])
    gallbladder = ellipsoid(np.array([-42, -36, 140]) + shift, (13, 13, 25), turn=(0.5, 0.0, 0.0))
    canvas.lay(within(gallbladder, room), 12.0, 0)
    middle = patient.at("spleen", (90, 26, 212))
    half = np.array([30.0, 50.0, 60.0]) * patient.sizes["spleen"]
    spleen = ellipsoid(middle, half, turn=(0.2, -0.2, 0.45))
    canvas.lay(within(spleen, room), patient.hu["spleen"], LABELS["spleen"])


def _behind(canvas: Canvas, patient: Patient) -> None:
    """What lies behind the belly: the crura, the muscles along the spine, the kidneys in their fat."""
    muscle = patient.hu["muscle"]
    spine = [(0, float(SPINE(z)) + 4, z) for z in (40, 100, 160, 220, 262)]
    canvas.lay_all(rods(spine, [26, 27, 28, 28, 26]), muscle, 0)
    for side in (-1, 1):
        psoas = [
            (side * 32, 40, 176),
            (side * 40, 36, 100),
            (side * 48, 26, 30),
            (side * 62, 4, -20),
            (side * 84, -24, -95),
        ]
        canvas.lay_all(rods(psoas, [7, 14, 20, 19, 16]), muscle, 0)
        name = "left kidney" if side > 0 else "right kidney"
        middle, size = patient.at(name, (side * 66, 40, 152 if side > 0 else 138)), patient.sizes[name]
        turn = (0.12, side * -0.2, side * 0.5)  # upper ends together, the inner border to the front
        half = np.array([30.0, 25.0, 58.0]) * size

        def room(place: Place) -> ndarray:
            return patient.muscles(place) - 14

        canvas.lay(within(ellipsoid(middle, half + np.array([8, 9, 10]), turn=turn), room), FAT, 0)
        canvas.lay(within(ellipsoid(middle, half, turn=turn), room), patient.hu["kidneys"], LABELS[name])
        hilum = middle - (side * 19, 9, 0)
        canvas.lay(ellipsoid(hilum, np.array([15.0, 8.0, 24.0]) * size, turn=turn), FAT + 30, 0)


def _pancreas(canvas: Canvas, patient: Patient) -> None:
    """From the head right of the middle over the spine up to the spleen; fat around it, bowel beside it."""
    size = patient.sizes["pancreas"]
    points = np.array([(-26, 6, 118), (-24, 0, 136), (-4, -8, 148), (26, -8, 160), (54, 0, 178), (78, 8, 196)], float)
    points += patient.shifts["pancreas"] + np.linspace(0, 1, 6)[:, None] * patient.shifts["stomach"]
    radii = [size * r for r in (14, 18, 12, 12, 12, 11)]
    canvas.lay_all(rods(points, [r + 5 for r in radii]), FAT, 0)
    canvas.lay_all(rods(points, radii), patient.hu["pancreas"], LABELS["pancreas"])


def _pelvis(canvas: Canvas, patient: Patient) -> None:
    """The bladder low in front, an organ below it, the rectum is there already."""
    canvas.lay(ellipsoid((0, 4, -104), (24, 20, 20)), patient.hu["muscle"], 0)
    full = patient.bladder * patient.sizes["bladder"]
    middle = patient.at("bladder", (0, -26, -96 + 24 * full))
    half = np.array([37.0, 30.0, 29.0]) * full
    canvas.lay(ellipsoid(middle, half + 4), patient.hu["muscle"], 0)
    canvas.lay(ellipsoid(middle, half), patient.hu["bladder"], LABELS["bladder"])


def _chest(canvas: Canvas, patient: Patient) -> None:
    """Lungs, the heart in its fat, the gullet, the windpipe."""
    for side, label in zip((-1, 1), LUNGS, strict=True):
        canvas.lay(patient.lung(side), LUNG, label)
    canvas.lay(patient.heart(4.0), FAT, 0)
    heart = patient.heart()
    canvas.lay(heart, patient.hu["heart"], LABELS["heart"])
    middle = (heart.low + heart.high) / 2
    for shift, half in (((-18, -8, 4), (22, 20, 24)), ((18, 2, -3), (24, 16, 18)), ((-2, 20, 16), (24, 12, 14))):
        canvas.lay(ellipsoid(middle + shift, half, turn=(0.0, 0.35, -0.6)), patient.hu["blood"])
    gullet = [(2, 32, 500), (4, 31, 430), (6, 29, 380), (13, 27, 290), (30, 4, 244)]
    canvas.lay_all(rods(gullet, [8] * 5), patient.hu["muscle"], 0)
    carina = (0, 13, 388)
    pipes: list[tuple[list[Point], tuple[float, ...]]] = [
        ([(0, 18, 520), (0, 16, 440), carina], (9, 9, 9)),
        ([carina, (-HILUM[0], 8, 356)], (7, 6)),
        ([carina, (HILUM[0], 8, 356)], (7, 6)),
    ]
    for grow, hu in ((2.0, patient.hu["muscle"]), (0.0, GAS)):
        for points, radii in pipes:
            canvas.lay_all(rods(points, [r + grow for r in radii]), hu, 0, rigid=True)


def _great_vessels(canvas: Canvas, patient: Patient) -> None:
    """Aorta and its two branches, the hollow vein, the trunk of the lungs."""
    base = patient.domes[1] + 70
    aorta: list[list[Point]] = [
        [(-12, -22, base), (-16, -24, 385), (-6, -10, 408), (10, 14, 406), (20, 36, 384), (20, 36, 330), (13, 29, 262)],
        [(13, 29, 262), (8, 14, 200), (6, 8, 130), (5, 10, 56)],
    ]
    lungs_trunk: list[Point] = [(8, -36, base), (12, -16, 366), (36, 6, 360)]
    veins: list[list[Point]] = [
        [(-14, 12, 50), (-18, 8, 130), (-18, 8, 200), (-14, 2, 256), (-10, -8, 292)],
        [(-20, -14, base - 20), (-24, -16, 425)],
    ]
    tubes: list[tuple[Sequence[Point], float]] = [
        (aorta[0], 13.0),
        (aorta[1], 10.0),
        (lungs_trunk, 12.0),
        ([(12, -16, 366), (-34, 4, 354)], 11.0),
    ]
    tubes += [
        (veins[0], 11.0),
        (veins[1], 9.0),
        ([(-12, -8, 408), (-26, 8, 475)], 5.5),
        ([(6, 2, 408), (26, 12, 475)], 5.5),
    ]
    for side in (-1, 1):
        tubes.append(([(0, 10, 54), (side * 40, 12, -8), (side * 60, -8, -40), (side * 84, -38, -95)], 6.5))
    for points, radius in tubes:
        canvas.lay_all(rods(points, [radius] * len(points)), patient.hu["blood"], 0, rigid=True)


def fill_lungs(canvas: Canvas, patient: Patient, generator: np.random.Generator) -> ndarray:
    """(S, 8) the segments of the vessels that the grid holds, once vessels and airways are drawn in both lungs.

    Trees are those of the patient, whatever part of them the grid holds. Lung is denser where it is lower, at the back.
    """
    arteries, veins, airways = [], [], []
    for side in (-1, 1):
        root = np.array([side * HILUM[0], HILUM[1], HILUM[2]])
        arteries.append(_tree(patient, side, root, VESSEL_ENDS, 7.0, generator))
        veins.append(_tree(patient, side, root - np.array([0, 6, 26]), VESSEL_ENDS, 7.0, generator))
        airways.append(_tree(patient, side, root + np.array([0, 4, 6]), AIRWAY_ENDS, 5.5, generator))
    lungs = np.isin(canvas.labels, LUNGS)
    canvas.volume += lungs * (np.float32(0.3) * canvas.rigid.y)
    pipes = _seen(canvas, np.concatenate(airways))
    pipes = pipes[pipes[:, 6] > THINNEST_AIRWAY]
    walls = pipes + np.array([0, 0, 0, 0, 0, 0, 0.9, 0.9])
    vessels = _seen(canvas, np.concatenate(arteries + veins))
    for segments, hu in ((walls, -100.0), (pipes, GAS), (vessels, patient.hu["blood"])):
        canvas.volume += canvas.trace(segments) * lungs * (np.float32(hu) - canvas.volume)
    return vessels


def _tree(
    patient: Patient, side: int, root: ndarray, ends: int, radius: float, generator: np.random.Generator
) -> ndarray:
    """(S, 8) a tree of the right (-1) or the left (1) lung."""
    return grow_tree(root, _inside(patient, side, ends, generator), radius=radius, generator=generator)


def _inside(patient: Patient, side: int, count: int, generator: np.random.Generator) -> ndarray:
    """(count, 3) points of a lung, evenly spread, a little away from its wall."""
    lung = patient.lung(side)
    found = np.zeros((0, 3))
    while len(found) < count:
        points = generator.uniform(lung.low, lung.high, (4 * count, 3)).astype(np.float32)
        place = Place(*points.T)
        across, down = (Canvas.BEND_MM * wave.at(place) for wave in patient.bend)
        bent = Place(place.x + across, place.y + down, place.z)
        found = np.concatenate([found, points[lung.depth(bent) > 2.5]])
    return found[:count]


def _seen(canvas: Canvas, segments: ndarray) -> ndarray:
    """Those that the grid holds and that are not far thinner than its voxels."""
    margin = segments[:, 6:7] + canvas.voxel
    low = np.minimum(segments[:, :3], segments[:, 3:6]) - margin
    high = np.maximum(segments[:, :3], segments[:, 3:6]) + margin
    z, y, x = canvas.axes
    there = (high > [x[0], y[0], z[0]]).all(1) & (low < [x[-1], y[-1], z[-1]]).all(1)
    return segments[there & (segments[:, 6] > 0.3 * canvas.voxel)]

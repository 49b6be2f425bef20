"""An agent that moves a box onto an organ: the environment, its eleven moves, the reward, and the network.

    box -> the volume seen through it, 12 x 12 x 12 numbers -> network -> a value for each move -> the best -> next box

The walk starts at the box around the whole volume. At test time nobody knows the truth, so it ends when the box comes
back to where it has been: it swings around something, and the middle of that swing is the answer. Navarro et al., "Deep
Reinforcement Learning for Organ Localization in CT", MIDL 2020. Taught in notebook 17.

Boxes    (6,) or (N, 6) x1 y1 z1 x2 y2 z2 in voxels of the scan, ends exclusive. Volumes are (Z, Y, X).
State    a dict: `view` (2, 12, 12, 12) uint8, `place` (6,) float32, the box in shares of the volume, and `organ`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from labkit.datasets.phantoms.torso import LABELS, ORGANS, Scan
from labkit.detection.box_views import GRID, MARGINS, check_box, coarse_grey, near, overlap, view, whole
from labkit.detection.q_learning import play
from labkit.weights import load_weights

ACTIONS = (
    *("x -", "x +", "y -", "y +", "z -", "z +"),
    *("zoom in", "zoom out"),
    *("narrower x", "narrower y", "narrower z"),
)
ZOOM_IN, ZOOM_OUT, NARROW = 6, 7, 8
STEP = 0.1  # of a side: from the whole volume to a kidney in some 15 zooms, and walls found to a twentieth of a side
LEAST_SIDE = 2.0  # voxels: a smaller box is not made
GOOD_IOU = 0.85  # ends a walk in training
SAME = 1e-6  # of IoU: less than any move changes, more than float32 rounds
VISITS, MOST_STEPS = 3, 100  # to the same voxels: one return may be a slip, two are a swing
RANDOM_STARTS = 0.5  # of the walks in training begin near the organ, so that ends are practised as much as beginnings


@dataclass(frozen=True)
class Case:
    """An organ of a scan: one task for the agent."""

    volume: ndarray  # (Z / 2, Y / 2, X / 2) uint8, WINDOW in 0 to 255
    size: tuple[int, int, int]  # (Z, Y, X) of the scan
    spacing: tuple[float, float, float]  # (z, y, x) mm of the scan
    truth: Tensor  # (6,) float64
    organ: int  # a row of ORGANS
    scan: int  # which scan


def organ_cases(scans: Sequence[Scan], organs: Sequence[str] | None = None) -> list[Case]:
    """The tasks in these scans: each organ that the field of view shows whole, or over half of its height.

    Args:
        scans: of `torso_scans`.
        organs: names, each of which must be there; None takes what there is.

    Raises:
        ValueError: a name is unknown, no scan has the organ, or a box does not lie in its volume.

    Example:
        >>> from labkit.datasets.phantoms.torso import torso_scans
        >>> cases = organ_cases(torso_scans(2, shape=(16, 24, 32), spacing=(16, 12, 12)))
        >>> cases[0].volume.shape, ORGANS[cases[0].organ]
        ((8, 12, 16), 'right lung')
    """
    wanted = list(organs) if organs is not None else list(ORGANS[1:])
    unknown = [name for name in wanted if name not in LABELS or name == "background"]
    if unknown:
        raise ValueError(f"organs must be of {', '.join(ORGANS[1:])}, got {unknown[0]!r}; look for a slip of the pen")
    cases = []
    for number, scan in enumerate(scans):
        size = (scan.volume.shape[0], scan.volume.shape[1], scan.volume.shape[2])
        small = coarse_grey(scan.volume)
        for box, label in zip(scan.boxes.double(), scan.labels.tolist(), strict=True):
            check_box(box, size)
            if ORGANS[label] in wanted and _whole_enough(box, size):
                cases.append(Case(small, size, scan.spacing, box, label, number))
    missing = set(organs or ()) - {ORGANS[case.organ] for case in cases}
    if missing:
        raise ValueError(
            f"each organ must be in a scan, got no {sorted(missing)[0]} in {len(scans)} scans; take more scans, since "
            "the field of view is cut at random, or leave the organ out"
        )
    return cases


def apply_action(box: Tensor, action: int, volume_size: Sequence[int], *, step: float = STEP) -> Tensor:
    """(6,) the box after a move. Built from scratch in notebook 17.

    Moves 0 to 5 shift the box by a step of its own side along x, y or z, no further than the border. Zooming in, and
    making it narrower along one axis, leaves 1 - step of a side, on both sides of the middle; zooming out divides by
    1 - step, so that it undoes a zoom, and what would leave the volume is cut off. A box too small to shrink stays.

    Args:
        box: (6,) voxels.
        action: a row of ACTIONS.
        volume_size: (Z, Y, X).
        step: share of a side.

    Example:
        >>> box = torch.tensor([10.0, 10.0, 10.0, 30.0, 20.0, 20.0])
        >>> apply_action(box, ACTIONS.index("x +"), (64, 96, 128))
        tensor([12., 10., 10., 32., 20., 20.])
        >>> apply_action(box, ACTIONS.index("zoom in"), (64, 96, 128))
        tensor([11.0000, 10.5000, 10.5000, 29.0000, 19.5000, 19.5000])
    """
    limit = box.new_tensor([float(side) for side in reversed(volume_size)])
    low, high = box[:3], box[3:]
    side = high - low
    if action < ZOOM_IN:
        axis, forward = divmod(action, 2)
        shift = torch.zeros_like(side)
        shift[axis] = step * side[axis] * (1 if forward else -1)
        shift = torch.maximum(torch.minimum(shift, limit - high), -low)
        return torch.cat([low + shift, high + shift])
    factor = torch.ones_like(side)
    factor[slice(None) if action < NARROW else action - NARROW] = 1 / (1 - step) if action == ZOOM_OUT else 1 - step
    change = side * (factor - 1) / 2  # of each wall, outwards
    if (change < 0).any() and (side * factor)[factor < 1].min() < LEAST_SIDE:
        return box.clone()
    return torch.cat([(low - change).clamp(min=0), torch.minimum(high + change, limit)])


def overlap_reward(box: Tensor, next_box: Tensor, truth: Tensor) -> float:
    """1 where the move has made the IoU with the truth larger, -1 where smaller, 0 where it is the same.

    Only the sign: near the organ a good move gains little, and should be worth as much as one from far away. The sign
    of a rounding error would be noise: a box that slides while the organ stays inside has the same IoU, not quite the
    same number.

    Example:
        >>> truth = torch.tensor([0.0, 0, 0, 4, 4, 4])
        >>> overlap_reward(truth + 2, truth + 1, truth), overlap_reward(truth, truth + 1, truth)
        (1.0, -1.0)
    """
    change = overlap(next_box, truth) - overlap(box, truth)
    return float((change > SAME) - (change < -SAME))


class OrganBoxEnv(gymnasium.Env):
    """A walk of a box through a scan towards an organ.

    It ends, in training, where the IoU is above 0.85, and is stopped (`truncated`) when the box is at the same voxels
    for the third time, or after 100 steps.

    Example:
        >>> from labkit.datasets.phantoms.torso import torso_scans
        >>> scans = torso_scans(2, shape=(16, 24, 32), spacing=(16, 12, 12))
        >>> environment = OrganBoxEnv(organ_cases(scans), training=False)
        >>> state, info = environment.reset(seed=0, options={"case": 0})
        >>> state["view"].shape, info["box"].tolist()
        ((2, 12, 12, 12), [0.0, 0.0, 0.0, 32.0, 24.0, 16.0])
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (as gymnasium has it)

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        training: bool = True,
        step: float = STEP,
        move: Callable[..., Tensor] = apply_action,
        reward: Callable[[Tensor, Tensor, Tensor], float] = overlap_reward,
    ):
        """Set it up.

        Args:
            cases: of `organ_cases`; a walk without options draws an organ, and one of its cases.
            training: whether a good box ends the walk, and whether some walks begin near the organ.
            step: of a move, in sides of the box.
            move: as `apply_action`.
            reward: as `overlap_reward`.
        """
        if not cases:
            raise ValueError("cases must be one or more, got none; see organ_cases")
        self.cases, self.training, self.moving, self.rewarding, self.step_share = cases, training, move, reward, step
        organs = sorted({case.organ for case in cases})
        self.by_organ = [[i for i, case in enumerate(cases) if case.organ == organ] for organ in organs]
        self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))
        shape = (len(MARGINS), GRID, GRID, GRID)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "organ": gymnasium.spaces.Discrete(len(ORGANS)),
                "place": gymnasium.spaces.Box(0.0, 1.0, (6,), np.float32),
                "view": gymnasium.spaces.Box(0, 255, shape, np.uint8),
            }
        )
        self.going = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Begin a walk.

        Args:
            seed: of the cases that are drawn.
            options: `case`, a row of the cases; `box`, (6,), where to begin instead of the whole volume.

        Raises:
            ValueError: there is no such case, or the box does not lie in its volume.
        """
        super().reset(seed=seed)
        given = options or {}
        rows = self.by_organ[int(self.np_random.integers(len(self.by_organ)))]  # so that rare organs are not rare here
        row = int(given.get("case", rows[int(self.np_random.integers(len(rows)))]))
        if not 0 <= row < len(self.cases):
            raise ValueError(f"case must be 0 to {len(self.cases) - 1}, got {row}; see the cases")
        self.case = self.cases[row]
        if given.get("box") is not None:
            self.box = torch.as_tensor(given["box"], dtype=torch.float64)
            check_box(self.box, self.case.size)
        elif self.training and self.np_random.random() < RANDOM_STARTS:
            self.box = near(self.case.truth, self.case.size, self.np_random)
        else:
            self.box = whole(self.case.size)
        self.path, self.visits, self.going = [self.box], {_voxels(self.box): [0]}, True
        self.iou = overlap(self.box, self.case.truth)
        return self._state(), self._info()

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        """Move.

        Raises:
            ValueError: the action is not one of the eleven, or the walk is over.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 to {len(ACTIONS) - 1}, got {action!r}; ACTIONS names them")
        if not self.going:
            raise ValueError("the walk must be going on, got a step after its end or before its start; call reset()")
        before, self.box = self.box, self.moving(self.box, int(action), self.case.size, step=self.step_share)
        reward = float(self.rewarding(before, self.box, self.case.truth))
        self.iou = overlap(self.box, self.case.truth)
        self.visits.setdefault(_voxels(self.box), []).append(len(self.path))
        self.path.append(self.box)
        ended = self.training and self.iou > GOOD_IOU
        stopped = not ended and (len(self.visits[_voxels(self.box)]) >= VISITS or len(self.path) > MOST_STEPS)
        self.going = not (ended or stopped)
        return self._state(), reward, ended, stopped, self._info()

    def answer(self) -> Tensor:
        """(6,) the mean of the boxes since the last time at this place; while it has not been here, the box."""
        times = self.visits[_voxels(self.box)]
        return torch.stack(self.path[times[-2] + 1 :]).mean(dim=0) if len(times) > 1 else self.box

    def _state(self) -> dict:
        return {
            "organ": np.int64(self.case.organ),
            "place": (self.box / whole(self.case.size)[3:].repeat(2)).numpy().astype(np.float32),
            "view": np.stack([view(self.case.volume, self.box, margin=margin) for margin in MARGINS]),
        }

    def _info(self) -> dict:
        box, answer = (each.numpy().copy() for each in (self.box, self.answer()))
        return {"iou": self.iou, "organ": self.case.organ, "box": box, "answer": answer}


class OrganNetwork(nn.Module):
    """Values of the eleven moves, (B, 11), from a batch of states: one network, with an output for each organ.

    Example:
        >>> state = {"organ": torch.tensor([4]), "place": torch.rand(1, 6), "view": torch.zeros(1, 2, 12, 12, 12)}
        >>> OrganNetwork()(state).shape
        torch.Size([1, 11])
    """

    def __init__(self, width: int = 24, hidden: int = 256):
        """Build it: two convolutions over the views, two layers over all.

        Args:
            width: channels of the first convolution; the second has twice as many.
            hidden: units of the layer before the last.
        """
        super().__init__()
        self.seen = nn.Sequential(
            nn.Conv3d(len(MARGINS), width, 4, stride=2), nn.ReLU(),  # (B, width, 5, 5, 5)
            nn.Conv3d(width, 2 * width, 3), nn.ReLU(), nn.Flatten(),  # (B, 2 width * 27)
        )  # fmt: skip
        self.hidden = nn.Linear(2 * width * 27 + 6 + len(ORGANS), hidden)
        self.values = nn.Linear(hidden, len(ORGANS) * len(ACTIONS))

    def forward(self, states: Mapping[str, Tensor]) -> Tensor:
        """(B, 11)."""
        organ, features = states["organ"].long(), self.seen(states["view"].float() / 255 - 0.5)
        kind, place = nn.functional.one_hot(organ, len(ORGANS)).float(), 2 * states["place"].float() - 1
        hidden = self.hidden(torch.cat([features, place, kind], dim=1)).relu()
        values = self.values(hidden).view(len(organ), len(ORGANS), len(ACTIONS))
        return values[torch.arange(len(organ), device=organ.device), organ]


def organ_agent() -> OrganNetwork:
    """The trained network of notebook 17, in eval mode.

    Example:
        >>> organ_agent().training
        False
    """
    network = OrganNetwork()
    load_weights(network, "organ_agent")
    return network.eval()


def answers(
    network: nn.Module | None,
    cases: Sequence[Case],
    *,
    starts: Mapping[int, Tensor] | Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """(N, 6) the answer of a walk for each case.

    Args:
        network: values of moves; without one each move is random.
        cases: N of them.
        starts: a box for each organ, `mean_boxes` for one, where walks begin; without it the whole volume.
        seed: of random moves.

    Example:
        >>> answers(None, []).shape
        torch.Size([0, 6])
    """
    boxes = [None if starts is None else starts[case.organ] for case in cases]
    options: list[dict | None] = [{"case": row, "box": box} for row, box in enumerate(boxes)]
    walks = play([OrganBoxEnv(cases, training=False) for _ in cases], network, options=options, seed=seed)
    return torch.stack([torch.from_numpy(walk[-1]["answer"]) for walk in walks]) if walks else torch.zeros(0, 6)


def mean_boxes(cases: Sequence[Case]) -> dict[int, Tensor]:
    """For each organ the mean of its boxes: what one says who has not looked at the scan.

    Raises:
        ValueError: the scans are not all of one size, so that their boxes have no mean.
    """
    if len({case.size for case in cases}) > 1:
        raise ValueError("scans must be of one size for a mean box, got several; take boxes of one kind of scan")
    return {
        o: torch.stack([c.truth for c in cases if c.organ == o]).mean(dim=0) for o in sorted({c.organ for c in cases})
    }


def _whole_enough(box: Tensor, size: Sequence[int]) -> bool:
    """The field of view does not cut it above or below, or it fills at least half of the field's height."""
    low, high = float(box[2]), float(box[5])
    return (low > 0 and high < size[0]) or high - low >= size[0] / 2


def _voxels(box: Tensor) -> tuple[int, ...]:
    return tuple(round(edge) for edge in box.tolist())

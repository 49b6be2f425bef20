"""An agent that finds one slice: it stands on a row of a projected scan, sees what is around, and goes up or down.

    state     the image seen from the agent's row, at two scales: 32 x 32 pixels of 3 mm around the middle of its row,
              and 32 x 32 of 12 mm: nearly all of the image, coarse
    actions   0 up, 1 down: one row
    reward    +1 where the step brought it nearer to the slice, else -1
    answer    it walks greedily until it turns round: from there on it would go to and fro for ever. Of the two rows
              the one whose best value is lower: the nearer to the goal, the less there is left to win

Laousy et al., "Deep reinforcement learning for L3 slice localization in sarcopenia assessment", MLMI 2021. Two scales
are from Alansary et al., "Evaluating reinforcement learning agents for anatomical landmark detection", 2019. The
learning is `q_learning`; the duelling network is Wang et al.'s, ICML 2016. Taught in notebook 18.

Shapes   n images of H rows and W columns, B agents. A row counts from the top, and a height is mm below the first row.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from labkit.detection.row_heatmaps import RowUNet
from labkit.detection.slice_views import SIDE, Views
from labkit.weights import load_weights

UP, DOWN = 0, 1
MOVES = {UP: -1, DOWN: 1}  # rows; row 0 is the top


def move(rows: Tensor, actions: Tensor, targets: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Where B agents stand after a step, and what it earned them.

    Args:
        rows: (B,) int64.
        actions: (B,) int64, 0 up or 1 down.
        targets: (B,) the row that is looked for; it may lie between two rows.
        height: rows of the image; who stands at its edge stays.

    Returns:
        (B,) int64 rows and (B,) float32 rewards: 1 where the agent is nearer than before, else -1.

    Example:
        >>> move(torch.tensor([5, 5, 0]), torch.tensor([0, 1, 0]), torch.tensor([3.0, 3.0, 3.0]), 9)
        (tensor([4, 6, 0]), tensor([ 1., -1., -1.]))
    """
    after = (rows + 2 * actions - 1).clamp(0, height - 1)
    nearer = (after - targets).abs() < (rows - targets).abs()
    return after, torch.where(nearer, 1.0, -1.0)


def walk_end(path: Sequence[int], values: Sequence[float]) -> tuple[bool, int]:
    """Whether a greedy walk has come to its end, and the row it has come to.

    What the agent does depends on the row alone. So a row that it comes back to after two steps, or does not leave, is
    the end of all news.

    Args:
        path: the rows, the first where it began.
        values: the largest value of an action at each.

    Returns:
        At its end, of the last two rows the one with the lower value; before, the last row.

    Example:
        >>> walk_end([7, 6, 5], [3.0, 2.0, 0.5]), walk_end([7, 6, 5, 6], [3.0, 2.0, 0.5, 2.0])
        ((False, 5), (True, 5))
    """
    if len(path) > 1 and path[-1] == path[-2]:
        return True, path[-1]
    if len(path) > 2 and path[-1] == path[-3]:
        return True, path[-1] if values[-1] < values[-2] else path[-2]
    return False, path[-1]


class SliceEnv(gymnasium.Env):
    """Images with a slice to be found: an episode is a walk on one of them. It passes gymnasium's `check_env`.

    `reset(options={"image": 3, "row": 50})` begins there; without options image and row are drawn. The info of each
    step holds `image`, `row`, `height` in mm, and `error`, the distance to the slice in mm.

    Example:
        >>> env = SliceEnv(torch.rand(3, 60, 128), torch.tensor([30.0, 60.0, 93.0]), spacing=3.0)
        >>> state, info = env.reset(seed=0, options={"image": 2, "row": 30})
        >>> state.shape, info["error"], env.step(1)[1:3]
        ((2, 32, 32), 3.0, (1.0, False))
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium asks for it in this form

    def __init__(
        self,
        images: Tensor,
        heights: Tensor,
        *,
        spacing: float,
        steps: int = 40,
        stop_at_turn: bool = False,
        views: Views | None = None,
        rule: Callable = move,
    ):
        """Begin with nothing; the first `reset` begins a walk.

        Args:
            images: (n, H, W), 0 to 1.
            heights: (n,) mm from the first row down to the slice; each must lie in its image.
            spacing: mm from one row to the next.
            steps: after so many time is up (`truncated`).
            stop_at_turn: a walk ends where it turns round (`terminated`): for trained agents. One that explores
                turns all the time.
            views: of the same images, where another environment has them already.
            rule: as `move`, with the height in the last place.

        Raises:
            ValueError: the spacing is missing or not above 0, a slice is not in its image, or a shape is wrong.
        """
        check_spacing(spacing)
        check_heights(images, heights, spacing)
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, got {steps}; 40 reach over three vertebrae")
        self.views = Views(images) if views is None else views
        self.targets, self.spacing = (heights.double() / spacing).tolist(), float(spacing)
        self.steps, self.stop_at_turn, self.rule = steps, stop_at_turn, rule
        self.observation_space = gymnasium.spaces.Box(0, 255, (2, SIDE, SIDE), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        self.path: list[int] = []
        self.over = True

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict[str, Any]]:
        """The first state of a walk."""
        super().reset(seed=seed)
        wanted = options or {}
        self.image = int(wanted.get("image", self.np_random.integers(len(self.targets))))
        row = int(wanted.get("row", self.np_random.integers(self.views.rows)))
        if not (0 <= self.image < len(self.targets) and 0 <= row < self.views.rows):
            raise ValueError(
                f"a walk must begin on an image below {len(self.targets)} and a row below {self.views.rows}, got image "
                f"{self.image} and row {row}; both count from 0"
            )
        self.path, self.over = [row], False
        return self._state(), self._info()

    def step(self, action: Any) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:
        """One row up or down.

        Raises:
            ValueError: the action is neither 0 nor 1, or the walk has ended.
        """
        check_action(action)
        if self.over:
            raise ValueError("a walk must have begun and not ended, got a step outside of one; call reset() first")
        target = torch.tensor([self.targets[self.image]])
        rows, rewards = self.rule(torch.tensor(self.path[-1:]), torch.tensor([int(action)]), target, self.views.rows)
        after = int(rows[0])
        self.path.append(after)
        turned = self.stop_at_turn and self.path[-3:][0] == after
        stopped = len(self.path) > self.steps
        self.over = turned or stopped
        return self._state(), float(rewards[0]), turned, stopped, self._info()

    def _state(self) -> ndarray:
        return self.views.at([self.image], self.path[-1:])[0]

    def _info(self) -> dict[str, Any]:
        row = self.path[-1]
        return {
            "image": self.image,
            "row": row,
            "height": row * self.spacing,
            "error": abs(row - self.targets[self.image]) * self.spacing,
        }


def check_action(action: Any) -> None:
    """Raise the error that says which actions there are."""
    number = action.item() if isinstance(action, ndarray) and action.size == 1 else action
    if not isinstance(number, int | np.integer) or number not in MOVES:
        raise ValueError(f"action must be {UP} (up) or {DOWN} (down), got {action!r}; see env.action_space")


def check_spacing(spacing: Any) -> None:
    """Raise the error that says what is wrong with mm a row."""
    if isinstance(spacing, bool) or not isinstance(spacing, int | float | np.number) or not 0 < spacing < float("inf"):
        raise ValueError(
            f"spacing must be mm from one row to the next, above 0, got {spacing!r}; a scan's header has it, and an "
            "error in rows means nothing"
        )


def check_heights(images: Tensor, heights: Tensor, spacing: float) -> None:
    """Raise the error that says which image does not hold its slice."""
    if heights.shape != (len(images),):
        raise ValueError(
            f"heights must be (n,), one for {len(images)} images, got {tuple(heights.shape)}; give mm for each image"
        )
    last = (images.shape[1] - 1) * spacing
    outside = ~((heights >= 0) & (heights <= last))  # nan is outside, too
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"the slice must lie in its image, 0 to {last:g} mm, got {float(heights[first]):g} mm on image {first}; "
            "leave out images without L3 (nan), and give mm, not rows"
        )


def duelling_values(value: Tensor, advantage: Tensor) -> Tensor:
    """(B, A) what each action is worth: the state's value, and the advantage over the mean action.

    Args:
        value: (B, 1).
        advantage: (B, A).

    Example:
        >>> duelling_values(torch.tensor([[5.0]]), torch.tensor([[3.0, 1.0]]))
        tensor([[6., 4.]])
    """
    return value + advantage - advantage.mean(dim=1, keepdim=True)


class SliceNetwork(nn.Module):
    """(B, 2) values of up and down, of views (B, 2, 32, 32) uint8.

    Example:
        >>> SliceNetwork(duelling=True)(torch.zeros(3, 2, 32, 32, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """

    def __init__(self, *, duelling: bool = False, widths: tuple[int, int, int] = (16, 32, 32), hidden: int = 64):
        """Build it.

        Args:
            duelling: two streams, the value of the state and the advantage of each action, in place of one.
            widths: channels of the three convolutions; each halves the size.
            hidden: numbers before the last layer, of all streams together.
        """
        super().__init__()
        sizes = (2, *widths)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        cells = widths[-1] * (SIDE // 8) ** 2
        streams = {"value": 1, "advantage": len(MOVES)} if duelling else {"actions": len(MOVES)}
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(cells, hidden // len(streams)), nn.ReLU(), nn.Linear(hidden // len(streams), count)
                )
                for name, count in streams.items()
            }
        )

    def forward(self, views: Tensor) -> Tensor:
        """Values, in float32."""
        features = self.features(views.float() / 64 - 1)
        parts = {name: head(features) for name, head in self.heads.items()}
        return duelling_values(parts["value"], parts["advantage"]) if "value" in parts else parts["actions"]


class Walk(NamedTuple):
    """One walk of a trained agent."""

    path: list[int]  # rows, the first where it began
    values: list[tuple[float, float]]  # of up and of down, at each
    row: int  # the answer


@torch.no_grad()
def find_slices(network: nn.Module, images: Tensor, starts: Sequence[int] | Tensor, *, most: int = 400) -> list[Walk]:
    """A greedy walk on each image, side by side, until it turns round.

    Args:
        network: views -> (B, 2) values.
        images: (n, H, W), 0 to 1.
        starts: (n,) rows where the walks begin.
        most: steps; a greedy walk ends long before.
    """
    views, device = Views(images), next(network.parameters()).device
    walks = [Walk([int(row)], [], -1) for row in starts]
    going = list(range(len(walks)))
    for _ in range(most):
        seen = views.at(going, [walks[i].path[-1] for i in going])
        for i, (up, down) in zip(going, network(torch.from_numpy(seen).to(device)).tolist(), strict=True):
            walks[i].values.append((up, down))
        ends = {i: walk_end(walks[i].path, [max(pair) for pair in walks[i].values]) for i in going}
        for i in [i for i in going if ends[i][0]]:
            walks[i] = walks[i]._replace(row=ends[i][1])
        going = [i for i in going if not ends[i][0]]
        if not going:
            break
        for i in going:
            row = walks[i].path[-1] + MOVES[int(np.argmax(walks[i].values[-1]))]
            walks[i].path.append(min(max(row, 0), views.rows - 1))
    return [walk if walk.row >= 0 else walk._replace(row=walk.path[-1]) for walk in walks]


def shipped_networks() -> nn.ModuleDict:
    """Where the trained weights go: agents, duelling agents and U-Nets that saw 10 or 900 images."""
    return nn.ModuleDict(
        {
            f"{kind}_{count}": RowUNet() if kind == "unet" else SliceNetwork(duelling=kind == "duelling")
            for kind in ("agent", "duelling", "unet")
            for count in (10, 900)
        }
    )


def slice_networks() -> tuple[nn.ModuleDict, dict]:
    """The trained networks of notebook 18, in eval mode, and their card: the errors of every training in mm.

    Example:
        >>> networks, card = slice_networks()
        >>> sorted(networks)
        ['agent_10', 'agent_900', 'duelling_10', 'duelling_900', 'unet_10', 'unet_900']
    """
    networks = shipped_networks()
    card = load_weights(networks, "slice_agent")
    return networks.eval(), card

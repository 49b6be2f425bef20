"""Trained weights that come with the package: safetensors, each with a card of the figures it reached.

labkit/trained_weights/NAME.safetensors    the numbers
labkit/trained_weights/NAME.json           the card: SHA-256, seed, settings and held-out figures
data/weights/NAME.py                       the recipe, in the repository: run it, and it makes the other two again

The SHA-256 stands in the card, not in the file as in those that `labkit.files` seals: weights are published, other
programs read them too, and the card shows in the repository's history which numbers its figures were measured with.
"""

import hashlib
import json
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from labkit.files import user_path, write_whole

FOLDER = Path(__file__).parent / "trained_weights"  # package data: an installed package has them too


def load_weights(model: nn.Module, name: str, *, folder: Path = FOLDER) -> dict:
    """The card of the weights (seed, settings, figures), once they are in the model.

    Args:
        model: of the architecture that the recipe trained.
        name: the file's name without its ending.
        folder: where it lies.

    Raises:
        FileNotFoundError: there are no weights of that name; those there are are listed.
        ValueError: the file is torn or altered, holds NaN, or fits another model.

    Example:
        >>> from labkit.detection.localizer import LesionClassifier
        >>> card = load_weights(LesionClassifier(), "lesion_classifier")
        >>> card["seed"]
        0
    """
    folder = user_path(folder)
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"no weights called {name!r} in {folder}; there are: {there}")
    beside = path.with_suffix(".json")
    try:
        card = json.loads(beside.read_text(encoding="utf-8"))
        expected = card["sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{beside} must be the card of {path.name}, got none or a torn one ({type(error).__name__}); "
            "restore it with `git checkout`"
        ) from error
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path} has SHA-256 {digest}, expected {expected}; it is torn or altered: restore it with "
            f"`git checkout`, or make it again with `python data/weights/{name}.py`"
        )
    state = safetensors.torch.load(data)
    broken = _broken(state)
    if broken:
        raise ValueError(
            f"{path} must hold finite numbers, got NaN or infinity in {', '.join(broken[:3])}; make it again with "
            f"`python data/weights/{name}.py`"
        )
    own = model.state_dict()
    wrong = [k for k in own.keys() | state.keys() if k not in state or k not in own or own[k].shape != state[k].shape]
    if wrong:
        told = ", ".join(f"{key} {_shape(own, key)}, got {_shape(state, key)}" for key in sorted(wrong)[:3])
        raise ValueError(
            f"{path.name} does not fit {type(model).__name__}: expected {told}; build the model as "
            f"data/weights/{name}.py does"
        )
    model.load_state_dict(state)
    return card


def save_weights(model: nn.Module, name: str, *, folder: Path = FOLDER, **card) -> Path:
    """The path of the weights, written with their card.

    Args:
        model: trained.
        name: the files' name without ending.
        folder: where they go.
        card: what to remember: seed, settings, figures; anything JSON can hold.

    Raises:
        ValueError: a weight is NaN or infinite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(nn.Linear(2, 1), "line", folder=Path(folder), seed=0).name
        'line.safetensors'
    """
    path = user_path(folder) / f"{name}.safetensors"
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    broken = _broken(state)
    if broken:
        raise ValueError(f"weights must be finite, got NaN or infinity in {', '.join(broken[:3])}; train again")
    data = safetensors.torch.save(state)
    card = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **card}
    try:
        words = json.dumps(card, indent=2) + "\n"  # before anything is written: old weights keep their old card
    except TypeError as error:
        raise ValueError(
            f"card must hold what JSON can, got another ({error}); write float(...) or .tolist()"
        ) from None
    write_whole(path, data)
    write_whole(path.with_suffix(".json"), words.encode())
    return path


def _shape(state: dict[str, Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "none"


def _broken(state: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return sorted(key for key, value in state.items() if not value.isfinite().all())

"""Features kept on disk between two steps of R-CNN: which network made them, of which boxes, is written in the file.

A network that looks at each proposal takes so long that R-CNN writes its features down once and trains everything
after it from the file. A file of another network, or of other proposals, would give silent nonsense: it is refused.

File   sealed (`labkit.files`): `features` (N, F) float16, `counts` (B,) int64 rows of each image; its notes are the
       names of the network and the proposals.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.files import read_sealed, user_path, write_sealed


def network_name(network: nn.Module) -> str:
    """A name that changes with any layer or weight: the classes, and the start of a SHA-256 of all it has learned.

    Example:
        >>> line = nn.Linear(2, 1)
        >>> before = network_name(line)
        >>> _ = nn.init.zeros_(line.weight)
        >>> before.split("-")[0], before == network_name(line)
        ('Linear', False)
    """
    parts = [type(part).__name__ for part in (network, getattr(network, "backbone", None)) if part is not None]
    learned = repr(network) + _digest(network.state_dict().values())
    return f"{' on '.join(parts)}-{hashlib.sha256(learned.encode()).hexdigest()[:12]}"


def save_features(path: Path, features: Sequence[Tensor], *, network: nn.Module, proposals: Sequence[Tensor]) -> int:
    """Bytes of the file, once it is written: under another name first, so a reader never meets half of it.

    Args:
        path: of the file.
        features: B tensors (R, F), one row a proposal; stored in half precision.
        network: that made them.
        proposals: B tensors (R, 4) they were made of; what else changes features, such as the context of a crop, goes
            into the file's name.

    Raises:
        ValueError: features and proposals do not belong together, or a feature is no finite number in half precision.

    Example:
        >>> import tempfile
        >>> features, proposals = [torch.zeros(2, 3)], [torch.ones(2, 4)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "features.safetensors"
        ...     save_features(path, features, network=nn.Linear(1, 3), proposals=proposals) > 12
        True
    """
    counts = [len(rows) for rows in proposals]
    if [len(rows) for rows in features] != counts:
        raise ValueError(
            f"expected one row of features a proposal, got {[len(rows) for rows in features][:5]} for {counts[:5]} "
            "proposals; compute both from the same list"
        )
    tensors = {"features": torch.cat(list(features)).half().cpu().contiguous(), "counts": torch.tensor(counts)}
    if not tensors["features"].isfinite().all():
        raise ValueError("features must be finite and below 65504, got others; look for a NaN in the network's weights")
    path = user_path(path)
    return write_sealed(path, tensors, network=network_name(network), proposals=_digest(proposals))


def load_features(path: Path, *, network: nn.Module, proposals: Sequence[Tensor]) -> list[Tensor]:
    """B tensors (R, F) float32, as `save_features` stored them.

    Args:
        path: of the file.
        network: whose features are wanted.
        proposals: B tensors (R, 4) whose features are wanted.

    Raises:
        ValueError: the file holds features of another network or of other proposals, or is damaged.
        FileNotFoundError: there is none.
    """
    path = user_path(path)
    try:
        tensors, notes = read_sealed(path, tensors=True)
    except ValueError as error:
        raise ValueError(
            f"{path} must be a file of save_features, whole and unaltered, got another: {error}; compute the features "
            "anew, or name the right one"
        ) from None
    if not {"network", "proposals"} <= notes.keys() or tensors.keys() != {"features", "counts"}:
        raise ValueError(f"{path} must be a file of save_features, got another; name the right one")
    for what, wanted in (("network", network_name(network)), ("proposals", _digest(proposals))):
        if notes[what] != wanted:
            raise ValueError(
                f"{path} holds features of another {what}: expected {wanted}, got {notes[what]}; compute them anew"
            )
    return list(tensors["features"].float().split(tensors["counts"].tolist()))


def _digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over shapes and values."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()

"""Where a piece of code comes from: an installed library, labkit itself, or the user."""

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def origin(module: str | None) -> str | None:
    """A module's name with its library's version; None where it is labkit's or the user's own.

    Example:
        >>> origin("json.decoder") == f"json.decoder {platform.python_version()}", origin("__main__")
        (True, None)
    """
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return f"{module} {platform.python_version()}"
    version = _version(top)
    return f"{module} {version}" if version else None


@functools.cache
def _version(library: str) -> str | None:
    """The version of an installed library; None where the name is of something else."""
    path = getattr(sys.modules.get(library), "__file__", None)
    installed = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    if library in (PACKAGE.name, "__main__") or not path or not path.startswith(installed):
        return None
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(library)
    return getattr(sys.modules[library], "__version__", None)


def is_own(module: str | None) -> bool:
    """Whether it is one of labkit's modules."""
    return (module or "").partition(".")[0] == PACKAGE.name


@functools.cache
def own_source() -> str:
    """SHA-256 of all of labkit's source."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def full_name(value) -> str:
    """Module and name of a function or class."""
    owner = getattr(value, "__objclass__", value)
    return f"{getattr(owner, '__module__', None)}.{getattr(value, '__qualname__', repr(value))}"

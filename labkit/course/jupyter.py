"""JupyterLab, opened on the copies of the notebooks; on this machine only, and its token stays on."""

import importlib.util
import os
import sys
from pathlib import Path

from labkit import NOTEBOOKS
from labkit.course import copies
from labkit.files import user_path
from labkit.waiting import quiet_environment


def lab(folder: str | Path, *, browser: bool = True, port: int | None = None) -> int:
    """Bring the student's copies up to date and open JupyterLab on them; returns when it ends.

    Args:
        folder: the student's own folder.
        browser: open a browser too.
        port: the port to listen on; by default the first free one from 8888.

    Returns:
        The exit status of JupyterLab.
    """
    _require_jupyterlab()
    for sentence in copies.update_copies(folder):
        print(sentence)
    return _open(user_path(folder), browser=browser, port=port)


def demo(*, browser: bool = True, port: int | None = None) -> int:
    """Open JupyterLab on the solved notebooks; returns when it ends.

    They are copies in demo/, with the rule of the student's: what an instructor wrote there stays.
    """
    _require_jupyterlab()
    folder = copies.ROOT / "demo"
    for sentence in copies.update_copies(folder, solved=True):
        print(sentence)
    return _open(folder, browser=browser, port=port)


def _require_jupyterlab() -> None:
    """Refuse to go on where JupyterLab is missing, or has no place for what it keeps.

    Raises:
        ValueError: it is not, or has none; told before anything is written.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError('JupyterLab is not installed here; run pip install -e ".[lab]" in the project')
    from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

    places = {"RUNTIME": jupyter_runtime_dir, "DATA": jupyter_data_dir, "CONFIG": jupyter_config_dir}
    for name, find in places.items():
        try:
            place = find()
            os.makedirs(place, exist_ok=True)
            usable = os.access(place, os.W_OK)
        except (OSError, RuntimeError):
            usable = False
        if not usable:
            raise ValueError(
                f"JupyterLab must be able to write in the home folder {Path.home()}, and cannot; set HOME "
                f"(or JUPYTER_{name}_DIR) to a folder you can write to"
            )


def _open(folder: Path, *, browser: bool, port: int | None) -> int:
    """JupyterLab on one folder."""
    from jupyterlab.labapp import LabApp

    folder = folder.resolve()
    # a terminal opened in JupyterLab finds the `labkit` and `python` of this environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.update(quiet_environment(os.environ) | {"PATH": path})  # kernels inherit it
    arguments = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    arguments.append(f"--LabApp.default_url=/lab/tree/{NOTEBOOKS[0]}.ipynb")
    if not browser:
        arguments.append("--no-browser")
    if port is not None:
        arguments.append(f"--ServerApp.port={port}")
    if getattr(os, "geteuid", lambda: 1)() == 0:  # usual in a container, and refused otherwise
        arguments.append("--allow-root")
    print(f"The notebooks are in {folder}. End with Ctrl-C here.", flush=True)
    return LabApp.launch_instance(arguments)

"""The command line: one subcommand for each thing a person wants to do."""

import argparse
import io
import sys
from pathlib import Path

from labkit import __version__
from labkit.course import copies, grading, jupyter

ABOUT = {
    "lab": (
        "your own copies of the notebooks, opened in JupyterLab",
        "Puts a copy of each notebook, exercises blank, into the folder and opens JupyterLab on it. What you wrote "
        "there is never overwritten: a newer version of a notebook lands beside yours, as NAME.new.ipynb.",
    ),
    "demo": (
        "the solved notebooks, opened in JupyterLab",
        "The same with the solved notebooks, in the folder demo/; notes you made there stay.",
    ),
    "copies": (
        "the notebooks with blank exercises, put into a folder",
        "Makes the copies and starts nothing: for JupyterHub, VS Code, Binder, Moodle. Run again, it adds what is "
        "missing and puts newer versions beside; nothing in the folder is overwritten.",
    ),
    "release": (
        "the notebooks as nbgrader's assignments",
        "Writes nbgrader's course folder: source/ with hidden tests, for teachers, and release/, to give out. Points: "
        'one for each exercise. Needs nbgrader: pip install "labkit[grade]".',
    ),
    "grade": (
        "run and grade what students handed in",
        "Runs every notebook in DIR/submitted/STUDENT/NAME/NAME.ipynb with the hidden tests of a released folder, says "
        "its points, and writes them into DIR/grades.csv. A notebook takes as long as it took the student.",
    ),
    "doctor": (
        "this machine, and what is wrong with it if anything",
        "Prints what the lab finds on this machine and what is wrong, each with its cure. The exit "
        "status is 1 if anything is.",
    ),
    "data": ("the real data sets: list them, get one", "labkit data --help says more."),
}


def parser() -> argparse.ArgumentParser:
    """What can be typed after `labkit`."""
    about = "The course lab kit: detection and denoising in medical imaging."
    top = argparse.ArgumentParser(
        prog="labkit", description=about, epilog="labkit COMMAND --help says more about a command."
    )
    top.add_argument("--version", action="version", version=__version__, help="say the version and end")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {
        name: commands.add_parser(name, help=short, description=long, add_help=name != "data")
        for name, (short, long) in ABOUT.items()
    }
    made["lab"].add_argument(
        "--folder", type=_folder, default=copies.ROOT / "work", help="for your copies (default: work in the project)"
    )
    made["copies"].add_argument("folder", type=_folder, metavar="DIR", help="the folder; made when missing")
    made["release"].add_argument(
        "folder", type=_folder, metavar="DIR", help="nbgrader's course folder; made when missing"
    )
    made["grade"].add_argument("folder", type=_folder, metavar="DIR", help="the folder that `labkit release` wrote")
    for name in ("lab", "demo"):
        made[name].add_argument("--no-browser", action="store_true", help="start the server, open no browser")
        made[name].add_argument("--port", type=_port, help="where it listens (default: the first free from 8888)")
    return top


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, got nothing between the quotes; write . for the one here")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"expected a folder, got {text}; there is no such home folder") from None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535, got {text}; leave it out, or take 8888")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Its exit status; 1 after an error, told in one sentence.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without × or ✓ shows ? in its place
            stream.reconfigure(errors="replace")
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if rest and options.command != "data":
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _run(options, rest) or 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlabkit: stopped; what was made stays, and the same command goes on", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, rest: list[str]) -> int | None:
    if options.command == "lab":
        return jupyter.lab(options.folder, browser=not options.no_browser, port=options.port)
    if options.command == "demo":
        return jupyter.demo(browser=not options.no_browser, port=options.port)
    if options.command == "copies":
        told = copies.update_copies(options.folder)
        print("\n".join(told) or f"nothing is newer; the notebooks are in {options.folder}")
        return 0
    if options.command in ("release", "grade"):
        print("\n".join(getattr(grading, options.command)(options.folder)))
        return 0
    if options.command == "doctor":
        from labkit.course import doctor  # loads torch, which takes seconds

        return doctor.main()
    from labkit.datasets.fetch import download

    return download.main(rest)

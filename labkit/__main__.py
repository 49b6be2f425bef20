"""The command `labkit`, also `python -m labkit`."""

import argparse
import sys
from pathlib import Path

from labkit import __version__, course


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand for each thing a person wants to do."""
    about = "The course lab kit: detection and denoising in medical imaging."
    top = argparse.ArgumentParser(prog="labkit", description=about)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab = commands.add_parser("lab", help="your own copies of the notebooks, opened in JupyterLab")
    lab.add_argument("--folder", type=Path, default=course.ROOT / "work", help="for your copies (default: work)")
    demo = commands.add_parser("demo", help="the solved notebooks, in copies made anew each time")
    for command in (lab, demo):
        command.add_argument("--no-browser", action="store_true", help="only start the server")
        command.add_argument("--port", type=int, help="where it listens (default: the first free from 8888)")
    commands.add_parser("doctor", help="this machine, and what is wrong with it if anything")
    commands.add_parser("data", add_help=False, help="the real data sets: list them, get one")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Its exit status; 1 after an error, told in one sentence.
    """
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if rest and options.command != "data":
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _run(options, rest) or 0
    except (ValueError, OSError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, rest: list[str]) -> int | None:
    if options.command == "lab":
        return course.lab(options.folder, browser=not options.no_browser, port=options.port)
    if options.command == "demo":
        return course.demo(browser=not options.no_browser, port=options.port)
    if options.command == "doctor":
        from labkit import doctor  # loads torch, which takes seconds

        return doctor.main()
    from labkit.datasets.fetch import download

    return download.main(rest)


if __name__ == "__main__":
    sys.exit(main())

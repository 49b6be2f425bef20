"""The command `labkit`, also `python -m labkit`."""

import sys

from labkit.course.command_line import main

if __name__ == "__main__":
    sys.exit(main())

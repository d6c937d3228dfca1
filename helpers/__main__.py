"""The command line: run the course headless, judge predictions, ask a database, export a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from helpers.cli.exit import FAILED, refuse
from helpers.databases.sandbox import NoWorker
from helpers.run.say import say

try:
    from helpers.cli import course, judging, using
except ImportError as error:  # a package is missing, or too old
    sys.exit(refuse(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 1 when a step failed, 2 when refused before starting."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (course, judging, using):
        module.add_commands(commands)
    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except NoWorker as error:
        say(error, error=True)
        return FAILED
    except KeyboardInterrupt:
        resumes = " Run the same command to resume." if "resumes" in options else ""
        say(f"\nStopped.{resumes}", error=True)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())

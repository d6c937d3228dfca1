"""Exit codes, and the checks that refuse a command before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.run.say import say

DONE, FAILED, REFUSED = 0, 1, 2
# Errors that users can correct: one line without a traceback. Any other error is a fault of ours, and shows one.
REFUSALS = (ValueError, RuntimeError, OSError)


def refuse(error: Exception) -> int:
    """Print why nothing was started, and return the exit code."""
    say(f"Refused: {error}", error=True)
    return REFUSED


def check_file(path: Path, option: str) -> None:
    """Check that a file can be written, before the work whose result it will hold.

    Raises:
        OSError: it is a folder, a device or a link to one, or its folder cannot be written.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{option} {path} is no regular file: name a file")
    check_place(path, option)


def check_place(path: Path, option: str) -> None:
    """Check that a new file or folder can be made.

    Raises:
        OSError: the nearest folder above it that exists cannot be written.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise NotADirectoryError(f"{option} {path} cannot be written: {parent} is no folder that can be written")

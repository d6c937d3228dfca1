"""Write files and folders whole or not at all, and hash them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# As the system, safetensors and torch say it; torch does not know why a write failed, and a full disk is the usual reason.
DISK_FULL = re.compile(r"No space left on device|os error 28|Disk quota exceeded|PytorchStreamWriter|file write failed")


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file under a temporary name and rename it, so that a killed program leaves no half file.

    Raises:
        OSError: the disk is full or the folder is read-only. Nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a results file is not
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder and rename it to `target` when the block ends. On an error the old `target` stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    old = folder.with_name(folder.name + ".old")
    try:
        yield folder
        folder.chmod(0o755)
        if target.exists():
            target.rename(old)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_writable(folder: Path, name: str) -> None:
    """Make a folder where it is missing, and check that files can be written into it.

    Args:
        name: what it is for, in the error.

    Raises:
        OSError: they cannot; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        raise type(error)(f"{name} {folder} cannot be written ({explain(error)})") from error


def explain(error: OSError) -> str:
    """Return the system's reason for an error, as text for people."""
    return "the disk is full" if is_disk_full(error) else error.strerror or str(error)


def is_disk_full(error: BaseException | str) -> bool:
    """Whether an error, or its text, says that the disk (or the user's share of it) is full."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or DISK_FULL.search(str(error)) is not None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

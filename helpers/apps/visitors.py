"""Keep the files of the demo's visitors: a folder each, removed when the page is closed or after an hour without a question."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

from helpers.databases import schema
from helpers.prompts import foreign_keys, joins, names, values

KEPT_SECONDS = 3600
LOOK_SECONDS = 60.0  # between two looks whose hour is over
DATABASES = 8  # uploads, after which what is remembered of databases is forgotten


class Visitors:
    """Folders of visitors under one folder. Several threads may share it.

    A thread removes the folders whose hour is over, and ends when the parent folder is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._uploads = 0
        folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._watch, daemon=True).start()

    def see(self, visitor: str) -> None:
        """Note that a visitor is there."""
        with self._lock:
            if visitor in self._seen:
                self._seen[visitor] = time.monotonic()

    def take(self, visitor: str, file: Path) -> Path:
        """Move an uploaded file into an empty folder of the visitor's, and return its new path. An earlier upload of his goes.

        Raises:
            FileNotFoundError: it has gone: another visitor has just taken a file of the same content.
        """
        self.leave(visitor)
        folder = self._of(visitor)
        with self._lock:
            self._seen[visitor] = time.monotonic()
            self._uploads += 1
            if self._uploads % DATABASES == 0:
                forget()
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(file, folder / file.name))

    def leave(self, visitor: str) -> None:
        """Remove a visitor's files, and what is remembered of his databases."""
        with self._lock:
            if self._seen.pop(visitor, None) is not None:
                forget()
        shutil.rmtree(self._of(visitor), ignore_errors=True)

    def expire(self) -> None:
        """Remove the files of visitors whose hour is over."""
        end = time.monotonic() - KEPT_SECONDS
        with self._lock:
            late = [visitor for visitor, seen in self._seen.items() if seen < end]
            known = set(map(self._of, self._seen))
        for visitor in late:
            self.leave(visitor)
        for folder in self.folder.glob("*"):  # of a visitor who left while his file was being read
            with contextlib.suppress(OSError):
                if folder not in known and folder.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _of(self, visitor: str) -> Path:
        return self.folder / hashlib.sha256(visitor.encode()).hexdigest()[:16]  # a browser may call itself ../..

    def _watch(self) -> None:
        while os.path.isdir(self.folder):
            self.expire()
            time.sleep(LOOK_SECONDS)


def forget() -> None:
    """Let go of what is remembered of databases: an index of values may take hundreds of megabytes."""
    for function in (schema._read, values._value_index, foreign_keys._with_inferred_keys, names.name_map, joins.links):
        function.cache_clear()

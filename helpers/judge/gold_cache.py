"""Keep results of gold queries between runs: they cost half of a judgement, and change only with the database."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import threading
from pathlib import Path

from helpers.databases.reading import NotRead, reading
from helpers.databases.sandbox import MIB, Result, from_json
from helpers.databases.schema import one_line
from helpers.run import machine
from helpers.run.files import file_sha256

# Queries whose result changes though the database does not. A date function may return the current time (`date()`,
# `strftime(format)`, a cell that holds 'now'), unless its argument is a literal.
CHANGING = re.compile(
    r"\b(now|localtime|subsec|subsecond|random|randomblob|current_date|current_time|current_timestamp)\b"
    r"|\b(date|time|datetime|julianday|unixepoch)\b[\"'`\]]?\s*\((?!\s*'[^']*'\s*(,\s*'[^']*'\s*)*\))"
    r"|\bstrftime\b[\"'`\]]?\s*\((?!\s*'[^']*'\s*(,\s*'[^']*'\s*)+\)|\s*'[^']*'\s*,\s*date\s*\(\s*'[^']*'\s*\)\s*\))"
    r"|\btimediff\b",
    re.IGNORECASE,
)
VIEWS = "SELECT CAST(sql AS TEXT) FROM sqlite_master WHERE sql LIKE '%VIEW%'"  # whatever type a file claims
SECONDS = 3.0  # to read the views of a database
State = tuple[int, ...]
LARGEST = MIB  # characters of one result; gold that returns more is run again


class GoldCache:
    """A store of results by the content of the database, the query and SQLite's version; use it in a `with` block.

    Several threads may share it.

    Where the course's cache folder cannot be written it stays empty, and queries run each time.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[Path, State], str] = {}
        self._views: dict[tuple[Path, State], list[str] | None] = {}
        self._asked: dict[tuple[Path, str], State] = {}  # what a file was when a query on it was looked for
        self._store: sqlite3.Connection | None = None
        self._lock = threading.Lock()  # from Python 3.12 on, threads that run one statement at once can read each other's rows
        with contextlib.suppress(OSError, RuntimeError, sqlite3.Error):  # RuntimeError: no home folder
            folder = machine.cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            store = sqlite3.connect(folder / "gold_results.sqlite", check_same_thread=False, timeout=1, isolation_level=None)
            store.execute("PRAGMA journal_mode = WAL")
            store.execute("PRAGMA synchronous = 0")  # each result is written at once, and no lock is held between two
            store.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result TEXT) WITHOUT ROWID")
            self._store = store

    def __enter__(self) -> GoldCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. Every result given to it is written already."""
        if self._store is not None:
            self._store.close()

    def get(self, database: Path, sql: str) -> Result | None:
        """Return the stored result, if there is one."""
        store = self._store
        if store is None:
            return None
        try:
            self._asked[database, sql] = state = state_of(database)
            key = self._key(database, state, sql)
            with self._lock:
                found = store.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
            return from_json(found[0]) if found else None
        except (sqlite3.Error, ValueError, TypeError, KeyError):  # a damaged store: the query is run
            return None

    def put(self, database: Path, sql: str, result: Result) -> None:
        """Store a result, if the query ran, the result is not too large, and the file is what it was when `get` looked for it."""
        store = self._store
        if store is None or not result.ok:
            return
        state = state_of(database)
        if (
            self._asked.pop((database, sql), state) != state
            or len(result.rows) * len(result.columns) > LARGEST // 4
            or self._changes(database, state, sql)
        ):
            return
        text = result.as_json()
        if len(text) <= LARGEST:
            try:
                key = self._key(database, state, sql)
                with self._lock:
                    store.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, text))
            except sqlite3.Error:  # full, or locked for a second by a program that hangs: no other result shall wait as long
                self._store = None

    def _changes(self, database: Path, state: State, sql: str) -> bool:
        """Whether a query, or a view of its database, asks for the time or for chance."""
        if (database, state) not in self._views:
            try:
                with reading(database, SECONDS) as reader:
                    self._views[database, state] = [text for (text,) in reader.rows(VIEWS, of_schema=True)]
            except NotRead:
                self._views[database, state] = None
        views = self._views[database, state]
        return views is None or any(CHANGING.search(one_line(text)) for text in (sql, *views))

    def _key(self, database: Path, state: State, sql: str) -> str:
        if (database, state) not in self._hashes:
            self._hashes[database, state] = file_sha256(database)
        parts = [self._hashes[database, state], sqlite3.sqlite_version, sql]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def state_of(database: Path) -> State:
    """Return what changes when a file is written or replaced."""
    found = os.stat(database)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

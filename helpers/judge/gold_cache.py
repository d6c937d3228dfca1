"""Keep results of gold queries between runs: they cost half of a judgement, and change only with the database."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import sqlite3
import threading
from pathlib import Path

from helpers.databases.sandbox import MIB, Result
from helpers.databases.schema import one_line, open_readonly
from helpers.run import machine
from helpers.run.files import file_sha256

# Queries whose result changes though the database does not
CHANGING = re.compile(
    r"\b(now|localtime|subsec|subsecond|current_date|current_time|current_timestamp|random|randomblob)\b"
    r"|\b(date|time|datetime|julianday|unixepoch)\s*\(\s*\)"
    r"|\bstrftime\s*\((\s*'[^']*'\s*|[^,]*?)\)",  # a format alone means now
    re.IGNORECASE,
)
LARGEST = MIB  # characters of one result; gold that returns more is run again


class GoldCache:
    """A store of results by the content of the database, the query and SQLite's version; use it in a `with` block.

    Several threads may share it.

    Where the course's cache folder cannot be written it stays empty, and queries run each time.
    """

    def __init__(self) -> None:
        self._hashes: dict[Path, str] = {}
        self._views: dict[Path, list[str]] = {}
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
            key = self._key(database, sql)
            with self._lock:
                found = store.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
            return _result(found[0]) if found else None
        except (sqlite3.Error, ValueError, TypeError, KeyError):  # a damaged store: the query is run
            return None

    def put(self, database: Path, sql: str, result: Result) -> None:
        """Store a result, if the query ran and the result is not too large."""
        store = self._store
        if (
            store is None
            or not result.ok
            or self._changes(database, sql)
            or len(result.rows) * len(result.columns) > LARGEST // 4
        ):
            return
        # not dataclasses.asdict: it copies every cell
        text = json.dumps(vars(result), default=lambda value: {"base64": base64.b64encode(value).decode()})
        if len(text) <= LARGEST:
            try:
                key = self._key(database, sql)
                with self._lock:
                    store.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, text))
            except sqlite3.Error:  # full, or locked for a second by a program that hangs: no other result shall wait as long
                self._store = None

    def _changes(self, database: Path, sql: str) -> bool:
        """Whether a query, or a view of its database, asks for the time or for chance."""
        if database not in self._views:
            with open_readonly(database) as connection:
                self._views[database] = [
                    view for (view,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view'")
                ]
        return any(CHANGING.search(one_line(text)) for text in (sql, *self._views[database]))

    def _key(self, database: Path, sql: str) -> str:
        if database not in self._hashes:
            self._hashes[database] = file_sha256(database)
        parts = [self._hashes[database], sqlite3.sqlite_version, sql]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _result(text: str) -> Result:
    kept = json.loads(text, object_hook=lambda value: base64.b64decode(value["base64"]) if set(value) == {"base64"} else value)
    return Result(**kept | {"columns": tuple(kept["columns"]), "rows": tuple(tuple(row) for row in kept["rows"])})

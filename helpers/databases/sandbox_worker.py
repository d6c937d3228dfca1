"""The sandbox's worker: a process that reads queries as lines of JSON, runs each within limits, and writes its rows the same way.

It has the standard library alone. What it reads is hostile: the SQL, and the SQLite file.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.databases.sandbox import MIB, Limits, encoded

TOGETHER = 256 if sys.platform == "linux" else 1  # rows fetched before their bytes are counted: elsewhere nothing bounds them
LOOK_SECONDS = 0.5  # between two looks whether the parent still lives
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer"}
TABLES_OF_SQLITE = ("json_each", "json_tree")  # virtual tables that read their arguments alone
# EXPLAIN shows SQLite's plan, and no row of the database. SQLite skips white space, comments, semicolons and a BOM before it.
EXPLAIN = re.compile(r"(?>[\s;\ufeff]+|--[^\n]*|/\*.*?\*/)*+EXPLAIN\b", re.IGNORECASE | re.DOTALL)
# The first pattern that an error message matches names the outcome.
OUTCOMES = (
    (r"no such table|no such module", "no such table"),
    (r"no such column", "no such column"),
    (r"ambiguous column", "ambiguous column"),
    (r"no such function|wrong number of arguments", "no such function"),
    (r"interrupted", "timeout"),
    (
        r"not authorized|authorization denied|prohibited|readonly|not be modified|unsafe use|one statement at a time"
        r"|EXPLAIN|vtable constructor failed",
        "refused",
    ),
    (r"too big|out of memory|too large|too deep|too many|too complex|parser stack", "too large"),
    (r"not a database|image is malformed|malformed database|unable to open|disk I/O", "unreadable database"),
    (r"syntax error|incomplete input|unrecognized token|null character|misuse|surrogates", "syntax error"),
)
INTERRUPTED = ("timeout", "too large", "unreadable database", "error")  # outcomes that a query may have only once it runs


def serve() -> None:
    """Read the limits, greet, then answer each query until the input ends or the parent dies."""
    end_with_parent()
    limits = Limits(**json.loads(sys.stdin.buffer.readline()))
    limit_memory(2 * limits.memory)
    _send("ready")
    connections = _Connections(limits)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while line := sys.stdin.buffer.readline():
            outcome = _answer(connections, json.loads(line))
            if outcome["outcome"] in INTERRUPTED:
                connections.close()  # whatever the query left behind goes with it
            _send(outcome)


def end_with_parent() -> None:
    """End this process once its parent has died: a query that runs reads no input, and would not notice."""

    def look(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, args=(os.getppid(),), daemon=True).start()


def limit_memory(size: int) -> None:
    """Bound the memory of this process, where the system can. `size` is in bytes of address space."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on Windows; macOS refuses it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _send(message: Any) -> None:
    text = json.dumps(message, ensure_ascii=False, default=encoded)
    sys.stdout.buffer.write(text.encode(errors="replace") + b"\n")
    sys.stdout.buffer.flush()


def _answer(connections: _Connections, message: dict[str, Any]) -> dict[str, Any]:
    """Run a query, send its rows, and return what is said of it at the end: a Result without rows."""
    begin, columns = time.monotonic(), ()
    try:
        if EXPLAIN.match(message["sql"]):
            raise sqlite3.Error("EXPLAIN shows a plan and no rows")
        connection = connections.get(message["database"], own=message["own"])
        deadline = begin + message["seconds"]
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 1_000)
        with contextlib.closing(connection.execute(message["sql"])) as cursor:
            outcome, error = "ok", None
            if cursor.description is None:  # a comment, a semicolon
                outcome, error = "empty", "there is no query"
            else:
                columns = tuple(column[0] for column in cursor.description)
                for rows in _fetch(cursor, connections.limits):
                    _send(rows)
    except (sqlite3.Error, sqlite3.Warning, OSError, ValueError, MemoryError, OverflowError) as found:
        error = str(found) or "out of memory"
        outcome = next((name for pattern, name in OUTCOMES if re.search(pattern, error)), "error")
        error = f"stopped after {message['seconds']:g} s" if outcome == "timeout" else error
        columns = ()
    return {"outcome": outcome, "columns": columns, "error": error, "seconds": time.monotonic() - begin}


class _Connections:
    """The connection to the last database asked, reused for as long as the file stays the same."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._opened: tuple | None = None
        self._connection: sqlite3.Connection | None = None

    def get(self, database: str, *, own: bool) -> sqlite3.Connection:
        state = os.stat(database)
        wanted = (database, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, own)
        if self._connection is None or wanted != self._opened:
            self.close()
            self._connection, self._opened = connect(database, self.limits, own=own), wanted
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(database: str | Path, limits: Limits, *, own: bool = False) -> sqlite3.Connection:
    """Open a connection that can read one SQLite file and do nothing else, within all `limits` but the deadline.

    Args:
        own: the SQL is this project's, and needs no authorizer, which would keep it from a table's columns and keys.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    # immutable: no lock, no journal, no -wal beside it is even looked at, so nothing can be written
    uri = Path(database).resolve().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
    for pragma in ("query_only = 1", "trusted_schema = 0", "temp_store = memory", "cell_size_check = 1"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA hard_heap_limit = {limits.memory}")
    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, limits.bytes),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, limits.bytes),  # of the file's own statements: queries have been measured
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(limit, value)
    if own:
        return connection
    # Opening a virtual table asks for rights that no query has, so those of the file are opened before queries are watched.
    names = connection.execute("SELECT CAST(name AS TEXT) FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'").fetchall()
    for name in (*TABLES_OF_SQLITE, *(name for (name,) in names)):
        with contextlib.suppress(sqlite3.Error):
            connection.execute('SELECT * FROM "{}" LIMIT 0'.format(name.replace('"', '""')))
    connection.set_authorizer(_allow_reads)
    return connection


def _allow_reads(action: int, first: str | None, name: str | None, *_rest: str | None) -> int:
    if (action, first, name) == (
        sqlite3.SQLITE_PRAGMA,
        "data_version",
        None,
    ):  # full-text search looks whether the file has changed
        return sqlite3.SQLITE_OK
    allowed = action in READS and not (action == sqlite3.SQLITE_FUNCTION and name in FORBIDDEN_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _fetch(cursor: sqlite3.Cursor, limits: Limits) -> Iterator[list[tuple]]:
    """Yield a query's rows, some at a time.

    Raises:
        ValueError: they are more than the limits allow.
    """
    count, size, together = 0, 0, 1
    while rows := cursor.fetchmany(together):
        found = sum(map(sys.getsizeof, rows)) + sum(map(sys.getsizeof, itertools.chain.from_iterable(rows)))
        count, size = count + len(rows), size + found
        if count > limits.rows or size > limits.bytes:
            raise ValueError(f"the result is too large: over {limits.rows:,} rows or {limits.bytes // MIB} MiB")
        yield rows
        together = min(2 * together, TOGETHER) if found < MIB else 1  # rows of long values come one by one

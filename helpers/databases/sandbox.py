"""Run SQL safely: untrusted queries run read-only, in a separate process, under enforced limits.

Three rings. SQLite itself: an immutable read-only file, an authorizer that lets nothing but reads through, a deadline checked
between its steps, bounds on lengths, depth and memory. A worker process: killed and replaced when one long step outlasts the
deadline, or when it dies. The row reader: stops at a number of rows and bytes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MIB = 1024**2
TOGETHER = 256 if sys.platform == "linux" else 1  # rows fetched before their bytes are counted: elsewhere nothing bounds them
NEVER = float("inf")
# A plain child, not multiprocessing: a fork of a process with CUDA or threads can hang, a spawn runs the caller's script again.
WORKER = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from helpers.databases import sandbox; sandbox.serve()"
)
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer"}
# The first pattern that an error message matches names the outcome.
OUTCOMES = (
    (r"no such table", "no such table"),
    (r"no such column", "no such column"),
    (r"ambiguous column", "ambiguous column"),
    (r"no such function|wrong number of arguments", "no such function"),
    (r"interrupted", "timeout"),
    (r"not authorized|authorization denied|prohibited|readonly|not be modified|unsafe use|one statement at a time", "refused"),
    (r"too big|out of memory|too large|too deep|too many|too complex|parser stack", "too large"),
    (r"not a database|image is malformed|malformed database|unable to open|disk I/O", "unreadable database"),
    (r"syntax error|incomplete input|unrecognized token|null character|misuse|surrogates", "syntax error"),
)
INTERRUPTED = ("timeout", "too large", "unreadable database", "error")  # outcomes that a query may have only once it runs


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one query may take. A result beyond `rows` or `bytes` counts as too large, not as a shorter one."""

    seconds: float = 5.0
    rows: int = 200_000
    bytes: int = 64 * MIB  # of the result as Python holds it, and of a single value
    memory: int = 384 * MIB  # bytes of SQLite's heap
    sql_characters: int = 100_000


@dataclass(frozen=True, kw_only=True)
class Result:
    """The rows of a query, or the outcome and error that stand in their place.

    Attributes:
        outcome: "ok", or one of the outcomes in OUTCOMES, "too large", "empty" or "error".
        columns: names as SQLite returns them.
        rows: tuples of None, int, float, str or bytes.
    """

    outcome: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple, ...] = ()
    error: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the query ran to its end."""
        return self.outcome == "ok"


class Sandbox:
    """A worker process that runs queries; use it in a `with` block.

    `execute` never raises for what a query does. A hostile query costs an outcome, and at most a new worker.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._worker: Worker | None = None
        self._stopped = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. Another query starts a new one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def stop(self) -> None:
        """End the query that runs in another thread, and let no other begin."""
        self._stopped = True
        worker = self._worker
        if worker is not None:
            worker.process.kill()

    def execute(self, database: Path, sql: str) -> Result:
        """Run one statement on an SQLite file and return all its rows.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        if not os.path.isfile(database):
            raise FileNotFoundError(f"There is no database {database}")
        if not sql.strip():
            return Result(outcome="empty", error="there is no SQL")
        if len(sql) > self.limits.sql_characters:
            return Result(
                outcome="too large", error=f"{len(sql):,} characters of SQL, {self.limits.sql_characters:,} are allowed"
            )
        if self._stopped:
            return Result(outcome="timeout", error="stopped")
        if self._worker is not None and self._worker.process.poll() is not None:
            self.close()  # it died after its last answer: no fault of this query
        worker = self._worker = self._worker or Worker(self.limits)
        if self._stopped:  # looked at after there is a worker: `stop` has killed it, or comes too early to see it
            self.close()
            return Result(outcome="timeout", error="stopped")
        begin = time.monotonic()
        # The worker's own deadline comes first, if it can; this one ends a step that SQLite cannot leave.
        worker.deadline = begin + 1.4 * self.limits.seconds
        try:
            return worker.ask((os.path.abspath(database), sql))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            self.close()
        except BaseException:
            self.close()  # a stop button: the answer that nobody waited for must not go to the next query
            raise
        finally:
            worker.deadline = NEVER
        seconds = time.monotonic() - begin
        if seconds >= 1.4 * self.limits.seconds:
            return Result(outcome="timeout", error=f"stopped after {self.limits.seconds:g} s", seconds=seconds)
        return Result(outcome="too large", error="the query ended its process, probably because memory ran out", seconds=seconds)


class Worker:
    """A process that runs queries within limits. It is ready when constructed: start-up does not count against a deadline.

    A thread kills it at its `deadline`. One thread serves all queries, because starting one takes longer than most queries do.
    """

    def __init__(self, limits: Limits) -> None:
        self.deadline = NEVER
        command = [sys.executable, "-I", "-S", "-c", WORKER]  # -I -S: no user code, no installed package, a quick start
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ask(limits)
        threading.Thread(target=self._watch, args=(limits.seconds / 20,), daemon=True).start()

    def ask(self, message: object) -> Any:
        """Send a message and wait for its answer."""
        send(self.process.stdin, message)
        return pickle.load(self.process.stdout)

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # an unsent query in the buffer of a dead worker
                pipe.close()

    def _watch(self, interval: float) -> None:
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                self.process.kill()
            time.sleep(interval)


# ---- within the worker


def send(pipe: IO[bytes], message: object) -> None:
    """Write one message to a pipe and flush it."""
    pickle.dump(message, pipe)
    pipe.flush()


def serve() -> None:
    """Run the worker: read its limits, greet, then answer each query with a result until its input ends."""
    limits = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on Windows; macOS refuses it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * limits.memory, 2 * limits.memory))
    send(sys.stdout.buffer, "ready")
    connections = _Connections(limits)
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            database, sql = pickle.load(sys.stdin.buffer)
            result = _execute(connections, database, sql)
            if result.outcome in INTERRUPTED:
                connections.close()  # whatever the query left behind goes with it
            send(sys.stdout.buffer, result)


class _Connections:
    """The connection to the last database asked, reused for as long as the file stays the same."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._opened: tuple | None = None
        self._connection: sqlite3.Connection | None = None

    def get(self, database: str) -> sqlite3.Connection:
        state = os.stat(database)
        wanted = (database, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if self._connection is None or wanted != self._opened:
            self.close()
            self._connection, self._opened = connect(database, self.limits), wanted
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _execute(connections: _Connections, database: str, sql: str) -> Result:
    limits, begin = connections.limits, time.monotonic()
    try:
        connection = connections.get(database)
        deadline = begin + limits.seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 1_000)
        with contextlib.closing(connection.execute(sql)) as cursor:
            if cursor.description is None:  # a comment, a semicolon
                return Result(outcome="empty", error="there is no query", seconds=time.monotonic() - begin)
            columns = tuple(column[0] for column in cursor.description)
            rows = _fetch(cursor, limits)
            return Result(outcome="ok", columns=columns, rows=rows, seconds=time.monotonic() - begin)
    except (sqlite3.Error, sqlite3.Warning, OSError, ValueError, MemoryError, OverflowError) as error:
        message = str(error) or "out of memory"
        outcome = next((name for pattern, name in OUTCOMES if re.search(pattern, message)), "error")
        message = f"stopped after {limits.seconds:g} s" if outcome == "timeout" else message
        return Result(outcome=outcome, error=message, seconds=time.monotonic() - begin)


def connect(database: str | Path, limits: Limits) -> sqlite3.Connection:
    """Open a connection that can read one SQLite file and do nothing else, within all `limits` but the deadline.

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
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4 * limits.sql_characters),  # characters take up to four bytes
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(limit, value)
    # Opening a virtual table asks for rights that no query has, so those of the file are opened before queries are watched.
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'").fetchall():
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


def _fetch(cursor: sqlite3.Cursor, limits: Limits) -> tuple[tuple, ...]:
    rows, size, together = [], 0, 1
    while some := cursor.fetchmany(together):
        rows += some
        found = sum(map(sys.getsizeof, some)) + sum(map(sys.getsizeof, itertools.chain.from_iterable(some)))
        size += found
        if len(rows) > limits.rows or size > limits.bytes:
            raise ValueError(f"the result is too large: over {limits.rows:,} rows or {limits.bytes // MIB} MiB")
        together = min(2 * together, TOGETHER) if found < MIB else 1  # rows of long values come one by one
    return tuple(rows)

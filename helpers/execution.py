"""SQL -> rows, safely: foreign queries run read-only, in a process of their own, under limits that really hold.

Three rings. SQLite itself: an immutable read-only file, an authorizer that lets nothing but reads through, a deadline
checked between its steps, bounds on lengths, depth and memory. A worker process: killed and replaced when one long step
outlasts the deadline, or when it dies. The reader of rows: stops at a number of rows and bytes.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MIB = 1024**2
# A plain child, not multiprocessing: a fork of a process with CUDA or threads can hang, a spawn runs the caller's script again.
WORKER = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); from helpers import execution; execution.serve()"
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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one query may take. A result beyond `rows` or `bytes` counts as too large, not as a shorter one."""

    seconds: float = 5.0
    rows: int = 200_000
    bytes: int = 64 * MIB  # of all values of the result, and of a single value
    memory: int = 384 * MIB  # of SQLite's heap
    sql_characters: int = 100_000


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a query gave: rows, or the outcome and error that stand in their place.

    Attributes:
        outcome: "ok", or one of the outcomes in OUTCOMES, "too large", "empty" or "error".
        columns: names as SQLite gives them.
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

    `execute` never raises for what a query does: a hostile one costs an outcome, and at most a new worker.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._worker: subprocess.Popen | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            for pipe in (self._worker.stdin, self._worker.stdout):
                with contextlib.suppress(OSError):  # an unsent query in the buffer of a dead worker
                    pipe.close()
            self._worker = None

    def execute(self, database: Path, sql: str) -> Result:
        """Run one statement on an SQLite file and give all its rows.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not Path(database).is_file():
            raise FileNotFoundError(f"There is no database {database}")
        if not sql.strip():
            return Result(outcome="empty", error="there is no SQL")
        if len(sql) > self.limits.sql_characters:
            return Result(
                outcome="too large", error=f"{len(sql):,} characters of SQL, {self.limits.sql_characters:,} are allowed"
            )
        if self._worker is not None and self._worker.poll() is not None:
            self.close()  # it died after its last answer: no fault of this query
        worker = self._worker = self._worker or start_worker(self.limits)
        begin = time.monotonic()
        # The worker's own deadline comes first, if it can; this one ends a step that SQLite cannot leave.
        alarm = threading.Timer(1.5 * self.limits.seconds, worker.kill)
        alarm.start()
        try:
            send(worker.stdin, (str(Path(database).resolve()), sql))
            return pickle.load(worker.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
        except BaseException:
            self.close()  # a stop button: the answer that nobody waited for must not go to the next query
            raise
        finally:
            alarm.cancel()
        seconds = time.monotonic() - begin
        if seconds >= 1.5 * self.limits.seconds:
            return Result(outcome="timeout", error=f"stopped after {self.limits.seconds:g} s", seconds=seconds)
        return Result(outcome="too large", error="the query ended its process, most likely for want of memory", seconds=seconds)


def start_worker(limits: Limits) -> subprocess.Popen:
    """A process that runs queries within limits, started and ready: start-up does not count against a deadline."""
    command = [sys.executable, "-I", "-S", "-c", WORKER]  # -I -S: no user code, no installed package, a quick start
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    send(worker.stdin, limits)
    pickle.load(worker.stdout)
    return worker


def send(pipe: IO[bytes], message: object) -> None:
    """Write one message to a pipe, now."""
    pickle.dump(message, pipe)
    pipe.flush()


def serve() -> None:
    """The worker's whole life: read its limits, greet, then give one result a query until its input ends."""
    limits = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on Windows; macOS refuses it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * limits.memory, 2 * limits.memory))
    send(sys.stdout.buffer, "ready")
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            database, sql = pickle.load(sys.stdin.buffer)
            send(sys.stdout.buffer, _execute(database, sql, limits))


def _execute(database: str, sql: str, limits: Limits) -> Result:
    begin = time.monotonic()
    try:
        with contextlib.closing(connect(database, limits)) as connection:
            cursor = connection.execute(sql)
            if cursor.description is None:  # a comment, a semicolon
                return Result(outcome="empty", error="there is no query", seconds=time.monotonic() - begin)
            columns = tuple(column[0] for column in cursor.description)
            rows = _fetch(cursor, limits)
            return Result(outcome="ok", columns=columns, rows=rows, seconds=time.monotonic() - begin)
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError, OverflowError) as error:
        message = str(error) or "out of memory"
        outcome = next((name for pattern, name in OUTCOMES if re.search(pattern, message)), "error")
        message = f"stopped after {limits.seconds:g} s" if outcome == "timeout" else message
        return Result(outcome=outcome, error=message, seconds=time.monotonic() - begin)


def connect(database: str | Path, limits: Limits) -> sqlite3.Connection:
    """A connection that can read one SQLite file and do nothing else. It is bounded by `limits` from now on.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    # immutable: no lock, no journal, no -wal beside it is even looked at, so nothing can be written
    uri = Path(database).resolve().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
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
    connection.set_authorizer(_allow_reads)
    deadline = time.monotonic() + limits.seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 1_000)
    return connection


def _allow_reads(action: int, _table: str | None, name: str | None, *_rest: str | None) -> int:
    allowed = action in READS and not (action == sqlite3.SQLITE_FUNCTION and name in FORBIDDEN_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _fetch(cursor: sqlite3.Cursor, limits: Limits) -> tuple[tuple, ...]:
    rows, size = [], 0
    for row in cursor:
        size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        if len(rows) >= limits.rows or size > limits.bytes:
            raise ValueError(f"the result is too large: over {limits.rows:,} rows or {limits.bytes // MIB} MiB")
        rows.append(row)
    return tuple(rows)

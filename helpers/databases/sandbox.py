"""Run SQL safely: untrusted queries run read-only, in a separate process, under enforced limits.

Three rings. SQLite itself: an immutable read-only file, an authorizer that lets nothing but reads through, a deadline checked
between its steps, bounds on lengths, depth and memory. A worker process (`sandbox_worker`): killed and replaced when one long
step outlasts the deadline, or when it dies. The row reader: stops at a number of rows and bytes.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1024**2
NEVER = float("inf")
START_SECONDS = 30.0  # for a worker to greet; a busy machine takes two
OVERTIME = (0.4, 1.0)  # of a deadline, and at most these seconds: then a worker that has not answered is killed
# A plain child, not multiprocessing: a fork of a process with CUDA or threads can hang, a spawn runs the caller's script again.
WORKER = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); "
    "from helpers.databases import sandbox_worker; sandbox_worker.serve()"
)


class NoWorker(OSError):
    """The process that runs queries cannot be started."""


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
        outcome: "ok", or one of `sandbox_worker.OUTCOMES`, "too large", "empty" or "error".
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

    def as_json(self) -> str:
        """Return the result as one line of JSON; bytes are objects with their base64."""
        # not dataclasses.asdict: it copies every cell
        return json.dumps(vars(self), default=encoded)


def from_json(text: str | bytes) -> Result:
    """Return the result that `as_json` wrote.

    Raises:
        ValueError, TypeError, KeyError: it is no such text.
    """
    kept = json.loads(text, object_hook=_decoded)
    return Result(**kept | {"columns": tuple(kept["columns"]), "rows": tuple(map(tuple, kept["rows"]))})


def encoded(value: bytes) -> dict[str, str]:
    """Return bytes as JSON can hold them."""
    return {"base64": base64.b64encode(value).decode()}


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if len(value) == 1 and "base64" in value else value


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

    def execute(self, database: Path, sql: str, *, seconds: float | None = None, own: bool = False) -> Result:
        """Run one statement on an SQLite file and return all its rows.

        Args:
            seconds: a limit for this query in place of the sandbox's.
            own: the SQL is this project's, and may ask for a table's columns and keys (`pragma_table_xinfo`).

        Raises:
            FileNotFoundError: the file does not exist.
            NoWorker: the process that runs queries cannot be started.
        """
        limit = self.limits.seconds if seconds is None else seconds
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
        # The worker's own deadline comes first, if it can; this one ends a step that SQLite cannot leave.
        begin, last = time.monotonic(), limit + min(OVERTIME[0] * limit, OVERTIME[1])
        worker.deadline = begin + last
        try:
            return worker.ask({"database": os.path.abspath(database), "sql": sql, "seconds": limit, "own": own})
        except (EOFError, OSError, ValueError, TypeError, KeyError):  # it died, or said nonsense
            self.close()
        except BaseException:
            self.close()  # a stop button: the answer that nobody waited for must not go to the next query
            raise
        finally:
            worker.deadline = NEVER
        taken = time.monotonic() - begin
        if taken >= last:
            return Result(outcome="timeout", error=f"stopped after {limit:g} s", seconds=taken)
        return Result(outcome="too large", error="the query ended its process, probably because memory ran out", seconds=taken)


class Worker:
    """A process that runs queries within limits. It is ready when constructed: start-up does not count against a deadline.

    A thread kills it at its `deadline`. One thread serves all queries, because starting one takes longer than most queries do.

    Raises:
        NoWorker: the process cannot be started, or does not greet in time.
    """

    def __init__(self, limits: Limits) -> None:
        self.deadline = time.monotonic() + START_SECONDS
        self.longest = 4 * limits.bytes + MIB  # of a line that is read; text that needs more is too large
        command = [sys.executable, "-I", "-S", "-c", WORKER]  # -I -S: no user code, no installed package, a quick start
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            self.process = subprocess.Popen(command, **pipes)
        except OSError as error:
            raise NoWorker(f"The process that runs queries cannot be started: {error}") from error
        threading.Thread(target=self._watch, args=(limits.seconds / 20,), daemon=True).start()
        try:
            self.send(dataclasses.asdict(limits))
            is_ready = self.receive() == "ready"
        except (EOFError, OSError, ValueError):
            is_ready = False
        except BaseException:
            self.end()
            raise
        if not is_ready:
            raise NoWorker(f"The process that runs queries cannot be started: {self._why_not()}")
        self.deadline = NEVER

    def ask(self, message: dict[str, Any]) -> Result:
        """Send a query and return its result, which comes as lines of JSON: some rows a line, last of all the outcome.

        Raises:
            EOFError: the process ended.
            ValueError, TypeError: it sent something else.
        """
        self.send(message)
        rows: list[tuple] = []
        while isinstance(received := self.receive(), list):
            rows += map(tuple, received)
        found = Result(**received | {"columns": tuple(received["columns"])})
        return dataclasses.replace(found, rows=tuple(rows)) if found.ok else found

    def send(self, message: dict[str, Any]) -> None:
        """Send one line of JSON."""
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Wait for one line of JSON and return what it says."""
        line = self.process.stdout.readline(self.longest)
        if not line:
            raise EOFError
        return json.loads(line, object_hook=_decoded)

    def _why_not(self) -> str:
        """End a process that did not greet, and return why."""
        is_late = time.monotonic() >= self.deadline
        self.process.kill()
        said = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        self.end()
        if is_late:
            return f"it was not ready after {START_SECONDS:g} s"
        return said[-1] if said else f"it ended with code {self.process.returncode}"

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):  # an unsent query in the buffer of a dead worker
                pipe.close()

    def _watch(self, interval: float) -> None:
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                self.process.kill()
            time.sleep(interval)

"""Read a user's database for our own purposes, its schema or its values, through the sandbox and within a time for all of it.

A file may be built to take for ever, or all memory: a generated column, a view, ten thousand tables.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from helpers.databases.sandbox import MIB, Limits, Sandbox

LIMITS = Limits(memory=256 * MIB)
IDLE = 1  # sandboxes that wait for the next file; starting one takes longer than reading most schemas

_idle: deque[Sandbox] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # two processes must not talk to one worker


class NotRead(ValueError):
    """A query of ours gave no rows; the message says why."""


class Reader:
    """Runs our own queries on one file, in `seconds` for all of them together. After that, each is refused at once."""

    def __init__(self, sandbox: Sandbox, database: Path, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._sandbox, self._database, self._seconds = sandbox, database, seconds

    def rows(self, sql: str, *, of_schema: bool = False, seconds: float | None = None) -> tuple[tuple, ...]:
        """Return the rows of one query.

        Args:
            of_schema: the query asks SQLite for tables, columns and keys (`pragma_table_xinfo`), and runs nothing of the file's.
            seconds: for this query, if that is less than what is left.

        Raises:
            NotRead: it did not run to its end.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise NotRead(f"stopped after {self._seconds:g} s")
        result = self._sandbox.execute(self._database, sql, seconds=min(left, seconds or left), own=of_schema)
        if not result.ok:
            raise NotRead(result.error or result.outcome)
        return result.rows


@contextlib.contextmanager
def reading(database: Path, seconds: float) -> Iterator[Reader]:
    """Yield a Reader of an SQLite file for `seconds`. Threads may do so side by side."""
    try:
        sandbox = _idle.pop()
    except IndexError:
        sandbox = Sandbox(LIMITS)
    try:
        yield Reader(sandbox, database, seconds)
    finally:
        if len(_idle) < IDLE:
            _idle.append(sandbox)
        else:
            sandbox.close()

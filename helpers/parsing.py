"""SQL text -> syntax tree, by sqlglot, in bounded time: predictions are parsed too, and a model may write anything."""

from __future__ import annotations

import functools
import logging

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite

SET_OPERATIONS = (exp.Union, exp.Intersect, exp.Except)
# What it cannot read is a verdict here, no news; and its warnings quote the text, whatever that is.
logging.getLogger("sqlglot").setLevel(logging.ERROR)
STEPS_BACK = 20_000  # of the parser in one query; real ones take a hundred at most


class _Endless(Exception):
    """A query on which sqlglot tries one reading after another: with each further JOIN without ON, or `date(`, twice as long."""


class _Dialect(SQLite):
    """SQLite's, with a parser that gives up where it would go back for ever."""

    class Parser(SQLite.Parser):
        steps_back = 0

        def _retreat(self, index: int) -> None:
            self.steps_back += max(0, self._index - index)
            if self.steps_back > STEPS_BACK:
                raise _Endless
            super()._retreat(index)


@functools.lru_cache(maxsize=16)
def parse(sql: str) -> exp.Expression | None:
    """The syntax tree of one SQLite query; None for what sqlglot cannot read, or what is nested deeper than Python's stack."""
    try:
        return sqlglot.parse_one(sql, dialect=_Dialect)
    except (sqlglot.errors.SqlglotError, RecursionError, _Endless):
        return None

"""Parse SQL into a syntax tree and write it back, by sqlglot, in bounded time: a model may write anything."""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.tokens import TokenType

OLDEST = "30.25"  # before it joins, JSON paths or hexadecimal numbers come back as others
if tuple(map(int, sqlglot.__version__.split(".")[:2])) < tuple(map(int, OLDEST.split("."))):
    raise ImportError(
        f"sqlglot {sqlglot.__version__} is too old: it turns some queries into others. This project needs {OLDEST} or newer:\n"
        "  pip install -r requirements-common.txt"
    )
SET_OPERATIONS = (exp.Union, exp.Intersect, exp.Except)
# What sqlglot cannot read is a verdict here, no news; and its warnings quote the text, whatever that is.
logging.getLogger("sqlglot").setLevel(logging.ERROR)
AFFINITIES = {"INT": "INTEGER", "CHAR|CLOB|TEXT": "TEXT", "BLOB": "BLOB", "REAL|FLOA|DOUB": "REAL"}
STEPS_BACK = 20_000  # of the parser in one query; real ones take a hundred at most


class _Endless(Exception):
    """A query on which sqlglot tries one reading after another: with each further JOIN without ON, or `date(`, twice as long."""


class _Dialect(SQLite):
    """SQLite with a parser that gives up where it would backtrack for ever, and a generator that writes as Spider does.

    Spider's official parser reads `!=`, and NOT behind what it negates.
    """

    class Parser(SQLite.Parser):
        # sqlglot makes MOD(5, 2), which is 1.0, into 5 % 2, which is 1
        FUNCTIONS: ClassVar = {name: made for name, made in SQLite.Parser.FUNCTIONS.items() if name != "MOD"}
        steps_back = 0

        def _parse_types(self, *arguments: object, **named: object) -> exp.Expression | None:
            """Parse a type and keep its words: sqlglot takes STRING for TEXT, SQLite for a number."""
            first = self._curr
            found = super()._parse_types(*arguments, **named)
            if isinstance(found, exp.DataType) and first:
                found.meta["words"] = self._find_sql(first, self._prev)
            return found

        def _retreat(self, index: int) -> None:
            self.steps_back += max(0, self._index - index)
            if self.steps_back > STEPS_BACK:
                raise _Endless
            super()._retreat(index)

    class Generator(SQLite.Generator):
        def cast_sql(self, expression: exp.Cast, safe_prefix: str | None = None) -> str:
            """Write a cast to its type's affinity, by which alone SQLite goes. sqlglot makes DATE(x) of CAST(x AS DATE)."""
            return f"CAST({self.sql(expression, 'this')} AS {affinity(expression.to.meta.get('words') or expression.to.sql())})"

        def neq_sql(self, expression: exp.NEQ) -> str:
            return self.binary(expression, "!=")

        def not_sql(self, expression: exp.Not) -> str:
            negated = expression.this
            operator = {exp.In: " IN ", exp.Like: " LIKE ", exp.Between: " BETWEEN "}.get(type(negated))
            text = self.sql(negated)
            left = self.sql(negated, "this") if operator else ""
            if operator and text.startswith(left + operator):
                return f"{left} NOT{text[len(left) :]}"
            return super().not_sql(expression)


@functools.lru_cache(maxsize=16)
def parse(sql: str) -> exp.Expression | None:
    """Return the syntax tree of one SQLite query; None where sqlglot cannot read it, or it nests deeper than Python's stack."""
    try:
        return sqlglot.parse_one(sql, dialect=_Dialect)
    except (sqlglot.errors.SqlglotError, RecursionError, _Endless):
        return None


@functools.cache
def _tokenizer() -> sqlglot.Tokenizer:
    return SQLite().tokenizer()


def is_plain_word(name: str) -> bool:
    """Whether sqlglot takes a name for a word without a meaning of its own. Its parser reads all such words as names."""
    try:
        tokens = _tokenizer().tokenize(name)
    except sqlglot.errors.SqlglotError:
        return False
    is_word = len(tokens) == 1 and tokens[0].token_type == TokenType.VAR and tokens[0].text == name
    return is_word and name.upper() not in SQLite.Parser.NO_PAREN_FUNCTION_PARSERS


def affinity(declared: str) -> str:
    """Return the affinity of a declared type. Source: SQLite, "Datatypes In SQLite", section 3.1."""
    return next((name for words, name in AFFINITIES.items() if re.search(words, declared, re.IGNORECASE)), "NUMERIC")


def write(tree: exp.Expression) -> str:
    """Return a tree as one line of SQL."""
    return tree.sql(dialect=_Dialect, comments=False)


def members(node: exp.Expression, kind: type[exp.Connector]) -> Iterable[exp.Expression]:
    """Yield the parts of a chain of one kind (`a AND b AND c`), in whatever parentheses."""
    node = node.unnest()
    if isinstance(node, kind):
        yield from members(node.left, kind)
        yield from members(node.right, kind)
    else:
        yield node


def sources(tree: exp.Select) -> list[exp.Expression]:
    """Return the parts of FROM: the first table, then each join, those in parentheses as well."""
    first = tree.args.get("from_") or tree.args.get("from")
    found: list[exp.Expression] = []
    for source in [*([first.this] if first else []), *(tree.args.get("joins") or [])]:
        inner = source.this if isinstance(source, exp.Join) else source
        if isinstance(inner, (exp.Subquery, exp.Paren)) and isinstance(inner.this, exp.Table):
            found += [inner.this, *(inner.this.args.get("joins") or []), *(inner.args.get("joins") or [])]
        else:
            found += [source, *(inner.args.get("joins") or [] if isinstance(inner, exp.Table) else [])]
    return found


def bag(items: Iterable[Hashable]) -> frozenset:
    """Return a multiset: each item with the number of times that it occurs."""
    return frozenset(Counter(items).items())

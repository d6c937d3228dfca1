"""What the official evaluator executes in place of a query, and its quick look at two results; faults included.

Source: taoyds/test-suite-sql-eval at e97acc5, exec_eval.py (Zhong et al., EMNLP 2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PIECES = re.compile(r"""'(?:''|[^'])*'|"(?:""|[^"])*"|`[^`]*`|--[^\n]*|/\*.*?\*/|\w+|.""", re.DOTALL)


def read_prediction(prediction: str) -> str:
    """Return a prediction as the official code reads it: cut at a tab, each "value" made "1", even in names (its issue 21)."""
    return prediction.strip().partition("\t")[0].replace("value", "1")


def join_operators(sql: str) -> str:
    """Join split comparison operators: to SQLite itself `> =` is an error."""
    return sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")


def first_statement(sql: str) -> str:
    """Return SQL up to and including the first semicolon."""
    pieces = PIECES.findall(sql)
    return "".join(pieces[: pieces.index(";") + 1] if ";" in pieces else pieces)


def without_distinct(sql: str) -> str:
    """Remove every DISTINCT."""
    return "".join(piece for piece in PIECES.findall(sql) if piece.lower() != "distinct")


def fix_current_year(sql: str) -> str:
    """Replace MySQL's current year by 2020."""
    return re.sub(r"YEAR\s*\(\s*CURDATE\s*\(\s*\)\s*\)\s*", "2020", sql, flags=re.IGNORECASE)


REWRITES = (join_operators, first_statement, without_distinct, fix_current_year)


def executed_sql(sql: str) -> str:
    """Return the SQL that the official code runs in place of this."""
    for rewrite in REWRITES:
        sql = rewrite(sql)
    return sql


def mixed_numbers_agree(expected: Iterable[tuple], found: Iterable[tuple], *, ordered: bool) -> bool:
    """Compare two results as the official quick look does: each row sorted by its values as text, so 10 and 10.0 may differ."""

    def rows(result: Iterable[tuple]) -> list[tuple]:
        return [tuple(sorted(row, key=lambda value: str(value) + str(type(value)))) for row in result]

    return rows(expected) == rows(found) if ordered else set(rows(expected)) == set(rows(found))

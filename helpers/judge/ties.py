"""Find gold whose result is left to chance: ORDER BY leaves tied rows in any order, and LIMIT may cut between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from sqlglot import exp

from helpers.databases.sandbox import Result
from helpers.databases.sql import parse


def is_tied(sql: str, expected: Result, run: Callable[[str], Result]) -> bool:
    """Whether ties in ORDER BY also allow another row order, or other last rows, than `expected`.

    The query is run once more with its ORDER BY keys as further columns and one row beyond LIMIT. Two consecutive rows with the
    same keys and different values are a tie. Queries with DISTINCT, OFFSET or a set operation are not examined, nor nested ones.

    Args:
        expected: the result of `sql`.
        run: executes SQL on the same database.

    Source: issue 25 of taoyds/test-suite-sql-eval: the order of ties depends on the platform.
    """
    tree = parse(sql)
    order = tree.args.get("order") if isinstance(tree, exp.Select) and not tree.args.get("distinct") else None
    if order is None or tree.args.get("offset") is not None:
        return False
    limit, meant = tree.args.get("limit"), [resolved_key(tree, key.this) for key in order.expressions]
    if None in meant or (limit is not None and not limit.expression.is_int) or (limit is None and len(expected.rows) < 2):
        return False
    widened = exp.Select()
    # Its parts are shared, and still belong to `tree`: writing SQL copies them once, which takes as long as parsing.
    widened.args = tree.args | {"expressions": [*tree.expressions, *meant]}
    if limit is not None:
        widened.args["limit"] = exp.Limit(expression=exp.Literal.number(int(limit.expression.name) + 1))
    found, keys = run(widened.sql(dialect="sqlite")), len(order.expressions)
    same = found.ok and [row[:-keys] for row in found.rows[: len(expected.rows)]] == list(expected.rows)
    return same and has_tie(found.rows, keys)


def resolved_key(tree: exp.Select, key: exp.Expression) -> exp.Expression | None:
    """Return the expression that an ORDER BY key means: what its alias names, or for `ORDER BY 2` the second selected one.

    Returns:
        None if a star hides which expression that is.
    """
    if isinstance(key, exp.Column) and not key.table:
        named = {one.alias.lower(): one.this for one in tree.expressions if isinstance(one, exp.Alias)}
        return named.get(key.name.lower(), key)
    if not (isinstance(key, exp.Literal) and key.is_int):
        return key
    if tree.is_star or not 1 <= int(key.name) <= len(tree.expressions):
        return None
    return tree.expressions[int(key.name) - 1].unalias()


def has_tie(rows: Sequence[tuple], keys: int) -> bool:
    """Whether two consecutive rows agree in their last `keys` values and not in the others."""
    return any(a[-keys:] == b[-keys:] and a != b for a, b in itertools.pairwise(rows))

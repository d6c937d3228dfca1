"""Rate how hard a query is: easy, medium, hard or extra, by the rules of Spider's official evaluator."""

from __future__ import annotations

import functools

from sqlglot import exp

from helpers.databases.sql import SET_OPERATIONS, parse

LEVELS = ("easy", "medium", "hard", "extra")


@functools.cache
def hardness(sql: str) -> str:
    """Return the official hardness of a gold query.

    Three counts decide: clauses (WHERE, GROUP BY, ORDER BY, LIMIT, joins, OR, LIKE), nested queries and set operations, and
    others (more than one aggregate, column, condition, grouping). As in the official code, they look at the outermost query
    only, and count a NOT in WHERE or HAVING, and an AND or OR in HAVING, as an aggregate.

    Returns:
        one of LEVELS; "extra" for SQL that sqlglot cannot parse, or that nests deeper than Python's stack.

    Source: `Evaluator.eval_hardness` in taoyds/test-suite-sql-eval, evaluation.py.
    """
    tree = parse(sql)
    try:
        return hardness_of_tree(tree) if tree else "extra"
    except RecursionError:
        return "extra"


def hardness_of_tree(tree: exp.Expression) -> str:
    """Return the hardness of a parsed query."""
    nested = 0
    while isinstance(tree, (*SET_OPERATIONS, exp.Subquery)):
        nested |= isinstance(tree, SET_OPERATIONS)
        tree = tree.this
    if not isinstance(tree, exp.Select):
        return "extra"
    joins = tree.args.get("joins") or []
    where, having = flat(tree.args.get("where")), flat(tree.args.get("having"))
    everywhere = where + having + [one for join in joins for one in flat(join.args.get("on"))]
    nested += sum(condition.find(exp.Select) is not None for _, condition in everywhere)
    return level(count_clauses(tree, joins, everywhere), count_others(tree, where, having), nested)


def level(clauses: int, others: int, nested: int) -> str:
    """Return the level that the three counts make."""
    if clauses <= 1 and others == 0 and nested == 0:
        return "easy"
    if nested == 0 and ((others <= 2 and clauses <= 1) or (clauses <= 2 and others < 2)):
        return "medium"
    if nested == 0 and ((others > 2 and clauses <= 2) or (2 < clauses <= 3 and others <= 2)):
        return "hard"
    if clauses <= 1 and others == 0 and nested <= 1:
        return "hard"
    return "extra"


def flat(clause: exp.Expression | None) -> list[tuple[str, exp.Expression]]:
    """Return the conditions of a WHERE, HAVING or ON in order, each with the word before it ('', 'and', 'or').

    Parentheses are removed. What follows an OR is lost after a comparison with a column (`a < b OR c < d`): the official parser
    reads on to the next AND there.
    """
    kept: list[tuple[str, exp.Expression]] = []
    for word, condition in conditions(clause):
        if not (word == "or" and kept and compares_columns(kept[-1][1])):
            kept.append((word, condition))
    return kept


def conditions(clause: exp.Expression | None, word: str = "") -> list[tuple[str, exp.Expression]]:
    """Return the conditions of a clause in the order written, each with the word before it."""
    if clause is None:
        return []
    if isinstance(clause, (exp.Where, exp.Having, exp.Paren)):
        return conditions(clause.this, word)
    if isinstance(clause, exp.Connector):
        return conditions(clause.left, word) + conditions(clause.right, "or" if isinstance(clause, exp.Or) else "and")
    return [(word, clause)]


def compares_columns(condition: exp.Expression) -> bool:
    """Whether the right side of a comparison is a column. A name in double quotes is a string here, as in SQLite."""
    right = condition.args.get("expression")
    return isinstance(right, exp.Column) and not right.this.args.get("quoted")


def count_clauses(tree: exp.Select, joins: list[exp.Join], everywhere: list[tuple[str, exp.Expression]]) -> int:
    """Count what the official code calls component 1."""
    present = sum(tree.args.get(name) is not None for name in ("where", "group", "order", "limit"))
    ors = sum(word == "or" for word, _ in everywhere)
    likes = sum(isinstance(without_not(condition), exp.Like) for _, condition in everywhere)
    return present + len(joins) + ors + likes


def count_others(tree: exp.Select, where: list[tuple[str, exp.Expression]], having: list[tuple[str, exp.Expression]]) -> int:
    """Count as the official code's `count_others` does."""
    order = tree.args.get("order")
    group = tree.args.get("group")
    aggregates = sum(isinstance(first_operand(column), exp.AggFunc) for column in tree.expressions)
    aggregates += sum(len(list(key.find_all(exp.AggFunc))) for key in (order.expressions if order else []))
    aggregates += sum(isinstance(condition, exp.Not) or bool(condition.args.get("negate")) for _, condition in where + having)
    aggregates += max(0, len(having) - 1)
    groups = len(group.expressions) if group else 0
    return (aggregates > 1) + (len(tree.expressions) > 1) + (len(where) > 1) + (groups > 1)


def first_operand(column: exp.Expression) -> exp.Expression:
    """Return the first operand of a selected expression: `max(a)` in `max(a) - min(a) AS spread`."""
    while isinstance(column, (exp.Alias, exp.Paren, exp.Binary)):
        column = column.this
    return column


def without_not(condition: exp.Expression) -> exp.Expression:
    """Return a condition without its negation: `x LIKE y` for `x NOT LIKE y`."""
    while isinstance(condition, (exp.Not, exp.Paren)):
        condition = condition.this
    return condition

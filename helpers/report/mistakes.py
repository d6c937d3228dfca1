"""Classify wrong predictions by the first part in which they differ from gold."""

from __future__ import annotations

from collections.abc import Hashable

from sqlglot import exp

from helpers.databases.sql import SET_OPERATIONS, bag, parse, write
from helpers.prompts.names import NameMap
from helpers.prompts.to_ir import NotExpressible, to_ir

UNREAD = "cannot be read"
ELSE = "written otherwise"


def kind(gold: str, predicted: str, names: NameMap) -> str:
    """Return the first of `parts` in which two queries differ, compared as IR, which has one form for aliases and joins.

    Returns:
        the name of the part; ELSE where no part differs; UNREAD where the IR cannot express one of them.
    """
    try:
        expected, found = (parts(parse(to_ir(sql, names))) for sql in (gold, predicted))
    except NotExpressible:
        return UNREAD
    return next((name for name, content in expected.items() if content != found[name]), ELSE)


def parts(tree: exp.Expression) -> dict[str, Hashable]:
    """Return the parts of a query in IR by name, the most decisive first."""
    selects = list(tree.find_all(exp.Select))
    nodes = list(tree.walk())
    conditions = [node.args[clause] for node in nodes for clause in ("where", "having", "on") if node.args.get(clause)]
    ordered = [node.args[clause] for node in nodes for clause in ("order", "limit") if node.args.get(clause)]
    return {
        "nesting and set operations": (bag(type(node).__name__ for node in tree.find_all(*SET_OPERATIONS)), len(selects)),
        "tables": bag(table.name for table in tree.find_all(exp.Table)),
        "columns selected": bag(text_of(item) for select in selects for item in select.expressions),
        "columns of conditions": bag(text_of(column) for part in conditions for column in part.find_all(exp.Column)),
        "grouping": bag(text_of(item) for select in selects for item in select.args.get("group") or []),
        "order and limit": tuple(text_of(part) for part in ordered),
        "comparisons": bag(without_values(part) for part in conditions),
        "values": bag(literal.name.lower() for literal in tree.find_all(exp.Literal)),
        "DISTINCT": len(list(tree.find_all(exp.Distinct))),
    }


def text_of(tree: exp.Expression) -> str:
    """Return a part of a query as text, in lower case."""
    return write(tree).lower()


def without_values(tree: exp.Expression) -> str:
    """Return a condition with a question mark for every value."""
    return text_of(tree.copy().transform(lambda node: exp.Placeholder() if isinstance(node, exp.Literal) else node))

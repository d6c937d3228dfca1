"""In what a wrong query differs from gold first: the kinds of mistake that a model makes."""

from __future__ import annotations

from collections.abc import Hashable

from sqlglot import exp

from helpers import target
from helpers.databases.sql import SET_OPERATIONS, bag, parse, write
from helpers.names import Names

UNREAD = "cannot be read"
ELSE = "written otherwise"


def kind(gold: str, predicted: str, names: Names) -> str:
    """The first of `parts` in which two queries differ, both in target form, where aliases and ways to join are one.

    `ELSE` if none differs: the two then differ in what the parts leave out, or not at all. `UNREAD` if one of them is no query
    about this database.
    """
    try:
        both = [parts(parse(target.to_target(sql, names))) for sql in (gold, predicted)]
    except target.Outside:
        return UNREAD
    return next((name for name, content in both[0].items() if content != both[1][name]), ELSE)


def parts(tree: exp.Expression) -> dict[str, Hashable]:
    """A query in target form taken apart, what decides most first."""
    selects = list(tree.find_all(exp.Select))
    nodes = list(tree.walk())
    conditions = [one.args[place] for one in nodes for place in ("where", "having", "on") if one.args.get(place)]
    ordered = [one.args[place] for one in nodes for place in ("order", "limit") if one.args.get(place)]
    return {
        "nesting and set operations": (bag(type(one).__name__ for one in tree.find_all(*SET_OPERATIONS)), len(selects)),
        "tables": bag(one.name for one in tree.find_all(exp.Table)),
        "columns selected": bag(text_of(one) for select in selects for one in select.expressions),
        "columns of conditions": bag(text_of(column) for one in conditions for column in one.find_all(exp.Column)),
        "grouping": bag(text_of(one) for select in selects for one in select.args.get("group") or []),
        "order and limit": tuple(text_of(one) for one in ordered),
        "comparisons": bag(without_values(one) for one in conditions),
        "values": bag(one.name.lower() for one in tree.find_all(exp.Literal)),
        "DISTINCT": len(list(tree.find_all(exp.Distinct))),
    }


def text_of(tree: exp.Expression) -> str:
    """A part of a query as text, letters' case aside."""
    return write(tree).lower()


def without_values(tree: exp.Expression) -> str:
    """A condition with every value as a question mark."""
    return text_of(tree.copy().transform(lambda node: exp.Placeholder() if isinstance(node, exp.Literal) else node))

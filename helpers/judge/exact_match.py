"""Decide exact set match: do two queries ask for the same things, clause by clause, whatever their values and results?

Spider's rules: selected columns, tables, conditions and GROUP BY are compared as sets, ORDER BY in order. A name stands for the
column that it means, and columns that inner joins or WHERE make equal count as one. Values, LIMIT's number and all else in ON are
ignored. The faults of the official code are repaired: any SQL that sqlglot parses is read, DISTINCT counts, each key of ORDER BY
has its own direction, AND and OR keep their nesting, nested queries are compared by the same rules, and two columns that refer to
one table are two. Function arguments that are values are ignored as well: strftime('%Y', x) matches strftime('%m', x).

Source: Yu et al., EMNLP 2018, section 6; `official` keeps the faults.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from helpers.databases.sql import SET_OPERATIONS, bag, members, parse, sources

Columns = Mapping[str, Sequence[str]]
VALUE = "value"
MOST_PERMUTED = 4  # occurrences of one table in a FROM
MIRRORED = {"GT": "LT", "LT": "GT", "GTE": "LTE", "LTE": "GTE"}
COMMUTATIVE = (exp.EQ, exp.NEQ, exp.Add, exp.Mul)


def matches(gold: str, prediction: str, columns: Columns) -> bool:
    """Whether two queries agree by exact set match. SQL that sqlglot cannot read agrees only with the same text.

    Args:
        columns: the column names of each table, in lower case.
    """
    if gold.split() == prediction.split():
        return True
    wanted, found = parse(gold), parse(prediction)
    if wanted is None or found is None:
        return False
    try:
        meaning = Reader(columns).query(wanted)
        # a table that is joined to itself may stand first as this alias or as that
        return any(Reader(columns, order).query(found) == meaning for order in orders(found))
    except RecursionError:  # nested more deeply than Python's stack: no query of a data set is
        return False


def orders(tree: exp.Expression) -> Iterable[tuple[int, ...]]:
    """Return the ways to number the occurrences of one table in a FROM."""
    most = max(
        (
            max(Counter(one.name.lower() for one in select.find_all(exp.Table)).values(), default=1)
            for select in tree.find_all(exp.Select)
        ),
        default=1,
    )
    return itertools.permutations(range(min(most, MOST_PERMUTED)))


@dataclass
class Scope:
    """The meaning of names in one SELECT.

    Attributes:
        outer: the query that this one is nested in.
        tables: those of FROM, in order; the second of one name is `name#1`.
        aliases: the table that T1, T2 … stand for.
        selected: expressions that AS names.
        equal: columns that a condition of the query makes equal -> the one that represents them.
        opaque: whether FROM has a source whose columns are unknown (a nested query, a view).
    """

    outer: Scope | None = None
    tables: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    selected: dict[str, Hashable] = field(default_factory=dict)
    equal: dict[str, str] = field(default_factory=dict)
    opaque: bool = False

    def occurrences(self, name: str) -> int:
        """Return how often the queries around this one have a table: one of its own is another."""
        if self.outer is None:
            return 0
        return sum(known.partition("#")[0] == name for known in self.outer.tables) + self.outer.occurrences(name)


def merged(pairs: Iterable[set[str]]) -> list[set[str]]:
    """Return the groups of columns that pairs of equal ones make."""
    groups: list[set[str]] = []
    for pair in pairs:
        linked = [group for group in groups if group & pair]
        groups = [group for group in groups if group not in linked] + [pair.union(*linked)]
    return groups


def classes(pairs: Iterable[set[str]]) -> dict[str, str]:
    """Return each column that equals another, with the one that represents both."""
    return {column: min(group) for group in merged(pairs) for column in group}


class Reader:
    """Turns a parsed query into nested tuples and sets, which are equal if and only if the queries match.

    Args:
        columns: as in `matches`.
        order: numbers for the first, second … occurrence of one table in a FROM.
    """

    def __init__(self, columns: Columns, order: tuple[int, ...] = ()) -> None:
        self.columns = columns
        self.order = order
        self.outputs: dict[int, dict[str, Hashable]] = {}  # what the columns of each query mean, by name, by the query's id

    def query(self, tree: exp.Expression, outer: Scope | None = None) -> Hashable:
        """Return the meaning of a whole query, with its set operations."""
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, outer)
        scope = Scope(outer)
        named = self.part(tree.args.get("with_") or tree.args.get("with"), scope)
        if isinstance(tree, SET_OPERATIONS):
            sides = (self.query(tree.this, outer), self.query(tree.expression, outer))
            scope.selected = self.outputs.get(id(tree.this.unnest()), {})
            ends = self.ends(tree, scope, list(scope.selected.values()))
            self.outputs[id(tree)] = scope.selected
            return (type(tree).__name__, bool(tree.args.get("distinct")), *sides, *ends, named)
        if not isinstance(tree, exp.Select):
            return self.part(tree, scope)
        tables = bag(self.table(source, scope) for source in sources(tree))
        joined = list(self.joined_pairs(tree, scope))
        scope.equal = classes(joined)
        conditions, equalities = self.conditions(tree, scope)
        scope.equal = classes([*joined, *equalities])
        selected = [self.part(column.unalias(), scope) for column in tree.expressions]
        scope.selected = {
            column.alias.lower(): meaning
            for column, meaning in zip(tree.expressions, selected, strict=True)
            if isinstance(column, exp.Alias)
        }
        self.outputs[id(tree)] = {
            column.alias_or_name.lower() or f"{number}": meaning
            for number, (column, meaning) in enumerate(zip(tree.expressions, selected, strict=True))
        }
        group = tree.args.get("group")
        return (
            bool(tree.args.get("distinct")),
            bag(selected),
            tables,
            (bag(self.part(one, scope) for one in conditions), frozenset(map(frozenset, merged(equalities)))),
            frozenset(self.key(one, scope, selected) for one in group.expressions) if group else None,
            self.part(tree.args.get("having"), scope),
            *self.ends(tree, scope, selected),
            self.part(tree.args.get("windows"), scope),
            named,
        )

    def table(self, source: exp.Expression, scope: Scope) -> Hashable:
        """Return the meaning of a table or nested query in FROM or JOIN, and add it to the scope."""
        side, inner = "", source
        if isinstance(source, exp.Join):
            side, inner = source.side or source.method, source.this
        if isinstance(inner, exp.Table):
            name = inner.name.lower()
            place = sum(known.partition("#")[0] == name for known in scope.tables)
            number = self.order[place] if place < len(self.order) else place
            number += scope.occurrences(name)
            scope.tables.append(f"{name}#{number}" if number else name)
            scope.aliases[inner.alias_or_name.lower()] = scope.tables[-1]
            scope.opaque |= name not in self.columns
            return side, name
        scope.opaque = True
        content = self.query(inner, scope.outer)
        scope.aliases[inner.alias_or_name.lower()] = f"query {hash(content)}"
        return side, content

    def joined_pairs(self, tree: exp.Select, scope: Scope) -> Iterator[set[str]]:
        """Yield pairs of columns that ON and USING of inner joins make equal. An outer join leaves one of both empty."""
        for number, join in enumerate(tree.args.get("joins") or []):
            if join.side:
                continue
            for one in members(on, exp.And) if (on := join.args.get("on")) else ():
                if pair := self.equal_pair(one, scope):
                    yield pair
            for name in join.args.get("using") or ():
                yield {
                    f"{table}.{name.name.lower()}"
                    for table in scope.tables[: number + 2]
                    if name.name.lower() in self.known(table)
                }

    def conditions(self, tree: exp.Select, scope: Scope) -> tuple[list[exp.Expression], list[set[str]]]:
        """Return the conditions of WHERE, and apart from them the pairs of columns that it makes equal."""
        where = tree.args.get("where")
        conditions, equalities = [], []
        for one in members(where.this, exp.And) if where else ():
            pair = self.equal_pair(one, scope)
            if pair:
                equalities.append(pair)
            else:
                conditions.append(one)
        return conditions, equalities

    def equal_pair(self, condition: exp.Expression, scope: Scope) -> set[str] | None:
        """Return the two columns of a condition `a = b`, one if they are the same; None for any other condition."""
        sides = (condition.left.unnest(), condition.right.unnest()) if isinstance(condition, exp.EQ) else ()
        if not sides or not all(isinstance(side, exp.Column) for side in sides):
            return None
        pair = {str(self.column(side, scope)) for side in sides}
        return None if VALUE in pair else pair  # a text in double quotes is no column

    def key(self, node: exp.Expression, scope: Scope, selected: Sequence[Hashable]) -> Hashable:
        """Return the meaning of a key of GROUP BY or ORDER BY: an alias, a selected expression's number, or an expression."""
        if isinstance(node, exp.Literal) and node.is_int and 0 < int(node.name) <= len(selected):
            return selected[int(node.name) - 1]
        return self.part(node, scope)

    def ends(self, tree: exp.Expression, scope: Scope, selected: Sequence[Hashable]) -> tuple:
        """Return ORDER BY, each key with its direction, and whether there is a LIMIT and an OFFSET."""
        keys = []
        for one in order.expressions if (order := tree.args.get("order")) else []:
            named = one.this.name.lower() if isinstance(one.this, exp.Column) and not one.this.table else ""
            meaning = scope.selected.get(named) or self.key(one.this, scope, selected)
            descending = bool(one.args.get("desc"))
            keys.append((meaning, descending, bool(one.args.get("nulls_first")) == (not descending)))
        return tuple(keys), tree.args.get("limit") is not None, tree.args.get("offset") is not None

    def part(self, node: object, scope: Scope) -> Hashable:
        """Return the meaning of any part of a query."""
        if isinstance(node, (list, tuple)):
            return tuple(self.part(one, scope) for one in node)
        if not isinstance(node, exp.Expression):
            return str(node).lower()
        if isinstance(node, (exp.Paren, exp.Where, exp.Having, exp.Alias)):
            return self.part(node.this, scope)
        if isinstance(node, (exp.Literal, exp.Boolean)) or (isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal)):
            return VALUE
        if isinstance(node, exp.Column):
            return self.column(node, scope)
        if isinstance(node, exp.Query):
            return self.query(node, scope)
        if isinstance(node, exp.Connector):
            return type(node).__name__, bag(self.part(one, scope) for one in members(node, type(node)))
        parts = [(name, self.part(value, scope)) for name, value in node.args.items() if value not in (None, False, [])]
        return self.normal_form(node, dict(parts))

    def normal_form(self, node: exp.Expression, parts: dict[str, Hashable]) -> Hashable:
        """Return an expression in one form: sides that may be swapped in one order, any list of values as one."""
        if parts.pop("negate", None):  # sqlglot has NOT LIKE as a kind of LIKE
            return "Not", ("this", self.normal_form(node, parts))
        name = type(node).__name__
        left, right = parts.get("this"), parts.get("expression")
        if isinstance(node, exp.In) and set(parts.get("expressions", ())) == {VALUE}:
            parts["expressions"] = VALUE
        elif isinstance(node, COMMUTATIVE):
            return name, bag([left, right])
        elif name in MIRRORED and (left == VALUE or (right != VALUE and name.startswith("G"))):
            return MIRRORED[name], ("expression", left), ("this", right)
        return name, *sorted(parts.items())

    def column(self, node: exp.Column, scope: Scope) -> Hashable:
        """Return what a column's name means: `table.column`, an expression that AS names, or VALUE for a quoted string."""
        name, table = node.name.lower(), node.table.lower()
        found, opaque = scope, False
        while found is not None:
            opaque |= found.opaque
            if table and table in found.aliases:
                return found.equal.get(column := f"{found.aliases[table]}.{name}", column)
            for known in () if table else found.tables:
                if name in self.known(known):
                    return found.equal.get(column := f"{known}.{name}", column)
            if not table and name in found.selected:
                return found.selected[name]
            found = found.outer
        return VALUE if node.this.args.get("quoted") and not table and not opaque else f"{table}.{name}"

    def known(self, table: str) -> Sequence[str]:
        """Return the columns of a table in a scope; none for a view."""
        return self.columns.get(table.partition("#")[0], ())

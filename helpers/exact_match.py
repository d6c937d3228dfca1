"""Exact set match: whether two queries ask for the same things, clause by clause, whatever their values and their results.

Spider's rules: what is selected, the tables, the conditions and GROUP BY count as sets, ORDER BY in order; names stand for the
columns they mean, those that foreign keys link for one; values, LIMIT's number and ON conditions do not count. The faults of the
official code are repaired: any SQL that SQLite runs is read, DISTINCT counts, each key of ORDER BY has its own direction, AND and
OR keep their nesting, and nested queries are compared by the same rules.

Source: Yu et al., EMNLP 2018, section 6; `official` keeps the faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from sqlglot import exp

from helpers.official import Names
from helpers.parsing import SET_OPERATIONS, parse
from helpers.schema import Schema

VALUE = "value"
MIRRORED = {"GT": "LT", "LT": "GT", "GTE": "LTE", "LTE": "GTE"}
COMMUTATIVE = (exp.EQ, exp.NEQ, exp.Add, exp.Mul)


def names(schema: Schema, keys: Schema) -> Names:
    """The names in a database; `keys` has its foreign keys. All columns that keys link, over any number of steps, are twins."""
    groups: list[set[str]] = []
    for link in keys.foreign_keys:
        group = {f"{link.table}.{link.column}".lower(), f"{link.to_table}.{link.to_column}".lower()}
        linked = [other for other in groups if other & group]
        groups = [other for other in groups if other not in linked] + [group.union(*linked)]
    columns = {table.name.lower(): tuple(column.name.lower() for column in table.columns) for table in schema.tables}
    return Names(columns, {column: min(group) for group in groups for column in group})


def matches(gold: str, prediction: str, names: Names) -> bool:
    """Whether two queries agree by exact set match. SQL that sqlglot cannot read agrees only with the very same text."""
    if gold.split() == prediction.split():
        return True
    wanted, found = parse(gold), parse(prediction)
    if wanted is None or found is None:
        return False
    try:
        return Reader(names).query(wanted) == Reader(names).query(found)
    except RecursionError:  # nested more deeply than Python's stack: no query of a data set is
        return False


@dataclass
class Scope:
    """What names mean in one SELECT.

    Attributes:
        tables: those of FROM, in order.
        aliases: what T1, T2 … stand for.
        selected: expressions that AS names.
        outer: the query that this one is nested in.
    """

    outer: Scope | None = None
    tables: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    selected: dict[str, Hashable] = field(default_factory=dict)


class Reader:
    """Turns a parsed query into nested tuples and sets that are equal where queries match."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def query(self, tree: exp.Expression, outer: Scope | None = None) -> Hashable:
        """A whole query, with its set operations."""
        if isinstance(tree, exp.Subquery) and not isinstance(tree.this, exp.Table):
            return self.query(tree.this, outer)
        if isinstance(tree, SET_OPERATIONS):
            scope = Scope(outer)
            sides = (self.query(tree.this, outer), self.query(tree.expression, outer))
            return (type(tree).__name__, bool(tree.args.get("distinct")), *sides, *self.ends(tree, scope))
        if not isinstance(tree, exp.Select):
            return self.part(tree, Scope(outer))
        scope = Scope(outer)
        tables = bag(self.table(source, scope) for source in sources(tree))
        selected = []
        for column in tree.expressions:
            selected.append(self.part(column.unalias(), scope))
        scope.selected = {
            column.alias.lower(): meaning
            for column, meaning in zip(tree.expressions, selected, strict=True)
            if isinstance(column, exp.Alias)
        }
        group = tree.args.get("group")
        return (
            bool(tree.args.get("distinct")),
            bag(selected),
            tables,
            self.part(tree.args.get("where"), scope),
            frozenset(self.part(one, scope) for one in group.expressions) if group else None,
            self.part(tree.args.get("having"), scope),
            *self.ends(tree, scope),
            self.part(tree.args.get("with_") or tree.args.get("with"), scope),
        )

    def table(self, source: exp.Expression, scope: Scope) -> Hashable:
        """A table or nested query in FROM or JOIN, made known to the scope."""
        side, inner = "", source
        if isinstance(source, exp.Join):
            side, inner = source.side or source.method, source.this
        if isinstance(inner, exp.Table):
            name = inner.name.lower()
            scope.tables.append(name)
            scope.aliases[inner.alias_or_name.lower()] = name
            return side, name
        scope.aliases[inner.alias_or_name.lower()] = ""
        return side, self.query(inner, scope.outer)

    def ends(self, tree: exp.Expression, scope: Scope) -> tuple:
        """ORDER BY, each key with its direction, and whether there is a LIMIT."""
        keys = []
        for key in order.expressions if (order := tree.args.get("order")) else []:
            named = key.this.name.lower() if isinstance(key.this, exp.Column) and not key.this.table else ""
            keys.append((scope.selected.get(named) or self.part(key.this, scope), bool(key.args.get("desc"))))
        return tuple(keys), tree.args.get("limit") is not None

    def part(self, node: object, scope: Scope) -> Hashable:
        """Any part of a query."""
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
        if isinstance(node, (exp.Query, exp.Subquery)):
            return self.query(node, scope)
        if isinstance(node, exp.Connector):
            return type(node).__name__, bag(self.part(one, scope) for one in node.flatten())
        parts = [(name, self.part(value, scope)) for name, value in node.args.items() if value not in (None, False, [])]
        return self.in_one_form(node, dict(parts))

    def in_one_form(self, node: exp.Expression, parts: dict[str, Hashable]) -> Hashable:
        """An expression whose parts are read: sides that may be swapped in one order, any list of values as one."""
        if parts.pop("negate", None):  # sqlglot has NOT LIKE as a kind of LIKE
            return "Not", ("this", self.in_one_form(node, parts))
        name = type(node).__name__
        left, right = parts.get("this"), parts.get("expression")
        if isinstance(node, exp.In) and set(parts.get("expressions", ())) == {VALUE}:
            parts["expressions"] = VALUE
        elif isinstance(node, COMMUTATIVE):
            return name, bag([left, right])
        elif name in MIRRORED and left == VALUE:
            return MIRRORED[name], ("expression", left), ("this", right)
        return name, *sorted(parts.items())

    def column(self, node: exp.Column, scope: Scope) -> Hashable:
        """What a column's name means: `table.column`, an expression that AS names, or a string in double quotes."""
        name, table = node.name.lower(), node.table.lower()
        found: Scope | None = scope
        while found is not None:
            if table in found.aliases:
                return self.twin(f"{found.aliases[table]}.{name}")
            for known in () if table else found.tables:
                if name in self.names.columns.get(known, ()):
                    return self.twin(f"{known}.{name}")
            if not table and name in found.selected:
                return found.selected[name]
            found = found.outer
        return VALUE if node.this.args.get("quoted") and not table else f"{table}.{name}"

    def twin(self, column: str) -> str:
        """The column that stands for those that foreign keys link with this one."""
        return self.names.twins.get(column, column)


def sources(tree: exp.Select) -> list[exp.Expression]:
    """The parts of FROM: the first table, then each join."""
    first = tree.args.get("from_") or tree.args.get("from")
    return [*([first.this] if first else []), *(tree.args.get("joins") or [])]


def bag(some: Iterable[Hashable]) -> frozenset:
    """Values with how often each occurs."""
    return frozenset(Counter(some).items())

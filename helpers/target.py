"""The form of SQL that the model writes, and the way there and back.

Every column is `table.column` by readable names (`names`), FROM lists tables only, and their ON conditions are rebuilt from
foreign keys; aliases t1, t2 … stand only where a table occurs twice, with the ON that then has to be written.

    SELECT T2.weight FROM has_pet AS T1 JOIN pets AS T2 ON T1.PetID = T2.PetID WHERE T1.StuID = 3
    SELECT pets.weight FROM has_pet, pets WHERE has_pet.student_id = 3
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from helpers import joins
from helpers.databases.sql import SET_OPERATIONS, members, parse, sources, write
from helpers.names import Names, is_alias, usable


class Outside(ValueError):
    """SQL that the target form cannot say; the message names what."""


class Unreadable(ValueError):
    """A text of the model that is no query; the message says why."""


@dataclass(eq=False)
class Source:
    """One entry of a FROM.

    Attributes:
        called: the names by which the query may speak of it, in lower case.
        table: the table's own name in lower case; None for a nested query.
        outputs: what a nested query's columns become, by their names in lower case.
        alias: t1, t2 …; '' where the table's name serves.
    """

    node: exp.Expression
    called: set[str]
    table: str | None
    outputs: dict[str, Callable[[], str]] = field(default_factory=dict)
    alias: str = ""
    needs_alias: bool = False


@dataclass(eq=False)
class Level:
    """One SELECT on the way down: its sources, and the expressions that AS names."""

    sources: list[Source]
    named: dict[str, exp.Alias]


class Simplifier:
    """Rewrites one parsed query in place: `query` finds out what its names mean, then `rewrite` changes them."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.known = names.schema.columns()
        self.all_sources: list[Source] = []
        self.pending: list[tuple[exp.Column, Callable[[], str], Callable[[], str]]] = []
        self.columns: set[tuple[str, str]] = set()
        self.used: dict[int, exp.Alias] = {}
        self.selects: list[tuple[exp.Select, Level]] = []

    def rewrite(self, tree: exp.Expression) -> exp.Expression:
        """The whole query in target form, once `query` has read it."""
        for one in tree.find_all(exp.Ordered):
            one.set("desc", one.args.get("desc") or None)  # no ASC
        aliases = iter(range(1, 100))
        for source in self.all_sources:
            if source.needs_alias:
                source.alias = f"t{next(aliases)}"
        for number, alias in enumerate(self.used.values(), start=1):
            alias.set("alias", exp.to_identifier(f"c{number}"))
        plain = [(select, level) for select, level in self.selects if self.is_rebuilt(select, level)]
        for column, table, name in self.pending:
            column.set("table", exp.to_identifier(table()) if table() else None)
            if not isinstance(column.this, exp.Star):
                column.set("this", exp.to_identifier(name()))
            column.set("db", None)
        for select, level in self.selects:
            select.set("expressions", [self.without_name(one) for one in select.expressions])
            self.rename_sources(level)
        for select, level in self.selects:
            if (select, level) in plain:
                select.set("joins", [exp.Join(this=source.node) for source in level.sources[1:]])
            for one in select.args.get("joins") or []:
                if one.kind in ("CROSS", "INNER"):  # a comma would be read as a join by keys
                    one.set("on", one.args.get("on") or exp.true())
                    one.set("kind", None)
        return tree

    def without_name(self, column: exp.Expression) -> exp.Expression:
        """A selected expression; its AS stays only where the query speaks of it."""
        return column if not isinstance(column, exp.Alias) or id(column) in self.used else column.this

    def query(self, tree: exp.Expression, outer: tuple[Level, ...]) -> dict[str, Callable[[], str]]:
        """Resolve a query and all in it; its columns' new names by the old ones."""
        if tree.args.get("with_") or tree.args.get("windows"):
            raise Outside("it has a WITH or a WINDOW")
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, outer)
        if isinstance(tree, SET_OPERATIONS):
            outputs = self.query(tree.this, outer)
            self.query(tree.expression, outer)
            level = Level([Source(node=tree, called=set(), table=None, outputs=outputs)], {})
            for part in ("order", "limit", "offset"):
                self.walk(tree.args.get(part), (*outer, level))
            return outputs
        if not isinstance(tree, exp.Select):
            raise Outside(f"{type(tree).__name__} is no query")
        return self.select(tree, outer)

    def select(self, tree: exp.Select, outer: tuple[Level, ...]) -> dict[str, Callable[[], str]]:
        """Resolve one SELECT."""
        level = Level([], {one.alias.lower(): one for one in tree.expressions if isinstance(one, exp.Alias)})
        self.selects.append((tree, level))
        for entry in sources(tree):
            inner = entry.this if isinstance(entry, exp.Join) else entry
            level.sources.append(self.source(inner, outer))
        self.all_sources += level.sources
        times = Counter(source.table for source in level.sources)
        for source in level.sources:
            source.needs_alias = source.table is None or times[source.table] > 1
        levels = (*outer, level)
        joined = [*(tree.args.get("joins") or []), *(one for one in sources(tree) if isinstance(one, exp.Join))]
        for one in {id(one): one for one in joined}.values():  # those in brackets as well
            if one.args.get("using") or one.method:
                raise Outside("it joins by USING or NATURAL")
            self.walk(one.args.get("on"), levels)
        for name, part in tree.args.items():
            if name in ("from_", "from"):
                continue
            if name != "joins":
                self.walk(part, levels)
        return self.outputs(tree)

    def source(self, node: exp.Expression, outer: tuple[Level, ...]) -> Source:
        """An entry of FROM, made known."""
        if isinstance(node, exp.Subquery):
            return Source(node=node, called={node.alias.lower()}, table=None, outputs=self.query(node.this, outer))
        if not isinstance(node, exp.Table) or node.name.lower() not in self.known:
            raise Outside(f"there is no table {node.name or type(node).__name__}")
        # a table with an alias may not be called by its own name; gold does it where nothing else is meant
        return Source(node=node, called={node.alias_or_name.lower(), node.name.lower()}, table=node.name.lower())

    def walk(self, node: object, levels: tuple[Level, ...]) -> None:
        """Resolve the columns of any part of a query."""
        if isinstance(node, (list, tuple)):
            for one in node:
                self.walk(one, levels)
        elif isinstance(node, exp.Query):
            self.query(node, levels)
        elif isinstance(node, exp.Ordered) and self.is_name(node.this, levels[-1]):
            self.speak_of(node.this, levels[-1])
        elif isinstance(node, exp.Column):
            self.column(node, levels)
        elif isinstance(node, exp.Expression):
            for part in list(node.args.values()):
                self.walk(part, levels)

    def column(self, node: exp.Column, levels: tuple[Level, ...]) -> None:
        """Find out what a column means, and note how to write it."""
        name, called = node.name.lower(), node.table.lower()
        for depth, level in reversed(list(enumerate(levels))):
            found = self.within(level, name, called, node)
            if found is None:
                if self.is_name(node, level):
                    self.speak_of(node, level)
                    return
                continue
            hidden = any(
                other.table is not None and other.table == found.table for inner in levels[depth + 1 :] for other in inner.sources
            )
            found.needs_alias |= hidden
            if found.table is not None and not isinstance(node.this, exp.Star):
                self.columns.add((found.table, name))
            if found.table is None and name in found.outputs:
                found.outputs[name]()  # its AS is asked for
            self.pending.append((node, self.caller(found), self.namer(found, name)))
            return
        if called or not node.this.args.get("quoted"):
            raise Outside(f"there is no column {node.sql()}")
        node.replace(exp.Literal.string(node.name))  # SQLite takes such a name in double quotes for a text

    def is_name(self, node: exp.Expression, level: Level) -> bool:
        """Whether a column is the bare name that AS gives in a SELECT. ORDER BY takes it before a column of that name."""
        return isinstance(node, exp.Column) and not node.table and node.name.lower() in level.named

    def speak_of(self, node: exp.Column, level: Level) -> None:
        """Note a name that AS gives, and that it is asked for."""
        alias = level.named[node.name.lower()]
        self.used.setdefault(id(alias), alias)
        self.pending.append((node, lambda: "", lambda: alias.alias))

    def within(self, level: Level, name: str, called: str, node: exp.Column) -> Source | None:
        """The source of one SELECT that a column belongs to."""
        exact = [one for one in level.sources if called and one.node.alias_or_name.lower() == called]
        for source in exact or [one for one in level.sources if not called or called in one.called]:
            has = self.known[source.table] if source.table is not None else source.outputs
            if isinstance(node.this, exp.Star) or name in has:
                return source
        return None

    def caller(self, source: Source) -> Callable[[], str]:
        """How the query speaks of a source, once aliases are given out."""
        if source.table is not None:
            return lambda: source.alias or self.names.tables[source.table]
        return lambda: source.alias if isinstance(source.node, exp.Subquery) else ""

    def namer(self, source: Source, name: str) -> Callable[[], str]:
        """How the query speaks of a source's column."""
        if source.table is not None:
            return lambda: self.names.columns.get((source.table, name), name)
        return source.outputs.get(name, lambda: name)

    def outputs(self, tree: exp.Select) -> dict[str, Callable[[], str]]:
        """New names of a query's columns by the old ones; an AS that is asked for stays."""
        found: dict[str, Callable[[], str]] = {}
        resolved = {id(column): namer for column, _, namer in self.pending}
        for one in tree.expressions:
            if isinstance(one, exp.Alias):
                found[one.alias.lower()] = lambda one=one: self.used.setdefault(id(one), one).alias
            elif isinstance(one, exp.Column) and id(one) in resolved and not isinstance(one.this, exp.Star):
                found[one.name.lower()] = resolved[id(one)]
        return found

    def rename_sources(self, level: Level) -> None:
        """Tables by their readable names, with aliases where they have one."""
        for source in level.sources:
            if source.table is not None:
                source.node.set("this", exp.to_identifier(self.names.tables[source.table]))
                source.node.set("db", None)
            alias = exp.TableAlias(this=exp.to_identifier(source.alias)) if source.alias else None
            source.node.set("alias", alias)

    def is_rebuilt(self, select: exp.Select, level: Level) -> bool:
        """Whether a SELECT's ON conditions are just those that the foreign keys give. Looked at before names change."""
        tables = [source.table for source in level.sources]
        found = select.args.get("joins") or []
        if any(source.alias or source.table is None for source in level.sources) or len(sources(select)) != len(found) + 1:
            return False
        if any(one.side for one in found):
            return False
        if len(tables) == 1:
            return True
        meaning = {id(column): (table, name) for column, table, name in self.pending}
        steps = joins.join(tables, self.names.schema)
        wanted = {frozenset(self.names.full(*end) for end in condition) for _, condition in steps if condition}
        equal: set[frozenset[str]] = set()
        where = select.args.get("where")
        conditions = [one.args.get("on") for one in found]
        for condition in [*conditions, where.this if where and not any(conditions) else None]:
            for one in members(condition, exp.And) if condition else ():
                ends = [side.unnest() for side in (one.left, one.right)] if isinstance(one, exp.EQ) else []
                if ends and all(id(end) in meaning for end in ends):
                    equal.add(frozenset(f"{table()}.{name()}" for table, name in (meaning[id(end)] for end in ends)))
                elif condition in conditions:
                    return False
        whole = {table for table, _ in steps} == set(tables) and all(condition for _, condition in steps[1:])
        return whole and (equal == wanted if any(conditions) else wanted <= equal)


def to_target(sql: str, names: Names) -> str:
    """A query in the form that the model learns to write.

    Raises:
        Outside: the form cannot say it: WITH, USING, a table or column that the database lacks, text that is no query.
    """
    with not_too_deep(Outside):
        reader, tree = resolved(sql, names)
        return write(reader.rewrite(tree))


def needed(sql: str, names: Names) -> tuple[set[str], set[tuple[str, str]]]:
    """Tables and columns (own names in lower case) that a query speaks of.

    Raises:
        Outside: as `to_target`.
    """
    with not_too_deep(Outside):
        reader, _ = resolved(sql, names)
    return {source.table for source in reader.all_sources if source.table}, reader.columns


def resolved(sql: str, names: Names) -> tuple[Simplifier, exp.Expression]:
    """A parsed query, and what its names mean."""
    tree = parse(sql)
    if tree is None:
        raise Outside("sqlglot cannot read it")
    reader, tree = Simplifier(names), tree.copy()
    reader.query(tree, ())
    return reader, tree


@contextlib.contextmanager
def not_too_deep(kind: type[ValueError]) -> Iterator[None]:
    """Turns the end of Python's stack into an error that says so."""
    try:
        yield
    except RecursionError:
        raise kind("it is nested too deeply") from None


def to_sql(text: str, names: Names) -> str:
    """A query in target form as SQL that the database runs.

    A table that is spoken of without being in FROM is put there. Names that the database lacks stay, for SQLite to complain of.

    Raises:
        Unreadable: it is no query.
    """
    tree = parse(text)
    if tree is None:
        raise Unreadable("it is no SQL that sqlglot can read")
    if not isinstance(tree, exp.Query):
        raise Unreadable(f"it is no query but {type(tree).__name__}")
    with not_too_deep(Unreadable):
        tree = tree.copy()
        for select in list(tree.find_all(exp.Select)):
            restore_joins(select, names)
        restore_names(tree, names)
        return write(tree)


def plain_tables(select: exp.Select) -> list[exp.Table] | None:
    """The tables of a FROM that only lists them; None for any other FROM."""
    found = sources(select)
    tables = [one.this if isinstance(one, exp.Join) else one for one in found]
    if not all(isinstance(one, exp.Table) and not one.alias for one in tables):
        return None
    listed = all(one.kind == "CROSS" for one in found if isinstance(one, exp.Join))  # sqlglot's word for a comma
    return tables if listed else None


def restore_joins(select: exp.Select, names: Names) -> None:
    """Give a SELECT that only lists its tables those that are missing, and the ON conditions. Names stay the model's."""
    tables = plain_tables(select)
    if tables is None or any(table.name not in names.table_of for table in tables):
        return
    listed = list(dict.fromkeys(table.name for table in tables))
    spoken_of = [column.table for column in own_columns(select) if column.table in names.table_of]
    outer = {table for above in ancestors(select) for table in called_in(above)}
    listed += [name for name in dict.fromkeys(spoken_of) if name not in listed and name not in outer]
    if not listed:
        return
    steps = joins.join([names.table_of[name].lower() for name in listed], names.schema)
    entries = []
    for table, condition in steps[1:]:
        ends = [column_of(end, names) for end in condition or ()]
        how = {"on": exp.EQ(this=ends[0], expression=ends[1])} if ends else {"kind": "CROSS"}
        entries.append(exp.Join(this=exp.to_table(names.tables[table]), **how))
    select.set("from_", exp.From(this=exp.to_table(names.tables[steps[0][0]])))
    select.set("joins", entries)


def column_of(end: tuple[str, str], names: Names) -> exp.Column:
    """A column by the model's names."""
    return exp.column(names.columns[end], table=names.tables[end[0]])


def own_columns(select: exp.Select) -> Iterator[exp.Column]:
    """The columns of a SELECT itself, not of those nested in it."""
    return (column for column in select.find_all(exp.Column) if column.find_ancestor(exp.Select) is select)


def ancestors(select: exp.Select) -> Iterator[exp.Select]:
    """The SELECTs that one is nested in."""
    above = select.find_ancestor(exp.Select)
    while above is not None:
        yield above
        above = above.find_ancestor(exp.Select)


def called_in(select: exp.Select) -> list[str]:
    """Names by which a FROM makes its sources known."""
    return [(one.this if isinstance(one, exp.Join) else one).alias_or_name for one in sources(select)]


def restore_names(tree: exp.Expression, names: Names) -> None:
    """Put the database's own names for the model's."""
    aliased = {table.alias: table.name for table in tree.find_all(exp.Table) if table.alias}
    nested = {one.alias: one.this for one in tree.find_all(exp.Subquery) if one.alias}
    found = [(column, *own_name_of(column, aliased, nested, names)) for column in tree.find_all(exp.Column)]
    for column, own, is_known in found:
        if not is_known and (is_alias(column.table) or not column.table):
            own = next((known for (_, shown), known in names.column_of.items() if shown == column.name), None)
            own = own if column.table or not is_named(tree, column.name) else None
        if own is not None:
            column.set("this", own_name(own))
        if column.table in names.table_of:
            column.set("table", own_name(names.table_of[column.table]))
    for table in list(tree.find_all(exp.Table)):
        if table.name in names.table_of:
            table.set("this", own_name(names.table_of[table.name]))


def own_name_of(
    column: exp.Column, aliased: dict[str, str], nested: dict[str, exp.Expression], names: Names, depth: int = 0
) -> tuple[str | None, bool]:
    """The database's own name of a column, None where it has none, and whether that is certain."""
    own = names.column_of.get((aliased.get(column.table, column.table), column.name))
    if own is not None:
        return own, True
    around = column.find_ancestor(exp.Select, *SET_OPERATIONS)
    query = nested.get(column.table) if column.table else around if isinstance(around, SET_OPERATIONS) else None
    while isinstance(query, (*SET_OPERATIONS, exp.Subquery)):
        query = query.this
    for one in query.expressions if isinstance(query, exp.Select) and depth < 9 else ():
        if one.alias_or_name == column.name:
            is_column = isinstance(one, exp.Column)
            return own_name_of(one, aliased, nested, names, depth + 1) if is_column else (None, True)
    return None, False


def is_named(tree: exp.Expression, name: str) -> bool:
    """Whether AS gives a name anywhere in a query."""
    return any(one.alias == name for one in tree.find_all(exp.Alias))


def own_name(name: str) -> exp.Identifier:
    """A name of the database, in quotes where it needs them."""
    return exp.to_identifier(name, quoted=not usable(name))

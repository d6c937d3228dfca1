"""Turn SQL into the intermediate representation (IR) that the model learns to write: no aliases, no join conditions.

Every column is `table.column` by the model's names, and FROM only lists tables; their ON conditions follow from foreign keys
(`from_ir` restores them). Repeated tables and nested queries get aliases t1, t2 …; ON stays if keys do not imply it.

    SQL   SELECT T2.weight FROM has_pet AS T1 JOIN pets AS T2 ON T1.PetID = T2.PetID WHERE T1.StuID = 3
    IR    SELECT pets.weight FROM has_pet, pets WHERE has_pet.student_id = 3

Source: the idea of an IR without joins is from Gan et al., "Natural SQL", Findings of EMNLP 2021; this form is our own.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from helpers.databases.schema import fold
from helpers.databases.sql import SET_OPERATIONS, members, parse, sources, write
from helpers.prompts import joins
from helpers.prompts.linking import ColumnId
from helpers.prompts.names import NameMap


class NotExpressible(ValueError):
    """SQL that the IR cannot express; the message says why."""


def to_ir(sql: str, names: NameMap) -> str:
    """Return a query in IR.

    Raises:
        NotExpressible: it has WITH or USING, names a table or column that the database lacks, or is no query.
    """
    with not_too_deep(NotExpressible):
        resolver, tree = resolve(sql, names)
        return write(rewrite(tree, resolver))


def needed_columns(sql: str, names: NameMap) -> set[ColumnId]:
    """Return the columns that a query uses, and its tables, each with '' for the column.

    Raises:
        NotExpressible: as `to_ir`.
    """
    with not_too_deep(NotExpressible):
        resolver, _ = resolve(sql, names)
    return resolver.columns | {(source.table, "") for source in resolver.sources if source.table}


@contextlib.contextmanager
def not_too_deep(kind: type[ValueError]) -> Iterator[None]:
    """Turn the end of Python's stack into an error of this kind."""
    try:
        yield
    except RecursionError:
        raise kind("it is nested too deeply") from None


# ---- what names mean


@dataclass(eq=False)
class Source:
    """One entry of a FROM.

    Attributes:
        called: the names by which the query may refer to it, folded.
        table: the table's folded name in the database; None for a nested query.
        outputs: what a nested query's columns mean, by their folded names.
        alias: t1, t2 …; '' where the table's name serves. Set by `rewrite`.
    """

    node: exp.Expression
    called: set[str]
    table: str | None
    outputs: dict[str, Reference] = field(default_factory=dict)
    alias: str = ""
    needs_alias: bool = False


@dataclass(eq=False)
class Reference:
    """What a column in the query means: a column of a source, or an expression that AS names (`alias`)."""

    source: Source | None = None
    name: str = ""
    alias: exp.Alias | None = None

    def table_text(self, names: NameMap) -> str:
        """Return what to write before the dot; '' for nothing. Call it once sources have their aliases."""
        if self.source is None:
            return ""
        if self.source.table is not None:
            return self.source.alias or names.tables[self.source.table]
        return self.source.alias if isinstance(self.source.node, exp.Subquery) else ""

    def column_text(self, names: NameMap) -> str:
        """Return what to write for the column. Call it once the names that AS gives are replaced."""
        if self.source is None:
            return self.alias.alias
        if self.source.table is not None:
            return names.columns.get((self.source.table, self.name), self.name)
        inner = self.source.outputs.get(self.name)
        return inner.column_text(names) if inner else self.name

    def named_by(self) -> exp.Alias | None:
        """Return the AS that gives this column its name, within nested queries as well; None for a table's column."""
        if self.source is None:
            return self.alias
        inner = self.source.outputs.get(self.name) if self.source.table is None else None
        return inner.named_by() if inner else None


@dataclass(eq=False)
class Level:
    """One SELECT on the way down: its sources, and the expressions that AS names."""

    sources: list[Source]
    named: dict[str, exp.Alias]


class Resolver:
    """Finds out what every name in one parsed query means. `query` starts it; `rewrite` uses what it found.

    Attributes:
        sources: all entries of all FROMs, in the order met.
        references: each column node with its meaning, by the node's id, in the order met.
        columns: the columns of tables that the query uses.
        used: the AS that the query refers to, by the node's id, in the order met.
        selects: each SELECT with its level.
    """

    def __init__(self, names: NameMap) -> None:
        self.names = names
        self.known = names.schema.columns()
        self.sources: list[Source] = []
        self.references: dict[int, tuple[exp.Column, Reference]] = {}
        self.columns: set[ColumnId] = set()
        self.used: dict[int, exp.Alias] = {}
        self.selects: list[tuple[exp.Select, Level]] = []

    def query(self, tree: exp.Expression, outer: tuple[Level, ...]) -> dict[str, Reference]:
        """Resolve a query and all in it; return what its columns mean, by their names."""
        if tree.args.get("with_") or tree.args.get("windows"):
            raise NotExpressible("it has a WITH or a WINDOW")
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, outer)
        if isinstance(tree, SET_OPERATIONS):
            outputs = self.query(tree.this, outer)
            self.query(tree.expression, outer)
            order_by_number(tree)
            level = Level([Source(node=tree, called=set(), table=None, outputs=outputs)], {})
            for part in ("order", "limit", "offset"):
                self.walk(tree.args.get(part), (*outer, level))
            return outputs
        if not isinstance(tree, exp.Select):
            raise NotExpressible(f"{type(tree).__name__} is no query")
        return self.select(tree, outer)

    def select(self, tree: exp.Select, outer: tuple[Level, ...]) -> dict[str, Reference]:
        """Resolve one SELECT."""
        level = Level([], {fold(one.alias): one for one in tree.expressions if isinstance(one, exp.Alias)})
        self.selects.append((tree, level))
        for entry in sources(tree):
            level.sources.append(self.source(entry.this if isinstance(entry, exp.Join) else entry, outer))
        self.sources += level.sources
        times = Counter(source.table for source in level.sources)
        for source in level.sources:
            source.needs_alias = source.table is None or times[source.table] > 1
        levels = (*outer, level)
        joined = [*(tree.args.get("joins") or []), *(one for one in sources(tree) if isinstance(one, exp.Join))]
        for one in {id(one): one for one in joined}.values():  # those in brackets as well
            if one.args.get("using") or one.method:
                raise NotExpressible("it joins by USING or NATURAL")
            self.walk(one.args.get("on"), levels)
        for name, part in tree.args.items():
            if name not in ("from_", "from", "joins"):
                self.walk(part, levels)
        return self.outputs(tree)

    def source(self, node: exp.Expression, outer: tuple[Level, ...]) -> Source:
        """Resolve an entry of FROM."""
        if isinstance(node, exp.Subquery):
            return Source(node=node, called={fold(node.alias)}, table=None, outputs=self.query(node.this, outer))
        if not isinstance(node, exp.Table) or fold(node.name) not in self.known:
            raise NotExpressible(f"there is no table {node.name or type(node).__name__}")
        # a table with an alias may not be called by its own name; gold does it where nothing else is meant
        return Source(node=node, called={fold(node.alias_or_name), fold(node.name)}, table=fold(node.name))

    def walk(self, node: object, levels: tuple[Level, ...]) -> None:
        """Resolve the columns of any part of a query."""
        if isinstance(node, (list, tuple)):
            for one in node:
                self.walk(one, levels)
        elif isinstance(node, exp.Query):
            self.query(node, levels)
        elif isinstance(node, exp.Ordered) and self.is_alias(key := bare(node.this), levels[-1]):
            self.refer_to_alias(key, levels[-1])
        elif isinstance(node, exp.Column):
            self.column(node, levels)
        elif isinstance(node, exp.Expression):
            for part in list(node.args.values()):
                self.walk(part, levels)

    def column(self, node: exp.Column, levels: tuple[Level, ...]) -> None:
        """Resolve one column, from the innermost SELECT outwards."""
        name, called = fold(node.name), fold(node.table)
        # A name that any SELECT gives a table comes before a table's own name that an inner SELECT has hidden behind an alias.
        is_given = any(fold(source.node.alias_or_name) == called for level in levels for source in level.sources)
        for depth, level in reversed(list(enumerate(levels))):
            found = self.find_source(level, name, called, node, exactly=bool(called) and is_given)
            if found is not None:
                self.refer_to_source(node, found, name, levels[depth + 1 :])
                return
            if self.is_alias(node, level):
                self.refer_to_alias(node, level)
                return
        if called or not node.this.args.get("quoted"):
            raise NotExpressible(f"there is no column {node.sql()}")
        node.replace(exp.Literal.string(node.name))  # SQLite takes such a name in double quotes for a text

    def refer_to_source(self, node: exp.Column, source: Source, name: str, inner: tuple[Level, ...]) -> None:
        """Note that a column belongs to a source. If an inner SELECT has the same table, the source needs an alias."""
        hidden = source.table is not None and any(other.table == source.table for level in inner for other in level.sources)
        source.needs_alias |= hidden
        if source.table is not None and not isinstance(node.this, exp.Star):
            self.columns.add((source.table, name))
        reference = Reference(source=source, name=name)
        if alias := reference.named_by():
            self.used.setdefault(id(alias), alias)
        self.references[id(node)] = (node, reference)

    def is_alias(self, node: exp.Expression, level: Level) -> bool:
        """Whether a column is the bare name that AS gives in a SELECT. ORDER BY takes it before a column of that name."""
        return isinstance(node, exp.Column) and not node.table and fold(node.name) in level.named

    def refer_to_alias(self, node: exp.Column, level: Level) -> None:
        """Note that a column is a name that AS gives."""
        alias = level.named[fold(node.name)]
        self.used.setdefault(id(alias), alias)
        self.references[id(node)] = (node, Reference(alias=alias))

    def find_source(self, level: Level, name: str, called: str, node: exp.Column, *, exactly: bool) -> Source | None:
        """Return the source of one SELECT that a column belongs to. `exactly`: not by a name that an alias hides."""
        exact = [one for one in level.sources if called and fold(one.node.alias_or_name) == called]
        for source in exact if exactly else exact or [one for one in level.sources if not called or called in one.called]:
            columns = self.known[source.table] if source.table is not None else source.outputs
            if isinstance(node.this, exp.Star) or name in columns:
                return source
        return None

    def outputs(self, tree: exp.Select) -> dict[str, Reference]:
        """Return what a SELECT's columns mean, by their names."""
        found: dict[str, Reference] = {}
        for one in tree.expressions:
            if isinstance(one, exp.Alias):
                found[fold(one.alias)] = Reference(alias=one)
            elif isinstance(one, exp.Column) and id(one) in self.references and not isinstance(one.this, exp.Star):
                found[fold(one.name)] = self.references[id(one)][1]
        return found


def bare(node: exp.Expression) -> exp.Expression:
    """Return a key of ORDER BY without parentheses and collation, as SQLite compares it with the names that AS gives."""
    while isinstance(node, (exp.Paren, exp.Collate)):
        node = node.this
    return node


def order_by_number(tree: exp.Expression) -> None:
    """Write the keys of ORDER BY behind a set operation as numbers of its columns, in place: there a name has no table."""
    first = tree
    while isinstance(first, (*SET_OPERATIONS, exp.Subquery)):
        first = first.this
    columns = [fold(one.alias_or_name) for one in first.expressions] if isinstance(first, exp.Select) else []
    order = tree.args.get("order")
    for one in order.expressions if order and "*" not in columns else ():
        if isinstance(one.this, exp.Column) and not one.this.table and fold(one.this.name) in columns:
            one.set("this", exp.Literal.number(columns.index(fold(one.this.name)) + 1))


def resolve(sql: str, names: NameMap) -> tuple[Resolver, exp.Expression]:
    """Parse a query and resolve its names.

    Raises:
        NotExpressible: as `to_ir`.
    """
    tree = parse(sql)
    if tree is None:
        raise NotExpressible("sqlglot cannot read it")
    resolver, tree = Resolver(names), tree.copy()
    resolver.query(tree, ())
    return resolver, tree


# ---- the rewriting


def rewrite(tree: exp.Expression, resolver: Resolver) -> exp.Expression:
    """Rewrite a resolved query into IR, in place."""
    names = resolver.names
    for one in tree.find_all(exp.Ordered):
        one.set("desc", one.args.get("desc") or None)  # no ASC
    for one in tree.find_all(exp.Collate):
        one.set("expression", exp.var(one.expression.name.upper()))
    for one in tree.find_all(exp.WindowSpec):  # keywords in capitals, as everywhere
        for part, value in list(one.args.items()):
            one.set(part, value.upper() if isinstance(value, str) else value)
    aliases = iter(range(1, 100))
    for source in resolver.sources:
        if source.needs_alias:
            source.alias = f"t{next(aliases)}"
    for number, alias in enumerate(resolver.used.values(), start=1):
        alias.set("alias", plain_name(f"c{number}"))
    # looked at before names change
    plain = [(select, level) for select, level in resolver.selects if follows_from_keys(select, level, resolver)]
    for column, reference in resolver.references.values():
        table = reference.table_text(names)
        column.set("table", plain_name(table) if table else None)
        if not isinstance(column.this, exp.Star):
            column.set("this", plain_name(reference.column_text(names)))
        column.set("db", None)
    for select, level in resolver.selects:
        # an AS stays only where the query refers to it
        kept = [one.this if isinstance(one, exp.Alias) and id(one) not in resolver.used else one for one in select.expressions]
        select.set("expressions", kept)
        rename_sources(level, names)
    for select, level in resolver.selects:
        if (select, level) in plain:
            select.set("joins", [exp.Join(this=source.node) for source in level.sources[1:]])
        for one in select.args.get("joins") or []:
            if one.kind == "OUTER":
                one.set("kind", None)
            if one.kind in ("CROSS", "INNER"):  # a comma would be read as a join by keys
                one.set("on", one.args.get("on") or exp.true())
                one.set("kind", None)
    return tree


def plain_name(name: str) -> exp.Identifier:
    """Return a name as the grammar has it, without quotes."""
    return exp.to_identifier(name, quoted=False)


def rename_sources(level: Level, names: NameMap) -> None:
    """Give tables the model's names, and aliases where they need one."""
    for source in level.sources:
        if source.table is not None:
            source.node.set("this", plain_name(names.tables[source.table]))
            source.node.set("db", None)
        alias = exp.TableAlias(this=plain_name(source.alias)) if source.alias else None
        source.node.set("alias", alias)


def follows_from_keys(select: exp.Select, level: Level, resolver: Resolver) -> bool:
    """Whether a SELECT's join conditions are exactly those that `joins.join` restores from the foreign keys."""
    tables, found = [source.table for source in level.sources], select.args.get("joins") or []
    if any(source.alias or source.table is None for source in level.sources) or len(sources(select)) != len(found) + 1:
        return False
    if any(one.side for one in found):
        return False
    if len(tables) == 1:
        return True
    names = resolver.names
    steps = joins.join(tables, names.schema)
    if [table for table, _ in steps] != tables and any(isinstance(one, exp.Star) for one in select.expressions):
        return False  # * gives columns in the order of FROM
    if {table for table, _ in steps} != set(tables) or not all(conditions for _, conditions in steps[1:]):
        return False
    wanted = {frozenset(names.qualified(*end) for end in ends) for _, conditions in steps for ends in conditions}
    on = [one.args.get("on") for one in found]
    where = select.args.get("where")
    if any(on):
        pairs = [equated(part, resolver) for condition in on if condition for part in members(condition, exp.And)]
        return None not in pairs and set(pairs) == wanted
    pairs = [equated(part, resolver) for part in members(where.this, exp.And)] if where else []
    return wanted <= set(pairs)


def equated(condition: exp.Expression, resolver: Resolver) -> frozenset[str] | None:
    """Return the two columns that a condition `a = b` equates, as the model writes them; None for any other condition."""
    ends = [side.unnest() for side in (condition.left, condition.right)] if isinstance(condition, exp.EQ) else []
    if not ends or not all(id(end) in resolver.references for end in ends):
        return None
    texts = []
    for end in ends:
        _, reference = resolver.references[id(end)]
        texts.append(f"{reference.table_text(resolver.names)}.{reference.column_text(resolver.names)}")
    return frozenset(texts)

"""Turn the intermediate representation (IR) that the model writes into SQL that the database runs."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from helpers.databases.schema import fold
from helpers.databases.sql import SET_OPERATIONS, parse, sources, write
from helpers.prompts import joins
from helpers.prompts.names import NameMap, is_alias, needs_no_alias
from helpers.prompts.to_ir import not_too_deep

DEEPEST = 9  # nested queries through which a column's name is followed


class NotAQuery(ValueError):
    """Text of the model that is no query; the message says why."""


def to_sql(text: str, names: NameMap) -> str:
    """Return a query in IR as SQL.

    A table that is used but missing from FROM is added. Names that the database lacks stay, so that SQLite reports them.

    Raises:
        NotAQuery: the text is no query.
    """
    tree = parse(text)
    if tree is None:
        raise NotAQuery("it is no SQL that sqlglot can read")
    if not isinstance(tree, exp.Query):
        raise NotAQuery(f"it is no query but {type(tree).__name__}")
    with not_too_deep(NotAQuery):
        tree = tree.copy()
        for select in list(tree.find_all(exp.Select)):
            restore_joins(select, names)
        restore_names(tree, names)
        return write(tree)


# ---- joins


def restore_joins(select: exp.Select, names: NameMap) -> None:
    """Add missing tables and the ON conditions to a SELECT that only lists its tables. Names stay the model's."""
    tables = listed_tables(select)
    if tables is None or any(table.name not in names.table_of for table in tables):
        return
    listed = list(dict.fromkeys(table.name for table in tables))
    used = [column.table for column in own_columns(select) if column.table in names.table_of]
    outer = {name for above in ancestors(select) for name in source_names(above)}
    listed += [name for name in dict.fromkeys(used) if name not in listed and name not in outer]
    if not listed:
        return
    steps = joins.join([fold(names.table_of[name]) for name in listed], names.schema)
    entries = []
    for table, conditions in steps[1:]:
        equal = [exp.EQ(this=model_column(one, names), expression=model_column(other, names)) for one, other in conditions]
        how = {"on": exp.and_(*equal, copy=False)} if equal else {"kind": "CROSS"}
        entries.append(exp.Join(this=exp.to_table(names.tables[table]), **how))
    select.set("from_", exp.From(this=exp.to_table(names.tables[steps[0][0]])))
    select.set("joins", entries)


def model_column(end: joins.End, names: NameMap) -> exp.Column:
    """Return a column under the model's names."""
    return exp.column(names.columns[end], table=names.tables[end[0]])


def listed_tables(select: exp.Select) -> list[exp.Table] | None:
    """Return the tables of a FROM that only lists them; None for any other FROM."""
    found = sources(select)
    tables = [one.this if isinstance(one, exp.Join) else one for one in found]
    if not all(isinstance(one, exp.Table) and not one.alias for one in tables):
        return None
    listed = all(one.kind == "CROSS" for one in found if isinstance(one, exp.Join))  # sqlglot's word for a comma
    return tables if listed else None


def own_columns(select: exp.Select) -> Iterator[exp.Column]:
    """Yield the columns of a SELECT itself, not of those nested in it."""
    return (column for column in select.find_all(exp.Column) if column.find_ancestor(exp.Select) is select)


def ancestors(select: exp.Select) -> Iterator[exp.Select]:
    """Yield the SELECTs that one is nested in."""
    above = select.find_ancestor(exp.Select)
    while above is not None:
        yield above
        above = above.find_ancestor(exp.Select)


def source_names(select: exp.Select) -> list[str]:
    """Return the names that a SELECT's sources have in it."""
    return [(one.this if isinstance(one, exp.Join) else one).alias_or_name for one in sources(select)]


# ---- names


def restore_names(tree: exp.Expression, names: NameMap) -> None:
    """Replace the model's names by the database's."""
    aliased = {table.alias: table.name for table in tree.find_all(exp.Table) if table.alias}
    nested = {one.alias: one.this for one in tree.find_all(exp.Subquery) if one.alias}
    found = [(column, *database_name(column, aliased, nested, names)) for column in tree.find_all(exp.Column)]
    for column, name, is_certain in found:
        if not is_certain and (is_alias(column.table) or not column.table):
            name = next((known for (_, shown), known in names.column_of.items() if shown == column.name), None)
            name = name if column.table or not is_named(tree, column.name) else None
        if name is not None:
            column.set("this", quoted_if_needed(name))
        if column.table in names.table_of:
            column.set("table", quoted_if_needed(names.table_of[column.table]))
    for table in list(tree.find_all(exp.Table)):
        if table.name in names.table_of:
            table.set("this", quoted_if_needed(names.table_of[table.name]))


def database_name(
    column: exp.Column, aliased: dict[str, str], nested: dict[str, exp.Expression], names: NameMap, depth: int = 0
) -> tuple[str | None, bool]:
    """Return the database's name of a column, None if it has none, and whether that is certain."""
    name = names.column_of.get((aliased.get(column.table, column.table), column.name))
    if name is not None:
        return name, True
    around = column.find_ancestor(exp.Select, *SET_OPERATIONS)
    query = nested.get(column.table) if column.table else around if isinstance(around, SET_OPERATIONS) else None
    while isinstance(query, (*SET_OPERATIONS, exp.Subquery)):
        query = query.this
    for one in query.expressions if isinstance(query, exp.Select) and depth < DEEPEST else ():
        if one.alias_or_name == column.name:
            is_column = isinstance(one, exp.Column)
            return database_name(one, aliased, nested, names, depth + 1) if is_column else (None, True)
    return None, False


def is_named(tree: exp.Expression, name: str) -> bool:
    """Whether an AS anywhere in a query gives this name."""
    return any(one.alias == name for one in tree.find_all(exp.Alias))


def quoted_if_needed(name: str) -> exp.Identifier:
    """Return a name of the database as an identifier."""
    return exp.to_identifier(name, quoted=not needs_no_alias(name))

"""Join the tables of a query by foreign keys, over as few tables as possible."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from helpers.databases.schema import Schema, Table

# Columns of these names say nothing about the table that they refer to.
TOO_COMMON = ("id", "name")

# The other table, this table's column, the other's column (database names in lower case), and whether it is a foreign key.
Link = tuple[str, str, str, bool]


@functools.lru_cache(maxsize=512)
def links(schema: Schema) -> dict[str, tuple[Link, ...]]:
    """Return the links of each table, by its name in lower case.

    Foreign keys come first, as declared. Two tables without one are linked by a column of the same name that is a primary key of
    either.
    """
    found: dict[str, list[Link]] = {table.name.lower(): [] for table in schema.tables}
    for key in schema.foreign_keys:
        one, other = key.table.lower(), key.to_table.lower()
        if one != other:
            found[one].append((other, key.column.lower(), key.to_column.lower(), True))
            found[other].append((one, key.to_column.lower(), key.column.lower(), True))
    declared = {(one, link[0]) for one, of_one in found.items() for link in of_one}
    for number, table in enumerate(schema.tables):
        for other in schema.tables[number + 1 :]:
            one, two = table.name.lower(), other.name.lower()
            shared = None if (one, two) in declared else same_column(table, other)
            if shared:
                found[one].append((two, shared, shared, False))
                found[two].append((one, shared, shared, False))
    return {one: tuple(of_one) for one, of_one in found.items()}


def same_column(table: Table, other: Table) -> str | None:
    """Return a column name that two tables share and that is a primary key of either; None if there is none."""
    others = {column.name.lower(): column for column in other.columns}
    for column in table.columns:
        name = column.name.lower()
        if name in others and name not in TOO_COMMON and (column.primary_key or others[name].primary_key):
            return name
    return None


def join(wanted: Sequence[str], schema: Schema) -> list[tuple[str, tuple[tuple[str, str], tuple[str, str]] | None]]:
    """Return the tables of a FROM in the order to join them, with the tables needed between them.

    Next comes a wanted table that is linked to one already joined, else the one that is reached over the fewest others. A foreign
    key goes before a column of the same name.

    Args:
        wanted: the database's names in lower case.

    Returns:
        (table, ((other table, its column), (table, its column))): the columns to be equal. None in their place for the first
        table, and for one that cannot be reached.
    """
    linked = links(schema)
    done: list[str] = [wanted[0]]
    steps: list[tuple[str, tuple[tuple[str, str], tuple[str, str]] | None]] = [(wanted[0], None)]
    waiting = [name for name in dict.fromkeys(wanted) if name != wanted[0]]
    while waiting:
        for table, condition in direct(done, waiting, linked) or path(done, waiting, linked) or [(waiting[0], None)]:
            done.append(table)
            steps.append((table, condition))
            waiting = [name for name in waiting if name != table]
    return steps


def direct(done: Sequence[str], waiting: Sequence[str], linked: dict[str, tuple[Link, ...]]) -> list:
    """Return one step: to the first waiting table linked to a joined one (latest joined first); [] if there is none."""
    for table in waiting:
        ways = [
            (is_key, ((other, column), (table, target_column)))
            for other in reversed(done)
            for target, column, target_column, is_key in linked[other]
            if target == table
        ]
        if ways:
            return [(table, max(ways, key=lambda way: way[0])[1])]
    return []


def path(done: Sequence[str], waiting: Sequence[str], linked: dict[str, tuple[Link, ...]]) -> list:
    """Return the steps of the shortest path from a joined table to a waiting one; [] if there is none."""
    ways: list[tuple[str, list]] = [(table, []) for table in done]
    seen = set(done)
    for table, steps in ways:  # grows while it is walked: breadth first
        for target, column, target_column, _ in linked[table]:
            if target in seen:
                continue
            seen.add(target)
            way = [*steps, (target, ((table, column), (target, target_column)))]
            if target in waiting:
                return way
            ways.append((target, way))
    return []

"""How the tables of a query are joined: by foreign keys, over as few tables as may be."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from helpers.databases.schema import Schema, Table

# Columns of these names say nothing about what they refer to.
TOO_COMMON = ("id", "name")

# Other table, column of this table, column of the other (own names in lower case), and whether it is a foreign key.
Link = tuple[str, str, str, bool]


@functools.lru_cache(maxsize=512)
def links(tables: Schema) -> dict[str, tuple[Link, ...]]:
    """What each table is linked to, by its name in lower case.

    Foreign keys first, as declared. Tables without one between them are linked by a column that both have, a primary key of
    either.
    """
    found: dict[str, list[Link]] = {table.name.lower(): [] for table in tables.tables}
    for key in tables.foreign_keys:
        one, other = key.table.lower(), key.to_table.lower()
        if one != other:
            found[one].append((other, key.column.lower(), key.to_column.lower(), True))
            found[other].append((one, key.to_column.lower(), key.column.lower(), True))
    declared = {(one, link[0]) for one, its in found.items() for link in its}
    for number, table in enumerate(tables.tables):
        for other in tables.tables[number + 1 :]:
            one, two = table.name.lower(), other.name.lower()
            shared = None if (one, two) in declared else same_column(table, other)
            if shared:
                found[one].append((two, shared, shared, False))
                found[two].append((one, shared, shared, False))
    return {one: tuple(its) for one, its in found.items()}


def same_column(table: Table, other: Table) -> str | None:
    """A column that two tables have by one name, a primary key of either; None if there is none."""
    there = {column.name.lower(): column for column in other.columns}
    for column in table.columns:
        name = column.name.lower()
        if name in there and name not in TOO_COMMON and (column.primary_key or there[name].primary_key):
            return name
    return None


def join(wanted: Sequence[str], tables: Schema) -> list[tuple[str, tuple[tuple[str, str], tuple[str, str]] | None]]:
    """The tables of a FROM in the order to join them, each with its condition, tables between them put in.

    A table that is linked to one already joined comes next, in the order wanted; else the one that the fewest others lead to. A
    foreign key goes before a column of one name.

    Args:
        wanted: own names in lower case.

    Returns:
        (table, ((other table, its column), (table, its column))): the columns to be equal; None for the first table, and for
        one that nothing leads to.
    """
    linked = links(tables)
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
    """The first waiting table with a link to a joined one, the latest joined first."""
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
    """The steps of the shortest way from a joined table to a waiting one."""
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

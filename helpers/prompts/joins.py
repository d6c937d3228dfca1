"""Join the tables of a query by foreign keys, over as few tables as possible."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Sequence

from helpers.databases.schema import Schema, Table, fold

# Columns of these names say nothing about the table that they refer to.
TOO_COMMON = ("id", "name")
MAX_SHARING = 100  # tables that one column name links

# The other table, this table's columns, the other's columns to equal them (all folded), and whether it is a foreign key.
Link = tuple[str, tuple[str, ...], tuple[str, ...], bool]
End = tuple[str, str]  # a table and one of its columns, folded
Step = tuple[str, tuple[tuple[End, End], ...]]


@functools.lru_cache(maxsize=512)
def links(schema: Schema) -> dict[str, tuple[Link, ...]]:
    """Return the links of each table, by its folded name.

    Foreign keys come first, as declared. Two tables without one are linked by a column of the same name that is a primary key of
    either.
    """
    found: dict[str, list[Link]] = {fold(table.name): [] for table in schema.tables}
    for key in schema.foreign_keys:
        one, other = fold(key.table), fold(key.to_table)
        if one != other:
            columns, to_columns = tuple(map(fold, key.columns)), tuple(map(fold, key.to_columns))
            found[one].append((other, columns, to_columns, True))
            found[other].append((one, to_columns, columns, True))
    declared = {(one, link[0]) for one, of_one in found.items() for link in of_one}
    for table, other in sharing(schema):
        one, two = fold(table.name), fold(other.name)
        shared = None if (one, two) in declared else same_column(table, other)
        if shared:
            found[one].append((two, (shared,), (shared,), False))
            found[two].append((one, (shared,), (shared,), False))
    return {one: tuple(of_one) for one, of_one in found.items()}


def sharing(schema: Schema) -> list[tuple[Table, Table]]:
    """Return the pairs of tables that have a column of one name, unless more than MAX_SHARING do: such a name links nothing."""
    having: dict[str, list[int]] = defaultdict(list)
    for number, table in enumerate(schema.tables):
        for name in {fold(column.name) for column in table.columns}:
            having[name].append(number)
    pairs = {pair for numbers in having.values() if len(numbers) <= MAX_SHARING for pair in itertools.combinations(numbers, 2)}
    return [(schema.tables[one], schema.tables[other]) for one, other in sorted(pairs)]


def same_column(table: Table, other: Table) -> str | None:
    """Return a column name that two tables share and that is a primary key of either; None if there is none.

    One column of a composite primary key is enough: a table that links others has one for each of them.
    """
    others = {fold(column.name): column for column in other.columns}
    for column in table.columns:
        name = fold(column.name)
        if name in others and name not in TOO_COMMON and (column.primary_key or others[name].primary_key):
            return name
    return None


def join(wanted: Sequence[str], schema: Schema) -> list[Step]:
    """Return the tables of a FROM in the order to join them, with the tables needed between them.

    Next comes a wanted table that is linked to one already joined, else the one that is reached over the fewest others. A foreign
    key goes before a column of the same name.

    Args:
        wanted: the database's names, folded.

    Returns:
        (table, ((end, end), …)): each table with the columns that must equal columns of a table before it. There are none for the
        first table, and for one that cannot be reached.
    """
    linked = links(schema)
    done: list[str] = [wanted[0]]
    steps: list[Step] = [(wanted[0], ())]
    waiting = [name for name in dict.fromkeys(wanted) if name != wanted[0]]
    while waiting:
        for table, conditions in direct(done, waiting, linked) or path(done, waiting, linked) or [(waiting[0], ())]:
            done.append(table)
            steps.append((table, conditions))
            waiting = [name for name in waiting if name != table]
    return steps


def direct(done: Sequence[str], waiting: Sequence[str], linked: dict[str, tuple[Link, ...]]) -> list[Step]:
    """Return one step: to the first waiting table linked to a joined one (latest joined first); [] if there is none."""
    for table in waiting:
        ways = [
            (is_key, equal(other, columns, table, target_columns))
            for other in reversed(done)
            for target, columns, target_columns, is_key in linked[other]
            if target == table
        ]
        if ways:
            return [(table, max(ways, key=lambda way: way[0])[1])]
    return []


def path(done: Sequence[str], waiting: Sequence[str], linked: dict[str, tuple[Link, ...]]) -> list[Step]:
    """Return the steps of the shortest path from a joined table to a waiting one; [] if there is none."""
    ways: list[tuple[str, list]] = [(table, []) for table in done]
    seen = set(done)
    for table, steps in ways:  # grows while it is walked: breadth first
        for target, columns, target_columns, _ in linked[table]:
            if target in seen:
                continue
            seen.add(target)
            way = [*steps, (target, equal(table, columns, target, target_columns))]
            if target in waiting:
                return way
            ways.append((target, way))
    return []


def equal(table: str, columns: Sequence[str], other: str, other_columns: Sequence[str]) -> tuple[tuple[End, End], ...]:
    """Return the pairs of ends that a link makes equal."""
    return tuple(((table, one), (other, two)) for one, two in zip(columns, other_columns, strict=True))

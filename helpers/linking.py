"""A wide schema cut down to what a question is likely to need, so that it fits the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.names import Names
from helpers.schema import ForeignKey, Schema, Table
from helpers.words import pieces, stem, stem_set

if TYPE_CHECKING:
    import random

TABLE_WEIGHT = 3.0  # a table that is named counts more than one of its columns
LINK_WEIGHT = 0.5  # of being linked to a table that is named: joins lead through it
COMMON_SHARE = 0.5  # of a word that is in every other question, beside a rarer one
COMMON = frozenset(
    "a all and are at by each for from give has have how id in is it its list many me name of on or show that the "
    "their there to what when where which who whose with".split()
)
VALUE_WEIGHT = 1.5  # of a cell that the question speaks of, for its column
TABLE_NAME_WEIGHT = 1.5
COLUMN_WEIGHTS = (0.6, 0.3, 0.1)  # of a table's three best columns, for the table
NOISE = 0.3  # added at most to a score where the order is shaken
DROPPED_IN, DROPPED = 0.5, 0.6  # in half of the shaken prompts up to this share of what the answer does not need is left out
MOST_COLUMNS = 60

Place = tuple[str, str]  # a table's and a column's own name in lower case


class DoesNotFit(ValueError):
    """Not even one column beside the question fits the prompt."""


def fit(question: str, tables: Schema, fits: Callable[[Schema], bool]) -> tuple[Schema, tuple[str, ...]]:
    """As much of a schema as fits, the parts that share words with the question first.

    Args:
        fits: whether a schema, written into the prompt beside the question, leaves room for an answer.

    Returns:
        the schema, tables and columns in their old order, and the names of what was left out: `table`, or `table.column`
        where the best table alone is too wide.

    Raises:
        DoesNotFit: the question itself leaves no room.
    """
    if fits(tables):
        return tables, ()
    asked = stem_set(question)
    score = scores(asked, tables)
    kept: list[str] = []
    for table in sorted(tables.tables, key=lambda table: -score[table.name]):
        if fits(part(tables, [*kept, table.name])):
            kept.append(table.name)
    if kept:
        return part(tables, kept), tuple(table.name for table in tables.tables if table.name not in kept)
    best = max(tables.tables, key=lambda table: score[table.name])
    columns = widest(asked, best, lambda names: fits(narrowed(tables, best, names)))
    if not columns:
        raise DoesNotFit("The question is too long for the model's prompt: not even one column fits beside it. Ask shorter")
    left_out = [table.name for table in tables.tables if table is not best]
    return narrowed(tables, best, columns), (
        *left_out,
        *(f"{best.name}.{column.name}" for column in best.columns if column.name not in columns),
    )


def scores(asked: set[str], tables: Schema) -> dict[str, float]:
    """How much each table has to do with a question, by shared words; linked tables share a little of it."""
    own = {
        table.name: TABLE_WEIGHT * len(asked & stem_set(table.name))
        + len(asked & {word for column in table.columns for word in stem_set(column.name)})
        for table in tables.tables
    }
    linked = dict.fromkeys(own, 0.0)
    for key in tables.foreign_keys:
        for one, other in ((key.table, key.to_table), (key.to_table, key.table)):
            linked[one] = max(linked[one], LINK_WEIGHT if own[other] else 0.0)
    return {name: own[name] + linked[name] for name in own}


def widest(asked: set[str], table: Table, fits: Callable[[list[str]], bool]) -> list[str]:
    """Columns of one table that fit: those the question names, then keys, then as they come."""
    order = sorted(table.columns, key=lambda column: (-len(asked & stem_set(column.name)), not column.primary_key))
    kept: list[str] = []
    for column in order:
        if fits([*kept, column.name]):
            kept.append(column.name)
    return kept


def part(tables: Schema, names: Iterable[str]) -> Schema:
    """Some tables of a schema, and the keys between them."""
    wanted = set(names)
    return with_keys(tables, tuple(table for table in tables.tables if table.name in wanted))


def narrowed(tables: Schema, table: Table, columns: Iterable[str]) -> Schema:
    """One table with some of its columns."""
    wanted = set(columns)
    kept = tuple(column for column in table.columns if column.name in wanted)
    return with_keys(tables, (dataclasses.replace(table, columns=kept),))


def with_keys(tables: Schema, kept: tuple[Table, ...]) -> Schema:
    """A schema of these tables, with those of the old keys that still have both ends."""
    there = {(table.name.lower(), column.name.lower()) for table in kept for column in table.columns}

    def whole(key: ForeignKey) -> bool:
        ends = {(key.table.lower(), key.column.lower()), (key.to_table.lower(), key.to_column.lower())}
        return ends <= there

    return dataclasses.replace(tables, tables=kept, foreign_keys=tuple(key for key in tables.foreign_keys if whole(key)))


Order = list[tuple[str, list[str]]]  # tables and their columns, by own names in lower case, the likeliest first


def overlap(label: str, asked: Sequence[str]) -> float:
    """How much of a name a question has: the share of its words, and more where it has the name as a whole.

    Args:
        label: the name, as words.
        asked: the words of the question without endings, in order.
    """
    parts = [stem(piece) for piece in pieces(label)]
    if not parts:
        return 0.0
    share = sum(COMMON_SHARE if part in COMMON else 1.0 for part in parts if part in asked) / len(parts)
    whole = any(list(asked[at : at + len(parts)]) == parts for at in range(len(asked) - len(parts) + 1))
    return share + (0.5 + 0.25 * len(parts) if whole else 0.0)


def rank(question: str, names: Names, matched: Collection[Place], chance: random.Random | None = None) -> Order:
    """Tables and columns by what they have to do with a question: shared words, and cells that it speaks of.

    Args:
        matched: columns with such cells.
        chance: shakes the order a little, for training: the model shall not rely on it.
    """
    asked = [stem(piece) for piece in pieces(question)]
    column_score = {
        place: overlap(label, asked) + VALUE_WEIGHT * (place in matched) for place, label in names.labels.items() if place[1]
    }

    def noise() -> float:
        return NOISE * chance.random() if chance else 0.0

    tables, shaken = {}, {}
    for table in names.schema.tables:
        own = table.name.lower()
        columns = {column.name.lower(): column_score[own, column.name.lower()] for column in table.columns}
        best = sorted(columns.values(), reverse=True)
        score = TABLE_NAME_WEIGHT * overlap(names.labels[own, ""], asked)
        tables[own] = score + sum(weight * one for weight, one in zip(COLUMN_WEIGHTS, best, strict=False)) + noise()
        shaken[own] = {name: one + noise() for name, one in columns.items()}
    return [
        (table, sorted(shaken[table], key=lambda name: -shaken[table][name]))
        for table in sorted(tables, key=lambda one: -tables[one])
    ]


def thinned(order: Order, needed: Collection[Place], keys: Collection[Place], chance: random.Random) -> Order:
    """Half of the time, the order without some of what the answer does not need: every training prompt another schema."""
    if chance.random() >= DROPPED_IN:
        return order
    share = DROPPED * chance.random()
    needed_tables = {table for table, _ in needed}
    return [
        (
            table,
            [name for name in columns if (table, name) in needed or (table, name) in keys or chance.random() > share]
            or columns[:1],
        )
        for table, columns in order
        if table in needed_tables or chance.random() > share
    ]


def cut(order: Order, most: int, needed: Collection[Place] = ()) -> Order:
    """As much of an order as has at most `most` columns: more of the first tables than of the last.

    Args:
        needed: columns that stay whatever their place, in training; of a table, ('table', ''), its first column.
    """
    if sum(len(columns) for _, columns in order) <= most:
        return order
    shares, room = [], most
    for place, (_, columns) in enumerate(order):
        shares.append(min(len(columns), room, max(4, most * 2 // 5 - 2 * place)))
        room -= shares[-1]
    kept = []
    for share, (table, columns) in zip(shares, order, strict=True):
        more = min(room, len(columns) - share)  # what the shares leave goes to the first
        share, room = share + more, room - more
        first = columns[:share]
        first += [name for name in columns[share:] if (table, name) in needed]
        if not first and (table, "") in needed:
            first = columns[:1]
        if first:
            kept.append((table, first))
    return kept

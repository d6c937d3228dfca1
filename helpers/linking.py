"""A wide schema cut down to what a question is likely to need, so that it fits the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from helpers.databases.schema import Schema
from helpers.names import Names
from helpers.words import pieces, stem

if TYPE_CHECKING:
    import random

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


def part(tables: Schema, order: Order) -> Schema:
    """The tables and columns of an order as a schema of their own: in their declared order, with the keys that have both ends."""
    kept = {(table, name) for table, columns in order for name in columns}
    there = {table for table, _ in order}
    return dataclasses.replace(
        tables,
        tables=tuple(
            dataclasses.replace(
                table,
                columns=tuple(one for one in table.columns if (table.name.lower(), one.name.lower()) in kept),
            )
            for table in tables.tables
            if table.name.lower() in there
        ),
        foreign_keys=tuple(
            key
            for key in tables.foreign_keys
            if {(key.table.lower(), key.column.lower()), (key.to_table.lower(), key.to_column.lower())} <= kept
        ),
    )


def left_out(tables: Schema, order: Order) -> tuple[str, ...]:
    """What of a schema an order lacks: `table`, or `table.column` where the table itself is there."""
    kept = {table: set(columns) for table, columns in order}
    found: list[str] = []
    for table in tables.tables:
        if table.name.lower() not in kept:
            found.append(table.name)
        else:
            columns = kept[table.name.lower()]
            found += [f"{table.name}.{one.name}" for one in table.columns if one.name.lower() not in columns]
    return tuple(found)

"""Schema linking: rank tables and columns by the question, and narrow a wide schema to what the question is likely to need.

Source: Li et al., "RESDSQL", AAAI 2023 (ranked schema items); the scores here are lexical and need no training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from helpers.databases.schema import Schema, fold
from helpers.prompts.names import NameMap
from helpers.prompts.words import split_words, stem

if TYPE_CHECKING:
    import random

COMMON_SHARE = 0.5  # weight of a word that is in every other question, beside a rarer one
COMMON = frozenset(
    "a all and are at by each for from give has have how id in is it its list many me name of on or show that the "
    "their there to what when where which who whose with".split()
)
VALUE_WEIGHT = 1.5  # added to a column's score where a cell of it matches the question
TABLE_NAME_WEIGHT = 1.5
COLUMN_WEIGHTS = (0.6, 0.3, 0.1)  # of a table's three best columns, in the table's score
NOISE = 0.3  # largest noise on a score in a shuffled prompt
DROPPED_IN, DROPPED = 0.5, 0.6  # in half of the shuffled prompts, up to this share of what the answer does not need is dropped
MAX_COLUMNS = 60
FEWEST = 4  # columns that a table keeps in a truncated schema, as long as there is room

ColumnId = tuple[str, str]  # a table's and a column's name in the database, folded; the column is '' for the table itself
Order = list[tuple[str, list[str]]]  # tables and their columns, by the database's folded names, the best first


def overlap(display_name: str, question: Sequence[str]) -> float:
    """Score how much of a name the question contains: the share of its words, plus a bonus for the name as a whole.

    Args:
        display_name: the name, as words.
        question: the stems of the question's words, in order.

    Returns:
        0 for no common word, about 1 for all words in any order, up to about 3 for a long name as a whole.
    """
    parts = [stem(word) for word in split_words(display_name)]
    if not parts:
        return 0.0
    share = sum(COMMON_SHARE if part in COMMON else 1.0 for part in parts if part in question) / len(parts)
    whole = any(list(question[at : at + len(parts)]) == parts for at in range(len(question) - len(parts) + 1))
    return share + (0.5 + 0.25 * len(parts) if whole else 0.0)


def rank(question: str, names: NameMap, matched: Collection[ColumnId], chance: random.Random | None = None) -> Order:
    """Order tables and columns by their relevance to a question: common words, and matching cells.

    Args:
        matched: columns with cells that match the question.
        chance: adds noise to each score, for training: the model must not rely on the order.
    """
    stems = [stem(word) for word in split_words(question)]
    column_score = {
        column: overlap(display_name, stems) + VALUE_WEIGHT * (column in matched)
        for column, display_name in names.display_names.items()
        if column[1]
    }

    def noise() -> float:
        return NOISE * chance.random() if chance else 0.0

    tables, shuffled = {}, {}
    for table in names.schema.tables:
        own = fold(table.name)
        columns = {fold(column.name): column_score[own, fold(column.name)] for column in table.columns}
        best = sorted(columns.values(), reverse=True)
        score = TABLE_NAME_WEIGHT * overlap(names.display_names[own, ""], stems)
        tables[own] = score + sum(weight * one for weight, one in zip(COLUMN_WEIGHTS, best, strict=False)) + noise()
        shuffled[own] = {name: one + noise() for name, one in columns.items()}
    return [
        (table, sorted(shuffled[table], key=lambda name: -shuffled[table][name]))
        for table in sorted(tables, key=lambda one: -tables[one])
    ]


def drop_distractors(order: Order, needed: Collection[ColumnId], keys: Collection[ColumnId], chance: random.Random) -> Order:
    """In half of the calls, drop a random share of unneeded tables and columns, so that training schemas vary.

    Args:
        needed: tables (with '' for the column) and columns that stay.
        keys: primary keys, which stay with their table.
    """
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


def truncate(order: Order, most: int, needed: Collection[ColumnId] = ()) -> Order:
    """Return `most` columns of an order at most, more of the first tables than of the last, and `needed` ones besides.

    Args:
        most: columns that the prompt has room for.
        needed: columns that stay whatever their rank, in training. A table with '' for the column keeps its first column.
    """
    if sum(len(columns) for _, columns in order) <= most:
        return order
    kept = []
    for share, (table, columns) in zip(column_shares([len(columns) for _, columns in order], most), order, strict=True):
        first = columns[:share]
        first += [name for name in columns[share:] if (table, name) in needed]
        if not first and (table, "") in needed:
            first = columns[:1]
        if first:
            kept.append((table, first))
    return kept


def column_shares(widths: Sequence[int], most: int) -> list[int]:
    """Divide `most` columns among tables of these widths, given in the order of their rank.

    The first table may take two fifths, each further one two columns fewer, but `FEWEST` as long as there is room. What that
    leaves goes to the first tables that are wider.
    """
    shares, room = [], most
    for rank, width in enumerate(widths):
        shares.append(min(width, room, max(FEWEST, most * 2 // 5 - 2 * rank)))
        room -= shares[-1]
    for rank, width in enumerate(widths):
        more = min(room, width - shares[rank])
        shares[rank], room = shares[rank] + more, room - more
    return shares


def sub_schema(schema: Schema, order: Order) -> Schema:
    """Return the tables and columns of an order as a schema, as declared, with the keys that have both ends."""
    kept = {(table, name) for table, columns in order for name in columns}
    listed = {table for table, _ in order}
    return dataclasses.replace(
        schema,
        tables=tuple(
            dataclasses.replace(
                table,
                columns=tuple(one for one in table.columns if (fold(table.name), fold(one.name)) in kept),
            )
            for table in schema.tables
            if fold(table.name) in listed
        ),
        foreign_keys=tuple(key for key in schema.foreign_keys if key.ends() <= kept),
    )


def left_out(schema: Schema, order: Order) -> tuple[str, ...]:
    """Return what an order lacks of a schema: `table`, or `table.column` where the table itself is included."""
    kept = {table: set(columns) for table, columns in order}
    found: list[str] = []
    for table in schema.tables:
        if fold(table.name) not in kept:
            found.append(table.name)
        else:
            columns = kept[fold(table.name)]
            found += [f"{table.name}.{one.name}" for one in table.columns if fold(one.name) not in columns]
    return tuple(found)

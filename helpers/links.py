"""Foreign keys that a database keeps to without declaring them, found in its rows: many files on people's disks declare none."""

from __future__ import annotations

import dataclasses
import functools
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import values
from helpers.databases.schema import ForeignKey, Schema, Table, open_readonly, quote_name
from helpers.linking import Place
from helpers.words import pieces, stem

MOST_ROWS = 20_000  # of a column that is looked at
SECONDS = 10.0  # to read one database; what was read until then is used
FEWEST = 2  # different values that a column must have, for its rows to say something
ID_WORDS = frozenset(("id", "code", "number", "no", "key", "name"))  # which say of no table that it is meant


@dataclass(frozen=True)
class Content:
    """The values of a column, texts in lower case, and whether each stands there once."""

    values: frozenset[Any]
    is_unique: bool


def completed(tables: Schema, database: Path) -> Schema:
    """A schema with the foreign keys that it declares and those that its rows keep to.

    Raises:
        schema.BadDatabase: the file cannot be read.
    """
    found = database.stat()
    return completed_once(tables, database, values.sha256_of(database, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=512)
def completed_once(tables: Schema, database: Path, sha256: str) -> Schema:
    """`completed`, for a file with this checksum."""
    return dataclasses.replace(tables, foreign_keys=(*tables.foreign_keys, *inferred(tables, contents(database, tables))))


def contents(database: Path, tables: Schema) -> dict[Place, Content]:
    """What stands in each column that is not too long, until the time is up."""
    found = {}
    with open_readonly(database, SECONDS) as connection:
        for table in tables.tables:
            for column in table.columns:
                name = quote_name(column.name)
                query = f"SELECT {name} FROM {quote_name(table.name)} WHERE {name} IS NOT NULL LIMIT {MOST_ROWS + 1}"
                try:
                    rows = [value.lower() if isinstance(value, str) else value for (value,) in connection.execute(query)]
                except (sqlite3.Error, UnicodeDecodeError):  # a damaged page, or the time is up
                    continue
                if len(rows) <= MOST_ROWS:
                    different = frozenset(rows)
                    found[table.name.lower(), column.name.lower()] = Content(different, len(different) == len(rows))
    return found


def inferred(tables: Schema, contents: dict[Place, Content]) -> list[ForeignKey]:
    """The keys that rows keep to, between tables that no declared key links.

    A column refers to another table if all its values stand in that table's key, and its name says so: its last word, "id" and
    the like aside, is in the name of the table or of the key.
    """
    linked = {frozenset((key.table.lower(), key.to_table.lower())) for key in tables.foreign_keys}
    declared = {(key.table.lower(), key.column.lower()) for key in tables.foreign_keys}
    found = []
    for table in tables.tables:
        for column in table.columns:
            place = (table.name.lower(), column.name.lower())
            here = contents.get(place)
            if place in declared or here is None or len(here.values) < FEWEST:
                continue
            targets = [
                (likeness(column.name, other, key), other.name, key)
                for other in tables.tables
                if other is not table and frozenset((place[0], other.name.lower())) not in linked
                for key in keys_of(other, contents)
                if here.values <= contents[other.name.lower(), key.lower()].values
                and (own_key(table) != place[1] or key.lower() == place[1])  # a table's own key refers to its like alone
            ]
            score, other, key = max(targets, default=(0, "", ""))
            if score:
                found.append(ForeignKey(table=table.name, column=column.name, to_table=other, to_column=key))
    return [key for key in found if not is_mirrored(key, found)]


def own_key(table: Table) -> str | None:
    """The name of a table's only primary key, in lower case."""
    keys = [column.name.lower() for column in table.columns if column.primary_key]
    return keys[0] if len(keys) == 1 else None


def keys_of(table: Table, contents: dict[Place, Content]) -> list[str]:
    """The columns of a table that a key may lead to: its only primary key, else those in which every value stands once."""
    own = own_key(table)
    return [
        column.name
        for column in table.columns
        if (content := contents.get((table.name.lower(), column.name.lower())))
        and content.is_unique
        and own in (None, column.name.lower())
    ]


def likeness(column: str, table: Table, key: str) -> int:
    """How clearly a column's name speaks of another table's key; 0 if it does not."""
    words = [stem(piece) for piece in pieces(column)]
    while words and words[-1] in ID_WORDS:
        words.pop()
    if not words:
        return 0
    of_table = {stem(piece) for name in (table.name, table.display_name) for piece in pieces(name)}
    of_key = {stem(piece) for piece in pieces(key)}
    if words[-1] not in of_table | of_key:
        return 0
    return 1 + 2 * len(set(words) & of_table) + len(set(words) & of_key) + 2 * (column.lower() == key.lower())


def is_mirrored(key: ForeignKey, others: list[ForeignKey]) -> bool:
    """Whether another key, earlier in the schema, says the same the other way round."""
    there = [(one.to_table, one.to_column, one.table, one.column) for one in others[: others.index(key)]]
    return (key.table, key.column, key.to_table, key.to_column) in there

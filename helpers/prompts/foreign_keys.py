"""Foreign-key inference: find keys that a database's rows satisfy without declaring them, as many users' files do.

Source: inclusion dependencies (De Marchi, Lopes and Petit, EDBT 2002), kept where the names agree (Motl and Kordík, ITAT 2017).
"""

from __future__ import annotations

import dataclasses
import functools
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.databases.schema import ForeignKey, Schema, Table, fold, open_readonly, quote_name
from helpers.prompts.linking import ColumnId
from helpers.prompts.words import split_words, stem

MAX_ROWS = 20_000  # of a column that is examined
SECONDS = 10.0  # to read one database; what has been read until then is used
FEWEST = 2  # distinct values that a column must have, for its rows to be evidence
ID_WORDS = frozenset(("id", "code", "number", "no", "key", "name"))  # they do not say which table is meant


@dataclass(frozen=True)
class Content:
    """The distinct values of a column, texts in lower case, and whether each occurs once."""

    values: frozenset[Any]
    is_unique: bool


def with_inferred_keys(schema: Schema, database: Path) -> Schema:
    """Return a schema with its declared foreign keys and those inferred from the rows.

    Raises:
        schema.BadDatabase: the file cannot be read.
    """
    found = database.stat()
    return _with_inferred_keys(schema, database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _with_inferred_keys(schema: Schema, database: Path, _size: int, _changed: int) -> Schema:
    inferred = infer_keys(schema, read_contents(database, schema))
    return dataclasses.replace(schema, foreign_keys=(*schema.foreign_keys, *inferred))


def read_contents(database: Path, schema: Schema) -> dict[ColumnId, Content]:
    """Return the content of each column of a table that is not too long, until the time is up. Others have no keys."""
    found = {}
    with open_readonly(database, SECONDS) as connection:
        for table in schema.tables:
            for column in table.columns if table.kind == "table" else ():
                name = quote_name(column.name)
                query = f"SELECT {name} FROM {quote_name(table.name)} WHERE {name} IS NOT NULL LIMIT {MAX_ROWS + 1}"
                try:
                    rows = [value.lower() if isinstance(value, str) else value for (value,) in connection.execute(query)]
                except (sqlite3.Error, UnicodeDecodeError):  # a damaged page, or the time is up
                    continue
                if len(rows) <= MAX_ROWS:
                    distinct = frozenset(rows)
                    found[fold(table.name), fold(column.name)] = Content(distinct, len(distinct) == len(rows))
    return found


def infer_keys(schema: Schema, contents: dict[ColumnId, Content]) -> list[ForeignKey]:
    """Return the keys that the rows satisfy, between tables that no declared key links.

    A column refers to another table if all its values occur in that table's key, and its name agrees: its last word, "id" and the
    like aside, is in the name of the table or of the key.
    """
    linked = {frozenset((fold(key.table), fold(key.to_table))) for key in schema.foreign_keys}
    declared = {(fold(key.table), fold(column)) for key in schema.foreign_keys for column in key.columns}
    found = []
    for table in schema.tables:
        for column in table.columns:
            source = (fold(table.name), fold(column.name))
            content = contents.get(source)
            if source in declared or content is None or len(content.values) < FEWEST:
                continue
            targets = [
                (name_score(column.name, other, key), other.name, key)
                for other in schema.tables
                if other is not table and frozenset((source[0], fold(other.name))) not in linked
                for key in candidate_keys(other, contents)
                if content.values <= contents[fold(other.name), fold(key)].values
                and (single_primary_key(table) != source[1] or fold(key) == source[1])  # a primary key refers to its like only
            ]
            score, other, key = max(targets, default=(0, "", ""))
            if score:
                found.append(ForeignKey(table=table.name, columns=(column.name,), to_table=other, to_columns=(key,)))
    return [key for key in found if not is_mirrored(key, found)]


def single_primary_key(table: Table) -> str | None:
    """Return the name of a table's only primary key column, in lower case; None if it has none or several."""
    keys = [fold(column.name) for column in table.columns if column.primary_key]
    return keys[0] if len(keys) == 1 else None


def candidate_keys(table: Table, contents: dict[ColumnId, Content]) -> list[str]:
    """Return the columns that a key may lead to: the only primary key, else those whose values are unique."""
    own = single_primary_key(table)
    return [
        column.name
        for column in table.columns
        if (content := contents.get((fold(table.name), fold(column.name))))
        and content.is_unique
        and own in (None, fold(column.name))
    ]


def name_score(column: str, table: Table, key: str) -> int:
    """Score how clearly a column's name refers to another table's key; 0 if it does not."""
    words = [stem(word) for word in split_words(column)]
    while words and words[-1] in ID_WORDS:
        words.pop()
    if not words:
        return 0
    of_table = {stem(word) for name in (table.name, table.display_name) for word in split_words(name)}
    of_key = {stem(word) for word in split_words(key)}
    if words[-1] not in of_table | of_key:
        return 0
    return 1 + 2 * len(set(words) & of_table) + len(set(words) & of_key) + 2 * (fold(column) == fold(key))


def is_mirrored(key: ForeignKey, others: list[ForeignKey]) -> bool:
    """Whether an earlier key is the same in the other direction."""
    reversed_keys = [(one.to_table, one.to_columns, one.table, one.columns) for one in others[: others.index(key)]]
    return (key.table, key.columns, key.to_table, key.to_columns) in reversed_keys

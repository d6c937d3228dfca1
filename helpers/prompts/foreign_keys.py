"""Foreign-key inference: find keys that a database's rows satisfy without declaring them, as many users' files do.

Source: inclusion dependencies (De Marchi, Lopes and Petit, EDBT 2002), kept where the names agree (Motl and Kordík, ITAT 2017).
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.databases.reading import NotRead, reading
from helpers.databases.schema import ForeignKey, Schema, Table, fold, quote_name, stored_columns
from helpers.prompts.linking import ColumnId
from helpers.prompts.words import split_words, stem

MAX_ROWS = 20_000  # of a column that is examined
SECONDS = 1.5  # to read one database; what has been read until then is used
MAX_CANDIDATES = 100  # keys that one column is compared with
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
    with reading(database, SECONDS) as reader:
        for table in schema.tables:
            for column in stored_columns(table) if table.kind == "table" else ():
                name = quote_name(column.name)
                query = f"SELECT {name} FROM {quote_name(table.name)} WHERE {name} IS NOT NULL LIMIT {MAX_ROWS + 1}"
                try:
                    rows = [value.lower() if isinstance(value, str) else value for (value,) in reader.rows(query)]
                except NotRead:  # a damaged page, values too large, or the time is up
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
    by_word = candidates_by_word(schema, contents)
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
                for other, key in by_word.get(last_word(column.name), ())[:MAX_CANDIDATES]
                if other is not table
                and frozenset((source[0], fold(other.name))) not in linked
                and content.values <= contents[fold(other.name), fold(key)].values
                and (single_primary_key(table) != source[1] or fold(key) == source[1])  # a primary key refers to its like only
            ]
            score, other, key = max(targets, default=(0, "", ""))
            if score:
                found.append(ForeignKey(table=table.name, columns=(column.name,), to_table=other, to_columns=(key,)))
    earlier = {(key.table, key.columns, key.to_table, key.to_columns): at for at, key in enumerate(found)}
    mirrored = [earlier.get((key.to_table, key.to_columns, key.table, key.columns), len(found)) for key in found]
    return [key for at, key in enumerate(found) if mirrored[at] >= at]  # of two that mirror each other, the first


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


def candidates_by_word(schema: Schema, contents: dict[ColumnId, Content]) -> dict[str, list[tuple[Table, str]]]:
    """Return the tables and their keys that a column's last word may mean: the stems of both names, each with its places."""
    found: dict[str, list[tuple[Table, str]]] = defaultdict(list)
    for table in schema.tables:
        for key in candidate_keys(table, contents):
            for word in {stem(word) for name in (table.name, table.display_name, key) for word in split_words(name)}:
                found[word].append((table, key))
    return found


def meaning_words(column: str) -> list[str]:
    """Return the stems of a column's name without "id" and the like at its end."""
    words = [stem(word) for word in split_words(column)]
    while words and words[-1] in ID_WORDS:
        words.pop()
    return words


def last_word(column: str) -> str:
    """Return the word of a column's name that says which table is meant; '' if there is none."""
    return (meaning_words(column) or [""])[-1]


def name_score(column: str, table: Table, key: str) -> int:
    """Score how clearly a column's name refers to another table's key; 0 if it does not."""
    words = meaning_words(column)
    if not words:
        return 0
    of_table = {stem(word) for name in (table.name, table.display_name) for word in split_words(name)}
    of_key = {stem(word) for word in split_words(key)}
    if words[-1] not in of_table | of_key:
        return 0
    return 1 + 2 * len(set(words) & of_table) + len(set(words) & of_key) + 2 * (fold(column) == fold(key))

"""Spider's file layout: examples in JSON, JSONL or CSV, `database/<db_id>/<db_id>.sqlite`, and tables.json."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.databases import schema

FIELDS = {"question": ("question",), "query": ("query", "sql", "SQL"), "db_id": ("db_id",)}


class BadData(ValueError):
    """Data that cannot be used; the message names what is wrong, where, and what is expected."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A question about a database, and its gold SQL.

    Attributes:
        hardness: "easy", "medium", "hard" or "extra" (judge.hardness).
        seen: whether training examples ask about the same database.
    """

    question: str
    query: str
    db_id: str
    hardness: str
    seen: bool = False


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of these files that exists."""
    # os.path.isfile says no to a name that is too long or has a NUL; Path.is_file may raise
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def find_database(folder: Path, db_id: str) -> Path | None:
    """Return the SQLite file of a database, or a link to one. A db_id that is no plain name finds nothing."""
    if not db_id.strip(". ") or not set("/\\:\0").isdisjoint(db_id):
        return None
    names = (f"database/{db_id}/{db_id}.sqlite", f"{db_id}/{db_id}.sqlite", f"{db_id}.sqlite", f"{db_id}.db")
    return first_file(folder, names)


def find_databases(folder: Path, db_ids: Iterable[str] | None = None) -> dict[str, Path]:
    """Return databases of a folder by db_id: `<db_id>/<db_id>.sqlite` in it or in its `database/`, or single files.

    Args:
        db_ids: those to look for; the ones that are missing are left out. None finds all.
    """
    if db_ids is None:
        parent = folder / "database" if (folder / "database").is_dir() else folder
        db_ids = sorted(path.stem for path in parent.iterdir() if path.is_dir() or path.suffix in (".sqlite", ".db"))
    return {db_id: path for db_id in db_ids if (path := find_database(folder, db_id))}


def read_rows(file: Path) -> Iterator[tuple[str, dict]]:
    """Yield each row of a CSV, JSON or JSONL file with its position ("line 7"); the row has the keys of FIELDS.

    Raises:
        BadData: the file cannot be read in its format, or holds no rows.
    """
    rows = []
    try:
        for position, row in rows_of_text(file.read_text(encoding="utf-8-sig"), file.suffix):  # spreadsheets write a BOM first
            rows.append((position, row))
    except csv.Error as error:  # where a quote is never closed, the reader knows the end of the file alone
        raise BadData(f"{file} cannot be read after {rows[-1][0] if rows else 'line 1'}: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadData(f"{file} cannot be read: {error}") from error
    if not rows or not all(isinstance(row, dict) for _, row in rows):
        raise BadData(f"{file} holds no examples: it needs rows with question, query and db_id")
    for position, row in rows:
        yield (
            position,
            {field: next((row[name] for name in names if row.get(name)), None) for field, names in FIELDS.items()},
        )


def rows_of_text(text: str, suffix: str) -> Iterator[tuple[str, Any]]:
    """Yield each row of CSV, JSONL or JSON text as it is, with its position.

    Lines end with a newline only: str.splitlines would cut questions at the rarer separators of Unicode as well.
    """
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline="\n"), strict=True)
        for row in reader:
            yield f"line {reader.line_num}", row
    elif suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from error
                yield f"line {number}", row
    else:
        for number, row in enumerate(json.loads(text)):
            yield f"entry {number}", row


def read_tables(file: Path) -> dict[str, schema.Schema]:
    """Return the schemas of a tables.json by db_id, with the foreign keys and display names that it lists.

    Raises:
        BadData: the file does not have that form.
    """
    try:
        found = [schema.from_spider(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadData(f"{file} cannot be read as Spider's tables.json: {type(error).__name__}: {error}") from error
    return {one.db_id: one for one in found}

"""Read a database's tables, columns and keys from the SQLite file itself: hostile input, like everything users bring."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

# White space and comments, or (group 1) what is quoted in one of SQLite's four ways.
GAP = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\])|(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+""", re.DOTALL)
USER_TABLES = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"  # a condition on sqlite_master: not SQLite's own tables


class BadDatabase(ValueError):
    """A file that is no SQLite database, is damaged, or has no table."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name and type as declared ('' where none is), and its display name ('' where none is known)."""

    name: str
    type: str
    primary_key: bool = False
    display_name: str = ""


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """`table.column` refers to `to_table.to_column`."""

    table: str
    column: str
    to_table: str
    to_column: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, its columns in declared order, and its display name ('' where none is known)."""

    name: str
    columns: tuple[Column, ...]
    display_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The tables of one database in the order they were created, and the foreign keys between them."""

    db_id: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]

    def lines(self) -> list[str]:
        """Return the schema as the model reads it: one line a table, then the keys whose column names differ.

            singer: singer_id, name, country
            concert: concert_id, title, held_by
            keys: concert.held_by = singer.singer_id

        A key between columns of one name is obvious, and would cost tokens.
        """
        lines = [f"{table.name}: {', '.join(column.name for column in table.columns)}" for table in self.tables]
        keys = [
            f"{key.table}.{key.column} = {key.to_table}.{key.to_column}"
            for key in self.foreign_keys
            if key.column.lower() != key.to_column.lower()
        ]
        return [*lines, f"keys: {', '.join(keys)}"] if keys else lines

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return the column names of each table, all in lower case."""
        return {table.name.lower(): tuple(column.name.lower() for column in table.columns) for table in self.tables}

    def as_spider(self) -> dict:
        """Return the schema as an entry of Spider's tables.json. Column 0 is `*`; a missing display name is derived."""
        original = [
            [-1, "*"],
            *([number, column.name] for number, table in enumerate(self.tables) for column in table.columns),
        ]
        index = {
            (self.tables[number].name.lower(), name.lower()): at for at, (number, name) in enumerate(original) if number >= 0
        }
        columns = [column for table in self.tables for column in table.columns]
        return {
            "db_id": self.db_id,
            "table_names_original": [table.name for table in self.tables],
            "table_names": [table.display_name or table.name.replace("_", " ").lower() for table in self.tables],
            "column_names_original": original,
            "column_names": [
                [-1, "*"],
                *(
                    [number, column.display_name or column.name.replace("_", " ").lower()]
                    for number, table in enumerate(self.tables)
                    for column in table.columns
                ),
            ],
            "column_types": ["text", *(type_group(column.type) for column in columns)],
            "primary_keys": [at for at, column in enumerate(columns, start=1) if column.primary_key],
            "foreign_keys": [
                [index[key.table.lower(), key.column.lower()], index[key.to_table.lower(), key.to_column.lower()]]
                for key in self.foreign_keys
            ],
        }


def from_spider(entry: dict) -> Schema:
    """Return the schema of an entry of Spider's tables.json, which may know keys that the SQLite file does not declare.

    Raises:
        KeyError, IndexError, TypeError, ValueError: it is no such entry.
    """
    names, original = entry["table_names_original"], entry["column_names_original"]
    if any(original[at][0] < 0 for pair in entry["foreign_keys"] for at in pair):
        raise ValueError(f"a foreign key of {entry['db_id']} leads to no column of a table")
    primary = {at for key in entry["primary_keys"] for at in (key if isinstance(key, list) else [key])}
    columns = [
        Column(name=name, type=kind, primary_key=at in primary, display_name=display_name)
        for at, ((_, name), (_, display_name), kind) in enumerate(
            zip(original, entry["column_names"], entry["column_types"], strict=True)
        )
    ]
    return Schema(
        db_id=entry["db_id"],
        tables=tuple(
            Table(
                name=table,
                columns=tuple(columns[at] for at, (owner, _) in enumerate(original) if owner == number),
                display_name=entry["table_names"][number],
            )
            for number, table in enumerate(names)
        ),
        foreign_keys=tuple(
            ForeignKey(
                table=names[original[a][0]], column=original[a][1], to_table=names[original[b][0]], to_column=original[b][1]
            )
            for a, b in entry["foreign_keys"]
        ),
    )


def with_display_names(schema: Schema, described: Schema | None) -> Schema:
    """Return a database's schema with the display names that another description of it has (`from_spider`)."""
    if described is None:
        return schema
    of_tables = {table.name.lower(): table.display_name for table in described.tables}
    of_columns = {
        (table.name.lower(), column.name.lower()): column.display_name for table in described.tables for column in table.columns
    }
    return dataclasses.replace(
        schema,
        tables=tuple(
            dataclasses.replace(
                table,
                display_name=of_tables.get(table.name.lower(), ""),
                columns=tuple(
                    dataclasses.replace(column, display_name=of_columns.get((table.name.lower(), column.name.lower()), ""))
                    for column in table.columns
                ),
            )
            for table in schema.tables
        ),
    )


# ---- names and texts in SQL


@functools.lru_cache(maxsize=4096)
def needs_no_quotes(name: str) -> bool:
    """Whether SQLite takes a name unquoted: an identifier that is no keyword. SQLite itself is asked."""
    if not name.isidentifier():
        return False
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {name} ({name})")
        connection.execute(f"SELECT {name}.{name}, max({name}) FROM {name} WHERE {name} = 1 GROUP BY {name}")
        return True
    return False


def sql_literal(text: str) -> str:
    """Return a text as an SQL literal, in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def one_line(query: str) -> str:
    """Return SQL on one line: white space and comments folded outside of quotes, no semicolon at the end."""
    return GAP.sub(lambda found: found[1] or " ", query).strip().rstrip("; ")


def type_group(declared: str) -> str:
    """Return 'number', 'time' or 'text' for a declared SQLite type, as tables.json groups them."""
    declared = declared.lower()
    if any(word in declared for word in ("int", "real", "num", "dec", "float", "double")):
        return "number"
    return "time" if "date" in declared or "time" in declared else "text"


# ---- reading a file


def refuse_open_changes(database: Path) -> None:
    """Refuse a database whose last changes lie in a file beside it, which is never read, or are being written now.

    Raises:
        BadDatabase: there are such changes.
    """
    for ending, advice in (("-wal", "or run `PRAGMA wal_checkpoint(TRUNCATE)` in it"), ("-journal", "or open it once with it")):
        journal = database.with_name(database.name + ending)
        if journal.is_file() and journal.stat().st_size:
            raise BadDatabase(
                f"{database} has changes that lie beside it in {journal.name}: close the program that has it open, {advice}"
            )


def open_readonly(database: Path, seconds: float | None = None) -> contextlib.closing[sqlite3.Connection]:
    """Open an SQLite file for our own queries, read-only and immutable; use it in a `with` block. Bad UTF-8 is replaced.

    Args:
        seconds: a deadline for all queries together, after which they fail; None sets none.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(database.resolve().as_uri() + "?mode=ro&immutable=1", uri=True)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    # A link that leads nowhere, or a column that its table lacks, is left out rather than believed.
    connection.execute("PRAGMA trusted_schema = 0")
    if seconds is not None:
        end = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    return contextlib.closing(connection)


def read(database: Path) -> Schema:
    """Return the schema of an SQLite file. It is cached for as long as the file's size and time stay the same.

    Raises:
        BadDatabase: the file is missing, damaged, no SQLite database, or has no table.
    """
    refuse_open_changes(database)
    try:
        found = database.stat()
    except OSError as error:
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    return _read(database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read(database: Path, _size: int, _changed: int) -> Schema:
    try:
        with open_readonly(database) as connection:
            query = f"SELECT name FROM sqlite_master WHERE type = 'table' AND {USER_TABLES} ORDER BY rowid"
            names = [name for (name,) in connection.execute(query)]
            tables = tuple(read_table(connection, name) for name in names)
            keys = tuple(key for table in tables for key in read_keys(connection, table, tables))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second where SQLite complains of a name that is no UTF-8
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    if not tables:
        raise BadDatabase(f"{database} has no table")
    return Schema(db_id=database.stem, tables=tables, foreign_keys=keys)


def read_table(connection: sqlite3.Connection, name: str) -> Table:
    """Return one table with its columns."""
    # xinfo has generated columns as well; hidden = 1 are a virtual table's inner ones
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1", (name,))
    return Table(name=name, columns=tuple(Column(name=column, type=kind, primary_key=bool(key)) for column, kind, key in rows))


def read_keys(connection: sqlite3.Connection, table: Table, tables: tuple[Table, ...]) -> list[ForeignKey]:
    """Return the foreign keys of one table as declared. A key that names no column refers to the other table's primary key."""
    by_name = {other.name.lower(): other for other in tables}
    keys = []
    for target, index, column, to_column in connection.execute(  # SQLite numbers them from the last declared
        'SELECT "table", seq, "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (table.name,)
    ):
        other = by_name.get(target.lower())
        if other is None:
            continue
        if to_column is None:
            primary = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (other.name,)).fetchall()
            to_column = primary[index][0] if index < len(primary) else None
        found = next(
            (candidate.name for candidate in other.columns if to_column and candidate.name.lower() == to_column.lower()),
            None,
        )
        if found:
            keys.append(ForeignKey(table=table.name, column=column, to_table=other.name, to_column=found))
    return keys

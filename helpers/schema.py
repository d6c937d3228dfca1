"""A database's tables, columns and keys, read from the SQLite file itself: hostile input, like everything users bring."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

# White space and comments, or (group 1) what is quoted in one of SQLite's four ways.
GAP = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\])|(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+""", re.DOTALL)
OF_USERS = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"  # tables that are not SQLite's own


class BadDatabase(ValueError):
    """A file that is no SQLite database, is damaged, or has no table."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name and type as declared ('' where none is).

    Attributes:
        label: its name for people, where one is known ('stu_id' -> 'student id').
    """

    name: str
    type: str
    primary_key: bool = False
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """`table.column` refers to `to_table.to_column`."""

    table: str
    column: str
    to_table: str
    to_column: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table and its columns in declared order.

    Attributes:
        label: its name for people, where one is known.
    """

    name: str
    columns: tuple[Column, ...]
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The tables of one database, in the order they were created, and the keys that link them."""

    db_id: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]

    def lines(self) -> list[str]:
        """The schema as the model reads it: a line a table, then the links whose column names differ.

            singer: singer_id, name, country
            concert: concert_id, title, held_by
            keys: concert.held_by = singer.singer_id

        A link between columns of one name goes without saying, and so costs no tokens.
        """
        lines = [f"{table.name}: {', '.join(column.name for column in table.columns)}" for table in self.tables]
        keys = [
            f"{key.table}.{key.column} = {key.to_table}.{key.to_column}"
            for key in self.foreign_keys
            if key.column.lower() != key.to_column.lower()
        ]
        return [*lines, f"keys: {', '.join(keys)}"] if keys else lines

    def columns(self) -> dict[str, tuple[str, ...]]:
        """The names of each table's columns, all in lower case."""
        return {table.name.lower(): tuple(column.name.lower() for column in table.columns) for table in self.tables}

    def as_spider(self) -> dict:
        """The schema as an entry of Spider's tables.json. Column 0 is `*`; where a name for people is not known, the name with
        spaces stands for it.
        """
        original = [
            [-1, "*"],
            *([number, column.name] for number, table in enumerate(self.tables) for column in table.columns),
        ]
        place = {
            (self.tables[number].name.lower(), name.lower()): at for at, (number, name) in enumerate(original) if number >= 0
        }
        columns = [column for table in self.tables for column in table.columns]
        return {
            "db_id": self.db_id,
            "table_names_original": [table.name for table in self.tables],
            "table_names": [table.label or table.name.replace("_", " ").lower() for table in self.tables],
            "column_names_original": original,
            "column_names": [
                [-1, "*"],
                *(
                    [number, column.label or column.name.replace("_", " ").lower()]
                    for number, table in enumerate(self.tables)
                    for column in table.columns
                ),
            ],
            "column_types": ["text", *(spider_type(column.type) for column in columns)],
            "primary_keys": [at for at, column in enumerate(columns, start=1) if column.primary_key],
            "foreign_keys": [
                [place[key.table.lower(), key.column.lower()], place[key.to_table.lower(), key.to_column.lower()]]
                for key in self.foreign_keys
            ],
        }


def from_spider(entry: dict) -> Schema:
    """The schema of an entry of Spider's tables.json, which may know keys that the SQLite file does not declare.

    Raises:
        KeyError, IndexError, TypeError, ValueError: it is no such entry.
    """
    names, original = entry["table_names_original"], entry["column_names_original"]
    if any(original[at][0] < 0 for pair in entry["foreign_keys"] for at in pair):
        raise ValueError(f"a foreign key of {entry['db_id']} leads to no column of a table")
    primary = {at for key in entry["primary_keys"] for at in (key if isinstance(key, list) else [key])}
    columns = [
        Column(name=name, type=kind, primary_key=at in primary, label=label)
        for at, ((_, name), (_, label), kind) in enumerate(
            zip(original, entry["column_names"], entry["column_types"], strict=True)
        )
    ]
    return Schema(
        db_id=entry["db_id"],
        tables=tuple(
            Table(
                name=table,
                columns=tuple(columns[at] for at, (place, _) in enumerate(original) if place == number),
                label=entry["table_names"][number],
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


def labelled(tables: Schema, described: Schema | None) -> Schema:
    """A database's schema with the names for people that another description of it knows (`from_spider`)."""
    if described is None:
        return tables
    table_labels = {table.name.lower(): table.label for table in described.tables}
    labels = {(table.name.lower(), column.name.lower()): column.label for table in described.tables for column in table.columns}
    return dataclasses.replace(
        tables,
        tables=tuple(
            dataclasses.replace(
                table,
                label=table_labels.get(table.name.lower(), ""),
                columns=tuple(
                    dataclasses.replace(column, label=labels.get((table.name.lower(), column.name.lower()), ""))
                    for column in table.columns
                ),
            )
            for table in tables.tables
        ),
    )


@functools.lru_cache(maxsize=4096)
def needs_no_quotes(name: str) -> bool:
    """Whether SQLite takes a name as it is: a word, and none of SQL's own, which SQLite itself is asked."""
    if not name.isidentifier():
        return False
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {name} ({name})")
        connection.execute(f"SELECT {name}.{name}, max({name}) FROM {name} WHERE {name} = 1 GROUP BY {name}")
        return True
    return False


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def folded(query: str) -> str:
    """SQL on one line: white space and comments folded outside of quotes, no semicolon at the end."""
    return GAP.sub(lambda found: found[1] or " ", query).strip().rstrip("; ")


def spider_type(declared: str) -> str:
    """'number', 'time' or 'text' for a declared SQLite type."""
    declared = declared.lower()
    if any(word in declared for word in ("int", "real", "num", "dec", "float", "double")):
        return "number"
    return "time" if "date" in declared or "time" in declared else "text"


def refuse_open_changes(database: Path) -> None:
    """Refuse a database whose last changes lie in a file beside it, which is never looked at, or are being written just now.

    Raises:
        BadDatabase: there are such changes.
    """
    for ending, advice in (("-wal", "or run `PRAGMA wal_checkpoint(TRUNCATE)` in it"), ("-journal", "or open it once with it")):
        journal = database.with_name(database.name + ending)
        if journal.is_file() and journal.stat().st_size:
            raise BadDatabase(
                f"{database} has changes that lie beside it in {journal.name}: close the program that has it open, {advice}"
            )


def read(database: Path) -> Schema:
    """The schema of an SQLite file, looked at once as long as the file stays the same.

    Raises:
        BadDatabase: the file is missing, damaged, no SQLite database, or has no table.
    """
    refuse_open_changes(database)
    try:
        found = database.stat()
    except OSError as error:
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    return read_file(database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def read_file(database: Path, size: int, changed: int) -> Schema:
    """`read`, for a file of this size and time of its last change."""
    try:
        # Written so that a link that leads nowhere, or a column that its table lacks, is left out rather than believed.
        with contextlib.closing(sqlite3.connect(database.resolve().as_uri() + "?mode=ro&immutable=1", uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
            connection.execute("PRAGMA trusted_schema = 0")
            query = f"SELECT name FROM sqlite_master WHERE type = 'table' AND {OF_USERS} ORDER BY rowid"
            names = [name for (name,) in connection.execute(query)]
            tables = tuple(read_table(connection, name) for name in names)
            keys = tuple(key for table in tables for key in read_keys(connection, table, tables))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second where SQLite complains of a name that is no UTF-8
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    if not tables:
        raise BadDatabase(f"{database} has no table")
    return Schema(db_id=database.stem, tables=tables, foreign_keys=keys)


def read_table(connection: sqlite3.Connection, name: str) -> Table:
    """One table with its columns."""
    # xinfo has generated columns as well; hidden = 1 are a virtual table's inner ones
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1", (name,))
    return Table(name=name, columns=tuple(Column(name=column, type=kind, primary_key=bool(key)) for column, kind, key in rows))


def read_keys(connection: sqlite3.Connection, table: Table, tables: tuple[Table, ...]) -> list[ForeignKey]:
    """The foreign keys of one table as declared. A key that names no column refers to the other table's primary key."""
    by_name = {other.name.lower(): other for other in tables}
    keys = []
    for target, place, column, to_column in connection.execute(  # SQLite numbers them from the last declared
        'SELECT "table", seq, "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (table.name,)
    ):
        other = by_name.get(target.lower())
        if other is None:
            continue
        if to_column is None:
            primary = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (other.name,)).fetchall()
            to_column = primary[place][0] if place < len(primary) else None
        found = next(
            (candidate.name for candidate in other.columns if to_column and candidate.name.lower() == to_column.lower()),
            None,
        )
        if found:
            keys.append(ForeignKey(table=table.name, column=column, to_table=other.name, to_column=found))
    return keys

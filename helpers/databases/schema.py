"""Read a database's tables, columns and keys from the SQLite file itself: hostile input, like everything users bring."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.databases.reading import NotRead, Reader, reading
from helpers.databases.virtual_tables import is_shadow, module_of

# White space and comments, or (group 1) what is quoted in one of SQLite's four ways.
GAP = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\])|(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+""", re.DOTALL)
# Tables and views without SQLite's own, the columns of some of them, and the keys of tables, which it numbers from the last.
TABLES = (
    "SELECT name, type, CAST(substr(sql, 1, 1000) AS TEXT) FROM sqlite_master WHERE type IN ('table', 'view') "
    "AND typeof(name) = 'text' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type = 'view', rowid"
)
COLUMNS = (  # hidden = 1 are a virtual table's inner ones
    "SELECT m.name, x.name, x.type, x.pk, x.hidden FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x "
    "WHERE m.type IN ('table', 'view') AND typeof(m.name) = 'text' AND {} AND x.hidden <> 1 ORDER BY m.rowid, x.cid"
)
KEYS = (
    'SELECT m.name, f.id, f."table", f."from", f."to" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f '
    "WHERE m.type = 'table' AND typeof(m.name) = 'text' AND m.rootpage ORDER BY m.rowid, f.id DESC, f.seq"
)
GENERATED = (2, 3)  # what pragma_table_xinfo says of columns that are computed from others
ASCII_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
SECONDS = 3.0  # to read a schema
VIEW_SECONDS = 1.0  # of them for the first row of a view or virtual table
MAX_TABLES, MAX_COLUMNS = 5_000, 10_000
NAME_CHARACTERS, NAMES_CUT = 200, 40  # of a name at most; of a longer one shown


class BadDatabase(ValueError):
    """A file that is no SQLite database, is damaged, or has no table."""


def fold(name: str) -> str:
    """Return a name as SQLite compares it: A to Z in lower case, every other letter as it is."""
    return name.translate(ASCII_LOWER)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name and type as declared ('' where none is), and its display name ('' where none is known).

    `is_generated`: its values are computed from other columns.
    """

    name: str
    type: str
    primary_key: bool = False
    display_name: str = ""
    is_generated: bool = False


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """One foreign key: `columns` of `table` refer to `to_columns` of `to_table`, in order. A composite key has several."""

    table: str
    columns: tuple[str, ...]
    to_table: str
    to_columns: tuple[str, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each column with the one that it refers to."""
        return tuple(zip(self.columns, self.to_columns, strict=True))

    def ends(self) -> set[tuple[str, str]]:
        """Return (table, column) of every column on either side, folded."""
        return {
            (fold(table), fold(column))
            for table, columns in ((self.table, self.columns), (self.to_table, self.to_columns))
            for column in columns
        }


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, its columns in declared order, and its display name ('' where none is known). `kind`: table, view or virtual."""

    name: str
    columns: tuple[Column, ...]
    display_name: str = ""
    kind: str = "table"


def stored_columns(table: Table) -> tuple[Column, ...]:
    """Return the columns that hold values. Those of a view and generated ones are computed, which may take any time."""
    return tuple(column for column in table.columns if table.kind != "view" and not column.is_generated)


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The tables of one database in the order they were created, then its views, and the foreign keys between tables.

    Attributes:
        unreadable: what the file has and SQLite cannot read here, each with the reason.
    """

    db_id: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    unreadable: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the schema as the model reads it: one line a table, then the keys whose column names differ.

            singer: singer_id, name, country
            concert: concert_id, title, held_by
            keys: concert.held_by = singer.singer_id

        A key between columns of one name is obvious, and would cost tokens.
        """
        lines = [f"{table.name}: {', '.join(column.name for column in table.columns)}" for table in self.tables]
        keys = [
            f"{key.table}.{column} = {key.to_table}.{to_column}"
            for key in self.foreign_keys
            for column, to_column in key.pairs
            if fold(column) != fold(to_column)
        ]
        return [*lines, f"keys: {', '.join(keys)}"] if keys else lines

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return the column names of each table, all folded."""
        return {fold(table.name): tuple(fold(column.name) for column in table.columns) for table in self.tables}

    def as_spider(self) -> dict:
        """Return the schema as an entry of Spider's tables.json. Column 0 is `*`; a missing display name is derived."""
        original = [
            [-1, "*"],
            *([number, column.name] for number, table in enumerate(self.tables) for column in table.columns),
        ]
        index = {(fold(self.tables[number].name), fold(name)): at for at, (number, name) in enumerate(original) if number >= 0}
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
                [index[fold(key.table), fold(column)], index[fold(key.to_table), fold(to_column)]]
                for key in self.foreign_keys
                for column, to_column in key.pairs
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
                table=names[original[a][0]],
                columns=(original[a][1],),
                to_table=names[original[b][0]],
                to_columns=(original[b][1],),
            )
            for a, b in entry["foreign_keys"]
        ),
    )


def with_display_names(schema: Schema, described: Schema | None) -> Schema:
    """Return a database's schema with the display names that another description of it has (`from_spider`)."""
    if described is None:
        return schema
    of_tables = {fold(table.name): table.display_name for table in described.tables}
    of_columns = {
        (fold(table.name), fold(column.name)): column.display_name for table in described.tables for column in table.columns
    }
    return dataclasses.replace(
        schema,
        tables=tuple(
            dataclasses.replace(
                table,
                display_name=of_tables.get(fold(table.name), ""),
                columns=tuple(
                    dataclasses.replace(column, display_name=of_columns.get((fold(table.name), fold(column.name)), ""))
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
        if os.path.isfile(journal) and journal.stat().st_size:
            raise BadDatabase(
                f"{database} has changes that lie beside it in {journal.name}: close the program that has it open, {advice}"
            )


def read(database: Path) -> Schema:
    """Return the schema of an SQLite file. It is cached for as long as the file's size and time stay the same.

    Left out are the tables in which a virtual table keeps its content, columns without a name, and, named in `unreadable`, what
    SQLite cannot read here (a virtual table whose module is not there, a view that does not run) and names too long to use.

    Raises:
        BadDatabase: the file is missing, damaged, no SQLite database, has no table that can be read, or has too many.
    """
    refuse_open_changes(database)
    try:
        found = database.stat()
    except OSError as error:
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    return _read(database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read(database: Path, _size: int, _changed: int) -> Schema:
    unreadable: list[str] = []
    try:
        with reading(database, SECONDS) as reader:
            found = reader.rows(TABLES, of_schema=True)
            columns, primary = sorted_columns(reader.rows(COLUMNS.format("m.rootpage"), of_schema=True), unreadable)
            keys = reader.rows(KEYS, of_schema=True)
            modules = {fold(name): module for name, _, sql in found if (module := module_of(sql or ""))}
            tables = []
            for name, kind, _ in found:
                if is_shadow(fold(name), modules):
                    continue
                if (kind := "virtual" if fold(name) in modules else kind) != "table":
                    columns[name] = columns_of(reader, name, unreadable)
                if columns.get(name):
                    tables.append(Table(name=name, columns=tuple(columns[name]), kind=kind))
    except (NotRead, OSError) as error:
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    if not tables:
        why = f" that can be read: {'; '.join(unreadable)}" if unreadable else ""
        raise BadDatabase(f"{database} has no table{why}")
    check_size(database, len(tables), sum(len(table.columns) for table in tables))
    return Schema(
        db_id=database.stem,
        tables=tuple(tables),
        foreign_keys=tuple(foreign_keys(keys, tables, primary)),
        unreadable=tuple(unreadable),
    )


def check_size(database: Path, tables: int, columns: int) -> None:
    """Refuse a schema that no prompt could be made from in reasonable time."""
    for count, most, what in ((tables, MAX_TABLES, "tables"), (columns, MAX_COLUMNS, "columns")):
        if count > most:
            why = f"has {count:,} {what}, {most:,} are allowed"
            raise BadDatabase(f"{database} {why}: copy those that you ask about into a file of their own")


def sorted_columns(rows: Sequence[tuple], unreadable: list[str]) -> tuple[dict[str, list[Column]], dict[str, list[str]]]:
    """Return the columns of each table, and the names of its primary key in the key's order.

    Args:
        rows: of COLUMNS. A column without a name is left out: no query can ask for it by name.
        unreadable: names that are too long are added, cut.
    """
    columns: dict[str, list[Column]] = defaultdict(list)
    primary: dict[str, dict[int, str]] = defaultdict(dict)
    for table, name, kind, at, hidden in rows:
        if at:
            primary[table][at] = name
        if too_long := next((one for one in (table, name) if len(one) > NAME_CHARACTERS), ""):
            said = f"{too_long[:NAMES_CUT]}… (its name has {len(too_long):,} characters)"
            unreadable += [said] if said not in unreadable[-1:] else []
        elif name.strip():
            columns[table].append(Column(name=name, type=kind, primary_key=bool(at), is_generated=hidden in GENERATED))
    return columns, {table: [named for _, named in sorted(parts.items())] for table, parts in primary.items()}


def columns_of(reader: Reader, name: str, unreadable: list[str]) -> list[Column]:
    """Return the columns of a view or virtual table; none where SQLite cannot read it, which `unreadable` says then.

    The sandbox tries it: a view is foreign SQL.
    """
    try:
        reader.rows(f"SELECT * FROM {quote_name(name)} LIMIT 1", seconds=VIEW_SECONDS)
        rows = reader.rows(COLUMNS.format(f"m.name = {sql_literal(name)}"), of_schema=True)
    except NotRead as error:
        unreadable.append(f"{name[:NAME_CHARACTERS]} ({error})")
        return []
    return sorted_columns(rows, unreadable)[0][name]


def foreign_keys(rows: Sequence[tuple], tables: Sequence[Table], primary: dict[str, list[str]]) -> Iterator[ForeignKey]:
    """Yield the foreign keys as declared. A key that names no column refers to the other table's primary key.

    A key is left out where one of its ends is missing.

    Args:
        rows: of KEYS.
        primary: the names of each table's primary key.
    """
    by_name = {fold(table.name): table for table in tables}
    known = {fold(table.name): {fold(column.name): column.name for column in table.columns} for table in tables}
    for (name, _), parts in itertools.groupby(rows, key=lambda row: row[:2]):
        pairs = list(parts)
        table, other = by_name.get(fold(name)), by_name.get(fold(pairs[0][2]))
        if table is None or other is None:
            continue
        own = primary.get(other.name, [])
        wanted = [named or (own[at] if at < len(own) else "") for at, (*_, named) in enumerate(pairs)]
        columns, to_columns = (
            tuple(known[fold(one.name)][fold(column)] for column in names if fold(column) in known[fold(one.name)])
            for one, names in ((table, [column for *_, column, _ in pairs]), (other, wanted))
        )
        if len(columns) == len(to_columns) == len(pairs):
            yield ForeignKey(table=table.name, columns=columns, to_table=other.name, to_columns=to_columns)

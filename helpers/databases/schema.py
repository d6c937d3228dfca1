"""Read a database's tables, columns and keys from the SQLite file itself: hostile input, like everything users bring."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.databases.sandbox import Limits, Sandbox

# White space and comments, or (group 1) what is quoted in one of SQLite's four ways.
GAP = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\])|(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+""", re.DOTALL)
USER_TABLES = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"  # a condition on sqlite_master: not SQLite's own tables
VIRTUAL = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+\W?(\w+)", re.IGNORECASE | re.DOTALL)
# The tables in which a virtual table keeps its content are called after it: its name, an underscore, and one of these.
SHADOWS = {
    **dict.fromkeys(("fts3", "fts4"), "content|docsize|segdir|segments|stat"),
    "fts5": "config|content|data|docsize|idx",
    **dict.fromkeys(("rtree", "rtree_i32", "geopoly"), "node|parent|rowid"),
    "vec0": r"auxiliary|chunks|info|rowids|(metadatachunks|metadatatext|vector_chunks)\d+",
    "spellfix1": "vocab",
}
ASCII_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
VIEW_SECONDS = 5.0  # to give its first row


class BadDatabase(ValueError):
    """A file that is no SQLite database, is damaged, or has no table."""


def fold(name: str) -> str:
    """Return a name as SQLite compares it: A to Z in lower case, every other letter as it is."""
    return name.translate(ASCII_LOWER)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name and type as declared ('' where none is), and its display name ('' where none is known)."""

    name: str
    type: str
    primary_key: bool = False
    display_name: str = ""


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

    Left out are the tables in which a virtual table keeps its content, columns without a name, and, named in `unreadable`, what
    SQLite cannot read here: a virtual table whose module is not there, a view that does not run.

    Raises:
        BadDatabase: the file is missing, damaged, no SQLite database, or has no table that can be read.
    """
    refuse_open_changes(database)
    try:
        found = database.stat()
    except OSError as error:
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    return _read(database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read(database: Path, _size: int, _changed: int) -> Schema:
    query = (
        f"SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') AND {USER_TABLES} "
        "ORDER BY type = 'view', rowid"
    )
    unreadable = []
    try:
        with open_readonly(database) as connection, Sandbox(Limits(seconds=VIEW_SECONDS)) as sandbox:
            found = connection.execute(query).fetchall()
            modules = {name: matched[1].lower() for name, _, sql in found if (matched := VIRTUAL.match(sql or ""))}
            tables = []
            for name, kind, _ in found:
                if is_shadow(name, modules):
                    continue
                kind = "virtual" if name in modules else kind
                if kind != "table" and (fault := fault_of(sandbox, database, name)):
                    unreadable.append(f"{name} ({fault})")
                elif (table := read_table(connection, name, kind)).columns:
                    tables.append(table)
            keys = tuple(key for table in tables for key in read_keys(connection, table, tables))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second where SQLite complains of a name that is no UTF-8
        raise BadDatabase(f"{database} cannot be read as an SQLite database: {error}") from error
    if not tables:
        why = f" that can be read: {'; '.join(unreadable)}" if unreadable else ""
        raise BadDatabase(f"{database} has no table{why}")
    return Schema(db_id=database.stem, tables=tuple(tables), foreign_keys=keys, unreadable=tuple(unreadable))


def is_shadow(name: str, modules: dict[str, str]) -> bool:
    """Whether a table belongs to a virtual one, which keeps its content there.

    Args:
        modules: the module of each virtual table by the table's name.

    Source: SQLite, "The Virtual Table Mechanism", section 2.17, and the pages of FTS3, FTS5, R*Tree and spellfix1; sqlite-vec.
    """
    return any(
        re.fullmatch(f"{re.escape(fold(virtual))}_({SHADOWS[module]})", fold(name))
        for virtual, module in modules.items()
        if module in SHADOWS
    )


def fault_of(sandbox: Sandbox, database: Path, name: str) -> str:
    """Return why a view or virtual table cannot be read; '' if it can. The sandbox tries it: a view is foreign SQL."""
    result = sandbox.execute(database, f"SELECT * FROM {quote_name(name)} LIMIT 1")
    return "" if result.ok else result.error or result.outcome


def read_table(connection: sqlite3.Connection, name: str, kind: str = "table") -> Table:
    """Return one table with its columns. A column without a name is left out: no query can ask for it by name."""
    # xinfo has generated columns as well; hidden = 1 are a virtual table's inner ones
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1", (name,))
    columns = tuple(Column(name=column, type=kind, primary_key=bool(key)) for column, kind, key in rows if column.strip())
    return Table(name=name, columns=columns, kind=kind)


def read_keys(connection: sqlite3.Connection, table: Table, tables: Sequence[Table]) -> list[ForeignKey]:
    """Return the foreign keys of one table as declared. A key that names no column refers to the other table's primary key.

    A key is left out where one of its ends is missing.
    """
    by_name = {fold(other.name): other for other in tables}
    found: dict[int, tuple[str, list[tuple[str, str | None]]]] = {}
    for number, target, column, to_column in connection.execute(  # SQLite numbers them from the last declared
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (table.name,)
    ):
        found.setdefault(number, (target, []))[1].append((column, to_column))
    keys = []
    for target, pairs in found.values():
        other = by_name.get(fold(target))
        if other is None:
            continue
        primary = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (other.name,)).fetchall()
        wanted = [named or (primary[at][0] if at < len(primary) else "") for at, (_, named) in enumerate(pairs)]
        known = {fold(column.name): column.name for column in other.columns}
        to_columns = tuple(known[fold(name)] for name in wanted if fold(name) in known)
        columns = tuple(column for column, _ in pairs if column.strip())
        if len(columns) == len(to_columns) == len(pairs):
            keys.append(ForeignKey(table=table.name, columns=columns, to_table=other.name, to_columns=to_columns))
    return keys

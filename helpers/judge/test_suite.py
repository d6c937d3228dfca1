"""Create altered copies of a database to expose predictions that are correct only by accident.

A small substitute for the test suite of Zhong et al. (EMNLP 2020). Rows are dropped and duplicated and values exchanged between
rows, while foreign keys still lead where they led. A query that is right for any content stays right; `WHERE age > 20` for
`>= 20`, or a forgotten join, does not.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.databases import schema
from helpers.databases.sandbox import MIB
from helpers.databases.sandbox_worker import end_with_parent, limit_memory
from helpers.databases.virtual_tables import module_of
from helpers.run import machine
from helpers.run.files import file_sha256, replaced_folder
from helpers.run.progress import tqdm

COPIES = 4
DROPPED = DUPLICATED = 0.2  # share of rows
LARGEST = 64 * MIB  # of a database file: its rows are held in memory
SECONDS = 90  # for the copies of one database
START_SECONDS = 10  # more, before their process is killed
MEMORY = 1024 * MIB
VERSION = 1  # of the rule; a change recomputes all copies
DENIED = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_VTABLE}


@dataclass
class Content:
    """The rows of one table.

    Attributes:
        columns: names of the columns that hold values (generated ones do not).
        linked: indices of columns that keys use: primary keys, and both ends of foreign keys.
        unique: indices of columns in which no value occurs twice.
    """

    name: str
    columns: list[str]
    rows: list[list]
    linked: set[int]
    unique: set[int]

    def index(self, column: str) -> int | None:
        """Return the index of a column; None if there is none of that name."""
        return next((at for at, name in enumerate(self.columns) if schema.fold(name) == schema.fold(column)), None)


def cached_copies(databases: Mapping[str, Path], *, progress: str = "altered copies") -> dict[str, Path]:
    """Return each database beside its copies in the course's cache, which are made where they are missing.

    A database that cannot have copies (too large, or with virtual tables) is returned itself.
    """
    made = {}
    for db_id, database in tqdm(databases.items(), desc=progress, unit="database", disable=not progress):
        folder = machine.cache_dir() / f"neighbours-{VERSION}" / file_sha256(database)[:16]
        try:
            if not folder.is_dir():
                with replaced_folder(folder) as target:
                    make_copies(db_id, database, target / db_id)
            made[db_id] = folder / db_id / f"{db_id}.sqlite"
        except schema.BadDatabase:
            made[db_id] = database
    return made


def write_copies(databases: Mapping[str, Path], folder: Path, *, progress: str = "altered copies") -> list[str]:
    """Write databases with their copies into a folder, in the layout that the judge reads; whole or not at all.

    Returns:
        for each database without copies, the reason.
    """
    left_out = []
    with replaced_folder(folder) as target:
        for db_id, database in tqdm(databases.items(), desc=progress, unit="database", disable=not progress):
            try:
                make_copies(db_id, database, target / db_id)
            except schema.BadDatabase as error:
                left_out.append(str(error))
    return left_out


def make_copies(db_id: str, database: Path, folder: Path, *, copies: int = COPIES) -> None:
    """Write a database and altered copies of it into a folder of its own; the same content always gives the same copies.

    Raises:
        schema.BadDatabase: it cannot be read, is too large, or has virtual tables.
    """
    schema.refuse_open_changes(database)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, folder / f"{db_id}.sqlite")
    if database.stat().st_size > LARGEST:
        raise schema.BadDatabase(f"{database} is too large for altered copies: {LARGEST // MIB} MiB at most")
    schema.read(database)
    # A constraint or an index of the file may take for ever in one step, so this is done in a process that can be killed.
    command = [sys.executable, "-m", "helpers.judge.test_suite", db_id, os.path.abspath(folder), str(copies), str(SECONDS)]
    try:
        made = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, timeout=SECONDS + START_SECONDS)
        fault = (made.stderr.strip() or "its process ended").splitlines()[-1] if made.returncode else ""
    except subprocess.TimeoutExpired:
        fault = f"stopped after {SECONDS} s"
    if fault:
        for path in folder.glob("*_neighbour_*"):
            path.unlink()
        raise schema.BadDatabase(f"{database} cannot be copied with changes: {fault}")


def main(db_id: str, folder: str, copies: str, seconds: str) -> None:
    """Make the copies of a database that lies in `folder`. A process of its own does so, within `seconds` and MEMORY."""
    end_with_parent()
    limit_memory(MEMORY)
    database, end = Path(folder, f"{db_id}.sqlite"), time.monotonic() + float(seconds)
    keys = schema.read(database).foreign_keys
    for number in range(1, int(copies) + 1):
        copy = Path(folder, f"{db_id}_neighbour_{number}.sqlite")
        shutil.copyfile(database, copy)
        with contextlib.closing(connect(copy, end)) as connection, connection:
            tables = read_contents(connection, keys)
            alter(tables, keys, random.Random(f"{db_id} {number}"), exchanged=(number - 1) / int(copies))
            for table in tables:
                write(connection, table)


def connect(copy: Path, end: float) -> sqlite3.Connection:
    """Open a connection that may write to a copy until `end` and reach nothing else. Triggers are dropped."""
    connection = sqlite3.connect(copy)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    for pragma in ("trusted_schema = 0", "foreign_keys = 0", "journal_mode = memory", "synchronous = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)  # a constraint may ask for gigabytes in one step
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action in DENIED else sqlite3.SQLITE_OK)
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {schema.quote_name(trigger)}")
    return connection


def read_contents(connection: sqlite3.Connection, keys: Sequence[schema.ForeignKey]) -> list[Content]:
    """Return all tables with their rows.

    Raises:
        sqlite3.Error: the file cannot be read, or has virtual tables.
    """
    contents = []
    for name, kind, sql in connection.execute(schema.TABLES).fetchall():
        if kind != "table":
            continue
        if module_of(sql):
            raise sqlite3.NotSupportedError(f"{name} is a virtual table")
        columns = connection.execute("SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden = 0", (name,)).fetchall()
        listed = ", ".join(schema.quote_name(column) for column, _ in columns)
        rows = [list(row) for row in connection.execute(f"SELECT {listed} FROM {schema.quote_name(name)}")]
        used = {column for key in keys for table, column in key.ends() if table == schema.fold(name)}
        values = [[row[at] for row in rows if row[at] is not None] for at in range(len(columns))]
        contents.append(
            Content(
                name=name,
                columns=[column for column, _ in columns],
                rows=rows,
                linked={at for at, (column, primary) in enumerate(columns) if primary or schema.fold(column) in used},
                unique={at for at, some in enumerate(values) if len(some) > 1 and len(set(some)) == len(some)},
            )
        )
    return contents


def alter(tables: Sequence[Content], keys: Sequence[schema.ForeignKey], rng: random.Random, *, exchanged: float) -> None:
    """Drop rows, duplicate rows, and exchange values within columns.

    Args:
        exchanged: share of the columns outside of keys whose values are shuffled, 0 to 1.
    """
    drop(tables, keys, rng)
    leading = {(key.table, schema.fold(column)) for key in keys for column in key.columns}
    for table in tables:
        if not any((table.name, schema.fold(table.columns[at])) in leading for at in table.unique):
            duplicate(table, rng)
        for at in range(len(table.columns)):
            if at not in table.linked and rng.random() < exchanged:
                values = [row[at] for row in table.rows]
                rng.shuffle(values)
                for row, value in zip(table.rows, values, strict=True):
                    row[at] = value


def drop(tables: Sequence[Content], keys: Sequence[schema.ForeignKey], rng: random.Random) -> None:
    """Drop rows at random, but none that a remaining row refers to."""
    kept = {table.name: [rng.random() >= DROPPED for _ in table.rows] for table in tables}
    by_name = {table.name: table for table in tables}
    changed = True
    while changed:
        changed = False
        for key in keys:
            child, parent = by_name.get(key.table), by_name.get(key.to_table)
            if child is None or parent is None:
                continue
            source, target = [child.index(name) for name in key.columns], [parent.index(name) for name in key.to_columns]
            if None in source + target:
                continue
            staying = [row for row, stays in zip(child.rows, kept[child.name], strict=True) if stays]
            needed = {tuple(row[at] for at in source) for row in staying}
            for number, row in enumerate(parent.rows):
                if not kept[parent.name][number] and tuple(row[at] for at in target) in needed:
                    kept[parent.name][number] = changed = True
    for table in tables:
        table.rows = [row for row, stays in zip(table.rows, kept[table.name], strict=True) if stays]


def duplicate(table: Content, rng: random.Random) -> None:
    """Add rows that repeat others, with new values in columns where none may occur twice."""
    highest = {at: max((row[at] for row in table.rows if isinstance(row[at], (int, float))), default=0) for at in table.unique}
    for row in [row for row in table.rows if rng.random() < DUPLICATED]:
        again = list(row)
        for at in table.unique:
            highest[at] += 1
            if isinstance(row[at], (int, float)):
                again[at] = highest[at]
            elif isinstance(row[at], str):
                again[at] = f"{row[at]} {highest[at]:.0f}"
        table.rows.append(again)


def write(connection: sqlite3.Connection, table: Content) -> None:
    """Replace the rows in the database. A row that the table's constraints forbid is left out."""
    connection.execute(f"DELETE FROM {schema.quote_name(table.name)}")
    columns, marks = ", ".join(map(schema.quote_name, table.columns)), ", ".join("?" * len(table.columns))
    connection.executemany(f"INSERT OR IGNORE INTO {schema.quote_name(table.name)} ({columns}) VALUES ({marks})", table.rows)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (sqlite3.Error, schema.BadDatabase, OverflowError, MemoryError, OSError) as error:  # a number beyond SQLite's largest
        sys.exit(str(error) or "memory ran out")

"""Open a user's files as one SQLite database: SQLite files as they are, CSV files as the tables of a new database."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.apps import csv_files
from helpers.databases import layout, schema
from helpers.databases.reading import reading
from helpers.databases.schema import BadDatabase
from helpers.run import machine
from helpers.run.files import replaced_folder, write_text
from helpers.sources import spider

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = spider.SAMPLE.parent / "example"  # a database that belongs to no data set, with questions written by hand
CSV = csv_files.ENDINGS
NOTES = ".notes.txt"  # ending of the file beside a database that was made from CSV files
SECONDS = 60.0  # to look at the columns of a database that was made from CSV files
NOTES_SHOWN = 10  # of what is left out
CSV_BYTES = 200 * 1024**2  # of all CSV files together; they are held in memory once


def open_database(name: str | Path, folder: Path) -> Path:
    """Return the SQLite file behind a name, checked to be readable.

    Args:
        name: an SQLite file, a CSV or TSV file, a folder of them (a table each), or a database that comes with the course.
        folder: where a database made from CSV files is written.

    Raises:
        BadDatabase: nothing has that name, or it is no database, damaged, locked or without a table.
    """
    try:
        path = Path(name).expanduser()
        is_there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a circle of links, no such user
        raise BadDatabase(f"{str(name)[:200]} cannot be opened: {error}") from error
    if not is_there:
        known = named()
        if str(name) in known:
            return known[str(name)]
        raise BadDatabase(
            f"There is no file {name}. Name an SQLite file, a CSV file or a folder of them,\n"
            f"  or a database that comes with the course: {', '.join(known)}"
        )
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in CSV and os.path.isfile(file))
        if not files:
            raise BadDatabase(f"{path} is a folder without a CSV file: name an SQLite file, or a folder of CSV files")
        return from_csv(files, folder / f"{plain(path.resolve().name, 'data')}.sqlite")
    if not path.is_file():  # a pipe or a device has no end
        raise BadDatabase(f"{path} is no regular file")
    if path.suffix.lower() in CSV:
        return from_csv([path], folder / f"{plain(path.stem, 'data')}.sqlite")
    schema.read(path)
    return path


def named() -> dict[str, Path]:
    """Return the databases that come with the course, by name: the example, which no training has seen, and the demo data's."""
    script = (EXAMPLE / "marina.sql").read_text(encoding="utf-8")
    folder = machine.cache_dir() / f"example-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        with (
            replaced_folder(folder) as target,
            contextlib.closing(sqlite3.connect(target / "marina.sqlite")) as connection,
        ):
            connection.executescript(script)
    return {"marina": folder / "marina.sqlite"} | layout.find_databases(spider.sample_folder())


def from_csv(files: Sequence[Path], database: Path) -> Path:
    """Write CSV files as the tables of a new SQLite file, one table each, and return its path.

    Names of tables and columns become plain words (`Order date` is `Order_date`), which a model writes without mistakes. Empty
    cells are NULL. What had to be guessed is kept beside the database (`notes`).

    Raises:
        BadDatabase: names the file that cannot be read as CSV, is too large, or holds no rows.
    """
    size = sum(file.stat().st_size for file in files)
    if size > CSV_BYTES:
        raise BadDatabase(
            f"{files[0].parent if len(files) > 1 else files[0]}: {size / 2**20:,.0f} MiB of CSV, {CSV_BYTES / 2**20:,.0f} are "
            "allowed: import it into an SQLite file first (`sqlite3 my.sqlite`, then `.import --csv FILE TABLE`)"
        )
    names = distinct([plain(file.stem, "data") for file in files])
    database.unlink(missing_ok=True)
    said: list[str] = []
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            for file, name in zip(files, names, strict=True):
                table, notes = csv_files.read(file)
                table.columns = distinct(
                    [plain(re.sub(r"^Unnamed: \d+$", "", str(column)), "column") for column in table.columns]
                )
                table.to_sql(name, connection, index=False)
                said += notes
    except sqlite3.Error as error:
        raise BadDatabase(f"{files[0]} could not be turned into a table: {error}") from error
    write_text(database.with_suffix(NOTES), "\n".join(said))
    return database


def is_imported(database: Path) -> bool:
    """Whether `open_database` made the database from CSV files."""
    return database.with_suffix(NOTES).is_file()


def notes(database: Path) -> list[str]:
    """Return what a user should know of an opened database, in sentences: what was guessed, and what is left out."""
    guessed = database.with_suffix(NOTES).read_text(encoding="utf-8").splitlines() if is_imported(database) else []
    left_out = [f"Left out, because it cannot be read: {name}" for name in schema.read(database).unreadable]
    if len(left_out) > NOTES_SHOWN:
        left_out[NOTES_SHOWN:] = [f"… and {len(left_out) - NOTES_SHOWN:,} more"]
    return [*guessed, *left_out]


def columns_table(database: Path) -> pd.DataFrame:
    """Return each column with its table and type; of an imported database, how many cells are empty, and an example too."""
    import pandas as pd

    tables = schema.read(database).tables
    columns = pd.DataFrame(
        [(table.name, column.name, column.type) for table in tables for column in table.columns],
        columns=["table", "column", "type"],
    )
    if is_imported(database):  # another file may be large
        query = "SELECT sum({0} IS NULL), max({0}) FROM {1}"
        with reading(database, SECONDS) as reader:
            found = [
                reader.rows(query.format(schema.quote_name(row.column), schema.quote_name(row.table)))[0]
                for row in columns.itertuples()
            ]
        columns[["empty", "example"]] = pd.DataFrame(found, dtype=object)
    return columns


def plain(name: str, otherwise: str) -> str:
    """Return a name of letters, digits and underscores that does not start with a digit; `otherwise` if nothing is left of it."""
    name = re.sub(r"\W+", "_", name).strip("_")[:60] or otherwise
    return f"{otherwise}_{name}" if name[0].isdigit() else name


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names, each different in lower case: a repeated name gets a number."""
    taken: set[str] = set()
    made = []
    for name in names:
        number, unique = 1, name
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.lower())
        made.append(unique)
    return made

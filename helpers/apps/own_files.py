"""Open a user's files as one SQLite database: SQLite files as they are, CSV files as the tables of a new database."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import re
import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path

from helpers.databases import layout, schema
from helpers.databases.schema import BadDatabase
from helpers.run import machine
from helpers.run.files import replaced_folder
from helpers.sources import spider

EXAMPLE = spider.SAMPLE.parent / "example"  # a database that belongs to no data set, with questions written by hand
CSV = (".csv", ".tsv")
CSV_BYTES = 200 * 1024**2  # of all CSV files together; they are held in memory once
CSV_COLUMNS = 500
WHOLE = r"-?(?:0|[1-9]\d{0,17})"  # fits 64 bits; 007 is a code, not a number
NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"


def open_database(name: str | Path, folder: Path) -> Path:
    """Return the SQLite file behind a name, checked to be readable.

    Args:
        name: an SQLite file, a CSV or TSV file, a folder of them (a table each), or a database that comes with the course.
        folder: where a database made from CSV files is written.

    Raises:
        BadDatabase: nothing has that name, or it is no database, damaged, locked or without a table.
    """
    path = Path(name).expanduser()
    if not path.exists():
        known = named()
        if str(name) in known:
            return known[str(name)]
        raise BadDatabase(
            f"There is no file {name}. Name an SQLite file, a CSV file or a folder of them,\n"
            f"  or a database that comes with the course: {', '.join(known)}"
        )
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in CSV)
        if not files:
            raise BadDatabase(f"{path} is a folder without a CSV file: name an SQLite file, or a folder of CSV files")
        return from_csv(files, folder / f"{plain(path.resolve().name, 'data')}.sqlite")
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

    Names of tables and columns become plain words (`Order date` is `Order_date`), which a model writes without mistakes.
    A column that holds only numbers is stored as numbers, unless one starts with a 0 that would be lost. Empty cells are NULL.

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
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            for file, name in zip(files, names, strict=True):
                read_csv(file).to_sql(name, connection, index=False)
    except sqlite3.Error as error:
        raise BadDatabase(f"{files[0]} could not be turned into a table: {error}") from error
    return database


def read_csv(file: Path):  # noqa: ANN201 pandas is imported late
    """Return a CSV or TSV file as a pandas table with plain, distinct column names and typed columns.

    Raises:
        BadDatabase: the file cannot be read.
    """
    import pandas as pd

    options = {"dtype": str, "keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig", "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop cells that lie right of the header
            table = pd.read_csv(file, sep=delimiter(file), **options)
    except UnicodeDecodeError as error:
        raise BadDatabase(f"{file} is not UTF-8 text: save it as “CSV UTF-8”") from error
    except (ValueError, pd.errors.ParserWarning, csv.Error, OSError) as error:  # pandas' own errors are ValueErrors
        raise BadDatabase(f"{file} cannot be read as CSV: {' '.join(str(error).split())}") from error
    if table.shape[1] > CSV_COLUMNS:
        raise BadDatabase(f"{file} has {table.shape[1]:,} columns, {CSV_COLUMNS} are allowed")
    if table.empty:
        raise BadDatabase(f"{file} has no rows below its header")
    table.columns = distinct([plain(re.sub(r"^Unnamed: \d+$", "", str(name)), "column") for name in table.columns])
    for name in table.columns:
        given = table[name].dropna()
        if len(given) and given.str.fullmatch(WHOLE).all():
            table[name] = table[name].astype("string").astype("Int64")
        elif len(given) and given.str.fullmatch(NUMBER).all():
            table[name] = table[name].astype(float)
    return table


def delimiter(file: Path) -> str:
    """Return the character between the cells of a CSV file, judged by its first lines: comma, semicolon, tab or bar."""
    with open(file, encoding="utf-8-sig", errors="replace") as text:
        head = text.read(64 * 1024)
    try:
        return csv.Sniffer().sniff(head, ",;\t|").delimiter
    except csv.Error:  # a single column
        return ","


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

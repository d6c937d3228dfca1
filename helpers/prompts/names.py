"""Map the tables and columns of a database to the names that the model reads and writes, and back."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sqlglot import exp

from helpers.databases.schema import Schema, fold, needs_no_quotes
from helpers.databases.sql import is_plain_word, parse
from helpers.prompts.words import split_words

# Abbreviations that are common in databases. A name that consists of such parts is spelled out as well.
SPELLED_OUT = {
    "acct": "account",
    "addr": "address",
    "amt": "amount",
    "apt": "apartment",
    "attr": "attribute",
    "avg": "average",
    "cat": "category",
    "cnt": "count",
    "cust": "customer",
    "dept": "department",
    "desc": "description",
    "dest": "destination",
    "dob": "date of birth",
    "emp": "employee",
    "fname": "first name",
    "hr": "hour",
    "hrs": "hours",
    "img": "image",
    "info": "information",
    "lang": "language",
    "lat": "latitude",
    "lname": "last name",
    "loc": "location",
    "lon": "longitude",
    "mgr": "manager",
    "min": "minimum",
    "max": "maximum",
    "msg": "message",
    "nbr": "number",
    "num": "number",
    "org": "organization",
    "pct": "percent",
    "pop": "population",
    "prod": "product",
    "qty": "quantity",
    "ref": "reference",
    "sal": "salary",
    "stu": "student",
    "tel": "telephone",
    "txn": "transaction",
    "yr": "year",
}


def readable(name: str) -> str:
    """Return an identifier as words: 'StuID' gives 'student id', 'dept_name' 'department name'."""
    if name.lower() in SPELLED_OUT:
        return SPELLED_OUT[name.lower()]
    return " ".join(SPELLED_OUT.get(word, word) for word in split_words(name))


def identifier(text: str) -> str:
    """Return words as one name that needs no quotes: 'first name' gives first_name; x if there are no words."""
    name = "".join(sign for sign in "_".join(split_words(text)) if f"_{sign}".isidentifier()) or "x"
    return name if name.isidentifier() else f"_{name}"


@functools.lru_cache(maxsize=4096)
def needs_no_alias(name: str) -> bool:
    """Whether SQLite and sqlglot read a name unquoted as a table, and it is no alias of the IR (t1, t2 …)."""
    if is_alias(name) or not reads_as_column(name, name):
        return False
    return needs_no_quotes(name)  # sqlglot takes words that SQLite reserves


@functools.lru_cache(maxsize=4096)
def reads_as_column(table: str, column: str) -> bool:
    """Whether sqlglot reads `table.column` as that in every clause, and `table` in FROM: words of SQL's own it may not."""
    if is_plain_word(table) and is_plain_word(column):
        return True
    return parses_as_column(table, column)


def parses_as_column(table: str, column: str) -> bool:
    """Whether sqlglot's parser reads `table.column` as that in every clause. It takes a millisecond."""
    text = f"{table}.{column}"
    tree = parse(f"SELECT {text}, 1 FROM {table}, y WHERE {text} = 1 GROUP BY {text} ORDER BY {text} DESC LIMIT 1")
    if tree is None:
        return False
    columns = [(one.table, one.name) for one in tree.find_all(exp.Column)]
    return columns == [(table, column)] * 4 and {one.sql() for one in tree.find_all(exp.Table)} == {table, "y"}


def is_alias(name: str) -> bool:
    """Whether a name is one of the aliases t1, t2 …"""
    return name[:1] == "t" and name[1:].isdecimal()


def make_unique(name: str, taken: dict[str, int]) -> str:
    """Return the name, with a number behind it if it is taken, and add it to `taken`: names, each with the next number to try."""
    free, number = name, taken.get(name, 1)
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken[name] = number
    taken.setdefault(free, 1)
    return free


@dataclass(frozen=True, eq=False)
class NameMap:
    """The names that the model reads and writes for one schema.

    Attributes:
        tables: name of each table, by the database's name in lower case.
        columns: name of each column, by the database's names of table and column in lower case.
        display_names: each column's name as words, by the same; a table's has '' for the column.
    """

    schema: Schema
    tables: dict[str, str]
    columns: dict[tuple[str, str], str]
    display_names: dict[tuple[str, str], str]

    def qualified(self, table: str, column: str) -> str:
        """Return `table.column` as the model writes it, for the database's names in any case."""
        return f"{self.tables[fold(table)]}.{self.columns[fold(table), fold(column)]}"

    @functools.cached_property
    def table_of(self) -> dict[str, str]:
        """The database's name of a table, by the model's."""
        return {self.tables[fold(table.name)]: table.name for table in self.schema.tables}

    @functools.cached_property
    def column_of(self) -> dict[tuple[str, str], str]:
        """The database's name of a column, by the model's names of table and column."""
        return {
            (self.tables[fold(table.name)], self.columns[fold(table.name), fold(column.name)]): column.name
            for table in self.schema.tables
            for column in table.columns
        }


@functools.lru_cache(maxsize=512)
def name_map(schema: Schema, *, use_display_names: bool = True) -> NameMap:
    """Return the names for a schema: its display names where it has them, else its identifiers split into words.

    Args:
        use_display_names: False ignores them, as for a database that nobody has described.
    """
    tables: dict[str, str] = {}
    columns: dict[tuple[str, str], str] = {}
    display: dict[tuple[str, str], str] = {}
    taken: dict[str, int] = {}
    for table in schema.tables:
        key = fold(table.name)
        display[key, ""] = (use_display_names and table.display_name.lower()) or readable(table.name)
        wanted = identifier(display[key, ""])
        tables[key] = make_unique(wanted if needs_no_alias(wanted) else f"{wanted}_table", taken)
        used: dict[str, int] = {}
        for column in table.columns:
            display[key, fold(column.name)] = (use_display_names and column.display_name.lower()) or readable(column.name)
            wanted = identifier(display[key, fold(column.name)])
            columns[key, fold(column.name)] = make_unique(wanted if reads_as_column("x", wanted) else f"{wanted}_column", used)
    return NameMap(schema=schema, tables=tables, columns=columns, display_names=display)

"""What the model calls the tables and columns of a database: readable names, each one word, and the way back."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sqlglot import exp

from helpers.databases.schema import Schema, needs_no_quotes
from helpers.databases.sql import parse
from helpers.words import pieces

# Short forms that databases are full of; a name of nothing else but such pieces is spelled out, too.
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
    """An identifier as words: 'StuID' is 'student id', 'dept_name' 'department name'."""
    if name.lower() in SPELLED_OUT:
        return SPELLED_OUT[name.lower()]
    return " ".join(SPELLED_OUT.get(piece, piece) for piece in pieces(name))


def identifier(words: str) -> str:
    """Words as one name that needs no quotes: 'first name' is first_name."""
    name = "_".join(pieces(words)) or "x"
    name = name if name.isascii() or name.isidentifier() else "x"
    return f"_{name}" if name[0].isdigit() else name


@functools.lru_cache(maxsize=4096)
def usable(name: str) -> bool:
    """Whether SQL takes a name for a table's without quotes, and it is no alias that the target form uses (t1, t2 …)."""
    tree = parse(f"SELECT {name}.x FROM {name}")
    table = tree.find(exp.Table) if tree is not None else None
    if table is None or table.name != name or table.alias or is_alias(name):
        return False
    return needs_no_quotes(name)  # sqlglot takes words that SQLite reserves


def is_alias(name: str) -> bool:
    """Whether a name is one of the aliases t1, t2 …"""
    return name[:1] == "t" and name[1:].isdecimal()


def unlike(name: str, taken: set[str]) -> str:
    """A name that is not taken, numbered where it is."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}_{number}"
    taken.add(free)
    return free


@dataclass(frozen=True, eq=False)
class Names:
    """The names that the model reads and writes for one schema.

    Attributes:
        tables: of each table by its own name in lower case.
        columns: of each column by its table's and its own name in lower case.
        labels: what a column is called by people, as words, by the same; a table's has '' for the column.
    """

    schema: Schema
    tables: dict[str, str]
    columns: dict[tuple[str, str], str]
    labels: dict[tuple[str, str], str]

    def full(self, table: str, column: str) -> str:
        """`table.column`, as the model writes it, of own names in any case."""
        return f"{self.tables[table.lower()]}.{self.columns[table.lower(), column.lower()]}"

    @functools.cached_property
    def table_of(self) -> dict[str, str]:
        """A table's own name by the name that the model uses."""
        return {self.tables[table.name.lower()]: table.name for table in self.schema.tables}

    @functools.cached_property
    def column_of(self) -> dict[tuple[str, str], str]:
        """A column's own name by the names that the model uses for its table and itself."""
        return {
            (self.tables[table.name.lower()], self.columns[table.name.lower(), column.name.lower()]): column.name
            for table in self.schema.tables
            for column in table.columns
        }


@functools.lru_cache(maxsize=512)
def name(schema: Schema, *, original: bool = False) -> Names:
    """The names for a schema: its labels where it has them, else its identifiers taken apart.

    Args:
        original: pass over the labels, as for a database that no one described.
    """
    tables: dict[str, str] = {}
    columns: dict[tuple[str, str], str] = {}
    labels: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for table in schema.tables:
        key = table.name.lower()
        labels[key, ""] = (not original and table.display_name.lower()) or readable(table.name)
        shown = identifier(labels[key, ""])
        tables[key] = unlike(shown if usable(shown) else f"{shown}_table", taken)
        used: set[str] = set()
        for column in table.columns:
            labels[key, column.name.lower()] = (not original and column.display_name.lower()) or readable(column.name)
            columns[key, column.name.lower()] = unlike(identifier(labels[key, column.name.lower()]), used)
    return Names(schema=schema, tables=tables, columns=columns, labels=labels)

"""Words and SQL text for `pair_rules`: names as people say them, names and values as SQL needs them."""

from __future__ import annotations

import re

from helpers.databases import schema
from helpers.databases.schema import Column, ForeignKey, Table
from helpers.prompts.words import split_words

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def spoken(name: str) -> str:
    """Return a name as people say it: `HomePort` and `home_port` are "home port"."""
    return " ".join(split_words(name)) or name


def singular(table: Table) -> str:
    """Return what one row of a table is called."""
    words = spoken(table.name)
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ss", "ss"), ("s", "")):
        if words.endswith(ending):
            return words.removesuffix(ending) + instead
    return words


def plural(table: Table) -> str:
    """Return what the rows of a table are called."""
    word = singular(table)
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def quoted(name: str) -> str:
    """Return a name as SQL needs it: in quotes unless it is a plain word and no keyword."""
    return name if PLAIN.fullmatch(name) and schema.needs_no_quotes(name) else schema.quote_name(name)


def qualified(table: Table, column: Column) -> str:
    """Return `table.column`, each quoted where needed."""
    return f"{quoted(table.name)}.{quoted(column.name)}"


def literal(value: object) -> str:
    """Return a value as an SQL literal."""
    return schema.sql_literal(value) if isinstance(value, str) else str(value)


def joined(child: Table, parent: Table, key: ForeignKey) -> str:
    """Return `FROM … JOIN … ON` of two tables."""
    return f"FROM {quoted(child.name)} JOIN {quoted(parent.name)} ON {same(child, parent, key)}"


def same(child: Table, parent: Table, key: ForeignKey) -> str:
    """Return the condition that two rows belong together: every column of the key equals the one that it refers to."""
    one, other = quoted(child.name), quoted(parent.name)
    return " AND ".join(f"{one}.{quoted(column)} = {other}.{quoted(to_column)}" for column, to_column in key.pairs)


def key_columns(parent: Table, key: ForeignKey) -> str:
    """Return the columns of `parent` that a key refers to, as GROUP BY lists them."""
    return ", ".join(f"{quoted(parent.name)}.{quoted(column)}" for column in key.to_columns)

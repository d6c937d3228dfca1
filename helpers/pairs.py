"""Question/SQL pairs made from a database alone, for those who have none: queries that return rows, worded by rule, to be edited.

They teach a model the names and values of one database. They do not teach how its users ask: ten questions in your own words,
put into dev.csv, tell what they are worth.
"""

from __future__ import annotations

import csv
import io
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import spider
from helpers.databases import layout, schema
from helpers.databases.sandbox import Limits, Result, Sandbox
from helpers.databases.schema import Column, ForeignKey, Schema, Table
from helpers.run.files import write_text
from helpers.run.progress import tqdm
from helpers.words import pieces

if TYPE_CHECKING:
    import pandas as pd

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VALUES = 40  # distinct values looked at in a column
LONGEST_VALUE = 40  # characters of a value that may stand in a question
NAMES = 0.6  # share of texts asked for that are names, where there are any
TRIES = 60  # a pair wanted; small databases have few queries that differ


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question and its SQL, before anybody has read it. `kind` is the rule that made it."""

    question: str
    query: str
    kind: str


class TooFew(ValueError):
    """A database from which nothing could be asked: no rows, or no columns with values."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules draw from: a schema, and some values of each column."""

    tables: Schema
    values: dict[tuple[str, str], tuple]

    def columns(self, table: Table, kind: str) -> list[Column]:
        """The columns of a table that hold text, numbers, names (text that tells rows apart) or groups (values that repeat)."""
        keys = {(key.table, key.column) for key in self.tables.foreign_keys} | {
            (key.to_table, key.to_column) for key in self.tables.foreign_keys
        }
        found = []
        for column in table.columns:
            values = self.values.get((table.name, column.name), ())
            is_key = column.primary_key or (table.name, column.name) in keys or said(column.name).split()[-1] == "id"
            if not values or is_key:
                continue
            is_number = all(isinstance(value, (int, float)) for value in values)
            is_text = all(isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE for value in values)
            is_name = is_text and any(word in said(column.name).split() for word in ("name", "title"))
            if {"number": is_number, "text": is_text, "name": is_name, "group": is_text and not is_name, "any": True}[kind]:
                found.append(column)
        return found


def make(database: Path, count: int, seed: int = 0) -> list[Pair]:
    """Up to `count` pairs over a database, of all kinds alike, each query run and known to return rows.

    Raises:
        schema.BadDatabase: the file cannot be read.
        TooFew: nothing in it can be asked about.
    """
    tables, chance = schema.read(database), random.Random(seed)
    made: dict[str, Pair] = {}
    with Sandbox(Limits(seconds=2.0)) as sandbox:
        facts = Facts(tables=tables, values=dict(look(sandbox, database, tables)))
        with tqdm(total=count, desc="making pairs", unit="pair", leave=False) as bar:
            for place in range(TRIES * count):
                if len(made) == count:
                    break
                kind, rule = list(RULES.items())[place % len(RULES)]
                try:
                    question, query = rule(facts, chance)
                except IndexError:  # nothing to choose from: this database has no such columns
                    continue
                if query not in made and has_rows(sandbox.execute(database, query)):
                    made[query] = Pair(question=question[:1].upper() + question[1:], query=query, kind=kind)
                    bar.update()
    if not made:
        raise TooFew(f"{database.name} has nothing to ask about: its tables are empty, or hold neither numbers nor short texts")
    return list(made.values())


def look(sandbox: Sandbox, database: Path, tables: Schema) -> Iterator[tuple[tuple[str, str], tuple]]:
    """Some distinct values of each column that has any."""
    for table in tables.tables:
        for column in table.columns:
            name = quoted(column.name)
            query = f"SELECT DISTINCT {name} FROM {quoted(table.name)} WHERE {name} IS NOT NULL LIMIT {VALUES}"
            if (result := sandbox.execute(database, query)).rows:
                yield (table.name, column.name), tuple(value for (value,) in result.rows)


def has_rows(result: Result) -> bool:
    """Whether a query gave something to see: a row that is not all NULL."""
    return result.ok and any(value is not None for row in result.rows for value in row)


def quoted(name: str) -> str:
    """A name as SQL needs it: in quotes where it is no plain word, or a word of SQL."""
    return name if PLAIN.fullmatch(name) and schema.needs_no_quotes(name) else schema.quote_name(name)


def said(name: str) -> str:
    """A name as people say it: `HomePort` and `home_port` are "home port"."""
    return " ".join(pieces(name)) or name


def one(table: Table) -> str:
    """What one row of a table is called."""
    words = said(table.name)
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ss", "ss"), ("s", "")):
        if words.endswith(ending):
            return words.removesuffix(ending) + instead
    return words


def many(table: Table) -> str:
    """What the rows of a table are called."""
    word = one(table)
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def literal(value: object) -> str:
    """A value as SQL writes it."""
    return schema.sql_literal(value) if isinstance(value, str) else str(value)


# ---- the rules: each draws a table, columns and values, and words the question in one of a few ways


def table_with(facts: Facts, chance: random.Random, *kinds: str) -> tuple[Table, list[Column]]:
    """A table with a different column of each kind."""
    found = []
    for table in facts.tables.tables:
        chosen: list[Column] = []
        for kind in kinds:
            if left := [column for column in facts.columns(table, kind) if column not in chosen]:
                chosen.append(column_of(facts, chance, table, kind, left))
        if len(chosen) == len(kinds):
            found.append((table, chosen))
    return chance.choice(found)


def column_of(facts: Facts, chance: random.Random, table: Table, kind: str, among: Sequence[Column] | None = None) -> Column:
    """A column of a kind; of texts rather a name, for that is what people ask for."""
    columns = facts.columns(table, kind) if among is None else among
    names = [column for column in columns if kind == "text" and column in facts.columns(table, "name")]
    return chance.choice(names if names and chance.random() < NAMES else columns)


def value_of(facts: Facts, chance: random.Random, table: Table, column: Column) -> object:
    """A value of a column, drawn from those that are there."""
    return chance.choice(facts.values[table.name, column.name])


def linked(facts: Facts, chance: random.Random) -> tuple[Table, Table, ForeignKey]:
    """Two tables with a key that leads from the first to the second."""
    by_name = {table.name: table for table in facts.tables.tables}
    key = chance.choice([key for key in facts.tables.foreign_keys if key.table != key.to_table])
    return by_name[key.table], by_name[key.to_table], key


def joined(child: Table, parent: Table, key: ForeignKey) -> str:
    """FROM … JOIN … ON of two tables."""
    return (
        f"FROM {quoted(child.name)} JOIN {quoted(parent.name)} "
        f"ON {quoted(child.name)}.{quoted(key.column)} = {quoted(parent.name)}.{quoted(key.to_column)}"
    )


def of(table: Table, column: Column) -> str:
    """`table.column`, quoted where need be."""
    return f"{quoted(table.name)}.{quoted(column.name)}"


def how_many(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table = chance.choice(facts.tables.tables)
    asked = chance.choice(
        [f"How many {many(table)} are there?", f"Count the {many(table)}.", f"What is the number of {many(table)}?"]
    )
    return asked, f"SELECT count(*) FROM {quoted(table.name)}"


def all_of(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "any", "any")
    if chance.random() < 0.5:
        asked = [f"List the {said(a.name)} of all {many(table)}.", f"What {said(a.name)} does each {one(table)} have?"]
        return chance.choice(asked), f"SELECT {quoted(a.name)} FROM {quoted(table.name)}"
    asked = [
        f"Show the {said(a.name)} and {said(b.name)} of every {one(table)}.",
        f"What are the {said(a.name)} and the {said(b.name)} of each {one(table)}?",
    ]
    return chance.choice(asked), f"SELECT {quoted(a.name)}, {quoted(b.name)} FROM {quoted(table.name)}"


def different(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a,) = table_with(facts, chance, "group")
    if chance.random() < 0.4:
        asked = [f"How many different {said(a.name)}s are there among the {many(table)}?"]
        return chance.choice(asked), f"SELECT count(DISTINCT {quoted(a.name)}) FROM {quoted(table.name)}"
    asked = [
        f"Which different {said(a.name)}s do the {many(table)} have?",
        f"List each {said(a.name)} of the {many(table)} once.",
    ]
    return chance.choice(asked), f"SELECT DISTINCT {quoted(a.name)} FROM {quoted(table.name)}"


def with_value(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "text", "any")
    value = value_of(facts, chance, table, a)
    asked = [
        f"What is the {said(b.name)} of the {one(table)} whose {said(a.name)} is {value}?",
        f"Show the {said(b.name)} of {many(table)} with {said(a.name)} {value}.",
        f"{said(b.name)} of the {one(table)} {value}?",
    ]
    return chance.choice(asked), f"SELECT {quoted(b.name)} FROM {quoted(table.name)} WHERE {quoted(a.name)} = {literal(value)}"


def count_with_value(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a,) = table_with(facts, chance, "group")
    value = value_of(facts, chance, table, a)
    asked = [f"How many {many(table)} have {said(a.name)} {value}?", f"Count the {many(table)} whose {said(a.name)} is {value}."]
    return chance.choice(asked), f"SELECT count(*) FROM {quoted(table.name)} WHERE {quoted(a.name)} = {literal(value)}"


def over(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "number", "text")
    value = value_of(facts, chance, table, a)
    sign, words = chance.choice(
        [
            (">", ("greater than", "over", "more than")),
            ("<", ("less than", "under", "below")),
            (">=", ("at least", "no less than")),
        ]
    )
    asked = [
        f"Which {many(table)} have a {said(a.name)} {chance.choice(words)} {value}? Give the {said(b.name)}.",
        f"Show the {said(b.name)} of {many(table)} whose {said(a.name)} is {chance.choice(words)} {value}.",
    ]
    return chance.choice(asked), f"SELECT {quoted(b.name)} FROM {quoted(table.name)} WHERE {quoted(a.name)} {sign} {value}"


def in_all(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a,) = table_with(facts, chance, "number")
    function, words = chance.choice(
        [
            ("avg", ("average", "mean")),
            ("max", ("highest", "largest")),
            ("min", ("lowest", "smallest")),
            ("sum", ("total", "overall")),
        ]
    )
    asked = [
        f"What is the {chance.choice(words)} {said(a.name)} of the {many(table)}?",
        f"Give the {chance.choice(words)} {said(a.name)} over all {many(table)}.",
    ]
    query = f"SELECT {function}({quoted(a.name)}) FROM {quoted(table.name)}"
    groups = facts.columns(table, "group")
    if groups and chance.random() < 0.4:
        group = chance.choice(groups)
        value = value_of(facts, chance, table, group)
        asked = [f"What is the {chance.choice(words)} {said(a.name)} of the {many(table)} with {said(group.name)} {value}?"]
        query += f" WHERE {quoted(group.name)} = {literal(value)}"
    return chance.choice(asked), query


def for_each(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a,) = table_with(facts, chance, "group")
    group, numbers = quoted(a.name), facts.columns(table, "number")
    if numbers and chance.random() < 0.5:
        number = chance.choice(numbers)
        function, word = chance.choice([("avg", "average"), ("sum", "total"), ("max", "highest")])
        asked = [f"What is the {word} {said(number.name)} for each {said(a.name)} of the {many(table)}?"]
        return asked[0], f"SELECT {group}, {function}({quoted(number.name)}) FROM {quoted(table.name)} GROUP BY {group}"
    asked = [f"How many {many(table)} are there for each {said(a.name)}?", f"Count the {many(table)} by {said(a.name)}."]
    return chance.choice(asked), f"SELECT {group}, count(*) FROM {quoted(table.name)} GROUP BY {group}"


def extreme(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "number", "text")
    direction, words = chance.choice([(" DESC", ("highest", "largest")), ("", ("lowest", "smallest"))])
    word, count = chance.choice(words), chance.choice([1, 1, 2, 3, 5])
    if count == 1:
        asked = [f"Which {one(table)} has the {word} {said(a.name)}? Give its {said(b.name)}."]
    else:
        asked = [f"What are the {said(b.name)}s of the {count} {many(table)} with the {word} {said(a.name)}?"]
    return asked[0], f"SELECT {quoted(b.name)} FROM {quoted(table.name)} ORDER BY {quoted(a.name)}{direction} LIMIT {count}"


def in_order(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "number", "text")
    direction, words = chance.choice([("", "from the lowest"), (" DESC", "from the highest")])
    asked = f"List the {said(b.name)} of the {many(table)} in order of {said(a.name)}, {words}."
    return asked, f"SELECT {quoted(b.name)} FROM {quoted(table.name)} ORDER BY {quoted(a.name)}{direction}"


def above_average(facts: Facts, chance: random.Random) -> tuple[str, str]:
    table, (a, b) = table_with(facts, chance, "number", "text")
    sign, word = chance.choice([(">", "above"), ("<", "below")])
    asked = f"Which {many(table)} have a {said(a.name)} {word} the average? Give the {said(b.name)}."
    name, number = quoted(table.name), quoted(a.name)
    return asked, f"SELECT {quoted(b.name)} FROM {name} WHERE {number} {sign} (SELECT avg({number}) FROM {name})"


def of_parent(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    wanted, known = column_of(facts, chance, child, "any"), column_of(facts, chance, parent, "text")
    value = value_of(facts, chance, parent, known)
    asked = [
        f"List the {said(wanted.name)} of {many(child)} whose {one(parent)} has the {said(known.name)} {value}.",
        f"What is the {said(wanted.name)} of the {many(child)} of the {one(parent)} {value}?",
    ]
    return chance.choice(
        asked
    ), f"SELECT {of(child, wanted)} {joined(child, parent, key)} WHERE {of(parent, known)} = {literal(value)}"


def of_child(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    wanted, known = column_of(facts, chance, parent, "text"), column_of(facts, chance, child, "text")
    value = value_of(facts, chance, child, known)
    asked = [
        f"What is the {said(wanted.name)} of the {one(parent)} of the {one(child)} {value}?",
        f"Which {one(parent)} has the {one(child)} with {said(known.name)} {value}? Show the {said(wanted.name)}.",
    ]
    return chance.choice(
        asked
    ), f"SELECT {of(parent, wanted)} {joined(child, parent, key)} WHERE {of(child, known)} = {literal(value)}"


def totals_of_parent(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    known = column_of(facts, chance, parent, "text")
    value, numbers = value_of(facts, chance, parent, known), facts.columns(child, "number")
    what, asked = "count(*)", [f"How many {many(child)} does the {one(parent)} {value} have?"]
    if numbers and chance.random() < 0.5:
        number = chance.choice(numbers)
        function, word = chance.choice([("sum", "total"), ("avg", "average"), ("max", "highest")])
        what = f"{function}({of(child, number)})"
        asked = [f"What is the {word} {said(number.name)} of the {many(child)} of the {one(parent)} {value}?"]
    return asked[0], f"SELECT {what} {joined(child, parent, key)} WHERE {of(parent, known)} = {literal(value)}"


def by_parent(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    name, numbers = column_of(facts, chance, parent, "text"), facts.columns(child, "number")
    what, asked = "count(*)", [
        f"How many {many(child)} does each {one(parent)} have? Show the {said(name.name)}.",
        f"For each {said(name.name)} of the {many(parent)}, count the {many(child)}.",
    ]  # fmt: skip
    if numbers and chance.random() < 0.4:
        number = chance.choice(numbers)
        function, word = chance.choice([("sum", "total"), ("avg", "average")])
        what = f"{function}({of(child, number)})"
        asked = [f"What is the {word} {said(number.name)} of the {many(child)} for each {said(name.name)} of the {many(parent)}?"]
    group = of(parent, name) if name in facts.columns(parent, "group") else f"{quoted(parent.name)}.{quoted(key.to_column)}"
    return chance.choice(asked), f"SELECT {of(parent, name)}, {what} {joined(child, parent, key)} GROUP BY {group}"


def more_than(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    name, least = column_of(facts, chance, parent, "text"), chance.choice([1, 2, 3])
    words = "one" if least == 1 else str(least)
    asked = [
        f"Which {many(parent)} have more than {words} {one(child) if least == 1 else many(child)}? Show the {said(name.name)}.",
        f"Give the {said(name.name)} of {many(parent)} with more than {least} {many(child)}.",
    ]
    group = f"{quoted(parent.name)}.{quoted(key.to_column)}"
    return chance.choice(
        asked
    ), f"SELECT {of(parent, name)} {joined(child, parent, key)} GROUP BY {group} HAVING count(*) > {least}"


def without(facts: Facts, chance: random.Random) -> tuple[str, str]:
    child, parent, key = linked(facts, chance)
    name = column_of(facts, chance, parent, "text")
    asked = [
        f"Which {many(parent)} have no {many(child)}? Show the {said(name.name)}.",
        f"Give the {said(name.name)} of {many(parent)} without {many(child)}.",
        f"Which {many(parent)} never had a {one(child)}? Show the {said(name.name)}.",
    ]
    inner = f"SELECT {quoted(key.column)} FROM {quoted(child.name)} WHERE {quoted(key.column)} IS NOT NULL"
    return chance.choice(
        asked
    ), f"SELECT {quoted(name.name)} FROM {quoted(parent.name)} WHERE {quoted(key.to_column)} NOT IN ({inner})"


RULES: dict[str, Callable[[Facts, random.Random], tuple[str, str]]] = {
    rule.__name__.replace("_", " "): rule
    for rule in (
        how_many, all_of, different, with_value, count_with_value, over, in_all, for_each, extreme, in_order, above_average,
        of_parent, of_child, totals_of_parent, by_parent, more_than, without,
    )
}  # fmt: skip


def table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Pairs as a pandas table: kind, question, query."""
    import pandas as pd

    return pd.DataFrame([{"kind": pair.kind, "question": pair.question, "query": pair.query} for pair in pairs])


def write_folder(database: Path, folder: Path, pairs: Sequence[Pair], *, with_sample: bool = False) -> Path:
    """A data folder to train on: the pairs as train.csv, and the database beside it.

    Args:
        with_sample: the embedded sample's training examples and databases as well, for a model that has seen no SQL yet.

    Raises:
        FileExistsError: it has a train.csv already.
    """
    if (folder / "train.csv").exists():
        raise FileExistsError(f"{folder} has a train.csv already, perhaps an edited one: name a new folder")
    rows, files = [(pair.question, pair.query, database.stem) for pair in pairs], {database.stem: database}
    if with_sample:
        sample = layout.find_databases(spider.sample_folder())
        if database.stem in sample:
            raise ValueError(f"The sample has a database called {database.stem} as well: rename the file")
        files |= sample
        rows += [(row["question"], row["query"], row["db_id"]) for _, row in layout.read_rows(spider.SAMPLE / "train.csv")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("question", "query", "db_id"), *rows])
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        shutil.copy(file, folder / f"{name}.sqlite")
    return write_text(folder / "train.csv", text.getvalue())

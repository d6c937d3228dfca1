"""The rules behind `pairs`: each draws tables, columns and values of a database, and words a question and its query.

A rule returns (question, query). It raises IndexError where the database lacks what it needs.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from helpers.apps.pair_words import joined, key_columns, literal, plural, qualified, quoted, same, singular, spoken
from helpers.databases.schema import Column, ForeignKey, Schema, Table, fold

T = TypeVar("T")
Worded = tuple[str, str]  # question, query

LONGEST_VALUE = 40  # characters of a text that may stand in a question
NAMES = 0.6  # share of text columns drawn that are names, where there are any


# ---- drawing


@dataclass(frozen=True, kw_only=True)
class Source:
    """A database as the rules draw from it.

    Attributes:
        values: some distinct values of each (table, column).
        chance: random numbers; the same seed makes the same pairs.
    """

    schema: Schema
    values: dict[tuple[str, str], tuple]
    chance: random.Random

    def columns(self, table: Table, kind: str) -> list[Column]:
        """Return the columns of a table that have values and are no keys.

        Args:
            kind: "number", "text", "name" (text called a name or title), "group" (any other text) or "any".
        """
        return self.by_kind.get((table.name, kind), [])

    @functools.cached_property
    def having(self) -> dict[tuple[str, ...], list[Table]]:
        """The tables that have a different column of each kind, for the kinds that were asked for so far."""
        return {}

    @functools.cached_property
    def by_kind(self) -> dict[tuple[str, str], list[Column]]:
        """The columns of each (table, kind) that have values and are no keys."""
        keys = set().union(*(key.ends() for key in self.schema.foreign_keys))
        found: dict[tuple[str, str], list[Column]] = defaultdict(list)
        for table in self.schema.tables:
            for column in table.columns:
                place, words = (table.name, column.name), spoken(column.name).split()
                values = self.values.get(place, ())
                if not values or column.primary_key or (fold(table.name), fold(column.name)) in keys or words[-1:] == ["id"]:
                    continue
                is_text = all(isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE for value in values)
                is_name = is_text and ("name" in words or "title" in words)
                is_number = all(isinstance(value, (int, float)) for value in values)
                holds = {"number": is_number, "text": is_text, "name": is_name, "group": is_text and not is_name, "any": True}
                for kind in holds:
                    if holds[kind]:
                        found[table.name, kind].append(column)
        return found

    def pick(self, options: Sequence[T]) -> T:
        """Return one of several options."""
        return self.chance.choice(options)

    def table(self, *kinds: str) -> tuple[Table, list[Column]]:
        """Return a table with a different column of each kind."""
        if kinds not in self.having:
            self.having[kinds] = [table for table in self.schema.tables if self.draw(table, kinds)]
        table = self.pick(self.having[kinds])
        return table, self.draw(table, kinds)

    def draw(self, table: Table, kinds: Sequence[str]) -> list[Column]:
        """Return a different column of each kind; none where the table lacks one."""
        chosen: list[Column] = []
        for kind in kinds:
            left = [column for column in self.columns(table, kind) if column not in chosen]
            if not left:
                return []
            chosen.append(self.column(table, kind, left))
        return chosen

    def column(self, table: Table, kind: str, among: Sequence[Column] | None = None) -> Column:
        """Return a column of a kind; among texts more often a name, because people ask for names."""
        columns = self.columns(table, kind) if among is None else among
        names = [column for column in columns if kind == "text" and column in self.columns(table, "name")]
        return self.pick(names if names and self.chance.random() < NAMES else columns)

    def value(self, table: Table, column: Column) -> object:
        """Return a value of a column."""
        return self.pick(self.values[table.name, column.name])

    def linked_tables(self) -> tuple[Table, Table, ForeignKey]:
        """Return two tables, child and parent, and the foreign key that leads from the first to the second."""
        key = self.pick(self.links)
        return self.by_name[key.table], self.by_name[key.to_table], key

    @functools.cached_property
    def by_name(self) -> dict[str, Table]:
        """The tables by name."""
        return {table.name: table for table in self.schema.tables}

    @functools.cached_property
    def links(self) -> list[ForeignKey]:
        """The foreign keys between different tables."""
        return [key for key in self.schema.foreign_keys if key.table != key.to_table]


# ---- rules over one table


def how_many(source: Source) -> Worded:
    """Count all rows."""
    table = source.pick(source.schema.tables)
    rows = plural(table)
    question = source.pick([f"How many {rows} are there?", f"Count the {rows}.", f"What is the number of {rows}?"])
    return question, f"SELECT count(*) FROM {quoted(table.name)}"


def all_values(source: Source) -> Worded:
    """Select one or two columns of every row."""
    table, (a, b) = source.table("any", "any")
    if source.chance.random() < 0.5:
        question = source.pick(
            [
                f"List the {spoken(a.name)} of all {plural(table)}.",
                f"What {spoken(a.name)} does each {singular(table)} have?",
            ]
        )
        return question, f"SELECT {quoted(a.name)} FROM {quoted(table.name)}"
    question = source.pick(
        [
            f"Show the {spoken(a.name)} and {spoken(b.name)} of every {singular(table)}.",
            f"What are the {spoken(a.name)} and the {spoken(b.name)} of each {singular(table)}?",
        ]
    )
    return question, f"SELECT {quoted(a.name)}, {quoted(b.name)} FROM {quoted(table.name)}"


def distinct_values(source: Source) -> Worded:
    """Select or count the distinct values of a column."""
    table, (a,) = source.table("group")
    if source.chance.random() < 0.4:
        question = source.pick([f"How many different {spoken(a.name)}s are there among the {plural(table)}?"])
        return question, f"SELECT count(DISTINCT {quoted(a.name)}) FROM {quoted(table.name)}"
    question = source.pick(
        [
            f"Which different {spoken(a.name)}s do the {plural(table)} have?",
            f"List each {spoken(a.name)} of the {plural(table)} once.",
        ]
    )
    return question, f"SELECT DISTINCT {quoted(a.name)} FROM {quoted(table.name)}"


def where_equal(source: Source) -> Worded:
    """Select a column of the rows with a given text."""
    table, (a, b) = source.table("text", "any")
    value = source.value(table, a)
    question = source.pick(
        [
            f"What is the {spoken(b.name)} of the {singular(table)} whose {spoken(a.name)} is {value}?",
            f"Show the {spoken(b.name)} of {plural(table)} with {spoken(a.name)} {value}.",
            f"{spoken(b.name)} of the {singular(table)} {value}?",
        ]
    )
    return question, f"SELECT {quoted(b.name)} FROM {quoted(table.name)} WHERE {quoted(a.name)} = {literal(value)}"


def count_where_equal(source: Source) -> Worded:
    """Count the rows of a group."""
    table, (a,) = source.table("group")
    value = source.value(table, a)
    question = source.pick(
        [
            f"How many {plural(table)} have {spoken(a.name)} {value}?",
            f"Count the {plural(table)} whose {spoken(a.name)} is {value}.",
        ]
    )
    return question, f"SELECT count(*) FROM {quoted(table.name)} WHERE {quoted(a.name)} = {literal(value)}"


def where_compared(source: Source) -> Worded:
    """Select a column of the rows whose number is above or below a value."""
    table, (a, b) = source.table("number", "text")
    value = source.value(table, a)
    sign, words = source.pick(
        [
            (">", ("greater than", "over", "more than")),
            ("<", ("less than", "under", "below")),
            (">=", ("at least", "no less than")),
        ]
    )
    question = source.pick(
        [
            f"Which {plural(table)} have a {spoken(a.name)} {source.pick(words)} {value}? Give the {spoken(b.name)}.",
            f"Show the {spoken(b.name)} of {plural(table)} whose {spoken(a.name)} is {source.pick(words)} {value}.",
        ]
    )
    return question, f"SELECT {quoted(b.name)} FROM {quoted(table.name)} WHERE {quoted(a.name)} {sign} {value}"


def aggregate(source: Source) -> Worded:
    """Aggregate a number over all rows, or over one group."""
    table, (a,) = source.table("number")
    function, words = source.pick(
        [
            ("avg", ("average", "mean")),
            ("max", ("highest", "largest")),
            ("min", ("lowest", "smallest")),
            ("sum", ("total", "overall")),
        ]
    )
    questions = [
        f"What is the {source.pick(words)} {spoken(a.name)} of the {plural(table)}?",
        f"Give the {source.pick(words)} {spoken(a.name)} over all {plural(table)}.",
    ]
    query = f"SELECT {function}({quoted(a.name)}) FROM {quoted(table.name)}"
    groups = source.columns(table, "group")
    if groups and source.chance.random() < 0.4:
        group = source.pick(groups)
        value = source.value(table, group)
        word = source.pick(words)
        questions = [f"What is the {word} {spoken(a.name)} of the {plural(table)} with {spoken(group.name)} {value}?"]
        query += f" WHERE {quoted(group.name)} = {literal(value)}"
    return source.pick(questions), query


def for_each_group(source: Source) -> Worded:
    """Count or aggregate by group."""
    table, (a,) = source.table("group")
    group, numbers = quoted(a.name), source.columns(table, "number")
    if numbers and source.chance.random() < 0.5:
        number = source.pick(numbers)
        function, word = source.pick([("avg", "average"), ("sum", "total"), ("max", "highest")])
        question = f"What is the {word} {spoken(number.name)} for each {spoken(a.name)} of the {plural(table)}?"
        return question, f"SELECT {group}, {function}({quoted(number.name)}) FROM {quoted(table.name)} GROUP BY {group}"
    question = source.pick(
        [
            f"How many {plural(table)} are there for each {spoken(a.name)}?",
            f"Count the {plural(table)} by {spoken(a.name)}.",
        ]
    )
    return question, f"SELECT {group}, count(*) FROM {quoted(table.name)} GROUP BY {group}"


def extreme(source: Source) -> Worded:
    """Select the rows with the highest or lowest number."""
    table, (a, b) = source.table("number", "text")
    direction, words = source.pick([(" DESC", ("highest", "largest")), ("", ("lowest", "smallest"))])
    word, count = source.pick(words), source.pick([1, 1, 2, 3, 5])
    question = f"What are the {spoken(b.name)}s of the {count} {plural(table)} with the {word} {spoken(a.name)}?"
    if count == 1:
        question = f"Which {singular(table)} has the {word} {spoken(a.name)}? Give its {spoken(b.name)}."
    return question, f"SELECT {quoted(b.name)} FROM {quoted(table.name)} ORDER BY {quoted(a.name)}{direction} LIMIT {count}"


def in_order(source: Source) -> Worded:
    """Select a column in the order of a number."""
    table, (a, b) = source.table("number", "text")
    direction, words = source.pick([("", "from the lowest"), (" DESC", "from the highest")])
    question = f"List the {spoken(b.name)} of the {plural(table)} in order of {spoken(a.name)}, {words}."
    return question, f"SELECT {quoted(b.name)} FROM {quoted(table.name)} ORDER BY {quoted(a.name)}{direction}"


def above_average(source: Source) -> Worded:
    """Select the rows whose number is above or below the average: a nested query."""
    table, (a, b) = source.table("number", "text")
    sign, word = source.pick([(">", "above"), ("<", "below")])
    question = f"Which {plural(table)} have a {spoken(a.name)} {word} the average? Give the {spoken(b.name)}."
    name, number = quoted(table.name), quoted(a.name)
    return question, f"SELECT {quoted(b.name)} FROM {name} WHERE {number} {sign} (SELECT avg({number}) FROM {name})"


# ---- rules over two tables that a foreign key links


def of_parent(source: Source) -> Worded:
    """Select a column of the child where the parent has a given text."""
    child, parent, key = source.linked_tables()
    wanted, known = source.column(child, "any"), source.column(parent, "text")
    value = source.value(parent, known)
    question = source.pick(
        [
            f"List the {spoken(wanted.name)} of {plural(child)} whose {singular(parent)} has the {spoken(known.name)} {value}.",
            f"What is the {spoken(wanted.name)} of the {plural(child)} of the {singular(parent)} {value}?",
        ]
    )
    condition = f"{qualified(parent, known)} = {literal(value)}"
    return question, f"SELECT {qualified(child, wanted)} {joined(child, parent, key)} WHERE {condition}"


def of_child(source: Source) -> Worded:
    """Select a column of the parent where the child has a given text."""
    child, parent, key = source.linked_tables()
    wanted, known = source.column(parent, "text"), source.column(child, "text")
    value = source.value(child, known)
    question = source.pick(
        [
            f"What is the {spoken(wanted.name)} of the {singular(parent)} of the {singular(child)} {value}?",
            f"Which {singular(parent)} has the {singular(child)} with {spoken(known.name)} {value}? "
            f"Show the {spoken(wanted.name)}.",
        ]
    )
    condition = f"{qualified(child, known)} = {literal(value)}"
    return question, f"SELECT {qualified(parent, wanted)} {joined(child, parent, key)} WHERE {condition}"


def aggregate_of_parent(source: Source) -> Worded:
    """Count or aggregate the children of one parent."""
    child, parent, key = source.linked_tables()
    known = source.column(parent, "text")
    value, numbers = source.value(parent, known), source.columns(child, "number")
    selected, question = "count(*)", f"How many {plural(child)} does the {singular(parent)} {value} have?"
    if numbers and source.chance.random() < 0.5:
        number = source.pick(numbers)
        function, word = source.pick([("sum", "total"), ("avg", "average"), ("max", "highest")])
        selected = f"{function}({qualified(child, number)})"
        question = f"What is the {word} {spoken(number.name)} of the {plural(child)} of the {singular(parent)} {value}?"
    condition = f"{qualified(parent, known)} = {literal(value)}"
    return question, f"SELECT {selected} {joined(child, parent, key)} WHERE {condition}"


def for_each_parent(source: Source) -> Worded:
    """Count or aggregate the children of each parent."""
    child, parent, key = source.linked_tables()
    name, numbers = source.column(parent, "text"), source.columns(child, "number")
    selected, questions = "count(*)", [
        f"How many {plural(child)} does each {singular(parent)} have? Show the {spoken(name.name)}.",
        f"For each {spoken(name.name)} of the {plural(parent)}, count the {plural(child)}.",
    ]  # fmt: skip
    if numbers and source.chance.random() < 0.4:
        number = source.pick(numbers)
        function, word = source.pick([("sum", "total"), ("avg", "average")])
        selected = f"{function}({qualified(child, number)})"
        of_children = f"{spoken(number.name)} of the {plural(child)}"
        questions = [f"What is the {word} {of_children} for each {spoken(name.name)} of the {plural(parent)}?"]
    is_group = name in source.columns(parent, "group")
    group = qualified(parent, name) if is_group else key_columns(parent, key)
    query = f"SELECT {qualified(parent, name)}, {selected} {joined(child, parent, key)} GROUP BY {group}"
    return source.pick(questions), query


def more_than(source: Source) -> Worded:
    """Select the parents with more than a number of children."""
    child, parent, key = source.linked_tables()
    name, least = source.column(parent, "text"), source.pick([1, 2, 3])
    children = f"one {singular(child)}" if least == 1 else f"{least} {plural(child)}"
    question = source.pick(
        [
            f"Which {plural(parent)} have more than {children}? Show the {spoken(name.name)}.",
            f"Give the {spoken(name.name)} of {plural(parent)} with more than {least} {plural(child)}.",
        ]
    )
    group = key_columns(parent, key)
    selected = f"SELECT {qualified(parent, name)} {joined(child, parent, key)}"
    return question, f"{selected} GROUP BY {group} HAVING count(*) > {least}"


def without_children(source: Source) -> Worded:
    """Select the parents without children: a nested query."""
    child, parent, key = source.linked_tables()
    name = source.column(parent, "text")
    question = source.pick(
        [
            f"Which {plural(parent)} have no {plural(child)}? Show the {spoken(name.name)}.",
            f"Give the {spoken(name.name)} of {plural(parent)} without {plural(child)}.",
            f"Which {plural(parent)} never had a {singular(child)}? Show the {spoken(name.name)}.",
        ]
    )
    if len(key.columns) == 1:
        own, to = quoted(key.columns[0]), quoted(key.to_columns[0])
        condition = f"{to} NOT IN (SELECT {own} FROM {quoted(child.name)} WHERE {own} IS NOT NULL)"
    else:
        condition = f"NOT EXISTS (SELECT * FROM {quoted(child.name)} WHERE {same(child, parent, key)})"
    return question, f"SELECT {quoted(name.name)} FROM {quoted(parent.name)} WHERE {condition}"


RULES: tuple[Callable[[Source], Worded], ...] = (
    how_many, all_values, distinct_values, where_equal, count_where_equal, where_compared, aggregate, for_each_group, extreme,
    in_order, above_average, of_parent, of_child, aggregate_of_parent, for_each_parent, more_than, without_children,
)  # fmt: skip

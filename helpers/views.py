"""A database as the model sees it under a run's settings: the message about a question, and the SQL that an answer stands for."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from helpers import augment, linking, links, names, target, values
from helpers.augment import Pool
from helpers.databases import schema
from helpers.databases.schema import Schema
from helpers.databases.sql_text import extract_sql
from helpers.names import Names
from helpers.run.config import RunConfig

LINKED_KEYS = 25  # foreign keys written at most
INSTRUCTION = "Write one SQLite query that answers the question."
EXAMPLE = Schema(
    db_id="example",
    tables=(
        schema.Table(name="singer", columns=(schema.Column(name="singer_id", type=""), schema.Column(name="name", type=""))),
        schema.Table(name="concert", columns=(schema.Column(name="title", type=""), schema.Column(name="held_by", type=""))),
    ),
    foreign_keys=(schema.ForeignKey(table="concert", column="held_by", to_table="singer", to_column="singer_id"),),
)


class TrainingPair(NamedTuple):
    """A question, perhaps with names replaced, the message about it, and what the model shall write."""

    question: str
    message: str
    completion: str


@dataclass(frozen=True, eq=False)
class View:
    """One database under the settings of a run.

    Attributes:
        names: what the model calls its tables and columns, in style "linked".
        cells: the texts in its cells, in style "linked".
        most_columns: a wider schema is cut in every message; None leaves it whole.
    """

    database: Path | None
    tables: Schema
    names: Names
    cells: values.Index
    settings: RunConfig
    most_columns: int | None = None

    @property
    def linked(self) -> bool:
        """Whether questions, schema and cells are brought together, and answers come in target form."""
        return self.settings.prompt_style == "linked"

    def message(self, question: str, *, chance: random.Random | None = None) -> str:
        """The text of the user's turn.

        Args:
            chance: shakes the order of tables and columns a little, in style "linked".
        """
        if self.linked:
            parts = self.settings.prompt_parts
            return linked_message(question, self.names, self.cells, parts, most_columns=self.most_columns, chance=chance)
        if self.most_columns is None:
            return user_message(question, self.tables, self.settings.prompt_style)
        order = linking.cut(linking.rank(question, self.names, ()), self.most_columns)
        return user_message(question, linking.part(self.tables, order), self.settings.prompt_style)

    def left_out(self, question: str) -> tuple[str, ...]:
        """The tables, or columns of tables that are there, for which the message has no room, by their own names."""
        if self.most_columns is None:
            return ()
        found = values.find(question, self.cells, self.names) if self.linked else {}
        order = linking.rank(question, self.names, found)
        return linking.left_out(self.tables, linking.cut(order, self.most_columns))

    def training_pairs(self, question: str, sql: str, chance: random.Random, names: Pool | None = None) -> list[TrainingPair]:
        """What to learn from one example: the message that is also asked, then `prompts_per_example` - 1 that are shaken.

        Args:
            names: what a share of the shaken ones (`renamed`) takes other names from.

        Raises:
            target.Outside: the target form cannot say the SQL.
        """
        if not self.linked:
            return [TrainingPair(question, self.message(question), schema.one_line(sql))]
        needed = target.needed(sql, self.names)

        completion = target.to_target(sql, self.names)

        def message(question: str, named: Names, chance: random.Random | None) -> str:
            return linked_message(question, named, self.cells, self.settings.prompt_parts, needed=needed, chance=chance)

        pairs = [TrainingPair(question, message(question, self.names, None), completion)]
        for _ in range(self.settings.prompts_per_example - 1):
            if names and chance.random() < self.settings.renamed:
                asked, named = augment.rename(question, self.names, needed, names, chance)
                pairs.append(TrainingPair(asked, message(asked, named, chance), target.to_target(sql, named)))
            else:
                pairs.append(TrainingPair(question, message(question, self.names, chance), completion))
        return pairs

    def completion(self, sql: str) -> str:
        """Gold SQL as the model shall write it.

        Raises:
            target.Outside: the target form cannot say it.
        """
        return target.to_target(sql, self.names) if self.linked else schema.one_line(sql)

    def sql(self, answer: str) -> str:
        """The SQL that an answer of the model stands for; an answer that is no query stays as it is, for the judge to say so."""
        found = extract_sql(answer)
        if not self.linked or not found:
            return found
        try:
            return target.to_sql(found, self.names)
        except target.Unreadable:
            return found


def view(database: Path, settings: RunConfig, tables: Schema | None = None) -> View:
    """A database as the model sees it.

    Args:
        tables: its schema with names for people, where there are some; else the file's own.

    Raises:
        schema.BadDatabase: the file cannot be read.
    """
    tables = tables or schema.read(database)
    linked = settings.prompt_style == "linked"
    if linked:
        tables = links.completed(tables, database)
    wants_cells = linked and {"values", "lists"} & set(settings.prompt_parts)
    return View(
        database=database,
        tables=tables,
        names=names.name(tables, original=not settings.readable_names),
        cells=values.index(database) if wants_cells else values.EMPTY,
        settings=settings,
        most_columns=linking.MOST_COLUMNS if linked else None,
    )


def example(settings: RunConfig) -> View:
    """A small made-up database, to show what a message looks like."""
    return View(database=None, tables=EXAMPLE, names=names.name(EXAMPLE), cells=values.EMPTY, settings=settings)


def user_message(question: str, tables: Schema, style: str) -> str:
    """The text of the user's turn.

    Args:
        style: "schema" puts a line a table above the question; "question_only" leaves the model to guess the tables, as
            the published recipe did.
    """
    lines = [] if style == "question_only" else tables.lines()
    return "\n".join([INSTRUCTION, *lines, question])


def linked_message(
    question: str,
    names: Names,
    cells: values.Index,
    parts: Collection[str],
    *,
    most_columns: int | None = linking.MOST_COLUMNS,
    needed: tuple[Collection[str], Collection[linking.Place]] | None = None,
    chance: random.Random | None = None,
) -> str:
    """The text of the user's turn in style "linked": what the question is likely to need stands first, under readable names.

        Find the weight of the youngest dog.
        pets: pets.weight, pets.pet_type ('dog'), pets.pet_id, pets.pet_age
        student: student.student_id, student.first_name, student.sex ('F', 'M')
        has_pet: has_pet.student_id, has_pet.pet_id
        keys: has_pet.student_id = student.student_id, has_pet.pet_id = pets.pet_id
        Find the weight of the youngest dog.

    A causal model reads the schema knowing the question, and has the question at hand when it begins to write. Columns stand
    as they are to be copied.

    Args:
        parts: those of PROMPT_PARTS that are wanted.
        most_columns: a wider schema is cut.
        needed: tables and columns of the gold answer, which a training prompt never lacks.
        chance: shakes the order and leaves out some of what is not needed, for training.
    """
    found = values.find(question, cells, names) if "values" in parts else {}
    if "order" in parts:
        order = linking.rank(question, names, found, chance)
    else:
        order = [(table, list(columns)) for table, columns in names.schema.columns().items()]
    wanted = {*needed[1], *((table, "") for table in needed[0])} if needed else set()
    if chance and needed:
        keys = {
            (table.name.lower(), column.name.lower())
            for table in names.schema.tables
            for column in table.columns
            if column.primary_key
        }
        order = linking.thinned(order, wanted, keys, chance)
    if most_columns is not None:
        order = linking.cut(order, most_columns, wanted)

    def shown(place: linking.Place) -> str:
        texts = found.get(place) or (cells.lists.get(place, ())[: values.LIST_SHOWN] if "lists" in parts else ())
        listed = ", ".join(schema.sql_literal(" ".join(text.splitlines())) for text in texts)
        return f"{names.full(*place)} ({listed})" if listed else names.full(*place)

    lines = [f"{names.tables[table]}: {', '.join(shown((table, name)) for name in columns)}" for table, columns in order]
    there = {table for table, _ in order}
    links = [
        f"{names.full(key.table, key.column)} = {names.full(key.to_table, key.to_column)}"
        for key in names.schema.foreign_keys
        if {key.table.lower(), key.to_table.lower()} <= there
    ]
    keys_line = [f"keys: {', '.join(links[:LINKED_KEYS])}"] if links else []
    first = [question] if "question_first" in parts else []
    return "\n".join([INSTRUCTION, *first, *lines, *keys_line, question])

"""The database prompt: one database as the model reads it, in the user's turn about a question.

Source: Li et al., "CodeS", SIGMOD 2024 (database prompts with linked schema, matched values and keys).
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from helpers.databases import schema as schemas
from helpers.databases.schema import Schema, fold
from helpers.databases.sql_text import extract_sql
from helpers.prompts import foreign_keys, linking, renaming, values
from helpers.prompts.from_ir import NotAQuery, to_sql
from helpers.prompts.linking import ColumnId
from helpers.prompts.names import NameMap, name_map
from helpers.prompts.to_ir import needed_columns, to_ir
from helpers.run.config import PROMPT_PARTS

MAX_KEYS = 25  # foreign keys written in a linked message
INSTRUCTION = "Write one SQLite query that answers the question."
EXAMPLE = Schema(
    db_id="example",
    tables=(
        schemas.Table(name="singer", columns=(schemas.Column(name="singer_id", type=""), schemas.Column(name="name", type=""))),
        schemas.Table(name="concert", columns=(schemas.Column(name="title", type=""), schemas.Column(name="held_by", type=""))),
    ),
    foreign_keys=(schemas.ForeignKey(table="concert", columns=("held_by",), to_table="singer", to_columns=("singer_id",)),),
)


class TrainingPair(NamedTuple):
    """A question, perhaps with other names, the message about it, and what the model should write."""

    question: str
    message: str
    completion: str


@dataclass(frozen=True, eq=False, kw_only=True)
class DatabasePrompt:
    """How prompts about one database are written, and how answers about it are read.

    Attributes:
        database: its file; None for an example.
        style: "schema", "question_only" or "linked".
        parts: parts of a linked message, of PROMPT_PARTS.
        max_columns: a wider schema is truncated in every message; None never truncates.
    """

    database: Path | None
    schema: Schema
    names: NameMap
    values: values.ValueIndex
    style: str
    parts: tuple[str, ...] = PROMPT_PARTS
    max_columns: int | None = None

    @property
    def is_linked(self) -> bool:
        """Whether the schema is ordered by the question, and answers come as IR."""
        return self.style == "linked"

    def message(self, question: str) -> str:
        """Return the text of the user's turn."""
        if self.is_linked:
            return self.linked_message(question, self.names)
        lines = [] if self.style == "question_only" else self.narrowed_schema(question).lines()
        return "\n".join([INSTRUCTION, *lines, question])

    def linked_message(
        self,
        question: str,
        names: NameMap,
        *,
        needed: Collection[ColumnId] = (),
        chance: random.Random | None = None,
    ) -> str:
        """Return the user's turn in style "linked": what the question is likely to need comes first, under readable names.

            Find the weight of the youngest dog.
            pets: pets.weight, pets.pet_type ('dog'), pets.pet_id, pets.pet_age
            student: student.student_id, student.first_name, student.sex ('F', 'M')
            has_pet: has_pet.student_id, has_pet.pet_id
            keys: has_pet.student_id = student.student_id, has_pet.pet_id = pets.pet_id
            Find the weight of the youngest dog.

        A causal model then reads the schema knowing the question, and has just read the question when it begins to write. Columns
        are written in full, to be copied.

        Args:
            names: those of the database, or of an augmented example.
            needed: tables (with '' for the column) and columns of the gold answer, which a training message never lacks.
            chance: shuffles the order and drops some of what is not needed, for training.
        """
        matched = self.matched_values(question, names)
        order = self.order(question, names, matched, needed, chance)

        def column_text(column: ColumnId) -> str:
            lists = self.values.lists.get(column, ()) if "lists" in self.parts else ()
            texts = matched.get(column) or lists[: values.LIST_SHOWN]
            listed = ", ".join(schemas.sql_literal(" ".join(text.splitlines())) for text in texts)
            return f"{names.qualified(*column)} ({listed})" if listed else names.qualified(*column)

        lines = [
            f"{names.tables[table]}: {', '.join(column_text((table, name)) for name in columns)}" for table, columns in order
        ]
        first = [question] if "question_first" in self.parts else []
        return "\n".join([INSTRUCTION, *first, *lines, *keys_line(names, {table for table, _ in order}), question])

    def matched_values(self, question: str, names: NameMap) -> dict[ColumnId, tuple[str, ...]]:
        """Return the cells that a linked message shows because the question names them, by column."""
        return values.match_values(question, self.values, names) if self.is_linked and "values" in self.parts else {}

    def order(
        self,
        question: str,
        names: NameMap,
        matched: Collection[ColumnId],
        needed: Collection[ColumnId] = (),
        chance: random.Random | None = None,
    ) -> linking.Order:
        """Return the tables and columns that a message shows, in its order; arguments as for `linked_message`."""
        if "order" in self.parts:
            order = linking.rank(question, names, matched, chance)
        else:
            order = [(table, list(columns)) for table, columns in names.schema.columns().items()]
        if chance:
            keys = {
                (fold(table.name), fold(column.name))
                for table in names.schema.tables
                for column in table.columns
                if column.primary_key
            }
            order = linking.drop_distractors(order, needed, keys, chance)
        return order if self.max_columns is None else linking.truncate(order, self.max_columns, needed)

    def narrowed_schema(self, question: str) -> Schema:
        """Return the schema of a message in style "schema": all of it, or what `max_columns` leaves, in declared order."""
        if self.max_columns is None:
            return self.schema
        return linking.sub_schema(self.schema, self.order(question, self.names, ()))

    def left_out(self, question: str) -> tuple[str, ...]:
        """Return the tables, and the columns of shown tables, that did not fit the message, as the database names them."""
        if self.max_columns is None:
            return ()
        return linking.left_out(self.schema, self.order(question, self.names, self.matched_values(question, self.names)))

    def training_pairs(
        self,
        question: str,
        sql: str,
        chance: random.Random,
        *,
        count: int = 1,
        renamed: float = 0.0,
        pool: renaming.NamePool | None = None,
    ) -> list[TrainingPair]:
        """Return what to learn from one example: its message unshuffled, then `count` - 1 shuffled ones (linked prompts only).

        Args:
            renamed: share of the shuffled messages with other names, drawn from `pool`.

        Raises:
            NotExpressible: the IR cannot express the SQL.
        """
        if not self.is_linked:
            return [TrainingPair(question, self.message(question), self.completion(sql))]
        needed, completion = needed_columns(sql, self.names), to_ir(sql, self.names)
        pairs = [TrainingPair(question, self.linked_message(question, self.names, needed=needed), completion)]
        for _ in range(count - 1):
            if pool and chance.random() < renamed:
                other, names = renaming.rename(question, self.names, needed, pool, chance)
                message = self.linked_message(other, names, needed=needed, chance=chance)
                pairs.append(TrainingPair(other, message, to_ir(sql, names)))
            else:
                message = self.linked_message(question, self.names, needed=needed, chance=chance)
                pairs.append(TrainingPair(question, message, completion))
        return pairs

    def completion(self, sql: str) -> str:
        """Return gold SQL as the model should write it.

        Raises:
            NotExpressible: the IR cannot express it.
        """
        return to_ir(sql, self.names) if self.is_linked else schemas.one_line(sql)

    def sql(self, answer: str) -> str:
        """Return the SQL that an answer stands for. An answer that is no query stays as it is, for the judge to say so."""
        found = extract_sql(answer)
        if not self.is_linked or not found:
            return found
        try:
            return to_sql(found, self.names)
        except NotAQuery:
            return found


def keys_line(names: NameMap, tables: Collection[str]) -> list[str]:
    """Return the line of foreign keys between these tables, in a list; [] if there are none."""
    keys = [
        f"{names.qualified(key.table, column)} = {names.qualified(key.to_table, to_column)}"
        for key in names.schema.foreign_keys
        if {fold(key.table), fold(key.to_table)} <= set(tables)
        for column, to_column in key.pairs
    ]
    return [f"keys: {', '.join(keys[:MAX_KEYS])}"] if keys else []


def database_prompt(
    database: Path,
    style: str,
    *,
    schema: Schema | None = None,
    parts: tuple[str, ...] = PROMPT_PARTS,
    use_display_names: bool = True,
) -> DatabasePrompt:
    """Return how prompts about a database are written.

    Args:
        schema: its schema with display names, where there are some; None reads the file's own.

    Raises:
        schemas.BadDatabase: the file cannot be read.
    """
    schema = schema or schemas.read(database)
    is_linked = style == "linked"
    if is_linked:
        schema = foreign_keys.with_inferred_keys(schema, database)
    return DatabasePrompt(
        database=database,
        schema=schema,
        names=name_map(schema, use_display_names=use_display_names),
        values=values.value_index(database) if is_linked and {"values", "lists"} & set(parts) else values.EMPTY,
        style=style,
        parts=parts,
        max_columns=linking.MAX_COLUMNS if is_linked else None,
    )


def example_prompt(style: str) -> DatabasePrompt:
    """Return the prompt of a small made-up database, to show what a message looks like."""
    return DatabasePrompt(database=None, schema=EXAMPLE, names=name_map(EXAMPLE), values=values.EMPTY, style=style)

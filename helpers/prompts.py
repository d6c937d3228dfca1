"""What the model reads and what it shall write: chat messages, tokens, and the mask of what counts in the loss."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from helpers import linking, schema, spider, values
from helpers.config import RunConfig
from helpers.runs import OtherConfiguration, Run
from helpers.names import Names
from helpers.schema import Schema
from helpers.spider import DataSet, Example

T = TypeVar("T")

LINKED_KEYS = 25  # foreign keys written at most
INSTRUCTION = "Write one SQLite query that answers the question."
# White space and comments, or (group 1) what is quoted in one of SQLite's four ways.
GAP = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\])|(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+""", re.DOTALL)


class TemplateError(RuntimeError):
    """A chat template that renders a prompt otherwise alone than before its completion."""


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
    most_columns: int = linking.MOST_COLUMNS,
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
    if chance and needed:
        keys = {(table.name.lower(), column.name.lower()) for table in names.schema.tables for column in table.columns if column.primary_key}
        order = linking.thinned(order, {*needed[1], *((table, "") for table in needed[0])}, keys, chance)
    order = linking.cut(order, most_columns, needed[1] if needed else ())

    def shown(place: linking.Place) -> str:
        texts = found.get(place) or (cells.lists.get(place, ())[: values.LIST_SHOWN] if "lists" in parts else ())
        quoted = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
        return f"{names.full(*place)} ({quoted})" if quoted else names.full(*place)

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


def completion(query: str) -> str:
    """Gold SQL as the model shall write it: white space and comments folded outside of quotes, no semicolon at the end."""
    return GAP.sub(lambda found: found[1] or " ", query).strip().rstrip("; ")


def prompt_ids(tokenizer: Any, message: str, date_string: str) -> list[int]:
    """The tokens of a prompt, up to where the assistant begins to write.

    `date_string` goes to the template: Llama 3.2's writes today's date otherwise, and every day another prompt.
    """
    return render(tokenizer, [{"role": "user", "content": message}], date_string, add_generation_prompt=True)


def render(tokenizer: Any, messages: list[dict], date_string: str, **options: Any) -> list[int]:
    """Token ids of a conversation by the tokenizer's own chat template."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, date_string=date_string, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A tokenised example.

    Attributes:
        input_ids: prompt and completion, (length,).
        completion_mask: 0 for the prompt, 1 for what the loss counts: the SQL and the end of the turn, (length,).
    """

    input_ids: list[int]
    completion_mask: list[int]

    @property
    def completion_tokens(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.completion_mask)


def training_row(tokenizer: Any, message: str, sql: str, date_string: str) -> Row:
    """One example to learn from.

        input_ids         <|user|> schema question <|assistant|>  SELECT … <|end|>
        completion_mask        0      0       0         0            1   1    1

    Raises:
        TemplateError: the prompt alone is not the beginning of the whole, so a mask by its length would be wrong.
    """
    prompt = prompt_ids(tokenizer, message, date_string)
    turns = [{"role": "user", "content": message}, {"role": "assistant", "content": sql}]
    whole = render(tokenizer, turns, date_string)
    if whole[: len(prompt)] != prompt:
        raise TemplateError(
            "This tokenizer's chat template renders a prompt otherwise alone than before its completion, "
            "so the loss mask would be wrong. Use a model whose template has a generation prompt."
        )
    # Templates close the turn with a line end after the end-of-turn token; generation stops before it, so it is not learned.
    end = max((at for at, token in enumerate(whole) if token == tokenizer.eos_token_id), default=-1) + 1
    if end <= len(prompt):
        raise TemplateError(f"This tokenizer's chat template does not close a turn with its eos token {tokenizer.eos_token!r}")
    whole = whole[:end]
    return Row(input_ids=whole, completion_mask=[0] * len(prompt) + [1] * (len(whole) - len(prompt)))


def write_data(
    run: Run, dataset: DataSet, tokenizer: Any, settings: RunConfig
) -> tuple[list[tuple[Example, Row]], list[tuple[Example, Row]]]:
    """Write the run's data/train.jsonl and data/dev.jsonl: examples with the message that the model reads.

    Training examples over `max_seq_length` tokens are set apart, never cut. No dev question is left out.

    Returns:
        (kept, dropped) training examples, each with its tokens.
    """

    def message(example: Example) -> str:
        return user_message(example.question, schema.read(dataset.databases[example.db_id]), settings.prompt_style)

    kept, dropped = [], []
    for example in draw(dataset.train, settings.train_examples, settings.seed):
        row = training_row(tokenizer, message(example), completion(example.query), settings.date_string)
        (kept if len(row.input_ids) <= settings.max_seq_length else dropped).append((example, row))
    if not kept:
        raise ValueError(
            f"All {len(dropped):,} training examples are longer than max_seq_length={settings.max_seq_length}: raise it"
        )
    run.write_jsonl("data/dev.jsonl", [asdict(example) | {"message": message(example)} for example in dataset.dev])
    train = [asdict(example) | {"message": message(example), "completion": completion(example.query)} for example, _ in kept]
    run.write_jsonl("data/train.jsonl", train)
    run.add_to_record(
        data_name=dataset.name,
        data_note=dataset.note,
        data_sha256=dataset.sha256,
        train_examples={"kept": len(kept), "dropped": len(dropped)},
    )
    return kept, dropped


def load_dataset(run: Run, settings: RunConfig) -> DataSet:
    """The data set that the run's examples were made from, for a notebook after 02.

    Raises:
        OtherConfiguration: the data has changed since then, or another copy was found: verdicts would not fit the questions.
    """
    dataset, expected = spider.load(settings.data_source), run.record().get("data_sha256")
    if dataset.sha256 != expected:
        raise OtherConfiguration(
            f"The data at hand ({dataset.name}, SHA-256 {dataset.sha256[:12]}) is not what this run's examples were made from "
            f"({str(expected)[:12]}).\n  Run 02 Data again in a new run_dir, or bring the old data back."
        )
    return dataset


def read_training_rows(run: Run, tokenizer: Any, settings: RunConfig) -> list[Row]:
    """The tokenised examples of the run's data/train.jsonl."""
    examples = run.read_jsonl("data/train.jsonl")
    return [training_row(tokenizer, one["message"], one["completion"], settings.date_string) for one in examples]


def read_dev(run: Run, settings: RunConfig) -> tuple[list[Example], list[str]]:
    """The dev examples to be judged, `eval_questions` of them drawn at random, in dev's order, and their messages."""
    rows = draw(run.read_jsonl("data/dev.jsonl"), settings.eval_questions, settings.seed)
    messages = [row.pop("message") for row in rows]
    return [Example(**row) for row in rows], messages


def draw(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items drawn at random (always the same ones for a seed), in their old order; 0 takes all."""
    if not 0 < count < len(items):
        return list(items)
    return [items[at] for at in sorted(random.Random(seed).sample(range(len(items)), count))]

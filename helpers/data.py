"""Step 2, Data: turn questions and databases into examples as the model reads them."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from helpers.databases.layout import Example
from helpers.databases.sandbox import Limits, Sandbox
from helpers.databases.schema import Schema
from helpers.prompts import gold, message, renaming, tokens
from helpers.prompts.gold import Unsayable
from helpers.prompts.message import DatabasePrompt, TrainingPair
from helpers.prompts.question import Question
from helpers.prompts.tokens import Row
from helpers.run.config import RunConfig
from helpers.run.folder import OtherConfiguration, Run
from helpers.run.progress import tqdm
from helpers.sources import spider
from helpers.sources.spider import DataSet

T = TypeVar("T")
NAMED = 3  # examples that a note shows


def load(settings: RunConfig) -> DataSet:
    """Load the data set that a run's settings name.

    Raises: as `spider.load`.
    """
    return spider.load(settings.data_source, settings.held_out_databases)


def load_for_run(run: Run, settings: RunConfig) -> DataSet:
    """Load the data set that the run's examples were made from, for a notebook after 02.

    Raises:
        OtherConfiguration: the data has changed since then, so verdicts would not fit the questions.
    """
    dataset, expected = load(settings), run.record().get("data_sha256")
    if dataset.sha256 != expected:
        raise OtherConfiguration(
            f"The data found ({dataset.name}, SHA-256 {dataset.sha256[:12]}) is not what this run's examples were made from "
            f"({str(expected)[:12]}).\n  Run 02 Data again in a new run_dir, or restore the old data."
        )
    return dataset


# ---- prompts


def database_prompt(database: Path, settings: RunConfig, schema: Schema | None = None) -> DatabasePrompt:
    """Return how prompts about a database are written under a run's settings.

    Args:
        schema: its schema with display names, where there are some; None reads the file's own.

    Raises:
        schema.BadDatabase: the file cannot be read.
    """
    return message.database_prompt(
        database,
        settings.prompt_style,
        schema=schema,
        parts=settings.prompt_parts,
        use_display_names=settings.readable_names,
    )


def prompts_of(dataset: DataSet, settings: RunConfig) -> Callable[[str], DatabasePrompt]:
    """Return a function from db_id to that database's prompt, which reads each database once."""
    return functools.cache(lambda db_id: database_prompt(dataset.databases[db_id], settings, dataset.schema_of(db_id)))


# ---- training examples


@dataclass(frozen=True, kw_only=True)
class Written:
    """What `write_data` has written, and what it found.

    Attributes:
        kept, dropped: training rows, each with its example; an example occurs once for each of its rows.
        unsayable: gold that the model could never answer with, by "train" and "dev".
        repeated: dev questions that training asks as well, of the same database.
        unreadable: what the databases hold and SQLite cannot read, each with its db_id and the reason.
        dev_questions: their number.
    """

    kept: list[tuple[Example, Row]]
    dropped: list[tuple[Example, Row]]
    unsayable: dict[str, list[Unsayable]]
    repeated: list[Example]
    unreadable: list[str]
    dev_questions: int

    def notes(self) -> str:
        """Return what to know of the data before it is trained on, in lines; '' if there is nothing."""
        lines = []
        for part, found in self.unsayable.items():
            if found:
                what = (
                    "training examples are left out"
                    if part == "train"
                    else f"of {self.dev_questions:,} dev questions cannot be right"
                )
                lines.append(f"{len(found):,} {what}, because the model cannot write their SQL:")
                lines += [f"  {one.example.db_id}: {one.why}: {one.example.query}" for one in found[:NAMED]]
                lines += [f"  … and {len(found) - NAMED:,} more"] * (len(found) > NAMED)
        if self.repeated:
            lines.append(f"{len(self.repeated):,} of {self.dev_questions:,} dev questions are asked in training too:")
            lines += [f"  {example.db_id}: {example.question}" for example in self.repeated[:NAMED]]
        if self.unreadable:
            lines += ["The model does not see what SQLite cannot read here:", *(f"  {one}" for one in self.unreadable)]
        return "\n".join(lines)


def write_data(run: Run, dataset: DataSet, tokenizer: Any, settings: RunConfig) -> Written:
    """Write the run's data/train.jsonl and data/dev.jsonl: examples with the message that the model reads.

    With linked prompts an example makes `prompts_per_example` rows, and each gold query is run beside its IR: an example whose IR
    gives other rows, or which the grammar cannot say, is left out of training. Rows over `max_seq_length` tokens are dropped,
    never cut. No dev question is left out.

    Raises:
        ValueError: no row is left.
    """
    prompt_of = prompts_of(dataset, settings)
    drawn = draw(dataset.train, settings.train_examples, settings.seed)
    unsayable = {"train": find_unsayable(drawn, prompt_of, settings), "dev": find_unsayable(dataset.dev, prompt_of, settings)}
    left_out = {id(one.example) for one in unsayable["train"]}
    pairs = training_pairs([one for one in drawn if id(one) not in left_out], prompt_of, dataset, settings)
    rows = tokens.training_rows(tokenizer, [(pair.message, pair.completion) for _, pair in pairs])
    kept, dropped, train = [], [], []
    for (example, pair), row in zip(pairs, rows, strict=True):
        if len(row.input_ids) > settings.max_seq_length:
            dropped.append((example, row))
            continue
        kept.append((example, row))
        train.append(asdict(example) | pair._asdict())
    if not kept:
        raise ValueError(
            f"All {len(dropped):,} training examples are longer than max_seq_length={settings.max_seq_length}: raise it"
            if dropped
            else f"The model cannot write the SQL of any of the {len(drawn):,} training examples: set prompt_style to schema"
        )
    repeated = gold.same_questions(dataset.train, dataset.dev)
    asked = sorted({example.db_id for example in (*drawn, *dataset.dev)})
    dev = [asdict(example) | {"message": prompt_of(example.db_id).message(example.question)} for example in dataset.dev]
    run.write_jsonl("data/dev.jsonl", dev)
    run.write_jsonl("data/train.jsonl", train)
    run.add_to_record(
        data_name=dataset.name,
        data_note=dataset.note,
        data_sha256=dataset.sha256,
        date_string=tokens.DATE,
        train_examples={"kept": len(kept), "dropped": len(dropped)}
        | ({"outside_target_form": len(left_out)} if left_out else {}),
        unsayable={part: dict(Counter(one.kind for one in found)) for part, found in unsayable.items() if found},
        repeated_dev_questions=len(repeated),
    )
    return Written(
        kept=kept,
        dropped=dropped,
        unsayable=unsayable,
        repeated=repeated,
        unreadable=[f"{db_id}: {one}" for db_id in asked for one in prompt_of(db_id).schema.unreadable],
        dev_questions=len(dataset.dev),
    )


def training_pairs(
    examples: Sequence[Example], prompt_of: Callable[[str], DatabasePrompt], dataset: DataSet, settings: RunConfig
) -> list[tuple[Example, TrainingPair]]:
    """Return what to learn from these examples, each pair with its example."""
    chance = random.Random(settings.seed)
    trained_on = sorted({example.db_id for example in dataset.train})
    pool = renaming.name_pool(prompt_of(db_id).names for db_id in trained_on) if settings.renamed else None
    pairs = []
    for example in tqdm(examples, desc="training rows", unit="example"):
        made = prompt_of(example.db_id).training_pairs(
            example.question,
            example.query,
            chance,
            count=settings.prompts_per_example,
            renamed=settings.renamed,
            pool=pool,
        )
        pairs += [(example, pair) for pair in made]
    return pairs


def find_unsayable(
    examples: Sequence[Example], prompt_of: Callable[[str], DatabasePrompt], settings: RunConfig
) -> list[Unsayable]:
    """Return the examples whose gold the model could never answer with."""
    if settings.prompt_style != "linked":
        return []
    with Sandbox(Limits(seconds=settings.query_timeout)) as sandbox:
        faults = [
            gold.fault_of(example, prompt_of(example.db_id), sandbox, constrained=settings.constrained)
            for example in tqdm(examples, desc="gold there and back", unit="query", leave=False)
        ]
    return [fault for fault in faults if fault]


def read_training_rows(run: Run, tokenizer: Any) -> list[Row]:
    """Return the tokenised examples of the run's data/train.jsonl."""
    pairs = [(row["message"], row["completion"]) for row in run.read_jsonl("data/train.jsonl")]
    return tokens.training_rows(tokenizer, pairs)


# ---- dev questions


def dev_questions(run: Run, settings: RunConfig, dataset: DataSet | None = None) -> list[Question]:
    """Return the dev questions to be judged: `eval_questions` of data/dev.jsonl drawn at random, in dev's order.

    Args:
        dataset: the run's data, if it has been loaded already.

    Raises:
        OtherConfiguration: as `load_for_run`.
    """
    prompt_of = prompts_of(dataset or load_for_run(run, settings), settings)
    questions = []
    for row in draw(run.read_jsonl("data/dev.jsonl"), settings.eval_questions, settings.seed):
        text = row.pop("message")
        example = Example(**row)
        questions.append(Question(example.question, prompt_of(example.db_id), text, example))
    return questions


def draw(items: Sequence[T], count: int, seed: int) -> list[T]:
    """Return `count` items drawn at random (the same ones for a seed), in their old order; 0 takes all."""
    if not 0 < count < len(items):
        return list(items)
    return [items[at] for at in sorted(random.Random(seed).sample(range(len(items)), count))]

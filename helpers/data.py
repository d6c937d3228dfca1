"""Step 2, Data: turn questions and databases into examples as the model reads them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from helpers.databases.layout import Example
from helpers.databases.schema import Schema
from helpers.prompts import message, renaming, tokens
from helpers.prompts.message import DatabasePrompt
from helpers.prompts.question import Question
from helpers.prompts.to_ir import NotExpressible
from helpers.prompts.tokens import Row
from helpers.run.config import RunConfig
from helpers.run.folder import OtherConfiguration, Run
from helpers.run.progress import tqdm
from helpers.sources import spider
from helpers.sources.spider import DataSet

T = TypeVar("T")


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


def write_data(
    run: Run, dataset: DataSet, tokenizer: Any, settings: RunConfig
) -> tuple[list[tuple[Example, Row]], list[tuple[Example, Row]]]:
    """Write the run's data/train.jsonl and data/dev.jsonl: examples with the message that the model reads.

    With linked prompts an example makes `prompts_per_example` rows. Rows over `max_seq_length` tokens are dropped, never cut.
    Examples whose gold the IR cannot express are left out and counted. No dev question is left out.

    Returns:
        (kept, dropped) training rows, each with its example; an example occurs once for each of its rows.

    Raises:
        ValueError: every row is too long.
    """
    prompt_of, chance = prompts_of(dataset, settings), random.Random(settings.seed)
    trained_on = sorted({example.db_id for example in dataset.train})
    pool = renaming.name_pool(prompt_of(db_id).names for db_id in trained_on) if settings.renamed else None
    pairs, inexpressible = [], 0
    for example in tqdm(draw(dataset.train, settings.train_examples, settings.seed), desc="training rows", unit="example"):
        try:
            made = prompt_of(example.db_id).training_pairs(
                example.question,
                example.query,
                chance,
                count=settings.prompts_per_example,
                renamed=settings.renamed,
                pool=pool,
            )
        except NotExpressible:
            inexpressible += 1
            continue
        pairs += [(example, pair) for pair in made]
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
        )
    dev = [asdict(example) | {"message": prompt_of(example.db_id).message(example.question)} for example in dataset.dev]
    run.write_jsonl("data/dev.jsonl", dev)
    run.write_jsonl("data/train.jsonl", train)
    run.add_to_record(
        data_name=dataset.name,
        data_note=dataset.note,
        data_sha256=dataset.sha256,
        date_string=tokens.DATE,
        train_examples={"kept": len(kept), "dropped": len(dropped)}
        | ({"outside_target_form": inexpressible} if inexpressible else {}),
    )
    return kept, dropped


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

"""Make question/SQL pairs from a database alone: each query runs and returns rows, each question is worded by a rule.

They teach a model the names and values of one database, not how its users ask. Ten questions in your own words, in dev.csv, show
what they are worth.
"""

from __future__ import annotations

import contextlib
import csv
import io
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.apps.pair_rules import RULES, Source
from helpers.apps.pair_words import quoted
from helpers.databases import layout, schema
from helpers.databases.reading import NotRead, reading
from helpers.databases.sandbox import Limits, Result, Sandbox
from helpers.databases.schema import Schema
from helpers.run.files import write_text
from helpers.run.progress import tqdm
from helpers.sources import spider

if TYPE_CHECKING:
    import pandas as pd

VALUES = 40  # distinct values read of a column
LONGEST = 1_000  # characters of a value that is read
SECONDS, COLUMN_SECONDS = 3.0, 0.5  # to read all values, and those of one column
TRIES = 60  # for each pair wanted; a small database has few queries that differ
QUERY_SECONDS = 1.0  # for a query to run
PATIENCE = 2.0  # seconds without a new pair, after which the database has no more


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question and its SQL. `kind` is the rule that made it."""

    question: str
    query: str
    kind: str


class NothingToAsk(ValueError):
    """No rule makes a query that returns rows: the database has no rows, or no columns with values."""


def make(database: Path, count: int, seed: int = 0) -> list[Pair]:
    """Return up to `count` pairs over a database, with different queries, the rules taking turns.

    Raises:
        schema.BadDatabase: the file cannot be read.
        NothingToAsk: no pair can be made.
    """
    tables, made = schema.read(database), {}
    source = Source(schema=tables, values=dict(read_values(database, tables)), chance=random.Random(seed))
    bar = tqdm(total=count, desc="making pairs", unit="pair", leave=False)
    with bar, Sandbox(Limits(seconds=QUERY_SECONDS)) as sandbox:
        last = time.monotonic()
        for attempt in range(TRIES * count):
            if len(made) == count or time.monotonic() > last + PATIENCE:
                break
            rule = RULES[attempt % len(RULES)]
            try:
                question, query = rule(source)
            except IndexError:  # the database has nothing for this rule
                continue
            if query not in made and has_rows(sandbox.execute(database, query)):
                kind = rule.__name__.replace("_", " ")
                made[query] = Pair(question=question[:1].upper() + question[1:], query=query, kind=kind)
                bar.update()
                last = time.monotonic()
    if not made:
        raise NothingToAsk(
            f"{database.name} has nothing to ask about: its tables are empty, or hold neither numbers nor short texts"
        )
    return list(made.values())


def read_values(database: Path, tables: Schema) -> Iterator[tuple[tuple[str, str], tuple]]:
    """Yield (table, column) and some distinct values, for each column that has any, until the time is up."""
    with reading(database, SECONDS) as reader:
        for table in tables.tables:
            for column in table.columns:
                name = quoted(column.name)
                query = f"SELECT DISTINCT {name} FROM {quoted(table.name)} WHERE length({name}) <= {LONGEST} LIMIT {VALUES}"
                with contextlib.suppress(NotRead):  # a view that takes too long, a damaged page
                    if rows := reader.rows(query, seconds=COLUMN_SECONDS):
                        yield (table.name, column.name), tuple(value for (value,) in rows)


def has_rows(result: Result) -> bool:
    """Whether a query returned a row that is not all NULL."""
    return result.ok and any(value is not None for row in result.rows for value in row)


def table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return pairs as a pandas table: kind, question, query."""
    import pandas as pd

    return pd.DataFrame([{"kind": pair.kind, "question": pair.question, "query": pair.query} for pair in pairs])


def write_folder(database: Path, folder: Path, pairs: Sequence[Pair], *, with_sample: bool = False) -> Path:
    """Write a data folder to train on: the pairs as train.csv, and the database beside it. Return the path of train.csv.

    Args:
        with_sample: add the demo data's training examples and databases, for a model that has seen no SQL yet.

    Raises:
        FileExistsError: the folder already has a train.csv.
        ValueError: the demo data has a database of the same name.
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


def how_to_train(folder: Path) -> str:
    """Return the command that trains on a folder of pairs. Preset `cpu` alone is sized for the demo data's short schemas."""
    return (
        f"python -m helpers run -p data_source {folder} -p max_seq_length 1024 -p max_new_tokens 192 --run-dir runs/{folder.name}"
    )

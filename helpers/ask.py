"""A question about a database -> SQL and its rows: several candidates from a tuned model, run safely, the best one shown."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import adapter, answers, generation, model_files, models, prompts, rerank, views
from helpers.choice import Candidate, choose, tried
from helpers.databases.sandbox import Result
from helpers.databases.schema import Schema
from helpers.generation import Answers
from helpers.linking import MOST_COLUMNS
from helpers.run import config, machine
from helpers.run.config import RunConfig
from helpers.run.folder import MissingStep, Run, find_runs
from helpers.views import View

if TYPE_CHECKING:
    import pandas as pd

CANDIDATES = 4
NARROWER = (MOST_COLUMNS, 45, 30, 20, 12, 6)  # columns that a prompt shows at most, tried in turn until it fits
ROWS_SHOWN = 1_000  # of a result; the rest is counted
NAMES_SHOWN = 12  # in a hint
ROOM = 1024  # tokens that a prompt may take at least: a wide schema is worth more than a length seen in training
ANSWER_TOKENS = 192  # room for an answer at least
UNKNOWN_NAME = re.compile(r"no such (table|column): (?:.*\.)?(.+)")


class DoesNotFit(ValueError):
    """Not even the narrowest schema fits the prompt beside the question."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a question.

    Attributes:
        candidates: the distinct ones, most probable first; none if the model wrote no SQL.
        left_out: tables, or table.column, that the prompt had no room for.
        hint: when nothing ran, names in the schema that are close to the one that is not there.
    """

    question: str
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    hint: str
    seconds: float

    @property
    def left_out_note(self) -> str:
        """What the prompt had no room for, as a sentence; '' if all of it fitted."""
        if not self.left_out:
            return ""
        more = f" and {len(self.left_out) - NAMES_SHOWN} more" if len(self.left_out) > NAMES_SHOWN else ""
        return f"Not in the prompt, for want of room: {', '.join(self.left_out[:NAMES_SHOWN])}{more}."

    @property
    def best(self) -> Candidate | None:
        """The candidate to show."""
        return choose(self.candidates)

    def table(self) -> pd.DataFrame:
        """The candidates as a pandas table."""
        import pandas as pd

        rows = [
            {
                "SQL": one.sql,
                "probability": f"{one.probability:.3f}",
                "outcome": one.result.outcome,
                "rows": len(one.result.rows),
                "": "shown" if one is self.best else "",
            }
            for one in self.candidates
        ]
        return pd.DataFrame(rows, columns=["SQL", "probability", "outcome", "rows", ""])

    def as_json(self) -> str:
        """One JSON object: question, sql, columns, rows (the first thousand), row_count, error, hint, candidates and more."""
        best = self.best
        result = best.result if best else Result(outcome="empty", error="the model wrote no SQL")
        content = {
            "question": self.question,
            "sql": best.sql if best else "",
            "outcome": result.outcome,
            "columns": list(result.columns),
            "rows": [[plain(value) for value in row] for row in result.rows[:ROWS_SHOWN]],
            "row_count": len(result.rows),
            "error": result.error,
            "hint": self.hint,
            "left_out": list(self.left_out),
            "candidates": [
                {
                    "sql": one.sql,
                    "probability": round(one.probability, 4),
                    "outcome": one.result.outcome,
                    "error": one.result.error,
                }
                for one in self.candidates
            ],
            "seconds": round(self.seconds, 2),
        }
        return json.dumps(content, ensure_ascii=False, indent=1)


def plain(value: Any) -> Any:
    """A value of a result as JSON can hold it: bytes as hexadecimal digits, infinities as text."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Assistant:
    """A model that answers questions, ready.

    Attributes:
        name: of the run or the model.
        trust: how far to trust it, in a sentence or two.
    """

    model: Any
    tokenizer: Any
    settings: RunConfig
    name: str
    trust: str

    def prompt(self, question: str, view: View) -> tuple[list[int], View, tuple[str, ...]]:
        """The tokens that the model reads, the view whose message they are, and what of the schema they leave out.

        Raises:
            ValueError: there is no question, or no room for it.
        """
        question = " ".join(question.split())
        if not question:
            raise ValueError("There is no question")
        room = min(max(self.settings.max_seq_length, ROOM), generation.context(self.model) - self.answer_tokens)

        for most in (view.most_columns, *NARROWER):
            narrower = dataclasses.replace(view, most_columns=most)
            tokens = prompts.prompt_ids(self.tokenizer, narrower.message(question))
            if len(tokens) <= room:
                return tokens, narrower, narrower.left_out(question)
        raise DoesNotFit("The question is too long for the model's prompt: hardly a column fits beside it. Ask shorter")

    @property
    def answer_tokens(self) -> int:
        """Length at which an answer is cut."""
        return max(self.settings.max_new_tokens, ANSWER_TOKENS)

    def ask(self, database: Path, question: str, *, candidates: int = CANDIDATES) -> Answer:
        """Answer one question.

        Raises:
            schema.BadDatabase: the file cannot be read.
            ValueError: there is no question, or no room for it.
        """
        begin, whole = time.perf_counter(), views.view(database, self.settings)
        written, view, left_out = self.proposed(whole, question, candidates)
        found = tried(database, answers.probable(written[0], view), self.settings.query_timeout)
        hint = (
            "" if any(one.result.ok for one in found) else nearest_names([one.result.error or "" for one in found], whole.tables)
        )
        return Answer(question=question, candidates=found, left_out=left_out, hint=hint, seconds=time.perf_counter() - begin)

    def proposed(self, whole: View, question: str, candidates: int) -> tuple[Answers, View, tuple[str, ...]]:
        """This model's own answers to one question, the view that they are in, and what of the schema its prompt leaves out.

        Raises: as `prompt`.
        """
        ids, view, left_out = self.prompt(question, whole)
        written = generation.search(
            self.model,
            self.tokenizer,
            [ids],
            count=candidates,
            max_new_tokens=self.answer_tokens,
            batch_size=1,
            checkers=answers.checkers(self.model, self.tokenizer, [view], self.settings),
        )
        if candidates > 1 and rerank.is_attached(self.model):
            written = rerank.rescore(self.model, self.tokenizer, written, [question], self.settings)
        return written, view, left_out

    def write(self, database: Path, question: str, *, base: bool = False) -> Iterator[str]:
        """The most probable answer at every step (greedy), as far as it is written, growing.

        Args:
            base: as before training.

        Raises: as `ask`.
        """
        ids, *_ = self.prompt(question, views.view(database, self.settings))
        text = ""
        for piece in generation.pieces(self.model, self.tokenizer, ids, max_new_tokens=self.answer_tokens, base=base):
            text += piece
            yield text


def nearest_names(errors: Sequence[str], tables: Schema) -> str:
    """For errors about names that the database lacks, the nearest that it has, or some; '' where there is nothing to say."""
    known = {
        "table": [table.name for table in tables.tables],
        "column": [f"{table.name}.{column.name}" for table in tables.tables for column in table.columns],
    }
    lines = []
    for error in errors:
        found = UNKNOWN_NAME.match(error)
        if not found:
            continue
        kind, name = found[1], found[2].strip("\"'`[]")
        last = {one.rpartition(".")[2].lower(): one for one in reversed(known[kind])}
        near = [last[one] for one in difflib.get_close_matches(name.lower(), last, n=3, cutoff=0.5)]
        there = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(known[kind][:NAMES_SHOWN])}"
        lines.append(f"There is no {kind} {name}; {there}")
    return "\n".join(dict.fromkeys(lines))


def load(run_dir: str | Path | None = None, model: str | None = None) -> Assistant:
    """The tuned model of a run folder, or of an exported folder or the Hub.

    It runs on the machine at hand: an adapter that was trained in 4 bits on a GPU answers in 32 bits on a CPU.

    Args:
        model: a folder that `export` made, or a name on the Hub, of an adapter or a merged model; in place of a run.

    Raises:
        runs.MissingStep: the run has no adapter yet; it says which command makes one.
        model_files.ModelNotFound: no model of that name, or not one that this course made.
        runs.OtherConfiguration: an adapter of another base model.
    """
    if model is not None:
        return from_folder(model_files.find(model, adapters=True).folder, name=model)
    return of_run(trained_run(run_dir))


def of_run(run: Run) -> Assistant:
    """The tuned model of a run, with its reranker where its settings give that weight.

    Raises:
        runs.MissingStep: it lacks the reranker.
        model_files.ModelNotFound: its base model cannot be had.
        runs.OtherConfiguration: an adapter of another base model.
    """
    settings = for_this_machine(run.config())
    loaded, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(loaded, run, settings)
    return Assistant(model=loaded, tokenizer=tokenizer, settings=settings, name=run.path.name, trust=trust(run.record()))


def trained_run(run_dir: str | Path | None) -> Run:
    """The run folder, known to hold a tuned model.

    Raises:
        runs.MissingStep: naming the command that makes one, and the runs that have one.
    """
    run = Run(machine.run_path(run_dir))
    if run.has("train"):
        return run
    others = [machine.short_path(other.path) for other in find_runs(run.path.parent) if other.has("train")]
    raise MissingStep(
        f"{machine.short_path(run.path)} has no tuned model yet:\n"
        f"  `python -m helpers run --run-dir {machine.short_path(run.path)}` makes one,\n"
        f"  or name a run that has one (found: {', '.join(others) or 'none'})."
    )


def from_folder(folder: Path, name: str) -> Assistant:
    """The model of a folder that a run or an export left: an adapter, or a merged model."""
    if not (folder / adapter.COURSE).is_file():
        raise model_files.ModelNotFound(
            f"{name} has no {adapter.COURSE}, so nobody knows the prompts that it was trained on: "
            "name the adapter of a run, or what `python -m helpers export` made"
        )
    kept = json.loads((folder / adapter.COURSE).read_text(encoding="utf-8"))
    settings = for_this_machine(config.from_stored(kept["settings"]))
    if (folder / "adapter_config.json").is_file():
        loaded, tokenizer = models.load_trained(settings, folder)
    else:
        loaded, tokenizer = models.load(settings.with_overrides({"model_name": str(folder)}, "this folder"))
    missing = "its reranker" if settings.rerank_weight else ""
    return Assistant(model=loaded, tokenizer=tokenizer, settings=settings, name=name, trust=trust(kept, missing))


def for_this_machine(settings: RunConfig) -> RunConfig:
    """The settings with what only concerns training, or needs a GPU that is not there, put aside.

    Answers come from transformers on every machine: Unsloth has no beam search.
    """
    needless: dict[str, Any] = {"engine": "transformers", "gradient_checkpointing": "off", "precision": "auto"}
    if machine.gpu() is None:
        needless |= {"load_in_4bit": False, "optim": "adamw_torch"}
    return settings.with_overrides(needless, "this machine")


def trust(record: Mapping[str, Any], missing: str = "") -> str:
    """How often a model was right when it was judged, as a sentence.

    Args:
        missing: what helped it then and is not there now.
    """
    tuned = record.get("evaluation", {}).get("tuned")
    measured = (
        f"Judged on {tuned['questions']:,} questions of {record['data_name']}, it was right in {tuned['ex']:.0f} of 100 "
        f"({tuned['ex_low']:.0f} to {tuned['ex_high']:.0f})."
        if tuned
        else "How often it is right has not been measured."
    )
    if tuned and missing:
        measured += f" It had {missing} then, which this folder lacks: how often it is right alone is not measured."
    return f"{measured} A query that runs can still answer another question: read it before you rely on it."

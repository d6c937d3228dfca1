"""Ask a database: a question -> candidate queries from a trained model, executed in a sandbox, the best one with its rows."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import data, evaluate, models
from helpers.databases.sandbox import Result
from helpers.databases.schema import Schema
from helpers.decoding import generate, rerank
from helpers.decoding.generate import Beams
from helpers.decoding.select import Candidate, execute_candidates, select
from helpers.prompts.linking import MAX_COLUMNS
from helpers.prompts.message import DatabasePrompt
from helpers.prompts.question import Question
from helpers.run import config, machine
from helpers.run.config import RunConfig
from helpers.run.folder import MissingStep, Run, find_runs
from helpers.run.say import as_json
from helpers.sources import model_files
from helpers.trainer import adapter

if TYPE_CHECKING:
    import pandas as pd

CANDIDATES = 4
NARROWER = (MAX_COLUMNS, 45, 30, 20, 12, 6)  # numbers of columns tried in turn until the prompt fits
ROWS_SHOWN = 1_000  # of a result in JSON; the rest is counted
NAMES_SHOWN = 12  # in a hint
PROMPT_TOKENS = 1024  # allowed at least: a wide schema is worth more than a length seen in training
ANSWER_TOKENS = 192  # room for an answer at least
UNKNOWN_NAME = re.compile(r"no such (table|column): (?:.*\.)?(.+)")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a question.

    Attributes:
        candidates: the distinct queries, most probable first; none if the model wrote no SQL.
        left_out: tables, or table.column, that did not fit the prompt.
        hint: where no query runs, names in the schema that are close to the unknown ones.
    """

    question: str
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    hint: str
    seconds: float

    @property
    def left_out_note(self) -> str:
        """What did not fit the prompt, as a sentence; '' if everything did."""
        if not self.left_out:
            return ""
        more = f" and {len(self.left_out) - NAMES_SHOWN} more" if len(self.left_out) > NAMES_SHOWN else ""
        return f"Too much for the prompt, left out: {', '.join(self.left_out[:NAMES_SHOWN])}{more}."

    @property
    def best(self) -> Candidate | None:
        """The selected candidate; None if there is none."""
        return select(self.candidates)

    def table(self) -> pd.DataFrame:
        """Return the candidates as a pandas table."""
        import pandas as pd

        rows = [
            {
                "SQL": candidate.sql,
                "probability": f"{candidate.probability:.3f}",
                "outcome": candidate.result.outcome,
                "rows": len(candidate.result.rows),
                "": "selected" if candidate is self.best else "",
            }
            for candidate in self.candidates
        ]
        return pd.DataFrame(rows, columns=["SQL", "probability", "outcome", "rows", ""])

    def as_json(self) -> str:
        """Return the answer as one JSON object, with the first ROWS_SHOWN rows of the result."""
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
                    "sql": candidate.sql,
                    "probability": round(candidate.probability, 4),
                    "outcome": candidate.result.outcome,
                    "error": candidate.result.error,
                }
                for candidate in self.candidates
            ],
            "seconds": round(self.seconds, 2),
        }
        return as_json(content)


def plain(value: Any) -> Any:
    """Return a value of a result in a form that JSON can hold: bytes as hexadecimal digits, infinities as text."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Assistant:
    """A loaded model that answers questions.

    Attributes:
        name: of the run or the model.
        trust: how often it was right when it was judged, in a sentence or two.
    """

    model: Any
    tokenizer: Any
    settings: RunConfig
    name: str
    trust: str

    @property
    def answer_tokens(self) -> int:
        """Length in tokens at which an answer is cut."""
        return max(self.settings.max_new_tokens, ANSWER_TOKENS)

    def prompt(self, database: Path) -> DatabasePrompt:
        """Return the prompt of a database, as this model was trained on.

        Raises:
            schema.BadDatabase: the file cannot be read.
        """
        return data.database_prompt(database, self.settings)

    def fit(self, text: str, prompt: DatabasePrompt) -> Question:
        """Return a question about a database, with as much of the schema as fits the model's context.

        Raises:
            ValueError: there is no question, or no room for it.
        """
        text = " ".join(text.split())
        if not text:
            raise ValueError("There is no question")
        longest = max(self.settings.max_seq_length, PROMPT_TOKENS)
        room = min(longest, generate.context_length(self.model) - self.answer_tokens)
        for columns in dict.fromkeys((prompt.max_columns, *NARROWER)):
            narrower = dataclasses.replace(prompt, max_columns=columns)
            question = Question(text, narrower, narrower.message(text))
            if len(question.ids(self.tokenizer)) <= room:
                return question
        raise ValueError("The question is too long for the model's prompt: hardly a column fits beside it. Ask a shorter one")

    def ask(self, database: Path, text: str, *, candidates: int = CANDIDATES) -> Answer:
        """Answer one question.

        Args:
            candidates: queries to generate and execute; 1 is greedy.

        Raises:
            schema.BadDatabase: the file cannot be read.
            ValueError: there is no question, or no room for it.
        """
        begin, prompt = time.perf_counter(), self.prompt(database)
        question = self.fit(text, prompt)
        probabilities = evaluate.merge_duplicates(self.generate(question, candidates)[0], question)
        executed = execute_candidates(database, probabilities, self.settings.query_timeout)
        errors = [] if any(candidate.result.ok for candidate in executed) else [one.result.error or "" for one in executed]
        return Answer(
            question=text,
            candidates=executed,
            left_out=question.prompt.left_out(question.text),
            hint=nearest_names(errors, prompt.schema),
            seconds=time.perf_counter() - begin,
        )

    def generate(self, question: Question, count: int) -> Beams:
        """Return `count` answers to one question, as the model writes them, reranked where it has a reranker."""
        beams = generate.generate_candidates(
            self.model,
            self.tokenizer,
            [question.ids(self.tokenizer)],
            count=count,
            max_new_tokens=self.answer_tokens,
            batch_size=1,
            grammars=evaluate.grammars(self.model, self.tokenizer, [question], self.settings),
        )
        if count > 1 and rerank.is_attached(self.model):
            return rerank.rescore(self.model, self.tokenizer, beams, [question.text], self.settings)
        return beams

    def write(self, database: Path, text: str, *, base: bool = False) -> Iterator[str]:
        """Yield the greedy answer to a question as far as it is written, growing. `base` disables the adapter.

        Raises: as `ask`.
        """
        ids, answer = self.fit(text, self.prompt(database)).ids(self.tokenizer), ""
        for piece in generate.stream(self.model, self.tokenizer, ids, max_new_tokens=self.answer_tokens, base=base):
            answer += piece
            yield answer


def nearest_names(errors: Sequence[str], tables: Schema) -> str:
    """Return the names in a schema that are nearest to the unknown names in error messages, a line each; '' if there are none."""
    known = {
        "table": [table.name for table in tables.tables],
        "column": [f"{table.name}.{column.name}" for table in tables.tables for column in table.columns],
    }
    lines = []
    for error in errors:
        match = UNKNOWN_NAME.match(error)
        if not match:
            continue
        kind, name = match[1], match[2].strip("\"'`[]")
        last = {full.rpartition(".")[2].lower(): full for full in reversed(known[kind])}
        near = [last[found] for found in difflib.get_close_matches(name.lower(), last, n=3, cutoff=0.5)]
        names = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(known[kind][:NAMES_SHOWN])}"
        lines.append(f"There is no {kind} {name}; {names}")
    return "\n".join(dict.fromkeys(lines))


# ---- loading


def load(run_dir: str | Path | None = None, model: str | None = None) -> Assistant:
    """Load the trained model of a run folder, of an exported folder or of the Hub.

    An adapter that was trained in 4 bits on a GPU answers in 32 bits on a CPU.

    Args:
        model: a folder that `export` made, or a name on the Hub, of an adapter or a merged model; in place of a run.

    Raises:
        MissingStep: the run has no adapter yet; the message says which command makes one.
        ModelNotFound: no model has that name, or it is not one that this course made.
        OtherConfiguration: the adapter belongs to another base model.
    """
    if model is not None:
        return from_folder(model_files.find(model, adapters=True).folder, name=model)
    return from_run(trained_run(run_dir))


def from_run(run: Run) -> Assistant:
    """Load the trained model of a run, with its reranker where its settings give it weight.

    Raises: as `evaluate.load`.
    """
    settings = for_this_machine(run.config())
    loaded, tokenizer = evaluate.load(run, settings)
    measured = trust(run.record(), file=f"{run}/record.json")
    return Assistant(model=loaded, tokenizer=tokenizer, settings=settings, name=run.path.name, trust=measured)


def trained_run(run_dir: str | Path | None) -> Run:
    """Return the run folder, checked to hold a trained model.

    Raises:
        MissingStep: names the command that makes one, and the runs that have one.
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
    """Load the model of a folder that a run or an export wrote: an adapter, or a merged model.

    Raises:
        ModelNotFound: it does not say which prompts the model was trained on.
    """
    content = adapter.read_prompt_config(folder)
    if content is None:
        raise model_files.ModelNotFound(
            f"{name} has no {adapter.PROMPT_CONFIG}, which says what prompts it was trained on: "
            "name the adapter of a run, or what `python -m helpers export` made"
        )
    settings = for_this_machine(config.from_file(content, content["file"], "settings"))
    if (folder / "adapter_config.json").is_file():
        loaded, tokenizer = models.load_trained(settings, folder)
    else:
        loaded, tokenizer = models.load(settings.with_overrides({"model_name": str(folder)}, "this folder"))
    missing = "its reranker" if settings.rerank_weight else ""
    return Assistant(
        model=loaded, tokenizer=tokenizer, settings=settings, name=name, trust=trust(content, missing, content["file"])
    )


def for_this_machine(settings: RunConfig) -> RunConfig:
    """Return the settings without training options and options for a GPU that is missing.

    Answers come from transformers on every machine, because Unsloth has no beam search.
    """
    changes: dict[str, Any] = {"engine": "transformers", "gradient_checkpointing": "off", "precision": "auto"}
    if machine.gpu() is None:
        changes |= {"load_in_4bit": False, "optim": "adamw_torch"}
    return settings.with_overrides(changes, "this machine")


def trust(record: Mapping[str, Any], missing: str = "", file: str = "record.json") -> str:
    """Return how often a model was right when it was judged, in a sentence or two.

    Args:
        missing: what it was judged with and lacks now.
        file: where the record stands, for errors.

    Raises:
        ValueError: the scores are damaged.
    """
    try:
        tuned = record.get("evaluation", {}).get("tuned")
        measured = (
            f"Judged on {tuned['questions']:,} questions of {record['data_name']}, it was right in {tuned['ex']:.0f} of 100 "
            f"({tuned['ex_low']:.0f} to {tuned['ex_high']:.0f})."
            if tuned
            else "How often it is right has not been measured."
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"The scores in {file} are damaged, or another program's") from error
    if tuned and missing:
        measured += f" That was with {missing}, which this folder lacks; the model alone was not judged."
    return f"{measured} A query that runs can still answer another question: read it before you rely on it."

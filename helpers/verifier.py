"""Whether a query answers its question: a third adapter reads both, and what the query gave when it was run, and says yes or no.

It learns from mistakes that a model like its own really makes: candidates for questions about train databases that another run
held out (`held_out_databases`), judged. A query that gives no rows, or one name where many were asked for, is seldom right, and
no model can see that before it runs.

Source: Ni et al., "LEVER: Learning to Verify Language-to-Code Generation with Execution", ICML 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from helpers import environment, evaluation, execution, extra, processes, prompts, runs, schema
from helpers.config import RunConfig
from helpers.extra import Answers
from helpers.progress import tqdm
from helpers.prompts import Row
from helpers.trainer import Shape
from helpers.training import Outcome
from helpers.views import INSTRUCTION, View

NAME = "verifier"  # of the adapter, and of its folder in a run
LENGTH = {"num_train_epochs": 2.0, "max_steps": 0}  # of its training
FOUND = "evaluation/tuned.json"  # in the runs that it learns from
CANDIDATES, SOURCES = f"{NAME}/candidates.jsonl", f"{NAME}/sources.json"  # in its own
PROMPT = ("data_source", "prompt_style", "prompt_parts", "readable_names")  # what both have in common
TASK = "Does the query answer the question? Write yes or no."
YES, NO = "yes", "no"
ROWS, CELLS, LETTERS = 3, 5, 24  # of a result that are shown: rows, cells of a row, letters of a cell


class Judged(NamedTuple):
    """One candidate, as the verifier reads it, and whether it was right."""

    message: str
    is_right: bool


def learn(
    run: runs.Run, tokenizer: Any, settings: RunConfig, shape: Shape | None = None, *, resume: bool = True
) -> Outcome | None:
    """Train the third adapter on the candidates of `verifier_runs`; None where it has no weight.

    Args:
        shape: of a step, where it is known.
        resume: False throws its checkpoints and its candidates away.

    Raises: as `training.train` and `rows`.
    """
    if not settings.verifier_weight:
        return None
    if not resume:
        (run / CANDIDATES).unlink(missing_ok=True)
    return extra.learn(NAME, run, rows(run, tokenizer, settings), settings, shape, tokenizer=tokenizer, resume=resume, **LENGTH)


def check(settings: RunConfig) -> None:
    """Refuse `verifier_runs` that cannot teach, before anything slow.

    Raises:
        runs.MissingStep: a run has no candidates.
        ValueError: it held nothing out, found one candidate a question, or was asked with other prompts.
    """
    for name in settings.verifier_runs if settings.verifier_weight else ():
        made = runs.Run(environment.resolve(name))
        shown = f"{environment.shown(made.path)}, named in verifier_runs,"
        if not (made / "config.json").is_file() or not (made / FOUND).is_file():
            raise runs.MissingStep(f"{shown} has no candidates: run the course there first, with held_out_databases above 0")
        other = made.config()
        if not other.held_out_databases or other.candidates == 1:
            raise ValueError(
                f"{shown} needs held_out_databases above 0 and candidates above 1: the verifier learns from candidates for "
                "train databases that their model did not see"
            )
        for field in PROMPT:
            mine, its = getattr(settings, field), getattr(other, field)
            if mine != its:
                raise ValueError(f"{shown} has {field}={its!r}, this run {mine!r}: candidates must come from prompts of one form")


def rows(run: runs.Run, tokenizer: Any, settings: RunConfig) -> list[Row]:
    """What to learn from, made once and kept in the run's folder (verifier/candidates.jsonl).

    Raises: as `check`, and
        runs.OtherConfiguration: what is kept comes from other runs, or from other candidates of these.
    """
    check(settings)
    sources = {name: runs.Run(environment.resolve(name)).read_json(FOUND)["made_with"] for name in settings.verifier_runs}
    with processes.first_goes_first():
        if not (run / CANDIDATES).is_file():
            write_candidates(run, settings)
            run.write_json(SOURCES, sources)
    kept = run.read_json(SOURCES)
    if kept != sources:
        raise runs.OtherConfiguration(
            f"{environment.shown(run / NAME)} learned from {', '.join(kept)}, as they were then. Delete that folder to learn "
            f"from {', '.join(sources)} as they are now, or name the same runs again"
        )
    pairs = [(one["message"], YES if one["is_right"] else NO) for one in run.read_jsonl(CANDIDATES)]
    return prompts.training_rows(tokenizer, pairs, settings.date_string)


def write_candidates(run: runs.Run, settings: RunConfig) -> None:
    """Judge the candidates of `verifier_runs` and keep them in the run.

    Raises:
        ValueError: there are none that this run will not be judged on.
    """
    own = {(one["db_id"], one["question"]) for one in run.read_jsonl("data/dev.jsonl")}
    found = [one for name in settings.verifier_runs for one in judged(runs.Run(environment.resolve(name)), own)]
    if not found:
        raise ValueError(
            f"{', '.join(settings.verifier_runs)}: every candidate there is about a question that this run is judged on. "
            "Name runs in verifier_runs that held out other databases"
        )
    run.write_jsonl(CANDIDATES, [one._asdict() for one in found])


def judged(made: runs.Run, left_out: set[tuple[str, str]]) -> Iterator[Judged]:
    """The candidates of a run for the databases that it held out, one of each result.

    Args:
        left_out: (db_id, question) of what the verifier's own run will be judged on.

    Raises:
        runs.OtherConfiguration: the run was asked other questions than its candidates answer.
    """
    settings = made.config()
    examples, messages = prompts.read_dev(made, settings)
    found = made.read_json(FOUND)["answers"]
    if len(found) != len(examples):
        raise runs.OtherConfiguration(
            f"{environment.shown(made.path)} has candidates for {len(found):,} questions, and eval_questions asks "
            f"{len(examples):,}: evaluate it again"
        )
    dataset = prompts.load_dataset(made, settings)
    views = prompts.views_of(examples, dataset, settings)
    limits = execution.Limits(seconds=settings.query_timeout)
    several = [
        at for at, example in enumerate(examples) if (example.db_id, example.question) not in left_out and len(found[at]) > 1
    ]
    with execution.Sandbox(limits) as sandbox, evaluation.Judge(dataset.databases, dataset.tables, limits=limits) as judge:
        for at in tqdm(several, desc=f"candidates of {made.path.name}", unit="question"):
            example, view, seen = examples[at], views[at], set()
            for text, _ in found[at]:
                sql = view.sql(text)
                result = sandbox.execute(view.database, sql)
                shown = result_text(result)
                if (result.rows, shown) in seen:  # as right or wrong as the one before it
                    continue
                seen.add((result.rows, shown))
                verdict = judge.verdict(example.query, example.db_id, sql, judge.execute(example.query, example.db_id, sql))
                yield Judged(message(messages[at], text, result), bool(verdict.exec))


def message(first: str, text: str, result: execution.Result) -> str:
    """The text of the user's turn: what the first model was asked, what it answered, and what that gave."""
    return "\n".join([TASK, first.removeprefix(f"{INSTRUCTION}\n"), text.strip(), result_text(result)])


def result_text(result: execution.Result) -> str:
    """What a query gave, in a line: how many rows, and the first of them."""
    if not result.ok:
        return f"error: {result.outcome}"
    shown = [", ".join(cell_text(cell) for cell in row[:CELLS]) for row in result.rows[:ROWS]]
    rows, columns = len(result.rows), len(result.columns)
    counted = f"{rows:,} row{'s' * (rows != 1)} of {columns} column{'s' * (columns != 1)}"
    return " | ".join([counted, *shown])


def cell_text(cell: object) -> str:
    """One value of a result, cut short."""
    if isinstance(cell, str):
        return schema.literal(" ".join(cell[:LETTERS].split()))
    return "a blob" if isinstance(cell, bytes) else "NULL" if cell is None else str(cell)[:LETTERS]


def weigh(
    model: Any,
    tokenizer: Any,
    answers: Answers,
    questions: Sequence[str],
    views: Sequence[View],
    settings: RunConfig,
    *,
    progress: str = "",
) -> Answers:
    """The answers to each question with the verifier's word: log P(answer) + verifier_weight * log P(yes), the best first, scaled
    so that the probabilities of one question's answers sum to 1. Each is run within limits.
    """
    messages: dict[tuple[int, str], str] = {}
    with execution.Sandbox(execution.Limits(seconds=settings.query_timeout)) as sandbox:
        for number, (some, view, question) in enumerate(zip(answers, views, questions, strict=True)):
            if len(some) < 2:
                continue
            first = view.message(question)
            for text, _ in some:
                messages[number, text] = message(first, text, sandbox.execute(view.database, view.sql(text)))
    asked = list(dict.fromkeys(messages.values()))
    with extra.speaking(NAME, model):
        found = extra.score(model, tokenizer, asked, [YES] * len(asked), settings, progress=progress)
    yes = dict(zip(asked, found, strict=True))

    def log(number: int, text: str) -> float:
        return settings.verifier_weight * max(yes.get(messages.get((number, text), ""), 0.0), math.log(1e-6))

    return [extra.scaled([(text, old + log(at, text)) for text, old in some]) for at, some in enumerate(answers)]

"""Measure what each technique adds, from the base model to the reranked candidates: python -m tools.ablation RUN.

Answers the dev questions of a run with one more technique a row, judges each row on the databases and their altered copies, and
writes evaluation/ablation.json into the run. Model, training and prompts stay the same from the second row on.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from helpers import data, evaluate
from helpers.databases.schema import Schema
from helpers.decoding import generate, rerank
from helpers.decoding.generate import Beams
from helpers.judge import scores
from helpers.judge.verdicts import Verdict, judge_all
from helpers.prompts.question import Question
from helpers.report import mistakes
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.folder import Run

FILE = "evaluation/ablation.json"
BASE = "evaluation/base.json"  # the base model's answers, where 05 has kept them
GREEDY = "evaluation/greedy.json"  # greedy answers, by row


def rows(run: Run, questions: Sequence[Question]) -> Iterator[tuple[str, Beams, float]]:
    """Yield each row: technique, answers, and the seconds they took. Several answers to a question are selected by execution.

    Beams and their reranked scores are those that 05 Evaluate has kept.
    """
    settings = run.config()
    if (run / BASE).is_file():
        kept = run.read_json(BASE)
        yield "before training", kept["answers"], kept["seconds"]
    if not (run / GREEDY).is_file() or run.read_json(GREEDY)["made_with"] != made_with(run, questions):
        answer(run, questions)
    for name, kept in run.read_json(GREEDY)["rows"].items():
        yield name, kept["answers"], kept["seconds"]
    if settings.candidates == 1:
        return
    kept = run.read_json("evaluation/tuned.json")
    seconds = kept["seconds"]
    yield f"+ {settings.candidates} beams, the most probable", first(kept["answers"]), seconds
    yield "+ execution-guided selection", kept["answers"], seconds
    if settings.rerank_weight:
        kept = run.read_json(f"evaluation/{rerank.NAME}.json")
        seconds += kept["seconds"]
        yield "+ noisy-channel reranker, without execution", first(kept["answers"]), seconds
        yield "+ noisy-channel reranker", kept["answers"], seconds


def made_with(run: Run, questions: Sequence[Question]) -> str:
    """Return a checksum of what greedy answers rest on, prompts and adapter. Without the adapter, kept answers are believed."""
    adapter, kept = run / "adapter/adapter_model.safetensors", run / GREEDY
    if not adapter.is_file() and kept.is_file():
        return run.read_json(GREEDY)["made_with"]
    messages = "\n".join(question.message for question in questions)
    return hashlib.sha256(messages.encode() + adapter.read_bytes()).hexdigest()


def answer(run: Run, questions: Sequence[Question]) -> None:
    """Write the greedy answers, which 05 does not keep, and the candidates where they are missing."""
    settings = run.config()
    model, tokenizer = evaluate.load(run, settings)
    ids = [question.ids(tokenizer) for question in questions]
    grammars = evaluate.grammars(model, tokenizer, questions, settings)
    limits = {"max_new_tokens": settings.max_new_tokens, "batch_size": settings.per_device_eval_batch_size}
    made = {}
    for name, allowed in (("greedy", None), ("+ grammar-constrained decoding", grammars)):
        begin = time.perf_counter()
        beams = generate.generate_candidates(model, tokenizer, ids, grammars=allowed, progress=name, **limits)
        made[name] = {"seconds": round(time.perf_counter() - begin, 2), "answers": beams}
    if settings.candidates > 1:
        evaluate.candidates(model, tokenizer, questions, settings, run)
    run.write_json(GREEDY, {"made_with": made_with(run, questions), "rows": made})


def first(beams: Beams) -> Beams:
    """Return only the first answer to each question."""
    return [answers[:1] for answers in beams]


def entry(
    name: str, beams: Beams, seconds: float, questions: Sequence[Question], tables: dict[str, Schema], settings: RunConfig
) -> tuple[list[str], list[Verdict], dict[str, Any]]:
    """Return one row: the SQL selected, its verdicts, and its entry in ablation.json.

    Args:
        seconds: what generating and reranking took; selecting is added.
        tables: schemas of tables.json, for the official evaluator.
    """
    begin = time.perf_counter()
    sql = evaluate.select_all(beams, questions, settings, progress=name)
    seconds += time.perf_counter() - begin
    verdicts = evaluate.judge(questions, sql, settings)
    golds = [(question.example.query, question.example.db_id) for question in questions]
    official = scores.score(judge_all(golds, sql, databases(questions), tables, official_quirks=True, progress="officially"))
    measured = scores.score(verdicts) | {
        "ex_on_copies": scores.score(verdicts, on_copies=True)["ex"],
        "ex_official": official["ex"],
        "em_official": official["em"],
    }
    values = {key: round(value, 4) for key, value in measured.items()}
    return sql, verdicts, {"technique": name, **values, "seconds": round(seconds, 1)}


def databases(questions: Sequence[Question]) -> dict[str, Any]:
    """Return the database file of each db_id."""
    return {question.example.db_id: question.prompt.database for question in questions}


def oracle(beams: Beams, questions: Sequence[Question]) -> float:
    """Return the percentage of questions with a right answer among their candidates: what a perfect reranker would reach."""
    pairs = [(number, questions[number].sql(text)) for number, answers in enumerate(beams) for text, _ in answers]
    golds = [(questions[number].example.query, questions[number].example.db_id) for number, _ in pairs]
    verdicts = judge_all(golds, [sql for _, sql in pairs], databases(questions), progress="all candidates")
    right = {number for (number, _), verdict in zip(pairs, verdicts, strict=True) if verdict.right}
    return round(100 * len(right) / len(questions), 2)


def count_wrong(questions: Sequence[Question], sql: Sequence[str], verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Return how many predictions are wrong, by kind of mistake and by database, the most frequent first."""
    kinds, by_database = Counter(), Counter()
    for question, predicted, verdict in zip(questions, sql, verdicts, strict=True):
        if not verdict.right:
            kinds[mistakes.kind(question.example.query, predicted, question.prompt.names)] += 1
            by_database[question.example.db_id] += 1
    return {"by_kind": dict(kinds.most_common()), "by_database": dict(by_database.most_common())}


def measure(run: Run) -> dict[str, Any]:
    """Return all rows of a run with their scores and seconds."""
    settings = run.config()
    dataset = data.load_for_run(run, settings)
    questions = data.dev_questions(run, settings, dataset)
    entries, reachable = [], None
    for name, beams, seconds in rows(run, questions):
        sql, verdicts, made = entry(name, beams, seconds, questions, dataset.tables, settings)
        entries.append(made)
        print(made, flush=True)
        if reachable is None and any(len(answers) > 1 for answers in beams):
            reachable = oracle(beams, questions)
    content = {"candidates": settings.candidates, "any_candidate_right": reachable, "rows": entries}
    return content | {"wrong": count_wrong(questions, sql, verdicts), **machine.provenance()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.ablation", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    run = Run(machine.resolve(parser.parse_args().run_dir))
    run.require("train", "the ablation")
    run.write_json(FILE, measure(run))

"""What each technique adds, from the untrained model to the reranked candidates: python -m tools.ablation RUN.

Answers the dev questions of a run with one more technique a row, judges each row on the databases and their altered copies, and
writes evaluation/ablation.json into the run. Model, training and prompts stay the same from the second row on.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import answers, generation, mistakes, models, prompts, rerank
from helpers.generation import Answers
from helpers.judge import scores, test_suite
from helpers.judge.verdicts import Verdict, judge_all
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.views import View

FILE = "evaluation/ablation.json"
BASE = "evaluation/base.json"  # answers before training, where 05 has found them
GREEDY = "evaluation/greedy.json"  # answers without candidates, by their rows


@dataclass(frozen=True)
class Questions:
    """What is asked and judged.

    Attributes:
        questions: in English.
        golds: (gold SQL, db_id) a question.
        databases: with their altered copies.
    """

    questions: list[str]
    golds: list[tuple[str, str]]
    views: list[View]
    databases: dict[str, Path]
    tables: dict[str, Any]

    def verdicts(self, sql: Sequence[str]) -> list[Verdict]:
        """Of one prediction a question, on the database and its copies."""
        return judge_all(self.golds, sql, self.databases, self.tables, progress="judging")

    def official(self, sql: Sequence[str]) -> dict[str, float]:
        """EX and EM in per cent as the official evaluator counts them, which published figures are by."""
        found = scores.score(judge_all(self.golds, sql, self.alone(), self.tables, official_quirks=True, progress="officially"))
        return {"ex_official": round(found["ex"], 4), "em_official": round(found["em"], 4)}

    def alone(self) -> dict[str, Path]:
        """The databases without their copies."""
        return {db_id: view.database for (_, db_id), view in zip(self.golds, self.views, strict=True)}


def scored(strict: Sequence[Verdict]) -> dict[str, float]:
    """EX in per cent with its interval, EX on altered copies too, and EM."""
    both = scores.score(strict) | {"ex_on_copies": scores.score(strict, on_copies=True)["ex"]}
    return {name: round(value, 4) for name, value in both.items()}


def steps(run: Run, asked: Questions, messages: Sequence[str]) -> Iterator[tuple[str, Answers, float]]:
    """Each row's technique, its answers (several where they are still to be executed), and the seconds that they took in all.

    Beams and their reranked scores are those that 05 Evaluate has kept.
    """
    settings = run.config()
    if (run / BASE).is_file():
        kept = run.read_json(BASE)
        yield "before training", kept["answers"], kept["seconds"]
    if not (run / GREEDY).is_file() or run.read_json(GREEDY)["made_with"] != made_with(run, messages):
        answer(run, asked, messages)
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


def made_with(run: Run, messages: Sequence[str]) -> str:
    """What greedy answers rest on: prompts, and the adapter's bytes; where that is no more, they can only be believed."""
    adapter, kept = run / "adapter/adapter_model.safetensors", run / GREEDY
    if not adapter.is_file() and kept.is_file():
        return run.read_json(GREEDY)["made_with"]
    return hashlib.sha256("\n".join(messages).encode() + adapter.read_bytes()).hexdigest()


def answer(run: Run, asked: Questions, messages: Sequence[str]) -> None:
    """Find the greedy answers, which nobody else keeps, and the others where they are not there."""
    settings = run.config()
    model, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(model, run, settings)
    ids = [prompts.prompt_ids(tokenizer, message) for message in messages]
    checkers = answers.checkers(model, tokenizer, asked.views, settings)
    limits = {"max_new_tokens": settings.max_new_tokens, "batch_size": settings.per_device_eval_batch_size}
    made = {}
    for name, rules in (("greedy", None), ("+ grammar-constrained decoding", checkers)):
        begin = time.perf_counter()
        found = generation.search(model, tokenizer, ids, checkers=rules, **limits)
        made[name] = {"seconds": round(time.perf_counter() - begin, 2), "answers": found}
    if settings.candidates > 1:
        answers.found(model, tokenizer, messages, settings, run, questions=asked.questions, views=asked.views, base=False)
    run.write_json(GREEDY, {"made_with": made_with(run, messages), "rows": made})


def first(found: Answers) -> Answers:
    """The first answer to each question alone."""
    return [some[:1] for some in found]


def any_right(beams: Answers, asked: Questions) -> float:
    """Per cent of the questions with a right one among the candidates: what a better choice could reach."""
    pairs = [(number, asked.views[number].sql(text)) for number, some in enumerate(beams) for text, _ in some]
    golds = [asked.golds[number] for number, _ in pairs]
    verdicts = judge_all(golds, [sql for _, sql in pairs], asked.alone(), asked.tables, progress="all candidates")
    right = {number for (number, _), verdict in zip(pairs, verdicts, strict=True) if verdict.exec}
    return round(100 * len(right) / len(asked.golds), 2)


def still_wrong(asked: Questions, sql: Sequence[str], strict: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """How many answers are wrong on the database itself, by kind of mistake and by database, the most first."""
    kinds, databases = Counter(), Counter()
    for (gold, db_id), one, view, verdict in zip(asked.golds, sql, asked.views, strict, strict=True):
        if not verdict.right:
            kinds[mistakes.kind(gold, one, view.names)] += 1
            databases[db_id] += 1
    return {"by_kind": dict(kinds.most_common()), "by_database": dict(databases.most_common())}


def row(
    name: str, found: Answers, seconds: float, asked: Questions, settings: RunConfig
) -> tuple[list[str], list[Verdict], dict[str, Any]]:
    """One row: the SQL chosen, its verdicts, and its entry in ablation.json.

    Args:
        seconds: that the answers took; the choice comes on top.
    """
    begin = time.perf_counter()
    sql = answers.chosen(found, asked.views, settings, progress=name)
    seconds += time.perf_counter() - begin
    strict = asked.verdicts(sql)
    return sql, strict, {"technique": name, **scored(strict), **asked.official(sql), "seconds": round(seconds, 1)}


def measure(run: Run) -> dict[str, Any]:
    """All rows of a run with their scores and seconds."""
    settings = run.config()
    dataset = prompts.load_dataset(run, settings)
    examples, messages = prompts.read_dev(run, settings)
    asked = Questions(
        questions=[one.question for one in examples],
        golds=[(one.query, one.db_id) for one in examples],
        views=prompts.views_of(examples, dataset, settings),
        databases=test_suite.cached_copies({one.db_id: dataset.databases[one.db_id] for one in examples}),
        tables=dataset.tables,
    )
    rows, possible = [], None
    for name, found, seconds in steps(run, asked, messages):
        sql, strict, entry = row(name, found, seconds, asked, settings)
        rows.append(entry)
        print(entry, flush=True)
        if possible is None and any(len(some) > 1 for some in found):
            possible = any_right(found, asked)
    made = {"candidates": settings.candidates, "any_candidate_right": possible}
    return made | {"rows": rows, "wrong": still_wrong(asked, sql, strict), **machine.provenance()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.ablation", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    run = Run(machine.resolve(parser.parse_args().run_dir))
    run.require("train", "the ablation")
    run.write_json(FILE, measure(run))

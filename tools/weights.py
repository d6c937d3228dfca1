"""The weights of the choice among candidates, tried on questions about held-out train databases: python -m tools.weights RUN.

RUN has held_out_databases, and its candidates have been weighed by the further adapters that it gives weight. Every pair of
weights is tried on the same candidates, with each rule of choice; nothing is generated anew. `reread` stands for all that is
averaged with the first model's word: rereadings, and the twin's. Writes evaluation/weights.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from helpers import answers, channel, choice, environment, evaluation, execution, prompts, reread, runs, twin, verifier
from helpers.config import RunConfig
from helpers.extra import Answers

FILE = "evaluation/weights.json"
QUESTION = (0.0, 0.3, 0.5, 0.7, 1.0, 1.5)
VERIFIER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


class Option(NamedTuple):
    """One candidate: what the models say of it, what it gave, and whether it is right.

    Attributes:
        log, reread, channel, verifier: logarithms, those of the last two less a constant of the question.
        result: a number for its rows, the same for equal ones.
    """

    log: float
    reread: float
    channel: float
    verifier: float
    result: int
    has_rows: bool
    runs: bool
    is_right: bool

    def total(self, question_weight: float, verifier_weight: float, again: bool) -> float:
        """What the choice goes by; `again` takes the first model's word averaged over readings, and with its twin's."""
        return (self.reread if again else self.log) + question_weight * self.channel + verifier_weight * self.verifier


def differences(before: Answers, after: Answers, weight: float) -> list[dict[str, float]]:
    """What a weigher said of each candidate of each question, less a constant of the question."""
    return [
        {text: (log - dict(old)[text]) / weight for text, log in map(tuple, new)}
        for old, new in ((list(map(tuple, one)), other) for one, other in zip(before, after, strict=True))
    ]


def options(run: runs.Run, settings: RunConfig) -> list[list[Option]]:
    """The candidates of each question of a run, run and judged; those that come to the same SQL stay apart here.

    Raises:
        runs.OtherConfiguration: the run's settings are not those that its candidates were weighed with.
    """
    examples, _ = prompts.read_dev(run, settings)
    dataset = prompts.load_dataset(run, settings)
    views = prompts.views_of(examples, dataset, settings)
    found = run.read_json("evaluation/tuned.json")["answers"]
    if len(found) != len(examples):
        raise runs.OtherConfiguration(f"{run.path.name} answered {len(found):,} questions, not {len(examples):,}: run it again")
    again = answers.weighed_before(run, reread.NAME, settings.rereadings)["answers"] if settings.rereadings else found
    if settings.twin_weight:
        again = answers.weighed_before(run, twin.NAME, settings.twin_weight)["answers"]
    stages, said = again, {reread.NAME: [dict(map(tuple, some)) for some in again]}
    for name, weight in ((channel.NAME, settings.question_weight), (verifier.NAME, settings.verifier_weight)):
        if weight:
            after = answers.weighed_before(run, name, weight)["answers"]
            said[name], stages = differences(stages, after, weight), after
    none: list[dict[str, float]] = [defaultdict(float) for _ in found]
    limits = execution.Limits(seconds=settings.query_timeout)
    made: list[list[Option]] = []
    with execution.Sandbox(limits) as sandbox, evaluation.Judge(dataset.databases, dataset.tables, limits=limits) as judge:
        for at, (example, view) in enumerate(zip(examples, views, strict=True)):
            made.append([])
            results: dict[tuple, int] = {}
            for text, log in found[at]:
                sql = view.sql(text)
                result = sandbox.execute(view.database, sql)
                verdict = judge.verdict(example.query, example.db_id, sql, judge.execute(example.query, example.db_id, sql))
                words = [said.get(name, none)[at][text] for name in (reread.NAME, channel.NAME, verifier.NAME)]
                made[-1].append(
                    Option(
                        log,
                        *words,
                        results.setdefault(result.rows, len(results)),
                        bool(result.rows),
                        result.ok,
                        bool(verdict.exec),
                    )
                )
    return made


def chosen(some: Sequence[Option], weights: tuple[float, float, bool], rule: str) -> Option | None:
    """One of the candidates: the `best`, the one that `choice` takes (`rows`), or the best of the likeliest result (`vote`)."""
    if not some:
        return None
    order = sorted(some, key=lambda one: -one.total(*weights))
    if rule == "rows":
        return max(order, key=lambda one: choice.worth(one.total(*weights), one.runs, one.has_rows))
    if rule == "vote":
        best, votes = order[0].total(*weights), defaultdict(float)
        for one in order:
            votes[one.result] += math.exp(one.total(*weights) - best) * (1.0 if one.has_rows else 0.3)
        return max(order, key=lambda one: votes[one.result])
    return order[0]


def tried(made: Sequence[Sequence[Option]]) -> list[dict[str, Any]]:
    """EX in per cent for every pair of weights and rule, the best first."""
    rows = [
        {
            "question_weight": one,
            "verifier_weight": other,
            "reread": again,
            "rule": rule,
            "ex": round(100 * sum(bool(best and best.is_right) for best in picks) / len(made), 2),
        }
        for one in QUESTION
        for other in VERIFIER
        for again in (False, True)
        for rule in ("best", "rows", "vote")
        for picks in [[chosen(some, (one, other, again), rule) for some in made]]
    ]
    return sorted(rows, key=lambda row: -smooth(row, rows))


def smooth(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float:
    """The mean EX of a pair of weights and its neighbours, under one rule: a peak that stands alone is chance."""

    def near(other: dict[str, Any]) -> bool:
        steps = [
            abs(grid.index(row[name]) - grid.index(other[name]))
            for name, grid in (("question_weight", QUESTION), ("verifier_weight", VERIFIER))
        ]
        return (other["rule"], other["reread"]) == (row["rule"], row["reread"]) and max(steps) <= 1

    return statistics.fmean(other["ex"] for other in rows if near(other))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.weights", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    run = runs.Run(environment.resolve(parser.parse_args().run_dir))
    settings = run.config()
    made = options(run, settings)
    table = tried(made)
    possible = round(100 * sum(any(one.is_right for one in some) for some in made) / len(made), 2)
    run.write_json(FILE, {"questions": len(made), "any_candidate_right": possible, "tried": table, **runs.machine()})
    for row in table[:12]:
        print(row)

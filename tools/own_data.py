"""What training on one's own database changes: python -m tools.own_data NAME=RUN [NAME=RUN ...].

Judges tuned models on the example database's questions, which were written by hand, once by the greedy answer and once as `ask`
answers, with four candidates; the verdicts go to results/own-data/measured.json.
"""

from __future__ import annotations

import argparse
from typing import Any

from helpers import ask, export, views
from helpers.apps import own_files
from helpers.databases import layout
from helpers.judge import scores
from helpers.judge.verdicts import Verdict, judge_all
from helpers.run import machine
from helpers.run.folder import Run
from helpers.run.machine import ROOT
from helpers.run.progress import tqdm


def measure(assistant: ask.Assistant, record: dict[str, Any]) -> dict[str, Any]:
    """One model on all questions: EX by either way of answering, with intervals, and what `ask` showed."""
    database = own_files.named()["marina"]
    rows = [row for _, row in layout.read_rows(own_files.EXAMPLE / "dev.csv")]
    view = views.view(database, assistant.settings)
    greedy = export.answers(assistant, [export.Asked(view.message(row["question"]), view) for row in rows])
    asked = [assistant.ask(database, row["question"]) for row in tqdm(rows, desc="asking", unit="question")]
    found: dict[str, Any] = {}
    for name, sql in (("greedy", greedy), ("ask", [one.best.sql if one.best else "" for one in asked])):
        verdicts = judged(sql)
        right = sum(one.exec for one in verdicts)
        low, high = scores.wilson_interval(right, len(verdicts))
        found[name] = {
            "right": right,
            "ex": 100 * right / len(verdicts),
            "low": round(100 * low, 1),
            "high": round(100 * high, 1),
        }
    return {"questions": len(rows), **found, "predictions": [one.best.sql if one.best else "" for one in asked]} | {
        name: record[name] for name in ("model_name", "preset", "data_name", "train_examples", "git_commit", "cpu_cores", "gpu")
    }


def judged(sql: list[str]) -> list[Verdict]:
    """Verdicts on one prediction a question."""
    database = own_files.named()["marina"]
    golds = [(row["query"], "marina") for _, row in layout.read_rows(own_files.EXAMPLE / "dev.csv")]
    return judge_all(golds, sql, {"marina": database}, progress="")


if __name__ == "__main__":
    measured: dict[str, dict[str, Any]] = {}
    parser = argparse.ArgumentParser(prog="python -m tools.own_data", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=RUN")
    for argument in parser.parse_args().models:
        name, _, folder = argument.partition("=")
        run = ask.trained_run(folder)
        measured[name] = measure(ask.load(run.path), run.record())
        print(name, measured[name]["greedy"], measured[name]["ask"])
    first = judged(next(iter(measured.values()))["predictions"])
    for one in measured.values():
        one["less_first"] = dict(scores.paired_difference(first, judged(one["predictions"])))
    target = Run(ROOT / "results/own-data")
    target.write_json("measured.json", {"machine": machine.provenance(), "models": measured})

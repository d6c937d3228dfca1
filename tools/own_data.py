"""Measure what training on one's own database changes: python -m tools.own_data NAME=RUN [NAME=RUN ...].

Judges trained models on the example database's hand-written questions, once by the greedy answer and once as `ask` answers, with
four candidates. Writes results/own-data/measured.json.
"""

from __future__ import annotations

import argparse
from typing import Any

from helpers import evaluate
from helpers.apps import export, own_files
from helpers.apps.ask import Assistant, load, trained_run
from helpers.databases import layout
from helpers.databases.layout import Example
from helpers.judge import scores
from helpers.judge.verdicts import Verdict
from helpers.prompts.question import Question
from helpers.run import machine
from helpers.run.folder import Run
from helpers.run.progress import tqdm

KEPT = ("model_name", "preset", "data_name", "train_examples", "git_commit", "cpu_cores", "gpu")


def questions(assistant: Assistant) -> list[Question]:
    """Return the hand-written questions about the example database."""
    prompt, made = assistant.prompt(own_files.named()["marina"]), []
    for _, row in layout.read_rows(own_files.EXAMPLE / "dev.csv"):
        example = Example(question=row["question"], query=row["query"], db_id="marina", hardness="", seen=False)
        made.append(Question(example.question, prompt, prompt.message(example.question), example))
    return made


def measure(assistant: Assistant, record: dict[str, Any]) -> tuple[dict[str, Any], list[Verdict]]:
    """Return one model's entry in measured.json, EX by either way of answering with intervals; and the verdicts on `ask`."""
    asked = questions(assistant)
    answers = [assistant.ask(one.prompt.database, one.text) for one in tqdm(asked, desc="asking", unit="question")]
    ways = {
        "greedy": export.predict(assistant, asked),
        "ask": [answer.best.sql if answer.best else "" for answer in answers],
    }
    entry: dict[str, Any] = {"questions": len(asked)}
    for name, sql in ways.items():
        verdicts = evaluate.judge(asked, sql, assistant.settings, progress="")
        score = scores.score(verdicts)
        entry[name] = {
            "right": sum(verdict.right for verdict in verdicts),
            "ex": score["ex"],
            "low": round(score["ex_low"], 1),
            "high": round(score["ex_high"], 1),
        }
    return entry | {"predictions": ways["ask"]} | {name: record[name] for name in KEPT}, verdicts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.own_data", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=RUN")
    measured: dict[str, dict[str, Any]] = {}
    first: list[Verdict] = []
    for argument in parser.parse_args().models:
        name, _, folder = argument.partition("=")
        run = trained_run(folder)
        measured[name], verdicts = measure(load(run.path), run.record())
        first = first or verdicts
        measured[name]["less_first"] = dict(scores.paired_difference(first, verdicts))
        print(name, measured[name]["greedy"], measured[name]["ask"])
    Run(machine.ROOT / "results/own-data").write_json("measured.json", {"machine": machine.provenance(), "models": measured})

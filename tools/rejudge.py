"""Judge kept runs again after the judge has changed: python -m tools.rejudge results/NAME... (SPIDER_DIR for runs on Spider).

Predictions stay; the scores in record.json, scores.txt and the plot are rewritten. A run whose EX would change is refused: that
needs a look, not a tool. Folders without the predictions of both models are skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from helpers import data, evaluate
from helpers.judge.files import read_lines
from helpers.prompts.message import database_prompt
from helpers.prompts.question import Question
from helpers.report import plots, tables
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.sources import spider

PREDICTIONS = {"base": "predictions_base.txt", "tuned": "predictions.txt"}


def rejudge(folder: Path) -> None:
    """Judge the base and tuned predictions of one kept run.

    Raises:
        ValueError: EX differs from the record's.
    """
    run = Run(folder)
    record = run.record()
    kept = record["evaluation"]
    dataset = spider.load("spider" if record["data_name"] == "Spider" else record["data_source"])
    prompts = {db_id: database_prompt(path, "question_only") for db_id, path in dataset.databases.items()}
    examples = data.draw(dataset.dev, kept["questions"], record["seed"])
    questions = [Question(example.question, prompts[example.db_id], "", example) for example in examples]
    verdicts = {}
    for name, file in PREDICTIONS.items():
        verdicts[name] = evaluate.judge(questions, read_lines(folder / file), RunConfig(), progress=f"{folder.name}, {name}")
    differing = spider.differing([(example.query, example.db_id) for example in examples], dataset.databases)
    scores = evaluate.scores_entries(verdicts["base"], verdicts["tuned"], differing)
    for name in verdicts:
        if abs(scores[name]["ex"] - kept[name]["ex"]) > 0.01:  # older records have two decimals
            raise ValueError(f"{folder}: EX of {name} was {kept[name]['ex']}, now {scores[name]['ex']}")
    run.write_text("scores.txt", evaluate.scores_text(*verdicts.values(), differing, record["data_note"]))
    base, tuned = (tables.score_table(system) for system in verdicts.values())
    plots.save_plot(plots.plot_scores(tuned, base, f"{record['data_name']}, by hardness"), folder / "scores.png")
    run.add_to_record(evaluation=kept | scores | {"judged_at_commit": machine.provenance()["git_commit"]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.rejudge", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="results/NAME")
    for folder in parser.parse_args().folders:
        lacking = [name for name in ("record.json", *PREDICTIONS.values()) if not (folder / name).is_file()]
        if lacking:
            print(f"{folder}: skipped, it has no {', '.join(lacking)}")
        else:
            rejudge(folder)

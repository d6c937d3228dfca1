"""Judge kept runs anew, after the judge has changed: python -m tools.rejudge results/NAME... (SPIDER_DIR for runs on Spider).

Predictions stay as they are; the scores in record.json, scores.txt and the plot are written anew. A run whose EX would become
another one is refused: that is for a look, not for a tool. Folders without predictions of both models are passed over.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from helpers import prompts, report, spider
from helpers.judge import test_suite
from helpers.judge.verdicts import judge_all
from helpers.run import machine
from helpers.run.files import write_text

PREDICTIONS = {"base": "predictions_base.txt", "tuned": "predictions.txt"}


def rejudge(folder: Path) -> None:
    """Judge base and tuned predictions of one kept run.

    Raises:
        ValueError: EX differs from the record's.
    """
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    kept = record["evaluation"]
    dataset = spider.load("spider" if record["data_name"] == "Spider" else record["data_source"])
    examples = prompts.draw(dataset.dev, kept["questions"], record["seed"])
    golds = [(example.query, example.db_id) for example in examples]
    copies = test_suite.cached_copies({db_id: dataset.databases[db_id] for _, db_id in golds})
    verdicts = {}
    for name, file in PREDICTIONS.items():
        predictions = (folder / file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        verdicts[name] = judge_all(golds, predictions, copies, dataset.tables, progress=f"{folder.name}, {name}")
    differing = spider.differing(golds, dataset.databases)
    scores = report.scores_entries(verdicts["base"], verdicts["tuned"], differing)
    for name in verdicts:
        if abs(scores[name]["ex"] - kept[name]["ex"]) > 0.01:  # older records have two decimals
            raise ValueError(f"{folder}: EX of {name} was {kept[name]['ex']}, now {scores[name]['ex']}")
    record["evaluation"] = kept | scores | {"judged_at_commit": machine.provenance()["git_commit"]}
    write_text(folder / "scores.txt", report.scores_text(*verdicts.values(), differing, record["data_note"]))
    base, tuned = (report.score_table(some) for some in verdicts.values())
    report.save_plot(report.plot_scores(tuned, base, f"{record['data_name']}, by hardness"), folder / "scores.png")
    write_text(folder / "record.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.rejudge", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="results/NAME")
    for folder in parser.parse_args().folders:
        lacking = [name for name in ("record.json", *PREDICTIONS.values()) if not (folder / name).is_file()]
        if lacking:
            print(f"{folder}: passed over, it has no {', '.join(lacking)}")
        else:
            rejudge(folder)

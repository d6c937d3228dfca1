"""How many columns a linked prompt needs, so that it lacks none of gold's: python -m tools.budget SPIDER.

Orders the tables and columns of every question's database as a prompt does and cuts them at several widths. Counted are the
questions whose gold needs nothing that was cut. SPIDER is Spider's folder; the counts are kept in results/prompt/budget.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from helpers import config, environment, linking, prompts, runs, spider, target, values
from helpers.progress import tqdm
from helpers.spider import DataSet, Example

FILE = environment.ROOT / "results/prompt/budget.json"
WIDTHS = (10, 20, 30, 45, linking.MOST_COLUMNS, 90)


def whole(dataset: DataSet, examples: Sequence[Example], settings: config.RunConfig, title: str = "") -> dict[str, Any]:
    """Of how many questions a prompt of each width holds all that gold needs.

    Returns: `questions`; `widest`, the columns of the widest schema; and by width (a string of digits) `cut`, questions whose
    schema is wider, and `whole`, questions with nothing of gold's left out. A gold query that the target form cannot say is not
    counted.
    """
    widths: dict[str, dict[str, int]] = {str(most): {"cut": 0, "whole": 0} for most in WIDTHS}
    questions = widest = 0
    pairs = list(zip(examples, prompts.views_of(examples, dataset, settings), strict=True))
    for example, view in tqdm(pairs, desc=title, unit="question", disable=not title):
        try:
            tables, columns = target.needed(example.query, view.names)
        except target.Outside:
            continue
        needed = {*columns, *((table, "") for table in tables)}
        order = linking.rank(example.question, view.names, values.find(example.question, view.cells, view.names), None)
        width = sum(len(names) for _, names in order)
        questions, widest = questions + 1, max(widest, width)
        for most in WIDTHS:
            kept = linking.cut(order, most)
            there = {(table, name) for table, names in kept for name in ("", *names)}
            widths[str(most)]["cut"] += width > most
            widths[str(most)]["whole"] += needed <= there
    return {"questions": questions, "widest": widest, "widths": widths}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.budget", description=__doc__)
    parser.add_argument("spider", metavar="SPIDER")
    settings = config.preset("full").with_overrides({"data_source": parser.parse_args().spider}, "this tool")
    dataset = spider.load_for(settings)
    found = {name: whole(dataset, getattr(dataset, name), settings, name) for name in ("train", "dev")}
    runs.write_text(FILE, json.dumps(found | runs.machine(), indent=1) + "\n")

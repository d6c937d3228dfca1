"""A trial without notebooks: python -m tools.trial RUN [--preset P] [-p NAME VALUE]...

Data, training and answers of a run as 02, 04 and 05 make them, without what a person would look at on the way: answers before
training, plots, close-ups. For settings to be compared on train databases held out (`-p held_out_databases 35`); its record.json
is a row of the ledger. Called again with another rerank_weight, it chooses anew and trains only what is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from helpers import adapter, answers, model_files, models, prompts, setup, spider, training
from helpers.__main__ import literal
from helpers.databases.sandbox import Limits
from helpers.judge import scores
from helpers.judge.verdicts import judge_all
from helpers.run import machine
from helpers.run.folder import Run


def trained(run: Run) -> None:
    """Make the data and train what the run lacks: the adapter, and the reranker where it has weight."""
    settings = run.config()
    models.start_engine(settings)
    tokenizer = models.load_tokenizer(model_files.find(settings.model_name))
    if not run.has("data"):
        prompts.write_data(run, spider.load_for(settings), tokenizer, settings)
    if not run.has("train"):
        model, _ = models.load(settings)
        rows = prompts.read_training_rows(run, tokenizer)
        adapter.save(model, tokenizer, settings, run, training.train(model, tokenizer, rows, settings, run))
    training.train_reranker(run, tokenizer, settings)


def judged(run: Run) -> dict[str, Any]:
    """The tuned model's answers, by transformers as those of 05 with candidates are, and their score."""
    settings = run.config()
    if settings.candidates == 1:  # with more of them it is so anyway
        settings = settings.with_overrides({"engine": "transformers"}, "tools.trial")
    dataset = prompts.load_dataset(run, settings)
    examples, messages = prompts.read_dev(run, settings)
    views, questions = prompts.views_of(examples, dataset, settings), [example.question for example in examples]
    model, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(model, run, settings)
    sql, seconds = answers.predict(model, tokenizer, messages, settings, run, questions=questions, views=views, base=False)
    run.write_text("evaluation/predictions.txt", "".join(f"{one}\n" for one in sql))
    golds = [(example.query, example.db_id) for example in examples]
    limits = Limits(seconds=settings.query_timeout)
    verdicts = judge_all(golds, sql, dataset.databases, dataset.tables, limits=limits)
    return {
        "questions": len(examples),
        "seen_databases": sum(example.seen for example in examples),
        "decoding": settings.decoding,
        "seconds": round(seconds, 1),
        "tuned": {name: round(value, 4) for name, value in scores.score(verdicts).items()},
    }


def main() -> None:
    """Train in a process of its own, for Unsloth changes transformers for the whole process; then answer in this one."""
    parser = argparse.ArgumentParser(prog="python -m tools.trial", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    parser.add_argument("--preset", help="of a new run; None is full")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="settings")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    given = {name: literal(value) for name, value in options.settings}
    run = Run(machine.run_path(options.run_dir))
    preset = options.preset or (None if run.has("setup") else "full")
    run, _ = setup.start(options.run_dir, preset, origin="command line", **given)
    if options.train:
        trained(run)
        return
    subprocess.run([sys.executable, "-m", "tools.trial", str(run.path), "--train"], cwd=machine.ROOT, check=True)
    entry = judged(run)
    run.add_to_record(evaluation=entry)
    print(entry["tuned"])


if __name__ == "__main__":
    main()

"""Train and judge one run without notebooks: python -m tools.trial RUN [--preset P] [-p NAME VALUE]...

It does what 02, 04 and 05 do, without the base model's answers, plots and close-ups. Use it to compare settings on held-out train
databases (`-p held_out_databases 35`); its record.json makes a line of the ledger. Called again with another rerank_weight, it
selects again and trains only what is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from helpers import data, evaluate, models, setup, train
from helpers.judge.scores import summary
from helpers.run import machine
from helpers.run.folder import Run
from helpers.run.parameters import literal
from helpers.sources import model_files


def train_missing(run: Run) -> None:
    """Make the data and train what the run lacks: the adapter, and the reranker where it has weight."""
    settings = run.config()
    if not run.has("data"):
        models.start_engine(settings)
        tokenizer = models.load_tokenizer(model_files.find(settings.model_name, settings.model_revision))
        data.write_data(run, data.load(settings), tokenizer, settings)
    if not run.has("train"):
        model, tokenizer, rows = train.load(run, settings)
        train.save(model, tokenizer, settings, run, train.train(model, tokenizer, rows, settings, run))
    train.train_reranker(run, settings)


def judge(run: Run) -> None:
    """Answer the dev questions with transformers, judge the answers, and write predictions and scores into the run."""
    settings = run.config().with_overrides({"engine": "transformers"}, "tools.trial")
    questions = data.dev_questions(run, settings)
    model, tokenizer = evaluate.load(run, settings)
    predictions = evaluate.predict(model, tokenizer, questions, settings, run)
    run.write_text("evaluation/predictions.txt", "".join(f"{sql}\n" for sql in predictions.sql))
    tuned = summary(evaluate.judge(questions, predictions.sql, settings))
    run.add_to_record(
        evaluation={
            "questions": len(questions),
            "seen_databases": sum(question.example.seen for question in questions),
            "decoding": settings.decoding,
            "seconds": round(predictions.seconds, 1),
            "tuned": tuned,
        }
    )
    print(tuned)


def main() -> None:
    """Train in a process of its own, because Unsloth patches transformers for the whole process; then answer in this one."""
    parser = argparse.ArgumentParser(prog="python -m tools.trial", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    parser.add_argument("--preset", help="of a new run (default: full)")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="settings")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    given = {name: literal(value) for name, value in options.settings}
    run = Run(machine.run_path(options.run_dir))
    preset = options.preset or (None if run.has("setup") else "full")
    run, _ = setup.start(options.run_dir, preset, origin="command line", **given)
    if options.train:
        train_missing(run)
        return
    subprocess.run([sys.executable, "-m", "tools.trial", str(run.path), "--train"], cwd=machine.ROOT, check=True)
    judge(run)


if __name__ == "__main__":
    main()

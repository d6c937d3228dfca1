"""`judge` and `compare` judge files of predictions of any system; `neighbours` makes altered copies of databases for them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.cli.exit import DONE, FAILED, REFUSALS, check_file, refuse
from helpers.databases import layout
from helpers.judge import test_suite
from helpers.judge.files import JSON, Gold, judge_files, read_gold, write_verdicts
from helpers.judge.verdicts import WRONG_ON_A_COPY, Verdict
from helpers.run.say import say
from helpers.sources import spider

PREDICTIONS = "one SQL a line in the order of gold, an empty line for none; or .json, .jsonl"


def add_commands(commands: Any) -> None:
    """Add `judge`, `compare` and `neighbours` to the parser."""
    judge = commands.add_parser(
        "judge",
        help="judge a file of predictions",
        description="Judge any system's predictions by execution accuracy and exact set match, and write a verdict for each.",
    )
    judge.add_argument("--pred", type=Path, required=True, help=PREDICTIONS)
    judge.add_argument("--out", type=Path, required=True, help="JSON file for the verdicts")
    add_judge_options(judge)
    judge.set_defaults(command=judge_predictions)

    compare = commands.add_parser(
        "compare",
        help="compare two files of predictions",
        description="Judge two systems on the same questions: is one better, by how much, and where.",
    )
    compare.add_argument("pred", type=Path, metavar="PRED_A", help=PREDICTIONS)
    compare.add_argument("pred_b", type=Path, metavar="PRED_B", help="the other system's file")
    compare.add_argument("--plot", type=Path, metavar="PNG", help="file for a plot of both by hardness")
    add_judge_options(compare)
    compare.set_defaults(command=compare_predictions)

    copies = commands.add_parser(
        "neighbours",
        help="make altered copies of databases",
        description="Write each database with altered copies beside it: `judge --db OUT` then catches what is right by accident.",
    )
    copies.add_argument("--db", type=Path, required=True, help="folder with <db_id>/<db_id>.sqlite")
    copies.add_argument("--out", type=Path, required=True, help="new folder for databases and copies")
    copies.add_argument("--gold", type=Path, help="only the databases that this file asks about")
    copies.set_defaults(command=make_copies)


def add_judge_options(command: argparse.ArgumentParser) -> None:
    """Add the options that `judge` and `compare` share."""
    command.add_argument(
        "--gold", type=Path, required=True, help="Spider's JSON, or the official text form (SQL<tab>db_id a line)"
    )
    command.add_argument(
        "--db",
        type=Path,
        required=True,
        help="folder with <db_id>/<db_id>.sqlite; other SQLite files there count as copies",
    )
    command.add_argument("--tables", type=Path, help="tables.json: its foreign keys count for the official exact set match")
    command.add_argument("--field", help="name of the prediction in .json and .jsonl files")
    command.add_argument("--official-quirks", action="store_true", help="with the official evaluator's faults, to the letter")


def judge_predictions(options: argparse.Namespace) -> int:
    """Judge a file of predictions and print the scores."""
    try:
        check_file(options.out, "--out")
        golds, verdicts = judged(options, options.pred)
    except REFUSALS as error:
        return refuse(error)
    write_verdicts(verdicts, options.out)
    from helpers.report.tables import score_table, weak_lines  # pandas and matplotlib: after the errors that need neither

    say(score_table(verdicts).round(1).to_string())
    for outcome, count in Counter(verdict.outcome for verdict in verdicts).most_common():
        say(f"{count:6,}  {outcome}")
    say("\n".join(weak_lines(verdicts, differing(golds, options.db))))
    say(f"Verdicts: {options.out}")
    return DONE


def compare_predictions(options: argparse.Namespace) -> int:
    """Judge two files of predictions and print where they differ."""
    try:
        if options.plot:
            check_file(options.plot, "--plot")
        golds, first = judged(options, options.pred)
        _, second = judged(options, options.pred_b)
    except REFUSALS as error:
        return refuse(error)
    names = (options.pred.stem, options.pred_b.stem) if options.pred.stem != options.pred_b.stem else ("A", "B")
    print_comparison(golds, first, second, names)
    from helpers.report import plots
    from helpers.report.tables import score_table, weak_lines

    known = differing(golds, options.db)
    for name, path, verdicts in zip(names, (options.pred, options.pred_b), (first, second), strict=True):
        say("\n  ".join([f"{name} ({path}):", *weak_lines(verdicts, known)]))
    if options.plot:
        axes = plots.plot_scores(score_table(second), score_table(first), "Execution accuracy", names)
        plots.save_plot(axes, options.plot)
        say(f"Plot: {options.plot}")
    return DONE


def print_comparison(golds: Sequence[Gold], first: Sequence[Verdict], second: Sequence[Verdict], names: tuple[str, str]) -> None:
    """Print the scores of two systems by group, their paired difference, and the questions that only one has right."""
    from helpers.judge import scores
    from helpers.report.tables import compare_table, difference_sentence, outcome_table

    groups = {
        "hardness": None,
        "SQL feature": [scores.features(gold.query) for gold in golds],
        "database": [[gold.db_id] for gold in golds],
    }
    for title, labels in groups.items():
        say(f"By {title}:\n{compare_table(first, second, labels, names).to_string()}\n")
    say(f"By outcome:\n{outcome_table(first, second, names).to_string()}\n")
    say(difference_sentence(first, second, names))
    if any(verdict.outcome == WRONG_ON_A_COPY for verdict in (*first, *second)):
        say(f"On altered copies as well: {difference_sentence(first, second, names, on_copies=True)}")
    for name, flipped in zip(reversed(names), scores.flipped(first, second), strict=True):
        say(f"Right in {name} alone, by number: {', '.join(map(str, flipped)) or 'none'}")


def judged(options: argparse.Namespace, pred: Path) -> tuple[list[Gold], list[Verdict]]:
    """Return the gold queries and the verdicts on one file of predictions.

    Raises: one of REFUSALS.
    """
    files = (options.pred, getattr(options, "pred_b", options.pred))
    if options.field and all(path.suffix.lower() not in JSON for path in files):
        raise ValueError(f"--field names a prediction in .json and .jsonl files, and {pred} is read as text, one SQL a line")
    if not options.db.is_dir():
        raise FileNotFoundError(f"--db {options.db} is not a folder")
    return judge_files(
        options.gold,
        pred,
        options.db,
        options.tables,
        field=options.field,
        official_quirks=options.official_quirks,
        progress=f"judging {pred.name}",
    )


def differing(golds: Sequence[Gold], db: Path) -> list[int]:
    """Return the numbers of the questions whose data is known to differ from the release's."""
    databases = layout.find_databases(db, {gold.db_id for gold in golds})
    return spider.differing([(gold.query, gold.db_id) for gold in golds], databases)


def make_copies(options: argparse.Namespace) -> int:
    """Write databases with altered copies into a new folder."""
    try:
        if options.out.exists():
            raise FileExistsError(f"--out {options.out} exists: name a new folder")
        if not options.db.is_dir():
            raise FileNotFoundError(f"--db {options.db} is not a folder")
        databases = layout.find_databases(options.db)
        if options.gold:
            databases = {gold.db_id: databases.get(gold.db_id) for gold in read_gold(options.gold)}
        missing = [db_id for db_id, path in databases.items() if path is None]
        if missing or not databases:
            raise FileNotFoundError(f"{options.db} has no database {missing[0] if missing else '(<db_id>/<db_id>.sqlite)'}")
        left_out = test_suite.write_copies(databases, options.out)
    except REFUSALS as error:
        return refuse(error)
    if len(left_out) == len(databases):
        say("No database could have copies:\n" + "\n".join(left_out), error=True)
        return FAILED
    say(f"{len(databases) - len(left_out):,} databases with {test_suite.COPIES} altered copies each: {options.out}")
    for reason in left_out:
        say(f"without copies: {reason}")
    return DONE

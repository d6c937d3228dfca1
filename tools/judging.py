"""The judge measured: python -m tools.judging [--official COMMAND], with SPIDER_DIR and PARITY_DIR set.

Writes results/judge/: faults.md lists by name each fault of the official evaluator that this judge repairs, with the questions
whose verdict it changes; measured.json has the agreement with the official verdicts, and times from one run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlglot

from helpers.databases import layout, schema
from helpers.databases.sandbox import Sandbox
from helpers.judge import exact_match, official, official_execution, verdicts
from helpers.judge.same_result import is_ordered, same_result
from helpers.run import machine
from helpers.run.files import write_text

TARGET = machine.ROOT / "results/judge"
FILES = {"dev": "official_verdicts_dev.json", "altered": "official_verdicts_mutated.json"}
TITLES = {"dev": "1,034 dev questions, predictions of a real model", "altered": "3,000 altered gold queries of all databases"}


class Pairs:
    """Gold queries and predictions with the official verdicts on them, and this judge's, with the faults and without."""

    def __init__(self, name: str, data: Path, parity: Path) -> None:
        self.rows = json.loads((parity / FILES[name]).read_text(encoding="utf-8"))
        self.databases = layout.find_databases(data, {row["db_id"] for row in self.rows})
        self.tables = layout.read_tables(data / "tables.json")
        self.golds = [(row["gold"], row["db_id"]) for row in self.rows]
        self.predictions = [row["pred"] for row in self.rows]
        self.faulty = self.judge(official_quirks=True)
        self.repaired = self.judge(official_quirks=False)

    def judge(self, *, official_quirks: bool) -> list[verdicts.Verdict]:
        return verdicts.judge_all(
            self.golds, self.predictions, self.databases, self.tables, official_quirks=official_quirks, progress="judging"
        )

    def agreement(self) -> dict[str, int]:
        """On how many pairs the verdicts with the faults are the official ones, by field."""
        pairs = list(zip(self.rows, self.faulty, strict=True))
        return {"pairs": len(pairs)} | {
            field: sum(row[field] == getattr(one, field) for row, one in pairs) for field in ("exec", "exact", "hardness")
        }

    def changed(self, field: str) -> list[int]:
        """Places of the pairs on which the repaired verdict is another one."""
        pairs = enumerate(zip(self.faulty, self.repaired, strict=True))
        return [place for place, (before, after) in pairs if getattr(before, field) != getattr(after, field)]


def execution_faults(pairs: Pairs) -> Iterator[tuple[str, int]]:
    """The fault behind each changed EX, and its place: the first step without which the official verdict falls."""
    with Sandbox() as sandbox:
        for place in pairs.changed("exec"):
            (gold, db_id), prediction = pairs.golds[place], pairs.predictions[place]
            for name, step in STEPS.items():
                if run_without(sandbox, pairs.databases[db_id], gold, prediction, step) != pairs.faulty[place].exec:
                    yield name, place
                    break
            else:
                yield "the order of rows counts for an ORDER BY within a subquery, or 10 differs from 10.0", place


def run_without(sandbox: Sandbox, database: Path, gold: str, prediction: str, step: Callable[[str], str]) -> int:
    """EX by the official steps but one."""
    if step is not official_execution.read_prediction:
        prediction = official_execution.read_prediction(prediction)
    for rewrite in official_execution.REWRITES:
        if rewrite is not step:
            gold, prediction = rewrite(gold), rewrite(prediction)
    expected, found = sandbox.execute(database, gold), sandbox.execute(database, prediction)
    ordered = is_ordered(gold, by_text=True)
    same = expected.ok and found.ok and same_result(expected.rows, found.rows, ordered=ordered)
    return int(same and official_execution.mixed_numbers_agree(expected.rows, found.rows, ordered=ordered))


STEPS = {
    '"value" in a prediction becomes "1", even in names': official_execution.read_prediction,
    "DISTINCT is taken out of gold and prediction": official_execution.without_distinct,
    "statements after the first are passed over": official_execution.first_statement,
    "`> =` becomes `>=`": official_execution.join_operators,
    "YEAR(CURDATE()) becomes 2020": official_execution.fix_current_year,
}


def match_faults(pairs: Pairs) -> Iterator[tuple[str, int]]:
    """The fault behind each changed EM, and its place."""
    names = {db_id: official.names(schema.read(database), pairs.tables[db_id]) for db_id, database in pairs.databases.items()}
    for place in pairs.changed("exact"):
        (gold, db_id), prediction = pairs.golds[place], pairs.predictions[place]
        yield match_fault(gold, prediction, pairs.repaired[place], names[db_id]), place


def match_fault(gold: str, prediction: str, repaired: verdicts.Verdict, names: official.Names) -> str:
    """What makes the official EM of a pair another one than the repaired."""
    if repaired.exact:
        if official.matches(gold, prediction, names):
            return '"value" in a prediction becomes "1", even in names'
        if official.read(prediction, names) is None:
            return "its parser cannot read the prediction (NOT x IN, INNER JOIN, AS in SELECT, `a=1` without spaces, …)"
        return "nested queries must be written alike (order of tables and conditions, DISTINCT, keys)"
    if repaired.outcome not in verdicts.RAN:
        return "predictions that SQLite does not run can match"
    if exact_match.matches(
        official_execution.without_distinct(gold), official_execution.without_distinct(prediction), names.columns
    ):
        return "DISTINCT does not count"
    if not official.matches(gold, prediction, dataclasses.replace(names, equal={})):
        return "columns linked by foreign keys count as one, whatever the query joins (SourceAirport and DestAirport)"
    return (
        "conditions are compared too loosely (columns taken for values, AND and OR as one set, one direction for all of ORDER BY)"
    )


def faults(known: dict[str, Pairs]) -> str:
    """The page of faults."""
    lines = [
        "# Faults of the official evaluator, and the verdicts that they change",
        "",
        "With `--official-quirks` the judge keeps them all. Question numbers count from 0 in the order of the file; written by",
        "`python -m tools.judging`. Not among the verdicts: the official code stops where gold does not run, its timeout never",
        "fires, and it reads text strictly as UTF-8.",
    ]
    for title, find in (("Execution accuracy", execution_faults), ("Exact set match", match_faults)):
        lines += ["", f"## {title}"]
        for name, pairs in known.items():
            found: dict[str, list[int]] = {}
            for fault, place in find(pairs):
                found.setdefault(fault, []).append(place)
            lines += ["", f"### {TITLES[name]}", "", "| fault | questions | which |", "|---|---|---|"]
            for fault, places in sorted(found.items(), key=lambda item: -len(item[1])):
                lines.append(f"| {fault} | {len(places)} | {', '.join(map(str, places))} |")
            if not found:
                lines.append("| none | 0 | |")
    return "\n".join(lines) + "\n"


# ---- times


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return round(time.perf_counter() - begin, 3)


def run_bare(pairs: Pairs) -> None:
    """Every query on plain connections, without any limit but 5 s: what cannot be spared."""
    for (gold, db_id), prediction in zip(pairs.golds, pairs.predictions, strict=True):
        with contextlib.closing(
            sqlite3.connect(f"{pairs.databases[db_id].as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
            for sql in (gold, prediction):
                end = time.monotonic() + 5
                connection.set_progress_handler(lambda end=end: time.monotonic() > end, 10_000)
                with contextlib.suppress(sqlite3.Error):
                    connection.execute(sql).fetchall()


def parse_all(pairs: Pairs) -> None:
    """Every query parsed by sqlglot."""
    for (gold, _), prediction in zip(pairs.golds, pairs.predictions, strict=True):
        for sql in (gold, prediction):
            with contextlib.suppress(sqlglot.errors.SqlglotError):
                sqlglot.parse_one(sql, dialect="sqlite")


def judge_from_start(pairs: Pairs, data: Path, cache: Path) -> None:
    """The judge in a new process: start, import, read, judge, with gold's results as the cache folder has them."""
    program = (
        "import sys; from pathlib import Path; from helpers.judge import files; a, b, c = map(Path, sys.argv[1:]);"
        "files.judge_files(a, b, c / 'database', c / 'tables.json', progress='')"
    )
    with tempfile.TemporaryDirectory() as folder:
        gold, pred = Path(folder, "gold.sql"), Path(folder, "pred.sql")
        gold.write_text("".join(f"{sql}\t{db_id}\n" for sql, db_id in pairs.golds), encoding="utf-8")
        pred.write_text("".join(f"{sql}\n" for sql in pairs.predictions), encoding="utf-8")
        settings = os.environ | {"COURSE_CACHE": str(cache), "PYTHONPATH": str(machine.ROOT)}
        subprocess.run([sys.executable, "-c", program, gold, pred, data], env=settings, check=True)


def times(pairs: Pairs, data: Path, command: str | None) -> dict[str, float]:
    """Seconds for the dev questions, one after the other in this run."""
    with tempfile.TemporaryDirectory() as cache:
        found = {
            "bare_sqlite": seconds(lambda: run_bare(pairs)),
            "sqlglot": seconds(lambda: parse_all(pairs)),
            "judge_cold": seconds(lambda: judge_from_start(pairs, data, Path(cache))),
            "judge_warm": seconds(lambda: judge_from_start(pairs, data, Path(cache))),
        }
    if command:
        found["official_script"] = seconds(lambda: subprocess.run(shlex.split(command), check=True, capture_output=True))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--official", metavar="COMMAND", help="runs the official script on the dev questions, to be timed as well"
    )
    options = parser.parse_args()
    data, parity = Path(os.environ["SPIDER_DIR"]).resolve(), Path(os.environ["PARITY_DIR"]).resolve()
    known = {name: Pairs(name, data, parity) for name in FILES}
    record = {
        "agreement_with_official_quirks": {name: pairs.agreement() for name, pairs in known.items()},
        "changed_by_repairs": {
            name: {field: len(pairs.changed(field)) for field in ("exec", "exact")} for name, pairs in known.items()
        },
        "seconds_for_1034": times(known["dev"], data, options.official),
        "note": "judge_cold and judge_warm: from the start of the process, without and with gold's results kept; one run",
        **machine.provenance(),
    }
    write_text(TARGET / "faults.md", faults(known))
    write_text(TARGET / "measured.json", json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

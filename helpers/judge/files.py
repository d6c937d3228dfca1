"""Read files of gold queries and predictions, from any system, in the order of the questions; judge them; write the verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helpers.databases.layout import BadData, find_databases, read_rows, read_tables, rows_of_text
from helpers.databases.sql_text import START, extract_sql
from helpers.judge.verdicts import Verdict, judge_all
from helpers.run.files import write_text

JSON = (".json", ".jsonl")
FIELDS = ("prediction", "pred", "predicted_sql", "sql")  # of a prediction in JSON, where no other name is given


@dataclass(frozen=True, kw_only=True)
class Gold:
    """A gold query of a file, and its position there ("line 7")."""

    query: str
    db_id: str
    position: str


def judge_files(
    gold: Path,
    pred: Path,
    db: Path,
    tables: Path | None = None,
    *,
    field: str | None = None,
    official_quirks: bool = False,
    progress: str = "judging",
) -> tuple[list[Gold], list[Verdict]]:
    """Judge a file of predictions against a file of gold queries.

    Args:
        db: folder with `<db_id>/<db_id>.sqlite`, or the folder that has such a `database/` in it.
        tables: tables.json, for the official exact set match; without it the foreign keys are those that the files declare.
        field: of a prediction in JSON.

    Raises:
        BadData, ValueError: a file cannot be read, counts differ, a database is missing; names file and line.
    """
    golds = read_gold(gold)
    texts = read_predictions(pred, field=field)
    while len(texts) > len(golds) and not texts[-1]:
        texts.pop()  # blank lines at the end of the file
    if not golds:
        raise ValueError(f"{gold} has no questions")
    if len(golds) != len(texts):
        raise ValueError(
            f"{gold} has {len(golds):,} questions and {pred} {len(texts):,} predictions: there must be one a question"
        )
    databases = find_databases(db, {one.db_id for one in golds})
    missing = next((one for one in golds if one.db_id not in databases), None)
    if missing:
        raise ValueError(f"{gold}, {missing.position}: no database for {missing.db_id} under {db}")
    if official_quirks:
        predictions = [text.replace("\n", " ") for text in texts]
    else:
        predictions = [clean(text, one.db_id) for text, one in zip(texts, golds, strict=True)]
    verdicts = judge_all(
        [(one.query, one.db_id) for one in golds],
        predictions,
        databases,
        read_tables(tables) if tables else None,
        official_quirks=official_quirks,
        progress=progress,
    )
    return golds, verdicts


def write_verdicts(verdicts: Sequence[Verdict], out: Path) -> None:
    """Write verdicts as a JSON list, one object a prediction."""
    write_text(out, json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")


def clean(prediction: str, db_id: str = "") -> str:
    """Return a prediction as it is judged: without its code fence and what follows the statement, on one line.

    Texts that hold a code fence, or begin with SELECT or WITH, follow the rule of `extract_sql`. All others are judged as they
    stand. A tab and the db_id at the end, as gold files have them, are removed first.
    """
    text = prediction.strip().removesuffix(f"\t{db_id}")
    return extract_sql(text) if "```" in text or START.match(text) else text


def read_gold(path: Path) -> list[Gold]:
    """Return the gold queries of a JSON, JSONL or CSV file with Spider's fields, or of official text, `SQL<tab>db_id` a line.

    Raises:
        BadData: names the line that is wrong.
    """
    if path.suffix.lower() in (*JSON, ".csv"):
        found = [Gold(query=row["query"], db_id=row["db_id"], position=position) for position, row in read_rows(path)]
        for gold in found:
            for field in ("query", "db_id"):
                if not isinstance(getattr(gold, field), str) or not getattr(gold, field).strip():
                    raise BadData(f"{path}, {gold.position}: no {field}")
        return found
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        sql, tab, db_id = line.rpartition("\t")
        if not tab or not sql.strip() or not db_id.strip():
            raise BadData(f"{path}, line {number}: expected SQL, a tab and a db_id, found {line[:60]!r}")
        found.append(Gold(query=sql.strip(), db_id=db_id.strip(), position=f"line {number}"))
    return found


def read_predictions(path: Path, *, field: str | None = None) -> list[str]:
    """Return predictions in the order of gold, from JSON, JSONL, or text with one SQL a line (empty for no prediction).

    Args:
        field: the name of the prediction in JSON objects; None takes the first of FIELDS. A JSON list of strings needs none.

    Raises:
        BadData: names the line or entry that is wrong.
    """
    if path.suffix.lower() not in JSON:
        return [line.strip() for line in read_lines(path)]
    text = "\n".join(read_lines(path))
    if path.suffix.lower() == ".json" and not text.lstrip().startswith("["):  # an object's keys are no predictions
        raise BadData(f"{path} cannot be read: expected a JSON list of predictions")
    try:
        rows = list(rows_of_text(text, path.suffix.lower()))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadData(f"{path} cannot be read: {error}") from error
    return [find_field(path, position, row, field).strip() for position, row in rows]


def find_field(path: Path, position: str, row: Any, field: str | None) -> str:
    """Return the prediction in one row of JSON; null is an empty one.

    Raises:
        BadData: the row has no such field, or it is no text.
    """
    if isinstance(row, dict):
        names = [name for name in ([field] if field else FIELDS) if name in row]
        if not names:
            wanted = field or " or ".join(FIELDS)
            raise BadData(f"{path}, {position}: no field {wanted}, only {', '.join(map(str, row)) or 'none'}")
        row = next((row[name] for name in names if row[name] is not None), None)
    row = "" if row is None else row
    if not isinstance(row, str):
        raise BadData(f"{path}, {position}: expected SQL as text, found {str(row)[:60]!r}")
    return row


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file; the newline at its end starts no further line.

    Raises:
        BadData: the file does not exist or is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path} cannot be read: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []

"""Files of gold queries and predictions, from any system -> SQL, in the order of the questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.databases import layout
from helpers.databases.sql_text import START, extract_sql

JSON = (".json", ".jsonl")
FIELDS = ("prediction", "pred", "predicted_sql", "sql")  # of a prediction in JSON, where no other name is given


@dataclass(frozen=True, kw_only=True)
class Gold:
    """A gold query of a file.

    Attributes:
        place: where it stands there ("line 7").
    """

    query: str
    db_id: str
    place: str


def clean(prediction: str, db_id: str = "") -> str:
    """A prediction as it is judged: without its code fence and what follows the statement, on one line.

    The rule is that of `extract_sql` for what holds a code fence, or begins with SELECT or WITH; all else is judged as it stands.
    A tab and the db_id at its end, as gold files have them, are taken off first.
    """
    text = prediction.strip().removesuffix(f"\t{db_id}")
    return extract_sql(text) if "```" in text or START.match(text) else text


def read_gold(path: Path) -> list[Gold]:
    """The gold queries of a JSON, JSONL or CSV file of Spider's fields, or of official text, `SQL<tab>db_id` a line.

    Raises:
        spider.BadData: naming the line that is wrong.
    """
    if path.suffix.lower() in (*JSON, ".csv"):
        found = [Gold(query=row["query"], db_id=row["db_id"], place=place) for place, row in layout.read_rows(path)]
        for gold in found:
            for field in ("query", "db_id"):
                if not isinstance(getattr(gold, field), str) or not getattr(gold, field).strip():
                    raise layout.BadData(f"{path}, {gold.place}: no {field}")
        return found
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        sql, tab, db_id = line.rpartition("\t")
        if not tab or not sql.strip() or not db_id.strip():
            raise layout.BadData(f"{path}, line {number}: expected SQL, a tab and a db_id, found {line[:60]!r}")
        found.append(Gold(query=sql.strip(), db_id=db_id.strip(), place=f"line {number}"))
    return found


def read_predictions(path: Path, *, field: str | None = None) -> list[str]:
    """Predictions in the order of gold, from JSON, JSONL, or text with one SQL a line; an empty line is an empty prediction.

    Args:
        field: the name of the prediction in JSON objects; without it the first of FIELDS. A JSON list of strings needs none.

    Raises:
        spider.BadData: naming the line or entry that is wrong.
    """
    if path.suffix.lower() not in JSON:
        return [line.strip() for line in read_lines(path)]
    text = "\n".join(read_lines(path))
    if path.suffix.lower() == ".json" and not text.lstrip().startswith("["):  # an object's keys are no predictions
        raise layout.BadData(f"{path} cannot be read: expected a JSON list of predictions")
    try:
        rows = list(layout.rows_of_text(text, path.suffix.lower()))
    except (ValueError, TypeError, RecursionError) as error:
        raise layout.BadData(f"{path} cannot be read: {error}") from error
    return [find_field(path, place, row, field).strip() for place, row in rows]


def find_field(path: Path, place: str, row: Any, field: str | None) -> str:
    """The prediction in one row of JSON; null stands for an empty one."""
    if isinstance(row, dict):
        names = [name for name in ([field] if field else FIELDS) if name in row]
        if not names:
            wanted = field or " or ".join(FIELDS)
            raise layout.BadData(f"{path}, {place}: no field {wanted}, only {', '.join(map(str, row)) or 'none'}")
        row = next((row[name] for name in names if row[name] is not None), None)
    row = "" if row is None else row
    if not isinstance(row, str):
        raise layout.BadData(f"{path}, {place}: expected SQL as text, found {str(row)[:60]!r}")
    return row


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; the line end of the last one starts no further line.

    Raises:
        spider.BadData: the file is not there or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise layout.BadData(f"{path} cannot be read: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []

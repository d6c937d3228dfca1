"""Predictions -> verdicts and scores. Nothing here needs torch: any system's predictions can be judged."""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

from helpers import execution, spider
from helpers.hardness import LEVELS, hardness
from helpers.progress import tqdm

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says of one prediction.

    Attributes:
        exec: 1 if it gives the gold query's result, else 0.
        exact: exact set match; None, for this judge does not decide it yet.
        outcome: "correct", "wrong result", "gold does not run", or why the prediction did not run (execution.Result).
        error: the database's words, where there was an error.
    """

    exec: int
    exact: int | None = None
    hardness: str
    outcome: str
    error: str | None = None


# ---- one prediction


def judge(sandbox: execution.Sandbox, database: Path, *, gold: str, prediction: str) -> Verdict:
    """Run gold and prediction on one database and compare the results."""
    return verdict(gold, sandbox.execute(database, gold), sandbox.execute(database, prediction))


def verdict(gold: str, expected: execution.Result, found: execution.Result) -> Verdict:
    """The verdict on a prediction whose result is known."""
    level = hardness(gold)
    if not expected.ok:
        return Verdict(exec=0, hardness=level, outcome="gold does not run", error=expected.error)
    if not found.ok:
        return Verdict(exec=0, hardness=level, outcome=found.outcome, error=found.error)
    same = same_result(expected.rows, found.rows, ordered="order by" in gold.lower())
    return Verdict(exec=int(same), hardness=level, outcome="correct" if same else "wrong result")


def same_result(expected: Sequence[tuple], found: Sequence[tuple], *, ordered: bool) -> bool:
    """Whether two results agree as the official evaluator compares them.

    Rows count as often as they occur; their order counts only if `ordered`; the columns may stand in another order.
    Values are equal as in Python: 1 equals 1.0, but not '1'.

    Source: `result_eq` in taoyds/test-suite-sql-eval, exec_eval.py (Zhong et al., EMNLP 2020).
    """
    if len(expected) != len(found):
        return False
    if not expected:
        return True  # also with other numbers of columns, as the official code has it
    if len(expected[0]) != len(found[0]):
        return False
    wanted, columns = list(zip(*expected, strict=True)), list(zip(*found, strict=True))
    if ordered:
        return Counter(wanted) == Counter(columns)
    wanted.sort(key=lambda column: len(set(column)), reverse=True)  # what tells rows apart comes first: few wrong turns
    return columns_match(wanted, columns)


def columns_match(wanted: list[tuple], columns: list[tuple], chosen: tuple[tuple, ...] = ()) -> bool:
    """Whether the columns can be put in an order, `chosen` first, that gives the same rows as often as the wanted ones."""
    if len(chosen) == len(wanted):
        return True
    rows = Counter(zip(*wanted[: len(chosen) + 1], strict=True))
    left = Counter(columns) - Counter(chosen)  # equal columns are one choice
    return any(
        Counter(zip(*chosen, column, strict=True)) == rows and columns_match(wanted, columns, (*chosen, column))
        for column in left
    )


# ---- many predictions


def judge_all(
    golds: Sequence[tuple[str, str]],
    predictions: Sequence[str],
    databases: Mapping[str, Path],
    *,
    limits: execution.Limits | None = None,
    progress: str = "judging",
) -> list[Verdict]:
    """A verdict a prediction.

    Args:
        golds: (gold SQL, db_id) pairs.
        predictions: SQL, in the order of `golds`; '' where the system gave none.
        databases: the SQLite file of each db_id.
        progress: title of the progress bar; '' shows none.

    Raises:
        ValueError: the numbers of golds and predictions differ, or a database is not there.
    """
    if len(golds) != len(predictions):
        raise ValueError(
            f"There are {len(golds):,} gold queries and {len(predictions):,} predictions: there must be one prediction a question"
        )
    missing = sorted({db_id for _, db_id in golds if db_id not in databases})
    if missing:
        raise ValueError(f"There is no database for {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}")
    verdicts = []
    with execution.Sandbox(limits) as sandbox:

        @functools.lru_cache(maxsize=4)  # neighbours share gold queries; a few only, for a result may take 100 MiB
        def run(db_id: str, sql: str) -> execution.Result:
            return sandbox.execute(databases[db_id], sql)

        pairs = zip(golds, predictions, strict=True)
        for (gold, db_id), prediction in tqdm(pairs, total=len(golds), desc=progress, unit="question", disable=not progress):
            verdicts.append(verdict(gold, run(db_id, gold), run(db_id, prediction)))
    return verdicts


def read_gold(path: Path) -> list[tuple[str, str]]:
    """(gold SQL, db_id) pairs of a JSON, JSONL or CSV file of Spider's fields, or of official text, `SQL<tab>db_id` a line.

    Raises:
        spider.BadData: naming the line that is wrong.
    """
    if path.suffix in (".json", ".jsonl", ".csv"):
        pairs = []
        for place, row in spider.read_rows(path):
            for field in ("query", "db_id"):
                if not isinstance(row[field], str) or not row[field].strip():
                    raise spider.BadData(f"{path}, {place}: no {field}")
            pairs.append((row["query"], row["db_id"]))
        return pairs
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        sql, tab, db_id = line.rpartition("\t")
        if not tab or not sql.strip() or not db_id.strip():
            raise spider.BadData(f"{path}, line {number}: expected SQL, a tab and a db_id, found {line[:60]!r}")
        pairs.append((sql.strip(), db_id.strip()))
    return pairs


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; the line end of the last one starts no further line.

    Raises:
        spider.BadData: the file is not there or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise spider.BadData(f"{path} cannot be read: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []


def judge_files(gold: Path, pred: Path, db: Path, out: Path) -> list[Verdict]:
    """Judge a file of predictions, one SQL a line in the order of gold, and write the verdicts as a JSON list.

    Raises:
        spider.BadData, ValueError: a file cannot be read, counts differ, a database is missing.
    """
    from helpers.runs import write_text

    golds, predictions = read_gold(gold), [line.strip() for line in read_lines(pred)]
    while len(predictions) > len(golds) and not predictions[-1]:
        predictions.pop()  # blank lines at the end of the file
    if len(golds) != len(predictions):
        raise ValueError(
            f"{gold} has {len(golds):,} questions and {pred} {len(predictions):,} lines: there must be one line a question"
        )
    databases = {db_id: path for _, db_id in golds if (path := spider.find_database(db, db_id))}
    verdicts = judge_all(golds, predictions, databases)
    write_text(out, json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")
    return verdicts


# ---- scores


def score(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """EX in percent with its 95 % interval (Wilson), and the number of questions."""
    correct = sum(one.exec for one in verdicts)
    low, high = wilson_interval(correct, len(verdicts))
    return {"questions": len(verdicts), "ex": 100 * correct / len(verdicts), "ex_low": 100 * low, "ex_high": 100 * high}


def summary(verdicts: Sequence[Verdict]) -> dict:
    """What record.json keeps of one system: EX in percent with its interval, in all and by hardness, and counts by outcome."""
    levels = {level: [one for one in verdicts if one.hardness == level] for level in LEVELS}
    rounded = {key: round(value, 4) for key, value in score(verdicts).items()}
    return rounded | {
        "em": None,
        "by_hardness": {level: {k: round(v, 4) for k, v in score(some).items()} for level, some in levels.items() if some},
        "outcomes": dict(Counter(one.outcome for one in verdicts).most_common()),
    }


def wilson_interval(correct: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Bound the true share of right answers, given how many of a sample were right.

    Unlike the plain normal approximation it keeps a width where none or all are right.

    Args:
        correct: how many were right, 0 to total.
        total: how many there were, at least 1.
        z: half-width in standard deviations; 1.96 covers about 95 %.

    Returns:
        (low, high), shares between 0 and 1.

    Raises:
        ValueError: the counts cannot be those of one sample.

    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"need 0 <= correct <= total and total >= 1, got correct={correct}, total={total}")
    share = correct / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(base: Sequence[Verdict], tuned: Sequence[Verdict], *, seed: int = 0) -> dict[str, float]:
    """Tuned minus base in EX points, with a 95 % interval by a paired bootstrap over questions.

    Questions are drawn with replacement, each with both its verdicts, 10,000 times; the interval holds the middle 95 % of the
    differences. One that holds 0 means that the questions at hand do not show which is better.

    Returns:
        difference, low, high: in percentage points; gained, lost: questions that flipped each way.

    Raises:
        ValueError: the two do not judge the same number of questions, or none.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; P. Koehn, EMNLP 2004 (paired).
    """
    import numpy as np

    if len(base) != len(tuned) or not base:
        raise ValueError(f"need two verdicts on each question, got {len(base)} and {len(tuned)}")
    gains = np.array([after.exec - before.exec for before, after in zip(base, tuned, strict=True)])
    gained, lost = int((gains == 1).sum()), int((gains == -1).sum())
    total = len(gains)
    # Drawing questions is drawing how many of the three kinds come: gained, lost, unchanged.
    draws = np.random.default_rng(seed).multinomial(
        total, [gained / total, lost / total, 1 - (gained + lost) / total], size=RESAMPLES
    )
    low, high = np.percentile(100 * (draws[:, 0] - draws[:, 1]) / total, [2.5, 97.5])
    return {
        "difference": 100 * float(gains.mean()),
        "low": float(low),
        "high": float(high),
        "gained": gained,
        "lost": lost,
    }


def failures(verdicts: Sequence[Verdict], limit: int = 3) -> list[int]:
    """Places of some wrong predictions, one of each outcome in turn."""
    by_outcome: dict[str, list[int]] = {}
    for place, one in enumerate(verdicts):
        if not one.exec:
            by_outcome.setdefault(one.outcome, []).append(place)
    turns = itertools.zip_longest(*by_outcome.values())
    return [place for turn in turns for place in turn if place is not None][:limit]

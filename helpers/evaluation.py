"""Predictions -> verdicts. Nothing here needs torch: any system's predictions can be judged."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from helpers import exact_match, official, predictions
from helpers.databases import layout, schema
from helpers.databases.sandbox import Limits, Result, Sandbox
from helpers.databases.sql import parse
from helpers.gold_cache import GoldCache
from helpers.hardness import hardness
from helpers.run.progress import tqdm
from helpers.ties import is_tied

PARSED_CHARACTERS = 10_000  # of a prediction; no query of a data set comes near, and parsing has no deadline
NO_ROWS = "gold returns no rows"
TIED = "gold leaves ties open"
WRONG_ON_A_COPY = "wrong on a copy"
RAN = ("correct", "wrong result", WRONG_ON_A_COPY, "timeout")  # what SQLite takes for a query
TRIED_VALUES = 50_000_000  # looked at in search of an order of columns, some ten seconds; then two results count as different


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says of one prediction.

    Attributes:
        exec: 1 if it gives the gold query's result on every copy of the database, else 0.
        exact: 1 if it asks for the same things, clause by clause (`exact_match`), and SQLite can run it, else 0.
        outcome: "correct", "wrong result", WRONG_ON_A_COPY, "gold does not run", or why the prediction did not
            run (execution.Result).
        error: the database's words, where there was an error; on which copy of the database the result differs.
        note: what makes this question a weak one (NO_ROWS, TIED).
    """

    exec: int
    exact: int
    hardness: str
    outcome: str
    error: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What running a prediction beside its gold query showed; attributes as in Verdict."""

    outcome: str
    error: str | None = None
    note: str | None = None


class Judge:
    """Runs gold and predictions in one sandbox, and compares; use it in a `with` block.

    Args:
        databases: the SQLite file of each db_id. Other SQLite files in a folder of its name are copies, and all must agree:
            with the test-suite databases there, EX is test-suite accuracy (Zhong et al., EMNLP 2020).
        tables: schemas from tables.json: their foreign keys count for the official exact set match, and for nothing else.
        official_quirks: judge as the official evaluator does, its faults included.
    """

    def __init__(
        self,
        databases: Mapping[str, Path],
        tables: Mapping[str, schema.Schema] | None = None,
        *,
        official_quirks: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.databases = databases
        self.tables = tables or {}
        self.quirks = official_quirks
        self.sandbox = Sandbox(limits)
        self.cache = GoldCache()
        self.copies = functools.cache(lambda db_id: copies(databases[db_id]))
        self.names = functools.cache(self._names)
        self._run_gold = functools.lru_cache(maxsize=4)(self._cached)  # neighbours share gold; few, for one may take 64 MiB

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sandbox.close()
        self.cache.close()

    def execute(self, gold: str, db_id: str, prediction: str) -> Executed:
        """Run both on each copy of the database, up to the first that tells them apart."""
        if self.quirks:
            gold, prediction = official.as_executed(gold), official.as_executed(official.as_read(prediction))
        ordered = is_ordered(gold, by_text=self.quirks)
        note = None
        for number, database in enumerate(self.copies(db_id)):
            expected = self._run_gold(database, gold)
            if not expected.ok:
                return Executed(
                    outcome="gold does not run", error=f"on {database.name}: {expected.error}" if number else expected.error
                )
            if ordered and not self.quirks and is_tied(gold, expected, functools.partial(self._run_gold, database)):
                if number:
                    continue  # an altered copy on which gold itself is left to chance says nothing
                note = TIED
            note = note or (None if number or expected.rows else NO_ROWS)
            found = self.sandbox.execute(database, prediction)
            if not found.ok and not (self.quirks and found.outcome == "empty"):
                return Executed(outcome=found.outcome, error=found.error, note=note)
            same = same_result(expected.rows, found.rows, ordered=ordered)
            if self.quirks and same:
                same = official.mixed_numbers_agree(expected.rows, found.rows, ordered=ordered)
            if not same and number:
                return Executed(outcome=WRONG_ON_A_COPY, error=f"on {database.name}", note=note)
            if not same:
                return Executed(outcome="wrong result", note=note)
        return Executed(outcome="correct", note=note)

    def verdict(self, gold: str, db_id: str, prediction: str, executed: Executed) -> Verdict:
        """The verdict on a prediction that was executed."""
        correct = executed.outcome == "correct"
        exact = self._matches(gold, db_id, prediction, executed)
        return Verdict(exec=int(correct), exact=int(exact), hardness=hardness(gold), **asdict(executed))

    def _matches(self, gold: str, db_id: str, prediction: str, executed: Executed) -> bool:
        if len(prediction) > PARSED_CHARACTERS:
            return False
        if self.quirks:
            try:
                return official.matches(gold, official.as_read(prediction), self.names(db_id))
            except ValueError:  # gold that the official parser cannot read
                return False
        ran = executed.outcome in RAN
        return ran and exact_match.matches(gold, prediction, self.names(db_id).columns)

    def _names(self, db_id: str) -> official.Names:
        try:
            found = schema.read(self.databases[db_id])
        except schema.BadDatabase:  # views alone, say: names stand for themselves
            return official.Names({}, {})
        return official.names(found, self.tables.get(db_id, found))

    def _cached(self, database: Path, gold: str) -> Result:
        result = self.cache.get(database, gold)
        if result is None:
            result = self.sandbox.execute(database, gold)
            self.cache.put(database, gold, result)
        return result


def judge_all(
    golds: Sequence[tuple[str, str]],
    predictions: Sequence[str],
    databases: Mapping[str, Path],
    tables: Mapping[str, schema.Schema] | None = None,
    *,
    official_quirks: bool = False,
    limits: Limits | None = None,
    progress: str = "judging",
) -> list[Verdict]:
    """A verdict a prediction.

    Args:
        golds: (gold SQL, db_id) pairs.
        predictions: SQL, in the order of `golds`; '' where the system gave none.
        databases, tables, official_quirks: as in Judge.
        progress: title of the progress bar; '' shows none.

    Raises:
        ValueError: the numbers of golds and predictions differ, or a database is not there or has changes beside it.
    """
    if len(golds) != len(predictions):
        raise ValueError(
            f"There are {len(golds):,} gold queries and {len(predictions):,} predictions: there must be one prediction a question"
        )
    missing = sorted({db_id for _, db_id in golds if db_id not in databases})
    if missing:
        raise ValueError(f"There is no database for {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}")
    for db_id in {db_id for _, db_id in golds}:
        schema.refuse_open_changes(databases[db_id])
        for copy in copies(databases[db_id])[1:]:
            schema.read(copy)  # a copy that cannot be read would make every question about it fail
    rows = [(gold, db_id, prediction) for (gold, db_id), prediction in zip(golds, predictions, strict=True)]
    judge = Judge(databases, tables, official_quirks=official_quirks, limits=limits)
    # SQLite works in a process of its own: while it does, this thread parses.
    with judge, ThreadPoolExecutor(max_workers=1) as waiting:  # the thread ends first: it may have started another worker
        try:
            executed = waiting.map(lambda row: judge.execute(*row), rows)
            pairs = zip(rows, executed, strict=True)
            return [
                judge.verdict(*row, one)
                for row, one in tqdm(pairs, total=len(rows), desc=progress, unit="question", disable=not progress)
            ]
        except BaseException:  # a stop button: what was not begun is not begun any more
            judge.sandbox.stop()
            waiting.shutdown(wait=False, cancel_futures=True)
            raise


def judge_files(
    gold: Path,
    pred: Path,
    db: Path,
    tables: Path | None = None,
    *,
    field: str | None = None,
    official_quirks: bool = False,
    progress: str = "judging",
) -> tuple[list[predictions.Gold], list[Verdict]]:
    """Judge a file of predictions against a file of gold queries.

    Args:
        db: folder with `<db_id>/<db_id>.sqlite`, or all of `database/` within.
        tables: tables.json, for the official exact set match; without it the foreign keys are those that the files declare.
        field: of a prediction in JSON.

    Raises:
        spider.BadData, ValueError: a file cannot be read, counts differ, a database is missing; naming file and line.
    """
    golds = predictions.read_gold(gold)
    texts = predictions.read_predictions(pred, field=field)
    while len(texts) > len(golds) and not texts[-1]:
        texts.pop()  # blank lines at the end of the file
    if not golds:
        raise ValueError(f"{gold} has no questions")
    if len(golds) != len(texts):
        raise ValueError(
            f"{gold} has {len(golds):,} questions and {pred} {len(texts):,} predictions: there must be one a question"
        )
    databases = {one.db_id: path for one in golds if (path := layout.find_database(db, one.db_id))}
    missing = next((one for one in golds if one.db_id not in databases), None)
    if missing:
        raise ValueError(f"{gold}, {missing.place}: no database for {missing.db_id} under {db}")
    verdicts = judge_all(
        [(one.query, one.db_id) for one in golds],
        [text.replace("\n", " ") for text in texts]
        if official_quirks
        else [predictions.clean(text, one.db_id) for text, one in zip(texts, golds, strict=True)],
        databases,
        layout.read_tables(tables) if tables else None,
        official_quirks=official_quirks,
        progress=progress,
    )
    return golds, verdicts


def write_verdicts(verdicts: Sequence[Verdict], out: Path) -> None:
    """Write verdicts as a JSON list, one object a prediction."""
    from helpers.run.files import write_text

    write_text(out, json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")


def alone(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts as they would be on each database itself, without its copies."""
    return [replace(one, exec=1, outcome="correct", error=None) if one.outcome == WRONG_ON_A_COPY else one for one in verdicts]


def copies(database: Path) -> list[Path]:
    """The SQLite files that a verdict rests on: the database first, then all others in its folder, if the folder has its name."""
    if database.parent.name != database.stem:
        return [database]
    return [database, *sorted(path for path in database.parent.glob("[!.]*.sqlite") if path != database)]


def is_ordered(gold: str, *, by_text: bool = False) -> bool:
    """Whether the order of rows counts: gold's outermost query has ORDER BY.

    Args:
        by_text: an ORDER BY anywhere will do, as the official code has it.
    """
    tree = None if by_text or "order" not in gold.lower() else parse(gold)
    return "order by" in gold.lower() if tree is None else tree.args.get("order") is not None


def same_result(expected: Sequence[tuple], found: Sequence[tuple], *, ordered: bool) -> bool:
    """Whether two results agree by the official evaluator's rule.

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
    start, tries = [0] * len(expected), iter(range(TRIED_VALUES // len(expected)))
    return columns_match(wanted, Counter(columns), start, start, tries)


def columns_match(
    wanted: list[tuple], columns: Counter[tuple], groups: list[int], found_groups: list[int], tries: Iterator[int]
) -> bool:
    """Whether the columns can be put in an order that gives the same rows as often as the wanted ones.

    Args:
        wanted: columns whose partners are still to be found.
        columns: those left to choose from; equal ones are one choice.
        groups, found_groups: a number a row, the same for rows that agree in all columns that have partners.
        tries: gives out when enough was tried, and then nothing matches.
    """
    if not wanted:
        return True
    known: dict[tuple, int] = {}
    finer = [known.setdefault(pair, len(known)) for pair in zip(groups, wanted[0], strict=True)]
    counts = Counter(finer)
    for column in columns:
        if next(tries, None) is None:
            return False
        found_finer = [known.get(pair, -1) for pair in zip(found_groups, column, strict=True)]
        if Counter(found_finer) == counts and columns_match(wanted[1:], columns - Counter([column]), finer, found_finer, tries):
            return True
    return False

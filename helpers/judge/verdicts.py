"""Predictions -> verdicts: run each beside its gold query, on the database and its copies, and compare."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.databases import schema
from helpers.databases.sandbox import MIB, Limits, Result, Sandbox
from helpers.judge import exact_match, official, official_execution
from helpers.judge.gold_cache import GoldCache
from helpers.judge.hardness import hardness
from helpers.judge.same_result import is_ordered, same_result
from helpers.judge.ties import is_tied
from helpers.run.progress import tqdm

AT_ONCE = 2  # questions that run side by side: one process alone would wait for its results to be compared
SMALL = 8 * MIB  # of a result; only one question at a time may have larger ones, so that few are held
PARSED_CHARACTERS = 10_000  # of a prediction; no query of a data set comes near, and parsing has no deadline
NO_ROWS = "gold returns no rows"
TIED = "gold leaves ties open"
WRONG_ON_A_COPY = "wrong on a copy"
RAN = ("correct", "wrong result", WRONG_ON_A_COPY, "timeout")  # what SQLite takes for a query


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says of one prediction.

    Attributes:
        exec: 1 if it returns the gold query's result on the database and on every copy of it, else 0.
        exact: 1 if it asks for the same things, clause by clause (`exact_match`), and SQLite can run it, else 0.
        outcome: "correct", "wrong result", WRONG_ON_A_COPY, "gold does not run", or why the prediction did not run (Result).
        error: the database's message, where there was an error; on which copy of the database the result differs.
        note: what makes this question a weak one (NO_ROWS, TIED).
    """

    exec: int
    exact: int
    hardness: str
    outcome: str
    error: str | None = None
    note: str | None = None

    @property
    def right(self) -> bool:
        """Whether it returns gold's result on the database itself, whatever its copies say."""
        return bool(self.exec) or self.outcome == WRONG_ON_A_COPY


@dataclass(frozen=True, kw_only=True)
class Executed:
    """The outcome of running a prediction beside its gold query; attributes as in Verdict."""

    outcome: str
    error: str | None = None
    note: str | None = None


class Judge:
    """Runs gold and predictions in sandboxes, and compares; use it in a `with` block. Several threads may share it.

    Queries run side by side as long as their results are small. A larger result comes from a sandbox of its own, which one
    question has to itself until it is judged.

    Args:
        databases: the SQLite file of each db_id. Other SQLite files in a folder of its name are copies, and all must agree:
            with the test-suite databases there, EX is test-suite accuracy (Zhong et al., EMNLP 2020).
        tables: schemas from tables.json. Their foreign keys count for the official exact set match, and for nothing else.
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
        limits = limits or Limits()
        small = [Sandbox(dataclasses.replace(limits, bytes=min(limits.bytes, SMALL))) for _ in range(AT_ONCE)]
        self._idle: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        for sandbox in small:
            self._idle.put(sandbox)
        self._large, self._alone, self._question = Sandbox(limits), threading.RLock(), threading.local()
        self.sandboxes = [*small, self._large]
        self.cache = GoldCache()
        self.copies = functools.cache(lambda db_id: copies(databases[db_id]))
        self.names = functools.cache(self._names)
        self._run_gold = functools.lru_cache(maxsize=AT_ONCE)(self._cached)  # one may take 64 MiB

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *exception: object) -> None:
        for sandbox in self.sandboxes:
            sandbox.close()
        self.cache.close()

    def execute(self, gold: str, db_id: str, prediction: str) -> Executed:
        """Run both on each copy of the database, up to the first on which they differ."""
        with contextlib.ExitStack() as self._question.ends:
            return self._execute(gold, db_id, prediction)

    def _execute(self, gold: str, db_id: str, prediction: str) -> Executed:
        if self.quirks:
            gold = official_execution.executed_sql(gold)
            prediction = official_execution.executed_sql(official_execution.read_prediction(prediction))
        ordered = is_ordered(gold, by_text=self.quirks)
        note = None
        for number, database in enumerate(self.copies(db_id)):
            expected = self._run_gold(database, gold)
            if not expected.ok:
                error = f"on {database.name}: {expected.error}" if number else expected.error
                return Executed(outcome="gold does not run", error=error)
            if ordered and not self.quirks and is_tied(gold, expected, functools.partial(self._run_gold, database)):
                if number:
                    continue  # an altered copy on which gold itself is left to chance says nothing
                note = TIED
            note = note or (None if number or expected.rows else NO_ROWS)
            found = self._run(database, prediction)
            if not found.ok and not (self.quirks and found.outcome == "empty"):
                return Executed(outcome=found.outcome, error=found.error, note=note)
            if not self._same(expected, found, ordered):
                if number:
                    return Executed(outcome=WRONG_ON_A_COPY, error=f"on {database.name}", note=note)
                return Executed(outcome="wrong result", note=note)
        return Executed(outcome="correct", note=note)

    def _same(self, expected: Result, found: Result, ordered: bool) -> bool:
        same = same_result(expected.rows, found.rows, ordered=ordered)
        if same and self.quirks:
            return official_execution.mixed_numbers_agree(expected.rows, found.rows, ordered=ordered)
        return same

    def verdict(self, gold: str, db_id: str, prediction: str, executed: Executed) -> Verdict:
        """Return the verdict on a prediction that was executed."""
        correct = executed.outcome == "correct"
        exact = self._matches(gold, db_id, prediction, executed)
        return Verdict(exec=int(correct), exact=int(exact), hardness=hardness(gold), **asdict(executed))

    def _matches(self, gold: str, db_id: str, prediction: str, executed: Executed) -> bool:
        if len(prediction) > PARSED_CHARACTERS:
            return False
        if self.quirks:
            try:
                return official.matches(gold, official_execution.read_prediction(prediction), self.names(db_id))
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

    def _run(self, database: Path, sql: str) -> Result:
        sandbox = self._idle.get()
        try:
            result = sandbox.execute(database, sql)
        finally:
            self._idle.put(sandbox)
        if result.outcome != "too large":
            return result
        self._question.ends.enter_context(self._alone)
        self._run_gold.cache_clear()  # what is kept of earlier questions may be as large
        return self._large.execute(database, sql)

    def _cached(self, database: Path, gold: str) -> Result:
        result = self.cache.get(database, gold)
        if result is None:
            result = self._run(database, gold)
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
    """Return a verdict for each prediction.

    Args:
        golds: (gold SQL, db_id) pairs.
        predictions: SQL, in the order of `golds`; '' where the system gave none.
        databases, tables, official_quirks: as in Judge.
        progress: title of the progress bar; '' shows none.

    Raises:
        ValueError: the numbers of golds and predictions differ, or a database is missing or has open changes.
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
    # SQLite works in processes of its own: while it does, this thread parses.
    with judge, ThreadPoolExecutor(max_workers=AT_ONCE) as waiting:  # threads end first: one may have started another worker
        try:
            alike = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[:2])]  # gold runs once for them
            executed = waiting.map(lambda group: [judge.execute(*row) for row in group], alike)
            pairs = zip(rows, itertools.chain.from_iterable(executed), strict=True)
            return [
                judge.verdict(*row, one)
                for row, one in tqdm(pairs, total=len(rows), desc=progress, unit="question", disable=not progress)
            ]
        except BaseException:  # a stop button: what was not begun is not begun any more
            for sandbox in judge.sandboxes:
                sandbox.stop()
            waiting.shutdown(wait=False, cancel_futures=True)
            raise


def copies(database: Path) -> list[Path]:
    """Return the files that a verdict depends on: the database, then all others in its folder if that has the database's name."""
    if database.parent.name != database.stem:
        return [database]
    return [database, *sorted(path for path in database.parent.glob("[!.]*.sqlite") if path != database)]

"""Which of several candidate queries is the answer: they are run, and the likeliest is taken, where no rows speak against one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.databases.sandbox import Limits, Result, Sandbox

# How many times less likely a query counts that gives no rows, as a logarithm. Of the gold queries of Spider's train databases
# 3.8 % give none, of a model's wrong candidates for dev about a fifth: that is evidence, and no proof.
NO_ROWS = 2.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One query that the model proposes.

    Attributes:
        probability: that the model gives the whole query, 0 to 1.
    """

    sql: str
    probability: float
    result: Result


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The most probable that runs, one without rows counted as less so (`NO_ROWS`); where none runs, the most probable.

    Args:
        candidates: the most probable first.
    """

    def worth_of(one: Candidate) -> tuple[bool, float]:
        return worth(math.log(one.probability) if one.probability else -math.inf, one.result.ok, bool(one.result.rows))

    return max(candidates, key=worth_of, default=None)


def worth(log: float, runs: bool, has_rows: bool) -> tuple[bool, float]:
    """What candidates are compared by: whether one runs, then its log probability, less `NO_ROWS` where it gives no rows."""
    return runs, log - NO_ROWS * (not has_rows)


def tried(database: Path, probable: Mapping[str, float], seconds: float) -> tuple[Candidate, ...]:
    """Each query run within limits, the most probable first."""
    with Sandbox(Limits(seconds=seconds)) as sandbox:
        return tried_in(sandbox, database, probable)


def tried_in(sandbox: Sandbox, database: Path, probable: Mapping[str, float]) -> tuple[Candidate, ...]:
    """`tried` in a sandbox that stands already."""
    return tuple(
        Candidate(sql=sql, probability=probability, result=sandbox.execute(database, sql))
        for sql, probability in sorted(probable.items(), key=lambda item: -item[1])
    )

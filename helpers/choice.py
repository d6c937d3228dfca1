"""Which of several candidate queries is the answer: they are run, and the likeliest that gives something is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers import execution


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One query that the model proposes.

    Attributes:
        probability: that the model gives the whole query, 0 to 1.
    """

    sql: str
    probability: float
    result: execution.Result


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The most probable that runs and gives rows; else the most probable that runs; else the most probable."""
    for good in (lambda one: one.result.ok and one.result.rows, lambda one: one.result.ok, lambda one: True):
        found = next((one for one in candidates if good(one)), None)
        if found:
            return found
    return None


def tried(database: Path, probable: Mapping[str, float], seconds: float) -> tuple[Candidate, ...]:
    """Each query run within limits, the most probable first."""
    with execution.Sandbox(execution.Limits(seconds=seconds)) as sandbox:
        return tried_in(sandbox, database, probable)


def tried_in(sandbox: execution.Sandbox, database: Path, probable: Mapping[str, float]) -> tuple[Candidate, ...]:
    """`tried` in a sandbox that stands already."""
    return tuple(
        Candidate(sql=sql, probability=probability, result=sandbox.execute(database, sql))
        for sql, probability in sorted(probable.items(), key=lambda item: -item[1])
    )

"""Tables and sentences about verdicts and results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from helpers.databases.sandbox import Result
from helpers.judge.hardness import LEVELS
from helpers.judge.scores import paired_difference, score, without
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Verdict

BEFORE_AFTER = ("before training", "after training")


def result_table(result: Result, limit: int = 10) -> pd.DataFrame:
    """Return the first rows of a query's result, or its error."""
    if not result.ok:
        return pd.DataFrame({"error": [result.error]})
    return pd.DataFrame([list(row) for row in result.rows[:limit]], columns=list(result.columns) or None, dtype=object)


def score_table(verdicts: Sequence[Verdict], labels: Sequence[Sequence[str]] | None = None) -> pd.DataFrame:
    """Return a row for each group and one for all: examples, EX with its 95 % interval and EM, in percent.

    Args:
        labels: the groups of each question; None groups by hardness.
    """
    rows = {name: score(group) for name, group in grouped(verdicts, labels).items() if group}
    names = {"questions": "examples", "ex": "EX %", "ex_low": "low %", "ex_high": "high %", "em": "EM %"}
    return pd.DataFrame(rows).T.rename(columns=names).astype({"examples": int})


def grouped(verdicts: Sequence[Verdict], labels: Sequence[Sequence[str]] | None = None) -> dict[str, list[Verdict]]:
    """Return the verdicts of each group, and of `all`: hardness in its own order, other groups by size, the largest first."""
    given = [[one.hardness] for one in verdicts] if labels is None else labels
    counts = Counter(label for question in given for label in question)
    order = LEVELS if labels is None else [label for label, _ in counts.most_common()]
    groups = {label: [one for one, question in zip(verdicts, given, strict=True) if label in question] for label in order}
    return groups | {"all": list(verdicts)}


def compare_table(
    base: Sequence[Verdict],
    tuned: Sequence[Verdict],
    labels: Sequence[Sequence[str]] | None = None,
    names: tuple[str, str] = BEFORE_AFTER,
) -> pd.DataFrame:
    """Return EX with its 95 % interval and EM of two systems by group, as text.

    Args:
        labels: as in `score_table`.
        names: of the two systems.
    """
    tables = [score_table(verdicts, labels) for verdicts in (base, tuned)]
    columns: dict[str, Any] = {"questions": tables[1]["examples"]}
    for name, table in zip(names, tables, strict=True):
        columns[f"EX % {name}"] = [f"{row['EX %']:.1f} ({row['low %']:.1f}-{row['high %']:.1f})" for _, row in table.iterrows()]
    for name, table in zip(names, tables, strict=True):
        columns[f"EM % {name}"] = [f"{value:.1f}" for value in table["EM %"]]
    return pd.DataFrame(columns)


def difference_sentence(
    base: Sequence[Verdict],
    tuned: Sequence[Verdict],
    names: tuple[str, str] = ("base", "tuned"),
    *,
    on_copies: bool = False,
) -> str:
    """Return the paired difference of two systems in EX points, and what it means.

    Args:
        names: of the two systems.
        on_copies: count as right only what is right on altered copies as well.
    """
    paired, (before, after) = paired_difference(base, tuned, on_copies=on_copies), names
    if paired["low"] <= 0 <= paired["high"]:
        meaning = "the interval holds 0: these questions do not show which is better"
    else:
        meaning = f"the interval excludes 0: {after} is {'better' if paired['low'] > 0 else 'worse'}"
    flips = f"{paired['gained']} questions gained, {paired['lost']} lost; McNemar's p = {paired['p_value']:.2g}"
    return (
        f"{after} minus {before}: {paired['difference']:+.1f} points of EX, 95 % interval {paired['low']:+.1f} to"
        f" {paired['high']:+.1f} ({flips}); {meaning}"
    )


def weak_lines(verdicts: Sequence[Verdict], differing: Sequence[int] = ()) -> list[str]:
    """Return what limits the scores, a line each: weak questions by their numbers, and predictions that fail on altered copies.

    Args:
        differing: numbers of the questions whose data is known to differ from the release's.
    """
    lines = []
    failing = [number for number, one in enumerate(verdicts) if one.outcome == "gold does not run"]
    for words, found in [
        ("gold does not run, which counts as wrong", failing),
        *((note, [number for number, one in enumerate(verdicts) if one.note == note]) for note in (NO_ROWS, TIED)),
    ]:
        if found:
            lines.append(f"{counted(found)}: {words} ({numbers(found)})")
    if 0 < len(differing) < len(verdicts):
        rest = score(without(verdicts, differing))
        lines.append(
            f"{counted(differing)}: the data is known to differ from the release's ({numbers(differing)});"
            f" EX without them {rest['ex']:.1f} ({rest['ex_low']:.1f}-{rest['ex_high']:.1f})"
        )
    caught = [number for number, one in enumerate(verdicts) if one.outcome == WRONG_ON_A_COPY]
    if caught:
        lines.append(
            f"{len(caught):,} predictions are right on the database and wrong on an altered copy of it ({numbers(caught)}):"
            f" EX {score(verdicts)['ex']:.1f}, on altered copies as well {score(verdicts, on_copies=True)['ex']:.1f}"
        )
    return lines


def counted(indices: Sequence[int]) -> str:
    """Return the count as text: "3 questions"."""
    return f"{len(indices):,} question{'' if len(indices) == 1 else 's'}"


def numbers(indices: Sequence[int]) -> str:
    """Return the first question numbers as text. Questions are numbered from 0 in the order of the predictions."""
    return ", ".join(map(str, indices[:12])) + (", …" if len(indices) > 12 else "")


def outcome_table(base: Sequence[Verdict], tuned: Sequence[Verdict], names: tuple[str, str] = BEFORE_AFTER) -> pd.DataFrame:
    """Return the counts of each outcome for two systems, the most frequent of the second first."""
    counts = {name: Counter(one.outcome for one in verdicts) for name, verdicts in zip(names, (base, tuned), strict=True)}
    return pd.DataFrame(counts).fillna(0).astype(int).sort_values(names[1], ascending=False)


def mistakes_table(kinds: Mapping[int, str], questions: Sequence[str]) -> pd.DataFrame:
    """Return the kinds of mistake, the most frequent first, each with its first question.

    Args:
        kinds: of wrong predictions, by the question's number (`mistakes.kind`).
        questions: the text of every question.
    """
    first: dict[str, int] = {}
    for number, kind in kinds.items():
        first.setdefault(kind, number)
    rows = [
        {
            "differs first in": kind,
            "wrong": count,
            "share %": round(100 * count / len(kinds), 1),
            "such as": questions[first[kind]],
        }
        for kind, count in Counter(kinds.values()).most_common()
    ]
    return pd.DataFrame(rows, columns=["differs first in", "wrong", "share %", "such as"]).set_index("differs first in")


def flip_table(indices: Sequence[int], limit: int = 5, **columns: Sequence[str]) -> pd.DataFrame:
    """Return some of the questions that flipped, a row each, by the question's number.

    Args:
        columns: texts of all questions, by the column's title.
    """
    table = pd.DataFrame({name.replace("_", " "): [texts[at] for at in indices[:limit]] for name, texts in columns.items()})
    return table.set_index(pd.Index(indices[:limit], name="question no."))

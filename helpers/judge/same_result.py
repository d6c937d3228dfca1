"""Compare two query results by the official evaluator's rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from helpers.databases.sql import parse

TRIED_VALUES = 50_000_000  # looked at in search of an order of columns, some ten seconds; then two results count as different


def is_ordered(gold: str, *, by_text: bool = False) -> bool:
    """Whether the order of rows counts: gold's outermost query has ORDER BY.

    Args:
        by_text: accept an ORDER BY anywhere, as the official code does.
    """
    tree = None if by_text or "order" not in gold.lower() else parse(gold)
    return "order by" in gold.lower() if tree is None else tree.args.get("order") is not None


def same_result(expected: Sequence[tuple], found: Sequence[tuple], *, ordered: bool) -> bool:
    """Whether two results agree.

    Rows count as often as they occur. Their order counts only if `ordered`. Columns may stand in another order. Values are
    equal as in Python: 1 equals 1.0, but not '1'.

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
    """Whether some column order gives the wanted rows, duplicates included.

    Args:
        wanted: columns whose partners are still to be found.
        columns: those left to choose from; equal ones are one choice.
        groups, found_groups: a number for each row, the same for rows that agree in all columns that have partners.
        tries: is exhausted when enough has been tried; then nothing matches.
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

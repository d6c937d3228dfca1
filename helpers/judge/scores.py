"""Turn verdicts into scores: shares with intervals, paired differences with a test, groups of questions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from math import comb, sqrt

from sqlglot import exp

from helpers.databases.sql import SET_OPERATIONS, parse
from helpers.judge.hardness import LEVELS
from helpers.judge.verdicts import WRONG_ON_A_COPY, Verdict

RESAMPLES = 10_000
PLAIN = "none of these"
FEATURES = ("join", "group", "nested", "set operation")


def score(verdicts: Sequence[Verdict], *, on_copies: bool = False) -> dict[str, float]:
    """Return EX in percent with its 95 % interval (Wilson), EM in percent, and the number of questions.

    Args:
        on_copies: count a prediction only if it is right on every altered copy of its database as well.
    """
    correct, total = sum(one.exec if on_copies else one.right for one in verdicts), len(verdicts)
    low, high = wilson_interval(correct, total)
    ex, em = correct / total, sum(one.exact for one in verdicts) / total
    return {"questions": total, "ex": 100 * ex, "ex_low": 100 * low, "ex_high": 100 * high, "em": 100 * em}


def summary(verdicts: Sequence[Verdict], differing: Sequence[int] = ()) -> dict:
    """Return what record.json keeps of one system: EX with its interval and EM in percent, overall and by hardness; outcomes.

    `ex` counts what is right on each database itself, `ex_on_copies` (where it differs) only what is right on its copies as well.

    Args:
        differing: indices of questions about data that is known to differ from the release's; `ex_without_differing` leaves
            them out.
    """
    levels = {level: [one for one in verdicts if one.hardness == level] for level in LEVELS}
    rounded = {key: round(value, 4) for key, value in score(verdicts).items()}
    if any(one.outcome == WRONG_ON_A_COPY for one in verdicts):
        rounded["ex_on_copies"] = round(score(verdicts, on_copies=True)["ex"], 4)
    if 0 < len(differing) < len(verdicts):
        rounded["ex_without_differing"] = round(score(without(verdicts, differing))["ex"], 4)
    return rounded | {
        "by_hardness": {level: {k: round(v, 4) for k, v in score(some).items()} for level, some in levels.items() if some},
        "outcomes": dict(Counter(one.outcome for one in verdicts).most_common()),
        "weak_questions": dict(Counter(one.note for one in verdicts if one.note)),
    }


def without(verdicts: Sequence[Verdict], indices: Sequence[int]) -> list[Verdict]:
    """Return all verdicts but those at some indices."""
    left_out = set(indices)
    return [one for index, one in enumerate(verdicts) if index not in left_out]


def wilson_interval(correct: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Bound the true share of right answers, given how many of a sample were right.

    Unlike the normal approximation it keeps a width where none or all are right.

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


def paired_difference(
    base: Sequence[Verdict], tuned: Sequence[Verdict], *, on_copies: bool = False, seed: int = 0
) -> dict[str, float]:
    """Return tuned minus base in EX points, with a 95 % interval by a paired bootstrap over questions.

    Questions are drawn with replacement 10,000 times, each with both its verdicts. The interval holds the middle 95 % of the
    differences. If it holds 0, these questions do not show which is better.

    Args:
        on_copies: as in `score`.

    Returns:
        difference, low, high: in percentage points; gained, lost: questions that flipped each way; p_value: by McNemar's test.

    Raises:
        ValueError: the two do not judge the same number of questions, or judge none.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; P. Koehn, EMNLP 2004 (paired).
    """
    import numpy as np

    if len(base) != len(tuned) or not base:
        raise ValueError(f"need two verdicts on each question, got {len(base)} and {len(tuned)}")
    counted = [[one.exec if on_copies else int(one.right) for one in verdicts] for verdicts in (base, tuned)]
    gains = np.array(counted[1]) - np.array(counted[0])
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
        "p_value": mcnemar(gained, lost),
    }


def mcnemar(gained: int, lost: int) -> float:
    """Return the p-value of a split of flipped questions this uneven or more, if each flips either way with equal probability.

    This is the exact two-sided test, which also holds for few flips.

    Source: Q. McNemar, Psychometrika 12 (1947); T. Dietterich, Neural Computation 10 (1998), for comparing two learners.
    """
    flips = gained + lost
    tail = sum(comb(flips, number) for number in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**flips)


def flipped(base: Sequence[Verdict], tuned: Sequence[Verdict]) -> tuple[list[int], list[int]]:
    """Return the indices of the questions that only the second answers right, and of those that only the first does."""
    pairs = list(enumerate(zip(base, tuned, strict=True)))
    return [at for at, (a, b) in pairs if a.right < b.right], [at for at, (a, b) in pairs if a.right > b.right]


def features(gold: str) -> list[str]:
    """Return which of FEATURES a query has; "none of these" if none. A query may have several."""
    tree = parse(gold)
    if tree is None:
        return ["not read"]
    selects = list(tree.find_all(exp.Select))
    present = {
        "join": any(select.args.get("joins") for select in selects),
        "group": any(select.args.get("group") for select in selects),
        "nested": any(select.find_ancestor(exp.Select) is not None for select in selects),
        "set operation": tree.find(*SET_OPERATIONS) is not None,
    }
    return [name for name in FEATURES if present[name]] or [PLAIN]


def failures(verdicts: Sequence[Verdict], limit: int = 3) -> list[int]:
    """Return the indices of some wrong predictions, one of each outcome in turn."""
    by_outcome: dict[str, list[int]] = {}
    for index, one in enumerate(verdicts):
        if not one.right:
            by_outcome.setdefault(one.outcome, []).append(index)
    turns = itertools.zip_longest(*by_outcome.values())
    return [index for turn in turns for index in turn if index is not None][:limit]

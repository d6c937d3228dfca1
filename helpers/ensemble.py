"""Several trained runs as one: each finds candidates of its own, all are pooled, and the mean of the runs' probabilities decides.

Runs that differ in seed or step size are right about the same questions and wrong each in its own way. A query that several find
gains on one that a single run believes in; and what one run did not think of, another may have found.

Source: Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
NIPS 2017 (the mean of the members' probabilities).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from helpers import environment, extra, runs
from helpers.config import RunConfig

# What decides which questions are asked, and in what form they are answered.
SAME = ("data_source", "held_out_databases", "held_out_part", "eval_questions", "prompt_style", "readable_names")
UNSET = "set ensemble_runs to '' to go on without"


def members(run: runs.Run, settings: RunConfig) -> list[runs.Run]:
    """The further runs of an ensemble, known to be trained and to ask the same questions. A name is a path as any `run_dir`.

    Raises:
        runs.MissingStep: there is no such run, or it has no data or no tuned model.
        ValueError: the run itself is named, a run twice, an ensemble, one that answers greedily, or one of other questions or
            another form of answers.
    """
    found: list[runs.Run] = []
    for name in settings.ensemble_runs:
        member = runs.Run(environment.resolve(name))
        shown = f"{environment.shown(member.path)}, named in ensemble_runs,"
        if not all(member.has(stage) for stage in ("setup", "data", "train")):
            others = [environment.shown(one.path) for one in runs.find_runs(member.path.parent) if one.has("train")]
            raise runs.MissingStep(
                f"{shown} is no run with data and a tuned model (there are: {', '.join(others) or 'none'}): run the whole course "
                f"there first, name another by its path, or {UNSET}"
            )
        if member.path.resolve() in [one.path.resolve() for one in (run, *found)]:
            raise ValueError(f"{shown} is this run itself or named twice: name every further run once, or {UNSET}")
        check_same(settings, member.config(), shown)
        found.append(member)
    return found


def check_same(settings: RunConfig, other: RunConfig, shown: str) -> None:
    """Refuse a member whose candidates cannot be pooled with this run's.

    Args:
        other: the member's settings.
        shown: its name, as the beginning of a sentence.

    Raises:
        ValueError: why not.
    """
    if other.ensemble_runs:
        raise ValueError(f"{shown} is an ensemble itself: name its members here instead, or {UNSET}")
    if other.candidates == 1:
        raise ValueError(f"{shown} answers greedily: run 05 Evaluate there with candidates of 2 or more, or {UNSET}")
    for field in (*SAME, *(("seed",) if settings.eval_questions else ())):
        mine, its = getattr(settings, field), getattr(other, field)
        if mine != its:
            drawn = "; with eval_questions=0 in both, 05 asks all" if field in ("seed", "eval_questions") else ""
            raise ValueError(
                f"{shown} has {field}={its!r}, this run {mine!r}: pooled are answers to the same questions, in one form{drawn}; "
                f"or {UNSET}"
            )


def pooled(several: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    """The answers of all members to one question, each (text, log probability), as one list, the best first.

    An answer's probability is the mean of those that the members give it, 0 where one has not found it; those of each member are
    scaled to sum to 1, so that all count alike; one that has found nothing leaves its share to nobody.
    """
    logs: dict[str, list[float]] = defaultdict(list)
    for answers in several:
        for text, log in extra.scaled(answers):
            logs[text].append(log)
    pairs = [(text, extra.log_sum(found) - math.log(len(several))) for text, found in logs.items()]
    return sorted(pairs, key=lambda one: -one[1])

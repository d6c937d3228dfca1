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
from helpers.extra import FOUND

FORM = ("data_source", "held_out_databases", "held_out_part", "prompt_style", "readable_names")  # of questions and answers


def members(run: runs.Run, settings: RunConfig) -> list[runs.Run]:
    """The further runs of an ensemble, known to have a model and to have answered.

    Raises:
        ValueError: the run itself or a run twice is among them, or one was asked in another form.
        runs.MissingStep: one has no tuned model, or no answers.
    """
    found: list[runs.Run] = []
    for name in settings.ensemble_runs:
        member = runs.Run(environment.resolve(name))
        shown = f"{environment.shown(member.path)}, named in ensemble_runs,"
        if member.path.resolve() in [one.path.resolve() for one in (run, *found)]:
            raise ValueError(f"{shown} is there already: name every further run once, and not the run itself")
        if not member.has("train") or not (member / FOUND).is_file():
            raise runs.MissingStep(f"{shown} has not answered yet: run the whole course there first")
        other = member.config()
        for field in FORM:
            mine, its = getattr(settings, field), getattr(other, field)
            if mine != its:
                raise ValueError(f"{shown} has {field}={its!r}, this run {mine!r}: pooled answers must be to the same prompts")
        found.append(member)
    return found


def pooled(several: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    """The answers of all members to one question, each (text, log probability), as one list, the best first.

    An answer's probability is the mean of those that the members give it, 0 where one has not found it; those of each member are
    scaled to sum to 1, so that all count alike.
    """
    logs: dict[str, list[float]] = defaultdict(list)
    for answers in several:
        for text, log in extra.scaled(answers):
            logs[text].append(log)
    pairs = [(text, extra.log_sum(found) - math.log(len(several))) for text, found in logs.items()]
    return sorted(pairs, key=lambda one: -one[1])

"""What a twin of the first adapter thinks of each candidate: trained on the same examples, from another seed.

Two models that learned alike from different beginnings have mistakes of their own. Their logarithms are averaged, so that what
either of them thinks impossible falls away.

Source: Hinton, "Products of Experts", ICANN 1999; of models that differ by their seed alone, averaging their probabilities:
Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers import extra, prompts, runs
from helpers.config import RunConfig
from helpers.extra import Answers
from helpers.trainer import Shape
from helpers.training import Outcome
from helpers.views import View

NAME = "twin"  # of the adapter, and of its folder in a run


def learn(
    run: runs.Run, tokenizer: Any, settings: RunConfig, shape: Shape | None = None, *, resume: bool = True
) -> Outcome | None:
    """Train the twin on the run's own training examples, in another order and from other first weights; None where it has no
    weight.

    Args:
        shape: of a step, where it is known.
        resume: False throws its checkpoints away.

    Raises: as `training.train`.
    """
    if not settings.twin_weight:
        return None
    rows = prompts.read_training_rows(run, tokenizer, settings)
    return extra.learn(NAME, run, rows, settings, shape, tokenizer=tokenizer, resume=resume, seed=settings.seed + 1)


def weigh(
    model: Any,
    tokenizer: Any,
    answers: Answers,
    questions: Sequence[str],
    views: Sequence[View],
    settings: RunConfig,
    *,
    progress: str = "",
) -> Answers:
    """The answers to each question, their logarithms averaged with the twin's, which counts `twin_weight` times, the best first,
    scaled so that the probabilities of one question's answers sum to 1.
    """
    messages, texts = [], []
    for some, question, view in zip(answers, questions, views, strict=True):
        messages += [view.message(question)] * len(some)
        texts += [text for text, _ in some]
    with extra.speaking(NAME, model):
        found = iter(extra.score(model, tokenizer, messages, texts, settings, progress=progress))
    weight = settings.twin_weight
    return [extra.scaled([(text, (log + weight * next(found)) / (1 + weight)) for text, log in some]) for some in answers]

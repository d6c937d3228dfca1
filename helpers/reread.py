"""What the tuned model thinks of each candidate when it reads the question again, its database in another order.

With `train_variants` above 1, training shows it every example under several orders of tables and columns. An answer that is
likely under one of them alone owes that to the order; averaged, such luck cancels out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from helpers import extra
from helpers.config import RunConfig
from helpers.extra import Answers
from helpers.views import View

NAME = "reread"  # of what a run keeps of it


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
    """The answers to each question, their logarithms averaged over the prompt that was asked and `rereadings` shaken ones.

    The best first, scaled so that the probabilities of one question's answers sum to 1.
    """
    messages, texts = [], []
    for some, question, view in zip(answers, questions, views, strict=True):
        chance = random.Random(f"{settings.seed} {question}")
        shaken = [view.message(question, chance=chance) for _ in range(settings.rereadings)]
        for text, _ in some:
            messages += shaken
            texts += [text] * len(shaken)
    found = iter(extra.score(model, tokenizer, messages, texts, settings, progress=progress))
    return [
        extra.scaled(
            [
                (text, (log + sum(next(found) for _ in range(settings.rereadings))) / (1 + settings.rereadings))
                for text, log in some
            ]
        )
        for some in answers
    ]

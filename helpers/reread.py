"""What the tuned model thinks of each candidate when it reads the question again, its database in another order.

With `train_variants` above 1, training shows it every example under several orders of tables and columns. An answer that is
likely under one of them alone owes that to the order; averaged, such luck cancels out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from helpers import extra, generation, prompts
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
    ids, texts = [], []
    for some, question, view in zip(answers, questions, views, strict=True):
        chance = random.Random(f"{settings.seed} {question}")
        shaken = [view.message(question, chance=chance) for _ in range(settings.rereadings)]
        read = [prompts.prompt_ids(tokenizer, message, settings.date_string) for message in shaken]
        for text, _ in some:
            ids += read
            texts += [text] * len(read)
    logs = generation.score(
        model,
        tokenizer,
        ids,
        texts,
        batch_size=settings.per_device_eval_batch_size or generation.fitting_batch(model, settings.max_seq_length),
        progress=progress,
    )
    found = iter(logs)
    return [
        extra.scaled(
            [
                (text, (log + sum(next(found) for _ in range(settings.rereadings))) / (1 + settings.rereadings))
                for text, log in some
            ]
        )
        for some in answers
    ]

"""How well a query explains its question: a second adapter writes the question from the SQL, and its probability weighs in.

Of several candidates that a tuned model finds likely, one that leaves words of the question unexplained is seldom right. Bayes'
rule has P(SQL | question) grow with P(question | SQL), the noisy channel, which the first model cannot see: it never had to say
the question.

Source: Yee, Dauphin and Auli, "Simple and Effective Noisy Channel Modeling for Neural Machine Translation", EMNLP 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers import extra, prompts, runs
from helpers.config import RunConfig
from helpers.extra import Answers
from helpers.prompts import Row
from helpers.trainer import Shape
from helpers.training import Outcome

NAME = "channel"  # of the adapter, and of its folder in a run
LENGTH = {"num_train_epochs": 3.0, "max_steps": 0}  # of its training


def learn(
    run: runs.Run, tokenizer: Any, settings: RunConfig, shape: Shape | None = None, *, resume: bool = True
) -> Outcome | None:
    """Train the second adapter from SQL to question, on the run's own training examples; None where it has no weight.

    Args:
        shape: of a step, where it is known.
        resume: False throws its checkpoints away.

    Raises: as `training.train`.
    """
    if not settings.question_weight:
        return None
    return extra.learn(NAME, run, rows(run, tokenizer, settings), settings, shape, tokenizer=tokenizer, resume=resume, **LENGTH)


def rows(run: runs.Run, tokenizer: Any, settings: RunConfig) -> list[Row]:
    """Each training example once, the SQL as prompt and the question as completion."""
    pairs = dict.fromkeys((one["completion"], one["question"]) for one in run.read_jsonl("data/train.jsonl"))
    return prompts.training_rows(tokenizer, list(pairs), settings.date_string)


def weigh(
    model: Any, tokenizer: Any, answers: Answers, questions: Sequence[str], settings: RunConfig, *, progress: str = ""
) -> Answers:
    """The answers to each question with the channel's word: log P(answer) + question_weight * log P(question | answer), the best
    first, scaled so that the probabilities of one question's answers sum to 1.
    """
    pairs = [(number, text) for number, some in enumerate(answers) for text, _ in some]
    with extra.speaking(NAME, model):
        asked = [questions[number] for number, _ in pairs]
        found = extra.score(model, tokenizer, [text.strip() for _, text in pairs], asked, settings, progress=progress)
    logs = iter(found)
    return [extra.scaled([(text, log + settings.question_weight * next(logs)) for text, log in some]) for some in answers]

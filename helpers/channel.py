"""How well a query explains its question: a second adapter writes the question from the SQL, and its probability weighs in.

Of several candidates that a tuned model finds likely, one that leaves words of the question unexplained is seldom right. Bayes'
rule has P(SQL | question) grow with P(question | SQL), the noisy channel, which the first model cannot see: it never had to say
the question.

Source: Yee, Dauphin and Auli, "Simple and Effective Noisy Channel Modeling for Neural Machine Translation", EMNLP 2019.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from helpers import generation, models, processes, prompts, runs, training
from helpers.config import RunConfig
from helpers.prompts import Row
from helpers.trainer import Shape
from helpers.training import Outcome

FOLDER = "channel"  # in a run: its own checkpoints, training.jsonl and adapter
ADAPTER = "channel"  # PEFT's name for it beside the first
EPOCHS = 3.0

Answers = list[list[tuple[str, float]]]


def learn(run: runs.Run, tokenizer: Any, settings: RunConfig, shape: Shape | None = None) -> Outcome | None:
    """Train the second adapter on a fresh base, from SQL to question, on the run's own training examples; None where it has no
    weight. Goes on from its newest checkpoint.

    Args:
        shape: of a step, where it is known.

    Raises: as `training.train`.
    """
    if not settings.question_weight:
        return None
    own = settings.with_overrides({"num_train_epochs": EPOCHS, "max_steps": 0}, "the channel")
    part = runs.Run(run / FOLDER)
    part.path.mkdir(exist_ok=True)
    model, _ = models.load(own)
    start = functools.partial(processes.start, "channel", run)
    outcome = training.train(model, tokenizer, rows(run, tokenizer, own), own, part, shape=shape, start=start)
    if processes.is_first():
        with part.new_folder("adapter") as folder:
            model.save_pretrained(folder)
        if outcome.new_steps:
            run.add_to_record(channel=outcome.record())
    return outcome


def rows(run: runs.Run, tokenizer: Any, settings: RunConfig) -> list[Row]:
    """Each training example once, the SQL as prompt and the question as completion."""
    pairs = dict.fromkeys((one["completion"], one["question"]) for one in run.read_jsonl("data/train.jsonl"))
    made = prompts.training_rows(tokenizer, list(pairs), settings.date_string)
    return [row for row in made if len(row.input_ids) <= settings.max_seq_length]


def attach(model: Any, run: runs.Run, settings: RunConfig) -> None:
    """Give a tuned model the second adapter of its run, if the settings give it weight.

    Raises:
        runs.MissingStep: the run has none.
    """
    if not settings.question_weight:
        return
    if not (run / FOLDER / "adapter").is_dir():
        raise runs.MissingStep(
            f"question_weight is set, but {run.path.name} has no {FOLDER}/adapter: run 04 Train again, it trains the second "
            "adapter alone; or set question_weight=0"
        )
    model.load_adapter(str(run / FOLDER / "adapter"), adapter_name=ADAPTER)


def is_attached(model: Any) -> bool:
    """Whether a model has the second adapter."""
    return ADAPTER in getattr(model, "peft_config", {})


def weigh(
    model: Any, tokenizer: Any, answers: Answers, questions: Sequence[str], settings: RunConfig, *, progress: str = ""
) -> Answers:
    """The answers to each question with the channel's word: log P(answer) + question_weight * log P(question | answer), the best
    first, scaled so that the probabilities of one question's answers sum to 1.

    Args:
        answers: of each question, as (text, log probability); texts in the form that the model writes.
    """
    pairs = [(number, text) for number, some in enumerate(answers) for text, _ in some]
    first = model.active_adapter
    model.set_adapter(ADAPTER)
    try:
        found = generation.score(
            model,
            tokenizer,
            [prompts.prompt_ids(tokenizer, text.strip(), settings.date_string) for _, text in pairs],
            [questions[number] for number, _ in pairs],
            batch_size=settings.per_device_eval_batch_size or generation.fitting_batch(model, settings.max_seq_length),
            progress=progress,
        )
    finally:
        model.set_adapter(first)
    logs = iter(found)
    return [scaled([(text, log + settings.question_weight * next(logs)) for text, log in some]) for some in answers]


def scaled(answers: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Answers with their logarithms less that of the sum of all, the best first."""
    if not answers:
        return []
    most = max(log for _, log in answers)
    total = most + math.log(sum(math.exp(log - most) for _, log in answers))
    return sorted(((text, log - total) for text, log in answers), key=lambda one: -one[1])

"""Adapters beside the first, trained on a fresh base in a part of the run folder, and switched to when they are asked."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from helpers import generation, models, processes, prompts, runs, training
from helpers.config import RunConfig
from helpers.prompts import Row
from helpers.trainer import Shape
from helpers.training import Outcome

Answers = list[list[tuple[str, float]]]  # of each question, (text in the form that the model writes, log probability)


def learn(
    name: str,
    run: runs.Run,
    rows: Sequence[Row],
    settings: RunConfig,
    shape: Shape | None,
    *,
    tokenizer: Any,
    resume: bool,
    **changes: Any,
) -> Outcome:
    """Train the adapter called `name` with the settings of the first, in the run's folder of that name.

    Args:
        shape: of a step, where it is known.
        resume: go on from its newest checkpoint; False throws it away.
        changes: settings of its own.

    Raises: as `training.train`, and
        ValueError: all rows are longer than max_seq_length.
    """
    own = settings.with_overrides(changes, f"the {name}")
    fitting = [row for row in rows if len(row.input_ids) <= own.max_seq_length]
    if not fitting:
        raise ValueError(
            f"All {len(rows):,} rows for the {name} are longer than max_seq_length={own.max_seq_length}: raise it in a new run"
        )
    part = runs.Run(run / name)
    part.path.mkdir(exist_ok=True)
    model, _ = models.load(own)
    start = functools.partial(processes.start, name, run)
    outcome = training.train(model, tokenizer, fitting, own, part, shape=shape, start=start, resume=resume)
    if processes.is_first():
        with part.new_folder("adapter") as folder:
            model.save_pretrained(folder)
        if outcome.new_steps:
            run.add_to_record(**{name: outcome.record()})
    return outcome


def require(name: str, setting: str, run: runs.Run) -> None:
    """Check that a run has the adapter of this name.

    Args:
        setting: what gives it weight.

    Raises:
        runs.MissingStep: the run has none.
    """
    if not (run / name / "adapter").is_dir():
        raise runs.MissingStep(
            f"{setting} is set, but {run.path.name} has no {name}/adapter: run 04 Train again, it trains what is missing "
            f"alone; or set {setting}=0"
        )


def attach(name: str, setting: str, model: Any, run: runs.Run) -> None:
    """Give a tuned model an adapter of its run.

    Args and raises: as `require`.
    """
    require(name, setting, run)
    model.load_adapter(str(run / name / "adapter"), adapter_name=name)


def is_attached(name: str, model: Any) -> bool:
    """Whether a model has the adapter."""
    return name in getattr(model, "peft_config", {})


@contextlib.contextmanager
def speaking(name: str, model: Any) -> Iterator[None]:
    """The model with this adapter in place of the first."""
    first = model.active_adapter
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(first)


def score(
    model: Any, tokenizer: Any, messages: Sequence[str], answers: Sequence[str], settings: RunConfig, *, progress: str
) -> list[float]:
    """The log probability of an answer to each message, in batches as the settings say; a message may come several times."""
    ids = {message: prompts.prompt_ids(tokenizer, message, settings.date_string) for message in dict.fromkeys(messages)}
    return generation.score(
        model,
        tokenizer,
        [ids[message] for message in messages],
        answers,
        batch_size=settings.per_device_eval_batch_size or generation.fitting_batch(model, settings.max_seq_length),
        progress=progress,
    )


def scaled(answers: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Answers with their logarithms less that of the sum of all, the best first."""
    if not answers:
        return []
    total = log_sum([log for _, log in answers])
    return sorted(((text, log - total) for text, log in answers), key=lambda one: -one[1])


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of numbers that are given by their logarithms."""
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))
